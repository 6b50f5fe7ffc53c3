"""``watch install``: the files for this machine's scheduler, with the options as they were typed."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import typer
from typer.exceptions import TyperException

from bridge.errors import UsageError
from cli._console import Console, Globals, Report
from cli._watching import LOOK_EVERY, find_consent


def install_service(
    console: Console, ctx: typer.Context, stamp: str, *, show: bool, folder: Path | None, kind: str | None
) -> Report:
    """Writes, or shows, the files by which this machine's scheduler starts the watch again and again."""
    from bridge.watch import Memory, Scheduler, Service, read_pause, whoever_this_is

    kind = kind or ("windows" if os.name == "nt" else "systemd")
    if kind not in set(Scheduler):
        raise UsageError(detail=f"'{kind}' is no scheduler that is known here.", fix="Give --for systemd or windows.")
    scheduler = Scheduler(kind)
    options: Globals = ctx.obj
    given = _parse_start(ctx, [stamp, *ctx.args])
    settings = options.load().settings
    settings.stamp_settings(stamp)
    left_out = {"--once", "--agree", "--json"}
    arguments = [stamp, *(argument for argument in ctx.args if argument not in left_out)]
    command = [*_program(), *_before(options), "watch", *arguments, "--once"]
    user = f"{os.environ.get('USERDOMAIN', '.')}\\{whoever_this_is()}"
    service = Service(stamp, command, read_pause(settings.watch, given["every"]) or LOOK_EVERY, user)
    if show:
        files = scheduler.files(service)
        for name, content in files.items():
            console.show(f"# {name}\n{content}")
        return Report({"files": files})
    from cli._request import build_request

    named = {name: given[name] for name in ("to", "staging", "api_version", "direct")}
    find_consent(console, Memory(options.state(), stamp), build_request(settings, stamp, **named), agree=given["agree"])
    written = scheduler.write(service, folder or scheduler.default_folder(os.environ))
    for path in written:
        console.show(str(path))
    console.say("nothing is enabled yet; next:")
    for line in scheduler.enabling(service, written):
        console.say(f"  {line}")
    return Report({"written": [str(path) for path in written]})


def _parse_start(ctx: typer.Context, arguments: list[str]) -> dict[str, Any]:
    """Reads the options as the watch will read them, so that a wrong one is told now, not by a service at night."""
    group: Any = ctx.parent.command if ctx.parent else None
    try:
        parsed: dict[str, Any] = (
            group.commands["start"].make_context("watch", list(arguments), parent=ctx.parent).params
        )
    except TyperException as error:
        raise UsageError(detail=error.format_message(), fix="See 'pep-bridge watch start --help'.") from None
    if parsed["password_stdin"]:
        raise UsageError(
            detail="A service has nobody at its standard input.",
            fix="Name a file of mode 0600 with 'password_file' of the stamp.",
        )
    return parsed


def _program() -> list[str]:
    found = shutil.which("pep-bridge", path=str(Path(sys.executable).parent)) or shutil.which("pep-bridge")
    return [str(Path(found).absolute())] if found else [sys.executable, "-m", "cli.main"]


def _before(options: Globals) -> list[str]:
    config = ["--config", str(options.config.absolute())] if options.config else []
    state = ["--state-dir", str(options.state_dir.absolute())] if options.state_dir else []
    return [*config, *state]
