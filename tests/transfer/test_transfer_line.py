"""On the line the engine is polite, patient and honest: rate, quiet hours, busy services, progress, memory."""

from __future__ import annotations

import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from datetime import time as clock_time
from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo

import pytest
import trustme

from bridge.errors import DeliveryFailedError, StoreFullError, UsageError
from bridge.store import FolderStore, Store, StoreSettings, parse_destination
from bridge.store.transfer import (
    FileFinished,
    LinePolicy,
    Paused,
    Progress,
    QuietHours,
    Repairing,
    Retrying,
    TransferEvent,
    TransferItem,
    TransferJournal,
    TransferSettings,
    Unpaused,
    _line,
    parse_rate,
    transfer,
)
from bridge.store.transfer._line import DEFAULT_CONNECTIONS, Line
from bridge.store.transfer._tally import Tally
from tests.support.range_service import RangeService
from tests.support.samba import Samba
from tests.support.scripted_service import Answer, Request, ScriptedService
from tests.support.tcp_proxy import TcpProxy
from tests.support.transfer_lab import KIB, MIB, SAS, MeteringProxy, TunnelProxy, container, made_up, opened_store

# -- rate --------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "sizes", [{"large.zip": 200 * MIB}, {f"{n}.log": 10 * KIB for n in range(6000)}], ids=["large", "small"]
)
def test_a_rate_holds_within_five_per_cent_over_twenty_seconds_from_the_first(sizes: dict[str, int]) -> None:
    rate_bytes_per_s = 2_500_000
    with ScriptedService() as service, MeteringProxy(service.port) as line:
        for_twenty_seconds(
            lambda cancel: transfer(
                made_up(sizes),
                container(line.port),
                [TransferItem(path, size) for path, size in sizes.items()],
                settings=TransferSettings(policy=LinePolicy(8 * rate_bytes_per_s)),
                cancel=cancel,
            )
        )
        start = next(at for at, size in line.up if size > KIB)  # the first content; the questions before it are small
        assert line.up[-1][0] - start > 20, "all of it is sent: the workload is too small"
        in_twenty, in_one = line.between(start, start + 20), line.between(start, start + 1)
    print(f"{in_twenty / 20 / rate_bytes_per_s:.4f} of the rate, {in_one / rate_bytes_per_s:.4f} in the first second")
    assert 0.95 <= in_twenty / (20 * rate_bytes_per_s) <= 1.05, "every byte counts, requests' heads too"
    assert in_one / rate_bytes_per_s <= 1.10, "the first second is no exception"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rate_bytes_per_s", "blobs"),
    [(2_500_000, {"large.zip": 200 * MIB}), (2_500_000, {f"{n}.log": 10 * KIB for n in range(6000)})],
    ids=["large", "small"],
)
def test_a_rate_holds_as_well_for_what_is_fetched_from_a_container(
    tmp_path: Path, rate_bytes_per_s: int, blobs: dict[str, int]
) -> None:
    with RangeService({f"west/{name}": size for name, size in blobs.items()}) as service:
        source = container(service.port)
        items = list(source.list())
        for_twenty_seconds(
            lambda cancel: transfer(
                source,
                FolderStore(tmp_path / "copy"),
                items,
                settings=TransferSettings(policy=LinePolicy(8 * rate_bytes_per_s)),
                cancel=cancel,
            )
        )
        start = service.sent[0][0]
        in_twenty = sum(size for at, size in service.sent if at - start <= 20)
        in_one = sum(size for at, size in service.sent if at - start <= 1)
        assert service.sent[-1][0] - start > 20, "all of it was fetched: the workload is too small"
    print(f"{in_twenty / 20 / rate_bytes_per_s:.4f} of the rate, {in_one / rate_bytes_per_s:.4f} in the first second")
    assert 0.95 <= in_twenty / (20 * rate_bytes_per_s) <= 1.05
    assert in_one / rate_bytes_per_s <= 1.15


