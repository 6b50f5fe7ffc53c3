"""A stamp is added from its information file, whatever tool wrote it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bridge.errors import ConfigurationError
from bridge.settings import load_settings, save_stamp
from bridge.stamp_information import read_stamp_information

DOCUMENT: dict[str, Any] = {
    "EmergencyConsoleIPAddresses": ["192.168.200.225", "192.168.200.226", "192.168.200.227"],
    "DomainNetBIOSName": "AZURESTACK",
    "DomainFQDN": "azurestack.local",
    "RegionName": "east",
    "ExternalDomainFQDN": "azs.example.com",
    "Timezone": "W. Europe Standard Time",
    "CloudID": "2f4b9c1e-0000-4000-8000-000000000001",
    "StampVersion": "1.2108.2.65",
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_the_file_is_read_in_every_encoding_that_powershell_writes(tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "info.json"
    file.write_text(json.dumps(DOCUMENT), encoding=encoding)
    stamp = read_stamp_information(file)
    assert [endpoint.host for endpoint in stamp.endpoints] == DOCUMENT["EmergencyConsoleIPAddresses"]
    assert stamp.username == "AZURESTACK\\CloudAdmin"
    assert stamp.timezone == "W. Europe Standard Time"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "not JSON"),
        (b"[]", "not a JSON object"),
        (b"{}", "names no endpoint"),
        (b'{"EmergencyConsoleIPAddresses": [1, 2]}', "names no endpoint"),
        (b'{"EmergencyConsoleIPAddresses": [""]}', "at least 1 character"),
        (b"\xff\xfe\x00", "not JSON"),
        (b"[" * 100_000, "not JSON"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_the_reason(tmp_path: Path, content: bytes, said: str) -> None:
    file = tmp_path / "info.json"
    file.write_bytes(content)
    with pytest.raises(ConfigurationError, match=said):
        read_stamp_information(file)


def test_a_saved_stamp_is_read_back_and_comments_stay(tmp_path: Path) -> None:
    config, information = tmp_path / "config.toml", tmp_path / "info.json"
    config.write_text("# my sites\n[transfer]\nlimit_rate = '20Mbit' # shared line\n", encoding="utf-8")
    information.write_text(json.dumps(DOCUMENT), encoding="utf-8")
    save_stamp(config, "east", read_stamp_information(information))
    settings = load_settings(config).settings
    assert settings.stamp("east").endpoints[2].host == "192.168.200.227"
    assert settings.transfer.limit_rate == "20Mbit"
    assert "# shared line" in config.read_text(encoding="utf-8")


def test_a_stamp_is_not_written_over_unless_asked(tmp_path: Path) -> None:
    config, information = tmp_path / "config.toml", tmp_path / "info.json"
    information.write_text(json.dumps(DOCUMENT), encoding="utf-8")
    stamp = read_stamp_information(information)
    save_stamp(config, "east", stamp)
    with pytest.raises(ConfigurationError, match="already"):
        save_stamp(config, "east", stamp)
    save_stamp(config, "east", stamp.model_copy(update={"region": "north"}), replace=True)
    assert load_settings(config).settings.stamps["east"].region == "north"
