"""A finished bundle is copied, checked on the way, and never mixed with another."""

from __future__ import annotations

import hashlib
import re
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bridge.bundle import Unhashed, Verdict, read_bundle, seal, verify
from bridge.collection import (
    Access,
    Control,
    DeliveryProgress,
    Event,
    Journal,
    Outcome,
    Place,
    Request,
    Warned,
    collect,
    deliver,
    plain_line,
)
from bridge.collection._deliver import show_transfer
from bridge.collection._parts import open_place
from bridge.errors import (
    DeliveryFailedError,
    ExitCode,
    JournalFullError,
    NotABundleError,
    PreflightError,
    StoreUnreachableError,
    UsageError,
    VerificationFailedError,
)
from bridge.secrets import Credential, Secret
from bridge.store import Entry, FolderStore, Store, UnsafeNameHandler
from bridge.store.transfer import Note, Paused, Progress, Repairing, TransferEvent
from cli._signals import interrupts
from tests.support.azurite import Azurite
from tests.support.bundles import DOCUMENTS, INFO, digests_of, make_bundle, write_payload
from tests.support.fake_endpoint import FakeEndpoint, fake_ports
from tests.support.runs import QUICK


@pytest.fixture
def collected(request_to: Request, access: Access, state_dir: Path) -> Outcome:
    outcome = collect(request_to, access, state_dir=state_dir, settings=QUICK, ports=fake_ports(FakeEndpoint()))
    assert outcome.bundle is not None
    return outcome


def place_of(outcome: Outcome) -> Place:
    return Place.parse(str(outcome.bundle))


def test_the_copy_is_the_bundle(collected: Outcome, tmp_path: Path, state_dir: Path) -> None:
    delivered = deliver(place_of(collected), Place.parse(str(tmp_path / "far")), state_dir=state_dir)
    assert delivered.bundle_id == collected.bundle_id
    assert verify(FolderStore(Path(delivered.bundle))).ok
    source, copy = Path(str(collected.bundle)), Path(delivered.bundle)
    files = sorted(path.relative_to(source) for path in source.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(copy) for path in copy.rglob("*") if path.is_file())
    assert all((source / name).read_bytes() == (copy / name).read_bytes() for name in files)
    with Journal(state_dir) as journal:
        [delivery] = journal.run(collected.run_id).deliveries
    assert (delivery.state, delivery.attempts) == ("done", 1)


def fill(disk: Path) -> None:
    with (disk / "filler").open("ab", buffering=0) as filler, suppress(OSError):
        while filler.write(bytes(4096)):
            pass


@pytest.mark.parametrize("when", ["before", "half-way"])
def test_a_state_folder_without_space_ends_a_delivery_with_that(
    collected: Outcome, tmp_path: Path, tiny_disk: Path, when: str
) -> None:
    if when == "before":
        fill(tiny_disk)
    places = (place_of(collected), Place.parse(str(tmp_path / "far")))
    with pytest.raises(JournalFullError, match="no space left") as caught:
        deliver(*places, state_dir=tiny_disk / "state", on_event=lambda _: fill(tiny_disk))
    assert caught.value.exit_code is ExitCode.NO_SPACE
    (tiny_disk / "filler").unlink()
    delivered = deliver(*places, state_dir=tiny_disk / "state")
    assert verify(FolderStore(Path(delivered.bundle))).ok


def test_what_ended_a_delivery_is_told_where_the_state_folder_has_no_space_to_write_it_down(
    collected: Outcome, tmp_path: Path, tiny_disk: Path
) -> None:
    events: list[Event] = []

    class Silent(FolderStore):
        def list(self, prefix: str = "", *, on_unsafe: UnsafeNameHandler | None = None) -> Iterator[Entry]:
            fill(tiny_disk)  # the delivery has begun, and is journalled
            raise StoreUnreachableError(store=self.location, detail="the server fell silent")

    def open_it(place: Place, secret: object) -> FolderStore:
        return Silent(place.text) if place == place_of(collected) else FolderStore(place.text)

    with pytest.raises(DeliveryFailedError, match="the server fell silent"):
        deliver(
            place_of(collected),
            Place.parse(str(tmp_path / "far")),
            state_dir=tiny_disk / "state",
            on_event=events.append,
            open_store=open_it,
        )
    assert any(isinstance(event, Warned) and "no space left" in event.text for event in events), events


