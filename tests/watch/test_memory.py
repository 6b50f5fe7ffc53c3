"""What a watch writes down survives, is its owner's alone, and is never guessed when damaged."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bridge.collection import Consent
from bridge.errors import JournalError, StampBusyError
from bridge.watch import Memory, Tracked, WatchState

NOW = datetime(2026, 11, 23, 15, tzinfo=UTC)
CONSENT = Consent("You agree.", NOW, "ops")


def test_a_state_that_was_saved_is_loaded_by_the_next_process(tmp_path: Path) -> None:
    state = WatchState(tracked=(Tracked("1", "FRP.Heartbeat.InfraVM", "down", NOW),), starts=(NOW,), failures=2)
    Memory(tmp_path, "east").save(state)
    assert Memory(tmp_path, "East").load() == state
    assert Memory(tmp_path, "west").load() == WatchState()


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"schema_version": 99}', '{"schema_version": 1, "tracked": 3}'])
def test_a_damaged_state_is_an_error_and_not_an_empty_one(tmp_path: Path, damage: str) -> None:
    memory = Memory(tmp_path, "east")
    memory.save(WatchState())
    (memory.folder / "state.json").write_text(damage)
    with pytest.raises(JournalError, match="damaged"):
        memory.load()


def test_consent_is_on_record_until_it_is_taken_back_and_every_step_stays_on_record(tmp_path: Path) -> None:
    memory = Memory(tmp_path, "east")
    assert memory.agreement() is None
    memory.agree(CONSENT, "nas")
    found = memory.agreement()
    assert found is not None
    assert (found.consent, found.destination) == (CONSENT, "nas")
    assert memory.revoke(NOW)
    assert memory.agreement() is None
    assert not memory.revoke(NOW)
    assert len((memory.folder / "consent.jsonl").read_text().splitlines()) == 2


def test_two_processes_do_not_watch_one_stamp(tmp_path: Path) -> None:
    with Memory(tmp_path, "east").running():
        with pytest.raises(StampBusyError, match="watches it"), Memory(tmp_path, "east").running():
            pass
        with Memory(tmp_path, "west").running():
            pass
    with Memory(tmp_path, "east").running():
        pass


@pytest.mark.parametrize("name", ["../../etc", "CON", "a/b", "ü" * 300, "x" * 300, "east\n"])
def test_no_name_of_a_stamp_leads_out_of_the_state_folder(tmp_path: Path, name: str) -> None:
    memory = Memory(tmp_path / "state", name)
    memory.save(WatchState(failures=1))
    assert memory.folder.parent == tmp_path / "state" / "watch"
    assert Memory(tmp_path / "state", name).load().failures == 1


def test_stamps_whose_names_look_alike_in_a_file_name_do_not_share_a_state(tmp_path: Path) -> None:
    assert Memory(tmp_path, "a/b").folder != Memory(tmp_path, "a_b").folder


@pytest.mark.skipif(os.name == "nt", reason="modes are POSIX")
def test_everything_is_for_its_owner_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        memory = Memory(tmp_path / "new" / "state", "east")
        with memory.running():
            memory.save(WatchState())
            memory.agree(CONSENT, "nas")
    finally:
        os.umask(before)
    found = [tmp_path / "new" / "state", *(tmp_path / "new" / "state").rglob("*")]
    assert len(found) > 4
    assert [path for path in found if path.stat().st_mode & 0o077] == []
