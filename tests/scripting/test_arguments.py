"""The values of a script's parameters, and where their secrets come from."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from bridge.endpoint.script import ScriptParameter, read_script
from bridge.errors import ScriptArgumentError, SecretOnCommandLineError, UsageError
from bridge.scripting import gather_arguments, known_secrets, secret_variable
from bridge.secrets import Credential, Secret

SCRIPT = read_script(
    """
param(
    [Parameter(Mandatory)][string[]]$Role,
    [datetime]$Since,
    [pscredential]$Writer,
    [securestring]$Token,
    [string]$OutputSasUri
)
Get-AzureStackLog @PSBoundParameters
""",
    name="mine",
)
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def find(parameter: ScriptParameter, owner: str) -> Secret:
    return Secret(f"{parameter.name}/{owner}")


def test_a_credential_takes_its_user_name_from_a_pair_or_the_file_and_its_password_from_elsewhere(
    tmp_path: Path,
) -> None:
    file = tmp_path / "values.toml"
    file.write_text('Role = ["ACS"]\nWriter = "CORP\\\\file"\n', encoding="utf-8")
    assert gather_arguments(SCRIPT, [], file, find=find)["Writer"] == Credential(
        "CORP\\file", Secret("Writer/CORP\\file")
    )
    found = gather_arguments(SCRIPT, ["writer=CORP\\pair", "Since=-8h"], file, find=find, tz=UTC, now=NOW)
    assert found["Writer"] == Credential("CORP\\pair", Secret("Writer/CORP\\pair"))
    assert found["Since"] == datetime(2026, 11, 23, 4, tzinfo=UTC)
    assert known_secrets(found) == (Secret("Writer/CORP\\pair"),)


def test_secrets_that_were_not_named_are_not_looked_for() -> None:
    assert gather_arguments(SCRIPT, ["Role=ACS"], find=find) == {"Role": ("ACS",)}


def test_a_secure_string_is_named_without_a_value() -> None:
    assert gather_arguments(SCRIPT, ["Role=ACS", "Token"], find=find)["Token"] == Secret("Token/")


@pytest.mark.parametrize("text", ['{"Role": "ACS", "Token": "in a file"}', '{"Role": "ACS", "token": "in a file"}'])
def test_a_secure_string_is_taken_neither_from_the_command_line_nor_from_a_file(tmp_path: Path, text: str) -> None:
    with pytest.raises(SecretOnCommandLineError, match="Token") as caught:
        gather_arguments(SCRIPT, ["Role=ACS", "Token=typed"], find=find)
    assert "PEP_BRIDGE_PARAMETER_TOKEN" in caught.value.advice
    file = tmp_path / "values.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(SecretOnCommandLineError):
        gather_arguments(SCRIPT, [], file, find=find)


def test_a_container_gets_its_sas_from_a_safe_place_unless_it_was_given_in_the_file(tmp_path: Path) -> None:
    found = gather_arguments(SCRIPT, ["Role=ACS", "OutputSasUri=https://a/c"], find=find)
    assert found["OutputSasUri"] == "https://a/c?OutputSasUri/https://a/c"
    file = tmp_path / "values.json"
    file.write_text('{"Role": "ACS", "OutputSasUri": "https://a/c?sv=1&sig=abc"}', encoding="utf-8")
    assert gather_arguments(SCRIPT, [], file, find=find)["OutputSasUri"] == "https://a/c?sv=1&sig=abc"


def test_a_dry_run_needs_no_secret() -> None:
    found = gather_arguments(SCRIPT, ["Role=ACS", "Writer=C\\w", "Token", "OutputSasUri=https://a/c"])
    assert found["Writer"] == Credential("C\\w", Secret(""))
    assert found["OutputSasUri"] == "https://a/c"


def test_what_is_missing_is_asked_for_where_somebody_can_be_asked() -> None:
    asked: list[str] = []

    def ask(what: str) -> str:
        asked.append(what)
        return "ACS,Storage"

    found = gather_arguments(SCRIPT, ["Writer"], find=find, ask=ask)
    assert found["Role"] == ("ACS", "Storage")
    assert found["Writer"] == Credential("ACS,Storage", Secret("Writer/ACS,Storage"))
    assert asked == ["Role (string[])", "User name for -Writer"]
    with pytest.raises(UsageError, match="-Writer needs a user name"):
        gather_arguments(SCRIPT, ["Role=ACS", "Writer"], find=find)
    with pytest.raises(ScriptArgumentError, match="Role"):
        SCRIPT.bind(gather_arguments(SCRIPT, [], find=find))


def test_an_unknown_name_is_told() -> None:
    with pytest.raises(ScriptArgumentError, match="Rolle"):
        gather_arguments(SCRIPT, ["Rolle=ACS"], find=find)


def test_a_secrets_variable_is_called_after_its_parameter() -> None:
    assert secret_variable(SCRIPT.parameter("token")) == "PEP_BRIDGE_PARAMETER_TOKEN"