def test_a_rate_holds_as_well_for_what_is_fetched_from_a_share(tmp_path: Path, samba: Samba) -> None:
    rate_bytes_per_s = 2_500_000
    folder = samba.path("bundles") / tmp_path.name
    folder.mkdir()
    for number in range(6):
        with (folder / f"{number}.zip").open("wb") as file:
            file.truncate(30 * MIB)
    cancel = threading.Event()
    with TcpProxy(samba.host, samba.port) as line:
        url = samba.url("bundles", tmp_path.name).replace(f":{samba.port}/", f":{line.port}/")
        source = opened_store(parse_destination(url), credential=samba.credential)
        items = list(source.list())
        seen: dict[int, int] = {}
        started = time.monotonic()

        def watch(event: TransferEvent) -> None:
            elapsed_s = time.monotonic() - started
            for second in (1, 6):
                if elapsed_s >= second:
                    seen.setdefault(second, line.bytes_down)
            if elapsed_s > 6.2:
                cancel.set()

        with pytest.raises(InterruptedError):
            transfer(
                source,
                FolderStore(tmp_path / "copy"),
                items,
                settings=TransferSettings(policy=LinePolicy(8 * rate_bytes_per_s)),
                on_event=watch,
                cancel=cancel,
            )
    assert seen[1] < 1.6 * rate_bytes_per_s, "nothing rushes through at the beginning"
    assert 0.9 <= (seen[6] - seen[1]) / (5 * rate_bytes_per_s) <= 1.1


def for_twenty_seconds(work: Callable[[threading.Event], object]) -> None:
    cancel = threading.Event()
    timer = threading.Timer(21.5, cancel.set)
    timer.start()
    try:
        work(cancel)
    except InterruptedError:
        pass
    finally:
        timer.cancel()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "then"),
    [(16_000_000, 4_000_000), (1_000_000, 16_000_000), (None, 4_000_000), (4_000_000, None)],
    ids=["down", "up", "from none", "to none"],
)
def test_a_new_rate_takes_hold_within_two_seconds_in_the_middle_of_a_block_and_is_kept(
    first: int | None, then: int | None
) -> None:
    line_bytes_per_s = 4_000_000
    policy = LinePolicy(first)
    changed_at = 0.0
    cancel = threading.Event()
    with ScriptedService() as service, MeteringProxy(service.port, bytes_per_s=line_bytes_per_s) as line:

        def change(event: TransferEvent) -> None:
            nonlocal policy, changed_at
            if isinstance(event, Progress) and line.up and line.up[-1][1] > KIB:
                now = time.monotonic()
                if not changed_at and event.bytes_sent > 300 * KIB:
                    changed_at, policy = now, LinePolicy(then)
                elif changed_at and now > changed_at + 8.2:
                    cancel.set()

        with pytest.raises(InterruptedError):
            transfer(
                made_up({"a.zip": 200 * MIB}),
                container(line.port),
                [TransferItem("a.zip", 200 * MIB)],
                settings=TransferSettings(policy=lambda: policy, block_size_bytes=8 * MIB, connections=1),
                on_event=change,
                cancel=cancel,
            )
        sent = line.between(changed_at + 2, changed_at + 8) / 6
    wanted = line_bytes_per_s if then is None else then / 8
    assert 0.95 <= sent / wanted <= 1.05 if then is not None else sent > 0.8 * wanted


def test_the_rate_can_be_changed_while_it_runs() -> None:
    policy = LinePolicy(800_000)
    asked = 0

    def current() -> LinePolicy:
        nonlocal asked
        asked += 1
        return policy

    with ScriptedService() as service:

        def free(event: TransferEvent) -> None:
            nonlocal policy
            if isinstance(event, Progress) and event.bytes_sent > 150 * KIB:
                policy = LinePolicy(None)

        started = time.monotonic()
        transfer(
            made_up({"a.zip": 20 * MIB}),
            container(service.port),
            [TransferItem("a.zip", 20 * MIB)],
            settings=TransferSettings(policy=current),
            on_event=free,
        )
        elapsed_s = time.monotonic() - started
    assert asked > 1
    assert elapsed_s < 20 * MIB / 100_000 / 2, "at the first rate it would have taken 200 s"


@pytest.mark.parametrize(
    ("text", "bits"),
    [("20Mbit", 20_000_000), ("512k", 512_000), ("1.5 Gbit", 1_500_000_000), ("300bit", 300), ("64kbps", 64_000)],
)
def test_rates_are_read_as_people_write_them(text: str, bits: int) -> None:
    assert parse_rate(text) == bits


@pytest.mark.parametrize("text", ["", "fast", "-1M", "0", "0k", "20MB", "1e3", "5", " 300 "])
def test_what_is_not_a_rate_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_rate(text)


# -- quiet hours -------------------------------------------------------------------------------------------------------


