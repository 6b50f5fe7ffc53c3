"""Accepts Negotiate and NTLM on one connection and seals its messages (MS-NLMP, MS-WSMV 2.2.9.1)."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import struct
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import spnego
from spnego.channel_bindings import GssChannelBindings
from spnego.exceptions import SpnegoError

from bridge.secrets import Secret

ENCRYPTED_TYPE: Final = "multipart/encrypted"
SPNEGO_PROTOCOL: Final = "application/HTTP-SPNEGO-session-encrypted"
_BOUNDARY: Final = b"--Encrypted Boundary"
_OCTETS: Final = b"Content-Type: application/octet-stream\r\n"
_LENGTH: Final = re.compile(rb"OriginalContent:[^\r\n]*Length=(\d+)")
_NTLM_SIGNATURE: Final = b"NTLMSSP\0"
_NTLM_USER_FILE: Final = "NTLM_USER_FILE"
_FILE_PREFIX: Final = "pep-bridge-simulator-accounts-"
_FILE_NAME: Final = re.compile(re.escape(_FILE_PREFIX) + r"(\d+)-")


@dataclass(frozen=True, slots=True)
class Account:
    """Somebody who may open sessions: ``DOMAIN\\user`` and a throw-away password.

    Raises:
        ValueError: The name or the password has a colon or a line break, which pyspnego's file cannot hold.
    """

    username: str
    password: Secret

    def __post_init__(self) -> None:
        if any(sign in self.username + self.password.reveal() for sign in ":\r\n"):
            raise ValueError("a simulated account has no colon and no line break in name and password")

    @property
    def domain(self) -> str:
        """The part before the backslash."""
        return self.username.rpartition("\\")[0]

    @property
    def user(self) -> str:
        """The part after the backslash."""
        return self.username.rpartition("\\")[2]


def throw_away_account(username: str = "AZURESTACK\\CloudAdmin") -> Account:
    """An account with a random password."""
    return Account(username, Secret(secrets.token_urlsafe(12)))


class SealingError(Exception):
    """A sealed message could not be opened."""


class _CredentialFile:
    """The one file from which pyspnego's acceptor reads, for every simulated endpoint of this process.

    pyspnego takes NTLM credentials only from the file that the process-wide ``NTLM_USER_FILE`` names. It lives while
    any endpoint does, readable by its owner alone, and holds credentials only for the moment in which one is checked.
    A process that was killed leaves it behind, as a rule empty; the next one takes it away.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._uses = 0
        self._path = Path()
        self._before: str | None = None

    def acquire(self) -> None:
        """One more endpoint needs the file."""
        with self._lock:
            self._uses += 1
            if self._uses == 1:
                _remove_left_behind(Path(tempfile.gettempdir()))
                handle, name = tempfile.mkstemp(prefix=f"{_FILE_PREFIX}{os.getpid()}-")
                os.close(handle)
                self._path = Path(name)
                self._before = os.environ.get(_NTLM_USER_FILE)
                os.environ[_NTLM_USER_FILE] = name

    def release(self) -> None:
        """One endpoint less; the last one removes the file."""
        with self._lock:
            self._uses -= 1
            if self._uses:
                return
            self._path.unlink(missing_ok=True)
            if self._before is None:
                os.environ.pop(_NTLM_USER_FILE, None)
            else:
                os.environ[_NTLM_USER_FILE] = self._before

    @contextlib.contextmanager
    def holding(self, accounts: Iterable[Account]) -> Iterator[None]:
        """The file says who these accounts are while the context is held."""
        lines = [f"{account.domain}:{account.user}:{account.password.reveal()}\n" for account in accounts]
        with self._lock:
            self._write("".join(lines))
            try:
                yield
            finally:
                self._write("")

    def _write(self, text: str) -> None:
        # Private even where somebody has tidied the temporary folder and the file is made anew.
        handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)


def _remove_left_behind(folder: Path) -> None:
    for path in folder.glob(f"{_FILE_PREFIX}*"):
        name = _FILE_NAME.match(path.name)
        if name is not None and not _may_run(int(name[1])):
            with contextlib.suppress(OSError):  # somebody else's, or another simulator was quicker
                path.unlink()


def _may_run(process_id: int) -> bool:
    if os.name == "nt":  # os.kill would end it there
        return True
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


credential_file = _CredentialFile()


class Acceptor:
    """Authentication and sealing of one TCP connection: it belongs to the connection, as in Windows."""

    def __init__(self, accounts: Sequence[Account], bindings: GssChannelBindings | None) -> None:
        self._accounts = accounts
        self._bindings = bindings
        self._context: spnego.ContextProxy | None = None
        self.username: str | None = None

    def step(self, token: bytes) -> bytes | None:
        """One leg; ``username`` is set when the last one was good.

        Raises:
            SpnegoError: The client is not who it says, or the token is no token.
        """
        with credential_file.holding(self._accounts):
            return self._step(token)

    def _step(self, token: bytes) -> bytes | None:
        if self._context is None:
            raw = token.startswith(_NTLM_SIGNATURE)
            self._context = spnego.server(
                protocol="ntlm" if raw else "negotiate",
                options=spnego.NegotiateOptions.use_ntlm if raw else spnego.NegotiateOptions.use_negotiate,
                channel_bindings=self._bindings,
            )
        try:
            answer = self._context.step(token)
        except (SpnegoError, ValueError, struct.error):
            self._context = None
            raise
        if self._context.complete:
            principal = (self._context.client_principal or "").casefold()
            self.username = next(a.username for a in self._accounts if a.username.casefold() == principal)
        return answer

    def open_sealed(self, body: bytes) -> bytes:
        """The text of a sealed message.

        Raises:
            SealingError: It was not sealed for this connection.
        """
        length = _LENGTH.search(body)
        start = body.find(_OCTETS)
        if self._context is None or length is None or start < 0:
            raise SealingError("not a sealed message")
        start += len(_OCTETS)
        try:
            (signature_size,) = struct.unpack_from("<i", body, start)
            data_start = start + 4 + signature_size
            signature = body[start + 4 : data_start]
            return self._context.unwrap_winrm(signature, body[data_start : data_start + int(length[1])])
        except (SpnegoError, struct.error) as problem:
            raise SealingError(str(problem)) from problem

    def seal(self, text: bytes) -> tuple[str, bytes]:
        """Content type and body of a sealed answer."""
        if self._context is None:
            raise SealingError("nobody is authenticated")
        sealed = self._context.wrap_winrm(text)
        head = (
            f"\tContent-Type: {SPNEGO_PROTOCOL}\r\n"
            f"\tOriginalContent: type=application/soap+xml;charset=UTF-8;Length={len(text) + sealed.padding_length}\r\n"
        )
        body = b"".join(
            (
                _BOUNDARY + b"\r\n",
                head.encode(),
                _BOUNDARY + b"\r\n\t" + _OCTETS,
                struct.pack("<i", len(sealed.header)) + sealed.header + sealed.data,
                _BOUNDARY + b"--\r\n",
            )
        )
        return f'{ENCRYPTED_TYPE};protocol="{SPNEGO_PROTOCOL}";boundary="Encrypted Boundary"', body
