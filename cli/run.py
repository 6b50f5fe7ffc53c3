"""``run``: a PEP script on an endpoint, checked, permitted and recorded."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from bridge.errors import CommandNotAllowedError, UsageError
from cli._completion import complete_script, complete_stamp
from cli._console import Console, Globals, JsonOption, Report, run_verb
from cli._options import PasswordStdinOption, ShareUsernameOption, UsernameOption

if TYPE_CHECKING:
    from bridge.endpoint import Command, Value
    from bridge.endpoint.script import Script, ScriptParameter
    from bridge.scripting import ClosedWith, SessionRecord
    from bridge.secrets import Credential, Secret

CONFIRM_VARIABLE = "PEP_BRIDGE_CONFIRM"
_SENDING = "send-azurestackdiagnosticlog"


class ScriptCommand(TyperCommand):
    """Takes the parameters of the named script as options too: ``--FilterByRole ACS`` is ``-p FilterByRole=ACS``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        own = {name: parameter for parameter in self.params for name in (*parameter.opts, *parameter.secondary_opts)}
        with_value = {name for name, parameter in own.items() if not getattr(parameter, "is_flag", False)}
        script: Script | None = None
        rest: list[str] = []
        words = list(args)
        while words:
            word = words.pop(0)
            name = word.partition("=")[0]
            if name in own or not word.startswith("--") or word == "--":
                rest.append(word)
                if word in with_value and words:
                    rest.append(words.pop(0))
                elif not word.startswith("-") and script is None and _may_have_parameters(args):
                    script = _load(word)
            else:
                rest += ["-p", _as_pair(word, words, script)]
        return list(super().parse_args(ctx, rest))


def _may_have_parameters(args: Sequence[str]) -> bool:
    """Whether the script must be read to understand the command line; --check tells what is wrong with it itself."""
    return not {"--check", "--list", "--help", "-h"} & set(args)


def _load(script: str) -> Script:
    from bridge.endpoint.script import load_script

    return load_script(script)


def _as_pair(word: str, rest: list[str], script: Script | None) -> str:
    """``--FilterByRole Storage`` or ``--IncludeDumpFile`` as ``Name=Value``; takes the value from ``rest``."""
    if script is None:
        raise UsageError(
            detail=f"No such option: {word}",
            fix="Parameters of a script come after its name; see 'pep-bridge run --help'.",
        )
    name, equals, value = word.removeprefix("--").partition("=")
    wanted = name.replace("-", "").lower()
    parameter = next((each for each in script.parameters if each.answers_to(wanted)), None)
    if parameter is None:
        fix = f"See 'pep-bridge run {script.name} --help'."
        raise UsageError(detail=f"No such option or parameter: {word}", fix=fix)
    if not equals and (str(parameter.type) in {"switch", "securestring"}):
        return parameter.name
    if not equals:
        if not rest:
            raise UsageError(detail=f"{word} needs a value.", fix=f"{word} VALUE")
        value = rest.pop(0)
    return f"{parameter.name}={value}"


