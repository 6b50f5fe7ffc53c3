"""Turns what an SMB server answers (NTSTATUS, MS-ERREF 2.3) into the store's own errors."""

from __future__ import annotations

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
    UnsafePathError,
)

SUCCESS = 0x00000000
PENDING = 0x00000103
NO_MORE_FILES = 0x80000006
STOPPED_ON_SYMLINK = 0x8000002D
END_OF_FILE = 0xC0000011
ACCESS_DENIED = 0xC0000022
NAME_NOT_FOUND = 0xC0000034
PATH_NOT_FOUND = 0xC000003A
SHARING_VIOLATION = 0xC0000043
DELETE_PENDING = 0xC0000056

_KINDS: dict[int, tuple[type[StoreError], str]] = {
    0xC000000F: (StoreNotFoundError, "there is no such file"),
    0xC0000033: (StoreError, "the server does not take this name"),
    NAME_NOT_FOUND: (StoreNotFoundError, "there is no such file"),
    0xC0000035: (StoreExistsError, "the name is taken"),
    0xC0000039: (StoreError, "the server does not take this path"),
    PATH_NOT_FOUND: (StoreNotFoundError, "there is no such folder"),
    0xC000003B: (StoreError, "the server does not take this path"),
    SHARING_VIOLATION: (StoreAccessError, "somebody else has it open"),
    0xC0000044: (StoreFullError, "the quota of the account is used up"),
    DELETE_PENDING: (StoreAccessError, "it is being deleted"),
    0xC000006A: (StoreAuthenticationError, "wrong password"),
    0xC000006C: (StoreAuthenticationError, "the password does not meet the server's rules"),
    0xC000006D: (StoreAuthenticationError, "unknown user name or wrong password"),
    0xC000006E: (StoreAuthenticationError, "the account is restricted"),
    0xC000006F: (StoreAuthenticationError, "the account may not log on at this hour"),
    0xC0000070: (StoreAuthenticationError, "the account may not log on from this machine"),
    0xC0000071: (StoreAuthenticationError, "the password has expired"),
    0xC0000072: (StoreAuthenticationError, "the account is disabled"),
    0xC000015B: (StoreAuthenticationError, "the account may not log on over the network"),
    0xC0000193: (StoreAuthenticationError, "the account has expired"),
    0xC0000224: (StoreAuthenticationError, "the password must be changed first"),
    0xC0000234: (StoreAuthenticationError, "the account is locked out"),
    0xC000007F: (StoreFullError, "the disk is full"),
    0xC0000098: (StoreUnreachableError, "the server has lost the file (its volume was changed)"),
    0xC000009A: (StoreUnreachableError, "the server is short of resources"),
    0xC00000A2: (StoreReadOnlyError, "the disk is write-protected"),
    0xC00000B5: (StoreUnreachableError, "the server's disk does not answer"),
    0xC00000BA: (StoreNotFoundError, "it is a folder, not a file"),
    0xC00000C9: (StoreUnreachableError, "the share was removed while it was in use"),
    0xC00000CC: (NoSuchPlaceError, "the server has no such share"),
    0xC00000D0: (StoreUnreachableError, "the server takes no further session now"),
    0xC0000103: (StoreNotFoundError, "a part of the path is a file, not a folder"),
    0xC0000121: (StoreReadOnlyError, "the file may not be deleted (it is marked read-only)"),
    0xC0000128: (StoreUnreachableError, "the server has closed the file"),
    0xC0000203: (StoreUnreachableError, "the server has ended the session"),
    0xC0000205: (StoreUnreachableError, "the server is short of resources"),
    0xC0000257: (StoreUnreachableError, "the path leads to another server (DFS)"),
    0xC000035C: (StoreUnreachableError, "the session has expired"),
    0xC0000466: (StoreUnreachableError, "the server is not available now"),
    0xC0000909: (StoreFullError, "the quota of the folder is used up"),
}

_FIXES = {
    StoreReadOnlyError: "Have it made writable there, or give another place.",
    StoreAccessError: "Wait until it is let go of there, then run the same command again.",
    StoreExistsError: "Something of that name is in the way: move it away, or give another place.",
}


def status_error(store: str, status: int, path: str = "", *, writing: bool = False) -> StoreError:
    """The store's error for a status that is not success."""
    about = f"{path}: " if path else ""
    if status == STOPPED_ON_SYMLINK:
        return UnsafePathError(store=store, path=ascii(path), detail="a part of it is a link")
    if status == ACCESS_DENIED:
        verb, refusal = ("write", StoreReadOnlyError) if writing else ("read", StoreAccessError)
        allow = f"Let this account {verb} there: on the share and in the folder's own permissions."
        return refusal(
            store=store,
            detail=f"{about}the account may not {verb} there",
            fix=f"{allow} Or give another place." if writing else allow,
        )
    kind, words = _KINDS.get(status, (StoreError, "the server refused it"))
    detail = f"{about}{words} (0x{status:08X})"
    return kind(store=store, detail=detail, path=path, status=status, kind="share", fix=_FIXES.get(kind, ""))
