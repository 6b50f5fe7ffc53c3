"""``simulate``: a stamp on loopback to rehearse with, until Ctrl-C or SIGTERM."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bridge.errors import UsageError
from bridge.files import replace_file
from cli._completion import Offer, matching
from cli._console import Console, JsonOption, Report, run_verb

if TYPE_CHECKING:
    from bridge.simulator.stamp import AlertEvent, SimulatedStamp, StampOptions

# Written out, so that --help need not import the simulator; a test compares it with the registry.
FAULT_NAMES = (
    "role-fails:ROLE, role-empty:ROLE, role-hangs:ROLE, role-truncated:ROLE, node-missing:MACHINE, "
    "vm-off:MACHINE, staging-disk-full[:PERCENT], other-collection-running[:DURATION], output-late:DURATION, "
    "collection-outlives-session, wrong-clock:DURATION, hostile-names, hostile-records, leaky-logs, "
    "not-registered, test-fails:CATEGORY, portal-down, ercs-dies:MACHINE[@FROM[-UNTIL]], ercs-refuses:MACHINE, "
    "connection-cut:PERCENT, connection-stalls:PERCENT, idle-close[:DURATION], receive-cut[:DURATION], "
    "session-ends:DURATION, disconnected-buffer:SIZE, disconnected-drop:SIZE, quota-exceeded, access-denied, "
    "no-such-configuration, no-enumeration"
)
_FAULT_HELP = f"A fault; may be repeated, faults combine. --list-faults says what each does: {FAULT_NAMES}".replace(
    "[", "\\["
)


def complete_fault(incomplete: str) -> list[Offer]:
    """What a shell offers after ``--fault``."""
    names = (usage.strip().partition(":")[0].partition("[")[0] for usage in FAULT_NAMES.split(", "))
    return matching(((name, "fault") for name in names), incomplete)


class Engine(StrEnum):
    """What runs a session."""

    SIMULATED = "simulated"
    PWSH = "pwsh"


def simulate(
    ctx: typer.Context,
    ready_file: Annotated[
        Path | None,
        typer.Option(help="Write addresses and throw-away credentials here (JSON) once it accepts connections."),
    ] = None,
    name: Annotated[str, typer.Option(help="The stamp's name.")] = "azs-sim",
    nodes: Annotated[int, typer.Option(help="How many physical nodes it has.")] = 4,
    duration: Annotated[str, typer.Option(help="How long a collection takes: 0.5s, 20s, 10m.")] = "20s",
    size: Annotated[
        str, typer.Option(help="How much one collection writes in all, whatever the roles: 50MB, 2GiB.")
    ] = "50MB",
    seed: Annotated[int, typer.Option(help="The same seed and window give the same logs.")] = 0,
    fault: Annotated[list[str] | None, typer.Option(help=_FAULT_HELP, autocompletion=complete_fault)] = None,
    list_faults: Annotated[bool, typer.Option("--list-faults", help="Show the faults and leave.")] = False,
    output_root: Annotated[
        Path | None,
        typer.Option(help="The only folder below which the stamp may write with -OutputPath.", show_default="none"),
    ] = None,
    smb_port: Annotated[
        int, typer.Option(help="The port at which the stamp reaches every SMB share: a UNC path has none.")
    ] = 445,
    blob_api_version: Annotated[
        str, typer.Option(help="The API version that the stamp itself speaks to blob storage.")
    ] = "2019-02-02",
    timezone: Annotated[str, typer.Option(help="The stamp's time zone, a Windows id.")] = "W. Europe Standard Time",
    clock: Annotated[
        str | None,
        typer.Option(
            help="What folders and transcripts show instead of the time of day (2026-11-20T13:00:00+01:00); neither"
            " names the destination then, so that collections of one window have the same bytes.",
            show_default="none",
        ),
    ] = None,
    client_lost_after: Annotated[str, typer.Option(help="How long a killed client still counts as connected.")] = "60s",
    alert: Annotated[
        list[str] | None,
        typer.Option(help="An alert: FAULT_TYPE_ID[@FROM[-UNTIL]] (@10s-5m after the start); may be repeated."),
    ] = None,
    port: Annotated[int, typer.Option(help="The first of three HTTP ports; 0 is any free ones.")] = 0,
    https: Annotated[bool, typer.Option("--https", help="Listen on HTTPS as well.")] = False,
    stdio: Annotated[
        bool, typer.Option("--stdio", help="Serve one session over stdin and stdout, as an ssh subsystem.")
    ] = False,
    engine: Annotated[
        Engine,
        typer.Option(
            help="What runs the sessions: the simulator itself, or an installed PowerShell 7.3 or later"
            " (pwsh on PATH, or the one that PEP_BRIDGE_PWSH names)."
        ),
    ] = Engine.SIMULATED,
    as_json: JsonOption = False,
) -> None:
    """Run a whole stamp on loopback: three endpoints, their commands, a portal. Nothing real can be harmed.

    [bold]Examples[/bold]

    pep-bridge simulate --output-root ./logs --duration 30s --size 200MB

    pep-bridge simulate --fault role-fails:Storage --fault staging-disk-full:60 --seed 7

    pep-bridge simulate --engine pwsh
    """

    def work(console: Console) -> Report:
        from bridge.simulator.stamp import StampOptions, parse_clock, parse_duration, parse_size

        if list_faults:
            return _show_faults(console)
        if output_root is not None:
            with _usage_error_at(output_root):
                output_root.mkdir(parents=True, exist_ok=True)
        options = StampOptions(
            name=name,
            node_count=nodes,
            size_bytes=parse_size(size),
            duration_s=parse_duration(duration),
            seed=seed,
            faults=tuple(fault or ()),
            output_root=None if output_root is None else output_root.resolve(),
            smb_port=smb_port,
            blob_api_version=blob_api_version,
            timezone=timezone,
            clock=None if clock is None else parse_clock(clock),
            client_lost_after_s=parse_duration(client_lost_after),
            alerts=tuple(map(_alert, alert or ())),
        )
        if stdio:
            if engine is Engine.PWSH:
                raise UsageError(
                    detail="--stdio and --engine pwsh do not go together",
                    fix="A PowerShell serves stdin and stdout by itself: pwsh -sshs -ConfigurationFile FILE.",
                )
            return _serve_stdio(options)
        return _serve(console, options, ready_file, port, https=https, engine=engine)

    run_verb(ctx, "simulate", as_json, work)


def _serve(
    console: Console, options: StampOptions, ready_file: Path | None, port: int, *, https: bool, engine: Engine
) -> Report:
    from bridge.simulator.engine import PowerShellEngine, find_powershell
    from bridge.simulator.stamp import SimulatedStamp
    from cli._signals import until_told_to_leave, wait

    powershell = PowerShellEngine(find_powershell()) if engine is Engine.PWSH else None
    with (
        until_told_to_leave() as stop,
        SimulatedStamp(options, first_port=port, https=https, engine=powershell) as stamp,
    ):
        if powershell is not None:
            console.say(f"sessions are run by {powershell.program}")
        try:
            if ready_file is not None:
                with _usage_error_at(ready_file):
                    replace_file(ready_file, json.dumps(stamp.ready_document(), indent=2).encode() + b"\n")
            _introduce(console, stamp, ready_file)
            wait(stop, math.inf)
        finally:
            if ready_file is not None:
                ready_file.unlink(missing_ok=True)
        calls = [{"name": call.name, "machine": call.machine, "at": call.at.isoformat()} for call in stamp.state.calls]
    console.say("the simulated stamp is gone")
    return Report({"stamp": options.name, "calls": calls})


@contextmanager
def _usage_error_at(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(detail=f"{path} cannot be written: {error.strerror}") from error


def _serve_stdio(options: StampOptions) -> Report:
    from bridge.simulator import serve_stdio
    from bridge.simulator.stamp import StampState, stamp_commands

    state = StampState(options)
    try:
        machine, *_ = state.inventory.ercs
        serve_stdio(stamp_commands(state), sys.stdin.buffer, sys.stdout.buffer, machine=machine, zone=state.zone)
    finally:
        state.close()
    return Report()


def _introduce(console: Console, stamp: SimulatedStamp, ready_file: Path | None) -> None:
    options = stamp.options
    console.say(f"simulated stamp {stamp.name}, {options.node_count} nodes, region {options.region}; its endpoints:")
    for each in stamp.endpoints:
        https = f", HTTPS {each.https_port}" if each.https_port else ""
        console.say(f"  {each.name}  {each.host}:{each.port}{https}")
    console.say(f"portal and ARM: {stamp.portal.url}")
    console.say(f"user: {stamp.username} (the password is throw-away; it is in the configuration's folder)")
    if options.faults:
        console.say(f"faults: {', '.join(options.faults)}")
    console.say("from another terminal:")
    before = f"  pep-bridge --config {stamp.config_file}"
    to = "local" if options.output_root is not None else "SHARE"
    console.say(f"{before} collect {stamp.name} --since 4h --role Storage --to {to}")
    if options.output_root is None:
        console.say("  (with --output-root FOLDER it may also write to a plain folder: collect ... --to local)")
    if ready_file is not None:
        console.say(f"addresses and credentials: {ready_file}")
    console.say("Ctrl-C ends it.")


def _show_faults(console: Console) -> Report:
    from bridge.simulator.stamp import FAULTS

    width = max(len(kind.usage) for kind in FAULTS.values())
    for kind in FAULTS.values():
        console.show(f"{kind.usage:<{width}}  {kind.meaning}")
    faults: list[dict[str, Any]] = [{"fault": kind.usage, "meaning": kind.meaning} for kind in FAULTS.values()]
    return Report({"faults": faults})


def _alert(text: str) -> AlertEvent:
    from bridge.simulator.stamp import AlertEvent, parse_duration

    fault_type_id, _, times = text.partition("@")
    start, _, end = times.partition("-")
    if not fault_type_id:
        raise UsageError(detail=f"{text!r} names no fault type", fix="Write it like Urp.UpdateFailure@10s-5m.")
    return AlertEvent(fault_type_id, parse_duration(start) if start else 0.0, parse_duration(end) if end else None)
