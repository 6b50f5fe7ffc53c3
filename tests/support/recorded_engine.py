"""A process that answers as the PowerShell of fixtures/real-powershell/stdio did, or fails in a way of its own.

Started as the program of a ``PowerShellEngine``: ``python -m tests.support.recorded_engine MODE -sshs ...``. It ends
with exit code 9 when a packet comes before the last one was acknowledged: that can hang a real PowerShell.
"""

from __future__ import annotations

import base64
import os
import re
import select
import sys
import time
import uuid
from pathlib import Path

RECORDING = Path(__file__).parents[2] / "fixtures" / "real-powershell" / "stdio" / "collect-ok.server.txt"
ROOT = Path(__file__).parents[2]
_LINE = re.compile(rb"<(\w+)[^>]*PSGuid='([0-9a-f-]{36})'[^>]*?(?:/>|>([^<]*)<)")
_POOL = b"00000000-0000-0000-0000-000000000000"


def program(folder: Path, mode: str) -> Path:
    """A file to start it by."""
    if os.name == "nt":
        file = folder / f"{mode}.cmd"
        file.write_text(f'@set PYTHONPATH={ROOT}\n@"{sys.executable}" -m {__name__} {mode} %*\n', encoding="utf-8")
        return file
    file = folder / mode
    file.write_text(
        f"#!/bin/sh\nPYTHONPATH='{ROOT}' exec '{sys.executable}' -m {__name__} {mode} \"$@\"\n", encoding="utf-8"
    )
    file.chmod(0o700)
    return file


class _Player:
    def __init__(self, mode: str) -> None:
        self._mode = mode
        self._lines = [line + b"\n" for line in RECORDING.read_bytes().splitlines() if line.strip()]
        self._ids: dict[bytes, bytes] = {}

    def play(self) -> int:
        while line := sys.stdin.buffer.readline():
            found = _LINE.search(line)
            assert found is not None, line
            kind, target, data = found[1], found[2], base64.b64decode(found[3] or b"")
            if self._mode == "hangs":
                time.sleep(600)
            if kind == b"Data" and target == _POOL and not self._ids:
                self._learn_pool(data[29:45])
            if kind == b"Command":
                self._learn_pipeline(target)
            if kind == b"Signal":
                self._say(line.replace(b"Signal ", b"SignalAck "))
                continue
            self._wait_for_nothing()
            self._say_until(kind + b"Ack", target)
            if kind == b"Data" and target != _POOL:
                if self._mode == "dies":
                    sys.stderr.write("out of memory, says the stand-in\n")
                    return 5
                self._say_while_data()
        return 160

    def _learn_pool(self, real: bytes) -> None:
        # Its first answer, SESSION_CAPABILITY, does not carry the pool's id yet; the second does.
        second = _LINE.search(self._lines[1])
        assert second is not None
        self._ids[base64.b64decode(second[3])[29:45]] = real

    def _learn_pipeline(self, target: bytes) -> None:
        recorded = next(found[2] for line in self._lines if (found := _LINE.search(line)) and found[2] != _POOL)
        self._ids[uuid.UUID(recorded.decode()).bytes_le] = uuid.UUID(target.decode()).bytes_le
        self._lines = [line.replace(recorded, target) for line in self._lines]

    def _say(self, line: bytes) -> None:
        found = _LINE.search(line)
        if found and found[3]:
            data = base64.b64decode(found[3])
            for recorded, real in self._ids.items():
                data = data.replace(recorded, real)
            line = line.replace(found[3], base64.b64encode(data))
        sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()

    def _say_until(self, kind: bytes, target: bytes) -> None:
        while self._lines:
            line = self._lines.pop(0)
            self._say(line)
            found = _LINE.search(line)
            if found and (found[1], found[2]) == (kind, target):
                return

    def _say_while_data(self) -> None:
        while self._lines and self._lines[0].startswith(b"<Data "):
            self._say(self._lines.pop(0))

    def _wait_for_nothing(self) -> None:
        if os.name != "nt" and select.select([sys.stdin], [], [], 0.1)[0]:
            sys.exit(9)


if __name__ == "__main__":
    if sys.argv[1] == "does-not-start":
        sys.stderr.write("the key 'Nonsense' is not valid, says the stand-in\n")
        sys.exit(3)
    sys.exit(_Player(sys.argv[1]).play())
