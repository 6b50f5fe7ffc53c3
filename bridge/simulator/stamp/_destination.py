"""Where the simulated ERCS machine writes, by itself: a folder, a share with the credential it got, a container by SAS.

Failures become the error records of the command that writes. No public document has their text (pep-facts 7, "Not
found publicly"): every message here is INVENTED around the standard Win32 or .NET text of the cause.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import ntpath
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit, urlunsplit

from bridge.simulator._command import CredentialValue, SimulatedError

BLOCK_BYTES = 4 * 1024 * 1024
_SMB_WRITE_BYTES = 1024 * 1024

DISK_FULL = "There is not enough space on the disk."  # pep-facts 7 (ERCS): the one text that is public


class Sink(Protocol):
    """A file that grows while it is written, as one that robocopy writes does."""

    def write(self, data: bytes, /) -> int: ...


class Destination(Protocol):
    """One place that a collection, or a transcript, is written to. Names have ``/`` between their parts."""

    @property
    def location(self) -> str:
        """Where, without a secret."""
        ...

    def make_folder(self, name: str) -> None: ...

    def open(self, name: str) -> AbstractContextManager[Sink]: ...

    def close(self) -> None: ...


class NoDestination:
    """Takes everything and keeps nothing: the stamp's own share when no output is asked for."""

    location = "the stamp's own diagnostics share"

    def make_folder(self, name: str) -> None:
        """Nothing to make."""

    @contextmanager
    def open(self, name: str) -> Iterator[Sink]:
        yield _Discard()

    def close(self) -> None:
        """Nothing to close."""


class _Discard:
    def write(self, data: bytes, /) -> int:
        return len(data)


class FolderDestination:
    """A folder of the ERCS machine, which is this machine: only below the root that the simulator was allowed.

    Raises:
        SimulatedError: the path, or later a name, leads out of the allowed root.
    """

    def __init__(self, path: str, root: Path | None, command: str) -> None:
        self._command = command
        self._allowed = None if root is None else root.resolve()
        self._root = self._checked(Path(path))

    @property
    def location(self) -> str:
        return str(self._root)

    def make_folder(self, name: str) -> None:
        with self._errors():
            self._checked(self._root / name).mkdir(parents=True, exist_ok=True)

    @contextmanager
    def open(self, name: str) -> Iterator[Sink]:
        with self._errors():
            path = self._checked(self._root / name)
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb", buffering=0) as file:
                yield file

    def close(self) -> None:
        """Nothing is held between files."""

    def _checked(self, wanted: Path) -> Path:
        path = wanted.resolve()
        if self._allowed is not None and wanted.is_absolute() and path.is_relative_to(self._allowed):
            return path
        raise SimulatedError(
            f"Access to the path '{wanted}' is denied.",
            f"UnauthorizedAccess,{self._command}",
            "PermissionDenied",
            "System.UnauthorizedAccessException",
            str(wanted),
        )

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:
            raise write_error(error, self.location, self._command) from error


class ShareDestination:
    """An SMB share, over connections of its own (never the process-wide cache: another client may run beside it)."""

    def __init__(self, unc: str, credential: CredentialValue | None, port: int, command: str) -> None:
        self._command = command
        # PEP-20-12 writes a share as "fileshareIP\sharefoldername": leading backslashes are not always given.
        self._root = "\\\\" + ntpath.normpath(unc.replace("/", "\\").lstrip("\\"))
        self._options: dict[str, Any] = {"port": port, "connection_cache": {}, "connection_timeout": 15}
        if credential is not None:
            self._options |= {"username": credential.username, "password": credential.password}

    @property
    def location(self) -> str:
        return self._root

    def make_folder(self, name: str) -> None:
        with self._errors():
            self._make_folders(self._path(name))

    def _make_folders(self, path: str) -> None:
        # Not smbclient.makedirs: it does not end where a share's root cannot be made.
        import smbclient

        share, below = ntpath.splitdrive(path)
        for part in below.strip("\\").split("\\"):
            share = f"{share}\\{part}"
            try:
                smbclient.mkdir(share, **self._options)
            except OSError as error:  # smbclient's own OSError is no FileExistsError
                if error.errno != errno.EEXIST:
                    raise

    @contextmanager
    def open(self, name: str) -> Iterator[Sink]:
        import smbclient

        with self._errors():
            if "/" in name.rpartition("/")[0]:  # the first folder is made already
                self._make_folders(ntpath.dirname(self._path(name)))
            with smbclient.open_file(
                self._path(name), mode="wb", buffering=0, share_access="r", **self._options
            ) as file:
                yield _ShareSink(file)

    def close(self) -> None:
        import smbclient
        from smbprotocol.exceptions import SMBException

        with contextlib.suppress(OSError, SMBException):  # the share may be gone: there is nothing left to say to it
            smbclient.reset_connection_cache(connection_cache=self._options["connection_cache"], fail_on_error=False)

    def _path(self, name: str) -> str:
        return "\\".join([self._root, *name.split("/")]) if name else self._root

    @contextmanager
    def _errors(self) -> Iterator[None]:
        from smbprotocol.exceptions import SMBException
        from spnego.exceptions import SpnegoError

        try:
            yield
        except (SMBException, SpnegoError, OSError, ValueError) as error:
            raise write_error(error, self._root, self._command) from error


