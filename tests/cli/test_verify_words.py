"""What ``verify`` advises, by what it has found."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.bundle import Unhashed, seal
from bridge.errors import ExitCode
from bridge.store import FolderStore
from tests.support.bundles import DOCUMENTS, INFO, digests_of, make_bundle, write_payload
from tests.support.command_line import run


@pytest.mark.parametrize(
    ("damage", "advice"),
    [
        ("a file more", "fix: Move away what is there and not listed"),
        ("a file more in the payload", "fix: Move away what is there and not listed"),
        ("a file less", "fix: Deliver it again from a copy that verifies, or collect again"),
        ("one more, one less", "fix: Deliver it again from a copy that verifies, or collect again"),
        ("never hashed", "fix: No fault was found; what was never hashed cannot be proven."),
    ],
)
def test_what_helps_is_advised(tmp_path: Path, damage: str, advice: str) -> None:
    store = FolderStore(tmp_path)
    if damage == "never hashed":
        write_payload(tmp_path)
        last = digests_of()[-1]
        unhashed = [Unhashed(last.path, last.size_bytes, "it could not be read", None)]
        seal(store, digests=digests_of()[:-1], documents=DOCUMENTS, info=INFO, unhashed=unhashed)
    else:
        make_bundle(tmp_path, store)
    if "more" in damage:
        (tmp_path / ("data/a.zip" if "payload" in damage else "note.txt")).write_bytes(b"hi")
    if "less" in damage:
        next(tmp_path.rglob("Storage-*.zip")).unlink()
    done = run("verify", str(tmp_path))
    assert done.returncode == ExitCode.VERIFICATION
    assert advice in done.stderr
