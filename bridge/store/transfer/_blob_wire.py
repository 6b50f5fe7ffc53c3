"""Put Blob, Put Block, Put Block List and their questions on one connection, with the service's refusals by name."""

from __future__ import annotations

import hashlib
import re
import ssl
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from urllib.parse import quote

from defusedxml import ElementTree
from defusedxml.common import DefusedXmlException

from bridge.errors import (
    StoreCorruptError,
    StoreError,
    StoreNotFoundError,
    StorePermissionError,
    StoreReadOnlyError,
    StoreUnreachableError,
)
from bridge.store._access import ContainerAccess
from bridge.store._blob_listing import Page, is_size, page_target, read_page
from bridge.store._container_errors import NO_BLOB_SERVICE, Answer, service_error
from bridge.store._protocol import Buffer
from bridge.store._rate import RateLimiter
from bridge.store._sas import describe_sas
from bridge.store._wire import (
    BUSY,
    USER_AGENT,
    CertificateError,
    Connection,
    Response,
    WireError,
    proxy_for,
    retry_after_s,
)
from bridge.store.transfer._checksum import Algorithm, BlockChecksum

_CODE = re.compile(rb"<Code>([A-Za-z0-9]{1,80})</Code>")
_IS_CODE = re.compile(r"[A-Za-z0-9]{1,80}")
_MESSAGE = re.compile(rb"<Message>([^<]{1,400})")
EMPTY_SHA256 = hashlib.sha256().hexdigest()


class BusyError(StoreUnreachableError):
    """{store}: the service is busy or failing for the moment: {detail}"""


class LineError(StoreUnreachableError):
    """{store}: the connection failed: {detail}"""


class BlocksLostError(StoreCorruptError):
    """{store}: staged blocks are no longer there: {detail}"""


class ForeignBlocksError(StoreCorruptError):
    """{store}: blocks that another tool has staged are in the way: {detail}"""


class TooLargeError(StoreError):
    """{store}: a request is too large for the service, or for something before it: {detail}"""


@dataclass(frozen=True, slots=True)
class StagedBlock:
    block_id: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Put:
    """A whole small file to be sent in one request."""

    path: str
    data: memoryview
    checksum: BlockChecksum
    sha256: str


