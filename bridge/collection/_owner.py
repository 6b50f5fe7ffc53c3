"""One process drives a run: a lock of the operating system on the run's folder, gone with the process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from bridge.errors import RunDrivenError

_LOOKED_AT_S = 1.0
"""For so long at most somebody who only looks whether the run is driven (``is_driven``) holds the lock."""


@contextmanager
def drive(run_dir: Path, run_id: str) -> Iterator[None]:
    """Makes this process the one that drives the run.

    Raises:
        RunDrivenError: another process does.
    """
    run_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = _lock(run_dir)
    try:
        lock.acquire(timeout=_LOOKED_AT_S, poll_interval=0.02)
    except Timeout:
        raise RunDrivenError(run=run_id, owner=_read_owner(run_dir)) from None
    try:
        (run_dir / "owner").write_text(f"process {os.getpid()}", encoding="utf-8")
        yield
    finally:
        lock.release()


def is_driven(run_dir: Path) -> bool:
    """Whether a process drives the run now."""
    if not run_dir.is_dir():
        return False
    lock = _lock(run_dir)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False


def _lock(run_dir: Path) -> FileLock:
    return FileLock(run_dir / "owner.lock", thread_local=False)


def _read_owner(run_dir: Path) -> str:
    try:
        return (run_dir / "owner").read_text(encoding="utf-8")
    except OSError:
        return "unknown"