def run(
    ctx: typer.Context,
    script: Annotated[
        str | None,
        typer.Argument(
            metavar="[SCRIPT]",
            help="A .ps1 file, or a shipped script's name (see --list).",
            autocompletion=complete_script,
        ),
    ] = None,
    stamp: Annotated[
        str | None,
        typer.Argument(metavar="[STAMP]", help="The stamp to run it on.", autocompletion=complete_stamp),
    ] = None,
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
        typer.Option(
            "--allow",
            metavar="COMMAND",
            help="Permit a command that changes or stops the stamp, or that is unknown here, by name; repeatable. "
            f"Its name is then typed once more (or given by {CONFIRM_VARIABLE}).",
        ),
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
    show_help: Annotated[bool, typer.Option("--help", "-h", help="Show this, or with a SCRIPT its own help.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Run a PEP script: checked first, permitted by name where it is dangerous, recorded always.

    The same file runs in Windows PowerShell after Import-PSSession. Its parameters are options too: --Since -8h is
    -p Since=-8h. The password of a credential comes from PEP_BRIDGE_PARAMETER_NAME (else PEP_BRIDGE_SHARE_PASSWORD),
    the keyring, or a prompt.

    Ends with 0; with 8 where the script ran through but reported errors; with 2 where it was refused here, 5 where the
    endpoint has no such command or parameter, 130 after Ctrl-C; else with the code of the error that ended it.

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
        use = _Run(console, ctx.obj, _load(script), stamp)
        arguments = use.arguments(parameter or [], parameters_file, ask=not dry_run)
        if dry_run:
            return _dry_run(console, use.script.bind(arguments))
        return use.perform(
            arguments,
            allow=allow or [],
            output=output,
            close=close,
            username=username,
            share_username=share_username,
            password_stdin=password_stdin,
        )

    if show_help:
        _show_help(ctx, script, as_json)
    run_verb(ctx, "run", as_json, work)


class _Run:
    """One use of the verb: its script, its secrets, and where results go."""

    def __init__(self, console: Console, options: Globals, script: Script, stamp: str | None) -> None:
        self.script = script
        self._console, self._options, self._stamp = console, options, stamp

    def arguments(self, pairs: Sequence[str], file: Path | None, *, ask: bool) -> dict[str, Value]:
        """The values of the script's parameters; ``ask`` is false in a dry run, which needs no secret."""
        from tzlocal import get_localzone

        from bridge.scripting import gather_arguments, known_secrets

        found = gather_arguments(
            self.script,
            pairs,
            file,
            find=self._find_secret if ask else None,
            ask=_ask_value if sys.stdin.isatty() and not self._console.as_json else None,
            tz=get_localzone(),
            now=datetime.now(UTC),
        )
        self._console.known_secrets += known_secrets(found)
        return found

    def perform(
        self,
        arguments: dict[str, Value],
        *,
        allow: list[str],
        output: str,
        close: str | None,
        username: str | None,
        share_username: str | None,
        password_stdin: bool,
    ) -> Report:
        from bridge.scripting import Control, SessionRecord, require_permission, run_script
        from cli._session import FORMS, Results, tell_line, tell_outcome
        from cli._signals import script_interrupts

        if output not in FORMS:
            raise UsageError(detail=f"'{output}' is no form of output.", fix=f"Use one of {', '.join(FORMS)}.")
        if self._stamp is None:
            raise UsageError(detail="No stamp was given.", fix=f"pep-bridge run {self.script.name} STAMP")
        commands = self.script.bind(arguments)
        require_permission(commands, allow, "run")
        confirmed = self._confirm(commands, allow)
        settings = self._options.load().settings
        stamp = settings.stamp(self._stamp)
        credential = self._credential(username, password_stdin)
        closing = self._closing(close, share_username)
        control = Control()
        with SessionRecord(self._options.state() / "sessions", self._console.scrub) as record:
            if confirmed:
                record.confirmed(confirmed)
            self._record_consent(commands, record)
            results = Results(self._console, output)
            with script_interrupts(control, self._console.say):
                outcome = run_script(
                    stamp,
                    credential,
                    commands,
                    record=record,
                    on_record=results.take,
                    allowed=allow,
                    close=closing,
                    control=control,
                    on_line=lambda event: tell_line(self._console, event),
                )
        results.finish()
        tell_outcome(self._console, outcome)
        return Report(outcome.to_json() | results.to_json(), outcome.exit_code, list(outcome.errors))

    def _find_secret(self, parameter: ScriptParameter, owner: str) -> Secret:
        """The secret of a credential or a secure string, or the SAS of a container's address."""
        from bridge.credentials import SAS_VARIABLE, SHARE_PASSWORD_VARIABLE, find_secret
        from bridge.scripting import secret_variable

        sources = self._console.sources()
        own = secret_variable(parameter)
        shared = {"pscredential": SHARE_PASSWORD_VARIABLE, "securestring": own}.get(str(parameter.type), SAS_VARIABLE)
        found = find_secret(
            f"the secret of -{parameter.name} ({owner or parameter.type})",
            variable=own if sources.environment.get(own) else shared,
            file=None,
            keyring_name=f"parameter:{parameter.name}:{owner}",
            sources=sources,
        )
        self._console.known_secrets.append(found)
        return found

    def _confirm(self, commands: Sequence[Command], allow: Sequence[str]) -> list[str]:
        """A dangerous command is typed once more by a person; a script gives PEP_BRIDGE_CONFIRM (names with commas).

        One that nobody here knows, and that was not allowed, is not asked for: the endpoint is asked about it first.
        """
        from bridge.scripting import needs_naming

        allowed = {name.lower() for name in allow}
        given = os.environ.get(CONFIRM_VARIABLE)
        confirmed = []
        for name in needs_naming(commands):
            if name.lower() not in allowed:
                continue
            typed = [] if given is None else [each.strip().lower() for each in given.split(",")]
            if given is None and sys.stdin.isatty():
                question = f"{name} changes or stops the stamp {self._stamp}. Type its name to go on"
                typed = [typer.prompt(question, err=True).strip().lower()]
            if name.lower() not in typed:
                raise CommandNotAllowedError(
                    command=name,
                    verb="run",
                    fix=f"It was not confirmed: type the name when asked, or set {CONFIRM_VARIABLE}={name}.",
                )
            confirmed.append(name)
        return confirmed

    def _record_consent(self, commands: Sequence[Command], record: SessionRecord) -> None:
        """Whoever sends logs to the vendor consents: the text is shown, the answer recorded."""
        from cli.send import CONSENT, ask_consent

        if any(command.name.rpartition("\\")[2].lower() == _SENDING for command in commands):
            if sys.stdin.isatty() and not self._console.as_json:
                record.agreed(CONSENT, ask_consent(self._console, given=False))
            else:
                self._console.say(CONSENT)
                record.agreed(CONSENT, "by running a script that sends")

    def _credential(self, username: str | None, password_stdin: bool) -> Credential:
        from bridge.credentials import stamp_credential

        known = self._options.load().settings.stamp_settings(self._stamp or "")
        sources = self._console.sources(password_stdin=password_stdin)
        found = stamp_credential(self._stamp or "", username or known.username, known.password_file, sources)
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


def _ask_value(what: str) -> str | None:
    return typer.prompt(what, default="", show_default=False, err=True) or None


def _list(console: Console) -> Report:
    from bridge.endpoint.script import list_scripts

    scripts = list_scripts()
    width = max((len(script.name) for script in scripts), default=0)
    for script in scripts:
        console.show(f"{script.name:{width}}  {script.synopsis}")
    console.say("next: pep-bridge run NAME --help")
    return Report({"scripts": [{"name": script.name, "synopsis": script.synopsis} for script in scripts]})


def _dry_run(console: Console, commands: Sequence[Command]) -> Report:
    from bridge.endpoint.script import format_commands
    from bridge.scripting import needs_naming

    console.show(format_commands(commands))
    for name in needs_naming(commands):
        console.say(f"{name} would need --allow {name}, and its name typed")
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


def _show_help(ctx: typer.Context, script: str | None, as_json: bool) -> None:
    """The verb's help; with a script, the script's own."""
    if script is None:
        print(ctx.get_help())  # noqa: T201
        raise typer.Exit

    def work(console: Console) -> Report:
        found = _load(script)
        _show_script(console, script, found)
        names = ("name", "type", "mandatory", "default_text", "valid", "help", "aliases")
        parameters = [{name: getattr(each, name) for name in names} for each in found.parameters]
        return Report({"name": found.name, "synopsis": found.synopsis, "parameters": parameters})

    run_verb(ctx, "run", as_json, work)


def _show_script(console: Console, written: str, found: Script) -> None:
    console.show(f"{found.name}: {found.synopsis}")
    if found.description:
        console.show(f"\n{found.description}")
    console.show(f"\nUsage: pep-bridge run {written} STAMP [OPTIONS]\n\nParameters (as options, or -p Name=Value):")
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
