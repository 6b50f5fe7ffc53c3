"""Values that people give become what the script declares, or are refused with advice."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from bridge.endpoint import Hashtable, Int64, Value
from bridge.endpoint.script import convert_value, read_arguments, read_script
from bridge.errors import ScriptArgumentError, SecretOnCommandLineError, UsageError
from bridge.secrets import Credential, Secret

NOW = datetime(2026, 3, 12, 8, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")
SCRIPT = read_script(
    """param(
        [string[]]$FilterByRole, [Alias('From')][datetime]$FromDate, [switch]$IncludeDumpFile, [int]$Minutes,
        [pscredential]$Credential, [string]$OutputSasUri, [securestring]$Key)
    Get-AzureStackLog @PSBoundParameters"""
)


@pytest.mark.parametrize(
    ("given", "declared", "expected"),
    [
        ("ACS", "string", "ACS"),
        ("", "string", ""),
        ("ACS,ECE", "string[]", ("ACS", "ECE")),
        (" ACS , ECE ,", "string[]", ("ACS", "ECE")),
        (["a,b", "c"], "string[]", ("a,b", "c")),
        ("ACS", "string[]", ("ACS",)),
        ("-5", "int", -5),
        (5, "int", 5),
        ("1,2", "int[]", (1, 2)),
        ("5000000000", "long", Int64(5_000_000_000)),
        ("1.5", "double", 1.5),
        ("true", "switch", True),
        ("$False", "bool", False),
        (True, "switch", True),
        ("https://a.example/c", "uri", "https://a.example/c"),
        ({"a": 1}, "hashtable", Hashtable((("a", 1),))),
        (["a", 1], "object", ("a", 1)),
        ("2024-03-12T08:00:00+01:00", "datetime", datetime(2024, 3, 12, 7, tzinfo=UTC)),
        ("2024-03-12T08:00:00Z", "datetime", datetime(2024, 3, 12, 8, tzinfo=UTC)),
        ("-8h", "datetime", NOW - timedelta(hours=8)),
        ("-90m", "datetime", NOW - timedelta(minutes=90)),
        ("-2d", "datetime", NOW - timedelta(days=2)),
        ("-1h30m", "datetime", NOW - timedelta(minutes=90)),
        ("+1H", "datetime", NOW + timedelta(hours=1)),
    ],
)
def test_a_value_is_converted_by_its_type(given: Any, declared: str, expected: Value) -> None:
    assert convert_value(given, declared, now=NOW) == expected


@pytest.mark.parametrize(
    ("given", "declared"),
    [
        ("five", "int"),
        ("5.5", "int"),
        ("٥", "int"),
        ("2147483648", "int"),
        (True, "int"),
        ("9223372036854775808", "long"),
        ("maybe", "switch"),
        ("", "bool"),
        (5, "string"),
        ("a\0b", "string"),
        ("\ud800", "string"),
        ("share", "uri"),
        ("https://a b/c", "uri"),
        ("http://[", "uri"),
        ("yesterday", "datetime"),
        ("03/12/2024", "datetime"),
        ("8h", "datetime"),
        ("-999999d", "datetime"),
        ("2024-03-12T08:00:00", "datetime"),
        ("2024-13-12T08:00:00Z", "datetime"),
        ("a=b", "hashtable"),
        (object(), "object"),
        (datetime(2024, 3, 12), "object"),  # noqa: DTZ001
    ],
)
def test_a_value_that_does_not_fit_is_refused_with_advice(given: Any, declared: str) -> None:
    with pytest.raises(ScriptArgumentError) as caught:
        convert_value(given, declared, name="Since", now=NOW)
    assert "Since" in str(caught.value)
    assert caught.value.advice


def test_a_date_without_a_zone_takes_the_one_that_is_named() -> None:
    assert convert_value("2024-03-12T08:00:00", "datetime", tz=BERLIN) == datetime(2024, 3, 12, 7, tzinfo=UTC)
    assert convert_value("2024-03-12", "datetime", tz=BERLIN) == datetime(2024, 3, 11, 23, tzinfo=UTC)


@pytest.mark.parametrize(
    ("local", "said"), [("2024-10-27T02:30:00", "happened twice"), ("2024-03-31T02:30:00", "never happened")]
)
def test_a_local_time_at_a_change_of_clocks_is_refused(local: str, said: str) -> None:
    with pytest.raises(ScriptArgumentError, match=said):
        convert_value(local, "datetime", tz=BERLIN)


@pytest.mark.parametrize("declared", ["pscredential", "securestring"])
def test_a_secret_never_comes_as_text(declared: str) -> None:
    with pytest.raises(SecretOnCommandLineError) as caught:
        convert_value("hunter22", declared, name="Password")
    assert "hunter22" not in f"{caught.value} {caught.value.advice} {caught.value.fields}"


@pytest.mark.parametrize(
    "pair", ["OutputSasUri=https://a.example/c?sv=1&sig=abcdef", "Key=hunter22", "Credential=D\\u"]
)
def test_a_secret_on_the_command_line_is_refused_without_repeating_it(pair: str) -> None:
    with pytest.raises(SecretOnCommandLineError) as caught:
        read_arguments(SCRIPT, [pair])
    assert pair.partition("=")[2] not in f"{caught.value} {caught.value.advice} {caught.value.fields}"


def test_a_user_name_on_the_command_line_goes_with_the_password_that_came_another_way() -> None:
    credential = Credential("D\\u", Secret("hunter22"))
    found = read_arguments(SCRIPT, ["Credential=D\\u"], secrets={"Credential": credential})
    assert found == {"Credential": credential}
    with pytest.raises(SecretOnCommandLineError):
        read_arguments(SCRIPT, ["Credential=hunter22"], secrets={"Credential": credential})


def test_a_secret_text_is_given_as_a_secret() -> None:
    found = read_arguments(SCRIPT, secrets={"OutputSasUri": Secret("https://a.example/c?sig=abcdef")})
    assert found == {"OutputSasUri": "https://a.example/c?sig=abcdef"}


def test_pairs_replace_what_the_file_says(tmp_path: Path) -> None:
    file = tmp_path / "values.json"
    file.write_text(json.dumps({"filterbyrole": ["ACS"], "Minutes": 5, "From": "-4h"}), encoding="utf-8")
    found = read_arguments(SCRIPT, ["Minutes=7", "IncludeDumpFile"], file, now=NOW)
    assert found == {
        "FilterByRole": ("ACS",),
        "Minutes": 7,
        "FromDate": NOW - timedelta(hours=4),
        "IncludeDumpFile": True,
    }


def test_toml_gives_dates_as_dates(tmp_path: Path) -> None:
    file = tmp_path / "values.toml"
    file.write_text("FromDate = 2024-03-12T08:00:00Z\nFilterByRole = ['ACS', 'ECE']\n", encoding="utf-8")
    found = read_arguments(SCRIPT, (), file)
    assert found == {"FromDate": datetime(2024, 3, 12, 8, tzinfo=UTC), "FilterByRole": ("ACS", "ECE")}


def test_a_list_grows_with_its_name_given_again() -> None:
    assert read_arguments(SCRIPT, ["FilterByRole=ACS,ECE", "FilterByRole=SLB"]) == {
        "FilterByRole": ("ACS", "ECE", "SLB")
    }


@pytest.mark.parametrize("pairs", [["Role=ACS"], ["Minutes"], ["Minutes=1", "minutes=2"], ["=5"], [""]])
def test_a_pair_that_names_nothing_or_twice_is_refused(pairs: list[str]) -> None:
    with pytest.raises(ScriptArgumentError):
        read_arguments(SCRIPT, pairs)


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.json", "{"), ("a.toml", "="), ("a.json", "[1]"), ("a.json", "\udc80"), ("a.json", "[" * 100_000)],
)
def test_a_file_that_holds_no_values_is_refused(tmp_path: Path, name: str, content: str) -> None:
    file = tmp_path / name
    file.write_text(content, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(UsageError):
        read_arguments(SCRIPT, (), file)


def test_a_file_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"missing\.json"):
        read_arguments(SCRIPT, (), tmp_path / "missing.json")
