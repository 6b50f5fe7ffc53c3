"""Coverage: for each role asked, what became of it, and the evidence."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from bridge.collection._window import Window
from bridge.collection.coverage import RoleState
from tests.support.payloads import (
    END,
    ERCS01,
    ERCS02,
    GOOD_LOG,
    GOOD_ZIP,
    LOGS,
    REQUEST,
    START,
    Collection,
    error_record,
    log_text,
    record,
    zip_name,
    zip_of,
)


@pytest.fixture
def collection(tmp_path: Path) -> Collection:
    return Collection(tmp_path)


def test_all_roles_with_whole_zips_are_complete(collection: Collection) -> None:
    collection.put(zip_name("Storage"))
    collection.put(zip_name("Storage", part=2))
    collection.put(zip_name("SeedRing", ERCS02))
    coverage = collection.assess()
    assert coverage.complete
    document = coverage.to_json()
    assert document["warnings"] == []
    assert document["counts"]["collected"] == 2
    by_name = {role["name"]: role for role in document["roles"]}
    assert by_name["Storage"]["zip_count"] == 2
    assert by_name["Storage"]["size_bytes"] == 2 * len(GOOD_ZIP)
    assert by_name["Storage"]["nodes"] == {ERCS01: "collected"}
    assert [node["name"] for node in document["nodes"]] == [ERCS01, ERCS02]


def test_a_role_without_output_is_unknown_and_the_coverage_incomplete(collection: Collection) -> None:
    collection.put(zip_name("Storage"))
    assert collection.states() == {"Storage": "collected", "SeedRing": "unknown"}
    assert not collection.assess().complete


# -- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("ACS-AzS-ACS01-20261123140000.zip", "ACS"),
        ("ACSBlob-AzS-ACS01-20261123140000.zip", "ACSBlob"),
        ("acsblob-azs-acs01.ZIP", "ACSBlob"),
        ("ACSBlob.zip", "ACSBlob"),
        ("StorageController-AzS-ERCS01.zip", "StorageController"),
        ("Storage-xxx2-xxx.zip", "Storage"),
        ("FabricRingServices-1.zip", "FabricRingServices"),
        ("SeedRing_AzS-ERCS01.zip", "SeedRing"),
    ],
)
def test_a_zip_belongs_to_the_longest_role_that_its_name_starts_with(
    collection: Collection, name: str, role: str
) -> None:
    collection.put(name)
    roles = ("ACS", "ACSBlob", "Storage", "StorageController", "FabricRing", "FabricRingServices", "SeedRing")
    states = collection.states(replace(REQUEST, roles=roles))
    assert {name for name, state in states.items() if state == "collected"} == {role}


def test_a_role_asked_in_other_letters_and_twice_is_one_role(collection: Collection) -> None:
    collection.put(zip_name("SeedRing"))
    assert collection.states(replace(REQUEST, roles=("seedring", "SEEDRING"))) == {"seedring": "collected"}


def test_a_role_that_nobody_documented_is_taken_as_asked(collection: Collection) -> None:
    collection.put(zip_name("BrandNewRole"))
    assert collection.states(replace(REQUEST, roles=("BrandNewRole",))) == {"BrandNewRole": "collected"}


def test_a_resource_provider_is_asked_for_like_a_role(collection: Collection) -> None:
    request = replace(REQUEST, roles=(), resource_providers=("eventhub",))
    assert collection.states(request) == {"eventhub": "unknown"}
    collection.put("eventhub-AzS-EH01.zip")
    assert collection.states(request) == {"eventhub": "collected"}


def test_output_of_a_role_that_was_not_asked_for_is_listed_and_costs_nothing(collection: Collection) -> None:
    for role in ("Storage", "SeedRing", "ECE"):
        collection.put(zip_name(role))
    collection.put("mystery.zip")
    collection.put("notes.txt", b"x")
    document = collection.assess().to_json()
    assert document["complete"]
    assert [(role["name"], role["asked"]) for role in document["roles"]][-1] == ("ECE", False)
    assert [file["path"] for file in document["other_zips"]] == [f"{LOGS.as_posix()}/mystery.zip"]
    assert document["other_files_count"] == 1


def test_role_zips_inside_one_outer_zip_are_found(collection: Collection) -> None:
    outer = zip_of({f"a/{zip_name('Storage')}": GOOD_ZIP, f"a/{zip_name('SeedRing')}": GOOD_ZIP})
    collection.put("AzureStackLogs-20261123140000-SAC14-ERCS01.zip", outer)
    coverage = collection.assess()
    assert coverage.complete
    assert {file.inside for role in coverage.roles for file in role.zips} == {
        f"{LOGS.as_posix()}/AzureStackLogs-20261123140000-SAC14-ERCS01.zip"
    }


# -- all roles --------------------------------------------------------------------------------------------------------


def test_with_all_roles_asked_each_that_was_worked_on_must_have_left_something(collection: Collection) -> None:
    everything = replace(REQUEST, roles=())
    collection.put(zip_name("Storage"))
    progress = {"operation": "SeedRing on AzS-ERCS01", "activity": "Get-AzureStackLog"}
    collection.records.append(record("progress", "", progress=progress))
    coverage = collection.assess(everything)
    assert {role.name: str(role.state) for role in coverage.roles} == {"SeedRing": "unknown", "Storage": "collected"}
    assert not coverage.complete
    collection.put(zip_name("SeedRing"))
    document = collection.assess(everything).to_json()
    assert document["complete"]
    assert "ECE" in document["roles_not_seen"]
    assert "Storage" not in document["roles_not_seen"]


def test_with_all_roles_asked_and_nothing_there_the_coverage_is_incomplete(collection: Collection) -> None:
    assert not collection.assess(replace(REQUEST, roles=())).complete


# -- zips that are not whole ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", [0, 1, 30, len(GOOD_ZIP) // 2, len(GOOD_ZIP) - 1])
@pytest.mark.parametrize("content", [GOOD_ZIP, zip_of({"inner.zip": GOOD_ZIP})], ids=["plain", "nested"])
def test_a_zip_that_was_cut_anywhere_makes_its_role_truncated(
    collection: Collection, kept: int, content: bytes
) -> None:
    collection.put(zip_name("Storage"))
    collection.put(zip_name("Storage", part=2), content[:kept])
    collection.put(zip_name("SeedRing"))
    coverage = collection.assess()
    role = next(role for role in coverage.roles if role.name == "Storage")
    assert role.state is RoleState.TRUNCATED
    assert role.nodes == {ERCS01: RoleState.TRUNCATED}
    assert role.evidence[0].file == (LOGS / zip_name("Storage", part=2)).as_posix()
    assert role.evidence[0].size_bytes == kept
    assert not coverage.complete


@pytest.mark.parametrize("members", [{}, {"a.log": b""}, {"folder/": b""}])
def test_a_zip_with_nothing_in_it_makes_its_role_empty(collection: Collection, members: Mapping[str, bytes]) -> None:
    collection.put(zip_name("Storage"), zip_of(members))
    collection.put(zip_name("SeedRing"))
    assert collection.states() == {"Storage": "empty", "SeedRing": "collected"}


def test_what_is_no_zip_at_all_is_not_collected(collection: Collection) -> None:
    collection.put(zip_name("Storage"), b"<html>proxy error</html>" * 100)
    collection.put(zip_name("SeedRing"))
    assert collection.states()["Storage"] == "truncated"


# -- what the endpoint said -------------------------------------------------------------------------------------------


def test_an_error_record_for_a_role_without_output_makes_it_failed(collection: Collection) -> None:
    collection.put(zip_name("SeedRing"))
    collection.records.append(error_record("The operation failed on its machines", target="Storage"))
    coverage = collection.assess()
    role = next(role for role in coverage.roles if role.name == "Storage")
    assert role.state is RoleState.FAILED
    assert role.evidence[0].kind == "error-record"
    assert role.evidence[0].at == "2026-11-23T14:01:00.000Z"


def test_an_error_record_for_a_role_with_output_makes_it_truncated(collection: Collection) -> None:
    collection.put(zip_name("Storage"))
    collection.put(zip_name("SeedRing"))
    collection.records.append(error_record("Log collection for role 'Storage' failed: the line broke"))
    assert collection.states() == {"Storage": "truncated", "SeedRing": "collected"}


def test_a_warning_that_a_role_is_skipped_makes_it_skipped(collection: Collection) -> None:
    collection.put(zip_name("SeedRing"))
    collection.records.append(record("warning", "The role 'Storage' was not found on this stamp and is skipped."))
    assert collection.states()["Storage"] == "skipped"


def test_a_line_that_nothing_was_found_makes_a_role_empty_with_the_lines_number(collection: Collection) -> None:
    collection.put(zip_name("SeedRing"))
    collection.say("first\r\n2026-11-23 [INFO] Role 'Storage': no log files found in the given time range\r\n")
    coverage = collection.assess()
    role = next(role for role in coverage.roles if role.name == "Storage")
    assert role.state is RoleState.EMPTY
    assert (role.evidence[0].kind, role.evidence[0].line) == ("output-log", 2)


def test_terminating_errors_count_only_where_output_is_missing(collection: Collection) -> None:
    collection.say(GOOD_LOG + 'PS>TerminatingError(Invoke-Command): "Role Storage: the share was gone"\n')
    collection.put(zip_name("Storage"))
    collection.put(zip_name("SeedRing"))
    whole = collection.assess().to_json()
    assert whole["complete"]
    assert whole["output_logs"][0]["terminating_errors"] == 1
    assert whole["known_failures"] == []
    (collection.root / LOGS / zip_name("Storage")).unlink()
    part = collection.assess().to_json()
    assert collection.states()["Storage"] == "failed"
    assert [failure["name"] for failure in part["known_failures"]] == ["terminating-error"]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("There is not enough space on the disk.", "disk-full"),
        ("... failed with 0x85200001", "0x85200001"),
        (
            "The syntax is not supported by this runspace. This might be because it is in no-language mode.",
            "no-language-mode",
        ),
        ("Parameter set cannot be resolved using the specified named parameters.", "ambiguous-parameters"),
        ("The term 'Get-AzureStackLogs' is not recognized as the name of a cmdlet", "unknown-command"),
        ("Cannot find the PrivilegedEndpoint session configuration in the WSMan: drive", "wrong-host"),
        ("This user is allowed a maximum number of 5 concurrent shells, which has been exceeded", "too-many-shells"),
        (
            "The specified module 'ECEClient.psm1' was not loaded because no valid module file was found",
            "outside-the-endpoint",
        ),
        ("the destination machine must be added to the TrustedHosts configuration setting.", "trusted-hosts"),
        ("OutputPath and OutputSharePath cannot be used together", "output-path-and-share"),
        ("Server failed to authenticate the request. AuthenticationFailed", "sas-refused"),
    ],
)
def test_known_failures_are_recognised_and_explained_with_their_fix(
    collection: Collection, text: str, name: str
) -> None:
    collection.put(zip_name("Storage"))
    collection.say(f"{GOOD_LOG}{text}\n")
    collection.records.append(error_record(text))
    (known,) = collection.assess().to_json()["known_failures"]
    assert (known["name"], known["count"]) == (name, 2)
    assert known["meaning"]
    assert known["fix"]


def test_a_full_disk_is_incomplete_even_where_every_role_left_something(collection: Collection) -> None:
    collection.put(zip_name("Storage"))
    collection.put(zip_name("SeedRing"))
    collection.say(f"{GOOD_LOG}There is not enough space on the disk.\n")
    assert not collection.assess().complete


def test_an_output_log_in_utf_16_is_read(collection: Collection) -> None:
    collection.put(zip_name("SeedRing"))
    collection.say("Role 'Storage': no log files found\r\n", "utf-16")
    assert collection.states()["Storage"] == "empty"


def test_without_the_output_log_the_coverage_is_incomplete(collection: Collection) -> None:
    collection.put(zip_name("Storage"))
    collection.put(zip_name("SeedRing"))
    (collection.root / LOGS / "Get-AzureStackLog_Output.log").unlink()
    coverage = collection.assess()
    assert not coverage.complete
    assert "absent" in coverage.to_json()["warnings"][0]


def test_a_command_that_ended_with_an_error_fails_what_it_had_not_reached(collection: Collection) -> None:
    collection.put(zip_name("Storage"))
    collection.say(f"{GOOD_LOG}[INFO] Role 'Storage': 1 zip files, 100 bytes\n")
    collection.records.append(error_record("The time given by TimeOutInMinutes is over.", terminating=True))
    assert collection.states() == {"Storage": "collected", "SeedRing": "failed"}


def test_a_collection_that_was_never_seen_to_end_is_incomplete(collection: Collection) -> None:
    collection.put(zip_name("Storage"))
    collection.put(zip_name("SeedRing"))
    assert not collection.assess(ended=False).complete


# -- nodes ------------------------------------------------------------------------------------------------------------


def test_a_node_that_could_not_be_reached_leaves_its_role_truncated(collection: Collection) -> None:
    collection.put(zip_name("Storage", ERCS01))
    collection.put(zip_name("SeedRing", ERCS01))
    collection.records.append(record("warning", f"Role 'Storage': the computer {ERCS02} could not be contacted."))
    coverage = collection.assess()
    role = next(role for role in coverage.roles if role.name == "Storage")
    assert role.state is RoleState.TRUNCATED
    assert role.nodes == {ERCS01: RoleState.COLLECTED, ERCS02: RoleState.FAILED}


def test_a_node_asked_for_that_nothing_names_is_said(collection: Collection) -> None:
    collection.put(zip_name("Storage", ERCS01))
    collection.put(zip_name("SeedRing", ERCS01))
    coverage = collection.assess(replace(REQUEST, nodes=("azs-ercs01", "azs-xrp01")))
    assert not coverage.complete
    assert [(node["name"], node["zip_count"]) for node in coverage.to_json()["nodes"]] == [
        ("azs-ercs01", 2),
        ("azs-xrp01", 0),
    ]


# -- time -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_the_times_found_in_the_logs_stand_beside_the_window_asked(collection: Collection, compression: int) -> None:
    for role in ("Storage", "SeedRing"):
        collection.put(zip_name(role), zip_of({"a.log": log_text(lines=5000)}, compression=compression))
    document = collection.assess().to_json()
    assert document["window"]["found"] == {
        "first": "2026-11-23T10:00:00Z",
        "last": "2026-11-23T14:00:00Z",
        "zone_assumed": False,
    }
    assert document["warnings"] == []


def test_logs_that_start_long_after_the_window_are_said(collection: Collection) -> None:
    collection.put(zip_name("SeedRing"))
    collection.put(zip_name("Storage"), zip_of({"a.log": log_text(START + timedelta(hours=3))}))
    coverage = collection.assess()
    assert coverage.complete
    (warning,) = coverage.to_json()["warnings"]
    assert warning.startswith("Storage: times were found from 2026-11-23T13:00:00Z")


def test_times_with_a_zone_are_converted_and_those_without_are_marked(collection: Collection) -> None:
    local = b"2026-11-23T12:00:00+02:00 a\n2026-11-23T16:00:00+0200 b\n1999-01-01T00:00:00Z old\n2026-99-99T00:00:00Z\n"
    collection.put(zip_name("Storage"), zip_of({"a.log": local}))
    collection.put(zip_name("SeedRing"), zip_of({"a.log": b"2026-11-23 11:00:00,123 x\n"}))
    roles = {role["name"]: role["found"] for role in collection.assess().to_json()["roles"]}
    assert roles["Storage"] == {"first": "2026-11-23T10:00:00Z", "last": "2026-11-23T14:00:00Z", "zone_assumed": False}
    assert roles["SeedRing"]["zone_assumed"] is True


def test_traces_older_than_five_days_are_announced_as_probably_gone(collection: Collection) -> None:
    collection.put(zip_name("Storage"))
    collection.put(zip_name("SeedRing"))
    old = replace(REQUEST, window=Window(END - timedelta(days=7), END))
    warnings = collection.assess(old).to_json()["warnings"]
    assert any("2026-11-18T14:00:00Z are probably gone" in warning for warning in warnings)


# -- hostile input ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "log",
    [
        "\0" * 100_000,
        "x" * 5_000_000,
        "Role '" * 100_000,
        "PS>TerminatingError\n" * 50_000,
        "\ud800".encode("utf-8", "surrogatepass").decode("latin-1"),
    ],
    ids=["zeros", "one long line", "quotes", "many errors", "not utf-8"],
)
def test_a_hostile_output_log_changes_nothing_for_roles_that_are_there(collection: Collection, log: str) -> None:
    collection.put(zip_name("Storage"))
    collection.put(zip_name("SeedRing"))
    collection.say(log)
    assert collection.assess().complete


@pytest.mark.parametrize(
    "hostile",
    [
        {},
        {"stream": None},
        {"stream": "error"},
        {"stream": "error", "error": 3, "text": ["x"]},
        {"stream": "progress", "progress": "x"},
    ],
)
def test_records_of_any_form_are_survived(collection: Collection, hostile: dict[str, Any]) -> None:
    collection.put(zip_name("Storage"))
    collection.put(zip_name("SeedRing"))
    collection.records.append(hostile)
    assert collection.assess().complete


def test_countless_evidence_is_kept_within_bounds(collection: Collection) -> None:
    collection.records.extend(error_record("Role 'Storage' failed " + "x" * 10_000) for _ in range(500))
    document = collection.assess().to_json()
    assert len(json.dumps(document)) < 100_000
    assert document["error_records"] == 500


def test_unsafe_names_in_the_payload_are_counted_and_left_alone(collection: Collection) -> None:
    collection.put(zip_name("Storage"))
    collection.put(zip_name("SeedRing"))
    (collection.root / LOGS / "link.zip").symlink_to("/etc/passwd")
    document = collection.assess().to_json()
    assert document["complete"]
    assert len(document["unsafe_names"]) == 1


def words(states: Sequence[RoleState]) -> set[str]:
    return {str(state) for state in states}


def test_the_states_are_those_of_the_documentation() -> None:
    assert words(list(RoleState)) == {"collected", "empty", "truncated", "skipped", "failed", "unknown"}