def test_quiet_hours_pause_and_resume_a_transfer() -> None:
    now = datetime(2026, 11, 23, 7, 59, 50, tzinfo=ZoneInfo("Europe/Berlin"))
    events: list[TransferEvent] = []
    during: list[int] = []

    def follow(event: TransferEvent) -> None:
        nonlocal now
        events.append(event)
        if isinstance(event, Progress):
            if event.paused_until is None and event.bytes_sent > 100 * KIB and now.hour < 8:
                now = now.replace(hour=8, minute=0)
            elif event.paused_until is not None:
                during.append(event.bytes_confirmed)
                if len(during) == 6:
                    now = now.replace(hour=18, minute=0)

    with ScriptedService() as service:
        transfer(
            made_up({"a.zip": 4 * MIB}),
            container(service.port),
            [TransferItem("a.zip", 4 * MIB)],
            settings=TransferSettings(
                block_size_bytes=64 * KIB,
                policy=LinePolicy(8_000_000, QuietHours.parse("08:00-18:00")),
                now=lambda: now,
            ),
            on_event=follow,
        )
    kinds = [type(event) for event in events if isinstance(event, (Paused, Unpaused, FileFinished))]
    assert kinds == [Paused, Unpaused, FileFinished]
    paused = next(event for event in events if isinstance(event, Paused))
    assert paused.until == datetime(2026, 11, 23, 18, tzinfo=ZoneInfo("Europe/Berlin"))
    assert during[-1] == during[2], "what was in flight may land; then nothing moves"
    assert during[-1] < 4 * MIB


def test_a_transfer_is_paused_and_goes_on_as_its_policy_says_and_the_pause_is_not_counted_into_the_time_left() -> None:
    policy = LinePolicy(16_000_000)
    events: list[TransferEvent] = []
    during: list[int] = []
    seen_while_paused = 0.0

    def follow(event: TransferEvent) -> None:
        nonlocal policy, seen_while_paused
        events.append(event)
        if isinstance(event, Progress):
            if not during and event.bytes_confirmed > 3 * MIB and not policy.paused:
                policy = LinePolicy(16_000_000, paused=True)
            if policy.paused and any(isinstance(one, Paused) for one in events):
                during.append(event.bytes_confirmed)
                seen_while_paused = event.rate_bits_per_s
                if len(during) == 15:
                    policy = LinePolicy(16_000_000)

    with ScriptedService() as service:
        transfer(
            made_up({"a.zip": 7 * MIB}),
            container(service.port),
            [TransferItem("a.zip", 7 * MIB)],
            settings=TransferSettings(block_size_bytes=64 * KIB, policy=lambda: policy),
            on_event=follow,
        )
    kinds = [event for event in events if isinstance(event, (Paused, Unpaused, FileFinished))]
    assert [type(event) for event in kinds] == [Paused, Unpaused, FileFinished]
    assert kinds[0] == Paused(None)
    assert during[-1] == during[3] < 7 * MIB
    assert seen_while_paused > 8_000_000, "three seconds of silence would have brought the rate down"


def test_the_journal_of_a_finished_delivery_is_removed_with_what_lies_beside_it(tmp_path: Path) -> None:
    with TransferJournal(tmp_path / "delivery.sqlite") as journal:
        journal.belongs_to("here", "there")
        journal.remove()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("hours", "now", "until"),
    [
        ("08:00-18:00", "2026-11-23T07:59:59+01:00", None),
        ("08:00-18:00", "2026-11-23T08:00:00+01:00", "2026-11-23T18:00:00+01:00"),
        ("08:00-18:00", "2026-11-23T18:00:00+01:00", None),
        ("22:00-06:00", "2026-11-23T23:00:00+01:00", "2026-11-24T06:00:00+01:00"),
        ("22:00-06:00", "2026-11-24T05:59:00+01:00", "2026-11-24T06:00:00+01:00"),
        ("22:00-06:00", "2026-11-24T06:00:00+01:00", None),
    ],
)
def test_quiet_hours_begin_and_end_where_the_clock_says(hours: str, now: str, until: str | None) -> None:
    expected = None if until is None else datetime.fromisoformat(until)
    assert QuietHours.parse(hours).until(datetime.fromisoformat(now)) == expected


@pytest.mark.parametrize("text", ["", "8-18", "08:00-08:00", "25:00-26:00", "08:00 18:00"])
def test_what_is_not_a_span_of_hours_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        QuietHours.parse(text)


def test_quiet_hours_are_read_as_written() -> None:
    assert QuietHours.parse(" 8:30 - 17:05 ") == QuietHours(clock_time(8, 30), clock_time(17, 5))


# -- a service that is busy, full, or wrong ----------------------------------------------------------------------------


