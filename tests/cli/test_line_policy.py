"""What the line may be used for: the later word of options, configuration and keys counts, and is told."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from bridge.collection import DeliveryProgress, HashProgress, RunState, StateChanged
from bridge.errors import ConfigurationError, UsageError
from cli._console import Globals
from cli._transfer import LineUse, LineWishes

MBIT = 1_000_000


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


class Lab:
    """A line's use, what it has said, and the configuration that can be changed meanwhile."""

    def __init__(self, folder: Path, text: str = "", **wishes: str) -> None:
        self.config = write(folder / "config.toml", text)
        self.said: list[str] = []
        self.use = LineUse(Globals(config=self.config), LineWishes(**wishes), say=self.said.append)  # type: ignore[arg-type]

    def change(self, text: str) -> None:
        write(self.config, text)

    def rate(self) -> int | None:
        return self.use().limit_rate_bits_per_s

    def is_moving(self, bytes_per_s: float = 0.0, seconds_left: float | None = None) -> None:
        event = DeliveryProgress(
            run_id="", bytes_done=1, bytes_total=2, rate_bytes_per_s=bytes_per_s, seconds_left=seconds_left
        )
        self.use.on_event(event)


def transfer(rate: str) -> str:
    return f'[transfer]\nlimit_rate = "{rate}"\n'


def test_a_rate_changed_in_the_configuration_counts_from_then_on_and_is_told(tmp_path: Path) -> None:
    lab = Lab(tmp_path, transfer("20Mbit"))
    assert lab.rate() == 20 * MBIT
    assert lab.said == []
    lab.change(transfer("5Mbit"))
    assert [lab.rate() for _ in range(3)] == [5 * MBIT] * 3
    assert lab.said == ["the configuration was read again: at most 5 Mbit/s, no quiet hours"]


def test_an_option_holds_until_that_very_value_is_changed_in_the_configuration(tmp_path: Path) -> None:
    lab = Lab(tmp_path, transfer("20Mbit"), limit_rate="2Mbit", quiet_hours="01:00-02:00")
    assert lab.rate() == 2 * MBIT
    lab.change(transfer("20Mbit") + "connections = 3\n[collection]\nsince = '8h'\n")
    assert lab.rate() == 2 * MBIT
    lab.change(transfer("10Mbit"))
    policy = lab.use()
    assert policy.limit_rate_bits_per_s == 10 * MBIT
    assert policy.quiet_hours is not None, "of the quiet hours nobody has said anything new"
    assert "at most 10 Mbit/s, quiet 01:00-02:00" in lab.said[-1]


def test_a_limit_that_is_taken_out_of_the_configuration_is_gone(tmp_path: Path) -> None:
    lab = Lab(tmp_path, transfer("20Mbit"), limit_rate="2Mbit")
    lab.change("")
    assert lab.rate() is None
    assert "no limit of the rate" in lab.said[-1]


def test_whoever_asks_for_the_configuration_gets_what_it_says_and_keeps_the_rest(tmp_path: Path) -> None:
    lab = Lab(tmp_path, transfer("20Mbit"), limit_rate="2Mbit", quiet_hours="01:00-02:00")
    lab.use.read_again()
    policy = lab.use()
    assert policy.limit_rate_bits_per_s == 20 * MBIT
    assert policy.quiet_hours is not None
    assert len(lab.said) == 1
    lab.use()
    assert len(lab.said) == 1


def test_keys_halve_and_double_the_limit_and_say_so(tmp_path: Path) -> None:
    lab = Lab(tmp_path, limit_rate="8Mbit")
    lab.is_moving()
    lab.use.keys["-"]()
    assert lab.rate() == 4 * MBIT
    lab.use.keys["+"]()
    lab.use.keys["+"]()
    assert lab.rate() == 16 * MBIT
    assert lab.said[-1] == "at most 16 Mbit/s from now on"


