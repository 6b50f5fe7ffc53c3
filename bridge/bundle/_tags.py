"""The small text files of a bag: declaration, bag-info and their readers (RFC 8493 sections 2.1.1 and 2.2.2)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

DECLARATION = "bagit.txt"
BAG_INFO = "bag-info.txt"
MANIFEST = "manifest-sha256.txt"
TAG_MANIFEST = "tagmanifest-sha256.txt"
SIZES = "payload-sizes.txt"
UNHASHED = "unhashed.json"
PAYLOAD = "data/"

PROFILE = "pep-bridge bundle 1"
"""The value of ``Bundle-Profile``: which version of docs/bundle.md a bundle follows."""

DECLARATION_CONTENT = b"BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n"
MAX_DECLARATION_BYTES = 1024
MAX_BAG_INFO_BYTES = 1 << 20

_DECLARATION = re.compile(
    rb"BagIt-Version: (\d{1,3})\.(\d{1,3})(?:\r\n|\n|\r)Tag-File-Character-Encoding: (\S{1,40})\s*"
)
_OXUM = re.compile(r"([0-9]{1,20})\.([0-9]{1,20})")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")
_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


@dataclass(frozen=True, slots=True)
class BagInfo:
    """What ``bag-info.txt`` says beside the counts, which sealing adds.

    Args:
        stamp: name of the stamp.
        bundle_name: the folder's name, which is the bag's external identifier.
        started: when the collection started.
        sealed: the day of it is the Bagging-Date. A run that resumes must pass the moment it journalled, or the second
            seal gives another bundle.
        software: name and version of what sealed it.
        window: the start and end that logs were asked for.
        case_number: the support case, if there is one.
        data_handling: what whoever holds the bundle must know about personal data in it.
    """

    stamp: str
    bundle_name: str
    started: datetime
    sealed: datetime
    software: str
    window: tuple[datetime, datetime] | None = None
    case_number: str | None = None
    data_handling: str | None = None

    def fields(self) -> Iterator[tuple[str, str]]:
        """Labels and values, RFC 8493's reserved ones first."""
        yield "External-Identifier", self.bundle_name
        yield "External-Description", f"Azure Stack Hub diagnostic logs of stamp {self.stamp}"
        yield "Bagging-Date", f"{self.sealed.astimezone(UTC):%Y-%m-%d}"
        yield "Bag-Software-Agent", self.software
        if self.case_number:
            yield "Internal-Sender-Identifier", self.case_number
        yield "Bundle-Profile", PROFILE
        yield "Stamp", self.stamp
        yield "Collection-Start", _utc(self.started)
        if self.window is not None:
            yield "Logs-From", _utc(self.window[0])
            yield "Logs-To", _utc(self.window[1])
        if self.data_handling:
            yield "Data-Handling", self.data_handling


def format_bag_info(fields: Iterable[tuple[str, str]]) -> bytes:
    """The file's bytes; a value cannot break out of its line."""
    return "".join(f"{label}: {_one_line(value)}\n" for label, value in fields).encode()


def parse_bag_info(content: bytes) -> dict[str, tuple[str, ...]]:
    """Labels and their values; a folded value is joined by one blank, and a line without a label is left out.

    Raises:
        UnicodeDecodeError: the file is not UTF-8.
    """
    values: dict[str, list[str]] = {}
    current: list[str] | None = None
    for line in re.split(r"\r\n|\n|\r", content.decode("utf-8")):
        if line[:1] in {" ", "\t"} and current:
            current[-1] = f"{current[-1]} {line.strip()}"
            continue
        label, colon, value = line.partition(":")
        if colon and label.strip():
            current = values.setdefault(label.strip(), [])
            current.append(value.strip())
    return {label: tuple(given) for label, given in values.items()}


def parse_oxum(value: str) -> tuple[int, int] | None:
    """Octets and files of a Payload-Oxum, or ``None`` where it has another form."""
    match = _OXUM.fullmatch(value)
    return (int(match.group(1)), int(match.group(2))) if match else None


def what_is_wrong_with_declaration(content: bytes | None) -> str | None:
    """Why the bytes of ``bagit.txt`` are not a declaration that this project reads, or ``None``."""
    if content is None:
        return f"it has more than {MAX_DECLARATION_BYTES} bytes"
    match = _DECLARATION.fullmatch(content)
    if match is None:
        return (
            "it is not the two lines 'BagIt-Version: ...' and 'Tag-File-Character-Encoding: ...' (no byte order mark)"
        )
    version = (int(match.group(1)), int(match.group(2)))
    if version not in {(1, 0), (0, 97)}:
        return f"BagIt version {version[0]}.{version[1]} is not known here (1.0 and 0.97 are)"
    if match.group(3).upper() != b"UTF-8":
        return f"the tag files are in {ascii(match.group(3))[2:-1]}; only UTF-8 is read"
    return None


def in_words(size_bytes: int) -> str:
    """A size for people, as Bag-Size has it: ``2.1 GiB``."""
    size, step = float(size_bytes), 0
    while size >= 1024 and step + 1 < len(_UNITS):
        size, step = size / 1024, step + 1
    return f"{size:.1f} {_UNITS[step]}" if step else f"{size_bytes} bytes"


def _utc(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _one_line(value: str) -> str:
    return " ".join(_UNPRINTABLE.sub(" ", value).split())