def test_a_second_delivery_sends_nothing_again(collected: Outcome, tmp_path: Path, state_dir: Path) -> None:
    deliver(place_of(collected), Place.parse(str(tmp_path / "far")), state_dir=state_dir)
    again = deliver(place_of(collected), Place.parse(str(tmp_path / "far")), state_dir=state_dir)
    assert again.bytes_sent == 0
    assert again.files_skipped == again.files


def test_a_changed_file_is_found_before_it_is_passed_on_as_good(
    collected: Outcome, tmp_path: Path, state_dir: Path
) -> None:
    victim = next(Path(str(collected.bundle)).rglob("Storage-*.zip"))
    victim.write_bytes(b"x" * victim.stat().st_size)
    with pytest.raises((VerificationFailedError, DeliveryFailedError)) as caught:
        deliver(place_of(collected), Place.parse(str(tmp_path / "far")), state_dir=state_dir)
    assert caught.value.exit_code in {ExitCode.VERIFICATION, ExitCode.DELIVERY}
    assert caught.value.advice.startswith("Deliver from a copy that verifies, or collect again")
    assert f"'pep-bridge verify {collected.bundle}'" in caught.value.advice, "where, and with what"
    unfinished = tmp_path / "far" / collected.bundle_name
    assert not (unfinished / "bagit.txt").exists()
    with pytest.raises(NotABundleError, match="a delivery that has not ended") as told:
        read_bundle(FolderStore(unfinished))
    assert "A delivery goes on with the same 'pep-bridge deliver' command" in told.value.advice


def test_a_missing_and_an_added_file_are_named(collected: Outcome, tmp_path: Path, state_dir: Path) -> None:
    victim = next(Path(str(collected.bundle)).rglob("Storage-*.zip"))
    kept = victim.read_bytes()
    victim.unlink()
    with pytest.raises(VerificationFailedError, match=r"Storage-.* is missing"):
        deliver(place_of(collected), Place.parse(str(tmp_path / "far")), state_dir=state_dir)
    victim.write_bytes(kept)
    (victim.parent / "added.zip").write_bytes(b"?")
    with pytest.raises(VerificationFailedError, match=r"added\.zip is not in its manifest"):
        deliver(place_of(collected), Place.parse(str(tmp_path / "far")), state_dir=state_dir)


@pytest.mark.parametrize("missing", [False, True])
def test_a_file_that_was_never_hashed_does_not_hide_that_it_is_missing(
    tmp_path: Path, state_dir: Path, missing: bool
) -> None:
    root = tmp_path / "bundle"
    write_payload(root)
    proven, unread = digests_of()[:-1], digests_of()[-1]
    unhashed = [Unhashed(unread.path, unread.size_bytes, "the SAS does not permit reading", None)]
    seal(FolderStore(root), digests=proven, documents=DOCUMENTS, info=INFO, unhashed=unhashed)
    far = Place.parse(str(tmp_path / "far"))
    if missing:
        (root / unread.path).unlink()
        with pytest.raises(VerificationFailedError, match=re.escape(unread.path)):
            deliver(Place.parse(str(root)), far, state_dir=state_dir)
    else:
        delivered = deliver(Place.parse(str(root)), far, state_dir=state_dir)
        assert verify(FolderStore(Path(delivered.bundle))).verdict is Verdict.UNPROVEN


