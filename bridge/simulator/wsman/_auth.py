"""Accepts Negotiate and NTLM on one connection and seals its messages (MS-NLMP, MS-WSMV 2.2.9.1)."""

from __future__ import annotations

import os
import re
import secrets
import struct
import tempfile
import threading
from collections import Counter
from collections.abc import Sequence
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


@dataclass(frozen=True, slots=True)
class Account:
    """Somebody who may open sessions: ``DOMAIN\\user`` and a throw-away password."""

    username: str
    password: Secret

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

    pyspnego takes NTLM credentials only from the file that the process-wide ``NTLM_USER_FILE`` names. Endpoints of
    one stamp share their account; the file lives while any endpoint does, readable by its owner alone.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._uses: Counter[tuple[str, str]] = Counter()
        self._passwords: dict[tuple[str, str], str] = {}
        self._path: Path | None = None
        self._before: str | None = None

    def add(self, accounts: Sequence[Account]) -> None:
        """Lets ``accounts`` in.

        Raises:
            ValueError: The same user has another password in another endpoint of this process, or the password cannot
                be written in the file's format.
        """
        with self._lock:
            for account in accounts:
                password = account.password.reveal()
                if any(sign in password + account.username for sign in ":\r\n"):
                    raise ValueError("a simulated account has no colon and no line break in name and password")
                key = (account.domain.upper(), account.user.upper())
                if self._uses[key] and self._passwords[key] != password:
                    raise ValueError(f"{account.username} has another password in a running simulated endpoint")
                self._uses[key] += 1
                self._passwords[key] = password
            self._write()

    def remove(self, accounts: Sequence[Account]) -> None:
        """Forgets ``accounts``; the last one removes the file."""
        with self._lock:
            for account in accounts:
                self._uses[account.domain.upper(), account.user.upper()] -= 1
            self._write()

    def _write(self) -> None:
        lines = [
            f"{domain}:{user}:{self._passwords[domain, user]}\n" for (domain, user), uses in self._uses.items() if uses
        ]
        if not lines:
            self._delete()
            return
        if self._path is None:
            handle, name = tempfile.mkstemp(prefix="pep-bridge-ntlm-")
            os.close(handle)
            self._path = Path(name)
            self._before = os.environ.get(_NTLM_USER_FILE)
            os.environ[_NTLM_USER_FILE] = name
        self._path.write_text("".join(lines), encoding="utf-8")

    def _delete(self) -> None:
        if self._path is None:
            return
        self._path.unlink(missing_ok=True)
        self._path = None
        if self._before is None:
            os.environ.pop(_NTLM_USER_FILE, None)
        else:
            os.environ[_NTLM_USER_FILE] = self._before


credential_file = _CredentialFile()


class Acceptor:
    """Authentication and sealing of one TCP connection: it belongs to the connection, as in Windows."""

    def __init__(self, accounts: Sequence[Account], bindings: GssChannelBindings | None) -> None:
        self._accounts = {account.username.casefold(): account.username for account in accounts}
        self._bindings = bindings
        self._context: spnego.ContextProxy | None = None
        self.username: str | None = None

    def step(self, token: bytes) -> bytes | None:
        """One leg; ``username`` is set when the last one was good.

        Raises:
            SpnegoError: The client is not who it says, or the token is no token.
        """
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
            self.username = self._accounts.get(principal)
            if self.username is None:  # an account of another endpoint of this process
                self._context = None
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