def test_a_key_pauses_and_goes_on_and_both_are_said(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    lab.is_moving()
    lab.use.keys["p"]()
    assert lab.use().paused
    assert lab.use.rest == "paused"
    lab.use.keys["p"]()
    assert not lab.use().paused
    assert lab.use.rest == ""
    assert lab.said == ["paused; p goes on", "going on"]


def test_without_a_limit_slower_means_half_of_what_goes_now(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    lab.is_moving(bytes_per_s=1_000_000)
    lab.use.keys["+"]()
    assert lab.rate() is None
    lab.use.keys["-"]()
    assert lab.rate() == 4 * MBIT


def test_the_key_for_the_configuration_takes_its_word_over_that_of_the_other_keys(tmp_path: Path) -> None:
    lab = Lab(tmp_path, transfer("20Mbit"))
    lab.is_moving()
    lab.use.keys["-"]()
    assert lab.rate() == 10 * MBIT
    lab.use.keys["r"]()
    assert lab.rate() == 20 * MBIT


def around_now() -> str:
    now, hour = datetime.now().astimezone(), timedelta(hours=1)
    return f"{now - hour:%H:%M}-{now + hour:%H:%M}"


def test_the_pause_key_goes_on_in_spite_of_quiet_hours_and_pauses_after_that(tmp_path: Path) -> None:
    lab = Lab(tmp_path, limit_rate="8Mbit", quiet_hours=around_now())
    lab.use.has_keys = True
    lab.is_moving()
    assert lab.use.rest.startswith("quiet hours until ")
    assert lab.use().quiet_hours is not None
    assert lab.use.words == "keys: p go on now, r read the configuration", "no limit while nothing moves"
    lab.use.keys["p"]()
    assert lab.said == ["going on in spite of the quiet hours"]
    assert (lab.use.rest, lab.use().quiet_hours, lab.use().paused) == ("", None, False)
    assert lab.use.words.startswith("limit 8 Mbit/s; keys: p pause, ")
    lab.use.keys["p"]()
    assert (lab.use.rest, lab.use().paused) == ("paused", True)
    assert lab.use.words == "keys: p go on, r read the configuration"
    lab.use.keys["p"]()
    assert lab.use.rest == "", "the quiet hours are still gone over"


def test_other_quiet_hours_than_those_that_were_gone_over_count(tmp_path: Path) -> None:
    lab = Lab(tmp_path, f'[transfer]\nquiet_hours = "{around_now()}"\n')
    lab.is_moving()
    lab.use.keys["p"]()
    assert lab.use().quiet_hours is None
    lab.change(f'[transfer]\nquiet_hours = "{datetime.now().astimezone() - timedelta(hours=1):%H:%M}-00:00"\n')
    assert lab.use().quiet_hours is not None


def test_keys_do_nothing_and_are_not_shown_while_nothing_is_under_way(tmp_path: Path) -> None:
    lab = Lab(tmp_path, limit_rate="8Mbit")
    lab.use.has_keys = True
    lab.use.keys["-"]()
    assert (lab.rate(), lab.use.words, lab.said) == (8 * MBIT, "", [])
    lab.is_moving()
    assert lab.use.words.startswith("limit 8 Mbit/s; keys: ")
    lab.is_moving(seconds_left=0.0)
    assert lab.use.words == ""
    lab.is_moving()
    lab.use.on_event(StateChanged(run_id="", state=RunState.DONE))
    assert lab.use.words == ""


def test_keys_work_while_a_share_is_sealed_and_not_while_a_folder_here_is(tmp_path: Path) -> None:
    lab = Lab(tmp_path, limit_rate="8Mbit")
    sealing = HashProgress(run_id="", bytes_done=1, bytes_total=2)
    lab.use.on_event(sealing)
    lab.use.keys["p"]()
    assert not lab.use().paused, "nothing of a folder comes over the line"
    lab.use.on_event(replace(sealing, over_line=True))
    lab.use.keys["p"]()
    assert lab.use().paused
    lab.use.on_event(replace(sealing, bytes_done=2, over_line=True))
    lab.use.keys["p"]()
    assert lab.use().paused, "all is read"


def test_keys_are_not_shown_where_nobody_can_press_them(tmp_path: Path) -> None:
    lab = Lab(tmp_path, limit_rate="8Mbit")
    lab.is_moving()
    assert lab.use.words == ""


@pytest.mark.parametrize(
    "mistake",
    ["[transfer", '[transfer]\nlimit_rate = "fast"\n', "[transfer]\nbogus = 1\n"],
    ids=["torn", "rate", "key"],
)
def test_a_mistake_made_while_a_transfer_runs_is_told_once_and_the_last_good_rate_holds(
    tmp_path: Path, mistake: str
) -> None:
    lab = Lab(tmp_path, transfer("20Mbit"))
    lab.change(mistake)
    assert {lab.rate() for _ in range(3)} == {20 * MBIT}
    assert len(lab.said) == 1
    assert "stay as they were" in lab.said[0]
    lab.config.unlink()
    assert lab.rate() == 20 * MBIT
    lab.change(transfer("1Mbit"))
    assert lab.rate() == 1 * MBIT


def test_a_mistake_that_is_there_already_is_told_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError):
        Lab(tmp_path, "[transfer]\nbogus = 1\n")
    with pytest.raises(UsageError):
        Lab(tmp_path, limit_rate="fast")
    with pytest.raises(UsageError):
        Lab(tmp_path, quiet_hours="always")
