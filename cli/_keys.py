"""Single keys while something runs in a terminal; the terminal is given back as it was, whatever happens."""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress

_LOOK_S = 0.2
_ELSEWHERE_S = 1.0
_FUNCTION_KEY = re.compile(r"\x1b(?:\[[0-9;]*.|O.|.)?")  # its letters mean nothing here


@contextmanager
def keys(actions: Mapping[str, Callable[[], None]]) -> Iterator[bool]:
    """Does what belongs to a key when it is pressed, on a thread of its own.

    Yields whether keys are read at all: not where stdin is no terminal, and not in the background.
    """
    if not sys.stdin.isatty() or not _is_ours():
        yield False
        return
    leaving = threading.Event()
    thread = threading.Thread(target=_read, args=(actions, leaving), name="keys", daemon=True)
    with _single_keys():
        thread.start()
        try:
            yield True
        finally:
            leaving.set()
            thread.join()


def _read(actions: Mapping[str, Callable[[], None]], leaving: threading.Event) -> None:
    while not leaving.is_set():
        typed = _typed(leaving)
        if typed is None:
            return
        for key in typed:
            if key in actions:
                actions[key]()


if sys.platform == "win32":
    import _thread
    import msvcrt

    def _is_ours() -> bool:
        return True

    @contextmanager
    def _single_keys() -> Iterator[None]:
        yield  # a console hands out single keys as it is

    def _typed(leaving: threading.Event) -> str | None:
        leaving.wait(_LOOK_S)
        typed = ""
        while msvcrt.kbhit():
            key = msvcrt.getwch()
            if key in {"\x00", "\xe0"}:
                msvcrt.getwch()  # the rest of an arrow or a function key
            elif key == "\x03":
                _thread.interrupt_main()
            else:
                typed += key
        return typed

else:
    import select
    import signal
    import termios
    from types import FrameType

    def _is_ours() -> bool:
        """Whether this process is in the foreground of its terminal: whoever reads from behind is stopped."""
        try:
            return os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
        except OSError:
            return False

    @contextmanager
    def _single_keys() -> Iterator[None]:
        """Keys come one by one and without an echo; signals (Ctrl-C, Ctrl-Z) stay what they are."""
        terminal = sys.stdin.fileno()
        before = termios.tcgetattr(terminal)
        single = termios.tcgetattr(terminal)
        single[3] &= ~(termios.ICANON | termios.ECHO)
        single[6][termios.VMIN], single[6][termios.VTIME] = 1, 0

        def use(attributes: list[int | list[bytes | int]]) -> None:
            with suppress(termios.error):  # the terminal has gone
                if _is_ours():
                    termios.tcsetattr(terminal, termios.TCSANOW, attributes)

        def on_suspend(number: int, _frame: FrameType | None) -> None:
            use(before)
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)  # stops here until the shell says go on
            signal.signal(number, on_suspend)
            use(single)

        handler = signal.getsignal(signal.SIGTSTP)
        if handler is signal.SIG_DFL:
            signal.signal(signal.SIGTSTP, on_suspend)
        use(single)
        try:
            yield
        finally:
            use(before)
            signal.signal(signal.SIGTSTP, handler)

    def _typed(leaving: threading.Event) -> str | None:
        """What was typed just now; ``None`` where the terminal has gone."""
        if not _is_ours():
            leaving.wait(_ELSEWHERE_S)
            return ""
        terminal = sys.stdin.fileno()
        try:
            if not select.select([terminal], [], [], _LOOK_S)[0]:
                return ""
            typed = os.read(terminal, 64).decode("utf-8", "replace")
        except OSError:
            return None
        return _FUNCTION_KEY.sub("", typed) if typed else None
