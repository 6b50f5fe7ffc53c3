"""Checks a built site: every link leads somewhere, and no page fetches anything from elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

_FETCHED = {"link": "href", "script": "src", "img": "src", "iframe": "src", "source": "src", "object": "data"}
_CSS_ADDRESS = re.compile(r"""(?:url\(\s*|@import\s+)["']?(?:https?:)?//[^"')\s]+""", re.IGNORECASE)
_SCRIPT_FETCH = re.compile(r"""(?:fetch|importScripts|import)\(\s*["'](?:https?:)?//[^"']+""")


@dataclass
class _Page(HTMLParser):
    """What one page links to, fetches, and offers as a target."""

    links: list[str] = field(default_factory=list)
    fetched: list[str] = field(default_factory=list)
    anchors: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {value for name, value in given.items() if name == "id" or (tag, name) == ("a", "name")}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif given.get(_FETCHED.get(tag, "")) and given.get("rel") != "canonical":
            self.fetched.append(given[_FETCHED[tag]])


def find_problems(site: Path) -> list[str]:
    """One line for each broken link and for each address that a browser would fetch from elsewhere."""
    pages = {file: _read(file) for file in sorted(site.rglob("*.html"))}
    problems = [problem for file, page in pages.items() for problem in _check_page(site, file, page, pages)]
    for file in sorted(site.rglob("*.css")):
        found = _CSS_ADDRESS.findall(file.read_text(encoding="utf-8"))
        problems += [f"{file.relative_to(site)}: fetches {address}" for address in found]
    for file in sorted(site.rglob("*.js")):
        found = _SCRIPT_FETCH.findall(file.read_text(encoding="utf-8"))
        problems += [f"{file.relative_to(site)}: fetches {address}" for address in found]
    return problems


def _read(file: Path) -> _Page:
    page = _Page()
    page.feed(file.read_text(encoding="utf-8"))
    page.close()
    return page


def _check_page(site: Path, file: Path, page: _Page, pages: dict[Path, _Page]) -> Iterator[str]:
    where = file.relative_to(site)
    for address in page.fetched:
        parts = urlsplit(address)
        if parts.scheme not in {"", "data"} or parts.netloc:
            yield f"{where}: fetches {address}"
        elif parts.scheme == "" and not _target(site, file, parts.path).is_file():
            yield f"{where}: {address} is missing"
    for address in page.links:
        parts = urlsplit(address)
        if parts.scheme or parts.netloc:
            continue
        target = _target(site, file, parts.path)
        target = target / "index.html" if target.is_dir() else target
        if not target.is_file():
            yield f"{where}: {address} leads nowhere"
        elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
            yield f"{where}: {address}: there is no such place on that page"


def _target(site: Path, file: Path, path: str) -> Path:
    decoded = unquote(path)
    if decoded.startswith("/"):
        return (site / decoded.lstrip("/")).resolve()
    return (file.parent / decoded).resolve() if decoded else file
