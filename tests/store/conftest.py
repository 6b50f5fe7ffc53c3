"""The places that the conformance suite runs on: a folder, a share, an encrypted share, a container."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bridge.store import DestinationKind, Store, StoreSettings, open_store, parse_destination

KINDS = ("folder", "share", "encrypted share", "container")


@dataclass(frozen=True)
class Place:
    """A store, a way to open it again, and a way to put a file there behind its back."""

    kind: str
    store: Store
    open_again: Callable[[], Store]
    plant: Callable[[str, bytes], None]
    names: Callable[[], list[str]]
    """Every file that really lies there, hidden ones included."""


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    makers: dict[str, Callable[[pytest.FixtureRequest, Path], Place]] = {
        "folder": _folder,
        "share": lambda request, _: _share(request, "bundles"),
        "encrypted share": lambda request, _: _share(request, "encrypted"),
        "container": lambda request, _: _container(request),
    }
    # A test that is about some kinds only says so with ``@pytest.mark.parametrize("place", [...], indirect=True)``.
    made = makers[request.param](request, tmp_path)
    yield made
    made.store.close()


@pytest.fixture
def store(place: Place) -> Store:
    return place.store


def _folder(_: pytest.FixtureRequest, tmp_path: Path) -> Place:
    root = tmp_path / "store"
    destination = parse_destination(str(root))
    return _on_disk("folder", root, lambda: open_store(destination))


def _share(request: pytest.FixtureRequest, share: str) -> Place:
    samba = request.getfixturevalue("samba")
    folder = f"conformance/{secrets.token_hex(4)}"
    destination = parse_destination(samba.url(share, folder))
    assert destination.kind is DestinationKind.SHARE
    return _on_disk(share, samba.path(share) / folder, lambda: open_store(destination, credential=samba.credential))


def _on_disk(kind: str, root: Path, open_again: Callable[[], Store]) -> Place:
    def plant(name: str, data: bytes) -> None:
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)

    def names() -> list[str]:
        return sorted(str(file.relative_to(root)) for file in root.rglob("*") if not file.is_dir())

    return Place(kind, open_again(), open_again, plant, names)


def _container(request: pytest.FixtureRequest) -> Place:
    azurite = request.getfixturevalue("azurite")
    container = azurite.new_container()
    destination = parse_destination(azurite.container_url(container) + "/bundles/of%20stamp")
    sas = azurite.sas(container)
    owner = azurite.owner(container)
    request.addfinalizer(owner.close)

    def open_again() -> Store:
        return open_store(destination, sas=sas, settings=StoreSettings(retries=0))

    def plant(name: str, data: bytes) -> None:
        owner.upload_blob(f"bundles/of stamp/{name}", data)

    def names() -> list[str]:
        return sorted(blob.name.removeprefix("bundles/of stamp/") for blob in owner.list_blobs())

    return Place("container", open_again(), open_again, plant, names)
