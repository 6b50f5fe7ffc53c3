"""A blob as it is written: block by block, each checked by the service."""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from bridge.errors import StoreCorruptError
from bridge.store._block_limits import MAX_BLOCKS
from bridge.store._container_line import bare_etag
from bridge.store._protocol import Buffer, Entry

if TYPE_CHECKING:
    from azure.storage.blob import BlobClient, ContentSettings

_BLOCK_BYTES = 4 * 1024 * 1024
_BLOCKS_BEFORE_LARGER = 10_000


class ContainerWriter:
    """Gathers one block at a time; what fits in a block goes in one request. The service checks the MD5 of each."""

    def __init__(
        self,
        ask: Callable[[Callable[[BlobClient], Any]], Any],
        *,
        location: str,
        path: str,
        size_bytes: int | None,
        replace: bool,
        max_block_bytes: int,
    ) -> None:
        """
        Args:
            ask: puts a question about the blob to the service.
        """
        self._ask = ask
        self._location = location
        self._path = path
        self._size_bytes = size_bytes
        self._replace = replace
        self._max_block_bytes = max_block_bytes
        self._gathered = bytearray()
        self._whole = hashlib.md5(usedforsecurity=False)
        self._sent = 0
        self._block_ids: list[str] = []
        self._attempt = secrets.token_hex(8)

    def write(self, data: Buffer, /) -> None:
        rest = memoryview(data).cast("B")
        self._whole.update(rest)
        while rest:
            room = self._block_bytes() - len(self._gathered)
            self._gathered += rest[:room]
            rest = rest[room:]
            if len(self._gathered) >= self._block_bytes():
                self._stage()

    def commit(self) -> Entry:
        from azure.storage.blob import ContentSettings

        total = self._sent + len(self._gathered)
        if self._size_bytes is not None and total != self._size_bytes:
            raise StoreCorruptError(
                store=self._location,
                detail=f"{self._path}: {total} bytes were written, {self._size_bytes} were announced",
            )
        md5 = self._whole.digest()
        settings = ContentSettings(content_type="application/octet-stream", content_md5=bytearray(md5))
        answer = self._commit_blocks(settings) if self._block_ids else self._put(settings, md5)
        return Entry(self._path, total, md5=md5, etag=bare_etag(answer.get("etag")))

    def _block_bytes(self) -> int:
        """Grows as 50,000 blocks would run out; the size is not always known beforehand."""
        if self._size_bytes is not None:
            enough = -(-self._size_bytes // MAX_BLOCKS)
            return min(max(_BLOCK_BYTES, enough), self._max_block_bytes)
        return min(_BLOCK_BYTES << 2 * (len(self._block_ids) // _BLOCKS_BEFORE_LARGER), self._max_block_bytes)

    def _put(self, settings: ContentSettings, md5: bytes) -> dict[str, Any]:
        body = bytes(self._gathered)
        answer: dict[str, Any] = self._ask(
            lambda blob: blob.upload_blob(
                body,
                length=len(body),
                overwrite=self._replace,
                content_settings=settings,
                max_concurrency=1,
                headers=_md5_header(md5),
            )
        )
        return answer

    def _stage(self) -> None:
        block_id = f"{len(self._block_ids):08d}{self._attempt}"
        body = bytes(self._gathered)
        header = _md5_header(hashlib.md5(body, usedforsecurity=False).digest())
        self._ask(lambda blob: blob.stage_block(block_id, body, length=len(body), headers=header))
        self._block_ids.append(block_id)
        self._sent += len(body)
        self._gathered.clear()

    def _commit_blocks(self, settings: ContentSettings) -> dict[str, Any]:
        from azure.core import MatchConditions
        from azure.storage.blob import BlobBlock

        if self._gathered:
            self._stage()
        blocks = [BlobBlock(block_id) for block_id in self._block_ids]
        condition: dict[str, Any] = {} if self._replace else {"match_condition": MatchConditions.IfMissing}
        answer: dict[str, Any] = self._ask(
            lambda blob: blob.commit_block_list(blocks, content_settings=settings, **condition)
        )
        return answer


def _md5_header(md5: bytes) -> dict[str, str]:
    return {"Content-MD5": base64.b64encode(md5).decode()}
