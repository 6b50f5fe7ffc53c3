"""The store that is a container of blobs, reached with a SAS."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from bridge.errors import (
    ApiVersionError,
    StoreClosedError,
    StoreError,
    StoreNotFoundError,
    StoreUnreachableError,
    UnsafePathError,
)
from bridge.secrets import Secret
from bridge.store._blob_listing import Page, all_pages, page_target, read_page
from bridge.store._blob_reader import BlobReader
from bridge.store._blob_reads import Abandoned, BlobReads, BlobState, BlobStream, Refused, Wanted, usable_etag
from bridge.store._block_limits import max_block_bytes
from bridge.store._container_errors import Answer, service_error
from bridge.store._container_line import ContainerLine, bare_etag, without_address
from bridge.store._container_writer import ContainerWriter
from bridge.store._paths import check_path
from bridge.store._protocol import Entry, Reader, UnsafeNameHandler, Writer
from bridge.store._rate import RateLimiter
from bridge.store._sas import describe_sas, sas_token
from bridge.store._settings import StoreSettings
from bridge.store._wire import Response, WireError

if TYPE_CHECKING:
    from azure.core.exceptions import HttpResponseError

T = TypeVar("T")

_FIRST_BYTES = 16 * 1024

_CODE = re.compile(rb"<Code>([A-Za-z0-9]{1,80})</Code>")


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
        self._line = ContainerLine(self.container_url, self.sas, self._settings)

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
        return Entry(path, int(properties.size), md5=bytes(md5) if md5 else None, etag=bare_etag(properties.etag))

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
                return None, StoreUnreachableError(store=self.location, detail=without_address(error))
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
        yield ContainerWriter(
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

    def _call(self, path: str, needs: str, ask: Callable[[ContainerLine], T]) -> T:
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
        self, path: str, needs: str, version: str, ask: Callable[[ContainerLine], T]
    ) -> tuple[T | None, StoreError | None]:
        from azure.core.exceptions import AzureError, HttpResponseError

        try:
            return ask(self._line), None
        except HttpResponseError as error:
            return None, self._service_error(error, path, needs, version)
        except AzureError as error:
            return None, StoreUnreachableError(store=self.location, detail=without_address(error))
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
