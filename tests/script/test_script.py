"""A script knows its help and parameters, and sends what its arguments ask for."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bridge.endpoint import Command, Parameter
from bridge.endpoint.script import Declared, check_text, convert_text, load_script, read_script
from bridge.errors import ScriptArgumentError, ScriptRefusedError, UsageError
from bridge.secrets import Credential, Secret

NOW = datetime(2026, 3, 12, 8, tzinfo=UTC)
TEXT = """<#
.SYNOPSIS
Collects.
.DESCRIPTION
Two
lines.
.PARAMETER Role
The roles.
.EXAMPLE
x -Role ACS
#>
[CmdletBinding()]
param(
    [Parameter(Mandatory)]
    [ValidateSet('ACS', 'ECE')]
    [Alias('R', 'Roles')]
    [string[]]$Role,

    [ValidateRange(1, 10)]
    [int]$Minutes = 5,

    [ValidatePattern('^[a-z]+$')]
    [string]$Word,

    [datetime]$Since,

    [switch]$Deep
)
Get-A -Role $Role -Minutes $Minutes -Deep:$Deep | Get-B
Get-C "$Word-$($Role.Length)"
"""


def test_a_script_tells_its_help_and_parameters() -> None:
    script = read_script(TEXT, name="mine")
    role, minutes, _, since, deep = script.parameters
    assert (script.synopsis, script.description) == ("Collects.", "Two\nlines.")
    assert script.help.examples == ("x -Role ACS",)
    assert (role.type, role.mandatory, role.valid, role.aliases) == (
        Declared.STRINGS,
        True,
        ("ACS", "ECE"),
        ("R", "Roles"),
    )
    assert (role.help, minutes.default_text, minutes.mandatory) == ("The roles.", "5", False)
    assert (since.type, deep.type) == (Declared.DATETIME, Declared.SWITCH)
    assert script.command_names == ("Get-A", "Get-B", "Get-C")


def test_arguments_take_their_places_and_omitted_ones_their_defaults() -> None:
    assert read_script(TEXT).bind({"roles": ("ACS", "ECE")}) == (
        Command(
            "Get-A",
            (
                Parameter("-Role"),
                Parameter(None, ("ACS", "ECE")),
                Parameter("-Minutes"),
                Parameter(None, 5),
                Parameter("-Deep:", False),
            ),
        ),
        Command("Get-B", (), end_of_statement=True),
        Command("Get-C", (Parameter(None, "-2"),)),
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "Role: .*needs it"),
        ({"Role": ("ACS",), "Nope": 1}, "Nope: .*no such parameter"),
        ({"Role": ("ACS",), "R": ("ECE",)}, "Role: it is given twice"),
        ({"Role": ("SLB",)}, "SLB.*not one of"),
        ({"Role": ("ACS",), "Minutes": 11}, "out of range"),
        ({"Role": ("ACS",), "Minutes": "5"}, r"\[int\] is expected"),
        ({"Role": ("ACS",), "Minutes": True}, r"\[int\] is expected"),
        ({"Role": (1,)}, r"string\[\]\] is expected"),
        ({"Role": ("ACS",), "Word": "A1"}, "form"),
        ({"Role": ("ACS",), "Since": datetime(2026, 3, 12)}, "time zone"),  # noqa: DTZ001
        ({"Role": ("ACS",), "Deep": "true"}, r"\[switch\] is expected"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ScriptArgumentError, match=said):
        read_script(TEXT).bind(arguments)


def test_bound_parameters_are_those_that_were_given_common_ones_included() -> None:
    script = read_script("[CmdletBinding()]param([string]$A, [int]$B = 7, [switch]$C) Get-X -Z @PSBoundParameters")
    [command] = script.bind({"c": False, "a": "v", "Verbose": True})
    assert command.parameters == (
        Parameter("-Z"),
        Parameter("A", "v"),
        Parameter("C", False),
        Parameter("Verbose", True),
    )


def test_common_parameters_need_an_advanced_script() -> None:
    with pytest.raises(ScriptArgumentError, match="Verbose"):
        read_script("param([string]$A) Get-X @PSBoundParameters").bind({"Verbose": True})


def test_a_credential_goes_through_as_it_is() -> None:
    credential = Credential("D\\u", Secret("hunter22"))
    script = read_script("param([Parameter(Mandatory)][pscredential]$Credential) Get-X -Credential $Credential")
    [command] = script.bind({"Credential": credential})
    assert command.parameters[1].value is credential
    with pytest.raises(ScriptArgumentError):
        script.bind({"Credential": "hunter22"})


def test_a_credential_cannot_become_text() -> None:
    script = read_script('param([pscredential]$Credential) Get-X "$Credential"')
    with pytest.raises(ScriptRefusedError, match="cannot become text"):
        script.bind({"Credential": Credential("D\\u", Secret("hunter22"))})


def test_an_omitted_date_that_a_command_needs_is_asked_for() -> None:
    script = read_script("param([datetime]$Since) Get-X -Since $Since")
    with pytest.raises(ScriptRefusedError, match="not given"):
        script.bind({})
    [command] = script.bind({"Since": NOW})
    assert command.parameters[1].value == NOW


@pytest.mark.parametrize(
    ("text", "line", "column", "error_id", "fix"),
    [
        ("Get-X\nGet-X (Get-Date)", 2, 8, "CantConvertWithCommandInvocations", "datetime"),
        ("Get-X\r\n  Get-X $y", 2, 9, "CantConvertWithUndeclaredVariables", "param"),
        ("$x = 1", 1, 1, "CanOnlyConvertOnePipeline", "param"),
        ("Get-X { 1 }", 1, 7, "CantConvertWithScriptBlocks", "client"),
        ("PS C:\\> Get-X", 1, 1, "BridgePrompt", "Remove"),
        ("Get-X ` \n-A", 1, 7, "BridgeBacktickBlank", "very end"),
        ("Get-X\n-A", 2, 1, "BridgeDashCommand", "Join"),
        ("Get-X > f", 1, 7, "CanConvertOneOutputErrorRedir", "Remove"),
        ("Get-X @PSBoundParameters.Keys", 1, 7, "SplattingNotPermitted", "PSBoundParameters"),
        ("Get-X $PSBoundParameters", 1, 7, "CantConvertWithUndeclaredVariables", "@PSBoundParameters"),
        ("param([xml]$A) Get-X $A", 1, 7, "BridgeTypeName", "string"),
        ("param([ValidateScript({1})]$A) Get-X", 1, 23, "CantConvertWithScriptBlocks", "client"),
        ("Get-X ([datetime]'2024-03-12')", 1, 7, "BridgeExpression", "offset"),
        ("Get-X $using:a.Trim()", 1, 7, "InvalidUsingExpression", "parentheses"),
        ("a\nif (1) { b }", 2, 1, "CanOnlyConvertOnePipeline", "client"),
    ],
)
def test_a_refusal_says_where_what_and_what_instead(text: str, line: int, column: int, error_id: str, fix: str) -> None:
    with pytest.raises(ScriptRefusedError) as caught:
        convert_text(text)
    refusal = caught.value
    assert (refusal.fields["line"], refusal.fields["column"]) == (line, column)
    assert refusal.fields["error_id"] == error_id
    assert fix in refusal.advice
    assert refusal.exit_code == 2


def test_checking_names_the_file() -> None:
    [problem] = check_text("Get-X $y", file="mine.ps1")
    assert (problem.file, problem.line, problem.text) == ("mine.ps1", 1, "$y")
    assert check_text("Get-X") == []


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_file_is_read_in_the_encodings_that_windows_editors_write(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "mine.ps1"
    path.write_text("Get-X 'é'\r\n", encoding=encoding)
    script = load_script(path)
    assert script.name == "mine"
    assert script.bind({}) == (Command("Get-X", (Parameter(None, "é"),)),)


def test_a_file_that_is_no_text_or_not_there_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.ps1"
    with pytest.raises(UsageError, match=r"mine\.ps1"):
        load_script(path)
    path.write_bytes(b"Get-X '\xff'")
    with pytest.raises(UsageError, match="UTF-8"):
        load_script(path)
    with pytest.raises(UsageError, match="cannot be read"):
        load_script(tmp_path)
