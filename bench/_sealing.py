"""Sealing: SHA-256 of every file of a folder on a local disk."""

from __future__ import annotations

import sys
from pathlib import Path

from bench._measure import Contender, interleave, table
from bench._workloads import large_files


def run(base: Path, programs: Path, scale: float, runs: int) -> str:
    """The table of sealing."""
    work = large_files(base / "seal", scale)
    python = sys.executable
    contenders = [
        Contender("pep-bridge hash_files", [python, "-m", "bench._ours", "hash", work.folder]),
        Contender("C, two threads, OpenSSL (floor)", [programs / "floor", "hash", work.folder]),
        Contender("bagit-python, two processes", [python, "-m", "bench._bagit", work.folder]),
        Contender(
            "sha256sum", ["sh", "-c", 'find "$0" -type f -print0 | xargs -0 sha256sum >/dev/null', str(work.folder)]
        ),
        Contender("C, reading only", [programs / "floor", "read", work.folder]),
    ]
    interleave(contenders, runs, programs, base / "log")
    return table("Sealing on a local disk", contenders, work.size_bytes, base=contenders[1].name, files=work.files)