def test_a_busy_service_is_left_alone_for_as_long_as_it_asks() -> None:
    refused: list[float] = []

    def busy(request: Request) -> Answer | None:
        if request.method == "PUT" and not refused:
            refused.append(request.at)
            return Answer(503, {"Retry-After": "2", "x-ms-error-code": "ServerBusy"})
        return None

    events: list[TransferEvent] = []
    with ScriptedService(busy) as service:
        items = [TransferItem("a.log", 1000)]
        transfer(made_up({"a.log": 1000}), container(service.port), items, on_event=events.append)
        puts = [request for request in service.requests if request.method == "PUT"]
    assert len(puts) == 2
    assert puts[1].at - puts[0].at >= 2.0
    retry = next(event for event in events if isinstance(event, Retrying))
    assert "503" in retry.reason
    assert retry.path == "a.log"


def test_what_is_being_retried_stands_in_the_progress_until_it_has_arrived() -> None:
    refused = threading.Event()
    shown: list[tuple[str, ...]] = []

    def busy(request: Request) -> Answer | None:
        if request.method == "PUT" and "/a.log" in request.target and not refused.is_set():
            refused.set()
            return Answer(503, {"Retry-After": "1"})
        return None

    def follow(event: TransferEvent) -> None:
        if isinstance(event, Progress):
            shown.append(event.retrying)

    with ScriptedService(busy) as service:
        items = [TransferItem("a.log", 1000)]
        transfer(made_up({"a.log": 1000}), container(service.port), items, on_event=follow)
    assert ("a.log",) in shown
    assert shown[-1] == ()


def test_the_wait_after_a_failure_doubles_differs_by_chance_and_is_never_shorter_than_the_service_asks() -> None:
    chance = 0.0
    settings = TransferSettings(first_back_off_s=1.0, longest_back_off_s=30.0)
    line = Line(settings, lambda event: None, monotonic=lambda: 0.0, jitter=lambda: chance)

    def wait_s(attempt: int, asked_s: float | None = None) -> float:
        return line.failed(OSError("cut"), attempt, asked_s)

    shortest = [wait_s(attempt) for attempt in (1, 2, 3, 4, 100)]
    chance = 1.0
    longest = [wait_s(attempt) for attempt in (1, 2, 3, 4, 100)]
    assert shortest == [0.5, 1.0, 2.0, 4.0, 15.0]
    assert longest == [1.0, 2.0, 4.0, 8.0, 30.0]
    assert wait_s(1, asked_s=7.0) == 7.0
    chance = 0.0
    assert len({Line(settings, lambda event: None).failed(OSError("cut"), 3) for _ in range(20)}) > 1


def test_fewer_connections_are_used_after_failures() -> None:
    failing = True

    def busy(request: Request) -> Answer | None:
        return Answer(500) if failing and request.method == "PUT" else None

    connections: list[int] = []

    def follow(event: TransferEvent) -> None:
        nonlocal failing
        if isinstance(event, Progress):
            connections.append(event.connections)
            failing = event.connections > 1

    sizes = {f"{number}.zip": 5 * MIB for number in range(4)}
    with ScriptedService(busy) as service:
        transfer(
            made_up(sizes),
            container(service.port),
            [TransferItem(path, size) for path, size in sizes.items()],
            settings=TransferSettings(first_back_off_s=0.6),
            on_event=follow,
        )
    assert connections[0] > 1
    assert min(connections) == 1


@pytest.mark.parametrize("code", ["InsufficientStorage", ""])
def test_a_service_without_space_ends_the_delivery_with_its_own_error(code: str) -> None:
    def full(request: Request) -> Answer | None:
        return Answer(507, {"x-ms-error-code": code}) if request.method == "PUT" else None

    with ScriptedService(full) as service, pytest.raises(DeliveryFailedError) as failure:
        transfer(made_up({"a": 1000}), container(service.port), [TransferItem("a", 1000)])
    assert isinstance(failure.value.__cause__, StoreFullError)


@pytest.mark.parametrize(("size", "put"), [(1000, "/a?"), (9 * MIB, "comp=block&")], ids=["one request", "blocks"])
@pytest.mark.parametrize(
    ("checksum", "header", "other"),
    [("crc64", "x-ms-content-crc64", "AAAAAAAAAAA="), ("md5", "Content-MD5", "1B2M2Y8AsgTpgAmY7PhCfg==")],
    ids=["CRC64", "MD5"],
)
def test_a_service_that_tells_another_checksum_gets_what_it_was_sent_again(
    size: int, put: str, checksum: Literal["crc64", "md5"], header: str, other: str
) -> None:
    lied: list[str] = []

    def lie(request: Request) -> Answer | None:
        if request.method == "PUT" and put in request.target and not lied:
            lied.append(request.target)
            return Answer(201, {"ETag": '"1"', header: other})
        return None

    events: list[TransferEvent] = []
    with ScriptedService(lie) as service:
        transfer(
            made_up({"a": size}),
            container(service.port),
            [TransferItem("a", size)],
            settings=TransferSettings(checksum=checksum),
            on_event=events.append,
        )
        sent = [request.target for request in service.requests if put in request.target and request.method == "PUT"]
    assert sent.count(lied[0]) == 2
    assert len(sent) == len(set(sent)) + 1, "nothing else was sent again"
    assert [event.path for event in events if isinstance(event, Repairing)] == ["a"]
    assert [event.result.status for event in events if isinstance(event, FileFinished)] == ["repaired"]


