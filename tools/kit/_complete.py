"""Whether a kit has all that it needs: follows what each wheel requires, as it is on the kit's own platform."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.parser import HeaderParser
from pathlib import Path

from packaging.requirements import Requirement
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import NormalizedName, canonicalize_name, parse_wheel_filename
from packaging.version import Version

from tools.kit._wheels import Platform, environment


@dataclass(frozen=True, slots=True)
class _Wheel:
    version: Version
    tags: frozenset[Tag]
    requires: tuple[Requirement, ...]


def find_gaps(wheels: Path, platform: Platform, python: str, root: str) -> list[str]:
    """One line for each requirement of ``root`` and of what it requires that no wheel fulfils on that platform.

    pip's own resolver cannot tell: for another platform it still judges the markers by this machine.
    """
    usable = _usable(wheels, platform, python)
    there = environment(platform, python)
    gaps: list[str] = []
    seen: set[tuple[NormalizedName, str]] = set()
    waiting = [(canonicalize_name(root), "")]
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        if name not in usable:
            gaps.append(f"{name}: no wheel for {platform.name}, Python {python}")
            continue
        for wanted in _wanted(usable[name], there | {"extra": extra}):
            needed = canonicalize_name(wanted.name)
            if needed in usable and not wanted.specifier.contains(usable[needed].version, prereleases=True):
                gaps.append(f"{name} requires {wanted}, but {usable[needed].version} is there")
            waiting += [(needed, each) for each in ("", *wanted.extras)]
    return gaps


def _wanted(wheel: _Wheel, there: Mapping[str, str]) -> Iterator[Requirement]:
    return (each for each in wheel.requires if each.marker is None or each.marker.evaluate(dict(there)))


def _usable(wheels: Path, platform: Platform, python: str) -> dict[NormalizedName, _Wheel]:
    """The wheels that this Python on this platform takes."""
    version = tuple(map(int, python.split(".")))
    tags = {*cpython_tags(version, platforms=platform.tags), *compatible_tags(version, platforms=platform.tags)}
    found = {}
    for file in sorted(wheels.glob("*.whl")):
        name, release, _, offered = parse_wheel_filename(file.name)
        if tags & offered:
            found[name] = _Wheel(release, offered, tuple(_requires(file)))
    return found


def _requires(file: Path) -> Iterator[Requirement]:
    with zipfile.ZipFile(file) as wheel:
        name = next(each for each in wheel.namelist() if each.endswith(".dist-info/METADATA"))
        metadata = HeaderParser().parsestr(wheel.read(name).decode("utf-8"))
    return map(Requirement, metadata.get_all("Requires-Dist") or ())
