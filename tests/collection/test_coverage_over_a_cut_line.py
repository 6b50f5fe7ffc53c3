"""While the line to a bundle is cut nobody can tell whether a zip is whole: no run is called done meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bridge.collection import (
    Access,
    Event,
    Outcome,
    Place,
    Request,
    RunRecord,
    RunState,
    Warned,
    Window,
    attach,
    collect,
)
from bridge.collection._parts import assess_bundle, default_ports
from bridge.errors import ExitCode
from bridge.secrets import Credential
from bridge.simulator.stamp import SimulatedStamp, StampOptions
from bridge.stamp import Stamp
from bridge.store import ReadableStore
from bridge.store.transfer import TransferSettings
from tests.support.runs import QUICK
from tests.support.samba import Samba
from tests.support.tcp_proxy import TcpProxy

END = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


@dataclass
class CutRun:
    """A run whose stamp breaks off a zip on a share, and whose own line to the share is cut when it is to be judged."""

    stamp: SimulatedStamp
    line: TcpProxy
    share: Place
    samba: Samba
    state_dir: Path
    back_after_s: float | None
    """How long the line is away; ``None``: until it is put back."""

    def collect(self, on_event: Any = None, **options: Any) -> Outcome:
        sim = self.stamp
        endpoint = Stamp(sim.name, tuple(sim.endpoints), username=sim.username)
        request = Request(endpoint, Window(END - timedelta(hours=4), END), self.share, roles=("Storage", "ACS"))
        return collect(
            request,
            self.access,
            state_dir=self.state_dir,
            settings=replace(QUICK, transfer=TransferSettings(first_back_off_s=0.1, longest_back_off_s=0.2, **options)),
            ports=replace(default_ports(), assess=self.assess),
            on_event=on_event,
        )

    @property
    def access(self) -> Access:
        return Access(Credential(self.stamp.username, self.stamp.password), self.samba.credential)

    def assess(self, bundle: ReadableStore, run: RunRecord, session_log: Path) -> tuple[bool, Mapping[str, Any]]:
        opened = iter([True])

        class Cutting:
            """Cuts before the first file is opened: the listing has begun by then."""

            def list(self, *arguments: Any, **options: Any) -> Any:
                return iter(list(bundle.list(*arguments, **options)))

            def open_read(_, path: str, offset: int = 0) -> Any:  # noqa: N805
                if next(opened, False):
                    self.line.refuse()
                    self.line.reset()
                    if self.back_after_s is not None:
                        threading.Timer(self.back_after_s, lambda: self.line.refuse(False)).start()
                return bundle.open_read(path, offset)

        return assess_bundle(Cutting(), run, session_log)


@pytest.fixture
def cut_run(tmp_path: Path, samba: Samba) -> Iterator[CutRun]:
    options = StampOptions(
        size_bytes=2_000_000, duration_s=0.5, seed=7, smb_port=samba.port, faults=("role-truncated:Storage",)
    )
    with SimulatedStamp(options) as sim, TcpProxy(samba.host, samba.port) as line:
        share = Place.parse(samba.url("bundles").replace(f":{samba.port}/", f":{line.port}/"))
        yield CutRun(sim, line, share, samba, tmp_path / "state", 1.0)


def test_a_zip_that_is_broken_off_is_found_when_the_line_is_back(cut_run: CutRun) -> None:
    told: list[Event] = []
    outcome = cut_run.collect(told.append)
    assert (outcome.state, outcome.exit_code) == (RunState.PARTIAL, ExitCode.PARTIAL), outcome
    assert outcome.coverage is not None
    states = {role["name"]: role["state"] for role in outcome.coverage["roles"]}
    assert states == {"Storage": "truncated", "ACS": "collected"}
    assert any(isinstance(event, Warned) and "tried again in" in event.text for event in told)


def test_a_line_that_stays_away_leaves_the_run_to_be_gone_on_with(cut_run: CutRun) -> None:
    cut_run.back_after_s = None
    outcome = cut_run.collect(give_up_after_s=0.5)
    assert outcome.state is not RunState.DONE
    assert outcome.exit_code is ExitCode.DELIVERY, outcome
    cut_run.line.refuse(False)
    again = attach(outcome.run_id, cut_run.access, state_dir=cut_run.state_dir, settings=QUICK)
    assert (again.state, again.exit_code) == (RunState.PARTIAL, ExitCode.PARTIAL), again
