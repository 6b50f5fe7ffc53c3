"""The listing of a container as the service gives it, page by page (List Blobs, Microsoft Learn)."""

from __future__ import annotations

from base64 import b64decode
from dataclasses import dataclass
from urllib.parse import quote, unquote

from bridge.store._access import ContainerAccess

_PAGE_BLOBS = 1000


@dataclass(frozen=True, slots=True)
class ListedBlob:
    """A blob by its name in the container."""

    name: str
    size_bytes: int
    md5: bytes | None
    etag: str | None


Page = tuple[list[ListedBlob], str]
"""Some blobs, and the marker of the next page; empty after the last."""


def page_target(access: ContainerAccess, starts_with: str, marker: str) -> str:
    """The request target of one page, SAS included. Only for the wire."""
    query = f"restype=container&comp=list&maxresults={_PAGE_BLOBS}"
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
    size = element.findtext("Properties/Content-Length") or "0"
    if not (size.isascii() and size.isdigit() and len(size) < 19):
        raise ValueError("a size is no number")
    md5 = element.findtext("Properties/Content-MD5")
    etag = element.findtext("Properties/Etag")
    return ListedBlob(name, int(size), b64decode(md5) if md5 else None, (etag or "").strip('"') or None)
