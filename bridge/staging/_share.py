"""What can be asked of a Windows host for a staging share, over a sealed WinRM connection."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridge.errors import StagingAuthenticationError, StagingError, StagingUnreachableError, UsageError
from bridge.secrets import Credential
from bridge.staging._commands import command_line, read_answer

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}\$?")
_PATH = re.compile(r"[A-Za-z]:\\[^<>:\"/|?*\x00-\x1f]{1,180}")
_ACCOUNT = re.compile(r"(?:[^\\/\[\]:;|=,+*?<>\"@\x00-\x1f]{1,64}\\)?[^\\/\[\]:;|=,+*?<>\"\x00-\x1f]{1,104}")
_ADDRESS = re.compile(r"[0-9A-Fa-f.:]{2,45}(?:/\d{1,3})?")
_UTF8_CODE_PAGE = 65001


@dataclass(frozen=True, slots=True)
class StagingHost:
    """A Windows host and an administrator of it. Over HTTP every message is sealed (NTLM)."""

    host: str
    credential: Credential
    port: int = 5985
    use_https: bool = False
    ca_file: Path | None = None

    def run(self, script: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """What one of the scripts of this folder answers.

        Raises:
            UsageError: the values are too long.
            StagingUnreachableError, StagingAuthenticationError, StagingError: it could not be asked, or failed.
        """
        line = command_line(script, request)
        with _third_party_errors(self):
            stdout, stderr, exit_code = self._execute(line)
        answer = read_answer(self.host, stdout, stderr, exit_code)
        if not isinstance(answer, dict):
            raise StagingError(host=self.host, detail="the script answered nothing")
        return answer

    def _execute(self, line: str) -> tuple[bytes, bytes, int]:
        from winrm.protocol import Protocol

        scheme = "https" if self.use_https else "http"
        host = f"[{self.host}]" if ":" in self.host else self.host
        protocol = Protocol(
            endpoint=f"{scheme}://{host}:{self.port}/wsman",
            transport="ntlm",
            username=self.credential.username,
            password=self.credential.password.reveal(),
            message_encryption="auto" if self.use_https else "always",
            ca_trust_path=str(self.ca_file) if self.ca_file else None,
            proxy=None,
        )
        try:
            shell = protocol.open_shell(codepage=_UTF8_CODE_PAGE, noprofile=True)
            try:
                command = protocol.run_command(shell, line)
                stdout, stderr, exit_code = protocol.get_command_output(shell, command)
                protocol.cleanup_command(shell, command)
            finally:
                protocol.close_shell(shell)
        finally:
            protocol.transport.close_session()
        return stdout, stderr, exit_code


@dataclass(frozen=True, slots=True)
class StagingShare:
    """A share to be. ``account`` exists already; ``firewall_addresses`` may reach SMB, and only where given.

    Raises:
        UsageError: a value is not what Windows calls a share name, local path, account or address.
    """

    name: str
    path: str
    account: str
    firewall_addresses: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check(_NAME, "share name", self.name, "Use letters, digits, dots and dashes.")
        _check(_PATH, "folder on a disk of the host", self.path, r"Write it like D:\Staging.")
        _check(_ACCOUNT, "account", self.account, r"Write it like CONTOSO\writer.")
        if any(part in {".", ".."} for part in self.path.split("\\")):
            raise UsageError(detail=f"{self.path} is not written out.", fix=r"Write it like D:\Staging.")
        for address in self.firewall_addresses:
            _check(_ADDRESS, "address", address, "Write 192.0.2.10 or 192.0.2.0/24.")


@dataclass(frozen=True, slots=True)
class PreparedShare:
    """What stands now, and which of it was added by us (now or earlier)."""

    unc: str
    path: str
    account: str
    free_bytes: int
    added: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "unc": self.unc,
            "path": self.path,
            "account": self.account,
            "free_bytes": self.free_bytes,
            "added": list(self.added),
        }


@dataclass(frozen=True, slots=True)
class RemovedShare:
    """What was taken away, and what was left and why."""

    removed: tuple[str, ...]
    kept: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {"removed": list(self.removed), "kept": list(self.kept)}


@dataclass(frozen=True, slots=True)
class ShareState:
    """What the host says of a share; ``access`` is ``account: right``."""

    name: str
    is_shared: bool
    is_prepared: bool
    path: str | None
    access: tuple[str, ...]
    free_bytes: int | None
    added: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "is_shared": self.is_shared,
            "is_prepared": self.is_prepared,
            "path": self.path,
            "access": list(self.access),
            "free_bytes": self.free_bytes,
            "added": list(self.added),
        }


def prepare_share(host: StagingHost, share: StagingShare) -> PreparedShare:
    """Makes folder, share, rights, and a firewall rule where asked for; what is there already stays. Repeatable.

    Raises:
        StagingError: as ``StagingHost.run`` raises; what was added until then is noted on the host, so that preparing
            again goes on and removing takes it away.
    """
    answer = host.run("New-StagingShare", {"Name": share.name, "Path": share.path, "Account": share.account})
    if share.firewall_addresses:
        request = {"Name": share.name, "Address": list(share.firewall_addresses)}
        answer |= host.run("New-StagingFirewallRule", request)
    return PreparedShare(
        unc=f"\\\\{host.host}\\{share.name}",
        path=share.path,
        account=share.account,
        free_bytes=int(answer.get("FreeBytes") or 0),
        added=_added(answer),
    )


def remove_share(host: StagingHost, name: str) -> RemovedShare:
    """Takes away what ``prepare_share`` added, and nothing else; files stay. Removing twice is no error."""
    _check(_NAME, "share name", name, "Use letters, digits, dots and dashes.")
    answer = host.run("Remove-StagingShare", {"Name": name})
    return RemovedShare(_texts(answer.get("Removed")), _texts(answer.get("Kept")))


def show_share(host: StagingHost, name: str) -> ShareState:
    """What the host says of a share now. Changes nothing."""
    _check(_NAME, "share name", name, "Use letters, digits, dots and dashes.")
    answer = host.run("Get-StagingShare", {"Name": name})
    free = answer.get("FreeBytes")
    return ShareState(
        name=name,
        is_shared=bool(answer.get("IsShared")),
        is_prepared=bool(answer.get("IsPrepared")),
        path=None if answer.get("Path") is None else str(answer["Path"]),
        access=_texts(answer.get("Access")),
        free_bytes=None if free is None else int(free),
        added=_added(answer),
    )


_ADDED = {
    "Folder": "folder",
    "Share": "share",
    "ShareAccess": "access to the share",
    "FolderAccess": "access to the folder",
    "Rule": "firewall rule",
}


def _added(answer: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(text for key, text in _ADDED.items() if answer.get(key))


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(map(str, value)) if isinstance(value, list) else (str(value),) if value else ()


def _check(pattern: re.Pattern[str], what: str, text: str, fix: str) -> None:
    if not pattern.fullmatch(text):
        raise UsageError(detail=f"'{text}' is not a {what}.", fix=fix)


@contextmanager
def _third_party_errors(host: StagingHost) -> Iterator[None]:
    """What pywinrm and requests raise becomes an error of the bridge; no message of theirs holds the password."""
    import requests
    from winrm.exceptions import InvalidCredentialsError, WinRMError

    try:
        yield
    except InvalidCredentialsError as error:
        raise StagingAuthenticationError(host=host.host, username=host.credential.username) from error
    except requests.exceptions.RequestException as error:
        raise StagingUnreachableError(host=host.host, port=host.port, detail=type(error).__name__) from error
    except WinRMError as error:
        raise StagingError(host=host.host, detail=str(error)) from error
