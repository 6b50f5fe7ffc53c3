"""Names of a broken or taken-over stamp: a bundle all the same, with every one of them named, left alone, and kept."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import bagit
import pytest

from bridge.bundle import FindingKind, Verdict, verify
from bridge.collection import Access, Event, Outcome, Place, Request, RunState, Warned, collect, deliver
from bridge.errors import ExitCode
from bridge.secrets import Credential
from bridge.simulator.stamp import SimulatedStamp, StampOptions
from bridge.stamp import Stamp
from bridge.store import FolderStore
from tests.support.runs import QUICK, make_request
from tests.support.samba import Samba

STRANGER = "escaped-backslash.zip"
"""What ``..\\..\\escaped-backslash.zip`` becomes on a share: a file in the bundle's root."""


@pytest.fixture
def hostile(tmp_path: Path, samba: Samba) -> Iterator[SimulatedStamp]:
    options = StampOptions(
        size_bytes=400_000, duration_s=0.3, seed=7, output_root=tmp_path, faults=("hostile-names",), smb_port=samba.port
    )
    with SimulatedStamp(options) as sim:
        yield sim


def run(sim: SimulatedStamp, request: Request, tmp_path: Path, samba: Samba) -> Outcome:
    staging = samba.credential if request.staging else None
    destination = samba.credential if request.destination.kind == "share" else None
    access = Access(Credential(sim.username, sim.password), destination, staging)
    return collect(request, access, state_dir=tmp_path / "state", settings=QUICK)


def request_to(sim: SimulatedStamp, destination: Place, **changes: object) -> Request:
    stamp = Stamp(sim.name, tuple(sim.endpoints), username=sim.username)
    return replace(make_request(Path("unused"), **changes), stamp=stamp, destination=destination)


def test_a_file_that_escapes_into_the_root_of_a_bundle_on_a_share_is_named_left_and_not_delivered(
    hostile: SimulatedStamp, samba: Samba, tmp_path: Path
) -> None:
    outcome = run(hostile, request_to(hostile, Place.parse(samba.url("bundles"))), tmp_path, samba)
    assert (outcome.state, outcome.exit_code) == (RunState.PARTIAL, ExitCode.PARTIAL), outcome
    bundle = samba.path("bundles") / outcome.bundle_name
    escaped = (bundle / STRANGER).read_bytes()
    assert escaped
    assert any(STRANGER in text and "left there" in text for text in outcome.warnings)
    coverage = json.loads((bundle / "coverage.json").read_bytes())
    assert coverage["beside_payload"] == [STRANGER]
    assert coverage["complete"] is False
    assert any(STRANGER in text for text in coverage["warnings"])

    report = verify(FolderStore(bundle))
    assert report.verdict is Verdict.UNPROVEN, report.findings
    assert set(report.counts) == {FindingKind.UNHASHED}
    assert STRANGER in {finding.path for finding in report.findings}
    bagit.Bag(str(bundle))  # any BagIt tool opens it

    told: list[str] = []

    def note(event: Event) -> None:
        if isinstance(event, Warned):
            told.append(event.text)

    delivered = deliver(
        Place.parse(str(bundle)),
        Place.parse(str(tmp_path / "copy")),
        state_dir=tmp_path / "state",
        on_event=note,
    )
    copy = tmp_path / "copy" / outcome.bundle_name
    assert STRANGER in delivered.left_out
    assert any(STRANGER in text and "not delivered" in text for text in told)
    assert not (copy / STRANGER).exists()
    assert (bundle / STRANGER).read_bytes() == escaped
    checked = verify(FolderStore(copy))
    assert (checked.verdict, checked.bundle_id) == (Verdict.UNPROVEN, outcome.bundle_id), checked.findings


def test_a_file_that_escapes_in_a_staging_share_stays_there_and_makes_the_run_partial(
    hostile: SimulatedStamp, samba: Samba, tmp_path: Path
) -> None:
    request = request_to(
        hostile, Place.parse(str(tmp_path / "far")), staging=Place.parse(samba.url("bundles")), remove_staging=True
    )
    outcome = run(hostile, request, tmp_path, samba)
    assert (outcome.state, outcome.exit_code) == (RunState.PARTIAL, ExitCode.PARTIAL), outcome
    staging = samba.path("bundles") / outcome.bundle_name
    assert (staging / STRANGER).exists()
    assert outcome.staging_removed is None
    far = Path(str(outcome.bundle))
    assert not (far / STRANGER).exists()
    assert json.loads((far / "coverage.json").read_bytes())["beside_payload"] == [STRANGER]
    assert any(STRANGER in text for text in outcome.warnings)
    assert verify(FolderStore(far)).verdict is Verdict.VERIFIED
    assert verify(FolderStore(staging)).verdict is Verdict.UNPROVEN


def test_what_is_added_beside_a_sealed_bundle_still_fails_its_verification(
    hostile: SimulatedStamp, samba: Samba, tmp_path: Path
) -> None:
    outcome = run(hostile, request_to(hostile, Place.parse(samba.url("bundles"))), tmp_path, samba)
    bundle = samba.path("bundles") / outcome.bundle_name
    (bundle / "later.exe").write_bytes(b"x")
    report = verify(FolderStore(bundle))
    assert report.verdict is Verdict.FAILED
    unexpected = [finding.path for finding in report.findings if finding.kind is FindingKind.UNEXPECTED]
    assert unexpected == ["later.exe"]
