"""What must be true of every run of the soak, whatever happened to it."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

from bridge.bundle import FindingKind, Verdict, read_bundle, verify
from bridge.collection import Place, RunRecord, RunState, has_something_to_do, read_lock
from bridge.collection._parts import open_place
from bridge.collection._states import LEGAL
from bridge.errors import NotABundleError, StoreError
from bridge.store import Store
from tests.soak.stamp_process import StampProcess
from tests.soak.truth import check_coverage, check_exit_codes, payload_in
from tests.soak.world import ROLES, World, can_be_tried_again, need

_GRACE_S = 5.0
_QUIET_S = 1.5
"""For how long nothing must change where a stamp wrote whose collections have all ended; output may be late."""
_NEVER_QUIET_S = 90.0
_NOT_SEEN_TO_END = {"still", "overdue", "interrupted"}
_HOSTILE = {FindingKind.UNHASHED}
"""What a bundle says of itself where names were hostile; nothing is unexpected, or unsafe without being named."""
_NOT_GIVEN_BACK = "the lock of this stamp could not be given back"
"""Its place was away until the run had ended, which the run has said: it holds until the collection would be over."""
_SEALED = {RunState.DONE, RunState.PARTIAL}


def judge(world: World, stamp: StampProcess, reference: dict[str, str] | None) -> list[RunRecord]:
    """The runs of a world, all of whose promises were kept.

    Raises:
        ViolationError: one was not; it says which.
    """
    runs = []
    for state_dir in world.state_dirs:
        if (state_dir / "journal.sqlite").exists():
            _check_journal(state_dir / "journal.sqlite")
            run = world.latest(state_dir)
            if run is not None:
                runs.append(run)
        _no_secret_below(world, state_dir)
    for run in runs:
        _check_run(world, run)
    report = stamp.report()
    _check_stamp(world, runs, report)
    _check_locks(world, runs)
    _nothing_works(world, stamp, runs)
    _nothing_left_over(stamp, runs)
    _wait_until_quiet(world, stamp, runs)
    runs = [_seal_anew_what_has_grown(world, run) for run in runs]
    for run in runs:
        _check_run(world, run)
        _check_again(world, run, reference, stamp.harm(ROLES))
    _check_copy(world)
    check_exit_codes(world)
    return runs


def payload_of(world: World, run: RunRecord) -> dict[str, str]:
    """Name and digest of every zip of a sealed bundle: the output log and the folder's name hold times."""
    with _opened(world, world.destination) as store:
        return payload_in(store.at(run.bundle_name))


def _check_run(world: World, run: RunRecord) -> None:
    need(run.state.is_final, f"run {run.id} is still {run.state} after everybody attached in fair weather")
    need(not can_be_tried_again(run), f"run {run.id} cannot be finished in fair weather: {run.reason}")
    if run.state in {RunState.FAILED, RunState.STOPPED}:
        need(bool(run.reason) or run.state is RunState.STOPPED, f"run {run.id} is {run.state} and does not say why")
    story = [RunState(step.name) for step in run.steps if step.status == "state"]
    need(story[0] is RunState.PLANNED, f"the story of run {run.id} begins with {story[0]}")
    for old, new in pairwise(story):
        need(new in LEGAL[old], f"run {run.id} went from {old} to {new}")
    need(story[-1] is run.state, f"run {run.id} is {run.state}, and its story ends with {story[-1]}")
    sealed = {place.text: _check_bundle(world, place, run) for place in world.places()}
    if run.state in _SEALED:
        need(sealed[world.destination.text], f"run {run.id} is {run.state} and has no bundle")
    with _opened(world, world.written()) as store:
        arrived = [entry.path for entry in store.list(f"{run.bundle_name}/data", on_unsafe=lambda _: None)]
    need(not arrived or any(sealed.values()), f"run {run.id} is {run.state}; {len(arrived)} files arrived, unsealed")


def _wait_until_quiet(world: World, stamp: StampProcess, runs: list[RunRecord]) -> None:
    """Every collection of these runs has ended on the stamp, also one that nobody saw end, and nothing lands."""
    names = [run.bundle_name for run in runs]
    deadline = time.monotonic() + _NEVER_QUIET_S
    seen, since = _what_landed(world, names), time.monotonic()
    while time.monotonic() - since < _QUIET_S:
        need(time.monotonic() < deadline, "the stamp does not come to rest")
        time.sleep(0.2)
        at_work = [
            each
            for each in stamp.report()["collections"]
            if each["outcome"] == "running" and any(name in each["location"] for name in names)
        ]
        landed = _what_landed(world, names)
        if at_work or landed != seen:
            seen, since = landed, time.monotonic()


def _what_landed(world: World, names: list[str]) -> dict[str, int]:
    with _opened(world, world.written()) as store:
        return {
            entry.path: entry.size_bytes
            for name in names
            for entry in store.list(f"{name}/data", on_unsafe=lambda _: None)
        }


def _seal_anew_what_has_grown(world: World, run: RunRecord) -> RunRecord:
    """The run, after somebody has attached once more where the tool says that this may find something to do."""
    if not has_something_to_do(run):
        return run
    found = world.attach_at_rest(run)
    if found.facts.get("bundle_id") != run.facts.get("bundle_id"):
        world.figures.sealed_anew += 1
    return found