def test_a_sas_that_may_write_and_list_but_not_read_delivers_and_says_what_was_not_checked(
    tmp_path: Path, state_dir: Path, azurite: Azurite
) -> None:
    root = tmp_path / "bundle"
    make_bundle(root, FolderStore(root))
    container = azurite.new_container()
    place = Place.parse(azurite.container_url(container))
    for _ in range(2):
        delivered = deliver(
            Place.parse(str(root)), place, target_access=azurite.sas(container, "cwl"), state_dir=state_dir
        )
        assert delivered.unchecked is not None
        assert "it needs Read" in delivered.unchecked
    looked = deliver(Place.parse(str(root)), place, target_access=azurite.sas(container, "rwl"), state_dir=state_dir)
    assert (looked.unchecked, looked.bytes_sent) == (None, 0)


@pytest.mark.skipif(sys.platform == "win32", reason="not run: a signal is raised")
@pytest.mark.parametrize("moment", ["before anything was sent", "after everything was sent"])
def test_ctrl_c_ends_a_delivery_that_waits_for_a_place_to_answer(
    collected: Outcome, tmp_path: Path, state_dir: Path, moment: str
) -> None:
    class Waited(FolderStore):
        """A place at which somebody presses Ctrl-C while it is looked at."""

        def list(self, prefix: str = "", *, on_unsafe: UnsafeNameHandler | None = None) -> Iterator[Entry]:
            has_arrived = (self.root / "bagit.txt").exists()
            if self.root.name != "far" and has_arrived is (moment == "after everything was sent"):
                signal.raise_signal(signal.SIGINT)
            return super().list(prefix, on_unsafe=on_unsafe)

        def at(self, path: str) -> FolderStore:
            return Waited(self.root / path)

    def open_store(place: Place, access: Credential | Secret | None) -> Store:
        return Waited(tmp_path / "far") if place == far else open_place(place, access)

    far, said = Place.parse(str(tmp_path / "far")), list[str]()
    control = Control()
    with interrupts(control, said.append, leaving=lambda: "leaving"), pytest.raises(KeyboardInterrupt):
        deliver(place_of(collected), far, state_dir=state_dir, control=control, open_store=open_store)
    assert said == ["leaving"]
    again = deliver(place_of(collected), far, state_dir=state_dir)
    assert verify(FolderStore(Path(again.bundle))).ok
    assert (again.bytes_sent == 0) is (moment == "after everything was sent")


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (
            Repairing("data/a.zip", "the MD5 differs"),
            "warning: data/a.zip is sent again, it did not arrive whole: the MD5",
        ),
        (Note("the SAS does not permit listing"), "warning: the SAS does not permit listing"),
        (Paused(datetime(2026, 11, 23, 18, tzinfo=UTC)), "waiting: quiet hours until 18:00"),
    ],
)
def test_repairs_notes_and_quiet_hours_reach_the_operator(event: TransferEvent, line: str) -> None:
    shown = show_transfer("run", event, "//nas/logs")
    assert shown is not None
    assert str(plain_line(shown)).startswith(line)


def test_another_bundle_of_the_same_name_is_not_overwritten(
    collected: Outcome, tmp_path: Path, state_dir: Path
) -> None:
    delivered = deliver(place_of(collected), Place.parse(str(tmp_path / "far")), state_dir=state_dir)
    tag_manifest = Path(delivered.bundle) / "tagmanifest-sha256.txt"
    tag_manifest.write_bytes(tag_manifest.read_bytes() + b"\n")
    its_id = hashlib.sha256(tag_manifest.read_bytes()).hexdigest()  # unbroken: it can be searched for
    with pytest.raises(DeliveryFailedError, match=f"another bundle of that name is there .id {its_id}"):
        deliver(place_of(collected), Place.parse(str(tmp_path / "far")), state_dir=state_dir)