class BlobWire:
    """The blob service's requests on one connection. For one thread at a time."""

    def __init__(
        self,
        access: ContainerAccess,
        *,
        tls: ssl.SSLContext | None,
        limiter: RateLimiter,
        timeout_s: float,
        on_sent: Callable[[int], None],
    ) -> None:
        self._on_sent = on_sent
        proxy = proxy_for(access.host) if tls is not None else None
        self.connection = Connection(
            access.host, access.port, tls=tls, limiter=limiter, timeout_s=timeout_s, proxy=proxy
        )
        self.use(access)

    def use(self, access: ContainerAccess) -> None:
        """Sends what follows in this access's API version; it is the same container."""
        self.access = access
        agent = f"User-Agent: {USER_AGENT}\r\nx-ms-version: {access.api_version}\r\n"
        self._common = f" HTTP/1.1\r\nHost: {access.authority}\r\n{agent}"

    # -- writing ------------------------------------------------------------------------------------------------------

    def put_blobs(self, puts: Sequence[Put]) -> None:
        """Sends several Put Blob requests at once; ``accept_put`` reads their answers in the same order.

        Raises:
            LineError: the connection failed.
        """
        parts: list[Buffer] = []
        for put in puts:
            parts.append(
                self._head(
                    "PUT",
                    self.access.target(put.path),
                    len(put.data),
                    f"x-ms-blob-type: BlockBlob\r\nx-ms-meta-sha256: {put.sha256}\r\n{_checksum_header(put.checksum)}",
                )
            )
            if put.data:
                parts.append(put.data)
        self._send(parts)

    def accept_put(self, put: Put) -> tuple[str | None, bool]:
        """The ETag of a blob that was put, and whether the service has answered with its checksum.

        Raises:
            StoreError: the service refused, or has received something else.
        """
        response = self._receive(put.path)
        return _mark(response), self._check_echo(put.path, put.checksum, response)

    def put_block(self, path: str, block_id: str, data: memoryview, checksum: BlockChecksum) -> bool:
        """Stages one block; returns whether the service has answered with its checksum."""
        target = self.access.target(path, f"comp=block&blockid={quote(block_id, safe='')}")
        self._send([self._head("PUT", target, len(data), _checksum_header(checksum)), data])
        return self._check_echo(path, checksum, self._receive(path))

    def put_block_list(self, path: str, block_ids: Iterable[str], sha256: str) -> str | None:
        """Makes the blob of its staged blocks; returns its ETag."""
        body = bytearray(b'<?xml version="1.0" encoding="utf-8"?><BlockList>')
        for block_id in block_ids:
            body += b"<Latest>" + block_id.encode("ascii") + b"</Latest>"
        body += b"</BlockList>"
        head = self._head(
            "PUT", self.access.target(path, "comp=blocklist"), len(body), f"x-ms-meta-sha256: {sha256}\r\n"
        )
        self._send([head, body], payload=False)
        return _mark(self._receive(path))

    def clear(self, path: str) -> None:
        """Throws away what is staged under a name: an empty list deletes what it does not name (Put Block List)."""
        self.put_block_list(path, [], EMPTY_SHA256)

    # -- asking -------------------------------------------------------------------------------------------------------

    def block_list(self, path: str, *, committed: bool) -> list[StagedBlock]:
        """The blocks of a blob; none where there is no blob.

        Raises:
            StorePermissionError: the SAS does not allow reading.
        """
        kind = "committed" if committed else "uncommitted"
        target = self.access.target(path, f"comp=blocklist&blocklisttype={kind}")
        self._send([self._head("GET", target)], payload=False)
        try:
            response = self._receive(path, writing=False)
        except StoreNotFoundError:
            return []
        with self._understood(f"{path}: the list of its blocks"):
            return _blocks(response.body)

    def list_page(self, marker: str) -> Page:
        """One page of the blobs below the root, with the digests that they carry."""
        target = page_target(self.access, self.access.blob_name(""), marker, with_metadata=True)
        self._send([self._head("GET", target)], payload=False)
        response = self._receive("", writing=False)
        with self._understood("its listing"):
            return read_page(response.body)

    # -- one request --------------------------------------------------------------------------------------------------

    def _head(self, method: str, target: str, length: int | None = None, more: str = "") -> bytes:
        size = "" if length is None else f"Content-Length: {length}\r\n"
        return f"{method} {target}{self._common}{size}{more}\r\n".encode("ascii")

    def _send(self, parts: Sequence[Buffer], *, payload: bool = True) -> None:
        try:
            self.connection.send(parts, self._on_sent if payload else None)
        except CertificateError as error:
            raise StoreError(
                store=self.access.location,
                detail=str(error),
                fix="Give the issuing authority with 'ca_file' of the configuration, or correct the host name.",
            ) from error
        except WireError as error:
            raise LineError(store=self.access.location, detail=str(error)) from error

    def _receive(self, path: str, *, writing: bool = True) -> Response:
        try:
            response = self.connection.receive()
        except WireError as error:
            raise LineError(store=self.access.location, detail=str(error)) from error
        if response.status != (201 if writing else 200):
            raise self._refusal(path, response, writing=writing)
        return response

    @contextmanager
    def _understood(self, what: str) -> Iterator[None]:
        try:
            yield
        except (ElementTree.ParseError, DefusedXmlException, ValueError) as error:
            raise StoreError(
                store=self.access.location,
                detail=f"{what} is not understood ({error})",
                fix=NO_BLOB_SERVICE,
            ) from error

    def _check_echo(self, path: str, checksum: BlockChecksum, response: Response) -> bool:
        """Compares the checksum that the service has computed, where it tells it."""
        name = "x-ms-content-crc64" if checksum.algorithm is Algorithm.CRC64 else "content-md5"
        echo = response.header(name)
        if echo is None:
            return False
        if echo != checksum.base64.decode("ascii"):
            raise StoreCorruptError(
                store=self.access.location, detail=f"{path}: the service received other bytes than were sent"
            )
        return True

    # -- refusals -----------------------------------------------------------------------------------------------------

    def _refusal(self, path: str, response: Response, *, writing: bool) -> StoreError:
        """The service's refusal as an error of ours (Blob service error codes; Common REST API error codes).

        Its text is read and never repeated: it may quote the request with the SAS in it.
        """
        found_code, found_text = _CODE.search(response.body), _MESSAGE.search(response.body)
        code = response.header("x-ms-error-code") or ""
        if not _IS_CODE.fullmatch(code):
            code = found_code[1].decode() if found_code else ""
        text = found_text[1].decode("utf-8", "replace").split("\n")[0] if found_text else ""
        words = f"{path}: " if path else ""
        words += f"HTTP {response.status} {code}".strip()
        where = {"store": self.access.location, "detail": words, "path": path}
        if response.status in BUSY:
            return BusyError(**where, retry_after_s=retry_after_s(response.header("retry-after")))
        if code in {"Md5Mismatch", "Crc64Mismatch"} or "contentmd5" in text.lower().replace("-", ""):
            return StoreCorruptError(**where)
        if code == "InvalidBlockList":
            return BlocksLostError(**where)
        if code in {"InvalidBlobOrBlock", "InvalidBlockId"}:
            return ForeignBlocksError(**where)
        error = service_error(
            Answer(
                store=self.access.location,
                path=path,
                status=response.status,
                code=code,
                message=response.body.decode("utf-8", "replace"),
                headers={"Date": response.header("date") or ""},
                sas=describe_sas(self.access.sas),
                needs="wc" if writing else "r" if path else "l",
                version=self.access.api_version,
            )
        )
        if isinstance(error, StoreUnreachableError):
            return BusyError(**where)
        if response.status == 413:
            return TooLargeError(**where, fix=error.advice)
        if writing and isinstance(error, StorePermissionError):  # it may have been otherwise until now
            return StoreReadOnlyError(store=self.access.location, detail=error.fields["detail"], fix=error.advice)
        return error


def _blocks(body: bytes) -> list[StagedBlock]:
    """Reads a block list element by element: it may have 100,000, and their tree would take 100 MB.

    Raises:
        ValueError, ParseError, DefusedXmlException: it is no block list.
    """
    blocks: list[StagedBlock] = []
    parents: list[ElementTree.Element] = []  # type: ignore[name-defined,unused-ignore]
    source = BytesIO(body.removeprefix(b"\xef\xbb\xbf"))
    for event, element in ElementTree.iterparse(source, events=("start", "end"), forbid_dtd=True):
        if event == "start":
            parents.append(element)
            continue
        parents.pop()
        if element.tag == "Block":
            name, size = element.findtext("Name"), element.findtext("Size")
            if name is None or size is None or not is_size(size):
                raise ValueError("a block without a name or a size")
            blocks.append(StagedBlock(name, int(size)))
            if parents:
                parents[-1].clear()
    return blocks


def _mark(response: Response) -> str | None:
    etag = response.header("etag")
    return None if etag is None else etag.strip('"')


def _checksum_header(checksum: BlockChecksum) -> str:
    name = "x-ms-content-crc64" if checksum.algorithm is Algorithm.CRC64 else "Content-MD5"
    return f"{name}: {checksum.base64.decode('ascii')}\r\n"
