"""The listing of a container as the service gives it, page by page (List Blobs, Microsoft Learn)."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import quote, unquote

from bridge.errors import StoreUnreachableError
from bridge.store._access import ContainerAccess
from bridge.store._container_errors import NO_BLOB_SERVICE

_PAGE_BLOBS = 1000
_MOST_EMPTY_PAGES = 1000  # a service may answer with some: it looks through so many names at a time


@dataclass(frozen=True, slots=True)
class ListedBlob:
    """A blob by its name in the container."""

    name: str
    size_bytes: int | None
    """None where what the service says of it cannot be."""
    md5: bytes | None
    etag: str | None
    sha256: str | None
    """Where the listing was asked for metadata, and the blob has it."""


Page = tuple[list[ListedBlob], str]
"""Some blobs, and the marker of the next page; empty after the last."""


def all_pages(location: str, ask: Callable[[str], Page]) -> Iterator[ListedBlob]:
    """The blobs of every page.

    Args:
        location: whose listing it is, for errors.
        ask: gives the page of a marker; the first one's is empty.

    Raises:
        StoreUnreachableError: it has no end.
    """
    marker, empty = "", 0
    while True:
        blobs, following = ask(marker)
        yield from blobs
        if not following:
            return
        empty = 0 if blobs else empty + 1
        if following == marker or empty > _MOST_EMPTY_PAGES:
            raise StoreUnreachableError(store=location, detail="its listing has no end", fix=NO_BLOB_SERVICE)
        marker = following


def page_target(access: ContainerAccess, starts_with: str, marker: str, *, with_metadata: bool = False) -> str:
    """The request target of one page, SAS included. Only for the wire."""
    query = f"restype=container&comp=list&maxresults={_PAGE_BLOBS}"
    if with_metadata:
        query += "&include=metadata"
    if starts_with:
        query += f"&prefix={quote(starts_with, safe='')}"
    if marker:
        query += f"&marker={quote(marker, safe='')}"
    return f"{quote(access.container_path)}?{query}&{access.sas.reveal()}"


def read_page(body: bytes) -> Page:
    """Reads the answer to ``page_target``.

    Raises:
        ValueError: it is no page of a listing.
    """
    from defusedxml import ElementTree
    from defusedxml.common import DefusedXmlException

    try:
        root = ElementTree.fromstring(body.removeprefix(b"\xef\xbb\xbf"), forbid_dtd=True)
    except (ElementTree.ParseError, DefusedXmlException) as error:
        raise ValueError(str(error)) from error
    if root.tag != "EnumerationResults":
        raise ValueError("it is no listing")
    return [_blob(element) for element in root.iterfind("Blobs/Blob")], root.findtext("NextMarker") or ""


def _blob(element: ElementTree.Element) -> ListedBlob:  # type: ignore[name-defined,unused-ignore]  # noqa: F821
    named = element.find("Name")
    name = (named.text if named is not None else None) or ""
    if named is not None and named.get("Encoded") == "true":  # names that XML cannot hold, since 2021-02-12
        name = unquote(name)
    size = element.findtext("Properties/Content-Length") or ""
    md5 = element.findtext("Properties/Content-MD5")
    etag = element.findtext("Properties/Etag")
    sha256 = next((item.text for item in element.iterfind("Metadata/*") if item.tag.lower() == "sha256"), None)
    return ListedBlob(
        name,
        int(size) if is_size(size) else None,
        b64decode(md5) if md5 else None,
        (etag or "").strip('"') or None,
        sha256,
    )


def is_size(text: str) -> bool:
    """Whether a service's answer is a number of bytes that can be."""
    return text.isascii() and text.isdigit() and len(text) < 19
