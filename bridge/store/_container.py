"""The store that is a container of blobs, reached with a SAS."""

from __future__ import annotations

import base64
import hashlib
import logging
import re
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from bridge.errors import (
    ApiVersionError,
    StoreClosedError,
    StoreCorruptError,
    StoreError,
    StoreNotFoundError,
    StoreUnreachableError,
    UnsafePathError,
)
from bridge.secrets import Secret
from bridge.store._access import ContainerAccess
from bridge.store._blob_listing import Page, all_pages, page_target, read_page
from bridge.store._blob_reads import (
    Abandoned,
    BlobReader,
    BlobReads,
    BlobState,
    BlobStream,
    Refused,
    Wanted,
    usable_etag,
)
from bridge.store._block_limits import MAX_BLOCKS, max_block_bytes
from bridge.store._container_errors import Answer, service_error
from bridge.store._paths import check_path
from bridge.store._protocol import Buffer, Entry, Reader, UnsafeNameHandler, Writer
from bridge.store._rate import RateLimiter
from bridge.store._sas import describe_sas, sas_token
from bridge.store._settings import StoreSettings
from bridge.store._wire import Response, WireError, proxy_for

if TYPE_CHECKING:
    from azure.core.exceptions import HttpResponseError
    from azure.storage.blob import BlobClient, ContainerClient, ContentSettings

T = TypeVar("T")

API_VERSIONS = ("2019-02-02", "2017-11-09", "2017-04-17")
"""What is tried, in this order: stamps since 2005, since 1811, before (Azure Stack Hub storage differences)."""
_OLDEST_OF_THE_CLIENT = "2019-02-02"
_FIRST_BYTES = 16 * 1024
_BLOCK_BYTES = 4 * 1024 * 1024
_BLOCKS_BEFORE_LARGER = 10_000

_VERSION = re.compile(r"^\d{4}-\d{2}-\d{2}$")
_CODE = re.compile(rb"<Code>([A-Za-z0-9]{1,80})</Code>")
_SIGNATURE = re.compile(r"(?i)(sig=)[^&\s\"']+")


