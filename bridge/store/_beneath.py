"""Opens a file below a folder without following a link in any part of its path, in one call where the system has it."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable

_OPENAT2 = 437  # the same on every architecture (openat2(2), since Linux 5.6)
_NO_MAGICLINKS, _NO_SYMLINKS, _BENEATH = 0x02, 0x04, 0x08


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


if sys.platform == "linux":

    def opener_beneath(flags: int) -> Callable[[str, str], int] | None:
        """A function that opens ``path`` below ``root`` and gives its descriptor; ``None`` where there is none.

        The function raises ``OSError``; ``ELOOP`` says that a part of the path is a link. The root may be one. A part
        that is exchanged for a link at the last moment is seen as well: the system looks and opens in one step.
        """
        system = ctypes.CDLL(None, use_errno=True).syscall
        system.restype = ctypes.c_long
        how = _OpenHow(flags, 0, _NO_MAGICLINKS | _NO_SYMLINKS | _BENEATH)
        given, size = ctypes.byref(how), ctypes.c_size_t(ctypes.sizeof(how))
        number = ctypes.c_long(_OPENAT2)
        as_root = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC

        def opened(root: str, path: str) -> int:
            folder = os.open(root, as_root)
            try:
                found: int = system(number, folder, os.fsencode(path), given, size)
                if found < 0:
                    code = ctypes.get_errno()
                    raise OSError(code, os.strerror(code))
                return found
            finally:
                os.close(folder)

        try:
            os.close(opened("/", "."))
        except OSError:
            return None  # an older kernel, or a sandbox that does not let it through
        return opened

else:

    def opener_beneath(flags: int) -> Callable[[str, str], int] | None:
        """``None``: this system has no such call."""
        return None
