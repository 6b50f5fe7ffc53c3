"""Ctrl-C and its kin: what each asks of a run, of a script, of a watch, and of what merely runs until told to stop.

A handler runs in the middle of whatever its thread does, which may hold any lock (Rich's, the buffer's of stderr, an
event's). So no handler here waits for one: it sets plain values, and its words are said by a thread.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bridge.collection import Control
    from bridge.scripting import Control as ScriptControl

LEAVING = "leaving the collection running; press Ctrl-C again within three seconds to stop it on the endpoint"
LEAVING_EARLY = "leaving; nothing was started"
LEAVING_THE_BUNDLE = "leaving; nothing runs at the endpoint any more, and 'pep-bridge attach' finishes the bundle"
STOPPING = "stopping the collection on the endpoint; what arrived is kept"
STOPPING_THE_SEALING = "nothing runs at the endpoint any more; the bundle is finished now"
STOPPING_THE_DELIVERY = "giving the delivery up; what is staged is kept, and 'pep-bridge deliver' sends it later"
STOPPING_SCRIPT = "stopping the script on the endpoint; press Ctrl-C again to leave at once (it may then go on there)"


@contextmanager
def interrupts(
    control: Control,
    say: Callable[[str], None],
    *,
    leaving: Callable[[], str] = lambda: LEAVING,
    stopping: Callable[[], str] = lambda: STOPPING,
    read_again: Callable[[], None] = lambda: None,
) -> Iterator[None]:
    """Turns SIGINT into detach, then stop; SIGTERM and a closed terminal (SIGHUP; SIGBREAK on Windows) into detach.

    ``leaving`` says what the first one does at that moment, ``stopping`` what each further one does. Where the work
    may be broken off (``Control.breakable``) each of them does so, with a KeyboardInterrupt, after it was answered.

    SIGHUP without a terminal that could have closed (under a service manager, after nohup, or sent by hand) calls
    ``read_again`` instead: services read their configuration again then.
    """
    pressed = 0

    def on_interrupt() -> None:
        nonlocal pressed
        pressed += 1
        if pressed == 1:
            control.detach()
        else:
            control.stop()
        answer(leaving() if pressed == 1 else stopping())
        break_off()

    def leave() -> None:
        control.detach()
        break_off()

    def break_off() -> None:
        if control.may_break:
            raise KeyboardInterrupt

    has_terminal = _terminal_is_there() and not _hangup_is_ignored()

    def on_hangup() -> None:
        if has_terminal and not _terminal_is_there():
            leave()
        else:
            read_again()

    with (
        _answering(say) as answer,
        _handling({"SIGINT": on_interrupt, "SIGTERM": leave, "SIGHUP": on_hangup, "SIGBREAK": leave}),
    ):
        yield


@contextmanager
def script_interrupts(control: ScriptControl, say: Callable[[str], None]) -> Iterator[None]:
    """The first Ctrl-C stops the script on the endpoint and waits for its end; the second leaves at once."""
    pressed = 0

    def on_signal() -> None:
        nonlocal pressed
        pressed += 1
        if pressed > 1 or not control.stop():
            raise KeyboardInterrupt
        answer(STOPPING_SCRIPT)

    with _answering(say) as answer, _handling(dict.fromkeys(_ends(), on_signal)):
        yield


class Leaving:
    """Whether to leave. ``threading.Event`` is no such thing: it is set under a lock, for which a handler that came
    while its own thread held it would wait for ever."""

    def __init__(self) -> None:
        self._is_set = False
        self._woken: SimpleQueue[None] = SimpleQueue()  # whose put may interrupt any other use of it

    def set(self) -> None:
        self._is_set = True
        self._woken.put(None)

    def is_set(self) -> bool:
        return self._is_set

    def wait(self, seconds: float) -> bool:
        """Pauses; true as soon as it is time to leave."""
        if not self._is_set:
            with suppress(Empty):
                self._woken.get(timeout=max(seconds, 0.0))
        return self._is_set


@contextmanager
def until_told_to_leave(leave: Callable[[], None] = lambda: None) -> Iterator[Leaving]:
    """What Ctrl-C, SIGTERM, a closed terminal and (on Windows) Ctrl-Break set; ``leave`` must wait for no lock."""
    leaving = Leaving()

    def on_signal() -> None:
        leaving.set()
        leave()

    with _handling(dict.fromkeys(_ends(), on_signal)):
        yield leaving


def wait(leaving: Leaving, seconds: float) -> bool:
    """In small pieces: Windows delivers Ctrl-C only between them."""
    left_s = seconds
    while left_s > 0 and not leaving.wait(min(left_s, 0.5)):
        left_s -= 0.5
    return leaving.is_set()


@contextmanager
def _handling(actions: Mapping[str, Callable[[], None]]) -> Iterator[None]:
    """Does these where this system has such signals; afterwards all is as it was."""

    numbers = {getattr(signal, name): action for name, action in actions.items() if hasattr(signal, name)}
    hangup = getattr(signal, "SIGHUP", None)
    shown_on = [number for number in (1, 2) if os.isatty(number)]

    def on_signal(number: int, _frame: FrameType | None) -> None:
        if number == hangup and not _terminal_is_there():
            _let_go_of(shown_on)
        numbers[number]()

    before = {number: signal.signal(number, on_signal) for number in numbers}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


@contextmanager
def _answering(say: Callable[[str], None]) -> Iterator[Callable[[str], None]]:
    """What a handler calls with its words; a thread says them, all of them before the end of the block."""
    words: SimpleQueue[str | None] = SimpleQueue()

    def answer() -> None:
        while (text := words.get()) is not None:
            say(text)

    thread = threading.Thread(target=answer, name="answers to signals", daemon=True)
    thread.start()
    try:
        yield words.put
    finally:
        words.put(None)
        thread.join()


def _let_go_of(descriptors: Iterable[int]) -> None:
    """Nobody sees any more what is shown there; writing it all the same would end the work with an error."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in descriptors:
        os.dup2(nowhere, descriptor)
    os.close(nowhere)


def _ends() -> tuple[str, ...]:
    """What ends a program from outside; SIGBREAK is Ctrl-Break on Windows, which has no SIGHUP."""
    return ("SIGINT", "SIGTERM", "SIGBREAK", *(() if _hangup_is_ignored() else ("SIGHUP",)))


def _terminal_is_there() -> bool:
    """Whether this process has a terminal: one that was closed cannot be opened any more."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY))
    except OSError:
        return False
    return True


def _hangup_is_ignored() -> bool:
    """nohup was asked for."""
    number = getattr(signal, "SIGHUP", None)
    return number is not None and signal.getsignal(number) is signal.SIG_IGN
