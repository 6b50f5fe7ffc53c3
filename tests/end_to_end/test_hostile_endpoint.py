"""A whole collection from a machine that, in the middle, answers what no machine should."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bridge.bundle import Verdict, verify
from bridge.collection import Access, Event, Place, RecordArrived, Request, RunState, Window, collect
from bridge.collection._journal import Journal
from bridge.endpoint._messages import MessageType
from bridge.secrets import Credential
from bridge.simulator.stamp import SimulatedStamp, StampOptions
from bridge.stamp import Stamp
from bridge.store import FolderStore
from tests.support import hostile_endpoint as hostile
from tests.support.runs import QUICK

END = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
ROLES = ("Storage", "ACS", "SeedRing")
OWN = 1 << 40
STRANGE = hostile.message(int(MessageType.PIPELINE_OUTPUT), "<Obj><Unknown/></Obj>")
ANSWERS: dict[str, hostile.OutputAnswer] = {
    "entities": hostile.whole('<!DOCTYPE x [<!ENTITY a "aaaaaaaa">]><s>&a;</s>'),
    "five megabytes": hostile.whole(" " * (5 << 20)),
    "no XML": hostile.whole("<html><p>a printer"),
    "no UTF-8": hostile.whole(hostile.raw(b"<s>\xff</s>")),
    "no base64": hostile.in_place_of("ZGF0YQ==", "ZGF0Y"),
    "a fragment of four gigabytes": hostile.fragments(hostile.fragment(OWN, 0, 3, b"x", claimed=0xFFFFFFFF)),
    "an object of no kind": hostile.fragments(hostile.fragment(OWN, 0, 3, STRANGE)),
}


@pytest.fixture
def stamp(tmp_path: Path) -> Iterator[SimulatedStamp]:
    options = StampOptions(size_bytes=1_000_000, duration_s=3.0, seed=7, output_root=tmp_path, client_lost_after_s=0.5)
    with SimulatedStamp(options) as running:
        yield running


@pytest.mark.parametrize("name", ANSWERS)
def test_the_run_goes_on_is_journalled_and_ends_with_a_verified_bundle_of_one_collection(
    stamp: SimulatedStamp, tmp_path: Path, name: str
) -> None:
    replies: list[hostile.OutputAnswer] = []
    armed: list[Any] = []

    def arm(event: Event) -> None:
        if isinstance(event, RecordArrived) and not armed:
            armed.append(event)
            replies.append(ANSWERS[name])

    request = Request(
        Stamp(stamp.name, stamp.endpoints, username=stamp.username),
        Window(END - timedelta(hours=4), END),
        Place.parse(str(tmp_path / "out")),
        roles=ROLES,
        shared_disk=True,
    )
    access = Access(Credential(stamp.username, stamp.password))
    with hostile.answering_instead(stamp.servers[0], replies):
        outcome = collect(request, access, settings=QUICK, on_event=arm, state_dir=tmp_path / "state")
    assert armed
    assert replies == [], "the machine was not asked again"
    assert outcome.state in {RunState.DONE, RunState.PARTIAL}, outcome
    assert verify(FolderStore(Path(str(outcome.bundle)))).verdict is Verdict.VERIFIED
    assert len(stamp.state.collections) == 1
    with Journal(tmp_path / "state") as journal:
        run = journal.run(outcome.run_id)
    assert run.state is outcome.state
    log = (Path(str(outcome.bundle)) / "session.jsonl").read_text(encoding="utf-8")
    if "lost" in run.facts:
        assert any("does not answer as WS-Management does" in warning for warning in outcome.warnings)
    else:
        assert "could not be read" in log
