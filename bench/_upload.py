"""Uploading to a container: to a sink that is not the bottleneck, and to Azurite."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench._measure import Contender, interleave, table
from bench._sink import running_sink
from bench._workloads import Workload, large_files, small_files
from tests.support.azurite import running_azurite

SINK_SAS = "sv=2019-02-02&sr=c&sp=racwdl&se=2099-01-01T00%3A00%3A00Z&sig=bm90YXNlY3JldG5vdGFzZWNyZXQ%3D"


@dataclass(frozen=True, slots=True)
class Service:
    """Where to send, with a container that nobody has used."""

    url: str
    sas: str
    port: int


def to_sink_large(base: Path, programs: Path, scale: float, runs: int) -> str:
    work = large_files(base / "large", scale)
    with _sink(base, programs) as services:
        return _compare("Zips to the sink", base, programs, work, services, runs)


def to_sink_small(base: Path, programs: Path, scale: float, runs: int) -> str:
    work = small_files(base / "small", scale)
    with _sink(base, programs) as services:
        # The storage SDK takes half a minute for 20,000 files: once each.
        return _compare("Files of 10 KB to the sink", base, programs, work, services, runs, sdk_runs=1)


def to_azurite_large(base: Path, programs: Path, scale: float, runs: int) -> str:
    work = large_files(base / "large", scale)
    with _azurite(base) as services:
        return _compare("Zips to Azurite", base, programs, work, services, runs, floors=False, sdk_runs=1)


def _compare(
    title: str,
    base: Path,
    programs: Path,
    work: Workload,
    services: Iterator[Service],
    runs: int,
    *,
    floors: bool = True,
    sdk_runs: int | None = None,
) -> str:
    contenders = _contenders(base, programs, work, services, sdk_runs)
    if floors:  # only the sink takes requests without a SAS
        contenders += _floors(programs, work.folder, services)
    interleave(contenders, runs, programs, base / "log")
    return table(title, contenders, work.size_bytes, base="azcopy --put-md5", files=work.files)


@contextmanager
def _sink(base: Path, programs: Path) -> Iterator[Iterator[Service]]:
    with running_sink(programs / "sink", base) as port:
        yield (Service(f"http://127.0.0.1:{port}/account/bench-{number}", SINK_SAS, port) for number in range(10_000))


@contextmanager
def _azurite(base: Path) -> Iterator[Iterator[Service]]:
    folder = base / "azurite"

    def containers() -> Generator[Service, None, None]:
        while True:  # a service of its own for every run: what the others have left would fill the disk
            folder.mkdir()
            with running_azurite(folder) as azurite:
                name = azurite.new_container()
                yield Service(azurite.container_url(name), azurite.sas(name).reveal(), azurite.port)
            shutil.rmtree(folder)

    services = containers()
    with closing(services):
        yield services


class _Fresh(Contender):
    """A contender that gets a container of its own for every run: what is there already would be skipped."""

    def __init__(
        self, name: str, services: Iterator[Service], words: Callable[[Service], list[str | Path]], **more: object
    ) -> None:
        super().__init__(name, [], **more)  # type: ignore[arg-type]
        self._services = services
        self._words = words
        self._given = dict(self.environment)

    def run(self, programs: Path, log: Path) -> None:
        service = next(self._services)
        self.command = self._words(service)
        self.environment = {
            **self._given,
            "PEP_BRIDGE_SAS": service.sas,
            "RCLONE_CONFIG_BENCH_TYPE": "azureblob",
            "RCLONE_CONFIG_BENCH_SAS_URL": f"{service.url}?{service.sas}",
        }
        super().run(programs, log)


def _contenders(
    base: Path, programs: Path, work: Workload, services: Iterator[Service], sdk_runs: int | None
) -> list[Contender]:
    python, folder = sys.executable, work.folder
    azcopy = azcopy_program(programs)
    quiet = azcopy_quiet(base)

    def azcopy_words(service: Service, *more: str) -> list[str | Path]:
        words: list[str | Path] = [azcopy, "copy", f"{folder}/*", f"{service.url}?{service.sas}", "--recursive"]
        words += ["--from-to", "LocalBlob"]
        return [*words, "--log-level", "NONE", "--output-level", "essential", "--skip-version-check", *more]

    def rclone_words(service: Service, *more: str) -> list[str | Path]:
        container = service.url.rsplit("/", 1)[1]
        return ["rclone", "copy", folder, f"bench:{container}", "--config", "", *more]

    return [
        _Fresh("pep-bridge (SHA-256, CRC64)", services, lambda s: [python, "-m", "bench._ours", "send", folder, s.url]),
        _Fresh(
            "pep-bridge (SHA-256, MD5)", services, lambda s: [python, "-m", "bench._ours", "send-md5", folder, s.url]
        ),
        _Fresh("azcopy --put-md5", services, lambda s: azcopy_words(s, "--put-md5"), environment=quiet),
        _Fresh("azcopy, no hash", services, azcopy_words, environment=quiet),
        _Fresh("rclone, with checksums", services, rclone_words),
        _Fresh("rclone, no checksums", services, lambda s: rclone_words(s, "--azureblob-disable-checksum")),
        _Fresh(
            "azure-storage-blob, MD5",
            services,
            lambda s: [python, "-m", "bench._sdk", folder, s.url, "md5"],
            most_runs=sdk_runs,
        ),
        _Fresh(
            "azure-storage-blob, no hash",
            services,
            lambda s: [python, "-m", "bench._sdk", folder, s.url],
            most_runs=sdk_runs,
        ),
    ]


def _floors(programs: Path, folder: Path, services: Iterator[Service]) -> list[Contender]:
    floor = programs / "floor"
    return [
        _Fresh("C: read, SHA-256, send (floor)", services, lambda s: [floor, "send", folder, str(s.port)]),
        _Fresh("C: read, send (disk and loopback)", services, lambda s: [floor, "wire", folder, str(s.port)]),
        _Fresh("C: read, SHA-256 (disk and hash)", services, lambda _: [floor, "hash", folder]),
    ]


def azcopy_quiet(base: Path) -> dict[str, str]:
    """The environment that keeps azcopy's own files in one place."""
    return {"AZCOPY_LOG_LOCATION": str(base / "azcopy"), "AZCOPY_JOB_PLAN_LOCATION": str(base / "azcopy")}


def azcopy_program(programs: Path) -> Path:
    """The program of the npm package, which comes without the permission to run it."""
    packed = next((Path(".tools/node_modules/@azure-tools/azcopy-linux/dist/bin")).glob("azcopy*"), None)
    copy = programs / "azcopy"
    if packed is not None and not copy.exists():
        shutil.copyfile(packed, copy)
        copy.chmod(0o700)
    return copy
