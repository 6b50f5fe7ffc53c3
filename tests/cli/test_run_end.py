"""What is said at the end of a run, and of places that cannot be used."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from bridge.collection import Outcome, RunState
from bridge.errors import ExitCode, InterruptedRunError, UsageError
from bridge.settings import Settings
from cli._console import Console
from cli._places import find_place
from cli._run import tell


def said(capsys: pytest.CaptureFixture[str], **facts: Any) -> str:
    outcome = Outcome(
        **{
            "run_id": "r",
            "state": RunState.DONE,
            "exit_code": ExitCode.OK,
            "bundle_name": "b",
            "started": datetime(2026, 11, 23, tzinfo=UTC),
            "bundle": "/bundles/b",
            "bundle_id": "0" * 64,
            **facts,
        }
    )
    tell(Console(as_json=False), outcome)
    return capsys.readouterr().err


def test_the_fate_of_the_staged_copy_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert r"staged copy is kept, sealed as well: \\nas\stage\b" in said(capsys, staging=r"\\nas\stage\b")
    assert r"staged copy is removed: \\nas\stage\b" in said(capsys, staging_removed=r"\\nas\stage\b")
    assert "staged" not in said(capsys)
    kept = said(capsys, staging="/near/b", warnings=("the staging copy is kept (/near/b): 1 file was not delivered",))
    assert "--remove-staging" not in kept


def test_of_many_files_that_no_checksum_proves_a_few_are_named_and_the_rest_are_counted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = said(capsys, unchecked=tuple(f"data/{number}.zip" for number in range(600)))
    assert "no checksum proves data/0.zip, data/1.zip, data/2.zip and 597 more" in text
    assert text.count("data/") == 3


def test_a_partial_run_ends_with_the_roles_to_ask_for_again(capsys: pytest.CaptureFixture[str]) -> None:
    def role(name: str, state: str) -> dict[str, Any]:
        return {"name": name, "state": state, "zip_count": 0, "size_bytes": 0, "explanation": ""}

    roles = [role("ACS", "failed"), role("Storage", "collected"), role("NC", "truncated")]
    text = said(capsys, state=RunState.PARTIAL, exit_code=ExitCode.PARTIAL, coverage={"roles": roles})
    assert "the same command with --role ACS,NC\n" in text
    assert "next: pep-bridge verify /bundles/b" in text
    assert "partial" not in said(capsys)


def test_that_a_run_goes_on_is_not_said_beside_the_error_that_says_it(capsys: pytest.CaptureFixture[str]) -> None:
    left = InterruptedRunError(detail="the endpoint goes on with run r", fix="Go on with 'pep-bridge attach r'.")
    facts: dict[str, Any] = {"state": RunState.DETACHED, "exit_code": ExitCode.INTERRUPTED, "bundle_id": None}
    assert said(capsys, **facts, errors=(left,)) == ""
    assert "next: pep-bridge attach r" in said(capsys, **facts)


def test_an_api_version_that_is_no_date_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="foo"):
        find_place("https://account.blob.example/logs", Settings(), api_version="foo")
    place = find_place("https://account.blob.example/logs", Settings(), api_version="2019-02-02")
    assert place.api_version == "2019-02-02"
