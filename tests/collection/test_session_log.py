"""What the endpoint sent is on disk as it arrives, without secrets, whatever happens to the process or the disk."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bridge.collection import Access, Request, RunState, collect
from bridge.collection._parts import assess_bundle
from bridge.collection._session_log import SessionLog, is_full, read_session
from bridge.endpoint import ErrorDetail, Record, Stream
from bridge.errors import ExitCode
from bridge.secrets import Scrubber, Secret
from tests.support.fake_endpoint import FakeEndpoint, fake_ports
from tests.support.payloads import zip_of
from tests.support.runs import QUICK


def record(text: str) -> Record:
    return Record(Stream.OUTPUT, text, datetime(2026, 11, 23, tzinfo=UTC))


def texts(path: Path) -> list[str]:
    return [document["text"] for document in read_session(path)]


def test_a_record_is_on_disk_before_the_log_is_closed(tmp_path: Path) -> None:
    with SessionLog(tmp_path / "s.jsonl", Scrubber()) as log:
        log.append(record("one"))
        assert texts(tmp_path / "s.jsonl") == ["one"]


def test_a_log_is_continued_and_a_half_written_line_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    with SessionLog(path, Scrubber()) as log:
        log.append(record("one"))
    for half in (b'{"at": "20', b'{"text": "' + b"x" * 200_000):
        with path.open("ab") as file:
            file.write(half)
        with SessionLog(path, Scrubber()) as log:
            log.append(record("next"))
    assert texts(path) == ["one", "next", "next"]
    assert all(json.loads(line) for line in path.read_bytes().splitlines())


def test_a_secret_in_a_record_is_blanked_in_every_form(tmp_path: Path) -> None:
    scrubber = Scrubber([Secret("p@ss<w&rd>")])
    with SessionLog(tmp_path / "s.jsonl", scrubber) as log:
        for text in (
            "p@ss<w&rd>",
            "p%40ss%3Cw%26rd%3E",
            "p@ss&lt;w&amp;rd&gt;",
            "https://x/?sv=1&sig=abc%2Fdef%3D&se=2",
        ):
            log.append(record(f"before {text} after"))
    content = (tmp_path / "s.jsonl").read_text()
    assert "rd" not in content.replace("record", "")
    assert "abc" not in content
    assert content.count("***") == 4


def test_a_lone_surrogate_does_not_end_the_log(tmp_path: Path) -> None:
    with SessionLog(tmp_path / "s.jsonl", Scrubber()) as log:
        log.append(record("broken \ud800 name"))
        log.append(record("grün"))
    assert texts(tmp_path / "s.jsonl") == ["broken \ud800 name", "grün"]


@pytest.mark.skipif(sys.platform == "win32", reason="not run: Windows has no limit of file sizes")
def test_a_full_disk_loses_records_but_never_the_log(tmp_path: Path) -> None:
    import resource

    path = tmp_path / "s.jsonl"
    with SessionLog(path, Scrubber()) as log:
        log.append(record("first"))
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 20, hard))
        try:
            log.append(record("lost " * 100))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        log.append(record("last"))
        assert log.lost == 1
    assert texts(path) == ["first", "last"]


def test_lines_that_are_no_documents_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    path.write_bytes(b'\xff\n[1]\n"x"\n{"text": "good"}\nnot json\n')
    assert texts(path) == ["good"]
    assert list(read_session(tmp_path / "absent.jsonl")) == []


@pytest.mark.parametrize("character", ["x", "\0"])
def test_a_record_longer_than_a_line_may_be_is_shortened_and_read_back(tmp_path: Path, character: str) -> None:
    path = tmp_path / "s.jsonl"
    text = "Role 'Storage': failed " + character * (5 << 20)
    detail = ErrorDetail(text, "E", "C", "Storage", terminating=True)
    data = ["x" * 100] * (90_000)
    with SessionLog(path, Scrubber()) as log:
        log.append(Record(Stream.ERROR, text, datetime(2026, 11, 23, tzinfo=UTC), error=detail))
        log.append(Record(Stream.OUTPUT, "a long list", datetime(2026, 11, 23, tzinfo=UTC), data=data))
        log.append(record("next"))
    long, listed, after = read_session(path)
    assert long["shortened"]
    assert long["text"].startswith("Role 'Storage': failed ")
    assert long["error"]["terminating"]
    assert (listed["text"], "shortened" in listed) == ("a long list", True)
    assert after == {"at": "2026-11-23T00:00:00.000Z", "stream": "output", "text": "next"}


def test_a_line_that_is_too_long_is_passed_over_whole(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    path.write_bytes(b'{"text": "' + b"x" * (20 << 20) + b'"}\n{"text": "good"}\n')
    assert texts(path) == ["good"]


@pytest.fixture
def short_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log is full after 2,000 bytes instead of a gibibyte."""
    monkeypatch.setattr("bridge.collection._session_log._FULL_BYTES", 2_000)
    monkeypatch.setattr("bridge.collection._session_log._BRIM_BYTES", 3_000)


def failure(text: str) -> Record:
    return replace(record(text), stream=Stream.ERROR, error=ErrorDetail(text, "E", "C", "Storage"))


@pytest.mark.usefixtures("short_log")
def test_a_log_that_is_full_keeps_errors_for_longer_says_so_and_has_an_end(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    with SessionLog(path, Scrubber()) as log:
        for number in range(100):
            log.append(record(f"chatter {number}"))
        said = texts(path)
        assert log.lost == 100 - (len(said) - 1)
        assert "full" in log.why_lost
        assert "only errors and warnings" in said[-1]
        log.append(failure("still written"))
        assert texts(path)[-1] == "still written"
        for number in range(100):
            log.append(failure(f"error {number}"))
        assert log.lost > 150
    size_bytes = path.stat().st_size
    assert size_bytes < 3_500
    with SessionLog(path, Scrubber()) as log:
        log.append(failure("after the end"))
        assert log.lost == 1
    assert "after the end" not in texts(path)
    assert is_full(path)
    assert not is_full(tmp_path / "absent.jsonl")


@pytest.mark.usefixtures("short_log")
def test_records_that_were_left_out_of_a_full_log_leave_the_run_partial(
    request_to: Request, access: Access, state_dir: Path
) -> None:
    """Its zips are all there; what the records that are missing said of errors is not known."""
    files = {f"Storage-AzS-Node01-{number}.zip": zip_of({"a.log": b"a line"}) for number in range(30)}
    endpoint = FakeEndpoint({**files, "ACS-AzS-ACS01-1.zip": zip_of({"b.log": b"a line"})})
    outcome = collect(
        request_to,
        access,
        state_dir=state_dir,
        settings=QUICK,
        ports=replace(fake_ports(endpoint), assess=assess_bundle),
    )
    endpoint.join()
    assert outcome.state is RunState.PARTIAL, outcome
    assert outcome.exit_code is ExitCode.PARTIAL
    document = json.loads(Path(str(outcome.bundle), "collection.json").read_bytes())
    assert document["records_not_written"] > 0
    assert any("it is full" in text for text in outcome.warnings)
    assert outcome.coverage is not None
    assert {role["state"] for role in outcome.coverage["roles"]} == {"collected"}
    assert any("records of the endpoint were lost" in text for text in outcome.coverage["warnings"])
