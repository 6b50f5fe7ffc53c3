"""docs/bundle.md tells the truth: every word that the code writes stands there, and its commands work."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from bridge.bundle import BagInfo, FindingKind, Verdict, read_bundle
from bridge.collection.coverage import RoleState
from bridge.store import FolderStore
from tests.support.bundles import INFO
from tests.support.make_sample_bundle import SAMPLE, seal_sample

PAGE = (Path(__file__).parents[2] / "docs" / "bundle.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("word", [*FindingKind, *Verdict, *RoleState])
def test_every_finding_verdict_and_state_is_explained(word: str) -> None:
    assert f"`{word}`" in PAGE


def test_every_label_of_bag_info_is_explained() -> None:
    assert isinstance(INFO, BagInfo)
    for label in (*read_bundle(FolderStore(SAMPLE)).info, "Unhashed-Files"):
        assert f"`{label}`" in PAGE


def test_every_field_of_coverage_is_explained() -> None:
    document = read_bundle(FolderStore(SAMPLE)).document("coverage.json")
    role = document["roles"][1]
    for name in (*document, *document["asked"], *document["window"], *role, *role["zips"][0], *document["nodes"][0]):
        assert f"`{name}`" in PAGE


def shell_commands() -> str:
    block = re.search(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    assert block
    return block.group(1)


@pytest.mark.skipif(sys.platform != "linux", reason="not run: the commands are those of Linux")
def test_the_commands_for_linux_accept_a_whole_bundle_and_refuse_each_fault(tmp_path: Path) -> None:
    def check(root: Path) -> str:
        done = subprocess.run(
            ["bash", "-c", shell_commands()], cwd=root, capture_output=True, text=True, check=False, timeout=60
        )
        return done.stdout + done.stderr

    bundle_id = seal_sample(tmp_path)
    assert check(tmp_path) == f"{bundle_id}  tagmanifest-sha256.txt\n"
    (zip_path, *_) = sorted((tmp_path / "data").rglob("Storage-*.zip"))
    zip_path.write_bytes(zip_path.read_bytes()[:-1] + b"\1")
    assert f"{zip_path.name}: FAILED" in check(tmp_path)
    zip_path.unlink()
    assert f"{zip_path.name}: No such file" in check(tmp_path)
    (tmp_path / "data" / "added").write_bytes(b"")
    assert "< data/added\n" in check(tmp_path)
    (tmp_path / "coverage.json").write_bytes(b"{}")
    assert "coverage.json: FAILED" in check(tmp_path)
