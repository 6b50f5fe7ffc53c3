"""``run``: a PEP script on an endpoint, checked, permitted and recorded."""

from __future__ import annotations

import json
import os
import secrets
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from bridge.errors import UsageError
from cli._console import Console, Globals, JsonOption, Report, run_verb
from cli._run import PasswordStdinOption, ShareUsernameOption, UsernameOption

if TYPE_CHECKING:
    from bridge.endpoint import Command, Record, Value
    from bridge.endpoint.script import Script
    from bridge.scripting import ClosedWith, ScriptOutcome
    from bridge.secrets import Credential, Secret


class ScriptCommand(TyperCommand):
    """Takes the parameters of the named script as options too: ``--FilterByRole ACS`` is ``-p FilterByRole=ACS``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        own = {name: parameter for parameter in self.params for name in (*parameter.opts, *parameter.secondary_opts)}
        with_value = {name for name, parameter in own.items() if not getattr(parameter, "is_flag", False)}
        rest: list[str] = []
        foreign: list[str] = []
        positional: list[str] = []
        words = list(args)
        while words:
            word = words.pop(0)
            name = word.partition("=")[0]
            if name.startswith("--") and name != "--" and name not in own:
                foreign.append(word)
                if "=" not in word and words and not words[0].startswith("-") and self._takes_value(name, positional):
                    foreign.append(words.pop(0))
                continue
            rest.append(word)
            if not word.startswith("-"):
                positional.append(word)
            elif name in with_value and "=" not in word and words:
                rest.append(words.pop(0))
        if foreign and positional:
            from bridge.endpoint.script import load_script

            for pair in _as_pairs(foreign, load_script(positional[0])):
                rest += ["-p", pair]
        else:
            rest += foreign
        return list(super().parse_args(ctx, rest))

    @staticmethod
    def _takes_value(name: str, positional: list[str]) -> bool:
        """Whether a parameter of the script is something else than a switch."""
        from bridge.endpoint.script import load_script

        if not positional:
            return True
        parameters = {each.name.lower(): each for each in load_script(positional[0]).parameters}
        found = parameters.get(name.lstrip("-").replace("-", "").lower())
        return found is not None and str(found.type) != "switch"


def run(
    ctx: typer.Context,
    script: Annotated[
        str | None, typer.Argument(metavar="[SCRIPT]", help="A .ps1 file, or a shipped script's name (see --list).")
    ] = None,
    stamp: Annotated[str | None, typer.Argument(metavar="[STAMP]", help="The stamp to run it on.")] = None,
    parameter: Annotated[
        list[str] | None,
        typer.Option("--parameter", "-p", metavar="NAME=VALUE", help="A parameter of the script; repeatable."),
    ] = None,
    parameters_file: Annotated[
        Path | None, typer.Option(help="Parameters in a JSON or TOML file.", show_default=False)
    ] = None,
    list_shipped: Annotated[bool, typer.Option("--list", help="List the shipped scripts.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Say what would be sent, or where and why it is refused.")] = (
        False
    ),
    engine: Annotated[
        str | None,
        typer.Option(help="With --check: also ask a real PowerShell ('pwsh', or its path).", show_default=False),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print exactly what would be sent; send nothing.")] = False,
    allow: Annotated[
        list[str] | None,
        typer.Option("--allow", metavar="COMMAND", help="Permit a command that changes or stops the stamp, by name."),
    ] = None,
    output: Annotated[
        str, typer.Option(help="How results are shown: table, jsonl, or clixml.", show_default=True)
    ] = "table",
    close: Annotated[
        str | None,
        typer.Option(metavar="SHARE", help="End the session properly: its transcripts go to this share."),
    ] = None,
    username: UsernameOption = None,
    share_username: ShareUsernameOption = None,
    password_stdin: PasswordStdinOption = False,
    show_help: Annotated[
        bool, typer.Option("--help", "-h", help="Show this, or with a SCRIPT its own help.", is_flag=True)
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Run a PEP script: checked first, permitted by name where it is dangerous, recorded always.

    The same file runs in Windows PowerShell after Import-PSSession.

    [bold]Examples[/bold]

    pep-bridge run --list

    pep-bridge run Test-Stamp east

    pep-bridge run ./mine.ps1 east -p Since=-8h --dry-run
    """

    def work(console: Console) -> Report:
        if list_shipped:
            return _list(console)
        if script is None:
            raise UsageError(detail="No script was given.", fix="pep-bridge run --list shows the shipped ones.")
        if check:
            return _check(console, script, engine)
        from bridge.endpoint.script import load_script

        loaded = load_script(script)
        return _Run(console, ctx.obj, loaded, stamp).perform(
            pairs=parameter or [],
            parameters_file=parameters_file,
            dry_run=dry_run,
            allow=allow or [],
            output=output,
            close=close,
            username=username,
            share_username=share_username,
            password_stdin=password_stdin,
        )

    if show_help:
        _show_help(ctx, script)
    run_verb(ctx, "run", as_json, work)


