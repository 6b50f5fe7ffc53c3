"""A process that collects or attaches and may be killed: ``python -m tests.support.collecting_child``, JSON on stdin.

``kill_at`` counts the journal's transactions, twice each: before it is begun and after it is committed. At that
count the process kills itself, as a power cut would.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from bridge.collection import Access, Request, attach, collect
from bridge.collection._journal import Journal
from bridge.secrets import Credential, Secret
from tests.support.runs import QUICK


def start(document: dict[str, Any]) -> subprocess.Popen[str]:
    """Starts the child; its outcome is one line of JSON on stdout."""
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.support.collecting_child"],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdin is not None
    child.stdin.write(json.dumps(document))
    child.stdin.close()
    child.stdin = None
    return child


def main() -> None:
    document = json.load(sys.stdin)
    die_at(document.get("kill_at"))
    access = Access(Credential(document["username"], Secret(document["password"])))
    options: dict[str, Any] = {
        "state_dir": Path(document["state_dir"]),
        "settings": replace(QUICK, attach_deadline_s=30.0),
    }
    if run_id := document.get("attach"):
        outcome = attach(run_id, access, **options)
    else:
        outcome = collect(Request.from_json(document["request"]), access, **options)
    answer = outcome.to_json() | {"errors": [str(error) for error in outcome.errors], "exit_code": outcome.exit_code}
    print(json.dumps(answer | {"coverage": None}))


def die_at(count: int | None) -> None:
    plain = Journal._transaction
    seen = 0

    def look() -> None:
        nonlocal seen
        seen += 1
        if seen == count:
            os.kill(os.getpid(), signal.SIGKILL)

    @contextmanager
    def transaction(self: Journal) -> Iterator[sqlite3.Connection]:
        look()
        with plain(self) as connection:
            yield connection
        look()

    Journal._transaction = transaction  # type: ignore[method-assign]


if __name__ == "__main__":
    main()