class _ShareSink:
    def __init__(self, file: Any) -> None:
        self._file = file

    def write(self, data: bytes, /) -> int:
        view = memoryview(data)
        done = 0
        while done < len(view):
            done += self._file.write(view[done : done + _SMB_WRITE_BYTES].tobytes())
        return done


class ContainerDestination:
    """A blob container by SAS URI; the path behind the container is a prefix of every name.

    GUESS: blobs are named as the files on a share (``AzureStackLogs-<time>/<zip>``): the layout is not public.
    """

    def __init__(self, sas_uri: str, api_version: str, command: str) -> None:
        self._command = command
        parts = urlsplit(sas_uri)
        account, container, prefix = _split_container(parts.hostname or "", parts.path)
        if parts.scheme not in {"http", "https"} or not container or not parts.query:
            raise SimulatedError(
                "The given URI is not a blob container SAS URI.",
                f"InvalidSasUri,{command}",
                "InvalidArgument",
                "System.ArgumentException",
            )
        self._location = urlunsplit((parts.scheme, parts.netloc, f"{account}{container}", "", ""))
        self._prefix = prefix
        from azure.storage.blob import ContainerClient, ExponentialRetry

        self._client = ContainerClient.from_container_url(
            f"{self._location}?{parts.query}",
            api_version=api_version,
            retry_policy=ExponentialRetry(initial_backoff=1, increment_base=1, retry_total=2),
            connection_timeout=15,
        )

    @property
    def location(self) -> str:
        return f"{self._location}/{self._prefix}".rstrip("/")

    def make_folder(self, name: str) -> None:
        """A container has no folders."""

    @contextmanager
    def open(self, name: str) -> Iterator[Sink]:
        from azure.core.exceptions import AzureError

        try:
            sink = _BlobSink(self._client.get_blob_client(self._prefix + name))
            yield sink
            sink.commit()
        except (AzureError, OSError, ValueError) as error:
            raise write_error(error, self.location, self._command) from error

    def close(self) -> None:
        self._client.close()


def _split_container(host: str, path: str) -> tuple[str, str, str]:
    """``/account/``, container and prefix. Storage emulators name the account in the path, services in the host."""
    parts = path.strip("/").split("/")
    by_path = host in {"localhost", "127.0.0.1", "::1"} or host.replace(".", "").isdigit()
    account = f"/{parts.pop(0)}/" if by_path and len(parts) > 1 else "/"
    container, *rest = parts
    return account, container, "".join(f"{part}/" for part in rest)


