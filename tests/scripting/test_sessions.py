"""A scripted session on a simulated stamp: stopped, lost, closed, and what its record says each time."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge.endpoint import Command, PipelineState, Record, SessionOptions, Stream
from bridge.endpoint.script import convert_text, load_script
from bridge.errors import (
    CommandNotAllowedError,
    EndpointUnreachableError,
    ExitCode,
    JournalError,
    SessionLostError,
    UsageError,
)
from bridge.scripting import ClosedWith, Control, ScriptOutcome, SessionRecord, close_session, run_script
from bridge.secrets import Credential, Scrubber, Secret
from bridge.settings import load_settings
from bridge.simulator.stamp import SimulatedStamp, StampOptions
from tests.support.samba import Samba

LONG = load_script("Send-StampLog").bind({})
QUICK = load_script("Get-StampSupportSession").bind({})


class Bench:
    """A simulated stamp, and sessions with it."""

    def __init__(self, stamp: SimulatedStamp, folder: Path) -> None:
        self.simulated, self._folder = stamp, folder
        self.stamp = load_settings(stamp.config_file).settings.stamp(stamp.name)
        self.credential = Credential(stamp.username, stamp.password)
        self.records: list[Path] = []

    def record(self) -> SessionRecord:
        found = SessionRecord(self._folder / "sessions", Scrubber([self.credential.password]))
        self.records.append(found.path)
        return found

    def run(
        self,
        commands: tuple[Command, ...],
        *,
        on_record: Callable[[Record], None] = lambda _record: None,
        **more: Any,
    ) -> ScriptOutcome:
        with self.record() as record:
            return run_script(self.stamp, self.credential, commands, record=record, on_record=on_record, **more)

    def last_lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.records[-1].read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def bench(tmp_path: Path, samba: Samba) -> Iterator[Bench]:
    with SimulatedStamp(StampOptions(duration_s=300, output_root=tmp_path, smb_port=samba.port)) as stamp:
        yield Bench(stamp, tmp_path)


def test_a_script_that_is_stopped_ends_on_the_endpoint_and_its_session_is_closed(bench: Bench, samba: Samba) -> None:
    (samba.path("bundles") / "stopped").mkdir(exist_ok=True)
    control = Control()

    def stop_at_the_first_progress(record: Record) -> None:
        if record.stream is Stream.PROGRESS:
            control.stop()

    close = ClosedWith(samba.unc("bundles", "stopped"), samba.credential)
    outcome = bench.run(LONG, on_record=stop_at_the_first_progress, control=control, close=close)
    assert outcome.state is PipelineState.STOPPED
    assert outcome.exit_code == ExitCode.INTERRUPTED
    assert outcome.closed
    assert list((samba.path("bundles") / "stopped").glob("Transcripts_*/*.txt"))
    assert [line["state"] for line in bench.last_lines() if line["event"] == "ended"] == ["stopped", "completed"]
    assert not [shell for server in bench.simulated.servers for shell in server.shells()]


def test_stopping_before_anything_runs_is_left_to_the_caller() -> None:
    assert Control().stop() is False


def test_a_signal_may_ask_to_stop_at_every_line_that_its_own_thread_runs(bench: Bench) -> None:
    """A handler comes between any two lines; one that waited for its own thread would wait for ever."""
    control = Control()
    mine = threading.get_ident()

    def between_two_lines(_frame: Any, _event: str, _argument: Any) -> Any:
        if threading.get_ident() == mine:
            control.stop()
        return between_two_lines

    before = sys.gettrace()
    with bench.record() as record:
        sys.settrace(between_two_lines)
        try:
            outcome = run_script(
                bench.stamp, bench.credential, LONG, record=record, on_record=lambda _record: None, control=control
            )
        finally:
            sys.settrace(before)
    assert outcome.state is PipelineState.STOPPED


def test_who_is_interrupted_leaves_at_once_although_the_endpoint_cannot_be_told_to_stop(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    control, asked, gate = Control(), threading.Event(), threading.Event()

    def endless(_pipeline: Any) -> None:
        asked.set()
        gate.wait()

    monkeypatch.setattr("bridge.scripting._session._stop", endless)

    def interrupt(record: Record) -> None:
        if record.stream is Stream.PROGRESS:
            control.stop()
            asked.wait()
            raise KeyboardInterrupt

    try:
        with pytest.raises(KeyboardInterrupt):
            bench.run(LONG, on_record=interrupt, control=control)
    finally:
        gate.set()


def test_when_results_can_no_longer_be_taken_the_script_is_stopped(bench: Bench) -> None:
    def broken(_record: Record) -> None:
        raise BrokenPipeError("nobody reads")

    with pytest.raises(BrokenPipeError):
        bench.run(LONG, on_record=broken)
    assert "BrokenPipeError" in bench.last_lines()[-1]["how"]
    assert not [shell for server in bench.simulated.servers for shell in server.shells()]


def test_a_lost_session_is_in_the_record_as_lost(bench: Bench) -> None:
    def die(record: Record) -> None:
        if record.stream is Stream.PROGRESS:
            for server in bench.simulated.servers:
                server.kill()

    with pytest.raises(SessionLostError):
        bench.run(LONG, on_record=die, options=SessionOptions(reconnect_deadline_s=1.0))
    last = bench.last_lines()[-1]
    assert last["event"] == "closed"
    assert "SessionLostError" in last["how"] or "SessionGoneError" in last["how"]


def test_an_endpoint_that_cannot_be_reached_leaves_a_record(bench: Bench) -> None:
    for server in bench.simulated.servers:
        server.kill()
    with pytest.raises(EndpointUnreachableError):
        bench.run(QUICK)
    assert [line["event"] for line in bench.last_lines()] == ["begun", "closed"]


def test_an_unknown_command_is_not_even_on_the_sessions_list_of_what_it_may_send(bench: Bench) -> None:
    with pytest.raises(CommandNotAllowedError):
        bench.run(convert_text("Stop-AzureStack"))
    assert not bench.simulated.state.calls
    outcome = bench.run(convert_text("Stop-AzureStack"), allowed=["stop-azurestack"])
    assert outcome.state is PipelineState.COMPLETED
    assert [call.name for call in bench.simulated.state.dangerous_calls] == ["Stop-AzureStack"]


def test_closing_later_takes_the_transcripts_of_earlier_sessions_of_that_machine(bench: Bench, samba: Samba) -> None:
    target = samba.path("bundles") / "later"
    target.mkdir(exist_ok=True)
    outcome = bench.run(QUICK)
    assert not outcome.closed
    close = ClosedWith(samba.unc("bundles", "later"), samba.credential)
    with bench.record() as record:
        done = close_session(bench.stamp, bench.credential, close, record=record, endpoint=outcome.endpoint)
    assert done.closed
    assert done.endpoint == outcome.endpoint
    texts = [file.read_text(encoding="utf-8") for file in target.glob("Transcripts_*/*.txt")]
    assert any("Get-SupportSessionInfo" in text for text in texts)
    with bench.record() as record, pytest.raises(UsageError, match="AzS-ERCS09"):
        close_session(bench.stamp, bench.credential, close, record=record, endpoint="AzS-ERCS09")


def test_a_share_that_refuses_the_transcripts_is_an_error_beside_the_results(bench: Bench, samba: Samba) -> None:
    close = ClosedWith(samba.unc("bundles"), samba.wrong_credential)
    outcome = bench.run(QUICK, close=close)
    assert outcome.state is PipelineState.COMPLETED
    assert not outcome.closed
    assert outcome.exit_code != ExitCode.OK
    assert len(outcome.errors) == 1
    assert "stay on the endpoint" in bench.last_lines()[-1]["how"]


@pytest.mark.parametrize(
    "path",
    ["\\\\s\\b\\east-20261123T135500Z-1a2b3c4d", "\\\\s\\b\\east-20261123T135500Z-1a2b3c4d\\data\\x"],
)
def test_transcripts_never_go_into_a_bundle(path: str) -> None:
    with pytest.raises(UsageError, match="never inside"):
        ClosedWith(path, Credential("a", Secret("b")))


def test_a_record_that_cannot_be_written_is_told_before_anything_is_sent(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(UsageError, match="cannot be written"):
        SessionRecord(tmp_path / "file", Scrubber())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="not run: no device that is always full")
def test_a_record_on_a_full_disk_ends_the_session_with_its_own_error(bench: Bench) -> None:
    record = bench.record()
    record._file.close()
    record._file = Path("/dev/full").open("wb", buffering=0)  # noqa: SIM115 - the record closes it
    with pytest.raises(JournalError, match="space"), record:
        run_script(bench.stamp, bench.credential, QUICK, record=record, on_record=lambda _record: None)
    assert not bench.simulated.state.calls
