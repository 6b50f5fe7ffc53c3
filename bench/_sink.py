"""Builds the C programs of the benchmark, and runs the sink."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_HERE = Path(__file__).parent


def build(folder: Path) -> Path:
    """Compiles ``sink``, ``floor`` and ``measure`` into a folder; needs gcc and libssl-dev."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, libraries in (("sink", ["-lpthread"]), ("floor", ["-lcrypto", "-lpthread"]), ("measure", [])):
        subprocess.run(["gcc", "-O2", "-o", folder / name, _HERE / f"{name}.c", *libraries], check=True)
    return folder


@contextmanager
def running_sink(program: Path, folder: Path) -> Iterator[int]:
    """The sink on a free loopback port."""
    port_file = folder / "port"
    port_file.unlink(missing_ok=True)
    process = subprocess.Popen([program, port_file], stdout=subprocess.DEVNULL)
    try:
        while not port_file.exists():
            if process.poll() is not None:
                raise RuntimeError(f"the sink ended with {process.returncode}")
            time.sleep(0.02)
        yield int(port_file.read_text())
    finally:
        process.terminate()
        process.wait()
