"""A folder and the store rooted at it."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.store import FolderStore, Store


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "bundle"


@pytest.fixture
def store(root: Path) -> Store:
    return FolderStore(root)
