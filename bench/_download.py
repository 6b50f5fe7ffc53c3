"""Fetching a container into a folder, from Azurite, beside azcopy and rclone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench._measure import Contender, interleave, table
from bench._ours import deliver
from bench._upload import azcopy_program, azcopy_quiet
from bench._workloads import Workload, large_files, small_files
from bridge.secrets import Secret
from bridge.store import FolderStore, open_store, parse_destination
from tests.support.azurite import running_azurite


class _IntoEmptyFolder(Contender):
    """A contender whose folder is emptied before every run: what is there already would be skipped."""

    def __init__(self, name: str, folder: Path, command: Sequence[str | Path], **more: object) -> None:
        super().__init__(name, command, **more)  # type: ignore[arg-type]
        self._folder = folder

    def run(self, programs: Path, log: Path) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir()
        super().run(programs, log)


def large(base: Path, programs: Path, scale: float, runs: int) -> str:
    """The table of the download direction."""
    work = large_files(base / "files", scale)
    return _compare("Zips from Azurite into a folder", base, programs, work, runs)


def small(base: Path, programs: Path, scale: float, runs: int) -> str:
    """The same with small files: a tenth of those of the upload, as Azurite gives some 500 a second."""
    work = small_files(base / "files", scale / 10)
    return _compare("Files of 10 KB from Azurite into a folder", base, programs, work, runs)


def _compare(title: str, base: Path, programs: Path, work: Workload, runs: int) -> str:
    place = base / "azurite"
    place.mkdir()
    with running_azurite(place) as azurite:
        name = azurite.new_container()
        url, sas = azurite.container_url(name), azurite.sas(name).reveal()
        rclone = {"RCLONE_CONFIG_BENCH_TYPE": "azureblob", "RCLONE_CONFIG_BENCH_SAS_URL": f"{url}?{sas}"}
        _fill(work.folder, name, url, Secret(sas), rclone)
        shutil.rmtree(work.folder)
        out = base / "out"
        azcopy: list[str | Path] = [azcopy_program(programs), "copy", f"{url}/*?{sas}", out, "--recursive"]
        azcopy += ["--from-to", "BlobLocal"]
        azcopy += ["--log-level", "NONE", "--output-level", "essential", "--skip-version-check"]
        ours: list[str | Path] = [sys.executable, "-m", "bench._ours", "send", url, out]
        copy: list[str | Path] = ["rclone", "copy", f"bench:{name}", out, "--config", ""]
        quiet = azcopy_quiet(base)
        contenders = [
            _IntoEmptyFolder("pep-bridge (SHA-256, flushed)", out, ours, environment={"PEP_BRIDGE_SAS": sas}),
            _IntoEmptyFolder("azcopy --check-md5", out, azcopy, environment=quiet),
            _IntoEmptyFolder("azcopy --check-md5 NoCheck", out, [*azcopy, "--check-md5", "NoCheck"], environment=quiet),
            _IntoEmptyFolder("azcopy --check-md5, then sync", out, _then_sync(azcopy, out), environment=quiet),
            _IntoEmptyFolder("rclone", out, copy, environment=rclone),
            _IntoEmptyFolder("rclone, then sync", out, _then_sync(copy, out), environment=rclone),
        ]
        interleave(contenders, runs, programs, base / "log")
    return table(title, contenders, work.size_bytes, base="azcopy --check-md5", files=work.files)


def _fill(folder: Path, container: str, url: str, sas: Secret, rclone: Mapping[str, str]) -> None:
    """Puts the files there; rclone gives every blob its Content-MD5, which is what the peers check."""
    if shutil.which("rclone"):
        words = ["rclone", "copy", str(folder), f"bench:{container}", "--config", ""]
        subprocess.run(words, env={**os.environ, **rclone}, check=True, capture_output=True)
        return
    target = open_store(parse_destination(url), sas=sas)
    deliver(FolderStore(folder), target)
    target.close()


def _then_sync(command: Sequence[str | Path], out: Path) -> list[str | Path]:
    """The same with everything on the disk at the end, as ours leaves it."""
    return ["sh", "-c", 'out="$0"; "$@" && sync -f "$out"', out, *command]