class _Run:
    """One use of the verb: its script, its secrets, and where results go."""

    def __init__(self, console: Console, options: Globals, script: Script, stamp: str | None) -> None:
        self._console, self._options, self._script, self._stamp = console, options, script, stamp

    def perform(
        self,
        *,
        pairs: Sequence[str],
        parameters_file: Path | None,
        dry_run: bool,
        allow: list[str],
        output: str,
        close: str | None,
        username: str | None,
        share_username: str | None,
        password_stdin: bool,
    ) -> Report:
        from bridge.scripting import SessionRecord, require_permission, run_script

        if output not in {"table", "jsonl", "clixml"}:
            raise UsageError(detail=f"'{output}' is no form of output.", fix="Use table, jsonl or clixml.")
        commands = self._script.bind(self._arguments(pairs, parameters_file, ask=not dry_run))
        if dry_run:
            return _dry_run(self._console, commands)
        require_permission(commands, allow, "run")
        self._confirm(commands)
        credential = self._credential(username, password_stdin)
        closing = self._closing(close, share_username)
        results = Results(self._console, output)
        settings = self._options.load().settings
        name = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"
        with SessionRecord(self._options.state() / "sessions", name, self._console.scrub) as record:
            outcome = run_script(
                settings.stamp(self._stamp or ""),
                credential,
                commands,
                record=record,
                on_record=results.take,
                allowed=allow,
                close=closing,
                on_line=lambda event: self._console.say(f"line: {event.state} {event.detail}"),
            )
        results.finish()
        self._say_how_it_ended(outcome)
        data = outcome.to_json() | {"output": results.collected}
        return Report(data, outcome.exit_code, list(outcome.errors))

    def _arguments(self, pairs: Sequence[str], file: Path | None, *, ask: bool) -> dict[str, Value]:
        from tzlocal import get_localzone

        from bridge.endpoint.script import read_arguments

        found = self._secrets(pairs, ask)
        arguments = read_arguments(self._script, pairs, file, tz=get_localzone(), now=datetime.now(UTC), secrets=found)
        return dict(arguments)

    def _secrets(self, pairs: Sequence[str], ask: bool) -> dict[str, Credential | Secret]:
        """Credentials and secure strings of the script: their user name with -p, the secret from a safe place.

        A dry run shows where a secret would stand and needs none.
        """
        from bridge.credentials import SHARE_PASSWORD_VARIABLE, find_secret
        from bridge.secrets import Credential, Secret

        found: dict[str, Credential | Secret] = {}
        given = {name.lower(): value for name, _, value in (pair.partition("=") for pair in pairs)}
        for parameter in self._script.parameters:
            kind, name = str(parameter.type), parameter.name
            if kind not in {"pscredential", "securestring"}:
                continue
            user = given.get(name.lower())
            if user is None and not parameter.mandatory:
                continue
            secret = (
                find_secret(
                    f"the secret of -{name} ({user or kind})",
                    variable=SHARE_PASSWORD_VARIABLE if kind == "pscredential" else f"PEP_BRIDGE_{name.upper()}",
                    file=None,
                    keyring_name=f"run:{name}:{user or ''}",
                    sources=self._console.sources(),
                )
                if ask
                else Secret("not asked for")
            )
            self._console.known_secrets.append(secret)
            found[name] = Credential(user or "", secret) if kind == "pscredential" else secret
        return found

    def _confirm(self, commands: Sequence[Command]) -> None:
        """A dangerous command is typed once more by a person; a script gives PEP_BRIDGE_CONFIRM."""
        from bridge.scripting import needs_naming

        for name in needs_naming(commands):
            typed = os.environ.get("PEP_BRIDGE_CONFIRM")
            if typed is None and sys.stdin.isatty():
                typed = typer.prompt(
                    f"{name} changes or stops the stamp {self._stamp}. Type its name to go on", err=True
                )
            if (typed or "").lower() != name.lower():
                raise UsageError(
                    detail=f"{name} was not confirmed; nothing was sent.",
                    fix=f"Type the name when asked, or set PEP_BRIDGE_CONFIRM={name}.",
                )

    def _credential(self, username: str | None, password_stdin: bool) -> Credential:
        from bridge.credentials import stamp_credential

        if self._stamp is None:
            raise UsageError(detail="No stamp was given.", fix=f"pep-bridge run {self._script.name} STAMP")
        known = self._options.load().settings.stamp_settings(self._stamp)
        sources = self._console.sources(password_stdin=password_stdin)
        found = stamp_credential(self._stamp, username or known.username, known.password_file, sources)
        self._console.known_secrets.append(found.password)
        return found

    def _closing(self, close: str | None, share_username: str | None) -> ClosedWith | None:
        from bridge.scripting import ClosedWith
        from bridge.secrets import Credential
        from bridge.store import parse_destination
        from cli._places import open_place

        if close is None:
            return None
        settings = self._options.load().settings
        found = open_place(close, settings, self._console.sources(), self._console, username=share_username)
        if not isinstance(found.access, Credential):
            raise UsageError(detail=f"{close} is not a share.", fix="Transcripts go to \\\\server\\share\\folder.")
        return ClosedWith(parse_destination(found.place.text).unc, found.access)

    def _say_how_it_ended(self, outcome: ScriptOutcome) -> None:
        counts = ", ".join(f"{count} {stream}" for stream, count in outcome.counts.items() if count)
        self._console.say(f"{outcome.state} on {outcome.endpoint}: {counts or 'no records'}")
        self._console.say(f"record of the session: {outcome.record}")
        if not outcome.closed:
            self._console.say(
                "the endpoint keeps this session's transcript until Close-PrivilegedEndpoint: --close SHARE fetches it"
            )


