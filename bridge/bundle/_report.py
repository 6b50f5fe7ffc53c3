"""``report.html``: one self-contained page from a bundle's documents, whatever they hold."""

from __future__ import annotations

import base64
import hashlib
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from heapq import nsmallest
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Protocol

from bridge.bundle._names import format_bundle_id
from bridge.bundle._tags import in_words

if TYPE_CHECKING:
    from jinja2 import Template

_MAX_ROLES = 400
_MAX_NODES = 40
_MAX_HASHES = 1_000
_MAX_CAUSES = 40
_MAX_EVIDENCE = 8
_MAX_WARNINGS = 100
_MAX_SIZES = 40
_MAX_CHARACTERS = 600
_FULL = 1000  # the length of a bar in its own units
_INVISIBLE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
_SIGNS = {"collected": "●", "truncated": "◐", "empty": "○", "skipped": "–", "failed": "✖", "unknown": "?"}
_TIMES = (
    ("planned", "Planned"),
    ("command_sent", "Command sent"),
    ("command_ended", "Command ended"),
    ("sealed", "Sealed"),
)


@dataclass(frozen=True, slots=True)
class _State:
    name: str
    sign: str


@dataclass(frozen=True, slots=True)
class _Evidence:
    where: str
    text: str


@dataclass(frozen=True, slots=True)
class _Role:
    name: str
    asked: bool
    state: _State
    by_node: tuple[_State | None, ...]
    zip_count: int
    size_bytes: int
    explanation: str
    evidence: tuple[_Evidence, ...]


@dataclass(frozen=True, slots=True)
class _Bar:
    name: str
    size_bytes: int
    length: int


@dataclass(frozen=True, slots=True)
class _Span:
    name: str
    first: datetime
    last: datetime
    zone_assumed: bool = False
    asked: bool = False
    start: int = 0
    length: int = 0


@dataclass(frozen=True, slots=True)
class _Cause:
    title: str
    count: int
    meaning: str = ""
    fix: str = ""
    source: str = ""
    evidence: tuple[_Evidence, ...] = ()


@dataclass(frozen=True, slots=True)
class _Step:
    title: str
    at: datetime
    after: str


@dataclass(frozen=True, slots=True)
class _Hash:
    path: str
    size_bytes: int | None
    sha256: str


class HashedFile(Protocol):
    """One payload file to show: a ``FileDigest``, or a line of a sealed bundle's manifest."""

    @property
    def path(self) -> str: ...

    @property
    def size_bytes(self) -> int | None: ...

    @property
    def sha256(self) -> str: ...


def render_report(
    *,
    collection: Any,
    coverage: Any,
    digests: Iterable[HashedFile] = (),
    bundle_id: str | None = None,
) -> bytes:
    """The page, in UTF-8; the same documents give the same bytes.

    It holds no script and loads nothing, which its Content-Security-Policy enforces. Documents may be of any form:
    what is not as docs/bundle.md says is left out.

    Args:
        collection: ``collection.json``, parsed.
        coverage: ``coverage.json``, parsed.
        digests: the payload; the largest thousand files are shown.
        bundle_id: only for a page that is made after sealing; a page within the bundle cannot hold its id.
    """
    style = _resource("report.css")
    spoken = format_bundle_id(bundle_id) if bundle_id else None
    return (
        _template()
        .render(
            page=_page(_mapping(collection), _mapping(coverage), digests),
            states=[_State(name, sign) for name, sign in _SIGNS.items()],
            bundle_id=spoken,
            style=_markup(style),
            style_sha256=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        )
        .encode("utf-8")
    )


@cache
def _template() -> Template:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters |= {"shown": shown, "size": in_words, "moment": _moment}
    return environment.from_string(_resource("report.html.jinja"))


def _markup(text: str) -> str:
    from markupsafe import Markup

    return Markup(text)  # noqa: S704 - our own style sheet, never input


@cache
def _resource(name: str) -> str:
    return files("bridge.bundle").joinpath(name).read_text(encoding="utf-8")


def shown(value: object) -> str:
    """Text as a page may show it: cut, and with what is invisible or turns the writing direction made visible."""
    text = str(value)
    cut = text if len(text) <= _MAX_CHARACTERS else f"{text[:_MAX_CHARACTERS]}…"
    return "".join(
        f"\\u{ord(char):04x}" if unicodedata.category(char) in _INVISIBLE and char not in "\n\t" else char
        for char in cut
    )


