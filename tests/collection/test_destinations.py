"""A destination that cannot be used is found before the endpoint is asked, and the error says what to do."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bridge.collection import Access, Outcome, Place, Request, RunState, collect
from bridge.errors import ExitCode, UsageError
from bridge.secrets import Credential, Secret
from tests.support.azurite import Azurite
from tests.support.fake_endpoint import FakeEndpoint, fake_ports
from tests.support.runs import QUICK, make_request
from tests.support.samba import Samba


def run(
    request: Request, access: Access, state_dir: Path, endpoint: FakeEndpoint, **secrets: Credential | Secret
) -> Outcome:
    with_secrets = Access(access.endpoint, **secrets)  # type: ignore[arg-type]
    return collect(request, with_secrets, state_dir=state_dir, settings=QUICK, ports=fake_ports(endpoint))


def assert_found_before(outcome: Outcome, endpoint: FakeEndpoint, *words: str) -> None:
    assert (outcome.state, outcome.exit_code) == (RunState.FAILED, ExitCode.PREFLIGHT), outcome
    said = f"{outcome.errors[0]} {outcome.errors[0].advice}"
    for word in words:
        assert word in said, said
    assert endpoint.sent == []


def test_a_folder_whose_parent_does_not_exist_is_no_destination(
    tmp_path: Path, access: Access, state_dir: Path, endpoint: FakeEndpoint
) -> None:
    deep = tmp_path / "nonexistent" / "deep"
    outcome = run(make_request(deep), access, state_dir, endpoint)
    assert_found_before(outcome, endpoint, str(tmp_path / "nonexistent"), "does not exist", "mount")
    assert not deep.parent.exists()


def test_a_file_where_a_folder_should_be_is_no_destination(
    tmp_path: Path, access: Access, state_dir: Path, endpoint: FakeEndpoint
) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    for place in (file, file / "below"):
        assert_found_before(run(make_request(place), access, state_dir, endpoint), endpoint, str(file))
    assert file.read_text() == "mine"


def test_a_bundle_is_no_destination_for_another_one(
    tmp_path: Path, access: Access, state_dir: Path, endpoint: FakeEndpoint
) -> None:
    first = run(make_request(tmp_path / "bundles"), access, state_dir, endpoint)
    endpoint.sent.clear()
    outcome = run(make_request(Path(str(first.bundle))), access, state_dir, endpoint)
    assert_found_before(outcome, endpoint, "is a bundle itself", "the folder that it lies in")


def test_the_staging_place_is_looked_at_as_the_destination_is(
    tmp_path: Path, access: Access, state_dir: Path, endpoint: FakeEndpoint
) -> None:
    (tmp_path / "file").write_text("mine")
    for staging in (tmp_path / "nowhere" / "near", tmp_path / "file"):
        request = make_request(tmp_path / "far", staging=Place.parse(str(staging)))
        assert_found_before(run(request, access, state_dir, endpoint), endpoint, str(staging))
    with pytest.raises(UsageError, match="is the destination itself"):
        make_request(tmp_path / "far", staging=Place.parse(str(tmp_path / "far")))


@pytest.mark.parametrize("share", ["readonly", "nosuchshare"])
def test_a_share_that_cannot_be_written_is_found(
    access: Access, state_dir: Path, endpoint: FakeEndpoint, samba: Samba, tmp_path: Path, share: str
) -> None:
    place = Place.parse(samba.url(share))
    for request in (
        replace(make_request(tmp_path), destination=place),
        replace(make_request(tmp_path / "far"), staging=place),
    ):
        side = "staging" if request.staging else "destination"
        outcome = run(request, access, state_dir, endpoint, **{side: samba.credential})
        assert_found_before(outcome, endpoint, share)


def test_a_version_that_the_blob_service_does_not_take_is_found_and_named(
    access: Access, state_dir: Path, endpoint: FakeEndpoint, azurite: Azurite, tmp_path: Path
) -> None:
    container = azurite.new_container()
    for version, staging in (("2099-01-01", None), ("2099-01-01", Place.parse(str(tmp_path / "near")))):
        place = Place.parse(azurite.container_url(container), api_version=version)
        request = replace(make_request(tmp_path), destination=place, staging=staging, direct=staging is None)
        outcome = run(request, access, state_dir, endpoint, destination=azurite.sas(container, "rwl"))
        assert_found_before(outcome, endpoint, version)
    nonsense = Place.parse(azurite.container_url(container), api_version="newest")
    request = replace(make_request(tmp_path), destination=nonsense, direct=True)
    outcome = run(request, access, state_dir, endpoint, destination=azurite.sas(container, "rwl"))
    assert_found_before(outcome, endpoint, "newest")


def test_a_container_that_does_not_exist_and_a_sas_that_is_not_valid_yet_are_found(
    access: Access, state_dir: Path, endpoint: FakeEndpoint, azurite: Azurite, tmp_path: Path
) -> None:
    container = azurite.new_container()
    place = Place.parse(azurite.container_url(container))
    request = replace(make_request(tmp_path), destination=place, direct=True)
    early = Secret(_starting(azurite.sas(container, "rwl").reveal(), datetime.now(UTC) + timedelta(hours=1)))
    assert_found_before(run(request, access, state_dir, endpoint, destination=early), endpoint, "begins at")

    gone = Place.parse(azurite.container_url("no-such-container"))
    outcome = run(
        replace(request, destination=gone),
        access,
        state_dir,
        endpoint,
        destination=azurite.sas("no-such-container", "rwl"),
    )
    assert_found_before(outcome, endpoint, "no-such-container")


def _starting(sas: str, moment: datetime) -> str:
    """The SAS with another start: its signature no longer fits, which nobody gets to look at."""
    parts = [part for part in sas.lstrip("?").split("&") if not part.startswith("st=")]
    return "&".join([*parts, f"st={moment:%Y-%m-%dT%H:%M:%SZ}"])
