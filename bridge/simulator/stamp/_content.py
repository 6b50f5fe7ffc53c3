"""Log-like bytes with times in a window, quick and streamed: text, JSON, event XML, EVTX-like and ETL-like binary.

Everything follows from a seed. Text is made of templates whose times (of one width) are filled in by segment; binary
pages get FILETIMEs at fixed offsets. That makes it fast: the words are formatted once, the rest is copying.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache

CHUNK_BYTES = 256 * 1024
"""About what one generated chunk holds: what a consumer must be able to hold."""

_TIME = b"@@@@-@@-@@T@@:@@:@@"
_ROLE = b"@ROLE@"
_MACHINE = b"@MACHINE@"
_TEMPLATES = 16
_LINES_OF_A_SMALL_SEGMENT = 3
_LINES_OF_A_LARGE_SEGMENT = 56
_SMALL_FILE_BYTES = 128 * 1024
_PAGE_BYTES = 64 * 1024
_EVENTS_A_PAGE = 16
_FILETIME_EPOCH = datetime(1601, 1, 1, tzinfo=UTC)

_COMPONENTS = (
    "ActionPlan",
    "HealthAgent",
    "Replica",
    "Listener",
    "Scheduler",
    "CertRotation",
    "BlockStore",
    "Telemetry",
)
_LEVELS = ("Info", "Info", "Info", "Info", "Verbose", "Verbose", "Warning", "Error")
_MESSAGES = (
    "Heartbeat received from peer, lag {a} ms",
    "Step {b} of action plan finished with status Success after {a} ms",
    "Retrying operation {b}: the remote end closed the connection (attempt {c} of 5)",
    "Replica {b} changed role to ActiveSecondary, epoch {c}",
    "Loaded {a} settings from cluster manifest version 1.0.{c}",
    "Request {b} completed with 200 in {a} ms",
    "Queue length {c}, oldest item {a} s",
    "Certificate thumbprint check passed for {c} endpoints",
)


@dataclass(frozen=True, slots=True)
class Span:
    """From when to when a log runs; both aware, ``start`` before ``end``."""

    start: datetime
    end: datetime

    @property
    def is_empty(self) -> bool:
        return self.end <= self.start

    def instants(self, count: int) -> Iterator[datetime]:
        """``count`` whole seconds (UTC) in rising order, the first at the start and the last just before the end."""
        first = self.start.astimezone(UTC)
        if first.microsecond:
            first = first.replace(microsecond=0) + timedelta(seconds=1)
        seconds = max(0.0, (self.end - first).total_seconds() - 1.0)
        step = seconds / max(1, count - 1)
        for number in range(count):
            yield first + timedelta(seconds=int(number * step))


@dataclass(frozen=True, slots=True)
class Source:
    """Whose log it is: ``key`` tells two files of one role and machine apart."""

    seed: int
    role: str
    machine: str
    key: str = ""

    @property
    def random(self) -> random.Random:
        return random.Random(f"{self.seed}/{self.role}/{self.machine}/{self.key}")  # noqa: S311  content, no secret


ContentKind = Callable[[Source, Span, int], Iterator[bytes]]
"""Makes exactly so many bytes, in chunks of about ``CHUNK_BYTES``."""


def text_log(source: Source, span: Span, size_bytes: int) -> Iterator[bytes]:
    """Lines ``<time>Z [level] [component] [machine] message``."""
    return _text(_log_templates, source, span, size_bytes)


def json_log(source: Source, span: Span, size_bytes: int) -> Iterator[bytes]:
    """JSON objects, one a line."""
    return _text(_json_templates, source, span, size_bytes)


def event_xml(source: Source, span: Span, size_bytes: int) -> Iterator[bytes]:
    """Windows events as XML, one ``<Event>`` a line (Event Schema, winmeta)."""
    return _text(_event_templates, source, span, size_bytes)


def etl(source: Source, span: Span, size_bytes: int) -> Iterator[bytes]:
    """Trace buffers with FILETIMEs. GUESS: only the look of WMI_BUFFER_HEADER, no tool can decode it."""
    return _binary(_etl_page, source, span, size_bytes)


def evtx(source: Source, span: Span, size_bytes: int) -> Iterator[bytes]:
    """``ElfFile`` and ``ElfChnk`` signatures and records with FILETIMEs. GUESS: no tool can decode it."""
    header = (b"ElfFile\x00" + struct.pack("<QQQIHHHH", 0, 1, 2, 128, 1, 3, 4096, 1)).ljust(4096, b"\x00")
    yield header[:size_bytes]
    if size_bytes > len(header):
        yield from _binary(_evtx_page, source, span, size_bytes - len(header))


def dump(source: Source, span: Span, size_bytes: int) -> Iterator[bytes]:
    """A crash dump's signature, then pages as of a trace."""
    yield b"PAGEDU64"[:size_bytes]
    if size_bytes > 8:
        yield from _binary(_etl_page, source, span, size_bytes - 8)


# -- text ------------------------------------------------------------------------------------------------------------


def _text(
    make: Callable[[int, int], tuple[bytes, ...]], source: Source, span: Span, size_bytes: int
) -> Iterator[bytes]:
    lines = _LINES_OF_A_SMALL_SEGMENT if size_bytes <= _SMALL_FILE_BYTES else _LINES_OF_A_LARGE_SEGMENT
    segments = _of_source(make, source.seed, lines, source.role.encode(), source.machine.encode())
    average = sum(map(len, segments)) / len(segments)
    chance = source.random
    chunk: list[bytes] = []
    held = left = 0
    left = size_bytes
    for instant in span.instants(max(1, int(size_bytes / average) + 1)):
        if left <= held:
            break
        segment = chance.choice(segments).replace(_TIME, instant.strftime("%Y-%m-%dT%H:%M:%S").encode())
        chunk.append(segment)
        held += len(segment)
        if held >= CHUNK_BYTES:
            yield b"".join(chunk)[:left]
            left -= min(left, held)
            chunk, held = [], 0
    if left:
        yield b"".join(chunk)[:left].ljust(left, b"\n")


