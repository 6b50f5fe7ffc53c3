"""The simulated portal and administrator ARM endpoint: what health checks and ``watch`` ask of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests

from bridge.simulator.stamp import StampOptions, StampState
from bridge.simulator.stamp._portal import Portal

ALERTS = (
    "/subscriptions/0/resourceGroups/System.local/providers/Microsoft.InfrastructureInsights.Admin"
    "/regionHealths/local/alerts"
)


@pytest.fixture
def state() -> StampState:
    return StampState(StampOptions())


@pytest.fixture
def portal(state: StampState) -> Iterator[Portal]:
    with Portal(state) as portal:
        yield portal


def get(portal: Portal, path: str, *, token: str | None = None) -> requests.Response:
    headers = {"Authorization": f"Bearer {token or portal.token.reveal()}"}
    return requests.get(path if path.startswith("http") else portal.url + path, headers=headers, timeout=10)


def all_alerts(portal: Portal, query: str = "") -> list[dict[str, Any]]:
    url, found = f"{ALERTS}?api-version=2016-05-01{query}", []
    while url:
        page = get(portal, url).json()
        found += page["value"]
        url = page.get("nextLink", "")
    return found


def test_the_discovery_document_needs_no_token_but_an_api_version(portal: Portal) -> None:
    answer = requests.get(f"{portal.url}/metadata/endpoints?api-version=2015-01-01", timeout=10)
    assert answer.json()["authentication"]["audiences"]
    assert requests.get(f"{portal.url}/metadata/endpoints", timeout=10).status_code == 400


def test_the_portal_page_answers(portal: Portal) -> None:
    assert "Azure Stack Hub" in requests.get(f"{portal.url}/", timeout=10).text


def test_alerts_need_the_bearer_token(portal: Portal) -> None:
    assert get(portal, f"{ALERTS}?api-version=2016-05-01", token="wrong").status_code == 401
    assert get(portal, f"{ALERTS}?api-version=2016-05-01").status_code == 200


def test_an_alert_appears_when_raised_and_is_closed_when_closed(state: StampState, portal: Portal) -> None:
    alert_id = state.alerts.raise_alert("Urp.UpdateFailure")
    (raised,) = all_alerts(portal)
    assert raised["properties"]["faultTypeId"] == "Urp.UpdateFailure"
    assert raised["properties"]["state"] == "Active"
    assert raised["properties"]["closedTimestamp"] == ""
    state.alerts.close_alert(alert_id)
    assert get(portal, f"{raised['id']}?api-version=2016-05-01").json()["properties"]["state"] == "Closed"
    assert all_alerts(portal, "&$filter=Properties/State eq 'Active'") == []


def test_many_alerts_come_in_pages(state: StampState, portal: Portal) -> None:
    raised = {state.alerts.raise_alert("FRP.Heartbeat.InfraVM") for _ in range(23)}
    assert {alert["properties"]["alertId"] for alert in all_alerts(portal)} == raised


def test_an_unknown_path_and_an_unknown_alert_are_not_found(portal: Portal) -> None:
    assert get(portal, "/nothing/here").status_code == 404
    assert get(portal, f"{ALERTS}/nothing?api-version=2016-05-01").status_code == 404


def test_a_portal_that_goes_down_refuses_and_comes_back_at_the_same_address(portal: Portal) -> None:
    url = portal.url
    portal.take_down()
    with pytest.raises(requests.ConnectionError):
        requests.get(url, timeout=10)
    portal.bring_up()
    assert portal.url == url
    assert requests.get(url, timeout=10).status_code == 200


def test_the_fault_portal_down_starts_it_down() -> None:
    with Portal(StampState(StampOptions(faults=("portal-down",)))) as portal, pytest.raises(requests.ConnectionError):
        requests.get(portal.url, timeout=10)
