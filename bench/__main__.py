"""``python -m bench``: prints the tables as Markdown."""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench import _download, _sealing, _share, _upload, session
from bench._sink import build

Benchmark = Callable[[Path, Path, float, int], str]
BENCHMARKS: dict[str, Benchmark] = {
    "seal": _sealing.run,
    "upload-large": _upload.to_sink_large,
    "upload-small": _upload.to_sink_small,
    "azurite": _upload.to_azurite_large,
    "download": _download.large,
    "download-small": _download.small,
    "share": _share.run,
    "session": session.run,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="Measures the transfer engine beside its peers."
    )
    parser.add_argument("--scale", type=float, default=1.0, help="size of the workloads; 1.0 is 2 GiB and 20,000 files")
    parser.add_argument(
        "--runs", type=int, default=5, help="interleaved runs after one that warms up; medians are shown"
    )
    parser.add_argument("--only", nargs="+", choices=sorted(BENCHMARKS), help="some of the tables")
    parser.add_argument("--folder", type=Path, help="where the files are made (default: the temporary folder)")
    chosen = parser.parse_args()
    print(
        f"{platform.platform()}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f},"
        f" Python {platform.python_version()}"
    )
    print(
        f"Scale {chosen.scale}, medians of {chosen.runs} interleaved runs; peak memory is the largest seen.\n",
        flush=True,
    )
    for name in chosen.only or BENCHMARKS:
        with tempfile.TemporaryDirectory(dir=chosen.folder, prefix="pep-bench-") as base:
            programs = build(Path(base) / "programs")
            print(BENCHMARKS[name](Path(base), programs, chosen.scale, chosen.runs), flush=True)


if __name__ == "__main__":
    main()
