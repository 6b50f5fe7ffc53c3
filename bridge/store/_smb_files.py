"""Files of a share, as requests and answers of MS-SMB2: open, read, write, list, rename, delete."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from smbprotocol.connection import Commands

from bridge.store._smb_channel import Channel, ChannelLostError, Reply
from bridge.store._smb_errors import NO_MORE_FILES, SUCCESS
from bridge.store._sorted_names import Listed

# Access masks (2.2.13.1), dispositions and options (2.2.13)
READ_ATTRIBUTES: Final = 0x00100080
READ_DATA: Final = 0x00120089
LIST: Final = 0x00100081
WRITE_DATA: Final = 0x00130197  # read, write, append, attributes, DELETE (a rename needs it)
DELETE: Final = 0x00110080
OPEN: Final = 1
CREATE: Final = 2
OPEN_IF: Final = 3
FILE_ONLY: Final = 0x40
FOLDER_ONLY: Final = 0x01
SHARE_READ: Final = 1
SHARE_READ_DELETE: Final = 5
SHARE_ALL: Final = 7

IS_FOLDER: Final = 0x10
_IS_REPARSE_POINT = 0x400
_LINK_TAGS = {0xA000000C, 0xA0000003}  # IO_REPARSE_TAG_SYMLINK, IO_REPARSE_TAG_MOUNT_POINT (MS-FSCC 2.1.2.1)
_FILE_OF_THE_CHAIN = b"\xff" * 16
_CREATE = struct.Struct("<HBBIQQIIIIIHHII")
# Times and sizes are signed (MS-FSCC 2.4.17).
_CREATED = struct.Struct("<HBBIqqqqqqII16s")
_CLOSED = struct.Struct("<HHIqqqqqqI")
_LISTED = struct.Struct("<IIqqqqqqIII")
_LISTING_BYTES = 256 * 1024


class StatusError(Exception):
    """The server answered with this status."""

    def __init__(self, status: int) -> None:
        super().__init__(f"0x{status:08X}")
        self.status = status


@dataclass(frozen=True, slots=True)
class FileStatus:
    """What the server says of an open file."""

    file_id: bytes
    size_bytes: int
    written_at: int
    """In units of 100 ns since 1601 (FILETIME)."""
    attributes: int


def open_file(
    channel: Channel, path: str, *, access: int, disposition: int, options: int, sharing: int = SHARE_ALL
) -> FileStatus:
    """Opens or makes a file or folder. ``path`` has ``/`` between its parts."""
    reply = channel.take(channel.ask(Commands.SMB2_CREATE, _create(path, access, disposition, options, sharing)))
    _check(reply.status)
    return _created(reply.body)


def open_and_read(channel: Channel, path: str, offset: int, length: int) -> tuple[FileStatus, Reply]:
    """Opens for reading and reads the first bytes, in one round trip; the answer to the READ is not judged here."""
    created, first = (
        channel.take(message_id)
        for message_id in channel.ask_all(
            [
                (Commands.SMB2_CREATE, _create(path, READ_DATA, OPEN, FILE_ONLY, SHARE_ALL)),
                (Commands.SMB2_READ, _read(_FILE_OF_THE_CHAIN, offset, length)),
            ]
        )
    )
    _check(created.status)
    return _created(created.body), first


def look(channel: Channel, path: str, *, options: int) -> FileStatus:
    """Opens for its attributes and closes, in one round trip."""
    ids = channel.ask_all(
        [
            (Commands.SMB2_CREATE, _create(path, READ_ATTRIBUTES, OPEN, options, SHARE_ALL)),
            (Commands.SMB2_CLOSE, _close(_FILE_OF_THE_CHAIN)),
        ]
    )
    created, closed = [channel.take(message_id) for message_id in ids]
    _check(created.status)
    _check(closed.status)
    return _created(created.body)


def make_folder(channel: Channel, path: str) -> None:
    """Makes a folder unless it is there."""
    ids = channel.ask_all(
        [
            (Commands.SMB2_CREATE, _create(path, READ_ATTRIBUTES, OPEN_IF, FOLDER_ONLY, SHARE_ALL)),
            (Commands.SMB2_CLOSE, _close(_FILE_OF_THE_CHAIN)),
        ]
    )
    created, _ = [channel.take(message_id) for message_id in ids]
    _check(created.status)


def close_file(channel: Channel, file_id: bytes) -> tuple[int, int]:
    """Closes; returns the size and the time of the last write as they are afterwards."""
    reply = channel.take(channel.ask(Commands.SMB2_CLOSE, _close(file_id, flags=1)))
    _check(reply.status)
    fields = _CLOSED.unpack_from(_bounded(reply.body, _CLOSED.size))
    return _size(fields[8]), int(fields[5])


def close_and_forget(channel: Channel, file_id: bytes) -> None:
    """Closes what was only read: whether that succeeds changes nothing any more."""
    channel.ask_and_forget(Commands.SMB2_CLOSE, _close(file_id))


def ask_read(channel: Channel, file_id: bytes, offset: int, length: int) -> int:
    return channel.ask(Commands.SMB2_READ, _read(file_id, offset, length), payload_bytes=length)


def data_of_read(message: memoryview) -> memoryview:
    """The data in the answer to a READ."""
    _, data_at, _, length = struct.unpack_from("<HBBI", _bounded(message, 80), 64)
    if data_at < 80 or data_at + length > len(message):
        raise ChannelLostError("the server sent a READ answer that does not hold together")
    return message[data_at : data_at + length]


def ask_write(channel: Channel, file_id: bytes, offset: int, data: memoryview) -> int:
    fixed = struct.pack("<HHIQ16sIIHHI", 49, 112, len(data), offset, file_id, 0, 0, 0, 0, 0)
    return channel.ask_write(fixed, data)


def written(body: memoryview) -> int:
    """How many bytes a WRITE took."""
    return int(struct.unpack_from("<I", _bounded(body, 16), 4)[0])


def flush(channel: Channel, file_id: bytes) -> None:
    body = struct.pack("<HHI16s", 24, 0, 0, file_id)
    _check(channel.take(channel.ask(Commands.SMB2_FLUSH, body)).status)


def rename(channel: Channel, file_id: bytes, path: str) -> None:
    """Also over a file that is there. FileRenameInformation (MS-FSCC 2.4.42.2)."""
    name = _name(path)
    _set_info(channel, file_id, 10, struct.pack("<B7xQI", 1, 0, len(name)) + name)


def delete(channel: Channel, file_id: bytes) -> None:
    """The file is gone when it is closed. FileDispositionInformation (MS-FSCC 2.4.11)."""
    _set_info(channel, file_id, 13, b"\x01")


def cut_off(channel: Channel, file_id: bytes, size_bytes: int) -> None:
    """FileEndOfFileInformation (MS-FSCC 2.4.14)."""
    _set_info(channel, file_id, 20, struct.pack("<Q", size_bytes))


def free_bytes(channel: Channel, file_id: bytes) -> int:
    """What this account may still write. FileFsFullSizeInformation (MS-FSCC 2.5.4)."""
    body = struct.pack("<HBBIHHIII16s", 41, 2, 7, 32, 0, 0, 0, 0, 0, file_id)
    reply = channel.take(channel.ask(Commands.SMB2_QUERY_INFO, body))
    _check(reply.status)
    offset, length = struct.unpack_from("<HI", _bounded(reply.body, 8), 2)
    _, available, _, sectors, sector_bytes = struct.unpack_from(
        "<QQQII", _bounded(reply.message[offset : offset + length], 32)
    )
    return int(available * sectors * sector_bytes)


def list_folder(channel: Channel, file_id: bytes) -> Iterator[Listed]:
    """Every name in an open folder. FileFullDirectoryInformation (MS-FSCC 2.4.17)."""
    length = min(_LISTING_BYTES, int(channel.max_transact_size)) if channel.supports_multi_credit else 65536
    pattern = "*".encode("utf-16-le")
    body = struct.pack("<HBBI16sHHI", 33, 2, 0, 0, file_id, 96, len(pattern), length) + pattern
    while True:
        reply = channel.take(channel.ask(Commands.SMB2_QUERY_DIRECTORY, body, payload_bytes=length))
        if reply.status == NO_MORE_FILES:
            return
        _check(reply.status)
        offset, size = struct.unpack_from("<HI", _bounded(reply.body, 8), 2)
        yield from _listed(reply.message[offset : offset + size])
        channel.give_back(reply)


def _listed(listing: memoryview) -> Iterator[Listed]:
    at = 0
    while True:
        fields = _LISTED.unpack_from(_bounded(listing[at:], _LISTED.size))
        name_length, tag = fields[9], fields[10]
        raw = _bounded(listing[at + _LISTED.size :], name_length)[:name_length]
        name = bytes(raw).decode("utf-16-le", "surrogatepass")
        if name not in {".", ".."}:
            attributes = fields[8]
            yield Listed(
                name,
                size_bytes=_size(fields[6]),
                written_at=fields[4],
                is_folder=bool(attributes & IS_FOLDER),
                is_link=bool(attributes & _IS_REPARSE_POINT) and tag in _LINK_TAGS,
            )
        if fields[0] == 0:
            return
        at += fields[0]


def _create(path: str, access: int, disposition: int, options: int, sharing: int) -> bytes:
    name = _name(path)
    fixed = _CREATE.pack(
        *(57, 0, 0, 2, 0, 0, access, 0, sharing, disposition, options, 64 + _CREATE.size, len(name), 0, 0)
    )
    return fixed + (name or b"\0\0")


def _created(body: memoryview) -> FileStatus:
    fields = _CREATED.unpack_from(_bounded(body, _CREATED.size))
    return FileStatus(file_id=fields[12], size_bytes=_size(fields[9]), written_at=fields[6], attributes=fields[10])


def _read(file_id: bytes, offset: int, length: int) -> bytes:
    return struct.pack("<HBBIQ16sIIIHHB", 49, 80, 0, length, offset, file_id, 0, 0, 0, 0, 0, 0)


def _close(file_id: bytes, flags: int = 0) -> bytes:
    return struct.pack("<HHI16s", 24, flags, 0, file_id)


def _set_info(channel: Channel, file_id: bytes, information_class: int, information: bytes) -> None:
    body = struct.pack("<HBBIHHI16s", 33, 1, information_class, len(information), 96, 0, 0, file_id) + information
    _check(channel.take(channel.ask(Commands.SMB2_SET_INFO, body)).status)


def _name(path: str) -> bytes:
    return path.replace("/", "\\").encode("utf-16-le")


def _size(size_bytes: int) -> int:
    if size_bytes < 0:
        raise ChannelLostError("the server sent a size below zero")
    return size_bytes


def _bounded(view: memoryview, needed: int) -> memoryview:
    if len(view) < needed:
        raise ChannelLostError("the server sent an answer that is too short")
    return view


def _check(status: int) -> None:
    if status != SUCCESS:
        raise StatusError(status)
