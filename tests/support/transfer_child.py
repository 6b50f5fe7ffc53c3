"""A delivery in a process of its own, to be killed: ``python -m tests.support.transfer_child FOLDER URL ROOT JOURNAL``.

The SAS comes in PEP_BRIDGE_SAS; block size, connections and rate as JSON in PEP_BRIDGE_TEST_SETTINGS. Prints ``ready``
when the first bytes are on the line, and the result as JSON at the end.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

from bridge.secrets import Secret
from bridge.store import FolderStore, open_store, parse_destination
from bridge.store.transfer import LinePolicy, Progress, TransferEvent, TransferJournal, TransferSettings, transfer


def main() -> None:
    folder, url, root, journal_path = sys.argv[1:]
    given = json.loads(os.environ.get("PEP_BRIDGE_TEST_SETTINGS", "{}"))
    policy = LinePolicy(limit_rate_bits_per_s=given.pop("rate", None))
    settings = TransferSettings(policy=policy, **given)
    if url.startswith("http"):
        target = open_store(parse_destination(f"{url}/{root}"), sas=Secret(os.environ["PEP_BRIDGE_SAS"]))
    else:
        target = FolderStore(Path(url) / root)
    source = FolderStore(folder)
    said = False

    def tell(event: TransferEvent) -> None:
        nonlocal said
        if not said and isinstance(event, Progress) and event.bytes_sent:
            said = True
            print("ready", flush=True)

    with TransferJournal(Path(journal_path)) as journal:
        items = [entry for entry in source.list() if entry.path != "bagit.txt"]
        result = transfer(
            source, target, items, last=[source.stat("bagit.txt")], settings=settings, journal=journal, on_event=tell
        )
    print(json.dumps(asdict(result)), flush=True)


if __name__ == "__main__":
    main()
