"""What ``deliver`` says at its end."""

from __future__ import annotations

from pathlib import Path

from bridge.store import FolderStore
from tests.support.azurite import Azurite
from tests.support.bundles import INFO, make_bundle
from tests.support.command_line import run


def test_more_bytes_than_there_are_files_to_send_are_explained(azurite: Azurite, tmp_path: Path) -> None:
    root = tmp_path / INFO.bundle_name
    make_bundle(root, FolderStore(root))
    container = azurite.new_container()
    words = ("--state-dir", str(tmp_path / "state"), "deliver", str(root), "--to", azurite.container_url(container))
    said = {}
    for time in ("first", "second"):
        done = run(*words, PEP_BRIDGE_SAS=azurite.sas(container).reveal())
        assert done.returncode == 0, done.stderr
        [said[time]] = [line for line in done.stdout.splitlines() if line.startswith("sent ")]
    assert said["first"].endswith("the requests and what was sent again included"), said
    assert said["second"].startswith("sent       0 B; "), said
