"""What the line may be used for is read again while a transfer runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.errors import ConfigurationError
from cli._console import Globals
from cli._transfer import transfer_settings


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_a_rate_changed_in_the_configuration_counts_from_then_on(tmp_path: Path) -> None:
    config = write(tmp_path / "config.toml", '[transfer]\nlimit_rate = "20Mbit"\n')
    settings = transfer_settings(Globals(config=config))
    assert settings.current_policy().limit_rate_bits_per_s == 20_000_000
    write(config, '[transfer]\nlimit_rate = "5Mbit"\n')
    assert settings.current_policy().limit_rate_bits_per_s == 5_000_000


@pytest.mark.parametrize(
    "mistake",
    ["[transfer", '[transfer]\nlimit_rate = "fast"\n', "[transfer]\nbogus = 1\n"],
    ids=["torn", "rate", "key"],
)
def test_a_mistake_made_while_a_transfer_runs_is_told_once_and_the_last_good_rate_holds(
    tmp_path: Path, mistake: str
) -> None:
    config = write(tmp_path / "config.toml", '[transfer]\nlimit_rate = "20Mbit"\n')
    told: list[str] = []
    settings = transfer_settings(Globals(config=config), warn=told.append)
    write(config, mistake)
    rates = {settings.current_policy().limit_rate_bits_per_s for _ in range(3)}
    assert rates == {20_000_000}
    assert len(told) == 1
    config.unlink()
    assert settings.current_policy().limit_rate_bits_per_s == 20_000_000
    write(config, '[transfer]\nlimit_rate = "1Mbit"\n')
    assert settings.current_policy().limit_rate_bits_per_s == 1_000_000


def test_a_mistake_that_is_there_already_is_told_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError):
        transfer_settings(Globals(config=write(tmp_path / "config.toml", "[transfer]\nbogus = 1\n")))
