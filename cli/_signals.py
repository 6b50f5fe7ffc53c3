"""Ctrl-C and its kin: of a run the first leaves it running and the second stops it; a watch is told to leave."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from bridge.collection import Control

LEAVING = "leaving the collection running; press Ctrl-C again to stop it on the endpoint"
STOPPING = "stopping the collection on the endpoint; what arrived is kept"


@contextmanager
def interrupts(
    control: Control, say: Callable[[str], None], *, leaving: str = LEAVING, stopping: str = STOPPING
) -> Iterator[None]:
    """Turns SIGINT into detach, then stop; SIGTERM and a closed terminal (SIGHUP; SIGBREAK on Windows) into detach."""
    pressed = 0

    def on_interrupt(_number: int, _frame: FrameType | None) -> None:
        nonlocal pressed
        pressed += 1
        if pressed == 1:
            say(leaving)
            control.detach()
        else:
            say(stopping)
            control.stop()

    def on_leave(_number: int, _frame: FrameType | None) -> None:
        control.detach()

    handlers = {signal.SIGINT: on_interrupt, signal.SIGTERM: on_leave}
    for name in ("SIGHUP", "SIGBREAK"):
        number = getattr(signal, name, None)
        if number is not None:
            handlers[number] = on_leave
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def until_told_to_leave(leave: Callable[[], None]) -> Iterator[threading.Event]:
    """An event that Ctrl-C, SIGTERM, a closed terminal and (on Windows) Ctrl-Break set."""
    leaving = threading.Event()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        leaving.set()
        leave()

    names = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    before = {number: signal.signal(number, on_signal) for number in numbers}
    try:
        yield leaving
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def wait(leaving: threading.Event, seconds: float) -> bool:
    """In small pieces: Windows delivers Ctrl-C only between them."""
    left_s = seconds
    while left_s > 0 and not leaving.wait(min(left_s, 0.5)):
        left_s -= 0.5
    return leaving.is_set()
