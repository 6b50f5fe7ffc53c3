"""The lines of a BagIt manifest: writing them, and reading those of a bundle that may be hostile.

RFC 8493 section 2.1.3: a checksum in hex, white space, a path; CR, LF and ``%`` of a path (and only those) are
percent-encoded. A line ends with LF, CR or CRLF. Written lines also suit ``sha256sum -c``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from bridge.errors import UnsafePathError
from bridge.store import check_path

MAX_LINE_BYTES = 8192
"""A digest, two blanks and the longest path that ``check_path`` allows have less than half of this."""
MAX_MANIFEST_BYTES = 1 << 30
"""Some ten million files; what is longer is not read to its end."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_LINE = re.compile(rb"([0-9A-Fa-f]{64})[ \t]+\*?([^ \t].*)", re.DOTALL)
_SIZE_LINE = re.compile(rb"(0|[1-9][0-9]{0,17})[ \t]+([^ \t].*)", re.DOTALL)
_ENCODED = re.compile(r"%(0[AaDd]|25)")
_TO_ENCODE = re.compile(r"[%\r\n]")


@dataclass(frozen=True, slots=True)
class ManifestEntry:
    """One good line: ``value`` is the checksum in lower-case hex, or the size in octets of a size list."""

    line: int
    path: str
    value: str


@dataclass(frozen=True, slots=True)
class ManifestProblem:
    """One line that cannot be used, and why. ``unsafe`` is the path of a line whose only fault is its path."""

    line: int
    detail: str
    unsafe: str | None = None


def encode_path(path: str) -> str:
    """A path as a manifest has it (RFC 8493 section 2.1.3)."""
    return _TO_ENCODE.sub(lambda match: f"%{ord(match.group()):02X}", path)


def decode_path(text: str) -> str:
    """The path that a manifest means; a ``%`` that starts none of the three codes stands for itself."""
    return _ENCODED.sub(lambda match: chr(int(match.group(1), 16)), text)


def format_line(value: str, path: str) -> bytes:
    return f"{value}  {encode_path(path)}\n".encode()


def parse_manifest(chunks: Iterable[bytes]) -> Iterator[ManifestEntry | ManifestProblem]:
    """Each line of a manifest, good or bad, in order; memory does not grow with the manifest."""
    return _parse(chunks, _LINE, "64 hex digits, blanks and a path")


def parse_sizes(chunks: Iterable[bytes]) -> Iterator[ManifestEntry | ManifestProblem]:
    """Each line of a list of sizes: a count of octets, blanks and a path."""
    return _parse(chunks, _SIZE_LINE, "a count of octets, blanks and a path")


def _parse(
    chunks: Iterable[bytes], form: re.Pattern[bytes], form_in_words: str
) -> Iterator[ManifestEntry | ManifestProblem]:
    for number, line in enumerate(_split_lines(chunks), start=1):
        if line is None:
            yield ManifestProblem(number, f"the line is longer than {MAX_LINE_BYTES} bytes")
            continue
        if number == 1 and line.startswith(_BYTE_ORDER_MARK):
            yield ManifestProblem(number, "the file starts with a byte order mark")
            line = line.removeprefix(_BYTE_ORDER_MARK)  # noqa: PLW2901 - the rest of the line is still of use
        yield _parse_line(number, line, form, form_in_words)


def _parse_line(
    number: int, line: bytes, form: re.Pattern[bytes], form_in_words: str
) -> ManifestEntry | ManifestProblem:
    match = form.fullmatch(line)
    if match is None:
        return ManifestProblem(number, f"it is not {form_in_words}: {ascii(line[:80])[2:-1]}")
    try:
        path = decode_path(match.group(2).decode("utf-8"))
    except UnicodeDecodeError:
        return ManifestProblem(number, f"the path is not UTF-8: {ascii(match.group(2)[:80])[2:-1]}")
    try:
        check_path(path, "manifest")
    except UnsafePathError as error:
        return ManifestProblem(number, str(error.fields["detail"]), unsafe=ascii(path[:200])[1:-1])
    return ManifestEntry(number, path, match.group(1).decode().lower())


def _split_lines(chunks: Iterable[bytes]) -> Iterator[bytes | None]:
    """Lines without their ends; ``None`` for one that is too long, which is passed over without being kept."""
    pending = b""
    too_long = False
    for chunk in chunks:
        *lines, pending = _whole_lines(pending + chunk)
        for line in lines:
            yield None if too_long or len(line) > MAX_LINE_BYTES else line.rstrip(b"\r\n")
            too_long = False
        if len(pending) > MAX_LINE_BYTES:
            too_long = True
            pending = pending[-1:]  # a CR here may be half of a CRLF
    if pending or too_long:
        yield None if too_long or len(pending) > MAX_LINE_BYTES else pending.rstrip(b"\r\n")


def _whole_lines(data: bytes) -> list[bytes]:
    """The whole lines of some bytes and, last, what has no end yet."""
    lines = data.splitlines(keepends=True)
    if not lines or lines[-1].endswith(b"\n"):
        lines.append(b"")
    return lines