class ContainerStore:
    """Blobs of one container, below one folder of it. Names are the paths; there are no folders as such."""

    def __init__(
        self,
        container_url: str,
        sas: Secret,
        *,
        root: str = "",
        settings: StoreSettings | None = None,
    ) -> None:
        """Nothing is sent yet.

        Args:
            container_url: scheme, host, account where it stands in the path, and container; no query.
            sas: a token, or a URL with one.
            root: the folder below the container, ``/``-separated.

        Raises:
            SasError: the SAS cannot be read.
        """
        self.container_url = container_url.rstrip("/")
        self.root = root
        self.sas = sas_token(sas)
        self.sas_info = describe_sas(sas)
        self._settings = settings or StoreSettings()
        self._line = _Line(self.container_url, self.sas, self._settings)

    @property
    def location(self) -> str:
        return "/".join(filter(None, [self.container_url, self.root]))

    @property
    def api_version(self) -> str:
        """What requests carry as ``x-ms-version``; without a setting it may step down at the first refusal."""
        return self._line.version

    def step_down(self, refused: str) -> bool:
        return self._line.step_down(refused)

    @property
    def ca_file(self) -> str | None:
        return self._settings.ca_file

    # -- looking ------------------------------------------------------------------------------------------------------

    def list(self, prefix: str = "", *, on_unsafe: UnsafeNameHandler | None = None) -> Iterator[Entry]:
        self._line.check_open(self.location)
        prefix = prefix.rstrip("/")
        start = self._name(prefix) if prefix else self.root
        return self._listed(f"{start}/" if start else "", on_unsafe)

    def _listed(self, starts_with: str, on_unsafe: UnsafeNameHandler | None) -> Iterator[Entry]:
        below_root = len(self.root) + 1 if self.root else 0
        for blob in all_pages(self.location, partial(self._page, starts_with)):
            path = blob.name[below_root:]
            try:
                check_path(path, self.location)
            except UnsafePathError as error:
                if on_unsafe is None:
                    raise
                on_unsafe(error)
                continue
            if blob.size_bytes is None:
                raise StoreUnreachableError(
                    store=self.location, detail="its answer cannot be understood (a size is no number)", path=path
                )
            yield Entry(path, blob.size_bytes, md5=blob.md5, etag=blob.etag)

    def _page(self, starts_with: str, marker: str) -> Page:
        def ask(reads: BlobReads, version: str) -> Page:
            return read_page(reads.get(page_target(reads.access, starts_with, marker), version))

        page, failure = self._over_the_wire("", "l", ask)
        if page is None:
            raise failure or StoreError(store=self.location, detail="it does not answer")
        return page

    def stat(self, path: str) -> Entry:
        name = self._name(path)
        properties = self._call(path, "r", lambda line: line.blob(name).get_blob_properties())
        md5 = properties.content_settings.content_md5
        return Entry(path, int(properties.size), md5=bytes(md5) if md5 else None, etag=_etag(properties.etag))

    def free_bytes(self) -> int | None:
        self._line.check_open(self.location)
        return None

    # -- reading ------------------------------------------------------------------------------------------------------

    @contextmanager
    def open_read(self, path: str, offset: int = 0) -> Iterator[Reader]:
        # The answer to the first question tells the size, and is all of a small file.
        wanted = Wanted(self._name(path), path, None, offset, memoryview(bytearray(_FIRST_BYTES)))
        error = self._fetch(wanted)
        if error is not None and error.fields.get("status") == 416:  # nothing lies there: an empty blob, or its end
            wanted.state = BlobState(self.stat(path).size_bytes, None)
        elif error is not None:
            raise error
        assert wanted.state is not None  # noqa: S101 - every answer without an error has one
        wanted.etag = wanted.state.etag
        with self._reading(wanted, wanted.state.size_bytes, whole=False) as reader:
            yield reader

    @contextmanager
    def open_listed(self, entry: Entry, offset: int = 0) -> Iterator[Reader]:
        """Reads all of a blob that a listing has told of, without asking for its size again.

        A blob that was replaced since then is not read: ``readinto`` raises ``StoreReplacedError``.
        """
        wanted = Wanted(self._name(entry.path), entry.path, entry.etag, offset, memoryview(b""))
        self._line.check_open(self.location)
        with self._reading(wanted, entry.size_bytes, whole=True) as reader:
            yield reader

    @contextmanager
    def _reading(self, first: Wanted, size_bytes: int, *, whole: bool) -> Iterator[Reader]:
        reads = self._line.reads
        with reads.reader():
            reader = BlobReader(
                reads,
                self._fetch,
                first,
                size_bytes,
                location=self.location,
                whole=whole,
                open_stream=self._open_stream,
            )
            try:
                yield reader
            finally:
                reader.close()

    def _fetch(self, wanted: Wanted) -> StoreError | None:
        """Fills a part of a blob."""

        def ask(reads: BlobReads, version: str) -> None:
            usable_etag(wanted.etag)
            reads.fetch(wanted, version)

        return self._over_the_wire(wanted.path, "r", ask)[1]

    def _open_stream(self, wanted: Wanted, size_bytes: int) -> BlobStream | None:
        try:
            self._line.check_open(self.location)
            usable_etag(wanted.etag)
            return self._line.reads.stream(wanted, size_bytes, self._line.version)
        except (WireError, StoreClosedError, ValueError):
            return None  # said where the same bytes are fetched

    def _over_the_wire(
        self, path: str, needs: str, ask: Callable[[BlobReads, str], T]
    ) -> tuple[T | None, StoreError | None]:
        """What goes wrong is returned, so that it carries nothing of where it was caught."""
        while True:
            try:
                self._line.check_open(self.location)
                version = self._line.version
                return ask(self._line.reads, version), None
            except Abandoned:
                return None, StoreClosedError(store=self.location)
            except StoreClosedError as error:
                return None, error
            except ValueError:
                detail = f"its answer cannot be understood ({'listing' if needs == 'l' else 'ETag'})"
                return None, StoreUnreachableError(store=self.location, detail=detail)
            except WireError as error:
                return None, StoreUnreachableError(store=self.location, detail=_without_address(error))
            except Refused as refused:
                failure = self._refusal(refused.response, path, needs, version)
            if not (isinstance(failure, ApiVersionError) and self._line.step_down(version)):
                return None, failure

    def _refusal(self, response: Response, path: str, needs: str, version: str) -> StoreError:
        code = _CODE.search(response.body)
        return service_error(
            Answer(
                store=self.location,
                path=path,
                status=response.status,
                code=response.header("x-ms-error-code") or (code[1].decode() if code else ""),
                message=response.body.decode("utf-8", "replace"),
                headers={
                    name.decode("latin-1").title(): text.decode("latin-1") for name, text in response.headers.items()
                },
                sas=self.sas_info,
                needs=needs,
                version=version,
            )
        )

    @contextmanager
    def paced(self, limiter: RateLimiter) -> Iterator[None]:
        """As long as the context lasts, no more is asked for than the limiter lets pass."""
        with self._line.reads.paced(limiter):
            yield

    def abort_reads(self) -> None:
        """Wakes every thread that waits for the service; may be called from any thread."""
        self._line.reads.abort()

    # -- writing ------------------------------------------------------------------------------------------------------

    @contextmanager
    def open_write(self, path: str, size_bytes: int | None = None, *, replace: bool = True) -> Iterator[Writer]:
        name = self._name(path)
        self._line.check_open(self.location)
        yield _ContainerWriter(
            lambda ask: self._call(path, "wc", lambda line: ask(line.blob(name))),
            location=self.location,
            path=path,
            size_bytes=size_bytes,
            replace=replace,
            max_block_bytes=max_block_bytes(self.api_version),
        )

    def remove(self, path: str) -> None:
        name = self._name(path)
        try:
            self._call(path, "d", lambda line: line.blob(name).delete_blob())
        except StoreNotFoundError as error:
            if error.fields.get("path") != path:
                raise

    # -- places -------------------------------------------------------------------------------------------------------

    def at(self, path: str) -> ContainerStore:
        deeper = object.__new__(_ContainerView)
        deeper.__dict__.update(self.__dict__)
        deeper.root = self._name(path)
        return deeper

    def close(self) -> None:
        self._line.close()

    def _name(self, path: str) -> str:
        check_path(path, self.location)
        name = f"{self.root}/{path}" if self.root else path
        return check_path(name, self.location) if self.root else name

    def _call(self, path: str, needs: str, ask: Callable[[_Line], T]) -> T:
        """One question to the service; every failure leaves as a ``StoreError`` that knows nothing of the SAS."""
        while True:
            self._line.check_open(self.location)
            version = self._line.version
            answer, failure = self._ask(path, needs, version, ask)
            # Raised here, not where it was caught: the client's own errors quote the address with the SAS, and an
            # error that was raised beside them would carry them along as its context.
            if failure is None:
                return answer  # type: ignore[return-value]
            if isinstance(failure, ApiVersionError) and self._line.step_down(version):
                continue
            raise failure

    def _ask(
        self, path: str, needs: str, version: str, ask: Callable[[_Line], T]
    ) -> tuple[T | None, StoreError | None]:
        from azure.core.exceptions import AzureError, HttpResponseError

        try:
            return ask(self._line), None
        except HttpResponseError as error:
            return None, self._service_error(error, path, needs, version)
        except AzureError as error:
            return None, StoreUnreachableError(store=self.location, detail=_without_address(error))
        except (TypeError, ValueError, AttributeError, KeyError) as error:
            # The client stumbles over answers that are not as it expects, over an error without a text even.
            detail = f"its answer cannot be understood ({type(error).__name__})"
            return None, StoreUnreachableError(store=self.location, detail=detail)

    def _service_error(self, error: HttpResponseError, path: str, needs: str, version: str) -> StoreError:
        headers: dict[str, str] = dict(getattr(error.response, "headers", None) or {})
        code = getattr(error, "error_code", None) or headers.get("x-ms-error-code") or ""
        return service_error(
            Answer(
                store=self.location,
                path=path,
                status=error.status_code or 0,
                code=str(getattr(code, "value", code)),
                message=error.message or "",
                headers=headers,
                sas=self.sas_info,
                needs=needs,
                version=version,
            )
        )


