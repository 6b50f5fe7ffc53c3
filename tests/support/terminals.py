"""A real terminal (a pty) with the command line in its foreground, as a person has it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from tests.support.command_line import QUIET, ROOT, SOON

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass
class Terminal:
    """The person's side: what is on the screen, keys, and how the terminal is set."""

    master: int
    slave: int
    process: subprocess.Popen[bytes]
    _raw: bytearray = field(default_factory=bytearray)

    @property
    def text(self) -> str:
        """All that was ever shown, without the codes that move the cursor."""
        self._read(0)
        return _ESCAPES.sub("", self._raw.decode("utf-8", "replace"))

    def wait_for(self, *words: str, patience_s: float = 120.0) -> str:
        """Waits until all of the words have been shown."""
        deadline = time.monotonic() + patience_s
        while not all(word in self.text for word in words):
            if time.monotonic() > deadline or (self.process.poll() is not None and not self._read(0.5)):
                raise AssertionError(f"{words} never came: {self.text[-3000:]}")
            self._read(0.1)
        return self.text

    def type(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def wait(self) -> int:
        """The exit code, once the program has ended."""
        while self.process.poll() is None:
            self._read(0.1)
        self._read(0.1)
        return self.process.returncode

    @property
    def settings(self) -> list[object]:
        return termios.tcgetattr(self.slave)[:4]

    @property
    def takes_single_keys(self) -> bool:
        return not termios.tcgetattr(self.slave)[3] & (termios.ICANON | termios.ECHO)

    def close(self) -> None:
        """As when its window is closed, or its ssh connection is cut."""
        os.close(self.slave)
        os.close(self.master)

    def _read(self, patience_s: float) -> bool:
        got = False
        while select.select([self.master], [], [], patience_s)[0]:
            try:
                data = os.read(self.master, 65536)
            except OSError:
                return got
            self._raw += data
            got, patience_s = True, 0
        return got


@contextmanager
def terminal(*arguments: str, program: tuple[str, ...] = (), **environment: str) -> Iterator[Terminal]:
    """``pep-bridge`` with these arguments (or another program) in a terminal of 120 columns of its own."""
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (40, 120))

    def take_terminal() -> None:
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)

    process = subprocess.Popen(
        program or (sys.executable, "-m", "cli.main", *arguments),
        stdin=slave,
        stdout=slave,
        stderr=slave,
        cwd=ROOT,
        env=os.environ | QUIET | SOON | {"TERM": "xterm", "COLUMNS": "120"} | environment,
        start_new_session=True,
        preexec_fn=take_terminal,  # noqa: PLW1509 - a single call, made before anything else runs there
    )
    try:
        yield Terminal(master, slave, process)
    finally:
        if process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        with suppress(OSError):
            os.close(slave)
            os.close(master)
