"""Starting a server for the tests and being sure that it is gone afterwards."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from pathlib import Path

import psutil


def free_port() -> int:
    """A TCP port of the loopback interface that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int, process: subprocess.Popen[bytes], log: Path, timeout_s: float = 60) -> None:
    """Returns once this process listens on the port.

    Raises:
        RuntimeError: it ended, or does not accept in time; with the end of its log.
    """
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"it ended with {process.returncode}: {_tail(log)}")
        # Asked of the process itself: somebody else's server may have taken the port meanwhile.
        with contextlib.suppress(psutil.NoSuchProcess):
            listening = psutil.Process(process.pid).net_connections("tcp4")
            if any(line.laddr.port == port and line.status == psutil.CONN_LISTEN for line in listening):
                return
        time.sleep(0.05)
    raise RuntimeError(f"it does not accept connections on port {port}: {_tail(log)}")


def end(process: subprocess.Popen[bytes], timeout_s: float = 10) -> None:
    """Terminates the process, kills it where that is not enough, and reaps it."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-2000:] if log.exists() else "no log"
