"""A bundle of any number of files, made up: for what must not cost more memory the more there are."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bridge.store import Entry, FolderStore, Reader, UnsafeNameHandler
from tests.support.bundles import LOGS

LOG = b"log"
"""The content of each of them."""


class ManyFiles(FolderStore):
    """A folder that says of itself that very many small files lie in its payload, and can be read there."""

    def __init__(self, root: Path, count: int) -> None:
        super().__init__(root)
        self.count = count

    def list(self, prefix: str = "", *, on_unsafe: UnsafeNameHandler | None = None) -> Iterator[Entry]:
        yield from super().list(prefix, on_unsafe=on_unsafe)
        for number in range(self.count):
            yield Entry(path_of(number), len(LOG), etag="638999999999999999-3")

    @contextmanager
    def open_read(self, path: str, offset: int = 0) -> Iterator[Reader]:
        if path.startswith("data/"):
            yield _Log(LOG)
        else:
            with super().open_read(path, offset) as reader:
                yield reader


def path_of(number: int) -> str:
    return f"{LOGS}/folder-{number // 500:05}/Storage-AzS-ERCS01-{number:08}.log"


class _Log(io.BytesIO):
    size_bytes = len(LOG)
