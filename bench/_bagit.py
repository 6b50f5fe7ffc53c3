"""bagit-python's own hashing with two processes: ``python -m bench._bagit FOLDER``."""

from __future__ import annotations

import os
import sys

import bagit


def main() -> None:
    os.chdir(sys.argv[1])
    bagit.make_manifests(".", 2, algorithms=["sha256"])


if __name__ == "__main__":
    main()