class _ContainerView(ContainerStore):
    """A store one folder deeper; the one that it came from is closed, not this."""

    def close(self) -> None:
        return


class _Line:
    """The client with its connections, and the API version that the service was found to take."""

    def __init__(self, container_url: str, sas: Secret, settings: StoreSettings) -> None:
        self._container_url = container_url
        self._sas = sas
        self._settings = settings
        self._lock = threading.Lock()
        self._client: ContainerClient | None = None
        self._reads: BlobReads | None = None
        self._closed = False
        self._fixed = settings.api_version
        self.version = settings.api_version or API_VERSIONS[0]
        if not _VERSION.match(self.version):
            raise ApiVersionError(store=container_url, version=ascii(self.version), detail="write it as 2019-02-02")

    @property
    def container(self) -> ContainerClient:
        with self._lock:
            if self._client is None:
                self._client = self._connect()
            return self._client

    @property
    def reads(self) -> BlobReads:
        with self._lock:
            if self._reads is None:
                self._reads = BlobReads(self._container_url, self._sas, self._settings)
            return self._reads

    def blob(self, name: str) -> BlobClient:
        return self.container.get_blob_client(name)

    def step_down(self, refused: str) -> bool:
        """Takes the next older version, unless one was set; tells whether there is one left to try."""
        with self._lock:
            if self._fixed is not None:
                return False
            if self.version == refused:
                older = [version for version in API_VERSIONS if version < refused]
                if not older:
                    return False
                self.version = older[0]
            return True

    def check_open(self, location: str) -> None:
        if self._closed:
            raise StoreClosedError(store=location)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            if self._client is not None:
                self._client.close()
                self._client = None
            reads, self._reads = self._reads, None
        if reads is not None:
            reads.close()

    def _connect(self) -> ContainerClient:
        import requests
        from azure.core.credentials import AzureSasCredential
        from azure.core.pipeline.transport import RequestsTransport
        from azure.storage.blob import ContainerClient, ExponentialRetry
        from requests.adapters import HTTPAdapter

        _keep_sas_out_of_urllib3_log()
        session = requests.Session()
        session.trust_env = False  # a .netrc must not add its own Authorization to a SAS
        access = ContainerAccess.at(self._container_url, self._sas)
        if access.scheme == "https" and (proxy := proxy_for(access.host)) is not None:
            session.proxies = {"https": proxy.url}
        for scheme in ("https://", "http://"):
            session.mount(scheme, HTTPAdapter(pool_maxsize=64))
        return ContainerClient.from_container_url(
            self._container_url,
            credential=AzureSasCredential(self._sas.reveal()),
            api_version=_OLDEST_OF_THE_CLIENT,
            transport=RequestsTransport(
                session=session,
                session_owner=True,
                connection_timeout=self._settings.connect_timeout_s,
                read_timeout=self._settings.io_timeout_s,
                connection_verify=self._settings.ca_file or True,
                use_env_settings=False,
            ),
            retry_policy=ExponentialRetry(
                initial_backoff=1, increment_base=2, retry_total=self._settings.retries, random_jitter_range=1
            ),
            permit_redirects=False,
            max_single_put_size=64 * 1024 * 1024,
            raw_request_hook=self._set_version,
        )

    def _set_version(self, request: Any) -> None:
        # The client knows only some versions; the requests that are made here are the same in all of them.
        request.http_request.headers["x-ms-version"] = self.version


