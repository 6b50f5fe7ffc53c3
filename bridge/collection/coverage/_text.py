"""Which roles, machines and times a name or a line of text speaks of."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone

from bridge.collection._roles import DOCUMENTED_ROLES

OLDER_ROLES: tuple[str, ...] = (
    "AzurePackConnector",
    "AzureStackBitlocker",
    "BGP",
    "CLM",
    "Cloud",
    "Cluster",
    "DatacenterIntegration",
    "Fabric",
    "Gallery",
    "IdentityProvider",
    "iDns",
    "Infrastructure",
    "MonitoringAgent",
    "Network",
    "POC",
    "SlbVips",
    "StorageAccounts",
    "Tenant",
    "TraceCollector",
    "Usage",
    "WASBootstrap",
)
"""Names that only public code shows (ERCS 1.6.1 and 1.8.2; CLM in the container registry's article)."""

SAYS_SKIPPED = re.compile(
    r"(?i)\bskipp?(?:ed|ing)?\b|\bnot found\b|\bunknown\b|\bdoes not exist\b|\bnot supported\b|\bignored\b"
)
SAYS_EMPTY = re.compile(
    r"(?i)\bno (?:log )?(?:files?|logs|data|events?|entries)\b|\bnothing (?:found|to collect)\b|\b0 files\b"
)
_FAILED_HINTS = (
    "error",
    "exception",
    "fail",
    "could not",
    "cannot",
    "unable",
    "denied",
    "time",
    "unreach",
    "not enough",
)
_SAYS_FAILED = re.compile(
    r"(?i)error|exception|\bfail(?:ed|ure|s)?\b|could not|cannot|unable to|\bdenied\b|timed?[ -]?out(?!InMinutes)"
    r"|unreachable|not enough space"
)
SAYS_TRUNCATED = re.compile(r"(?i)truncat")

_COMMAND = re.compile(r"(?:PS[^>]{0,200}>|>>)(?! ?TerminatingError)")
_MACHINE = re.compile(r"(?i)(?<![a-z0-9-])[a-z0-9]{1,11}-[a-z]{2,12}\d{2,3}(?![a-z0-9-])")
_QUOTES = ("'", '"', "‘", "“")
_MAX_MACHINE_CHARACTERS = 15  # a NetBIOS name
_MACHINE_LIKE = re.compile(r"(?i)[a-z0-9][a-z0-9-]{1,14}")
_ZIP = re.compile(r"(?i)[^\s\\/:*?\"'<>|,;()\[\]]{1,200}\.zip(?![a-z0-9.])")
_ZIP_COUNT = re.compile(r"(?i)(?<![\w.,])(\d{1,5}) zip (?:file|archive)s?\b")
_TIME = re.compile(
    rb"(?<!\d)(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d):(\d\d)(?:[.,]\d{1,9})?(Z|[+-]\d\d:?\d\d)?(?![\d])", re.ASCII
)
_MAX_TIMES_OF_A_PIECE = 100_000


@dataclass(frozen=True, slots=True)
class ZipName:
    """What the name of a zip says; ``role`` is ``None`` where it starts with no known role."""

    role: str | None
    machine: str | None


_NO_NAME = ZipName(None, None)


class Names:
    """Finds roles and machines in names of zips and in text, without regard to case, the longest role first."""

    def __init__(self, asked: Iterable[str], machines: Iterable[str]) -> None:
        self._roles = {role.casefold(): role for role in (*OLDER_ROLES, *DOCUMENTED_ROLES, *asked)}
        self._machines = {machine.casefold(): machine for machine in machines}
        longest_first = sorted(self._roles.values(), key=len, reverse=True)
        one = "|".join(map(re.escape, longest_first))
        self._zip = re.compile(rf"(?i)({one})(?=[-_. ]|$)")
        self._word = re.compile(rf"(?i)(?<![\w-])(?:{one})(?![\w-])")
        # Said to be a role: in quotes, after the word, or alone before a colon at the start.
        self._said = re.compile(rf"(?i)(?:\brole\W{{1,3}}|['\"‘“])({one})(?![\w-])")
        self._heading = re.compile(rf"(?i)\W{{0,3}}({one})\s*:")

    def of_zip(self, base_name: str) -> ZipName:
        """The role (and machine) of a zip such as ``SeedRing-AzS-ERCS01-20261123135500-2.zip``."""
        stem = base_name[: -len(".zip")] if base_name.casefold().endswith(".zip") else base_name
        match = self._zip.match(stem)
        return ZipName(self._roles[match[1].casefold()], self._machine_of(stem[match.end() :])) if match else _NO_NAME

    def machine_in(self, folders: set[str] | None) -> str | None:
        """The machine whose logs a zip holds, where all of it lies in one folder that has the name of a known one.

        GUESS: a simulated stamp does so; how a real one arranges a zip is not public (pep-facts 3.1).
        """
        folder = next(iter(folders)) if folders is not None and len(folders) == 1 else ""
        return self._machines.get(folder.casefold())

    def _machine_of(self, rest: str) -> str | None:
        for folded, machine in self._machines.items():
            if re.search(rf"(?<![a-z0-9]){re.escape(folded)}(?![a-z0-9])", rest.casefold()):
                return machine
        parts = [part for part in re.split(r"[-_. ]", rest) if part]
        while parts and parts[-1].isdigit():
            parts.pop()
        name = "-".join(parts)
        return name if _MACHINE_LIKE.fullmatch(name) and len(name) <= _MAX_MACHINE_CHARACTERS else None

    def said_roles(self, text: str) -> set[str]:
        """Roles that a text names as roles."""
        heading = self._heading.match(text)
        found = {self._roles[heading[1].casefold()]} if heading else set()
        if any(quote in text for quote in _QUOTES) or "role" in text.casefold():
            found |= {self._roles[match[1].casefold()] for match in self._said.finditer(text)}
        return found

    def worded_roles(self, text: str) -> set[str]:
        """Roles whose names stand in a text as words: ``Storage`` may also just be storage."""
        return {self._roles[match.group().casefold()] for match in self._word.finditer(text)}

    def machines(self, text: str) -> set[str]:
        """Machines that a text names: known ones, and what has the form of an infrastructure machine's name."""
        found = {match.group() for match in _MACHINE.finditer(text) if len(match.group()) <= _MAX_MACHINE_CHARACTERS}
        found |= {
            machine
            for folded, machine in self._machines.items()
            if re.search(rf"(?<![\w-]){re.escape(folded)}(?![\w-])", text.casefold())
        }
        return {self._machines.get(machine.casefold(), machine) for machine in found}


def zips_in(text: str) -> Iterator[str]:
    """Base names of zips that a text names, whatever path stands before them."""
    if ".zip" in text.casefold():
        yield from (match.group() for match in _ZIP.finditer(text))


def zip_count_in(text: str) -> int:
    """How many zips a text speaks of. GUESS: the wording; no public log shows a count, the simulated one does."""
    match = _ZIP_COUNT.search(text) if "zip" in text.casefold() else None
    return int(match[1]) if match else 0


def is_command(line: str) -> bool:
    """Whether a line of a transcript repeats a command or its arguments: it names what was asked for, and says nothing.

    A prompt, or the marks of Windows PowerShell 5.1 for an invocation and for an argument (``>> ParameterBinding``).
    """
    return _COMMAND.match(line) is not None


def says_failed(text: str) -> bool:
    """Whether a text tells of a failure."""
    lowered = text.casefold()
    return any(hint in lowered for hint in _FAILED_HINTS) and _SAYS_FAILED.search(text) is not None


def times_in(piece: bytes) -> Iterator[tuple[datetime, bool]]:
    """Times of the form of ISO 8601 in some bytes; false where the zone was not written and UTC is assumed."""
    for _, match in zip(range(_MAX_TIMES_OF_A_PIECE), _TIME.finditer(piece), strict=False):
        *numbers, zone = match.groups()
        year, month, day, hour, minute, second = map(int, numbers)
        try:
            yield datetime(year, month, day, hour, minute, second, tzinfo=_zone(zone)).astimezone(UTC), bool(zone)
        except (ValueError, OverflowError):
            continue  # digits that only look like a time


def _zone(text: bytes | None) -> timezone:
    if text is None or text == b"Z":
        return UTC
    digits = text[1:].replace(b":", b"")
    offset = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return timezone(-offset if text[:1] == b"-" else offset)
