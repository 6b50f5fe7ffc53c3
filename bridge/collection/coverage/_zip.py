"""Looks into zips where they lie, by ranged reads and within limits; nothing is extracted, no claim is trusted.

Structures are those of PKWARE's APPNOTE 6.3.10: end of central directory (4.3.16), its zip64 forms (4.3.14, 4.3.15),
central directory header (4.3.12), local header (4.3.7).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from enum import StrEnum

from bridge.errors import StoreAccessError, UnsafePathError
from bridge.store import ReadableStore, check_path

MAX_DIRECTORY_BYTES = 64 << 20
MAX_MEMBERS = 200_000
MAX_RATIO = 1_000
"""Deflate reaches 1032 to 1 on zeros alone; logs reach 10 to 50."""
_MAX_NAMED = 5
MAX_NESTED = 10_000
"""Zips inside one zip that are looked at; a whole stamp leaves some hundreds (79 roles, pep-facts 1.9)."""
_MAX_FOLDERS = 64
_MAX_SAMPLES = 4
_SAMPLE_BYTES = 16 << 10
_DEFLATED_SAMPLE_BYTES = 48 << 10
_LOCAL_HEADER_BYTES = 4 << 10  # a local header with a name and extra fields of usual length
_TAIL_BYTES = 64 << 10  # what a share sends along with the opening of a file: one round trip
_INFLATED_SAMPLE_BYTES = 1 << 20
_CHUNK_BYTES = 256 << 10

_END = struct.Struct("<4s4H2LH")
_END64_LOCATOR = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_HEADER = struct.Struct("<4s4B4H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_STORED, _DEFLATED = 0, 8
_EVENT_LOG_ENDINGS = (".evtx", ".evt")
_TEXT_ENDINGS = (".log", ".txt", ".json", ".jsonl", ".csv", ".xml", ".out", ".html")


class ZipState(StrEnum):
    """``cut``: it ends before its directory, as a copy that was broken off does. ``unread``: it may not be read, or
    is packed in a way that cannot be looked into."""

    GOOD = "good"
    EMPTY = "empty"
    CUT = "cut"
    DAMAGED = "damaged"
    UNREAD = "unread"


@dataclass(frozen=True, slots=True)
class Member:
    """What a central directory says of one file."""

    name: str
    size_bytes: int
    stored_bytes: int
    method: int
    header_offset: int
    encrypted: bool

    @property
    def is_text(self) -> bool:
        return self.name.casefold().endswith(_TEXT_ENDINGS)

    @property
    def is_zip(self) -> bool:
        return self.name.casefold().endswith(".zip")

    @property
    def is_event_log(self) -> bool:
        """GUESS: where a Windows event log lies in a role's zip is not public; its ending is that of Windows."""
        folders, _, base = self.name.casefold().rpartition("/")
        return base.endswith(_EVENT_LOG_ENDINGS) or (bool(base) and "eventlog" in folders)

    @property
    def base_name(self) -> str:
        return self.name.rsplit("/", 1)[-1]


@dataclass(frozen=True, slots=True)
class Extent:
    """Where the bytes of a zip lie: a whole file of a store, or a part of one (a zip that is stored in a zip)."""

    store: ReadableStore
    path: str
    size_bytes: int
    offset: int = 0

    def read(self, offset: int, count: int) -> bytes:
        """Some bytes; fewer where it ends before."""
        return b"".join(self.chunks(offset, count))

    def chunks(self, offset: int, count: int) -> Generator[bytes, None, None]:
        """Some bytes, in pieces."""
        count = min(count, self.size_bytes - offset)
        if count <= 0:
            return
        buffer = bytearray(min(count, _CHUNK_BYTES))
        with memoryview(buffer) as view, self.store.open_read(self.path, self.offset + offset) as reader:
            while count > 0:
                read = reader.readinto(view[: min(count, len(buffer))])
                if read == 0:
                    return
                yield bytes(view[:read])
                count -= read


@dataclass(frozen=True, slots=True)
class Sample:
    """Some of a text member. ``has_end``: its end is among the pieces, so that its last time is known."""

    pieces: tuple[bytes, ...] = ()
    has_end: bool = False


@dataclass(slots=True)
class ZipLook:
    """What was seen of one zip.

    ``samples`` are text members worth reading for times, largest first; ``nested_count`` counts the zips inside,
    ``nested`` holds those that are looked at; ``folders`` are the outermost ones, ``None`` where there are many.
    """

    state: ZipState
    members: int = 0
    content_bytes: int = 0
    problems: list[str] = field(default_factory=list)
    nested: list[Member] = field(default_factory=list)
    nested_count: int = 0
    samples: list[Member] = field(default_factory=list)
    event_logs: int = 0
    folders: set[str] | None = field(default_factory=set)


class _ZipError(Exception):
    """The zip is not whole; the state says how."""

    def __init__(self, state: ZipState, detail: str) -> None:
        super().__init__(detail)
        self.state = state


@dataclass(frozen=True, slots=True)
class _Directory:
    """Where a central directory is. ``tail`` is the end of the file, which was read to find it, and starts at
    ``tail_offset``: a directory of usual size lies in it."""

    offset: int
    size_bytes: int
    members: int
    tail: bytes
    tail_offset: int


