"""``python -m tests.soak``: many runs with random faults, real processes and servers; a table of what came of them."""

from __future__ import annotations

import argparse
import faulthandler
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.soak.plan import make_plan
from tests.soak.soak import Soak, soak_all, steps_until
from tests.soak.world import Lab
from tests.support.azurite import running_azurite
from tests.support.samba import running_samba


@contextmanager
def laboratory(folder: Path) -> Iterator[Lab]:
    """The servers of a soak."""
    with running_samba(folder / "samba") as samba, running_azurite(folder / "azurite") as azurite:
        yield Lab(samba, azurite)


def main() -> int:
    faulthandler.enable()
    options = _options()
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="soak-", ignore_cleanup_errors=True) as name:
        folder = Path(options.keep or name)
        (folder / "samba").mkdir(parents=True, exist_ok=True)
        (folder / "azurite").mkdir(exist_ok=True)
        began = time.monotonic()
        with laboratory(folder) as lab:
            soak = Soak(lab, folder, keep=bool(options.keep))
            if options.only is not None:
                for step in options.only:
                    soak.run(make_plan(options.seed, step))
            else:
                soak_all(soak, steps_until(began + options.minutes * 60, options.seed), workers=options.workers)
            soak.tally.wall_s = time.monotonic() - began
        soak.tally.violations += [
            f"VIOLATION a process is left over: {child}" for child in psutil.Process().children(recursive=True)
        ]
    print(soak.tally)
    return 1 if soak.tally.violations else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0, help="how long new runs are begun (default: 60)")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 31), help="default: a new one, printed")
    parser.add_argument("--only", type=int, nargs="+", metavar="STEP", help="do these steps of the seed alone")
    parser.add_argument("--workers", type=int, default=2, help="how many runs go on at once (default: 2)")
    parser.add_argument("--keep", metavar="FOLDER", help="work in this folder and leave everything there")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
