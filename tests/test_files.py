"""A small file is replaced whole, for its owner alone, or stays as it was."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bridge.files import replace_file


def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_bytes(b"old")
    replace_file(file, b"new\r\n")
    assert file.read_bytes() == b"new\r\n"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.skipif(os.name == "nt", reason="permissions of this kind are POSIX")
def test_a_file_that_everybody_could_read_is_its_owners_alone_from_then_on(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.touch(mode=0o644)
    replace_file(file, b"new")
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_file_that_cannot_be_replaced_stays_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    (taken / "inside").mkdir(parents=True)
    with pytest.raises(OSError, match=r"."):
        replace_file(taken, b"new")
    assert list(tmp_path.iterdir()) == [taken]