def look_into(zip_: Extent) -> ZipLook:
    """Reads the central directory of one zip; never raises for what the zip is, or because it may not be read.

    Raises:
        StoreError: it could not be read now (the line was cut). Nothing is known of it then, not even that it is whole.
    """
    try:
        look = _read_directory(zip_, _find_directory(zip_))
    except _ZipError as error:
        return ZipLook(error.state, problems=[str(error)])
    except StoreAccessError as error:
        return ZipLook(ZipState.UNREAD, problems=[str(error)])
    if look.content_bytes > max(zip_.size_bytes, 1) * MAX_RATIO:
        look.problems.append(
            f"it claims to hold {look.content_bytes} bytes in a file of {zip_.size_bytes}: do not unpack it unseen"
        )
    return look


def look_inside(outer: Extent, member: Member) -> tuple[ZipLook, Extent | None]:
    """Looks into a zip that lies in another one, and tells where; only one that is stored there can be looked into.

    Raises:
        StoreError: as of ``look_into``.
    """
    if member.method != _STORED or member.encrypted:
        how = "encrypted" if member.encrypted else "compressed"
        return ZipLook(ZipState.UNREAD, problems=[f"it is {how} inside its zip and was not looked into"]), None
    try:
        data_at = _data_at(outer.read(member.header_offset, _LOCAL.size))
    except StoreAccessError as error:
        return ZipLook(ZipState.UNREAD, problems=[str(error)]), None
    if data_at is None:
        return ZipLook(ZipState.DAMAGED, problems=["its local header is missing"]), None
    inner = Extent(outer.store, outer.path, member.stored_bytes, outer.offset + member.header_offset + data_at)
    return look_into(inner), inner


def read_sample(zip_: Extent, member: Member) -> Sample:
    """The beginning and, where it can be had cheaply, the end of a text member; never more than 1 MiB.

    Raises:
        StoreError: as of ``look_into``.
    """
    try:
        wanted = _SAMPLE_BYTES if member.method == _STORED else _DEFLATED_SAMPLE_BYTES
        head = zip_.read(member.header_offset, _LOCAL_HEADER_BYTES + min(member.stored_bytes, wanted))
        if (data_at := _data_at(head)) is None:
            return Sample()
        data = head[data_at : data_at + member.stored_bytes]
        if member.method == _DEFLATED:
            inflater = zlib.decompressobj(-zlib.MAX_WBITS)
            return Sample((inflater.decompress(data, _INFLATED_SAMPLE_BYTES),), inflater.eof)
        if len(data) == member.stored_bytes:
            return Sample((data,), has_end=True)
        end = member.header_offset + data_at + member.stored_bytes
        return Sample((data, zip_.read(end - _SAMPLE_BYTES, _SAMPLE_BYTES)), has_end=True)
    except (StoreAccessError, zlib.error):
        return Sample()  # a sample less; the zip's own state comes from its directory


def _data_at(local_header: bytes) -> int | None:
    if len(local_header) < _LOCAL.size or local_header[:4] != b"PK\x03\x04":
        return None
    *_, name_length, extra_length = _LOCAL.unpack_from(local_header)
    return _LOCAL.size + int(name_length) + int(extra_length)


def _find_directory(zip_: Extent) -> _Directory:
    size_bytes = zip_.size_bytes
    if size_bytes == 0:
        raise _ZipError(ZipState.CUT, "the file is empty")
    tail_offset = max(0, size_bytes - _TAIL_BYTES)  # the longest comment is 21 bytes longer: nobody writes one
    tail = zip_.read(tail_offset, size_bytes - tail_offset)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or at + _END.size > len(tail):
        if zip_.read(0, 4) == b"PK\x03\x04":
            raise _ZipError(ZipState.CUT, "it ends before its directory: the copy was broken off")
        raise _ZipError(ZipState.DAMAGED, "it is not a zip")
    _, _, _, _, members, directory_bytes, offset, _ = _END.unpack_from(tail, at)
    end = tail_offset + at
    if 0xFFFF in {members} or 0xFFFFFFFF in {directory_bytes, offset}:
        members, directory_bytes, offset = _read_end64(zip_, end)
    if offset + directory_bytes > end:
        raise _ZipError(ZipState.DAMAGED, "its directory does not lie within the file")
    return _Directory(offset, directory_bytes, members, tail, tail_offset)


def _read_end64(zip_: Extent, end: int) -> tuple[int, int, int]:
    locator = zip_.read(max(0, end - _END64_LOCATOR.size), _END64_LOCATOR.size)
    if len(locator) < _END64_LOCATOR.size or locator[:4] != b"PK\x06\x07":
        raise _ZipError(ZipState.DAMAGED, "its zip64 locator is missing")
    _, _, offset, _ = _END64_LOCATOR.unpack(locator)
    record = zip_.read(offset, _END64.size) if offset < end else b""
    if len(record) < _END64.size or record[:4] != b"PK\x06\x06":
        raise _ZipError(ZipState.DAMAGED, "its zip64 directory record is missing")
    *_, members, directory_bytes, directory_offset = _END64.unpack(record)
    return members, directory_bytes, directory_offset


