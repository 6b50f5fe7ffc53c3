"""Every question of the recordings of a real PowerShell is put to the simulated session (docs/conformance.md)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest

from tests.support.psrp_replay import RECORDINGS, Message, Replay, load, shape

DOCUMENT = Path(__file__).parents[2] / "docs" / "conformance.md"
NAMES = sorted(f"{path.parent.name}/{path.stem}" for path in RECORDINGS.glob("from-*/*.json"))


@dataclass(frozen=True)
class Deviation:
    """A difference on purpose: which findings it covers, and why."""

    name: str
    pattern: str
    reason: str
    only: str = ".*"


DEVIATIONS = (
    Deviation(
        "version table",
        r"APPLICATION_PRIVATE_DATA .*\[PSVersionTable\]"
        r"\[(Platform|OS|PSSemanticVersion|GitCommitId|CLRVersion|BuildVersion)\].*",
        "The endpoint is Windows PowerShell 5.1 (Desktop): its table has CLRVersion and BuildVersion, and none of the"
        " keys of 7.x. Recordings of Windows hosts win.",
    ),
    Deviation(
        "protocol version",
        r"SESSION_CAPABILITY .*",
        "Windows PowerShell 5.1 speaks protocol 2.3 whatever the client asks for.",
    ),
    Deviation(
        "ProgressAction",
        r"PIPELINE_OUTPUT .*/Parameters\[ProgressAction\].*",
        "The common parameter ProgressAction came with 7.4; 5.1 has eleven common parameters.",
    ),
    Deviation(
        "Statement",
        r"\w+ .*InvocationInfo/Statement: S -> None",
        "InvocationInfo.Statement came with 7.5; recordings of 5.1 hosts do not have it.",
    ),
    Deviation(
        "StandardDeviation",
        r"PIPELINE_OUTPUT /StandardDeviation: Nil -> None",
        "Measure-Object's StandardDeviation came with 6.0.",
    ),
    Deviation(
        "Get-FormatData twice",
        r"(a second Get-FormatData is not listed|PIPELINE_OUTPUT /Count: I32 = 16 -> I32 = 15)",
        "The recorded session made the cmdlet Get-FormatData visible beside the proxy function that every restricted"
        " session has, so it was listed twice.",
    ),
    Deviation(
        "no format data",
        r"messages: \d+ fewer PIPELINE_OUTPUT",
        "Get-FormatData writes nothing: the simulated objects have no views; Import-PSSession goes on without.",
        only="from-powershell/import-pssession-all",
    ),
    Deviation(
        "cause of a refused object",
        r"PIPELINE_STATE .*/InnerException/InnerException/InnerException.*",
        "Only the two upper causes of a conversion that failed are rebuilt where the value was an object.",
        only="from-powershell/arguments-dto",
    ),
)


def differences(name: str) -> list[str]:
    """What the simulated session does otherwise, one line each; empty if it answers as recorded."""
    recording = load(name)
    got = Replay(recording, load(f"{name.partition('/')[0]}/open")).answers()
    want = [message for message in _expected(recording) if not _is_second_format_data(message)]
    found = ["a second Get-FormatData is not listed"] if len(want) < len(_expected(recording)) else []
    kinds, got_kinds = _kinds(want, name), _kinds(got, name)
    if kinds != got_kinds:
        found.append(_difference_of_kinds(kinds, got_kinds))
    for expected, actual in _pairs(want, got):
        if expected is None or actual is None or expected.kind != actual.kind:
            continue
        before, after = shape(expected.clixml), shape(actual.clixml)
        found += [
            f"{actual.kind} {path}: {before.get(path)} -> {after.get(path)}"
            for path in sorted(before.keys() | after.keys())
            if before.get(path) != after.get(path)
        ]
    return list(dict.fromkeys(found))


def explained(name: str, finding: str) -> Deviation | None:
    """The deviation that covers a finding."""
    for deviation in DEVIATIONS:
        if re.fullmatch(deviation.pattern, finding) and re.fullmatch(deviation.only, name):
            return deviation
    return None


def _expected(recording: dict[str, Any]) -> list[Message | None]:
    expected: list[Message | None] = []
    for message in recording["messages"]:
        if "skipped" in message:
            expected += [None] * message["skipped"]
        elif message["from"] == "server":
            expected.append(Message(message["type"], None, message["clixml"] or ""))
    return expected


def _is_second_format_data(message: Message | None) -> bool:
    return message is not None and "CmdletInfo" in message.clixml and '"Name">Get-FormatData<' in message.clixml


def _kinds(messages: list[Message | None] | list[Message], name: str) -> list[str]:
    kinds = ["PIPELINE_OUTPUT" if message is None else message.kind for message in messages]
    if not name.endswith("/stop"):
        return kinds
    # How often a command ticked before it was stopped is chance.
    text = " ".join(kinds)
    return re.sub(r"(PROGRESS_RECORD( PIPELINE_HOST_CALL)?)( \1)*", r"\1", text).split()


def _pairs(want: list[Message | None], got: list[Message]) -> list[tuple[Message | None, Message | None]]:
    # Skipped messages stand for any; what follows them is compared from the end.
    if None not in want or len(want) == len(got):
        return list(zip_longest(want, got))
    first = want.index(None)
    tail = list(zip(reversed(want), reversed(got), strict=False))
    last = next(index for index, (expected, _) in enumerate(tail) if expected is None)
    return [*zip(want[:first], got, strict=False), *tail[:last]]


def _difference_of_kinds(want: list[str], got: list[str]) -> str:
    rest = list(want)
    for kind in got:
        if kind not in rest:
            return f"messages: {want} -> {got}"
        rest.remove(kind)
    if len(set(rest)) == 1:
        return f"messages: {len(rest)} fewer {rest[0]}"
    return f"messages: {want} -> {got}"


@pytest.mark.parametrize("name", NAMES)
def test_the_session_answers_as_recorded_or_differs_for_a_written_reason(name: str) -> None:
    unexplained = [finding for finding in differences(name) if explained(name, finding) is None]
    assert unexplained == []


def test_the_document_says_what_the_session_does() -> None:
    expected = document()
    if DOCUMENT.read_text(encoding="utf-8") != expected:
        DOCUMENT.write_text(expected, encoding="utf-8")
        pytest.fail("docs/conformance.md was out of date; it has been written anew: look at it and commit it")


def document() -> str:
    """The page docs/conformance.md."""
    rows, used = [], dict[str, str]()
    for name in NAMES:
        reasons = {item.name: item.reason for finding in differences(name) if (item := explained(name, finding))}
        used |= reasons
        said = load(name)["said"].replace("|", "\\|").replace("\n", " ").replace("`", "'")
        short = said if len(said) <= 90 else said[:87] + "..."
        verdict = "differs on purpose" if reasons else "same"
        rows.append(f"| {name} | `{short}` | {verdict} | {', '.join(reasons)} |")
    lines = [
        "# Conformance of the simulated session",
        "",
        "Every conversation of `fixtures/real-powershell` (a real PowerShell 7.6.5 in a restricted NoLanguage session)",
        "is put to the simulated session, which plays Windows PowerShell 5.1. Compared are: the types of the messages",
        "and their order; names and types of all properties; error id, category, reason, activity, target and the",
        "exception's type; the states. Texts, times and the order of properties are not.",
        "`tests/simulator/test_conformance.py` writes and checks this page.",
        "",
        "| recording | said | verdict | difference |",
        "| --- | --- | --- | --- |",
        *rows,
        "",
        "## Differences and their reasons",
        "",
        "| difference | reason |",
        "| --- | --- |",
        *(f"| {item.name} | {item.reason} |" for item in DEVIATIONS if item.name in used),
        "| wording | Texts are those of 5.1: 'is not recognized as the name of a cmdlet, function, script file, or"
        " operable program'. |",
        "| secure strings | They always go through the session key: `from-powershell/credential` and"
        " `psboundparameters` are replayed with one. |",
        "",
        "## Beyond the recordings",
        "",
        "* `test_binder_against_engine.py` puts random commands with parameter sets, and dates, to the engine and to",
        "  the simulated binder: the same parameters are bound, or the same error names the same parameter.",
        "* `test_answers_of_windows.py` holds the WSMan answers (Create, Receive, Command, Signal, Disconnect,",
        "  Reconnect, Connect, Delete, faults) against pypsrp's recordings of Windows hosts: each has the elements,",
        "  the order, the namespaces and the attributes that a real host sent. No difference is known.",
        "",
    ]
    return "\n".join(lines)