class _ContainerWriter:
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
        return Entry(self._path, total, md5=md5, etag=_etag(answer.get("etag")))

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


def _etag(etag: object) -> str | None:
    # A listing gives it bare, every other answer in quotes.
    return str(etag).strip('"') if etag else None


def _without_address(error: Exception) -> str:
    """What went wrong on the line, in words of our own: the client's text has the address in it."""
    cause: BaseException | None = error
    names: list[str] = []
    while cause is not None and len(names) < 6:
        names.append(type(cause).__name__)
        reason = getattr(cause, "reason", None)
        inner = reason if isinstance(reason, BaseException) else getattr(cause, "inner_exception", None)
        cause = inner or cause.__cause__ or cause.__context__
    text = " ".join(names).lower()
    for sign, words in (
        ("nameresolution", "the name of the account cannot be resolved"),
        ("gaierror", "the name of the account cannot be resolved"),
        ("ssl", "its certificate was not accepted (set 'ca_file' of the destination for a stamp's own)"),
        ("refused", "the connection was refused"),
        ("connecttimeout", "it does not answer"),
        ("timeout", "it stopped answering"),
        ("blockingio", "it stopped answering"),
        ("incomplete", "the connection was cut"),
        ("reset", "the connection was cut"),
        ("connection", "there is no connection"),
        ("valueerror", "its answer cannot be understood"),
    ):
        if sign in text:
            return words
    return names[0]


class _WithoutSignature(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        if "sig=" in message.lower():
            record.msg, record.args = _SIGNATURE.sub(r"\1***", message), ()
        return True


_FILTER = _WithoutSignature()


def _keep_sas_out_of_urllib3_log() -> None:
    """urllib3 writes whole request lines at level DEBUG and in its warnings about retries."""
    for name in ("urllib3.connectionpool", "urllib3.util.retry", "urllib3.connection"):
        logging.getLogger(name).addFilter(_FILTER)