def test_a_service_that_does_not_know_crc64_is_given_md5() -> None:
    def old(request: Request) -> Answer | None:
        return Answer(201, {"ETag": '"1"'}) if request.method == "PUT" and "blocklist" not in request.target else None

    sizes = {f"{number}.log": 1000 for number in range(50)}
    with ScriptedService(old) as service:
        result = transfer(
            made_up(sizes), container(service.port), [TransferItem(path, size) for path, size in sizes.items()]
        )
        puts = [request for request in service.requests if request.method == "PUT"]
    by_path: dict[str, list[Request]] = {}
    for put in puts:
        by_path.setdefault(put.target.partition("?")[0], []).append(put)
    assert all("Content-MD5" in sent[-1].headers for sent in by_path.values())
    assert len(puts) == 51, "only the first file finds out"
    assert result.copied == 50


@pytest.mark.parametrize(
    "sizes",
    [
        {f"{number}.zip": 2 * MIB for number in range(3)},
        {"1.zip": 3 * MIB, "2.zip": 9 * MIB, "3.zip": 9 * MIB, "4.log": 100 * KIB, "5.log": 50 * KIB},
        {"1.zip": 9 * MIB, "2.zip": 9 * MIB, **{f"{number}.log": 100 * KIB for number in range(3, 9)}},
    ],
    ids=["in one request each", "of every size", "in blocks first"],
)
def test_a_service_that_does_not_know_crc64_costs_a_quarter_of_a_megabyte_at_most(sizes: dict[str, int]) -> None:
    """It takes the body, and only its answer shows that it has not checked it."""

    def old(request: Request) -> None:
        request.headers.pop("x-ms-content-crc64", None)

    with ScriptedService(old) as service:
        result = transfer(
            made_up(sizes), container(service.port), [TransferItem(path, size) for path, size in sizes.items()]
        )
        lists = [request.body_bytes for request in service.requests if "comp=blocklist" in request.target]
        taken = service.body_bytes - sum(lists)
    assert result.copied == len(sizes)
    assert sum(sizes.values()) <= taken <= sum(sizes.values()) + 256 * KIB


def test_an_old_version_is_never_asked_for_crc64() -> None:
    with ScriptedService() as service:
        transfer(made_up({"a": 1000}), container(service.port, "2017-11-09"), [TransferItem("a", 1000)])
        puts = [request for request in service.requests if request.method == "PUT"]
    assert [request.headers["x-ms-version"] for request in puts] == ["2017-11-09"]
    assert "Content-MD5" in puts[0].headers
    assert "x-ms-content-crc64" not in puts[0].headers


def test_the_sas_is_in_the_request_and_nowhere_in_what_is_told() -> None:
    def refuse(request: Request) -> Answer | None:
        body = f"<Error><Code>Odd</Code><Message>{request.target.replace('&', '&amp;')}</Message></Error>".encode()
        return Answer(400, {"x-ms-error-code": "Odd"}, body) if request.method == "PUT" else None

    events: list[TransferEvent] = []
    with ScriptedService(refuse) as service, pytest.raises(DeliveryFailedError) as failure:
        transfer(made_up({"a": 10}), container(service.port), [TransferItem("a", 10)], on_event=events.append)
    assert "sig=c2VjcmV0" in service.requests[-1].target
    assert "c2VjcmV0" not in f"{failure.value} {failure.value.__cause__} {events}"


# -- a line that slows -------------------------------------------------------------------------------------------------


