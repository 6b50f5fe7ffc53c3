"""The files that are moved: zips of 1 to 200 MB, and many small logs, the same for every contender."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

_POOL_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Workload:
    """A folder with files."""

    folder: Path
    files: int
    size_bytes: int


def large_files(folder: Path, scale: float) -> Workload:
    """2 GiB (times the scale) in about 60 zips of 1 to 200 MB, most of them small, as a collection has them."""
    source = random.Random(1)
    weights = [source.lognormvariate(0, 1.1) for _ in range(60)]
    total = int((2 << 30) * scale)
    sizes = [min(max(int(weight / sum(weights) * total), 1 << 20), 200_000_000) for weight in weights]
    return _write(folder, {f"Role{number:02}-AzS-ERCS01.zip": size for number, size in enumerate(sizes)})


def small_files(folder: Path, scale: float) -> Workload:
    """20,000 files (times the scale) of 10 KB, 500 in a folder."""
    count = max(100, int(20_000 * scale))
    return _write(folder, {f"{number // 500:02}/trace{number:05}.log": 10_000 for number in range(count)})


def one_file(folder: Path, scale: float) -> Workload:
    """1 GiB (times the scale) in one file."""
    return _write(folder, {"one.zip": int((1 << 30) * scale)})


def _write(folder: Path, sizes: dict[str, int]) -> Workload:
    source = random.Random(2)
    pool = source.randbytes(_POOL_BYTES)
    for path, size in sizes.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as file:
            left = size
            while left:
                start = source.randrange(_POOL_BYTES // 2)
                left -= file.write(pool[start : start + left])
    return Workload(folder, len(sizes), sum(sizes.values()))
