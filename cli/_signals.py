"""Ctrl-C while a run goes on: the first leaves it running, the second stops it."""

from __future__ import annotations

import signal
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
