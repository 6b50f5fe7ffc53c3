"""Makes the kits: ``python -m tools.kit [--platform linux] [--python 3.11] [--documentation build/docs] OUTPUT``."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from bridge import __version__
from tools._source_date import source_date
from tools.kit._archive import write_sums, write_tar, write_zip
from tools.kit._complete import find_gaps
from tools.kit._wheels import (
    PLATFORMS,
    WINDOWS,
    KitError,
    Platform,
    build_wheel,
    fetch_wheels,
    read_lock,
    write_lock,
)

ROOT = Path(__file__).parents[2]
PYTHONS = ("3.11", "3.12", "3.13", "3.14")


def main(arguments: Sequence[str]) -> int:
    """Makes what is asked; 1 with a message where it cannot."""
    parser = argparse.ArgumentParser(prog="python -m tools.kit", description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--platform", action="append", choices=sorted(PLATFORMS))
    parser.add_argument("--python", action="append", metavar="3.N", help=f"default: {', '.join(PYTHONS)}")
    parser.add_argument("--documentation", type=Path, help="the folder that 'make docs' filled")
    given = parser.parse_args(arguments)
    try:
        for name in given.platform or PLATFORMS:
            made = make_kit(PLATFORMS[name], given.python or PYTHONS, given.documentation, given.output)
            sys.stderr.write(f"{made}  {made.stat().st_size / 1e6:.1f} MB\n")
    except KitError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


def make_kit(platform: Platform, pythons: Sequence[str], documentation: Path | None, output: Path) -> Path:
    """Fills ``output/pep-bridge-VERSION-PLATFORM`` and packs it; returns the archive."""
    epoch_s = int(source_date(ROOT).timestamp())
    folder = output / f"pep-bridge-{__version__}-{platform.name}"
    shutil.rmtree(folder, ignore_errors=True)
    wheels = folder / "wheels"
    pins, installer = read_lock(ROOT / "requirements" / "runtime.txt"), read_lock(ROOT / "requirements" / "kit.txt")
    fetch_wheels(pins, platform, pythons, wheels)
    build_wheel(ROOT, wheels, epoch_s=epoch_s)
    gaps = [gap for python in pythons for gap in find_gaps(wheels, platform, python, "pep-bridge")]
    if gaps:
        raise KitError("; ".join(gaps) + " (are the lock files up to date? make lock)")
    write_lock(pins, wheels, folder / "requirements.txt")
    # pip itself is no requirement: the installers start it out of its wheel, and what Python brought is left alone.
    fetch_wheels(installer, platform, pythons[:1], folder / "pip")
    _add_texts(folder, platform, documentation)
    write_sums(folder)
    if platform is WINDOWS:
        archive = output / f"{folder.name}.zip"
        write_zip(folder, archive, epoch_s=epoch_s)
    else:
        archive = output / f"{folder.name}.tar.gz"
        write_tar(folder, archive, epoch_s=epoch_s)
    return archive


def _add_texts(folder: Path, platform: Platform, documentation: Path | None) -> None:
    """Installer, read-me, scripts, and the documentation where it was built."""
    here = Path(__file__).parent
    installer = "install.ps1" if platform is WINDOWS else "install.sh"
    # Windows PowerShell 5.1 and old editors want CRLF in what belongs to Windows.
    text = (here / installer).read_text(encoding="utf-8")
    (folder / installer).write_text(text, encoding="utf-8", newline="\r\n" if platform is WINDOWS else "\n")
    (folder / installer).chmod(0o755)
    shutil.copyfile(ROOT / "docs" / "how-to" / "offline-installation.md", folder / "INSTALL.md")
    (folder / "scripts").mkdir()
    for script in sorted((ROOT / "pep_scripts").glob("*.ps1")):
        shutil.copyfile(script, folder / "scripts" / script.name)
    if documentation is not None:
        shutil.copytree(documentation / "site", folder / "docs")
        if platform is not WINDOWS:
            shutil.copytree(documentation / "man", folder / "man")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