@pytest.mark.parametrize("foreign", ["note.txt", "data/note.txt"])
def test_a_foreign_file_where_the_copy_lies_is_to_be_removed(
    collected: Outcome, tmp_path: Path, state_dir: Path, foreign: str
) -> None:
    file = tmp_path / "far" / collected.bundle_name / foreign
    file.parent.mkdir(parents=True)
    file.write_text("hi")
    with pytest.raises(VerificationFailedError, match=f"{foreign}: it is there and not listed") as caught:
        deliver(place_of(collected), Place.parse(str(tmp_path / "far")), state_dir=state_dir)
    assert caught.value.advice.startswith(f"Remove {foreign} there")
    assert "deliver to another place" in caught.value.advice
    file.unlink()
    again = deliver(place_of(collected), Place.parse(str(tmp_path / "far")), state_dir=state_dir)
    assert (again.bytes_sent, verify(FolderStore(Path(again.bundle))).ok) == (0, True)


def test_a_copy_that_loses_a_file_before_it_is_looked_at_is_to_be_sent_again(
    collected: Outcome, tmp_path: Path, state_dir: Path
) -> None:
    """Something else is wrong too; what the same command mends comes first."""

    class Losing(FolderStore):
        def list(self, prefix: str = "", *, on_unsafe: UnsafeNameHandler | None = None) -> Iterator[Entry]:
            if (self.root / "bagit.txt").exists():
                next(self.root.rglob("Storage-*.zip")).unlink(missing_ok=True)
                (self.root / "a-note.txt").touch()
            return super().list(prefix, on_unsafe=on_unsafe)

        def at(self, path: str) -> FolderStore:
            return Losing(self.root / path)

    def open_store(place: Place, access: Credential | Secret | None) -> Store:
        return Losing(place.text) if place == far else open_place(place, access)

    far = Place.parse(str(tmp_path / "far"))
    with pytest.raises(VerificationFailedError, match=r"Storage-.*: it is listed and not there") as caught:
        deliver(place_of(collected), far, state_dir=state_dir, open_store=open_store)
    assert caught.value.advice.startswith("Run the same command again")


def test_a_bundle_whose_own_lists_are_wrong_is_to_be_delivered_from_elsewhere(tmp_path: Path, state_dir: Path) -> None:
    root = tmp_path / "bundle"
    make_bundle(root, FolderStore(root))
    (root / "bag-info.txt").write_bytes((root / "bag-info.txt").read_bytes() + b"X: y\n")
    with pytest.raises(VerificationFailedError, match=r"bag-info\.txt") as caught:
        deliver(Place.parse(str(root)), Place.parse(str(tmp_path / "far")), state_dir=state_dir)
    assert f"'pep-bridge verify {root}' shows all that is wrong" in caught.value.advice


def test_a_folder_that_was_never_sealed_is_not_delivered(tmp_path: Path, state_dir: Path) -> None:
    (tmp_path / "no-bundle" / "data").mkdir(parents=True)
    with pytest.raises(NotABundleError):
        deliver(Place.parse(str(tmp_path / "no-bundle")), Place.parse(str(tmp_path / "far")), state_dir=state_dir)


@pytest.mark.parametrize("inside", ["{bundle}", "{bundle}/data", "link"])
def test_a_bundle_is_not_delivered_into_itself(
    collected: Outcome, tmp_path: Path, state_dir: Path, inside: str
) -> None:
    here = Path(str(collected.bundle))
    (tmp_path / "link").symlink_to(here)
    target = tmp_path / "link" if inside == "link" else here.parent / inside.format(bundle=collected.bundle_name)
    with pytest.raises(UsageError, match="in the bundle itself"):
        deliver(place_of(collected), Place.parse(str(target)), state_dir=state_dir)
    assert verify(FolderStore(here)).ok


def test_a_bundle_is_not_delivered_to_where_it_lies(collected: Outcome, state_dir: Path) -> None:
    here = Path(str(collected.bundle))
    with pytest.raises(UsageError, match="already"):
        deliver(place_of(collected), Place.parse(str(here.parent)), state_dir=state_dir)
    assert verify(FolderStore(here)).ok