class Results:
    """Output on stdout as it comes, every other stream on stderr."""

    def __init__(self, console: Console, form: str) -> None:
        self._console, self._form = console, form
        self._rows: list[dict[str, Any]] = []
        self.collected: list[Any] = []

    def take(self, record: Record) -> None:
        from bridge.endpoint import Stream

        if record.stream is not Stream.OUTPUT:
            if record.stream is not Stream.PROGRESS:
                self._console.say(f"{record.stream}: {record.text}")
            elif record.progress and not record.progress.completed:
                self._console.say(f"progress: {record.progress.activity}: {record.progress.status}")
            return
        if self._console.as_json:
            self.collected.append(record.data if record.data is not None else record.text)
        elif self._form == "jsonl":
            value = record.data if record.data is not None else record.text
            self._console.show(json.dumps(value, ensure_ascii=False, default=str))
        elif self._form == "clixml":
            self._console.show(record.clixml or record.text)
        elif isinstance(record.data, dict):
            self._rows.append(record.data)
        else:
            self._console.show(record.text)

    def finish(self) -> None:
        """Objects make one table, whose columns are all their properties."""
        if not self._rows:
            return
        from rich.table import Table
        from rich.text import Text

        columns = list(dict.fromkeys(key for row in self._rows for key in row))
        table = Table(*columns, box=None)
        for row in self._rows:
            table.add_row(*(Text(_cell(row.get(column))) for column in columns))
        self._console.show_table(table)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _list(console: Console) -> Report:
    from bridge.endpoint.script import list_scripts

    scripts = list_scripts()
    for script in scripts:
        console.show(f"{script.name:28} {script.synopsis}")
    console.say("next: pep-bridge run NAME --help")
    return Report({"scripts": [{"name": script.name, "synopsis": script.synopsis} for script in scripts]})


