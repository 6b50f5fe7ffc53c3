"""One authenticated SMB connection that one thread uses: requests are sent ahead, answers are received in place.

smbprotocol negotiates, authenticates and connects the tree. Its way of moving messages (a thread that receives, an
object a field, several copies of each message) costs more than the moving itself; here a message is received into a
buffer that is used again, checked or decrypted there, and handed on as a view. Sections are those of MS-SMB2.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import socket
import struct
import sys
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from cryptography.hazmat.primitives.ciphers import algorithms
from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM
from cryptography.hazmat.primitives.cmac import CMAC
from smbprotocol import Dialects
from smbprotocol.connection import Ciphers, Commands, Connection, Request, SigningAlgorithms
from smbprotocol.exceptions import SMBAuthenticationError, SMBException, SMBResponseException
from smbprotocol.header import SMB2HeaderResponse
from smbprotocol.session import Session
from smbprotocol.tree import TreeConnect
from spnego.exceptions import SpnegoError

from bridge.errors import StoreAuthenticationError, StoreError, StoreUnreachableError
from bridge.secrets import Credential
from bridge.store._smb_errors import PENDING, SUCCESS, status_error

CHUNK_BYTES: Final = 1024 * 1024
"""What one READ or WRITE carries: smaller ones cost requests, larger ones gain nothing and hold more memory."""
_CREDIT_BYTES = 65536  # what one credit pays for (3.1.5.2)
_CREDITS_WANTED = 512

_HEADER = struct.Struct("<4sHHIHHIIQIIQ16s")  # 2.2.1.2
_HEADER_SIZE = 64
_TRANSFORM_SIZE = 52  # 2.2.41
_TAG_SIZE = 16
_ROOM = 4 + _TRANSFORM_SIZE + _HEADER_SIZE + 128 + _TAG_SIZE
_LARGEST_MESSAGE = 9 * 1024 * 1024
_FLAG_RESPONSE, _FLAG_ASYNC, _FLAG_RELATED, _FLAG_SIGNED = 0x1, 0x2, 0x4, 0x8
_NOT_OURS = 0xFFFFFFFFFFFFFFFF  # an oplock break that nobody asked for


class ChannelLostError(Exception):
    """The connection cannot be used any more; the message says what happened to it."""


@dataclass(slots=True)
class Reply:
    """An answer. ``body`` begins after the header; ``message`` is all of it, and ``buffer`` what it lies in."""

    status: int
    message: memoryview
    buffer: bytearray

    @property
    def body(self) -> memoryview:
        return self.message[_HEADER_SIZE:]


@dataclass(frozen=True, slots=True)
class ChannelOptions:
    """Where to connect, and how well protected."""

    host: str
    port: int
    share: str
    credential: Credential
    location: str
    signing: bool
    encryption: bool
    connect_timeout_s: float
    io_timeout_s: float


class Channel(Connection):  # type: ignore[misc]
    """A connection, session and tree; used by one thread at a time."""

    def __init__(self, options: ChannelOptions) -> None:
        """Connects nowhere yet: ``establish`` does."""
        super().__init__(uuid.uuid4(), options.host.strip("[]"), options.port, require_signing=options.signing)
        self._options = options
        self._socket: socket.socket | None = None
        self._spare: list[bytearray] = []
        self._waiting: dict[int, Reply] = {}
        self._asked: set[int] = set()
        self._forgotten: set[int] = set()
        self._protection: _Protection | None = None
        self._session_id = 0
        self._tree_id = 0
        self._send_buffer = bytearray(CHUNK_BYTES + _ROOM)
        self._cipher_buffer = bytearray(0)

    @property
    def chunk_bytes(self) -> int:
        """The most that one READ or WRITE may carry on this connection."""
        largest = min(int(self.max_read_size), int(self.max_write_size), CHUNK_BYTES)
        return largest if self.supports_multi_credit else min(largest, _CREDIT_BYTES)

    @property
    def _guard(self) -> _Protection:
        if self._protection is None:
            raise ChannelLostError("the connection is not set up")
        return self._protection

    @property
    def asked(self) -> int:
        """How many requests wait for their answer."""
        return len(self._asked) - len(self._forgotten)

    # -- setting up: smbprotocol speaks, this receives for it ---------------------------------------------------------

    def establish(self) -> None:
        """Connects and logs on; another thread may ``interrupt`` it meanwhile.

        Raises:
            StoreUnreachableError, StoreAuthenticationError, StoreNotFoundError, StoreAccessError
        """
        options = self._options
        try:
            self.connect(
                timeout=options.connect_timeout_s,
                preferred_signing_algos=[
                    SigningAlgorithms.AES_GMAC,  # five times as fast as CMAC
                    SigningAlgorithms.AES_CMAC,
                    SigningAlgorithms.HMAC_SHA256,
                ],
            )
            session = Session(
                self,
                username=options.credential.username,
                password=options.credential.password.reveal(),
                require_encryption=options.encryption,
            )
            session.connect()
            session.password = None
            self._session_id = int(session.session_id)
            self._protection = _Protection(self, session, encrypt=bool(session.encrypt_data))
            tree = TreeConnect(session, rf"\\{options.host}\{options.share}")
            tree.connect()
        except SMBResponseException as error:
            failure: StoreError = status_error(options.location, int(error.status))
        except (SMBAuthenticationError, SpnegoError) as error:
            failure = StoreAuthenticationError(store=options.location, detail=type(error).__name__)
        except ChannelLostError as error:
            failure = StoreUnreachableError(store=options.location, detail=str(error))
        except (SMBException, OSError, ValueError, struct.error) as error:
            failure = StoreUnreachableError(store=options.location, detail=_words(error))
        else:
            self._protection = _Protection(self, session, encrypt=bool(session.encrypt_data or tree.encrypt_data))
            self._tree_id = int(tree.tree_connect_id)
            return
        self.abort()
        # Outside the handlers: the library's errors can carry what was sent.
        raise failure

    def _process_message_thread(self) -> None:
        """smbprotocol's receiving thread: it ends at once, whoever asks receives."""

    def receive(
        self, request: Request, wait: bool = True, timeout: float | None = None, resolve_symlinks: bool = True
    ) -> SMB2HeaderResponse:
        """Answers smbprotocol's own requests, while the connection is being set up."""
        message_id = int(request.message["message_id"].get_value())
        self._asked.add(message_id)
        reply = self.take(message_id)
        raw = bytes(reply.message)
        self.give_back(reply)
        self.outstanding_requests.pop(message_id, None)
        header = SMB2HeaderResponse()
        header.unpack(raw)
        command = int(header["command"].get_value())
        if command == Commands.SMB2_NEGOTIATE:
            self.preauth_integrity_hash_value.append(raw)
        elif command == Commands.SMB2_SESSION_SETUP and reply.status != SUCCESS:
            self.preauth_integrity_session_hash_value[message_id].append(raw)
        if reply.status != SUCCESS:
            raise SMBResponseException(header)
        return header

    # -- asking -------------------------------------------------------------------------------------------------------

    def ask(self, command: int, body: bytes | bytearray, *, payload_bytes: int = 1) -> int:
        """Sends one request and returns its message id; ``take`` gets the answer."""
        return self.ask_all([(command, body)], payload_bytes=payload_bytes)[0]

    def ask_and_forget(self, command: int, body: bytes) -> None:
        """Sends one request whose answer, whatever it is, matters to nobody."""
        self._forgotten.add(self.ask(command, body))

    def ask_all(self, requests: Sequence[tuple[int, bytes | bytearray]], *, payload_bytes: int = 1) -> list[int]:
        """Sends requests that the server works off in one go, each on the file of the first (3.2.4.1.4)."""
        buffer, start = self._send_buffer, 4 + _TRANSFORM_SIZE
        ids = []
        at = start
        for index, (command, body) in enumerate(requests):
            length = _HEADER_SIZE + len(body)
            is_last = index == len(requests) - 1
            padded = length if is_last else -(-length // 8) * 8
            message_id, charge = self._take_credits(payload_bytes)
            flags, next_command = _FLAG_RELATED if index else 0, 0 if is_last else padded
            self._pack(at, command, message_id, charge, flags=flags, next_command=next_command)
            buffer[at + _HEADER_SIZE : at + length] = body
            buffer[at + length : at + padded] = bytes(padded - length)
            self._sign(at, padded, message_id)
            ids.append(message_id)
            at += padded
        self._send_out(start, at)
        return ids

    def ask_write(self, fixed: bytes, data: memoryview) -> int:
        """Sends one WRITE whose data lies elsewhere; it is copied once, into what goes out."""
        buffer, start = self._send_buffer, 4 + _TRANSFORM_SIZE
        message_id, charge = self._take_credits(len(data))
        self._pack(start, Commands.SMB2_WRITE, message_id, charge)
        data_at = start + _HEADER_SIZE + len(fixed)
        buffer[start + _HEADER_SIZE : data_at] = fixed
        memoryview(buffer)[data_at : data_at + len(data)] = data
        length = _HEADER_SIZE + len(fixed) + len(data)
        self._sign(start, length, message_id)
        self._send_out(start, start + length)
        return message_id

    def _pack(
        self, at: int, command: int, message_id: int, charge: int, *, flags: int = 0, next_command: int = 0
    ) -> None:
        wanted = charge + (64 if self.sequence_window["high"] - self.sequence_window["low"] < _CREDITS_WANTED else 0)
        if self._guard.signs:
            flags |= _FLAG_SIGNED
        _HEADER.pack_into(
            self._send_buffer,
            at,
            *(b"\xfeSMB", _HEADER_SIZE, charge if self.supports_multi_credit else 0, 0, command, wanted, flags),
            *(next_command, message_id, 0, self._tree_id, self._session_id, bytes(16)),
        )

    def _take_credits(self, payload_bytes: int) -> tuple[int, int]:
        charge = max(1, -(-payload_bytes // _CREDIT_BYTES)) if self.supports_multi_credit else 1
        window = self.sequence_window
        while window["high"] - window["low"] < charge:
            if not self._asked:
                raise self._lost("the server grants no more requests")
            self._receive()
        message_id = int(window["low"])
        window["low"] += charge
        return message_id, charge

    def _sign(self, at: int, length: int, message_id: int) -> None:
        if self._guard.signs:
            message = memoryview(self._send_buffer)[at : at + length]
            message[48:64] = self._guard.signature(message, message_id, is_response=False)
        self._asked.add(message_id)

    def _send_out(self, start: int, end: int) -> None:
        view = memoryview(self._send_buffer)
        if self._guard.encrypts:
            packet = self._encrypted(view[start:end])
        else:
            struct.pack_into(">I", self._send_buffer, start - 4, end - start)
            packet = view[start - 4 : end]
        try:
            self._line().sendall(packet)
        except OSError as error:
            raise self._lost(_words(error)) from error

    def _encrypted(self, message: memoryview) -> memoryview:
        needed = 4 + _TRANSFORM_SIZE + len(message) + _TAG_SIZE
        if len(self._cipher_buffer) < needed:
            self._cipher_buffer = bytearray(max(needed, 64 * 1024))
        out = memoryview(self._cipher_buffer)
        self._guard.encrypt_into(out[4:needed], message, self._session_id)
        struct.pack_into(">I", out, 0, needed - 4 - _TAG_SIZE)
        return out[: needed - _TAG_SIZE]

    # -- being answered -----------------------------------------------------------------------------------------------

    def take(self, message_id: int) -> Reply:
        """The answer to one request; give its buffer back when done with it."""
        while message_id not in self._waiting:
            self._receive()
        return self._waiting.pop(message_id)

    def give_back(self, reply: Reply) -> None:
        """Lets the buffer of an answer be used again."""
        if len(self._spare) < 2 and len(reply.buffer) == CHUNK_BYTES + _ROOM:
            self._spare.append(reply.buffer)

    def drain(self) -> None:
        """Waits for every answer that is still to come and drops it, unless nobody waits for it anyway."""
        while self.asked:
            self._receive()
        self._waiting.clear()

    def _receive(self) -> None:
        length = int.from_bytes(self._exactly(memoryview(bytearray(4))), "big")
        if not _HEADER_SIZE <= length <= _LARGEST_MESSAGE:
            raise self._lost(f"the server announced a message of {length} bytes")
        buffer = self._buffer(length + _TAG_SIZE)
        message = self._exactly(memoryview(buffer)[:length])
        was_encrypted = bytes(message[:4]) == b"\xfdSMB"
        if was_encrypted:
            message, buffer = self._decrypted(message, buffer)
        while True:
            message, following = self._one(message)
            self._accept(message, buffer, was_encrypted=was_encrypted)
            if following is None:
                return
            # Compounded answers are small; each gets what it needs of its own.
            buffer = bytearray(following)
            message = memoryview(buffer)

    def _one(self, message: memoryview) -> tuple[memoryview, memoryview | None]:
        if len(message) < _HEADER_SIZE or bytes(message[:4]) != b"\xfeSMB":
            raise self._lost("the server sent something that is not SMB2")
        following = int.from_bytes(message[20:24], "little")
        if following == 0:
            return message, None
        if not _HEADER_SIZE <= following <= len(message) - _HEADER_SIZE:
            raise self._lost("the server sent a chain of answers that does not hold together")
        return message[:following], message[following:]

    def _accept(self, message: memoryview, buffer: bytearray, *, was_encrypted: bool) -> None:
        fields = _HEADER.unpack_from(message)
        status, granted, flags, message_id = fields[3], fields[5], fields[6], fields[8]
        if message_id == _NOT_OURS:
            return
        if message_id not in self._asked or not flags & _FLAG_RESPONSE:
            raise self._lost("the server answered what nobody asked")
        if self._protection is not None:
            is_interim = status == PENDING and bool(flags & _FLAG_ASYNC)
            problem = self._protection.what_is_wrong(
                message,
                message_id,
                was_encrypted=was_encrypted,
                is_signed=bool(flags & _FLAG_SIGNED),
                interim=is_interim,
            )
            if problem:
                raise self._lost(problem)
        self.sequence_window["high"] += granted or (0 if self.supports_multi_credit else 1)
        if status == PENDING:
            return
        self._asked.discard(message_id)
        if message_id in self._forgotten:
            self._forgotten.discard(message_id)
            return
        self._waiting[message_id] = Reply(status, message, buffer)

    def _decrypted(self, message: memoryview, buffer: bytearray) -> tuple[memoryview, bytearray]:
        if self._protection is None or len(message) < _TRANSFORM_SIZE + _HEADER_SIZE:
            raise self._lost("the server sent an encrypted message that cannot be one")
        plain = self._buffer(len(message))
        target = memoryview(plain)[: len(message) - _TRANSFORM_SIZE]
        if not self._guard.decrypt_into(target, memoryview(buffer), len(message), self._session_id):
            raise self._lost("a message of the server was changed on its way (it does not decrypt)")
        self._keep(buffer)
        return target, plain

    def _buffer(self, size: int) -> bytearray:
        if size > CHUNK_BYTES + _ROOM or size < _CREDIT_BYTES // 2:
            return bytearray(size)
        return self._spare.pop() if self._spare else bytearray(CHUNK_BYTES + _ROOM)

    def _keep(self, buffer: bytearray) -> None:
        if len(self._spare) < 2 and len(buffer) == CHUNK_BYTES + _ROOM:
            self._spare.append(buffer)

    def _exactly(self, view: memoryview) -> memoryview:
        line, at = self._line(), 0
        try:
            while at < len(view):
                received = line.recv_into(view[at:], 0, socket.MSG_WAITALL)
                if received == 0:
                    raise self._lost("the server closed the connection")
                at += received
        except OSError as error:
            raise self._lost(_words(error)) from error
        return view

    def _line(self) -> socket.socket:
        if self._socket is None:
            # A private name of the pinned smbprotocol: its Tcp class offers no other way to receive in place.
            self._socket = self.transport._sock if self.transport is not None else None
            if self._socket is None or not self.transport.connected:
                self._socket = None
                raise ChannelLostError("the connection is closed")
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
                self._socket.setsockopt(socket.SOL_SOCKET, option, _timeval(self._options.io_timeout_s))
        return self._socket

    # -- ending -------------------------------------------------------------------------------------------------------

    @property
    def is_lost(self) -> bool:
        return self.transport is None or not self.transport.connected

    def _lost(self, detail: str) -> ChannelLostError:
        self.abort()
        return ChannelLostError(detail)

    def interrupt(self) -> None:
        """Wakes the thread that waits on the connection, which is then lost; may be called from any thread."""
        if (line := self._socket) is not None:
            with contextlib.suppress(OSError):  # it was closed meanwhile
                line.shutdown(socket.SHUT_RDWR)

    def abort(self) -> None:
        """Cuts the connection without a word."""
        self._asked.clear()
        self._forgotten.clear()
        self._waiting.clear()
        self._socket = None
        if self.transport is not None:
            with contextlib.suppress(OSError):
                self.transport.close()

    def log_off(self) -> None:
        """Ends the session as one should, and the connection."""
        if not self.is_lost:
            with contextlib.suppress(ChannelLostError):
                self.drain()
                self.take(self.ask(Commands.SMB2_LOGOFF, struct.pack("<HH", 4, 0)))
        self.abort()


class _Protection:
    """Signs, verifies, encrypts and decrypts with the keys of one session (3.1.4.1, 3.1.4.3)."""

    def __init__(self, connection: Connection, session: Session, *, encrypt: bool) -> None:
        self.encrypts = encrypt
        self.signs = bool(session.signing_required) and not encrypt
        self._must_be_signed = bool(connection.require_signing) and not encrypt
        self._key = bytes(session.signing_key or b"")
        self._algorithm = _signing_algorithm(connection)
        self._gmac = AESGCM(self._key) if self._algorithm == SigningAlgorithms.AES_GMAC and self._key else None
        self._nonce_size = 12
        self._seal: Any = None
        self._open: Any = None
        if session.encryption_key and int(connection.dialect) >= Dialects.SMB_3_0_0:
            cipher = connection.cipher_id if connection.dialect >= Dialects.SMB_3_1_1 else Ciphers.AES_128_CCM
            is_gcm = cipher in {Ciphers.AES_128_GCM, Ciphers.AES_256_GCM}
            self._nonce_size = 12 if is_gcm else 11
            kind = AESGCM if is_gcm else AESCCM
            self._seal, self._open = kind(session.encryption_key), kind(session.decryption_key)

    def signature(self, message: memoryview, message_id: int, *, is_response: bool) -> bytes:
        """Of a whole message whose signature field is zero."""
        if self._gmac is not None:
            nonce = message_id.to_bytes(8, "little") + int(is_response).to_bytes(4, "little")
            return self._gmac.encrypt(nonce, b"", message)
        if self._algorithm == SigningAlgorithms.AES_CMAC:
            mac = CMAC(algorithms.AES(self._key))
            mac.update(message)  # type: ignore[arg-type]  # any buffer will do
            return mac.finalize()
        return hmac.digest(self._key, message, hashlib.sha256)[:16]

    def what_is_wrong(
        self, message: memoryview, message_id: int, *, was_encrypted: bool, is_signed: bool, interim: bool
    ) -> str | None:
        """Why an answer may not be believed; ``None`` where it may."""
        if was_encrypted:
            return None
        if self.encrypts:
            return "the server answered without encryption"
        if not is_signed:
            return "the server answered without a signature" if self._must_be_signed and not interim else None
        claimed = bytes(message[48:64])
        message[48:64] = bytes(16)
        if not hmac.compare_digest(claimed, self.signature(message, message_id, is_response=True)):
            return "a message of the server was changed on its way (its signature is wrong)"
        return None

    def encrypt_into(self, out: memoryview, message: memoryview, session_id: int) -> None:
        """Writes the transform header and the encrypted message; the last 16 bytes of ``out`` are scratch."""
        nonce = os.urandom(self._nonce_size)
        struct.pack_into(
            "<4s16s16sIHHQ", out, 0, b"\xfdSMB", b"", nonce.ljust(16, b"\0"), len(message), 0, 1, session_id
        )
        end = _TRANSFORM_SIZE + len(message)
        self._seal.encrypt_into(nonce, message, out[20:_TRANSFORM_SIZE], out[_TRANSFORM_SIZE : end + _TAG_SIZE])
        out[4:20] = out[end : end + _TAG_SIZE]

    def decrypt_into(self, out: memoryview, buffer: memoryview, length: int, session_id: int) -> bool:
        """Decrypts the message in ``buffer``, which has room for a tag behind it; tells whether it is genuine."""
        from cryptography.exceptions import InvalidTag

        if self._open is None or int.from_bytes(buffer[44:52], "little") != session_id:
            return False
        buffer[length : length + _TAG_SIZE] = buffer[4:20]
        nonce = bytes(buffer[20 : 20 + self._nonce_size])
        try:
            self._open.decrypt_into(
                nonce, buffer[_TRANSFORM_SIZE : length + _TAG_SIZE], buffer[20:_TRANSFORM_SIZE], out
            )
        except (InvalidTag, ValueError):
            return False
        return True


def _signing_algorithm(connection: Connection) -> int:
    if connection.dialect >= Dialects.SMB_3_1_1 and connection.signing_algorithm_id is not None:
        return int(connection.signing_algorithm_id)
    return int(
        SigningAlgorithms.AES_CMAC if connection.dialect >= Dialects.SMB_3_0_0 else SigningAlgorithms.HMAC_SHA256
    )


def _timeval(seconds: float) -> bytes:
    windows = struct.pack("<I", int(seconds * 1000))
    return windows if sys.platform == "win32" else struct.pack("@ll", int(seconds), int(seconds % 1 * 1_000_000))


def _words(error: BaseException) -> str:
    if isinstance(error, (TimeoutError, BlockingIOError)):
        return "it stopped answering"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    cause = error.__cause__
    if isinstance(cause, OSError):
        return cause.strerror or type(cause).__name__
    return f"{type(error).__name__}: {error}"
