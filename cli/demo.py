"""``demo``: the main job on a simulated stamp, with the very commands that an operator would type."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from bridge.errors import BridgeError, UsageError
from cli._console import Console, Globals, JsonOption, Report, run_verb

_START_TIMEOUT_S = 60.0
_ROLES = ("Storage", "ACS", "BareMetal", "SeedRing")


def demo(
    ctx: typer.Context,
    output: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the bundle goes.", show_default=True)] = Path(
        "pep-bridge-demo"
    ),
    duration: Annotated[str, typer.Option(help="How long the collection takes.")] = "5s",
    size: Annotated[str, typer.Option(help="How much the stamp writes.")] = "50MB",
    as_json: JsonOption = False,
) -> None:
    """Run the main job on a simulated stamp: collect, verify, show.

    Needs no stamp, no network and no set-up; what it prints are the commands that do the same on a real stamp.

    [bold]Example[/bold]

    pep-bridge demo --size 200MB --duration 30s
    """

    def work(console: Console) -> Report:
        folder = output.resolve()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                detail=f"{folder} cannot be made: {error.strerror}.", fix="Give --output FOLDER in a folder of yours."
            ) from error
        with tempfile.TemporaryDirectory(prefix="pep-bridge-demo-") as scratch:
            simulate = ["simulate", "--duration", duration, "--size", size, "--output-root", str(folder)]
            with _simulator(console, simulate, Path(scratch) / "ready.json") as ready:
                options = Globals(config=Path(ready["config"]), state_dir=Path(scratch) / "state")
                return _main_job(console, options, ready["stamp"], folder)

    run_verb(ctx, "demo", as_json, work)


def _main_job(console: Console, options: Globals, stamp: str, folder: Path) -> Report:
    from cli.collect import run_collection
    from cli.verify import check

    before = ["--config", str(options.config)]
    _announce(console, [*before, "collect", stamp, "--since", "4h", "--role", ",".join(_ROLES), "--to", str(folder)])
    collected = run_collection(console, options, stamp, since="4h", roles=_ROLES, to=str(folder))
    bundle = collected.data.get("bundle")
    if not collected.data.get("bundle_id") or not isinstance(bundle, str):
        return collected
    console.show()
    _announce(console, ["verify", bundle])
    verified = check(console, options, bundle)
    console.say()
    console.say("next: pep-bridge simulate (a stamp to rehearse with), pep-bridge collect --help")
    worse = max(collected, verified, key=lambda report: report.exit_code)
    data = {"collect": collected.data, "verify": verified.data}
    return Report(data, worse.exit_code, [*collected.errors, *verified.errors])


@contextmanager
def _simulator(console: Console, arguments: list[str], ready_file: Path) -> Iterator[dict[str, Any]]:
    """A simulated stamp in a process of its own, stopped at the end."""
    command = [*arguments, "--ready-file", str(ready_file)]
    _announce(console, command)
    flags = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
    with subprocess.Popen(_program(command), stderr=subprocess.PIPE, text=True, creationflags=flags) as process:
        try:
            yield _wait_until_ready(process, ready_file)
        finally:
            process.send_signal(getattr(signal, "CTRL_BREAK_EVENT", signal.SIGTERM))
            process.communicate(timeout=30)


def _wait_until_ready(process: subprocess.Popen[str], ready_file: Path) -> dict[str, Any]:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while not ready_file.exists():
        if process.poll() is not None:
            raise BridgeError(detail=f"The simulated stamp did not start: {process.communicate()[1].strip()[-500:]}")
        if time.monotonic() > deadline:
            raise BridgeError(detail="The simulated stamp did not start in time.")
        time.sleep(0.05)
    ready: dict[str, Any] = json.loads(ready_file.read_text(encoding="utf-8"))
    return ready


def _announce(console: Console, arguments: list[str]) -> None:
    console.say()
    console.say("$ pep-bridge " + " ".join(arguments))


def _program(arguments: list[str]) -> list[str]:
    return [sys.executable, "-m", "cli.main", *arguments]
