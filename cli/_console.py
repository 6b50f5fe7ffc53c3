"""What every verb shares: where words go, the ``--json`` document, and how an error ends the process."""

from __future__ import annotations

import json
import logging
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bridge.errors import BridgeError, ConfigurationError, ExitCode, InterruptedRunError, UsageError
from bridge.secrets import Scrubber, Secret
from cli._words import printable

if TYPE_CHECKING:
    from rich.console import Console as RichConsole
    from rich.table import Table

    from bridge.credentials import Sources
    from bridge.settings import Loaded

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout instead of text.")]

SCHEMA_VERSION = 1
_WITHOUT_A_CONFIGURATION = {"config", "stamp", "simulate", "demo"}
"""Verbs that may be the first: they make the file, or need none."""


@dataclass(slots=True)
class Globals:
    """The options that stand before the verb."""

    config: Path | None = None
    state_dir: Path | None = None

    def check_config(self) -> None:
        """That a file which was named is there, whether the verb needs it or not.

        Raises:
            ConfigurationError: it is not.
        """
        if self.config is not None and not self.config.exists():
            raise ConfigurationError(
                source=str(self.config),
                detail="there is no such file",
                fix="Correct --config or PEP_BRIDGE_CONFIG; the file of a rehearsal goes with its 'simulate'.",
            )

    def load(self) -> Loaded:
        """The settings; read only by verbs that need them."""
        from bridge.settings import load_settings

        return load_settings(self.config)

    def state(self) -> Path:
        """The state folder, made where there is none yet.

        Raises:
            UsageError: it cannot be used.
        """
        from bridge.settings import default_state_dir

        folder = self.state_dir or default_state_dir()
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            problem = "" if os.access(folder, os.R_OK | os.W_OK | os.X_OK) else "it is not writable"
        except OSError as error:
            problem = error.strerror or str(error)
        if problem:
            raise UsageError(
                detail=f"The state folder {folder} cannot be used: {problem}.",
                fix="Give a folder of yours with --state-dir or PEP_BRIDGE_STATE_DIR; runs are remembered there.",
            )
        return folder


@dataclass(slots=True)
class Report:
    """What a verb ends with: ``data`` of the JSON document, and how the process ends."""

    data: Mapping[str, Any] = field(default_factory=dict)
    exit_code: ExitCode = ExitCode.OK
    errors: list[BridgeError] = field(default_factory=list)


@dataclass(slots=True)
class Console:
    """Words for people: messages on stderr, data on stdout; nothing on stdout where JSON was asked for."""

    as_json: bool
    known_secrets: list[Secret] = field(default_factory=list)
    told: set[str] = field(default_factory=set)
    """Warnings that stand on the screen, whole, already."""

    @property
    def scrub(self) -> Scrubber:
        return Scrubber(self.known_secrets)

    @property
    def is_terminal(self) -> bool:
        """Whether a person looks at stderr."""
        return sys.stderr.isatty()

    def say(self, text: str = "") -> None:
        """A message on stderr; where nobody is there any more to read it, the work goes on all the same."""
        with suppress(OSError):
            print(printable(self.scrub.text(text)), file=sys.stderr, flush=True)  # noqa: T201

    def warn(self, text: str) -> None:
        self.say(f"warning: {text}")

    def warn_once(self, text: str) -> None:
        """A warning, unless it stands there already."""
        if text not in self.told:
            self.told.add(text)
            self.warn(text)

    def show(self, text: str = "") -> None:
        """Data for people on stdout."""
        if not self.as_json:
            _print(printable(self.scrub.text(text)))

    def show_table(self, table: Table) -> None:
        """A table for people on stdout."""
        if not self.as_json:
            with suppress(SystemExit):  # Rich's word for a reader that has seen enough; stdout goes nowhere then
                self.rich(stderr=False).print(table)

    def rich(self, *, stderr: bool = True) -> RichConsole:
        """A Rich console; it honours NO_COLOR and writes plain text where no terminal is."""
        from rich.console import Console as RichConsole

        return RichConsole(stderr=stderr, highlight=False)

    def sources(self, *, password_stdin: bool = False) -> Sources:
        """Where secrets may come from in this process; whoever runs without a terminal is not asked."""
        from bridge.credentials import Sources

        stdin = Secret(sys.stdin.readline().rstrip("\r\n")) if password_stdin else None
        can_ask = sys.stdin.isatty() and not password_stdin and not self.as_json
        return Sources(environment=os.environ, ask=_ask if can_ask else None, stdin=stdin)


def run_verb(ctx: typer.Context, command: str, as_json: bool, work: Callable[[Console], Report]) -> None:
    """Does a verb's work and ends the process as design and documentation promise."""
    console = Console(as_json)
    try:
        if command.partition(" ")[0] not in _WITHOUT_A_CONFIGURATION:
            ctx.obj.check_config()
        report = work(console)
    except BridgeError as error:
        report = Report(exit_code=error.exit_code, errors=[error])
    except (KeyboardInterrupt, typer.Abort):  # the second one: at a question
        interrupted = InterruptedRunError(detail="stopped by Ctrl-C", fix="Run the same command again to go on.")
        report = Report(exit_code=ExitCode.INTERRUPTED, errors=[interrupted])
    except Exception as error:
        report = Report(exit_code=ExitCode.UNEXPECTED, errors=[_unexpected(ctx, console, error)])
    finish(console, command, report)


def finish(console: Console, command: str, report: Report) -> None:
    """Prints the errors and the JSON document, and leaves with the exit code."""
    for error in report.errors:
        console.say(f"error: {error}")
        if error.advice:
            console.say(f"  fix: {error.advice}")
    if console.as_json:
        document = {
            "schema_version": SCHEMA_VERSION,
            "command": command,
            "ok": report.exit_code == ExitCode.OK,
            "exit_code": int(report.exit_code),
            "data": report.data,
            "errors": [error.to_json() for error in report.errors],
        }
        _print(json.dumps(console.scrub.value(document), indent=2, default=str))
    raise typer.Exit(int(report.exit_code))


def _print(text: str) -> None:
    """On stdout. Whoever reads it may have seen enough (``| head``): that is no error, and the rest goes nowhere."""
    try:
        print(text, flush=True)  # noqa: T201
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _ask(what: str) -> str | None:
    return typer.prompt(what[0].upper() + what[1:], hide_input=True, err=True) or None


def _unexpected(ctx: typer.Context, console: Console, error: Exception) -> BridgeError:
    """A defect of this program: the traceback goes, scrubbed, into a file of the state folder, not onto the screen."""
    found = ctx.find_object(Globals) or Globals()
    text = console.scrub.text("".join(traceback.format_exception(error)))
    try:
        where = found.state() / "errors"
        file = where / f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}.txt"
        where.mkdir(parents=True, exist_ok=True, mode=0o700)
        file.touch(mode=0o600)
        file.write_text(text, encoding="utf-8", errors="backslashreplace")
        told = f"the details are in {file}"
    except (OSError, UsageError) as cause:
        logging.getLogger(__name__).debug("no error file: %s", cause)
        told = "the details could not be written down"
    return BridgeError(detail=f"Unexpected {type(error).__name__}: {console.scrub.text(str(error))} ({told})")
