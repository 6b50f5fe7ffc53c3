"""A real PowerShell agrees: on the corpus, on mutated lines, and on every shipped script."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import Any

import pytest

from bridge.endpoint import Value
from bridge.endpoint.script import (
    Declared,
    Script,
    compare_script_with_engine,
    compare_with_engine,
    list_scripts,
    parse_with_engine,
)
from bridge.errors import EngineJudgementError
from tests.support.script_verdicts import load_lines

pytestmark = pytest.mark.engine
GIVEN: dict[Declared, Value] = {
    Declared.STRING: "it's \\\\192.0.2.10\\logs",
    Declared.STRINGS: ("ACS", "Storage"),
    Declared.INT: 60,
    Declared.SWITCH: True,
    Declared.DATETIME: datetime(2024, 3, 12, 8, tzinfo=UTC),
}
MUTATIONS = [
    *"`'\"@()[]{},;|&-\u2013<>#!%:=.\\ \n\tax5",
    *("5L", "(1,2)", "@{a=1}", "'q'", " -A:", "$true", "--", "`\n"),
]


def forms() -> list[str]:
    _, *lines = load_lines("forms.jsonl")
    with_values = ("$using:", "@using:", "param(", "$args", "::Now", "::UtcNow", "Get-Date")
    return [line["text"] for line in lines if not any(part in line["text"] for part in with_values)]


def mutate(chance: random.Random, text: str) -> str:
    for _ in range(chance.randint(1, 3)):
        at = chance.randint(0, len(text))
        text = text[:at] + chance.choice(MUTATIONS) + text[at + chance.randint(0, 2) :]
    return text


def test_the_engine_sends_the_same_for_lines_that_were_mutated_at_random(pwsh: str) -> None:
    chance = random.Random(20261123)
    known = forms()
    texts = [mutate(chance, chance.choice(known)) for _ in range(1500)]
    answers = compare_with_engine(pwsh, texts)
    wrong: list[Any] = []
    for text, differences in zip(texts, answers, strict=True):
        wrong += [(text, each) for each in differences if not each.bridge.startswith("refused")]
    assert wrong == []


def test_the_engine_agrees_with_the_corpus_but_for_the_deliberate_refusals(pwsh: str) -> None:
    answers = dict(zip(forms(), compare_with_engine(pwsh, forms()), strict=True))
    _, *lines = load_lines("forms.jsonl")
    deliberate = {line["text"] for line in lines if line.get("deliberate")}
    assert {text for text, differences in answers.items() if differences} == deliberate & set(answers)


@pytest.mark.parametrize("script", list_scripts(), ids=lambda script: script.name)
def test_the_engine_parses_a_shipped_script_and_sends_what_the_bridge_sends(pwsh: str, script: Script) -> None:
    arguments = {each.name: GIVEN[each.type] for each in script.parameters if each.type in GIVEN and not each.valid}
    if any(each.type is Declared.PSCREDENTIAL and each.mandatory for each in script.parameters):
        assert parse_with_engine(pwsh, script.text) == ()
        return
    commands = script.bind(arguments)
    assert commands
    assert compare_script_with_engine(pwsh, script, commands) == ()


def test_a_difference_is_told_from_both_sides(pwsh: str) -> None:
    [agreed] = compare_with_engine(pwsh, ["x 'a'"])
    [difference] = compare_with_engine(pwsh, ["x 0b11"])[0]
    assert agreed == ()
    assert difference.bridge.startswith("refused")
    assert difference.engine == "accepted"


def test_what_is_no_powershell_is_said_to_be_none() -> None:
    with pytest.raises(EngineJudgementError):
        compare_with_engine("/does/not/exist/pwsh", ["x"])