def _moment(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC" if moment else "unknown"


# -- from documents to a page -----------------------------------------------------------------------------------------


def _page(
    collection: Mapping[str, Any], coverage: Mapping[str, Any], digests: Iterable[HashedFile]
) -> Mapping[str, Any]:
    window = _mapping(_mapping(coverage.get("window")).get("asked"))
    since, until = _time(window.get("since")), _time(window.get("until"))
    all_roles = [_mapping(role) for role in _list(coverage.get("roles"))]
    all_nodes = [str(_mapping(node).get("name")) for node in _list(coverage.get("nodes"))]
    nodes = all_nodes[:_MAX_NODES]
    roles = [_role(role, nodes) for role in all_roles[:_MAX_ROLES]]
    warnings = [str(text) for text in _list(coverage.get("warnings"))]
    causes = _causes(collection, coverage)
    hashes, hashes_left_out = _hashes(digests)
    spans, band = _spans(since, until, all_roles[:_MAX_ROLES])
    totals = _mapping(coverage.get("totals"))
    counts = _mapping(coverage.get("counts"))
    tool = _mapping(collection.get("tool"))
    return {
        "stamp": _mapping(collection.get("stamp")).get("name") or "unknown",
        "bundle": collection.get("bundle") or "unknown",
        "case_number": _mapping(collection.get("request")).get("case_number"),
        "endpoint": collection.get("endpoint"),
        "software": f"{tool.get('name', 'pep-bridge')} {tool.get('version', '')}".strip(),
        "complete": coverage.get("complete") is True,
        "window_since": since,
        "window_until": until,
        "counts": [(name, _number(counts.get(name))) for name in _SIGNS if _number(counts.get(name))],
        "files": _number(totals.get("files")),
        "size_bytes": _number(totals.get("size_bytes")),
        "warnings": warnings[:_MAX_WARNINGS],
        "warnings_left_out": max(0, len(warnings) - _MAX_WARNINGS),
        "all_roles": _mapping(coverage.get("asked")).get("all_roles") is True,
        "asked_count": sum(role.asked for role in roles),
        "roles": roles,
        "roles_left_out": max(0, len(all_roles) - _MAX_ROLES),
        "nodes": nodes,
        "nodes_left_out": max(0, len(all_nodes) - _MAX_NODES),
        "troubled": [role for role in roles if role.state.name != "collected"],
        "causes": causes[:_MAX_CAUSES],
        "causes_left_out": max(0, len(causes) - _MAX_CAUSES),
        "sizes": _sizes(roles),
        "spans": spans,
        "band_start": band[0],
        "band_length": band[1],
        "steps": _steps(_mapping(collection.get("times"))),
        "hashes": hashes,
        "hashes_left_out": hashes_left_out,
    }


def _role(role: Mapping[str, Any], nodes: Sequence[str]) -> _Role:
    by_node = _mapping(role.get("nodes"))
    return _Role(
        name=str(role.get("name")),
        asked=role.get("asked") is True,
        state=_state(role.get("state")),
        by_node=tuple(_state(by_node[node]) if node in by_node else None for node in nodes),
        zip_count=_number(role.get("zip_count")),
        size_bytes=_number(role.get("size_bytes")),
        explanation=str(role.get("explanation") or ""),
        evidence=_evidence(role.get("evidence")),
    )


def _state(value: object) -> _State:
    name = value if isinstance(value, str) and value in _SIGNS else "unknown"
    return _State(name, _SIGNS[name])


def _evidence(value: object) -> tuple[_Evidence, ...]:
    found = []
    for item in map(_mapping, _list(value)[:_MAX_EVIDENCE]):
        place = str(item.get("file") or item.get("at") or "").rsplit("/", 1)[-1]
        line = f", line {_number(item.get('line'))}" if item.get("line") else ""
        size = f", {in_words(_number(item.get('size_bytes')))}" if item.get("size_bytes") is not None else ""
        found.append(_Evidence(f"{item.get('kind', '')} {place}{line}{size}".strip(), str(item.get("text") or "")))
    return tuple(found)


def _causes(collection: Mapping[str, Any], coverage: Mapping[str, Any]) -> list[_Cause]:
    """Known failures with their explanation, then the error records by their error id, the most frequent first."""
    known = [
        _Cause(
            title=str(failure.get("name")),
            count=_number(failure.get("count")),
            meaning=str(failure.get("meaning") or ""),
            fix=str(failure.get("fix") or ""),
            source=str(failure.get("source") or ""),
            evidence=_evidence(failure.get("evidence")),
        )
        for failure in map(_mapping, _list(coverage.get("known_failures")))
    ]
    counts: Counter[str] = Counter()
    samples: dict[str, list[_Evidence]] = {}
    for record in map(_mapping, _list(collection.get("errors"))):
        error_id = str(_mapping(record.get("error")).get("error_id") or "error without an id")
        counts[error_id] += 1
        if len(samples.setdefault(error_id, [])) < _MAX_EVIDENCE:
            samples[error_id].append(_Evidence(str(record.get("at") or ""), str(record.get("text") or "")))
    others = sorted(counts, key=lambda error_id: (-counts[error_id], error_id))
    return known + [_Cause(error_id, counts[error_id], evidence=tuple(samples[error_id])) for error_id in others]


def _sizes(roles: Sequence[_Role]) -> list[_Bar]:
    largest = sorted((role for role in roles if role.size_bytes), key=lambda role: (-role.size_bytes, role.name))
    whole = max(1, sum(role.size_bytes for role in largest))
    bars = [_Bar(role.name, role.size_bytes, _FULL * role.size_bytes // whole) for role in largest[:_MAX_SIZES]]
    if rest := sum(role.size_bytes for role in largest[_MAX_SIZES:]):
        bars.append(_Bar(f"{len(largest) - _MAX_SIZES} more", rest, _FULL * rest // whole))
    return bars


def _spans(
    since: datetime | None, until: datetime | None, roles: Sequence[Mapping[str, Any]]
) -> tuple[list[_Span], tuple[int, int]]:
    """What to draw of times, on one axis that shows the whole window and what lies up to its length beside it."""
    if since is None or until is None or since >= until:
        return [], (0, 0)
    found = []
    for role in roles:
        span = _mapping(role.get("found"))
        first, last = _time(span.get("first")), _time(span.get("last"))
        if first is not None and last is not None and first <= last:
            found.append(_Span(str(role.get("name")), first, last, zone_assumed=span.get("zone_assumed") is True))
    if not found:
        return [], (0, 0)
    beside = until - since
    start = max(since - beside, min([since, *(logs.first for logs in found)]))
    end = min(until + beside, max([until, *(logs.last for logs in found)]))

    def place(first: datetime, last: datetime) -> tuple[int, int]:
        left, right = (min(max(moment, start), end) - start for moment in (first, last))
        at = int(_FULL * (left / (end - start)))
        return at, max(4, int(_FULL * (right / (end - start))) - at)

    drawn = [_Span("window asked for", since, until, asked=True)]
    for logs in found:
        at, length = place(logs.first, logs.last)
        drawn.append(replace(logs, start=at, length=length))
    return drawn, place(since, until)


def _steps(times: Mapping[str, Any]) -> list[_Step]:
    steps: list[_Step] = []
    for key, title in _TIMES:
        at = _time(times.get(key))
        if at is not None:
            after = _duration(at - steps[-1].at) if steps else ""
            steps.append(_Step(title, at, after))
    return steps


def _duration(length: timedelta) -> str:
    minutes, seconds = divmod(int(length.total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    parts = ((hours, "h"), (minutes, "min"), (seconds, "s"))
    words = " ".join(f"{number} {unit}" for number, unit in parts if number)
    return f"{words} later" if words and hours >= 0 else ""


def _hashes(digests: Iterable[HashedFile]) -> tuple[list[_Hash], int]:
    count = 0

    def counted() -> Iterable[_Hash]:
        nonlocal count
        for digest in digests:
            count += 1
            yield _Hash(digest.path, digest.size_bytes, digest.sha256)

    largest = nsmallest(_MAX_HASHES, counted(), key=lambda file: (-(file.size_bytes or 0), file.path))
    return sorted(largest, key=lambda file: file.path), max(0, count - _MAX_HASHES)


# -- documents of any form --------------------------------------------------------------------------------------------


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _number(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63 else 0


def _time(value: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
        return moment.astimezone(UTC) if moment is not None and moment.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None
