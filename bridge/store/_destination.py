"""Where a bundle is to live, as an operator writes it: a path, a share or a container."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

from bridge.errors import SecretOnCommandLineError, UnsafePathError, UsageError
from bridge.store._paths import check_path

SMB_PORT = 445
_SIGNATURE = re.compile(r"(?i)[?&;]sig=")
_CONTAINER = re.compile(r"^(?:[a-z0-9](?:[a-z0-9]|-(?!-)){1,61}[a-z0-9]|\$root|\$web|\$logs)$")
_HOST = re.compile(r"^(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.%]+\])$")
_SHARE = re.compile(r'^[^\x00-\x1f/\\:*?"<>|\[\]+=;,]{1,80}$')
_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]+)://")
_IS_ADDRESS = re.compile(r"^(?:localhost|\d+\.\d+\.\d+\.\d+|\[.*\])$")


class DestinationKind(StrEnum):
    FOLDER = "folder"
    SHARE = "share"
    CONTAINER = "container"


@dataclass(frozen=True, slots=True)
class Destination:
    """One place for bundles. Nothing in it is secret: the credential or SAS is given beside it."""

    kind: DestinationKind
    location: str
    """For people, and to be parsed again: a path, ``\\\\server\\share``, ``smb://...`` with a port, or a URL."""
    host: str = ""
    port: int | None = None
    share: str = ""
    """The share of a share, the container of a container."""
    account_url: str = ""
    """Of a container: scheme, host, port and, where the account stands in the path (an emulator), the account."""
    folder: str = ""
    """Below the share or container, ``/``-separated, may be empty."""

    @property
    def path(self) -> Path:
        """Of a folder: the folder."""
        self._require(DestinationKind.FOLDER)
        return Path(self.location)

    @property
    def unc(self) -> str:
        """Of a share: what an endpoint is given as ``-OutputSharePath`` (a UNC path has no port)."""
        self._require(DestinationKind.SHARE)
        return "\\\\" + "\\".join([self.host, self.share, *filter(None, self.folder.split("/"))])

    @property
    def url(self) -> str:
        """Of a container: its address with the folder, without a SAS."""
        self._require(DestinationKind.CONTAINER)
        return "/".join(filter(None, [self.container_url, quote(self.folder)]))

    @property
    def container_url(self) -> str:
        """Of a container: its address without the folder and without a SAS."""
        self._require(DestinationKind.CONTAINER)
        return f"{self.account_url}/{self.share}"

    def _require(self, kind: DestinationKind) -> None:
        if self.kind is not kind:
            raise TypeError(f"{self.location} is a {self.kind}, not a {kind}")


def parse_destination(text: str) -> Destination:
    """Reads a destination.

    Raises:
        SecretOnCommandLineError: there is a SAS or a password in it.
        UsageError: it is none of the forms, or a part of it cannot be.
    """
    if _SIGNATURE.search(text):
        raise SecretOnCommandLineError(
            what="a SAS in the destination", how="PEP_BRIDGE_SAS, the prompt, or 'sas_file' of the destination"
        )
    scheme = _SCHEME.match(text)
    if text.startswith("\\\\") and not text.startswith(("\\\\?\\", "\\\\.\\")):
        return _share_from_unc(text)
    if scheme is None:
        return _folder(text)
    match scheme.group(1).lower():
        case "smb":
            return _share_from_url(text)
        case "https" | "http":
            return _container(text)
        case "file":
            raise _usage(text, "a folder is written as a plain path")
        case other:
            raise _usage(text, f"'{other}' is not a kind of destination")


def _folder(text: str) -> Destination:
    if not text.strip() or "\0" in text:
        raise _usage(text, "it is empty" if not text.strip() else "a path cannot have a NUL")
    return Destination(DestinationKind.FOLDER, str(Path(text).expanduser().absolute()))


def _share_from_unc(text: str) -> Destination:
    host, _, rest = text[2:].replace("/", "\\").partition("\\")
    share, _, folder = rest.partition("\\")
    return _share(text, host, None, share, folder.replace("\\", "/"))


def _share_from_url(text: str) -> Destination:
    parts, port = _split(text)
    if parts.query or parts.fragment:
        raise _usage(text, "an smb:// address has no '?' or '#': write them as %3F and %23")
    share, _, folder = parts.path.lstrip("/").partition("/")
    return _share(text, _host_of(parts.netloc), port, unquote(share), unquote(folder))


def _share(text: str, host: str, port: int | None, share: str, folder: str) -> Destination:
    if not _HOST.match(host):
        raise _usage(text, "there is no server name in it that could be one")
    if not _SHARE.match(share) or share in {".", ".."}:
        raise _usage(text, r"write it as \\server\share\folder or smb://server/share/folder")
    folder = _folder_below(text, folder)
    port = None if port == SMB_PORT else port
    if port is None:
        location = "\\\\" + "\\".join([host, share, *filter(None, folder.split("/"))])
    else:
        location = "/".join(filter(None, [f"smb://{host}:{port}", quote(share), quote(folder)]))
    return Destination(DestinationKind.SHARE, location, host=host, port=port, share=share, folder=folder)


def _container(text: str) -> Destination:
    parts, port = _split(text)
    if parts.fragment:
        raise _usage(text, "the address of a container has no '#'")
    if parts.query:
        names = ", ".join(name for name, _ in parse_qsl(parts.query, keep_blank_values=True))
        raise _usage(text, f"the address of a container is given without a query ({names})")
    host = _host_of(parts.netloc)
    if not _HOST.match(host):
        raise _usage(text, "there is no server name in it that could be one")
    segments = [unquote(part) for part in parts.path.strip("/").split("/") if part]
    # An emulator, and any service that is addressed by number, has the account as the first part of the path.
    account = [segments.pop(0)] if _IS_ADDRESS.match(host) and len(segments) > 1 else []
    if not segments:
        raise _usage(text, "write it as https://account.blob.<domain>/container")
    container = segments.pop(0)
    if not _CONTAINER.match(container):
        raise _usage(text, "a container's name has 3 to 63 lower-case letters, digits and single hyphens")
    netloc = host if port is None else f"{host}:{port}"
    account_url = "/".join([f"{parts.scheme.lower()}://{netloc}", *account])
    folder = _folder_below(text, "/".join(segments))
    location = "/".join(filter(None, [account_url, container, quote(folder)]))
    return Destination(
        DestinationKind.CONTAINER,
        location,
        host=host,
        port=port,
        share=container,
        account_url=account_url,
        folder=folder,
    )


def _split(text: str) -> tuple[SplitResult, int | None]:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise _usage(_without_user(text), "it is not an address") from error
    if "@" in parts.netloc:
        if parts.password is not None:
            raise SecretOnCommandLineError(
                what="a password in the destination",
                how="the prompt, the keyring, PEP_BRIDGE_SHARE_PASSWORD or 'password_file' of the destination",
            )
        raise _usage(_without_user(text), "a user name is given with --share-user, not in the address")
    return parts, port


def _without_user(text: str) -> str:
    return re.sub(r"//[^/]*@", "//", text)


def _host_of(netloc: str) -> str:
    host, _, port = netloc.rpartition(":")
    return host if host and port.isdigit() else netloc.rstrip(":")


def _folder_below(text: str, folder: str) -> str:
    folder = folder.strip("/")
    if not folder:
        return ""
    try:
        return check_path(folder)
    except UnsafePathError as error:
        raise _usage(text, f"its folder cannot be used: {error.fields['detail']}") from error


def _usage(text: str, detail: str) -> UsageError:
    return UsageError(detail=f"the destination {ascii(text)[:200]} cannot be used: {detail}")
