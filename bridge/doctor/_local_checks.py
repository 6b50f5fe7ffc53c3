"""This machine: the configuration, the secrets, the state folder, and what its journal knows of the stamp."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from bridge.collection import Journal, LockState, RunRecord
from bridge.doctor._checks import Check, failed, passed, refused, skipped, warned
from bridge.doctor._subject import Opener, Subject
from bridge.errors import BridgeError, ExitCode, JournalError
from bridge.secrets import Credential

_LEAST_STATE_BYTES = 10 * 1000 * 1000
_WANTED_STATE_BYTES = 200 * 1000 * 1000
"""The journal is small; the record of a long session is not."""
_ENDPOINTS_OF_A_STAMP = 3


History = tuple[list[RunRecord], datetime | None]
"""A stamp's runs in the journal, and until when the stamp cools down."""


def look_at_configuration(subject: Subject) -> Check:
    """What can be seen to be wrong without asking anybody."""
    name, stamp = "configuration", subject.stamp
    if stamp.ca_file is not None and not _is_readable(stamp.ca_file):
        fix = f"Correct 'ca_file' of [stamps.{stamp.name}]: it names a PEM file of the trusted authority."
        return failed(name, f"{stamp.ca_file} cannot be read", fix, ExitCode.USAGE)
    found: list[tuple[str, str]] = []
    hosts = [(address.host.casefold(), address.port) for address in stamp.endpoints]
    if len(set(hosts)) < len(hosts):
        found.append(("two endpoints have the same address", "give each ERCS machine its own"))
    if len(hosts) < _ENDPOINTS_OF_A_STAMP:
        found.append(
            (f"{len(hosts)} of 3 ERCS machines are configured", "add the others: they stand in for one another")
        )
    username = stamp.username or (subject.credential.username if isinstance(subject.credential, Credential) else "")
    if username and "\\" not in username and "@" not in username:
        found.append((f"the user name {username} has no domain", "write it as DOMAIN\\CloudAdmin"))
    if stamp.timezone and stamp.timezone not in _windows_zones():
        found.append((f"'{stamp.timezone}' is no Windows time zone", "correct 'timezone' of the stamp"))
    if not found:
        return passed(name, f"{len(hosts)} ERCS machines, {username or 'no user name'}")
    return warned(name, "; ".join(what for what, _ in found), "; ".join(fix for _, fix in found))


def look_at_secrets(subject: Subject) -> list[Check]:
    """One line for each secret that is needed."""
    needed: list[tuple[str, Opener]] = [("endpoint-password", subject.credential)]
    needed += [(f"{name}-secret", opener) for name, place, opener in subject.places if place.kind != "folder"]
    return [_secret_check(name, opener) for name, opener in needed]


def _secret_check(name: str, opener: Opener) -> Check:
    if isinstance(opener, BridgeError):
        return refused(name, opener)
    if isinstance(opener, Credential):
        return passed(name, f"known for {opener.username}")
    return passed(name, "known") if opener is not None else skipped(name, "none is needed")


def look_at_state(state_dir: Path) -> Check:
    """Whether runs can be remembered: without a journal nothing is started."""
    name = "state-folder"
    fix = "Give a folder that you may write to: --state-dir DIR, or PEP_BRIDGE_STATE_DIR."
    try:
        state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor, probe = tempfile.mkstemp(dir=state_dir, prefix=".doctor-")
        os.close(descriptor)
        Path(probe).unlink()
        free = shutil.disk_usage(state_dir).free
    except OSError as error:
        return failed(name, f"{state_dir} cannot be written: {error.strerror}", fix, ExitCode.USAGE)
    evidence = f"{state_dir} can be written, {free:,} bytes are free"
    full = "Free space on this machine: the journal and the record of the session are written there."
    if free < _LEAST_STATE_BYTES:
        return failed(name, evidence, full, ExitCode.NO_SPACE)
    return warned(name, evidence, full) if free < _WANTED_STATE_BYTES else passed(name, evidence)


def read_history(subject: Subject) -> History:
    """The stamp's runs in the journal, and until when the stamp cools down.

    Raises:
        JournalError: it cannot be read.
    """
    with Journal(subject.state_dir) as journal:
        return journal.runs(stamp=subject.stamp.name), journal.cool_down_until(subject.stamp.name)


def judge_business(
    subject: Subject,
    history: History | JournalError | None,
    locks: Sequence[tuple[str, LockState]],
    now: Callable[[], datetime],
) -> Check:
    """Whether a collection of this tool runs, or one was just stopped: here, or from another jump box."""
    name = "running"
    if history is None:
        return skipped(name, "not known without the state folder")
    if isinstance(history, JournalError):
        return refused(name, history)
    runs, cool_down = history
    live = next((run for run in runs if run.state.is_on_the_stamp), None)
    if live is not None:
        evidence = f"run {live.id} is {live.state}"
        fix = f"Go on with it ('pep-bridge attach {live.id}'), stop it ('pep-bridge stop {live.id}'), or use --queue."
        return failed(name, evidence, fix, ExitCode.BUSY)
    for location, lock in locks:
        if (found := _judge_lock(name, location, lock, now())) is not None:
            return found
        if lock.cool_down_until is not None and not lock.held:
            cool_down = max(filter(None, (cool_down, lock.cool_down_until)))
    if cool_down is not None and cool_down > now():
        evidence = f"a collection was stopped; the stamp cools down until {_show(cool_down)}"
        return failed(name, evidence, "Wait until then, or collect with --queue, which waits.", ExitCode.BUSY)
    return passed(name, "no collection of this tool runs or cools down")


def _judge_lock(name: str, location: str, lock: LockState, now: datetime) -> Check | None:
    if not lock.held:
        return None
    holder = f"run {lock.run_id} of {lock.owner}, by its lock in {location}"
    if lock.on_stamp_until is not None and lock.on_stamp_until > now:
        evidence = f"{holder}, until {_show(lock.on_stamp_until)} at the latest"
        fix = "Wait for it (--queue), attach to it there, or --break-lock when you know that nothing runs on the stamp."
        return failed(name, evidence, fix, ExitCode.BUSY)
    fix = "'collect' watches its heartbeat for a minute and takes the lock over where there is none."
    return warned(name, f"{holder}: it may be about to collect, or be dead", fix)


def _is_readable(file: Path) -> bool:
    try:
        with file.open("rb") as opened:
            return bool(opened.read(1))
    except OSError:
        return False


def _windows_zones() -> frozenset[str]:
    from tzlocal.windows_tz import win_tz

    return frozenset(win_tz)


def _show(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}"
