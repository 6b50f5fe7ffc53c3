"""The engine as a process of its own: ``python -m bench._ours hash|read|send|send-md5 PLACE [TARGET]``."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Literal

from bridge.secrets import Credential, Secret
from bridge.store import Store, open_store, parse_destination
from bridge.store.transfer import TransferJournal, TransferSettings, hash_files, transfer


def _open(place: str) -> Store:
    sas = os.environ.get("PEP_BRIDGE_SAS")
    password = os.environ.get("PEP_BRIDGE_SHARE_PASSWORD")
    credential = Credential(os.environ.get("BENCH_USERNAME", ""), Secret(password)) if password else None
    destination = parse_destination(place)
    return open_store(
        destination,
        credential=credential if destination.kind == "share" else None,
        sas=Secret(sas) if sas and destination.kind == "container" else None,
    )


def deliver(source: Store, target: Store, *, checksum: Literal["auto", "md5"] = "auto") -> int:
    """Everything from one store to another, with a journal as in a delivery; returns the number of files."""
    import tempfile  # what sealing does not need is not in its start-up

    with tempfile.TemporaryDirectory() as state, TransferJournal(Path(state) / "journal.sqlite") as journal:
        settings = TransferSettings(checksum=checksum)
        return transfer(source, target, source.list(), settings=settings, journal=journal).files


def main() -> None:
    verb, place, *more = sys.argv[1:]
    source = _open(place)
    if verb == "hash":
        count = sum(1 for _ in hash_files(source))
    elif verb == "read":
        buffer = memoryview(bytearray(1 << 20))
        for count, entry in enumerate(source.list(), 1):  # noqa: B007 - the last number is printed
            with source.open_read(entry.path) as reader:
                while reader.readinto(buffer):
                    pass
    else:
        target = _open(more[0])
        count = deliver(source, target, checksum="md5" if verb == "send-md5" else "auto")
        target.close()
    source.close()
    print(count)


if __name__ == "__main__":
    main()