def _dry_run(console: Console, commands: Sequence[Command]) -> Report:
    from bridge.endpoint.script import format_commands

    console.show(format_commands(commands))
    console.say("nothing was sent")
    return Report({"commands": [command.to_json() for command in commands]})


def _check(console: Console, script: str, engine: str | None) -> Report:
    from bridge.errors import ExitCode
    from bridge.scripting import check_file

    found = check_file(script, engine=engine)
    for problem in found.problems:
        console.show(f"{problem.file}:{problem.line}:{problem.column}: {problem.detail}: {problem.text}")
        console.show(f"  instead: {problem.fix}")
    for difference in found.differences:
        console.show(f"the bridge: {difference.bridge}")
        console.show(f"the engine: {difference.engine}")
    if found.ok:
        names = ", ".join(found.command_names) or "no command"
        console.show(f"{script}: accepted; it sends {names}")
    return Report(found.to_json(), ExitCode.OK if found.ok else ExitCode.USAGE)


def _as_pairs(extra: Sequence[str], script: Script) -> list[str]:
    """``--FilterByRole Storage`` and ``--IncludeDumpFile`` as ``Name=Value``: the script's parameters as options."""
    names = {parameter.name.lower(): parameter for parameter in script.parameters}
    pairs: list[str] = []
    rest = list(extra)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.lstrip("-").partition("=")
        parameter = names.get(name.replace("-", "").lower())
        if not word.startswith("--") or parameter is None:
            raise UsageError(
                detail=f"No such option or parameter: {word}", fix=f"See 'pep-bridge run {script.name} --help'."
            )
        if not equals and str(parameter.type) == "switch":
            value = "true"
        elif not equals:
            if not rest:
                raise UsageError(detail=f"{word} needs a value.", fix=f"{word} VALUE")
            value = rest.pop(0)
        pairs.append(f"{parameter.name}={value}")
    return pairs


def _show_help(ctx: typer.Context, script: str | None) -> None:
    """The verb's help; with a script, the script's own."""
    if script is None:
        print(ctx.get_help())  # noqa: T201
        raise typer.Exit
    from bridge.endpoint.script import load_script
    from bridge.errors import BridgeError
    from cli._console import finish

    console = Console(as_json=False)
    try:
        found = load_script(script)
    except BridgeError as error:
        finish(console, "run", Report(exit_code=error.exit_code, errors=[error]))
        return
    console.show(f"{found.name}: {found.synopsis}")
    if found.description:
        console.show(f"\n{found.description}")
    console.show(f"\nUsage: pep-bridge run {script} STAMP [OPTIONS]\n\nParameters (as options, or -p Name=Value):")
    for parameter in found.parameters:
        facts = [str(parameter.type), "required" if parameter.mandatory else ""]
        facts += [f"one of {', '.join(parameter.valid)}" if parameter.valid else ""]
        facts += [f"default {parameter.default_text}" if parameter.default_text else ""]
        console.show(f"  --{parameter.name}  ({', '.join(fact for fact in facts if fact)})")
        if parameter.help:
            console.show(f"      {parameter.help}")
    for example in found.help.examples:
        console.show(f"\nExample:\n  {example}")
    console.show("\nOptions of the verb itself: pep-bridge run --help")
    raise typer.Exit
