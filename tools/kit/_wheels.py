"""The wheels of a kit: those that the lock file names, for another platform and several versions of Python."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name, parse_wheel_filename

_HASH = re.compile(r"--hash=(sha256:[0-9a-f]{64})")


class KitError(Exception):
    """The kit cannot be made."""


@dataclass(frozen=True, slots=True)
class Platform:
    """What a kit is for."""

    name: str
    tags: tuple[str, ...]
    """Of wheels, as pip's ``--platform`` takes them; the newest first."""
    markers: dict[str, str]
    """The environment that the markers of a lock file are judged in."""


LINUX = Platform(
    "linux",
    ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64"),
    {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix", "platform_machine": "x86_64"},
)
WINDOWS = Platform(
    "windows",
    ("win_amd64",),
    {"sys_platform": "win32", "platform_system": "Windows", "os_name": "nt", "platform_machine": "AMD64"},
)
PLATFORMS = {platform.name: platform for platform in (LINUX, WINDOWS)}


@dataclass(frozen=True, slots=True)
class Pin:
    """One line of a lock file."""

    requirement: Requirement
    hashes: tuple[str, ...]

    @property
    def version(self) -> str:
        """The only version that it allows."""
        (found,) = self.requirement.specifier
        return found.version

    def is_for(self, platform: Platform, python: str) -> bool:
        """Whether its marker holds there."""
        return self.requirement.marker is None or self.requirement.marker.evaluate(environment(platform, python))


def environment(platform: Platform, python: str) -> dict[str, str]:
    """What markers are judged by; a name that were left out would be taken from this machine."""
    here = {"implementation_name": "cpython", "platform_python_implementation": "CPython", "extra": ""}
    return platform.markers | here | {"python_version": python, "python_full_version": f"{python}.0"}


def read_lock(file: Path) -> list[Pin]:
    """The pins of a lock file with hashes."""
    logical = file.read_text(encoding="utf-8").replace("\\\n", " ")
    return [_pin(line) for line in logical.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def _pin(line: str) -> Pin:
    return Pin(Requirement(line.partition("--hash")[0].strip()), tuple(_HASH.findall(line)))


def fetch_wheels(pins: Iterable[Pin], platform: Platform, pythons: Sequence[str], folder: Path) -> None:
    """Downloads the wheels that each version of Python takes on that platform, checked against the lock's hashes.

    Raises:
        KitError: a package has no wheel there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    known = list(pins)
    for python in pythons:
        wanted = folder.parent / f"wanted-{platform.name}-{python}.txt"
        lines = [
            f"{pin.requirement.name}=={pin.version} " + " ".join(f"--hash={each}" for each in pin.hashes)
            for pin in known
            if pin.is_for(platform, python)
        ]
        wanted.write_text("\n".join(lines) + "\n", encoding="utf-8")
        tags = [option for tag in platform.tags for option in ("--platform", tag)]
        target = ["--python-version", python, "--implementation", "cp", *tags]
        pip("download", "--no-deps", "--only-binary=:all:", "--require-hashes", *target, "-d", folder, "-r", wanted)
        wanted.unlink()


def build_wheel(project: Path, folder: Path, *, epoch_s: int) -> None:
    """This project's own wheel, the same bytes each time."""
    pip("wheel", "--no-deps", "--no-build-isolation", "-w", folder, project, SOURCE_DATE_EPOCH=str(epoch_s))


def write_lock(pins: Iterable[Pin], wheels: Path, file: Path) -> None:
    """The lock of the kit: the same pins and markers, with the hashes of the very wheels that lie in it."""
    digests: dict[NormalizedName, list[str]] = {}
    versions: dict[NormalizedName, str] = {}
    for wheel in sorted(wheels.glob("*.whl")):
        name, version, _, _ = parse_wheel_filename(wheel.name)
        digests.setdefault(name, []).append(hashlib.sha256(wheel.read_bytes()).hexdigest())
        versions[name] = str(version)
    markers = {canonicalize_name(pin.requirement.name): pin.requirement.marker for pin in pins}
    lines = [
        " \\\n    ".join([_requirement(name, versions[name], markers.get(name)), *_hash_options(digests[name])])
        for name in sorted(digests)
    ]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")


def _requirement(name: str, version: str, marker: object) -> str:
    return f"{name}=={version}" + (f" ; {marker}" if marker else "")


def _hash_options(digests: Iterable[str]) -> Iterator[str]:
    return (f"--hash=sha256:{digest}" for digest in sorted(digests))


def pip(*arguments: str | Path, **environment: str) -> None:
    """Runs pip of this environment.

    Raises:
        KitError: with what pip said last.
    """
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | environment)
    if done.returncode:
        raise KitError(f"pip {arguments[0]}: {done.stderr.strip()[-2000:]}")
