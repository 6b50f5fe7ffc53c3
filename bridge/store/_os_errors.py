"""Turns what the operating system says of a file into the store's own errors."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from bridge.errors import (
    NoSuchPlaceError,
    StoreAccessError,
    StoreAuthenticationError,
    StoreError,
    StoreExistsError,
    StoreFullError,
    StoreNotFoundError,
    StoreReadOnlyError,
    StoreUnreachableError,
)

_NOT_FOUND = {errno.ENOENT, errno.ENOTDIR}
_REFUSED = {errno.EACCES, errno.EPERM}
_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC), errno.EFBIG}
_UNREACHABLE = {
    errno.ETIMEDOUT,
    errno.ECONNRESET,
    errno.ECONNABORTED,
    errno.ECONNREFUSED,
    errno.ENETUNREACH,
    errno.EHOSTUNREACH,
    getattr(errno, "EHOSTDOWN", errno.EHOSTUNREACH),
    getattr(errno, "ESTALE", errno.ENETUNREACH),
}

# System error codes of Windows (MS-ERREF 2.2) whose errno, as Python translates it, says less.
_WINDOWS: dict[int, type[StoreError]] = {
    5: StoreAccessError,  # ERROR_ACCESS_DENIED
    19: StoreReadOnlyError,  # ERROR_WRITE_PROTECT
    39: StoreFullError,  # ERROR_HANDLE_DISK_FULL
    51: StoreUnreachableError,  # ERROR_REM_NOT_LIST
    53: StoreUnreachableError,  # ERROR_BAD_NETPATH
    59: StoreUnreachableError,  # ERROR_UNEXP_NET_ERR
    64: StoreUnreachableError,  # ERROR_NETNAME_DELETED
    67: NoSuchPlaceError,  # ERROR_BAD_NET_NAME: the server answers, the share is not there
    86: StoreAuthenticationError,  # ERROR_INVALID_PASSWORD
    112: StoreFullError,  # ERROR_DISK_FULL
    121: StoreUnreachableError,  # ERROR_SEM_TIMEOUT
    1219: StoreAuthenticationError,  # ERROR_SESSION_CREDENTIAL_CONFLICT
    1231: StoreUnreachableError,  # ERROR_NETWORK_UNREACHABLE
    1326: StoreAuthenticationError,  # ERROR_LOGON_FAILURE
    1330: StoreAuthenticationError,  # ERROR_PASSWORD_EXPIRED
    1331: StoreAuthenticationError,  # ERROR_ACCOUNT_DISABLED
    1909: StoreAuthenticationError,  # ERROR_ACCOUNT_LOCKED_OUT
}


_FIXES: Mapping[type[StoreError], str] = {
    StoreNotFoundError: "Check the path; 'pep-bridge history' shows where bundles are.",
    StoreAccessError: "Check who may read there, and that this is the place that was meant.",
    StoreReadOnlyError: "Check who may write there, or give another place.",
    StoreExistsError: "A file stands where something else is to be: move it away, or give another place.",
}


def store_error(store: str, error: OSError, path: str, *, writing: bool) -> StoreError:
    """The store's error for one of the operating system, with the path it was about."""
    kind = _kind(error, writing=writing)
    reason = error.strerror or str(error) or type(error).__name__
    return kind(store=store, detail=f"{path or '.'}: {reason}", path=path, fix=_FIXES.get(kind, ""), kind="share")


def _kind(error: OSError, *, writing: bool) -> type[StoreError]:
    windows = _WINDOWS.get(getattr(error, "winerror", 0) or 0)
    if windows is StoreAccessError and writing:
        return StoreReadOnlyError
    if windows is not None:
        return windows
    if error.errno in _NOT_FOUND:
        return StoreNotFoundError
    if error.errno in _REFUSED:
        return StoreReadOnlyError if writing else StoreAccessError
    if error.errno == errno.EROFS:
        return StoreReadOnlyError
    if error.errno in _FULL:
        return StoreFullError
    if error.errno == errno.EEXIST:
        return StoreExistsError
    if error.errno in _UNREACHABLE:
        return StoreUnreachableError
    return StoreError


@contextmanager
def store_errors(store: str, path: str, *, writing: bool) -> Iterator[None]:
    """Raises the store's errors in place of the operating system's."""
    try:
        yield
    except OSError as error:
        raise store_error(store, error, path, writing=writing) from error
