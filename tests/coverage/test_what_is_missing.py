"""Coverage says what is missing where a zip of the role is there, and says nothing is missing where all is there."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from bridge.collection.coverage import Coverage, RoleState
from bridge.collection.coverage._result import RoleCoverage
from tests.support.payloads import (
    END,
    ERCS01,
    ERCS02,
    GOOD_LOG,
    GOOD_ZIP,
    REQUEST,
    START,
    Collection,
    error_record,
    log_text,
    zip_name,
    zip_of,
)

STORAGE = replace(REQUEST, roles=("Storage",))
OUTER = "AzureStackLogs-20261123140000-SAC14-ERCS01.zip"
WITH_EVENTS = {"Logs/a.log": log_text(), "WindowsEventLogs/System_1.evtx": b"ElfFile" * 100}
WITHOUT_EVENTS = {"Logs/a.log": log_text()}


@pytest.fixture
def collection(tmp_path: Path) -> Collection:
    return Collection(tmp_path)


def role_of(coverage: Coverage, name: str) -> RoleCoverage:
    return next(role for role in coverage.roles if role.name == name)


def warnings_of(coverage: Coverage) -> str:
    return "\n".join(coverage.to_json()["warnings"])


# -- zips that an error names -----------------------------------------------------------------------------------------

COULD_NOT_MOVE = r"Could not move C:\MASLogs\{name} to \\nas\drop\x: The specified network name is no longer available."


def test_a_zip_that_an_error_record_names_and_that_is_not_there_is_missing(collection: Collection) -> None:
    collection.put(zip_name("Storage", ERCS01))
    missing = zip_name("Storage", ERCS02)
    collection.records.append(error_record(COULD_NOT_MOVE.format(name=missing)))
    coverage = collection.assess(STORAGE)
    role = role_of(coverage, "Storage")
    assert role.state is RoleState.TRUNCATED
    assert missing in role.explanation
    assert role.nodes == {ERCS01: RoleState.COLLECTED, ERCS02: RoleState.FAILED}
    assert not coverage.complete


def test_an_error_line_of_the_output_log_that_names_a_missing_zip_counts_as_well(collection: Collection) -> None:
    collection.put(zip_name("Storage", ERCS01))
    collection.say(f"{GOOD_LOG}[ERROR] {COULD_NOT_MOVE.format(name=zip_name('Storage', ERCS02))}\n")
    assert collection.states(STORAGE) == {"Storage": "truncated"}


def test_a_zip_that_an_error_names_and_that_arrived_in_the_end_is_not_missing(collection: Collection) -> None:
    collection.put(zip_name("Storage", ERCS01))
    collection.records.append(error_record(COULD_NOT_MOVE.format(name=zip_name("Storage", ERCS01).upper())))
    assert collection.assess(STORAGE).complete


def test_a_role_of_which_only_a_zip_that_could_not_be_moved_is_known_has_failed(collection: Collection) -> None:
    collection.records.append(error_record(COULD_NOT_MOVE.format(name=zip_name("Storage"))))
    assert collection.states(STORAGE) == {"Storage": "failed"}


def test_with_all_roles_asked_a_role_whose_only_zip_could_not_be_moved_is_missing(collection: Collection) -> None:
    collection.put(zip_name("SeedRing"))
    collection.records.append(error_record(COULD_NOT_MOVE.format(name=zip_name("Storage"))))
    assert collection.states(replace(REQUEST, roles=())) == {"SeedRing": "collected", "Storage": "failed"}


def test_fewer_zips_than_the_output_log_tells_of_are_a_truncated_role(collection: Collection) -> None:
    collection.put(zip_name("Storage"))
    collection.say(f"{GOOD_LOG}2026-11-23 14:00:00 [INFO] Role 'Storage': 2 zip files, 9999 bytes\n")
    coverage = collection.assess(STORAGE)
    assert role_of(coverage, "Storage").state is RoleState.TRUNCATED
    assert role_of(coverage, "Storage").evidence[0].line == 4
    collection.put(zip_name("Storage", part=2))
    assert collection.assess(STORAGE).complete


# -- known failures that cost output ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Server failed to authenticate the request. Signature not valid in the specified time frame", "sas-refused"),
        ("The specified network name is no longer available.", "share-lost"),
    ],
)
def test_a_refused_sas_or_a_lost_share_is_incomplete_even_where_every_role_left_something(
    collection: Collection, text: str, name: str
) -> None:
    collection.put(zip_name("Storage"))
    collection.records.append(error_record(text))
    coverage = collection.assess(STORAGE)
    assert not coverage.complete
    assert [failure["name"] for failure in coverage.to_json()["known_failures"]] == [name]


# -- machines whose event logs are missing ----------------------------------------------------------------------------


def test_a_machine_without_event_logs_beside_others_that_have_some_is_truncated(collection: Collection) -> None:
    collection.put(zip_name("VirtualMachines", ERCS01), zip_of(WITH_EVENTS))
    collection.put(zip_name("VirtualMachines", ERCS02), zip_of(WITHOUT_EVENTS))
    coverage = collection.assess(replace(REQUEST, roles=("VirtualMachines",)))
    role = role_of(coverage, "VirtualMachines")
    assert role.state is RoleState.TRUNCATED
    assert role.nodes == {ERCS01: RoleState.COLLECTED, ERCS02: RoleState.TRUNCATED}
    assert ERCS02 in role.explanation
    (known,) = coverage.to_json()["known_failures"]
    assert (known["name"], known["source"]) == ("vm-off", "REF")
    assert "--recover-vm-logs" in known["fix"]


def test_a_machine_whose_event_logs_lie_in_another_part_or_role_is_not_off(collection: Collection) -> None:
    collection.put(zip_name("Storage", ERCS01), zip_of(WITH_EVENTS))
    collection.put(zip_name("Storage", ERCS02), zip_of(WITHOUT_EVENTS))
    collection.put(zip_name("Storage", ERCS02, part=2), zip_of(WITH_EVENTS))
    collection.put(zip_name("SeedRing", ERCS01), zip_of(WITH_EVENTS))
    collection.put(zip_name("SeedRing", ERCS02), zip_of(WITHOUT_EVENTS))
    assert collection.assess().complete


def test_a_machine_that_is_spelt_in_upper_case_elsewhere_is_not_off(collection: Collection) -> None:
    collection.put(zip_name("Storage", ERCS01), zip_of(WITH_EVENTS))
    collection.put(zip_name("Storage", ERCS02), zip_of(WITHOUT_EVENTS))
    collection.put(zip_name("Storage", ERCS02.upper(), part=2), zip_of(WITH_EVENTS))
    assert collection.assess(STORAGE).complete


def test_the_role_of_event_logs_without_any_is_truncated_unless_others_were_asked_for(collection: Collection) -> None:
    collection.put(zip_name("VirtualMachines"), zip_of(WITHOUT_EVENTS))
    request = replace(REQUEST, roles=("VirtualMachines",))
    assert collection.states(request) == {"VirtualMachines": "truncated"}
    assert collection.assess(replace(request, log_types=("File", "Share"))).complete


def test_event_logs_that_may_lie_in_a_zip_inside_are_not_said_to_be_missing(collection: Collection) -> None:
    collection.put(zip_name("VirtualMachines"), zip_of({"inner.zip": zip_of(WITH_EVENTS)}))
    assert collection.assess(replace(REQUEST, roles=("VirtualMachines",))).complete


# -- time -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hours", [-30, 30])
def test_a_role_with_all_its_times_outside_the_window_is_not_collected(collection: Collection, hours: int) -> None:
    off = timedelta(hours=hours)
    collection.put(zip_name("Storage"), zip_of({"a.log": log_text(START + off, END + off)}))
    collection.put(zip_name("SeedRing"))
    coverage = collection.assess()
    assert role_of(coverage, "Storage").state is RoleState.EMPTY
    assert "window" in role_of(coverage, "Storage").explanation
    assert role_of(coverage, "SeedRing").state is RoleState.COLLECTED
    assert not coverage.complete


def test_a_few_foreign_times_are_no_log_outside_the_window(collection: Collection) -> None:
    collection.put(zip_name("Storage"), zip_of({"a.json": b'{"built": "2026-09-01T00:00:00Z"}', "b.etl": b"x"}))
    assert collection.assess(STORAGE).complete


@pytest.mark.parametrize(("start", "end"), [(START, END - timedelta(hours=2)), (START + timedelta(hours=2), END)])
def test_every_role_short_by_the_same_end_of_the_window_points_to_the_clock_of_the_stamp(
    collection: Collection, start: object, end: object
) -> None:
    for role in ("Storage", "SeedRing"):
        collection.put(zip_name(role), zip_of({"a.log": log_text(start, end)}))  # type: ignore[arg-type]
    coverage = collection.assess()
    assert not coverage.complete
    assert "clock" in warnings_of(coverage)


def test_the_beginning_of_large_deflated_logs_does_not_tell_where_they_end(collection: Collection) -> None:
    large = log_text(lines=300_000)
    for role in ("Storage", "SeedRing"):
        collection.put(zip_name(role), zip_of({"a.log": large}, compression=zipfile.ZIP_DEFLATED))
    coverage = collection.assess()
    assert coverage.complete
    assert warnings_of(coverage) == ""


def test_every_role_empty_points_to_the_clock_of_the_stamp_with_its_own_time(collection: Collection) -> None:
    empty = "".join(f"[INFO] Role '{role}': no log files found in the given time range\n" for role in REQUEST.roles)
    collection.say(f"Windows PowerShell transcript start\nStart time: 20261123020000\n{empty}")
    coverage = collection.assess()
    assert not coverage.complete
    assert "2026-11-23 02:00:00" in warnings_of(coverage)


# -- nodes ------------------------------------------------------------------------------------------------------------


def test_a_node_asked_for_is_unproven_where_no_zip_names_a_machine(collection: Collection) -> None:
    collection.put("Storage-1.zip")
    coverage = collection.assess(replace(STORAGE, nodes=("AzS-Node01",)))
    assert not coverage.complete
    assert "AzS-Node01" in warnings_of(coverage)


def test_a_node_asked_for_is_found_as_the_folder_inside_a_zip(collection: Collection) -> None:
    collection.put("Storage-1.zip", zip_of({"AzS-Node01/Storage/a.log": log_text(), "AzS-Node01/x.etl": b"x"}))
    coverage = collection.assess(replace(STORAGE, nodes=("azs-node01",)))
    assert coverage.complete
    assert role_of(coverage, "Storage").nodes == {"azs-node01": RoleState.COLLECTED}


# -- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["My-Role", "Microsoft.ContainerRegistry", "my_rp.v2-x"])
@pytest.mark.parametrize("rest", ["-AzS-X01-20261123140000.zip", ".zip", "_AzS-X01.zip"])
def test_a_role_asked_for_may_have_dashes_and_dots_in_its_name(collection: Collection, role: str, rest: str) -> None:
    collection.put(f"{role}{rest}")
    assert collection.states(replace(REQUEST, roles=(role,))) == {role: "collected"}


def test_the_longest_role_asked_for_has_the_zip(collection: Collection) -> None:
    collection.put("Storage-Extra-AzS-X01-20261123140000.zip")
    request = replace(REQUEST, roles=("Storage", "Storage-Extra"))
    assert collection.states(request) == {"Storage": "unknown", "Storage-Extra": "collected"}


# -- zips in one outer zip --------------------------------------------------------------------------------------------


def outer(collection: Collection, members: Mapping[str, bytes], **options: int) -> None:
    collection.put(OUTER, zip_of(members, **options))


def test_every_role_zip_of_a_large_outer_zip_counts(collection: Collection) -> None:
    blobs = {f"f/{zip_name('ACSBlob', f'AzS-A{number:03}')}": GOOD_ZIP for number in range(300)}
    outer(collection, blobs | {f"f/{zip_name('Storage')}": GOOD_ZIP})
    coverage = collection.assess(replace(REQUEST, roles=("ACSBlob", "Storage")))
    assert coverage.complete
    assert len(role_of(coverage, "ACSBlob").zips) == 300


@pytest.mark.parametrize("content", [b"garbage, no zip", GOOD_ZIP[:40], GOOD_ZIP[:-30]], ids=["garbage", "cut", "end"])
def test_a_role_zip_that_is_not_whole_inside_an_outer_zip_is_truncated(collection: Collection, content: bytes) -> None:
    outer(collection, {f"f/{zip_name('Storage')}": GOOD_ZIP, f"f/{zip_name('Storage', ERCS02)}": content})
    coverage = collection.assess(STORAGE)
    role = role_of(coverage, "Storage")
    assert role.state is RoleState.TRUNCATED
    assert role.nodes == {ERCS01: RoleState.COLLECTED, ERCS02: RoleState.TRUNCATED}


def test_a_role_zip_that_is_deflated_inside_an_outer_zip_is_not_called_good(collection: Collection) -> None:
    outer(collection, {f"f/{zip_name('Storage')}": GOOD_ZIP}, compression=zipfile.ZIP_DEFLATED)
    coverage = collection.assess(STORAGE)
    assert [str(file.state) for file in role_of(coverage, "Storage").zips] == ["unread"]
    assert "could not be opened" in warnings_of(coverage)


def test_the_times_of_the_logs_in_an_outer_zip_are_found(collection: Collection) -> None:
    outer(collection, {f"f/{zip_name('Storage')}": GOOD_ZIP})
    found = collection.assess(STORAGE).to_json()["window"]["found"]
    assert (found["first"], found["last"]) == ("2026-11-23T10:00:00Z", "2026-11-23T14:00:00Z")


def test_more_zips_inside_than_are_looked_at_are_told(collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.collection.coverage._zip.MAX_NESTED", 3)
    outer(collection, {f"f/{zip_name('Storage', f'AzS-A{number:03}')}": GOOD_ZIP for number in range(5)})
    coverage = collection.assess(STORAGE)
    assert not coverage.complete
    assert "5" in warnings_of(coverage)


# -- what was never seen to end ---------------------------------------------------------------------------------------


def test_a_role_with_zips_of_a_collection_that_was_not_seen_to_end_is_truncated(collection: Collection) -> None:
    collection.put(zip_name("Storage"))
    coverage = collection.assess(ended=False)
    states = {role.name: (str(role.state), role.explanation) for role in coverage.roles}
    assert states["Storage"] == (
        "truncated",
        "1 zips arrived, and the collection was never seen to end: more may have been to come.",
    )
    assert states["SeedRing"] == ("unknown", "No zip arrived, and the collection was never seen to reach the role.")


def test_a_role_whose_zips_are_all_there_is_collected_though_the_rest_was_not_seen_to_end(
    collection: Collection,
) -> None:
    collection.put(zip_name("Storage"))
    collection.say(f"{GOOD_LOG}[INFO] Role 'Storage': 1 zip files, 100 bytes\n[INFO] Role 'SeedRing': collecting\n")
    coverage = collection.assess(ended=False)
    assert role_of(coverage, "Storage").state is RoleState.COLLECTED
    assert role_of(coverage, "SeedRing").explanation == ("No zip arrived, and the collection was never seen to end.")


def test_a_role_that_a_terminating_error_may_have_cut_short_is_not_called_collected(collection: Collection) -> None:
    collection.put(zip_name("Storage"))
    failure = "Failed to write to the share: it is away."
    collection.records.append(error_record(failure, terminating=True))
    role = role_of(collection.assess(STORAGE), "Storage")
    assert (role.state, role.evidence[0].text) == (RoleState.TRUNCATED, failure)
    assert "the command ended with an error" in role.explanation
    collection.say(f"{GOOD_LOG}[INFO] Role 'Storage': 1 zip files, 100 bytes\n")
    assert role_of(collection.assess(STORAGE), "Storage").state is RoleState.COLLECTED


# -- the command's own line -------------------------------------------------------------------------------------------


def test_the_commands_own_line_in_the_output_log_is_no_word_about_roles_or_nodes(collection: Collection) -> None:
    collection.say(
        "PS>Get-AzureStackLog -FilterByRole 'Storage','SeedRing' -FilterByNode AzS-ERCS02 -TimeOutInMinutes 240\n"
        "PS C:\\> Get-AzureStackLog -FilterByRole SeedRing -ErrorAction Stop -FilterByNode AzS-ERCS02\n"
    )
    collection.put(zip_name("Storage"))
    coverage = collection.assess()
    assert {role.name: str(role.state) for role in coverage.roles} == {"Storage": "collected", "SeedRing": "unknown"}
    assert [node["name"] for node in coverage.to_json()["nodes"]] == [ERCS01]
    assert [role.name for role in collection.assess(replace(REQUEST, roles=())).roles] == ["Storage"]


# -- bounds -----------------------------------------------------------------------------------------------------------


def test_countless_machines_in_an_output_log_are_kept_within_bounds(collection: Collection) -> None:
    collection.put(zip_name("Storage"))
    lines = (
        "Role 'Storage': ERROR failed: " + " ".join(f"a{line}-node{number:03}" for number in range(100))
        for line in range(1_000)
    )
    collection.say("\n".join(lines))
    document = collection.assess(STORAGE).to_json()
    assert len(document["nodes"]) <= 2_001
    assert len(document["roles"][0]["nodes"]) <= 2_001
    assert len(str(document)) < 10_000_000
    assert any("computers" in warning for warning in document["warnings"])


# -- records that were lost -------------------------------------------------------------------------------------------


def test_records_that_were_lost_leave_it_open_whether_all_was_collected(collection: Collection) -> None:
    collection.put(zip_name("Storage"))
    assert collection.assess(STORAGE, records_lost=0).complete
    coverage = collection.assess(STORAGE, records_lost=3)
    assert not coverage.complete
    assert "3 records" in warnings_of(coverage)
