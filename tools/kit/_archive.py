"""Archives that come out the same each time: sorted names, one date, no owner."""

from __future__ import annotations

import gzip
import hashlib
import tarfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

_FILE, _PROGRAM = 0o644, 0o755
_PROGRAMS = {".sh"}


def write_sums(folder: Path) -> None:
    """``SHA256SUMS`` of everything in the folder, as ``sha256sum -c`` reads it."""
    lines = [
        f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.relative_to(folder).as_posix()}\n"
        for file in _files(folder)
    ]
    (folder / "SHA256SUMS").write_text("".join(lines), encoding="utf-8", newline="\n")


def write_tar(folder: Path, file: Path, *, epoch_s: int) -> None:
    """The folder as ``.tar.gz``."""
    with (
        file.open("wb") as raw,
        gzip.GzipFile("", "wb", fileobj=raw, mtime=epoch_s) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for each in _files(folder):
            member = tarfile.TarInfo(f"{folder.name}/{each.relative_to(folder).as_posix()}")
            member.size, member.mtime, member.mode = each.stat().st_size, epoch_s, _mode(each)
            with each.open("rb") as content:
                archive.addfile(member, content)


def write_zip(folder: Path, file: Path, *, epoch_s: int) -> None:
    """The folder as ``.zip``."""
    year, month, day, hour, minute, second = time.gmtime(epoch_s)[:6]
    with zipfile.ZipFile(file, "w") as archive:
        for each in _files(folder):
            name = f"{folder.name}/{each.relative_to(folder).as_posix()}"
            member = zipfile.ZipInfo(name, (max(year, 1980), month, day, hour, minute, second))
            member.create_system, member.external_attr = 3, (0o100000 | _mode(each)) << 16
            stored = each.suffix == ".whl"
            member.compress_type = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
            archive.writestr(member, each.read_bytes())


def _files(folder: Path) -> Iterator[Path]:
    """In the order of their names, whatever the file system says."""
    return iter(sorted((each for each in folder.rglob("*") if each.is_file()), key=lambda each: each.as_posix()))


def _mode(file: Path) -> int:
    return _PROGRAM if file.suffix in _PROGRAMS else _FILE