class _BlobSink:
    """Stages blocks as they fill; the blob is there only after ``commit``."""

    def __init__(self, blob: Any) -> None:
        self._blob = blob
        self._held = bytearray()
        self._blocks: list[str] = []

    def write(self, data: bytes, /) -> int:
        self._held += data
        while len(self._held) >= BLOCK_BYTES:
            self._stage(bytes(self._held[:BLOCK_BYTES]))
            del self._held[:BLOCK_BYTES]
        return len(data)

    def commit(self) -> None:
        from azure.storage.blob import BlobBlock

        if not self._blocks:
            self._blob.upload_blob(bytes(self._held), overwrite=True)
            return
        if self._held:
            self._stage(bytes(self._held))
        self._blob.commit_block_list([BlobBlock(block_id=block) for block in self._blocks])

    def _stage(self, data: bytes) -> None:
        block = base64.b64encode(f"{len(self._blocks):08}".encode()).decode()
        self._blob.stage_block(block, data)
        self._blocks.append(block)


# -- what went wrong -------------------------------------------------------------------------------------------------

_WIN32_TEXTS = {
    errno.ENOSPC: (DISK_FULL, "WriteError", "System.IO.IOException"),
    errno.EDQUOT if hasattr(errno, "EDQUOT") else -1: (DISK_FULL, "WriteError", "System.IO.IOException"),
    errno.EACCES: ("Access is denied.", "PermissionDenied", "System.UnauthorizedAccessException"),
    errno.EPERM: ("Access is denied.", "PermissionDenied", "System.UnauthorizedAccessException"),
    errno.EROFS: ("The media is write protected.", "WriteError", "System.IO.IOException"),
    errno.ENOENT: ("The network path was not found.", "ObjectNotFound", "System.IO.IOException"),
}
_NT_TEXTS = {  # MS-ERREF 2.3.1
    0xC000006D: ("The user name or password is incorrect.", "AuthenticationError"),
    0xC0000234: ("The referenced account is currently locked out.", "AuthenticationError"),
    0xC0000022: ("Access is denied.", "PermissionDenied"),
    0xC00000A2: ("The media is write protected.", "WriteError"),
    0xC000007F: (DISK_FULL, "WriteError"),
    0xC00000CC: ("The network name cannot be found.", "ObjectNotFound"),
    0xC0000225: ("The network name cannot be found.", "ObjectNotFound"),  # what Samba says to a DFS-aware client
    0xC00000C9: ("The specified network name is no longer available.", "ConnectionError"),
    0xC0000034: ("The system cannot find the file specified.", "ObjectNotFound"),
    0xC000003A: ("The system cannot find the path specified.", "ObjectNotFound"),
    0xC0000033: ("The filename, directory name, or volume label syntax is incorrect.", "InvalidArgument"),
}


def write_error(error: Exception, location: str, command: str) -> SimulatedError:
    """The error record of a command whose output could not be written. Its text never has a password or SAS."""
    text, category, exception_type = _cause_of(error)
    return SimulatedError(
        f"Failed to write to '{location}': {text}",
        f"OutputLocationNotWritable,{command}",
        category,
        exception_type,
        location,
    )


def _cause_of(error: Exception) -> tuple[str, str, str]:
    names = {kind.__name__ for kind in type(error).__mro__}
    if (status := getattr(error, "status_code", None)) is not None:
        # .NET's own wording of an HTTP failure; the code is the storage service's (x-ms-error-code).
        code = getattr(error, "error_code", None) or "unknown"
        text = f"The remote server returned an error: ({status}). Error code: {getattr(code, 'value', code)}."
        return text, "PermissionDenied" if status in {401, 403} else "WriteError", "System.Net.WebException"
    if (status := getattr(error, "ntstatus", getattr(error, "status", None))) is not None:
        text, category = _NT_TEXTS.get(status, (f"NTSTATUS 0x{status:08X}.", "WriteError"))
        return text, category, "System.ComponentModel.Win32Exception"
    if names & {"SpnegoError", "SMBAuthenticationError"}:
        return *_NT_TEXTS[0xC000006D], "System.ComponentModel.Win32Exception"
    if "SMBConnectionClosed" in names:
        return *_NT_TEXTS[0xC00000C9], "System.ComponentModel.Win32Exception"
    if isinstance(error, OSError) and error.errno in _WIN32_TEXTS:
        return _WIN32_TEXTS[error.errno]
    if isinstance(error, OSError):
        return f"I/O error ({error.strerror or type(error).__name__}).", "WriteError", "System.IO.IOException"
    return "The network path was not found.", "ObjectNotFound", "System.IO.IOException"