def _read_directory(zip_: Extent, directory: _Directory) -> ZipLook:
    look = ZipLook(ZipState.GOOD)
    unsafe = stored_bytes = 0
    for member in _members(zip_, directory):
        if look.members >= MAX_MEMBERS:
            look.problems.append(f"more than {MAX_MEMBERS} members: the rest was not looked at")
            break
        look.members += 1
        look.content_bytes += member.size_bytes
        stored_bytes += member.stored_bytes
        if member.header_offset + _LOCAL.size + member.stored_bytes > directory.offset:
            raise _ZipError(ZipState.DAMAGED, f"a member does not lie within the file: {_shown(member.name)}")
        if not _is_safe(member.name):
            unsafe += 1
            if unsafe <= _MAX_NAMED:
                look.problems.append(f"unsafe name inside: {_shown(member.name)}")
        look.event_logs += member.is_event_log
        look.folders = _with_folder(look.folders, member.name)
        if member.is_zip:
            look.nested_count += 1
            if len(look.nested) < MAX_NESTED:
                look.nested.append(member)
        _keep_sample(look.samples, member)
    if look.members < min(directory.members, MAX_MEMBERS):
        look.problems.append(f"its end speaks of {directory.members} members, its directory has {look.members}")
    if look.nested_count > len(look.nested):
        look.problems.append(f"{look.nested_count} zips inside: only the first {len(look.nested)} were looked at")
    if unsafe > _MAX_NAMED:
        look.problems.append(f"{unsafe - _MAX_NAMED} more unsafe names inside")
    if stored_bytes > directory.offset:
        look.problems.append("its members overlap: do not unpack it unseen")
    if look.content_bytes == 0:
        look.state = ZipState.EMPTY
    return look


def _members(zip_: Extent, directory: _Directory) -> Iterator[Member]:
    """The headers of a directory, read front to back with one header in memory."""
    limit = min(directory.size_bytes, MAX_DIRECTORY_BYTES)
    pending = b""
    with closing(_directory_chunks(zip_, directory, limit)) as chunks:
        for chunk in chunks:
            pending += chunk
            start = 0
            while (header := _header(pending, start)) is not None:
                member, length = header
                start += length
                yield member
            pending = pending[start:]
    if pending and limit == directory.size_bytes:
        raise _ZipError(ZipState.DAMAGED, "its directory is not made of whole headers")


def _directory_chunks(zip_: Extent, directory: _Directory, limit: int) -> Generator[bytes, None, None]:
    if directory.offset < directory.tail_offset:
        yield from zip_.chunks(directory.offset, limit)
    else:
        yield directory.tail[directory.offset - directory.tail_offset :][:limit]


def _header(data: bytes, start: int) -> tuple[Member, int] | None:
    """One header and its length; ``None`` where the data ends before it does."""
    if len(data) - start < _HEADER.size:
        return None
    fields = _HEADER.unpack_from(data, start)
    if fields[0] != b"PK\x01\x02":
        raise _ZipError(ZipState.DAMAGED, "its directory holds something else than headers")
    flags, method = fields[5], fields[6]
    stored_bytes, size_bytes, name_length, extra_length, comment_length = fields[10:15]
    length = _HEADER.size + name_length + extra_length + comment_length
    if len(data) - start < length:
        return None
    name = data[start + _HEADER.size :][:name_length]
    extra = data[start + _HEADER.size + name_length :][:extra_length]
    size_bytes, stored_bytes, offset = _zip64_values(extra, (size_bytes, stored_bytes, fields[18]))
    text = name.decode("utf-8" if flags & 0x800 else "cp437", "backslashreplace").replace("\\", "/")
    return Member(text, size_bytes, stored_bytes, method, offset, bool(flags & 1)), length


def _zip64_values(extra: bytes, values: tuple[int, int, int]) -> tuple[int, int, int]:
    """Sizes and offset, each from the zip64 extra field (APPNOTE 4.5.3) where the header has all ones."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        if kind == 1:
            numbers = iter(struct.unpack_from(f"<{min(length, len(extra) - at - 4) // 8}Q", extra, at + 4))
            size, stored, offset = (next(numbers, value) if value == 0xFFFFFFFF else value for value in values)
            return size, stored, offset
        at += 4 + length
    return values


def _keep_sample(samples: list[Member], member: Member) -> None:
    if member.is_text and member.size_bytes and not member.encrypted and member.method in {_STORED, _DEFLATED}:
        samples.append(member)
        samples.sort(key=lambda sample: -sample.size_bytes)
        del samples[_MAX_SAMPLES:]


def _with_folder(folders: set[str] | None, name: str) -> set[str] | None:
    if folders is not None:
        folders.add(name.split("/", 1)[0] if "/" in name else "")
    return folders if folders is None or len(folders) <= _MAX_FOLDERS else None


def _is_safe(name: str) -> bool:
    try:
        check_path(name.rstrip("/"), "zip")
    except UnsafePathError:
        return False
    return True


def _shown(name: str) -> str:
    return ascii(name[:120])[1:-1]