def test_a_line_that_slows_is_met_with_fewer_connections_and_one_that_recovers_with_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_line, "_PIECE_S", 0.5)
    monkeypatch.setattr(_line, "_SLOW_S", 1.0)
    monkeypatch.setattr(_line, "_GROW_AFTER_S", 0.05)
    slow = False
    connections: list[int] = []
    low: list[int] = []

    def crawl(request: Request) -> None:
        if slow and "comp=block&" in request.target:
            time.sleep(1.2)

    def follow(event: TransferEvent) -> None:
        nonlocal slow
        if isinstance(event, Progress):
            connections.append(event.connections)
            if event.connections > DEFAULT_CONNECTIONS and not low:
                slow = True
            elif slow and event.connections == 1:
                low.append(len(connections))
                slow = False

    size = 300 * MIB
    with ScriptedService(crawl) as service:
        result = transfer(
            made_up({"a.zip": size}),
            container(service.port),
            [TransferItem("a.zip", size)],
            settings=TransferSettings(policy=LinePolicy(600_000_000)),
            on_event=follow,
        )
        sent = sum(request.body_bytes for request in service.requests if "comp=block&" in request.target)
    assert low, "it came down to one connection"
    assert max(connections[low[0] :]) > 1, "and went up again"
    assert (result.retries, sent) == (0, size), "no work is lost"


def test_a_number_of_connections_that_was_set_is_used_again_after_failures() -> None:
    now = 0.0
    line = Line(TransferSettings(connections=6), lambda event: None, monotonic=lambda: now)
    for _ in range(3):
        now += 1
        line.failed(OSError("cut"), attempt=1)
    assert line.connections == 1
    for _ in range(100):
        now += 1
        line.confirmed(took_s=0.1)
    assert line.connections == 6


def test_connections_that_crawl_together_are_one_event_and_a_number_that_was_set_is_kept() -> None:
    now = 0.0
    lines = [
        Line(TransferSettings(connections=number), lambda event: None, monotonic=lambda: now) for number in (None, 4)
    ]

    def confirmed(took_s: float) -> list[int]:
        for line in lines:
            line.confirmed(took_s)
        return [line.connections for line in lines]

    now = 100
    assert [confirmed(took_s=60) for _ in range(4)][-1] == [2, 4]
    now = 130
    assert confirmed(took_s=60) == [2, 4], "it had begun before they became fewer"
    now = 170
    assert confirmed(took_s=60) == [1, 4]
    now = 300
    assert confirmed(took_s=12) == [1, 4], "neither too slow nor with room for one more"
    assert confirmed(took_s=1) == [2, 4]


# -- TLS and proxies


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def secure_service(authority: trustme.CA) -> Iterator[ScriptedService]:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(tls)
    with ScriptedService(tls=tls) as service:
        yield service


def secure_container(service: ScriptedService, ca_file: Path | None) -> Store:
    return opened_store(
        parse_destination(f"https://localhost:{service.port}/container/west"),
        sas=SAS,
        settings=StoreSettings(api_version="2019-02-02", ca_file=None if ca_file is None else str(ca_file)),
    )


def test_a_service_with_a_certificate_of_the_given_authority_is_used_over_tls(
    secure_service: ScriptedService, authority: trustme.CA, tmp_path: Path
) -> None:
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    sizes = {"a.zip": 9 * MIB, **{f"{number}.log": number for number in range(50)}}
    items = [TransferItem(path, size) for path, size in sizes.items()]
    result = transfer(made_up(sizes), secure_container(secure_service, ca_file), items)
    assert (result.copied, result.retries) == (51, 0)


def test_a_rate_holds_over_tls_where_the_system_takes_less_at_once(
    secure_service: ScriptedService, authority: trustme.CA, tmp_path: Path
) -> None:
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    with MeteringProxy(secure_service.port) as line:
        store = opened_store(
            parse_destination(f"https://localhost:{line.port}/container/west"),
            sas=SAS,
            settings=StoreSettings(api_version="2019-02-02", ca_file=str(ca_file)),
        )
        items = [TransferItem("a.zip", 12 * MIB)]
        transfer(made_up({"a.zip": 12 * MIB}), store, items, settings=TransferSettings(policy=LinePolicy(20_000_000)))
        start = next(at for at, size in line.up if size > 8 * KIB)
        sent = line.between(start, start + 4)
    assert 0.93 <= sent / (4 * 2_500_000) <= 1.07


def test_a_certificate_of_an_unknown_authority_ends_the_delivery_at_once(secure_service: ScriptedService) -> None:
    events: list[TransferEvent] = []
    with pytest.raises(DeliveryFailedError, match="certificate of localhost was not accepted") as failure:
        transfer(
            made_up({"a": 1}), secure_container(secure_service, None), [TransferItem("a", 1)], on_event=events.append
        )
    assert "ca_file" in failure.value.advice
    assert not any(isinstance(event, Retrying) for event in events)