@lru_cache(maxsize=64)
def _of_source(
    make: Callable[[int, int], tuple[bytes, ...]], seed: int, lines: int, role: bytes, machine: bytes
) -> tuple[bytes, ...]:
    return tuple(part.replace(_ROLE, role).replace(_MACHINE, machine) for part in make(seed, lines))


def _segments(line: Callable[[random.Random, int], bytes], seed: int, lines: int) -> tuple[bytes, ...]:
    chance = random.Random(f"{seed}/{line.__name__}/{lines}")  # noqa: S311
    step = 9_999_999 // lines
    return tuple(
        b"".join(line(chance, number * step + chance.randrange(step)) for number in range(lines))
        for _ in range(_TEMPLATES)
    )


def _words(chance: random.Random) -> str:
    return chance.choice(_MESSAGES).format(
        a=chance.randrange(1, 5000), b=f"{chance.getrandbits(32):08x}", c=chance.randrange(1, 99)
    )


def _log_line(chance: random.Random, ticks: int) -> bytes:
    level, component = chance.choice(_LEVELS), chance.choice(_COMPONENTS)
    head = f".{ticks:07}Z [{level}] [{component}] [".encode()
    tail = f"] pid={chance.randrange(400, 9999)} activity={chance.getrandbits(64):016x} {_words(chance)}\r\n".encode()
    return _TIME + head + _MACHINE + b"/" + _ROLE + tail


def _json_line(chance: random.Random, ticks: int) -> bytes:
    head = f'.{ticks:07}Z","level":"{chance.choice(_LEVELS)}","component":"{chance.choice(_COMPONENTS)}","machine":"'
    tail = f'","activityId":"{chance.getrandbits(64):016x}","message":"{_words(chance)}"}}\r\n'
    return b'{"time":"' + _TIME + head.encode() + _MACHINE + b'","role":"' + _ROLE + tail.encode()


def _event_line(chance: random.Random, ticks: int) -> bytes:
    head = (
        "<Event xmlns='http://schemas.microsoft.com/win/2004/08/events/event'><System>"
        f"<Provider Name='Simulated-{chance.choice(_COMPONENTS)}'/><EventID>{chance.randrange(1, 9000)}</EventID>"
        f"<Level>{chance.randrange(2, 6)}</Level><TimeCreated SystemTime='"
    ).encode()
    middle = f".{ticks:07}Z'/><EventRecordID>{chance.getrandbits(24)}</EventRecordID><Computer>".encode()
    tail = (
        f"</Computer></System><EventData><Data Name='Message'>{_words(chance)}</Data></EventData></Event>\r\n".encode()
    )
    return head + _TIME + middle + _MACHINE + tail


@lru_cache(maxsize=8)
def _log_templates(seed: int, lines: int) -> tuple[bytes, ...]:
    return _segments(_log_line, seed, lines)


@lru_cache(maxsize=8)
def _json_templates(seed: int, lines: int) -> tuple[bytes, ...]:
    return _segments(_json_line, seed, lines)


@lru_cache(maxsize=8)
def _event_templates(seed: int, lines: int) -> tuple[bytes, ...]:
    return _segments(_event_line, seed, lines)


# -- binary ----------------------------------------------------------------------------------------------------------


def _binary(make: Callable[[int, int], bytes], source: Source, span: Span, size_bytes: int) -> Iterator[bytes]:
    chance = source.random
    stride = _PAGE_BYTES // _EVENTS_A_PAGE
    pages = -(-size_bytes // _PAGE_BYTES)
    events = -(-size_bytes // stride)
    instants = span.instants(max(1, events))
    left = size_bytes
    for _ in range(pages):
        page = bytearray(make(source.seed, chance.randrange(_TEMPLATES)))
        for offset, instant in zip(range(16, min(left, _PAGE_BYTES), stride), instants, strict=False):
            struct.pack_into("<Q", page, offset, filetime(instant))
        yield bytes(page[:left]) if left < _PAGE_BYTES else bytes(page)
        left -= min(left, _PAGE_BYTES)


def filetime(instant: datetime) -> int:
    """100 ns since 1601 (MS-DTYP 2.3.3)."""
    since = instant - _FILETIME_EPOCH
    return (since.days * 86_400 + since.seconds) * 10_000_000 + since.microseconds * 10


@lru_cache(maxsize=_TEMPLATES * 2)
def _etl_page(seed: int, number: int) -> bytes:
    page = bytearray(random.Random(f"{seed}/etl/{number}").randbytes(_PAGE_BYTES))  # noqa: S311
    struct.pack_into("<IIII", page, 0, _PAGE_BYTES, _PAGE_BYTES, _PAGE_BYTES, 0)
    return bytes(page)


@lru_cache(maxsize=_TEMPLATES * 2)
def _evtx_page(seed: int, number: int) -> bytes:
    page = bytearray(random.Random(f"{seed}/evtx/{number}").randbytes(_PAGE_BYTES))  # noqa: S311
    stride = _PAGE_BYTES // _EVENTS_A_PAGE
    for record, offset in enumerate(range(0, _PAGE_BYTES, stride), start=1):
        struct.pack_into("<IIQ", page, offset, 0x00002A2A, stride, record)
    page[:8] = b"ElfChnk\x00"
    return bytes(page)