def _check_again(world: World, run: RunRecord, reference: dict[str, str] | None, harm: dict[str, list[str]]) -> None:
    """What was sealed still verifies when the stamp has come to rest, however the run ended, and says what is so."""
    for place in world.places():
        if _check_bundle(world, place, run):
            world.figures.bundles_verified_again += 1
    if reference is None or run.state not in _SEALED:
        return
    with _opened(world, world.destination) as store:
        check_coverage(world, run, store.at(run.bundle_name), reference, harm)
        world.figures.roles_held_against_the_truth += len(ROLES)


def _check_bundle(world: World, place: Place, run: RunRecord) -> bool:
    """Whether a sealed bundle is there; one that is verifies."""
    with _opened(world, place) as store:
        bundle = store.at(run.bundle_name)
        try:
            read_bundle(bundle)
        except (NotABundleError, StoreError):
            return False
        _check_content(world, bundle)
        return True


def _check_copy(world: World) -> None:
    """What two processes delivered at once is whole, and in one piece."""
    run = world.latest(world.state_dirs[0])
    if world.copy is None or run is None:
        return
    store = open_place(world.copy, world.copy_access)
    try:
        _check_content(world, store.at(run.bundle_name))
    finally:
        store.close()


def _check_content(world: World, bundle: Store) -> None:
    report = verify(bundle)
    hostile = any(fault.startswith("hostile-names") for fault in world.plan.faults)
    bad = [finding for finding in report.findings if not (hostile and finding.kind in _HOSTILE)]
    need(report.verdict is Verdict.VERIFIED or (hostile and not bad), f"{report.where}: {bad[:3]}")


def _check_stamp(world: World, runs: list[RunRecord], report: dict[str, Any]) -> None:
    need(not report["dangerous_calls"], f"dangerous commands were called: {report['dangerous_calls']}")
    for run in runs:
        own = [each for each in report["collections"] if run.bundle_name in each["location"]]
        need(len(own) <= 1, f"run {run.id} started {len(own)} collections")
        need(bool(own) or run.state not in _SEALED, f"run {run.id} is {run.state} without a collection")
    busy = any(fault.startswith("other-collection-running") for fault in world.plan.faults)
    extra = report["calls"] - len(report["collections"])
    need(busy or extra <= 0, f"{extra} collections were asked for beside a live one")


def _check_locks(world: World, runs: list[RunRecord]) -> None:
    """No stamp looks busy for longer than a few heartbeats, unless its collection may still run, or a place was away
    when its lock was to be given back, and that was said."""
    may_be_held = {
        run.id
        for run in runs
        if run.facts.get("end", {}).get("how") in _NOT_SEEN_TO_END
        or any(_NOT_GIVEN_BACK in text for text in run.facts.get("warnings", ()))
    }
    for place in world.places():
        with _opened(world, place) as store:
            lock = read_lock(store, runs[0].stamp) if runs else None
        need(
            lock is None or not lock.held or lock.on_stamp_until is None or lock.run_id in may_be_held,
            f"the lock in {place.text} is still held: {lock}",
        )


def _nothing_works(world: World, stamp: StampProcess, runs: list[RunRecord]) -> None:
    """Who says that a collection has ended, or was stopped, has ended it."""
    ended = [run for run in runs if _is_over(world, run)]
    deadline = time.monotonic() + _GRACE_S
    while at_work := [
        f"{run.id} ({run.state})"
        for run in ended
        for each in stamp.report()["collections"]
        if run.bundle_name in each["location"] and each["outcome"] == "running"
    ]:
        need(time.monotonic() < deadline, f"the endpoint still works for {at_work}")
        time.sleep(0.2)


def _is_over(world: World, run: RunRecord) -> bool:
    how = run.facts.get("end", {}).get("how")
    if run.state is RunState.STOPPED and how == "interrupted":
        # Its session is gone, and on a stamp of that kind it goes on without one: nobody can stop it, which was said.
        return not any(fault.startswith("collection-outlives-session") for fault in world.plan.faults)
    return how not in _NOT_SEEN_TO_END


def _nothing_left_over(stamp: StampProcess, runs: list[RunRecord]) -> None:
    if any(run.facts.get("end", {}).get("how") in _NOT_SEEN_TO_END for run in runs):
        return  # what may still run is left alone
    deadline = time.monotonic() + _GRACE_S
    # What could not be ended on a broken line is journalled, and ended by the next run of this stamp.
    known = {ids["shell_id"] for run in runs for ids in run.facts.get("opening", ())}
    while shells := [shell for shell in stamp.report()["shells"] if shell.split()[-1] not in known]:
        need(time.monotonic() < deadline, f"sessions are left on the endpoint: {shells}")
        time.sleep(0.2)


def _check_journal(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        answer = connection.execute("PRAGMA integrity_check").fetchone()[0]
    need(answer == "ok", f"the journal is damaged: {answer}")


def _no_secret_below(world: World, folder: Path) -> None:
    secrets = [world.password, world.lab.samba.credential.password, *filter(None, [world.sas])]
    signs = [secret.reveal().split("sig=")[-1].encode() for secret in secrets]
    for path in (*folder.rglob("*"), world.log):
        if path.is_file():
            content = path.read_bytes()
            need(not any(sign in content for sign in signs), f"a secret stands in {path}")


@contextmanager
def _opened(world: World, place: Place) -> Iterator[Store]:
    store = open_place(place, world.secret_of(place))
    try:
        yield store
    finally:
        store.close()