def test_a_proxy_of_the_environment_is_asked_for_a_tunnel(
    secure_service: ScriptedService, authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    with TunnelProxy(secure_service.port) as proxy:
        monkeypatch.setenv("https_proxy", f"http://user:p%40ss@127.0.0.1:{proxy.port}")
        monkeypatch.setenv("no_proxy", "")
        transfer(made_up({"a": 1000}), secure_container(secure_service, ca_file), [TransferItem("a", 1000)])
    assert proxy.asked[0].startswith(f"CONNECT localhost:{secure_service.port} HTTP/1.1")
    assert "Proxy-Authorization: Basic dXNlcjpwQHNz" in proxy.asked[0]


# -- honest ------------------------------------------------------------------------------------------------------------


def test_nothing_shows_all_done_before_the_service_has_confirmed_the_last_file() -> None:
    held = threading.Event()
    fractions: list[float | None] = []

    def hold(request: Request) -> Answer | None:
        if "blocklist" in request.target and request.method == "PUT":
            held.wait(30)
        return None

    def follow(event: TransferEvent) -> None:
        if isinstance(event, Progress):
            fractions.append(event.fraction)
            if event.bytes_confirmed == 10 * MIB and len(fractions) > 5:
                held.set()

    with ScriptedService(hold) as service:
        transfer(made_up({"a": 10 * MIB}), container(service.port), [TransferItem("a", 10 * MIB)], on_event=follow)
    assert fractions[-1] == 1.0
    assert all(fraction is not None and fraction < 1 for fraction in fractions[:-1])


def test_once_all_is_acknowledged_nobody_says_how_long_the_last_yes_takes() -> None:
    now = [0.0]
    tally = Tally(100, 1, monotonic=lambda: now[0])
    tally.confirmed(60)
    now[0] = 2.0
    assert tally.sample()
    assert tally.progress(1, None).time_left_s
    tally.confirmed(40)
    waiting = tally.progress(1, None)
    assert (waiting.time_left_low_s, waiting.time_left_s, waiting.time_left_high_s) == (None, None, None)
    assert tally.progress(1, None, complete=True).time_left_s == 0.0


class Lab:
    """A tally, and a clock that is moved by hand."""

    def __init__(self, total_bytes: int) -> None:
        self._now = 0.0
        self.tally = Tally(total_bytes, 100, monotonic=lambda: self._now)

    def second(self, *, sent: int = 0, confirmed: int = 0, paused: bool = False) -> Progress:
        self._now += 1.0
        self.tally.sent(sent)
        self.tally.confirmed(confirmed)
        self.tally.sample(paused=paused)
        return self.tally.progress(8, None)


def test_no_rate_and_no_time_is_told_from_the_small_files_that_come_before_the_first_large_pieces() -> None:
    lab = Lab(350 * MIB)
    for _ in range(6):  # eight pieces of 4 MiB are under way; a few small files have arrived
        early = lab.second(sent=5 * MIB + 400 * KIB, confirmed=400 * KIB)
        assert (early.rate_bits_per_s, early.time_left_s) == (0.0, None)
    told = lab.second(sent=5 * MIB, confirmed=32 * MIB)
    assert told.time_left_s == pytest.approx(350 / 5, rel=0.2)


def test_a_rate_that_was_not_known_before_a_pause_is_not_told_after_it() -> None:
    lab = Lab(100 * MIB)
    for _ in range(3):
        lab.second(sent=5 * MIB, confirmed=KIB)
    lab.second(confirmed=15 * MIB - 3 * KIB, paused=True)
    assert lab.second(sent=5 * MIB).time_left_s is None
    told = lab.second(sent=5 * MIB, confirmed=10 * MIB)
    assert told.time_left_s == pytest.approx(75 / 5, rel=0.01), "nothing of the time before the pause"


def test_silence_is_told_and_promises_no_time_and_a_pause_is_none() -> None:
    lab = Lab(100 * MIB)
    for _ in range(3):
        lab.second(sent=MIB, confirmed=MIB)
    silent = [lab.second() for _ in range(11)][-1]
    assert (silent.silent_s, silent.rate_bits_per_s, silent.time_left_s) == (11.0, 0.0, None)
    resting = [lab.second(paused=True) for _ in range(60)][-1]
    assert resting.silent_s == 0.0
    assert lab.second(sent=MIB, confirmed=MIB).silent_s == 0.0


def test_what_was_there_before_is_told_also_of_files_that_were_not_whole() -> None:
    lab = Lab(10 * MIB)
    lab.tally.confirmed(3 * MIB, moved=False)
    assert lab.second(sent=MIB, confirmed=MIB).bytes_there == 3 * MIB
    lab.tally.unconfirmed(4 * MIB)  # the line was cut: what is there of the file is looked at again
    lab.tally.confirmed(4 * MIB, moved=False)
    assert lab.second(sent=6 * MIB, confirmed=6 * MIB).bytes_there == 3 * MIB
    assert lab.tally.result().bytes_there == 3 * MIB


def test_time_left_is_told_with_its_spread() -> None:
    seen: list[Progress] = []
    with ScriptedService() as service:
        transfer(
            made_up({"a": 3 * MIB}),
            container(service.port),
            [TransferItem("a", 3 * MIB)],
            settings=TransferSettings(policy=LinePolicy(8_000_000), block_size_bytes=64 * KIB),
            on_event=lambda event: seen.append(event) if isinstance(event, Progress) else None,
        )
    told = [event for event in seen if event.time_left_s]
    assert told, "three seconds on the line are enough for a first estimate"
    for event in told:
        assert event.time_left_low_s is not None
        assert event.time_left_s is not None
        assert event.time_left_low_s <= event.time_left_s
    assert told[0].rate_bits_per_s == pytest.approx(8_000_000, rel=0.4)


def test_a_cancelled_transfer_ends_soon_and_says_so() -> None:
    cancel = threading.Event()
    with ScriptedService() as service:

        def stop(event: TransferEvent) -> None:
            if isinstance(event, Progress) and event.bytes_sent:
                cancel.set()

        with pytest.raises(InterruptedError):
            transfer(
                made_up({"a": 100 * MIB}),
                container(service.port),
                [TransferItem("a", 100 * MIB)],
                settings=TransferSettings(policy=LinePolicy(8_000_000)),
                cancel=cancel,
                on_event=stop,
            )
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("transfer-")]


