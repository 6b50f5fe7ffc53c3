"""The configuration file: layered, strict, and clear about what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.errors import ConfigurationError, ExitCode
from bridge.settings import load_settings

STAMP = """
[stamps.east]
endpoints = ["10.0.0.1", { name = "AzS-ERCS02", host = "10.0.0.2", port = 6000 }]
username = 'AZURESTACK\\CloudAdmin'
password_file = "pw.txt"
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "config.toml"
    file.write_text(STAMP, encoding="utf-8")
    return file


def test_a_bare_host_becomes_the_next_ercs_machine(config: Path) -> None:
    stamp = load_settings(config).settings.stamp("east")
    assert [(e.name, e.host, e.port) for e in stamp.endpoints] == [
        ("ERCS01", "10.0.0.1", 5985),
        ("AzS-ERCS02", "10.0.0.2", 6000),
    ]


def test_a_relative_secret_file_lies_beside_the_configuration(config: Path) -> None:
    assert load_settings(config).settings.stamps["east"].password_file == config.parent / "pw.txt"


def test_the_environment_goes_over_the_file_and_its_origin_is_told(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.write_text(STAMP + "[transfer]\nlimit_rate = '10Mbit'\nconnections = 2\n", encoding="utf-8")
    monkeypatch.setenv("PEP_BRIDGE_TRANSFER__LIMIT_RATE", "20Mbit")
    loaded = load_settings(config)
    assert loaded.settings.transfer.limit_rate == "20Mbit"
    assert loaded.settings.transfer.connections == 2
    assert loaded.origins["transfer.limit_rate"] == "environment"
    assert loaded.origins["transfer.connections"] == "file"
    assert loaded.origins["collection.since"] == "default"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[stamp.east]\nendpoints = []", "stamp"),
        (STAMP + "passwrd = 'x'", "passwrd: there is no such key; did you mean stamps.east.password_file"),
        ("[stamps.east]\nendpoints = []", "endpoints"),
        ("[stamps.east]\nendpoints = [{host='a', port=99999}]", "port"),
        ('[destinations.nas]\nlocation = "\\\\nas\\logs"', "TOML"),
    ],
)
def test_a_wrong_file_is_refused_with_the_place_of_the_mistake(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "config.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=said) as caught:
        load_settings(file)
    assert caught.value.exit_code == ExitCode.USAGE


def test_a_wrong_value_is_not_repeated_in_the_message(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(STAMP + "password = 'hunter2hunter2'\n", encoding="utf-8")
    with pytest.raises(ConfigurationError) as caught:
        load_settings(file)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("PEP_BRIDGE_TRANSFER__LIMIT_RAT", "5Mbit", "no such key; did you mean transfer.limit_rate"),
        ("PEP_BRIDGE_TRANSFER__CONNECTIONS", "many", "valid integer"),
        ("PEP_BRIDGE_TRANSFER_LIMIT_RATE", "5Mbit", "did you mean PEP_BRIDGE_TRANSFER__LIMIT_RATE"),
        ("PEP_BRIDGE_TRANFER__LIMIT_RATE", "5Mbit", "did you mean PEP_BRIDGE_TRANSFER__LIMIT_RATE"),
        ("PEP_BRIDGE_LINE__RATE", "5Mbit", "no key of the configuration"),
    ],
)
def test_a_wrong_variable_is_blamed_itself_and_not_the_file(
    config: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=said) as caught:
        load_settings(config)
    assert name in str(caught.value)
    assert name in caught.value.advice
    assert str(config) not in str(caught.value)


def test_a_variable_with_a_list_that_is_none_is_told(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEP_BRIDGE_COLLECTION__ROLES", "Storage,ACS")
    with pytest.raises(ConfigurationError, match="PEP_BRIDGE_") as caught:
        load_settings(config)
    assert '["Storage", "ACS"]' in caught.value.advice


def test_variables_that_are_no_keys_are_left_alone(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEP_BRIDGE_SHARE_PASSWORD", "x")
    monkeypatch.setenv("PEP_BRIDGE_STATE_DIR", "x")
    assert load_settings(config).settings.stamps


def test_an_absent_file_is_an_error_only_where_it_was_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_settings(tmp_path / "none.toml")
    monkeypatch.setattr("bridge.settings.default_config_file", lambda: tmp_path / "none.toml")
    assert load_settings().settings.stamps == {}


def test_an_unknown_stamp_is_named_with_those_that_are_known(config: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"'west'.*east"):
        load_settings(config).settings.stamp("west")
