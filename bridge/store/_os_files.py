"""Files as Windows and the others have them: long paths, links, locks, renames, and what is held elsewhere."""

from __future__ import annotations

import errno
import os
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

FILE_MODE = 0o600
_FOLDER_MODE = 0o700
_LOCKED_BYTE = 1 << 62  # far behind every content: on Windows a lock keeps others from its bytes
_ACCESS_DENIED, SHARING_VIOLATION = 5, 32  # as winerror (MS-ERREF 2.2)
_HELD_ELSEWHERE = {_ACCESS_DENIED, SHARING_VIOLATION}
_HELD_FOR_S = 2.0
_REPARSE_LINKS = {0xA000000C, 0xA0000003}  # IO_REPARSE_TAG_SYMLINK, IO_REPARSE_TAG_MOUNT_POINT (MS-FSCC 2.1.2.1)


def os_path(root: Path | str) -> str:
    """An absolute path; on Windows in the form that has no limit of 260 characters (Naming Files, Microsoft Learn)."""
    if sys.platform != "win32":
        return os.path.abspath(root)  # noqa: PTH100 - a link at the root itself is the caller's choice
    full = os.path.abspath(root)  # type: ignore[unreachable,unused-ignore]  # noqa: PTH100
    if full.startswith("\\\\?\\"):
        return full
    if full.startswith("\\\\"):
        return "\\\\?\\UNC\\" + full[2:]
    return "\\\\?\\" + full


def is_link(status: os.stat_result) -> bool:
    """Whether it is a symbolic link, or on Windows a junction."""
    return stat.S_ISLNK(status.st_mode) or (os.name == "nt" and getattr(status, "st_reparse_tag", 0) in _REPARSE_LINKS)


def make_folders(folder: Path) -> None:
    """Path.mkdir(parents=True) would give the folders on the way everybody's permissions."""
    missing = []
    while not folder.is_dir():
        if folder == folder.parent:  # a drive or share that is gone is its own parent
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(folder))
        missing.append(folder)
        folder = folder.parent
    for new in reversed(missing):
        new.mkdir(mode=_FOLDER_MODE, exist_ok=True)


def once_let_go(
    step: Callable[[], T],
    *,
    monotonic: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> T:
    """Renames or removes a file as soon as nobody else on Windows has it open, and tries for two seconds.

    A scanner, an indexer or another machine opens what was just written for a moment, without sharing it for removal:
    Windows refuses the rename meanwhile (CreateFile, FILE_SHARE_DELETE, Microsoft Learn). It says the same where the
    access is denied for good, so that this is known two seconds later.

    Raises:
        OSError: the last one that the step raised.
    """
    give_up_at = monotonic() + _HELD_FOR_S
    wait_s = 0.01
    while True:
        try:
            return step()
        except OSError as error:
            held = getattr(error, "winerror", None) in _HELD_ELSEWHERE
            if not held or monotonic() >= give_up_at:
                raise
        sleep(wait_s)
        wait_s = min(2 * wait_s, 0.2)


def rename_to_new(source: str, target: str) -> None:
    """Raises ``FileExistsError`` where the name is taken: ``os.rename`` would replace on all but Windows."""
    if os.name == "nt":
        os.rename(source, target)  # noqa: PTH104 - refuses an existing target on Windows
        return
    try:
        os.link(source, target, follow_symlinks=False)
    except FileExistsError:
        raise
    except OSError:
        # A file system without hard links: take the name first, then put the contents there.
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, FILE_MODE))
        os.replace(source, target)  # noqa: PTH105
        return
    os.unlink(source)  # noqa: PTH108


def remove_if_empty(folder: Path) -> None:
    """A folder that holds something stays, without a word."""
    try:
        folder.rmdir()
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
            raise


def lock(descriptor: int) -> bool:
    """Locks a file until it is closed; false where another process or writer has it."""
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
            try:
                msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            finally:
                os.lseek(descriptor, 0, os.SEEK_SET)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        # Some network file systems cannot: there it is as it was without.
        return error.errno not in {errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK}
    return True


def is_still(descriptor: int, path: str) -> bool:
    """Whether the open file is the one under this name."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False


def sync_folder(path: str) -> None:
    """Has the names of a folder on the disk."""
    if os.name == "nt":
        return  # Windows has no handle on a folder that can be flushed without more rights
    folder = os.open(path, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOTSUP}:  # some network file systems cannot
            raise
    finally:
        os.close(folder)