def test_an_error_in_the_callers_own_handler_ends_the_transfer_and_reaches_the_caller() -> None:
    def fail(event: TransferEvent) -> None:
        raise ZeroDivisionError

    with ScriptedService() as service, pytest.raises(ZeroDivisionError):
        transfer(made_up({"a": 50 * MIB}), container(service.port), [TransferItem("a", 50 * MIB)], on_event=fail)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("transfer-")]


# -- memory ------------------------------------------------------------------------------------------------------------

_CHILD = """
import sys, threading
from pathlib import Path
from bridge.secrets import Secret
from bridge.store import FolderStore, open_store, parse_destination
from bridge.store.transfer import TransferJournal, hash_files, transfer
folder, port, sas, journal = sys.argv[1:]
source = FolderStore(folder)
target = open_store(parse_destination(f"http://127.0.0.1:{port}/account/container/west"), sas=Secret(sas))
with TransferJournal(Path(journal)) as kept:
    result = transfer(source, target, source.list(), journal=kept)
assert sum(1 for _ in hash_files(source)) == result.files
if sys.platform == "linux":  # ru_maxrss would count the process that forked this one
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    peak = int(status["VmHWM"].split()[0]) * 1024
else:
    import psutil
    peak = psutil.Process().memory_info().rss
print(result.size_bytes, peak)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "sizes", [{f"{n:02}.zip": 35 * MIB for n in range(60)}, {"one.zip": 8192 * MIB}], ids=["2GiB", "8GiB"]
)
def test_memory_stays_below_128_mib_whatever_is_sent(tmp_path: Path, sizes: dict[str, int]) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for path, size in sizes.items():
        with (source / path).open("wb") as file:
            file.truncate(size)
    with ScriptedService() as service:
        words = [sys.executable, "-c", _CHILD, str(source), str(service.port), SAS.reveal(), str(tmp_path / "journal")]
        done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    sent, peak = map(int, done.stdout.split())
    assert sent == sum(sizes.values())
    print(f"{sent >> 20} MiB sent and hashed with at most {peak >> 20} MiB of memory")
    assert peak <= 128 * MIB


def test_a_list_of_any_length_is_taken_as_it_is_needed() -> None:
    """A generator that knows how far the transfer has come is never asked for much more."""
    finished = 0
    ahead: list[int] = []

    def items() -> Iterator[TransferItem]:
        for number in range(3000):
            ahead.append(number - finished)
            yield TransferItem("a", 100)

    def count(event: TransferEvent) -> None:
        nonlocal finished
        finished += isinstance(event, FileFinished)

    with ScriptedService() as service:
        settings = TransferSettings(policy=LinePolicy(8_000_000))
        transfer(made_up({"a": 100}), container(service.port), items(), settings=settings, on_event=count)
    assert finished == 3000
    assert max(ahead) < 1500