def test_a_bundle_is_not_delivered_into_another_one_or_below_a_folder_that_is_not_there(
    collected: Outcome, tmp_path: Path, state_dir: Path
) -> None:
    other = tmp_path / "other-bundle"
    other.mkdir()
    (other / "bagit.txt").write_text("BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n")
    for target in (other, tmp_path / "not-mounted" / "bundles"):
        with pytest.raises(PreflightError):
            deliver(place_of(collected), Place.parse(str(target)), state_dir=state_dir)
    assert not (tmp_path / "not-mounted").exists()
    assert [each.name for each in other.iterdir()] == ["bagit.txt"]


@pytest.mark.parametrize("in_the_way", ["far", "far/{bundle}", "far/{bundle}/data"])
def test_a_file_in_the_way_is_the_targets_failure(
    collected: Outcome, tmp_path: Path, state_dir: Path, in_the_way: str
) -> None:
    obstacle = tmp_path / in_the_way.format(bundle=collected.bundle_name)
    obstacle.parent.mkdir(parents=True, exist_ok=True)
    obstacle.write_text("in the way")
    with pytest.raises(DeliveryFailedError) as caught:
        deliver(place_of(collected), Place.parse(str(tmp_path / "far")), state_dir=state_dir)
    assert caught.value.exit_code is ExitCode.DELIVERY
    assert obstacle.read_text() == "in the way"


def test_a_delivery_that_is_done_leaves_no_memory_that_would_hide_that_its_copy_went(
    collected: Outcome, tmp_path: Path, state_dir: Path
) -> None:
    for _ in range(2):
        delivered = deliver(place_of(collected), Place.parse(str(tmp_path / "far")), state_dir=state_dir)
        assert delivered.bytes_sent > 0
        assert list((state_dir / "deliveries").iterdir()) == []
        shutil.rmtree(tmp_path / "far")


def test_a_staged_run_leaves_no_memory_of_its_delivery(request_to: Request, access: Access, state_dir: Path) -> None:
    staged = replace(request_to, staging=Place.parse(f"{request_to.destination.location}-near"))
    outcome = collect(staged, access, state_dir=state_dir, settings=QUICK, ports=fake_ports(FakeEndpoint()))
    assert outcome.exit_code is ExitCode.OK
    assert list((state_dir / "deliveries").iterdir()) == []


def test_a_pause_and_quiet_hours_are_told_apart() -> None:
    now = datetime.now(UTC)
    for until, said in ((now, "quiet hours"), (None, "paused")):
        event = show_transfer("r", Paused(until), "//nas/logs")
        assert event is not None
        assert said in str(plain_line(event))


@pytest.mark.parametrize(
    ("silent_s", "paused_until", "said"),
    [(31.2, None, "nothing has come through to //nas/logs for 31 s"), (3.0, None, ""), (31.2, datetime.now(UTC), "")],
)
def test_a_place_that_fell_silent_is_named(silent_s: float, paused_until: datetime | None, said: str) -> None:
    event = show_transfer("r", replace(PROGRESS, silent_s=silent_s, paused_until=paused_until), "//nas/logs")
    assert isinstance(event, DeliveryProgress)
    assert event.detail == said
    retrying = show_transfer("r", replace(PROGRESS, silent_s=silent_s, retrying=("a.zip",)), "//nas/logs")
    assert isinstance(retrying, DeliveryProgress)
    assert retrying.detail == "retrying a.zip"


PROGRESS = Progress(
    bytes_total=100,
    bytes_sent=50,
    bytes_confirmed=50,
    bytes_there=0,
    bytes_finished=50,
    files_total=2,
    files_finished=1,
    rate_bits_per_s=0.0,
    time_left_s=None,
    time_left_low_s=None,
    time_left_high_s=None,
    silent_s=0.0,
    connections=1,
    paused_until=None,
    retrying=(),
    complete=False,
)
