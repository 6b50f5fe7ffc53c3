"""What a script's results look like: tables that fit, lists that do not, and nothing that redraws a terminal."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from bridge.endpoint import Progress, Record, Stream
from bridge.secrets import Secret
from cli._console import Console
from cli._session import Results

NOW = datetime(2026, 11, 23, tzinfo=UTC)
HOSTILE = "\x1b]0;owned\x07\x9b2J"


@pytest.fixture(autouse=True)
def width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")


def output(data: Any = None, text: str = "") -> Record:
    return Record(Stream.OUTPUT, text, NOW, data=data)


def shown(form: str, *records: Record, secrets: tuple[str, ...] = (), as_json: bool = False) -> Results:
    results = Results(Console(as_json, [Secret(each) for each in secrets]), form)
    for record in records:
        results.take(record)
    results.finish()
    return results


def test_objects_make_a_table_without_columns_that_are_empty_in_every_row(capsys: pytest.CaptureFixture[str]) -> None:
    shown("table", output({"Name": "one", "None": None}), output({"Name": "two", "None": None, "More": 5}))
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [["Name", "More"], ["one"], ["two", "5"]]


def test_objects_that_are_too_wide_make_a_list(capsys: pytest.CaptureFixture[str]) -> None:
    shown("table", output({"Name": "one", "Text": "x" * 80}), output("", text="plain"))
    assert capsys.readouterr().out == f"Name : one\nText : {'x' * 80}\n\nplain\n"


@pytest.mark.parametrize("form", ["table", "jsonl"])
@pytest.mark.parametrize("data", [{"Name": HOSTILE}, HOSTILE])
def test_control_characters_of_a_stamp_do_not_reach_the_terminal(
    capsys: pytest.CaptureFixture[str], form: str, data: Any
) -> None:
    progress = Progress(HOSTILE, 0, HOSTILE, 5)
    others = (Record(Stream.ERROR, HOSTILE, NOW), Record(Stream.PROGRESS, "", NOW, progress=progress))
    shown(form, output(data, text=HOSTILE), *others)
    said = capsys.readouterr()
    assert not [c for c in said.out + said.err if c != "\n" and (ord(c) < 32 or 127 <= ord(c) < 160)]
    if form == "jsonl":
        assert json.loads(said.out) == data


@pytest.mark.parametrize("form", ["table", "jsonl", "clixml"])
def test_a_secret_that_comes_back_is_blanked_in_every_form(capsys: pytest.CaptureFixture[str], form: str) -> None:
    record = Record(Stream.OUTPUT, "hunter22", NOW, data={"Echo": "hunter22"}, clixml="<S>hunter22</S>")
    shown(form, record, output("hunter22", text="hunter22"), secrets=("hunter22",))
    said = capsys.readouterr()
    assert "***" in said.out
    assert "hunter22" not in said.out + said.err


def test_the_same_progress_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    steps = [Record(Stream.PROGRESS, "", NOW, progress=Progress("a", 0, "same", percent)) for percent in (1, 2, 3)]
    shown("table", *steps)
    assert capsys.readouterr().err == "progress: a: same (1 %)\n"


def test_the_document_keeps_streams_apart_and_says_what_it_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    many = [output(number) for number in range(10_003)]
    results = shown("table", *many, Record(Stream.WARNING, "careful", NOW), as_json=True)
    document = results.to_json()
    assert len(document["output"]) == 10_000
    assert document["left_out"] == 3
    assert document["streams"] == {"warning": ["careful"]}
    assert "3 records are left out" in capsys.readouterr().err
