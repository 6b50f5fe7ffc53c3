"""Fetching a container into a folder, from Azurite, beside azcopy and rclone."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from bench._measure import Contender, interleave, table
from bench._ours import deliver
from bench._upload import azcopy_program, azcopy_quiet
from bench._workloads import large_files
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


def run(base: Path, programs: Path, scale: float, runs: int) -> str:
    """The table of the download direction."""
    work = large_files(base / "large", scale)
    place = base / "azurite"
    place.mkdir()
    with running_azurite(place) as azurite:
        name = azurite.new_container()
        url, sas = azurite.container_url(name), azurite.sas(name).reveal()
        target = open_store(parse_destination(url), sas=Secret(sas))
        deliver(FolderStore(work.folder), target)
        target.close()
        shutil.rmtree(work.folder)
        out = base / "out"
        rclone = {"RCLONE_CONFIG_BENCH_TYPE": "azureblob", "RCLONE_CONFIG_BENCH_SAS_URL": f"{url}?{sas}"}
        azcopy: list[str | Path] = [azcopy_program(programs), "copy", f"{url}/*?{sas}", out, "--recursive"]
        azcopy += ["--from-to", "BlobLocal"]
        azcopy += ["--log-level", "NONE", "--output-level", "essential", "--skip-version-check"]
        ours: list[str | Path] = [sys.executable, "-m", "bench._ours", "send", url, out]
        copy: list[str | Path] = ["rclone", "copy", f"bench:{name}", out, "--config", ""]
        quiet = azcopy_quiet(base)
        contenders = [
            _IntoEmptyFolder("pep-bridge (SHA-256, flushed)", out, ours, environment={"PEP_BRIDGE_SAS": sas}),
            _IntoEmptyFolder("azcopy", out, azcopy, environment=quiet),
            _IntoEmptyFolder("azcopy, then sync", out, _then_sync(azcopy, out), environment=quiet),
            _IntoEmptyFolder("rclone", out, copy, environment=rclone),
            _IntoEmptyFolder("rclone, then sync", out, _then_sync(copy, out), environment=rclone),
        ]
        interleave(contenders, runs, programs, base / "log")
    return table("Zips from Azurite into a folder", contenders, work.size_bytes, base="azcopy", files=work.files)


def _then_sync(command: Sequence[str | Path], out: Path) -> list[str | Path]:
    """The same with everything on the disk at the end, as ours leaves it."""
    return ["sh", "-c", 'out="$0"; "$@" && sync -f "$out"', out, *command]
