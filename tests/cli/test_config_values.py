"""Single values of the configuration are changed without losing what people wrote around them."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.errors import ExitCode
from tests.support.command_line import Done, run

BEFORE = """\
# the night shift's
[transfer]
limit_rate = "20Mbit"  # as agreed with the site
quiet_hours = "08:00-18:00"

[stamps.east]
endpoints = ["10.0.0.1"]
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "config.toml"
    file.write_text(BEFORE, encoding="utf-8")
    return file


def change(config: Path, *arguments: str) -> Done:
    return run("--config", str(config), "config", *arguments)


def test_a_value_is_changed_and_the_comments_stay(config: Path) -> None:
    done = change(config, "set", "transfer.limit_rate", "5Mbit")
    assert done.returncode == 0, done.stderr
    assert config.read_text() == BEFORE.replace("20Mbit", "5Mbit")
    assert str(config) in done.stderr


def test_a_value_is_taken_out(config: Path) -> None:
    assert change(config, "unset", "transfer.quiet_hours").returncode == 0
    assert config.read_text() == BEFORE.replace('quiet_hours = "08:00-18:00"\n', "")


@pytest.mark.parametrize(
    ("key", "typed", "written"),
    [
        ("transfer.connections", "4", "connections = 4"),
        ("collection.since", "8h", 'since = "8h"'),
        ("collection.settle_after_stop", "5s", 'settle_after_stop = "5s"'),
        ("collection.roles", '["ACS", "Storage"]', 'roles = ["ACS", "Storage"]'),
        ("collection.roles", "ACS, Storage", 'roles = ["ACS", "Storage"]'),
        ("watch.warnings", "true", "warnings = true"),
        ("stamps.east.version", "1.2108", 'version = "1.2108"'),
        ("stamps.east.username", "A\\CloudAdmin", 'username = "A\\\\CloudAdmin"'),
        ('destinations."site.a".location', "/logs", 'location = "/logs"'),
    ],
)
def test_a_value_is_written_as_what_it_is(config: Path, key: str, typed: str, written: str) -> None:
    done = change(config, "set", key, typed)
    assert done.returncode == 0, done.stderr
    assert written in config.read_text().splitlines()
    assert 'limit_rate = "20Mbit"  # as agreed with the site' in config.read_text()


def test_the_first_value_makes_the_file(tmp_path: Path) -> None:
    config = tmp_path / "new" / "config.toml"
    assert run("config", "set", "transfer.limit_rate", "5Mbit", XDG_CONFIG_HOME=str(tmp_path / "new")).returncode == 0
    [written] = (tmp_path / "new").rglob("config.toml")
    assert 'limit_rate = "5Mbit"' in written.read_text()
    assert written.stat().st_mode & 0o077 == 0
    assert not config.exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("set", "transfer.limit_rate", "fast"), "'fast' is not a rate"),
        (("set", "transfer.quiet_hours", "always"), "'always'"),
        (("set", "transfer.bogus", "1"), "error: transfer.bogus: there is no such key"),
        (("set", "transfer.limit_rat", "1"), "error: transfer.limit_rat: there is no such key; did you mean transfer."),
        (("set", "transfer.limit_rate", "5"), "has no unit"),
        (("set", "collection.to", "nowhere"), "no destination 'nowhere'"),
        (("set", "stamps.east.password", "x"), "did you mean stamps.east.password_file"),
        (("set", "transfer.connections", "many"), "connections"),
        (("set", "watch.persist", "long"), "'long' is not a span"),
        (("set", "collection.settle", "0s"), "'0s' is not a span"),
        (("set", "collection.since", "yesterdayish"), "'yesterdayish'"),
        (("set", "transfer", "x"), "'transfer' is no key"),
        (("set", "a b", "x"), "'a b' is no key"),
        (("set", "stamps.east.endpoints.0", "x"), "stamps.east.endpoints"),
        (("unset", "collection.to"), "no 'collection.to'"),
        (("unset", "stamps.east.endpoints"), "endpoints"),
    ],
)
def test_what_would_not_be_valid_is_not_written(config: Path, arguments: tuple[str, ...], told: str) -> None:
    done = change(config, *arguments)
    assert done.returncode == ExitCode.USAGE, done.stdout + done.stderr
    assert told in done.stderr
    assert "fix: " in done.stderr
    assert config.read_text() == BEFORE


def test_a_destination_is_named_once_it_is_there(config: Path) -> None:
    assert change(config, "set", "destinations.nas.location", "/logs").returncode == 0
    done = change(config, "set", "collection.to", "nas")
    assert done.returncode == 0, done.stderr


def test_a_place_that_was_wrong_before_keeps_nobody_from_changing_the_rate(config: Path) -> None:
    config.write_text(BEFORE + '\n[collection]\nto = "gone"\n', encoding="utf-8")
    done = change(config, "set", "transfer.limit_rate", "5Mbit")
    assert done.returncode == 0, done.stderr


def test_a_wrong_value_is_not_written_where_the_environment_hides_it(config: Path) -> None:
    done = run(
        *("--config", str(config), "config", "set", "transfer.limit_rate", "fast"),
        PEP_BRIDGE_TRANSFER__LIMIT_RATE="1Mbit",
    )
    assert done.returncode == ExitCode.USAGE, done.stderr
    assert config.read_text() == BEFORE


def test_a_value_that_the_environment_overlays_is_told(config: Path) -> None:
    done = run(
        *("--config", str(config), "config", "set", "transfer.limit_rate", "5Mbit"),
        PEP_BRIDGE_TRANSFER__LIMIT_RATE="1Mbit",
    )
    assert done.returncode == 0
    assert "a variable of the environment" in done.stderr
