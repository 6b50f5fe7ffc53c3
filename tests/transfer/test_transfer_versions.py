"""To a service that is older than this program the transfer goes on in a version that it accepts, by itself."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest

from bridge.errors import ApiVersionError, DeliveryFailedError
from bridge.store.transfer import ContainerAccess, LeanContainer, Note, TransferEvent, TransferItem, transfer
from tests.support.scripted_service import Answer, Request, ScriptedService
from tests.support.transfer_lab import MIB, container, made_up

REFUSAL = (
    b"<Error><Code>InvalidHeaderValue</Code><Message>The value for one of the HTTP headers is not in the correct"
    b" format.</Message><HeaderName>x-ms-version</HeaderName></Error>"
)
SIZES = {"large.zip": 9 * MIB, **{f"{number}.log": 1000 for number in range(40)}}
ITEMS = [TransferItem(path, size) for path, size in SIZES.items()]


def no_newer_than(newest: str, *, lists: bool = True, reads: bool = True) -> Callable[[Request], Answer | None]:
    """Refuses newer versions; where nothing may be listed or read, that is said before the version is looked at."""

    def answer(request: Request) -> Answer | None:
        if request.method == "GET" and not (lists if "comp=list&" in request.target else reads):
            return Answer(403, {"x-ms-error-code": "AuthorizationPermissionMismatch"})
        if request.headers["x-ms-version"] > newest:
            return Answer(400, {"x-ms-error-code": "InvalidHeaderValue"}, REFUSAL)
        return None

    return answer


@pytest.mark.parametrize("newest", ["2017-11-09", "2017-04-17"])
@pytest.mark.parametrize("sizes", ["large.zip", ".log", ""], ids=["blocks", "small", "mixed"])
@pytest.mark.parametrize(
    ("lists", "reads"), [(True, True), (False, True), (False, False)], ids=["listed", "not listed", "write-only"]
)
def test_an_older_service_is_sent_everything_in_a_version_that_it_accepts(
    newest: str, sizes: str, lists: bool, reads: bool
) -> None:
    items = [item for item in ITEMS if item.path.endswith(sizes)]
    events: list[TransferEvent] = []
    with ScriptedService(no_newer_than(newest, lists=lists, reads=reads)) as service:
        target = container(service.port, api_version=None)
        assert isinstance(target, LeanContainer)
        result = transfer(made_up(SIZES), target, items, on_event=events.append)
        puts = [request for request in service.requests if request.method == "PUT"]
    assert result.files == len(items)
    assert result.retries == 0, "a version that is refused is no failure of the line"
    accepted = [put for put in puts if put.headers["x-ms-version"] == newest]
    assert {put.target.partition("?")[0] for put in accepted} == {
        f"/account/container/west/{one.path}" for one in items
    }
    contents = [put for put in accepted if "blocklist" not in put.target]
    assert sum(put.body_bytes for put in contents) == sum(item.size_bytes for item in items)
    assert all("Content-MD5" in put.headers and "x-ms-content-crc64" not in put.headers for put in contents)
    told = [event.text for event in events if isinstance(event, Note) and "API version" in event.text]
    versions = ["2019-02-02", "2017-11-09", "2017-04-17"][: 2 if newest == "2017-11-09" else 3]
    assert len(told) == len(versions) - 1, "each step is told once, however many connections meet it"
    assert all(older in text and newer in text for text, (newer, older) in zip(told, pairwise(versions), strict=True))
    assert ContainerAccess.of(target).api_version == newest


def test_a_version_that_was_set_is_not_changed_but_named() -> None:
    with ScriptedService(no_newer_than("2017-11-09")) as service, pytest.raises(DeliveryFailedError) as failure:
        transfer(made_up(SIZES), container(service.port, "2019-02-02"), ITEMS)
    assert isinstance(failure.value.__cause__, ApiVersionError)
    assert "does not accept API version 2019-02-02" in str(failure.value)
    assert "api_version" in failure.value.advice
    assert {request.headers["x-ms-version"] for request in service.requests} == {"2019-02-02"}


@pytest.mark.parametrize("lists", [True, False], ids=["listed", "not listed"])
def test_a_service_older_than_all_versions_is_named_and_not_asked_for_ever(lists: bool) -> None:
    with ScriptedService(no_newer_than("2009-09-19", lists=lists)) as service:
        with pytest.raises(DeliveryFailedError) as failure:
            transfer(made_up(SIZES), container(service.port, None), ITEMS)
        asked = {
            request.headers["x-ms-version"]
            for request in service.requests
            if lists or "comp=list&" not in request.target
        }
    assert isinstance(failure.value.__cause__, ApiVersionError)
    assert "2017-04-17" in str(failure.value)
    assert asked == {"2019-02-02", "2017-11-09", "2017-04-17"}
