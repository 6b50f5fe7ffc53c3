"""The command ``pep-bridge``: options before the verb, and the verbs."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from bridge import __version__
from bridge.errors import BridgeError, ExitCode, SecretOnCommandLineError, UsageError
from cli import (
    attach,
    collect,
    config,
    deliver,
    demo,
    doctor,
    history,
    plan,
    prune,
    report,
    run,
    send,
    share,
    simulate,
    stamp,
    stop,
    verify,
    watch,
)
from cli._console import Console, Globals, Report, finish
from cli._help import ExamplesFirst, put_examples_first

PROGRAM = "pep-bridge"


class _InOrder(ExamplesFirst, TyperGroup):
    """Lists the verbs in the order in which they are registered: the main job first."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(self.commands)


app = typer.Typer(
    name=PROGRAM,
    cls=_InOrder,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
_VERBS: tuple[Callable[..., None], ...] = (
    collect.collect,
    attach.attach,
    history.status,
    stop.stop,
    verify.verify,
    deliver.deliver,
    doctor.doctor,
    plan.plan,
    history.history,
    history.show,
    report.report,
    prune.prune,
    send.send,
    simulate.simulate,
    demo.demo,
)
for verb in _VERBS:
    app.command()(verb)
app.command(cls=run.ScriptCommand, add_help_option=False)(run.run)
app.add_typer(stamp.app, name="stamp")
app.add_typer(config.app, name="config")
app.add_typer(watch.app, name="watch")
app.add_typer(share.app, name="share")
put_examples_first(app)


def _show_version(value: bool) -> None:
    if value:
        print(f"{PROGRAM} {__version__}")  # noqa: T201
        raise typer.Exit


@app.callback()
def options(
    ctx: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option(envvar="PEP_BRIDGE_CONFIG", help="The configuration file (TOML).", show_default=False),
    ] = None,
    state_dir: Annotated[
        Path | None,
        typer.Option(
            envvar="PEP_BRIDGE_STATE_DIR",
            metavar="FOLDER",
            help="The folder where runs are remembered.",
            show_default=False,
        ),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Collects Azure Stack Hub logs through the privileged endpoint when the portal is down.

    The result is a bundle that proves what is in it and says what is not.

    [bold]Examples[/bold]

    # See the whole job on a simulated stamp; nothing real is touched.
    pep-bridge demo

    # Tell it where the stamp is, once.
    pep-bridge stamp add east --from AzureStackStampInformation.json

    # The main job.
    pep-bridge collect east --since 4h --role Storage --to '\\\\nas\\drop'

    Every verb explains itself: pep-bridge VERB --help. TAB completes verbs, stamps, destinations, roles and runs after
    pep-bridge --install-completion.
    """
    ctx.obj = Globals(config=config, state_dir=state_dir)


def main() -> None:
    """The entry point of the console script."""
    arguments = sys.argv[1:]
    for name in ("azure", "urllib3", "requests", "smbprotocol", "spnego", "pypsrp", "psrpcore"):
        # Without a handler Python prints a library's warnings on stderr, and a URL in one would carry its SAS.
        logging.getLogger(name).addHandler(logging.NullHandler())
    os.umask(0o077)  # logs hold personal data: whatever this process makes is for its owner alone
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a name from a stamp must not end the program on a cp1252 console
            stream.reconfigure(errors="backslashreplace")
    try:
        _refuse_secrets(arguments)
        if not arguments:
            app(["--help"], prog_name=PROGRAM, standalone_mode=False)
            sys.exit(int(ExitCode.USAGE))
        code = app(arguments, prog_name=PROGRAM, standalone_mode=False)
    except TyperException as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # a group without its verb; its message is the whole help
            print(error.format_message())  # noqa: T201
            sys.exit(int(ExitCode.USAGE))
        code = _leave(arguments, UsageError(detail=_sentence(error), fix=_where_to_look(arguments)))
    except BridgeError as error:
        code = _leave(arguments, error)
    except (typer.Abort, KeyboardInterrupt):
        code = int(ExitCode.INTERRUPTED)
    sys.exit(code if isinstance(code, int) else 0)


def _refuse_secrets(arguments: list[str]) -> None:
    """A SAS among the arguments is in the process list already; refusing it teaches the safe way."""
    if any("sig=" in argument.lower() for argument in arguments):
        raise SecretOnCommandLineError(
            what="a shared access signature",
            how="the variable PEP_BRIDGE_SAS, a prompt, or 'sas_file' of a destination in the configuration",
        )


def _leave(arguments: list[str], error: BridgeError) -> int:
    report = Report(exit_code=error.exit_code, errors=[error])
    try:
        finish(Console("--json" in arguments), _verb_of(arguments), report)
    except typer.Exit as leave:
        return leave.exit_code
    return int(error.exit_code)


def _sentence(error: TyperException) -> str:
    """Typer's own words, on one line."""
    return " ".join(error.format_message().split())


def _verb_of(arguments: list[str]) -> str:
    """The verb among the arguments, ``config show`` for one of a group; empty where there is none."""
    groups = {group.name or "": group.typer_instance for group in app.registered_groups}
    own = _names(app)
    arguments = _without_values(arguments)
    for number, word in enumerate(arguments):
        group = groups.get(word)
        if group is not None:
            return " ".join([word, *[each for each in arguments[number + 1 : number + 2] if each in _names(group)]])
        if word in own:
            return word
    return ""


def _without_values(arguments: list[str]) -> list[str]:
    """Without what stands behind ``--config`` and ``--state-dir``: a folder may be called like a verb."""
    pairs = zip(["", *arguments], arguments, strict=False)
    return [word for before, word in pairs if before not in {"--config", "--state-dir"}]


def _names(group: typer.Typer) -> set[str]:
    return {str(command.name or getattr(command.callback, "__name__", "")) for command in group.registered_commands}


def _where_to_look(arguments: list[str]) -> str:
    verb = _verb_of(arguments)
    return f"See '{PROGRAM} {verb} --help'." if verb else f"See '{PROGRAM} --help'."


if __name__ == "__main__":
    main()
