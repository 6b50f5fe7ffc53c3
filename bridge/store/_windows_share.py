"""The store that is a share, on Windows: the operating system's own SMB client does the work."""

from __future__ import annotations

import sys
import threading

from bridge.errors import StoreAuthenticationError
from bridge.secrets import Credential
from bridge.store._destination import Destination
from bridge.store._folder import FolderStore
from bridge.store._os_errors import store_error

_RESOURCETYPE_DISK = 1
_CONNECT_TEMPORARY = 4

_connections = threading.Lock()
_open_stores: dict[str, tuple[str, int]] = {}  # by share: the account, and how many stores use its connection


def open_windows_share(destination: Destination, credential: Credential | None) -> FolderStore:
    """A share by its UNC path, connected with the credential for as long as the store is open.

    WNetAddConnection2W (winnetwk.h): a device-less, temporary connection belongs to the logon session of this process.
    WNetCancelConnection2W ends it for all who use it, so only the last store of a share in this process asks for that.

    Raises:
        StoreAuthenticationError: the credential is refused, or Windows is already connected there as somebody else.
        StoreUnreachableError, StoreNotFoundError: there is no such server or share.
    """
    if credential is None:
        return FolderStore(destination.unc, location=destination.unc)
    share = f"\\\\{destination.host}\\{destination.share}"
    _take(share, credential)
    return FolderStore(destination.unc, location=destination.unc, on_close=lambda: _give_back(share))


def _take(share: str, credential: Credential) -> None:
    key = share.casefold()
    with _connections:
        account, users = _open_stores.get(key, (credential.username, 0))
        if account.casefold() != credential.username.casefold():
            raise StoreAuthenticationError(
                store=share, detail=f"it is open as {account}; Windows connects to a share as one account at a time"
            )
        if not users:
            _connect(share, credential)
        _open_stores[key] = account, users + 1


def _give_back(share: str) -> None:
    key = share.casefold()
    with _connections:
        account, users = _open_stores[key]
        if users > 1:
            _open_stores[key] = account, users - 1
            return
        del _open_stores[key]
        _disconnect(share)


def _connect(share: str, credential: Credential) -> None:
    if sys.platform == "win32":
        import ctypes
        from ctypes import wintypes

        class NetResource(ctypes.Structure):
            _fields_ = (
                ("dwScope", wintypes.DWORD),
                ("dwType", wintypes.DWORD),
                ("dwDisplayType", wintypes.DWORD),
                ("dwUsage", wintypes.DWORD),
                ("lpLocalName", wintypes.LPWSTR),
                ("lpRemoteName", wintypes.LPWSTR),
                ("lpComment", wintypes.LPWSTR),
                ("lpProvider", wintypes.LPWSTR),
            )

        resource = NetResource(dwType=_RESOURCETYPE_DISK, lpRemoteName=share)
        code = ctypes.WinDLL("mpr").WNetAddConnection2W(
            ctypes.byref(resource), credential.password.reveal(), credential.username, _CONNECT_TEMPORARY
        )
        if code:
            raise store_error(share, ctypes.WinError(code), "", writing=False)


def _disconnect(share: str) -> None:
    if sys.platform == "win32":
        import ctypes

        # Files that somebody else has open there keep the connection: without force it stays, which is right.
        ctypes.WinDLL("mpr").WNetCancelConnection2W(share, 0, False)
