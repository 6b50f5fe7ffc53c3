"""The bridge reads 2,000 random lines as PowerShell's own converter did, or refuses them on purpose."""

from __future__ import annotations

from collections import Counter

from tests.support.script_verdicts import comparable, judge, load_lines

USING = {
    "since": "<using:since>",
    "share": "<using:share>",
    "cred": "<using:cred>",
    "opts": {"Group": "<splat:Group>"},
}
ARGUMENTS = ["<arg0>", "<arg1>"]
DELIBERATE = {
    "BridgeBackground": 31,
    "BridgeDashCommand": 21,
    "BridgeVersionDifference": 30,
    "CantConvertWithCommandInvocations": 1,
    "RedirectionNotSupported": 1,
    "SplattingNotPermitted": 1,
    "UnexpectedToken": 1,
}
"""Reason and count of the lines that PowerShell 7 would send and the bridge does not: docs/powershell.md says why."""


def test_no_line_that_powershell_refuses_is_accepted() -> None:
    lines = [line for line in load_lines("recorded-lines.jsonl") if line["verdict"] == "refuse"]
    accepted = [line["text"] for line in lines if judge(line["text"], USING, ARGUMENTS).reason is None]
    assert len(lines) == 956
    assert accepted == []


def test_every_line_that_powershell_sends_becomes_the_same_commands_or_is_refused_on_purpose() -> None:
    lines = [line for line in load_lines("recorded-lines.jsonl") if line["verdict"] == "convert"]
    refused: Counter[str] = Counter()
    different = []
    for line in lines:
        verdict = judge(line["text"], USING, ARGUMENTS)
        if verdict.reason is not None:
            refused[verdict.reason] += 1
        elif verdict.commands != comparable(line["commands"]):
            different.append(line["text"])
    assert len(lines) == 1044
    assert different == []
    assert dict(refused) == DELIBERATE
