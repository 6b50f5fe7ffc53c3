"""Alerts are read from the simulated portal and the simulated endpoint, and nothing odd is taken for good health."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from bridge.errors import AuthenticationFailedError, HealthUnknownError
from bridge.secrets import Credential, Secret
from bridge.settings import load_settings
from bridge.simulator.stamp import SimulatedStamp, StampOptions
from bridge.stamp import Stamp
from bridge.watch import Alert, ArmAlerts, EndpointAlerts, Health, IdentityToken, static_token
from bridge.watch._health import _find_alerts, checked_arm_url, read_metadata

NODE = "FRP.Heartbeat.PhysicalNode"
SUBSCRIPTION = "11111111-1111-1111-1111-111111111111"


@pytest.fixture(scope="module")
def simulated() -> Iterator[SimulatedStamp]:
    with SimulatedStamp(StampOptions(duration_s=0.1, size_bytes=100_000)) as stamp:
        yield stamp


@pytest.fixture
def raised(simulated: SimulatedStamp) -> Iterator[Any]:
    """Raises alerts and closes them at the end of the test."""
    ids: list[str] = []

    def raise_alert(fault: str) -> str:
        ids.append(simulated.state.alerts.raise_alert(fault))
        return ids[-1]

    yield raise_alert
    for each in ids:
        simulated.state.alerts.close_alert(each)


def the_stamp(simulated: SimulatedStamp) -> Stamp:
    return load_settings(simulated.config_file).settings.stamp(simulated.name)


def arm(simulated: SimulatedStamp, token: str | None = None) -> ArmAlerts:
    secret = simulated.portal.token if token is None else Secret(token)
    return ArmAlerts(simulated.name, simulated.portal.url, "local", static_token(secret), subscription=SUBSCRIPTION)


def endpoint(simulated: SimulatedStamp, folder: Path, password: Secret | None = None) -> EndpointAlerts:
    credential = Credential(simulated.username, password or simulated.password)
    return EndpointAlerts(the_stamp(simulated), credential, records=folder / "records")


def test_the_api_gives_every_open_alert_over_all_its_pages(simulated: SimulatedStamp, raised: Any) -> None:
    ids = {raised(NODE) for _ in range(23)}
    simulated.state.alerts.close_alert(sorted(ids)[0])
    found = arm(simulated).read()
    assert {alert.id for alert in found} == ids - {sorted(ids)[0]}
    assert {(alert.fault_type_id, alert.severity) for alert in found} == {(NODE, "Critical")}
    assert all(alert.created and datetime.now(UTC) - alert.created < timedelta(minutes=5) for alert in found)


def test_the_endpoint_gives_the_same_alerts_as_the_api(simulated: SimulatedStamp, raised: Any, tmp_path: Path) -> None:
    raised(NODE)
    raised("CertificateExpiration.ExternalCert.Warning")
    keys = {(alert.id, alert.fault_type_id, alert.severity) for alert in arm(simulated).read()}
    assert {(a.id, a.fault_type_id, a.severity) for a in endpoint(simulated, tmp_path).read()} == keys
    assert len(keys) == 2


def test_a_summary_that_has_passed_means_no_alerts(simulated: SimulatedStamp, tmp_path: Path) -> None:
    assert endpoint(simulated, tmp_path).read() == ()
    [record] = (tmp_path / "records").glob("*.jsonl")
    assert simulated.password.reveal() not in record.read_text()


def test_a_wrong_token_is_told_as_such(simulated: SimulatedStamp) -> None:
    with pytest.raises(HealthUnknownError, match="401") as caught:
        arm(simulated, "wrong").read()
    assert "role" in caught.value.advice


def test_the_endpoint_is_asked_where_the_api_does_not_answer(
    simulated: SimulatedStamp, raised: Any, tmp_path: Path
) -> None:
    raised(NODE)
    health = Health((arm(simulated), endpoint(simulated, tmp_path)))
    simulated.portal.take_down()
    try:
        seen = health.look(lambda: datetime.now(UTC), "", None)
    finally:
        simulated.portal.bring_up()
    assert seen.observation is not None
    assert (seen.observation.source, len(seen.observation.alerts)) == ("endpoint", 1)
    assert [type(error) for error in seen.failures] == [HealthUnknownError]
    back = health.look(lambda: datetime.now(UTC), "endpoint", datetime.now(UTC))
    assert back.observation is not None
    assert back.observation.source == "arm"


def test_the_endpoint_is_not_asked_again_before_its_time(simulated: SimulatedStamp, tmp_path: Path) -> None:
    health = Health((endpoint(simulated, tmp_path),))
    seen = health.look(lambda: datetime.now(UTC), "endpoint", datetime.now(UTC) - timedelta(minutes=5))
    assert (seen.observation, seen.nobody_answers) == (None, False)


def test_a_refused_password_ends_the_watch_instead_of_locking_the_account(
    simulated: SimulatedStamp, tmp_path: Path
) -> None:
    health = Health((endpoint(simulated, tmp_path, Secret("wrong-password")),))
    with pytest.raises(AuthenticationFailedError):
        health.look(lambda: datetime.now(UTC), "", None)


@contextmanager
def answering(*answers: tuple[int, dict[str, str], bytes]) -> Iterator[tuple[str, list[str]]]:
    """A server that gives these answers in turn; its address, and the paths that were asked."""
    left, asked = list(answers), []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(f"{self.path} {self.headers.get('Authorization')}")
            status, headers, body = left.pop(0)
            body = body.replace(b"SELF", f"http://127.0.0.1:{server.server_address[1]}".encode())
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", asked
        finally:
            server.shutdown()
            thread.join()


def page(*rows: Any, **more: Any) -> tuple[int, dict[str, str], bytes]:
    return 200, {}, json.dumps({"value": list(rows), **more}).encode()


def read(url: str, subscription: str | None = SUBSCRIPTION) -> tuple[Alert, ...]:
    return ArmAlerts("east", url, "local", static_token(Secret("the-token")), subscription=subscription).read()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ((500, {}, b""), "500"),
        ((302, {"Location": "http://127.0.0.1:1/"}, b""), "302"),
        ((200, {}, b"<html>sign in</html>"), "not JSON"),
        ((200, {}, b"[]"), "not a JSON object"),
        ((200, {}, b"{}"), "no 'value'"),
        ((200, {}, b'{"value": 3}'), "no 'value'"),
        ((200, {}, b"[" * 100_000), "not JSON"),
        ((200, {"Content-Length": "5000"}, b"{"), "Incomplete|not JSON|Protocol"),
        ((200, {"Content-Encoding": "gzip"}, b"no gzip"), "Decode|gzip|decode"),
    ],
)
def test_an_answer_that_is_no_list_of_alerts_is_not_good_health(
    answer: tuple[int, dict[str, str], bytes], reason: str
) -> None:
    with answering(answer) as (url, _), pytest.raises(HealthUnknownError, match=reason):
        read(url)


def test_a_next_page_on_another_server_is_not_fetched_with_our_token() -> None:
    with answering(page(nextLink="http://127.0.0.1:1/next")) as (url, asked):
        with pytest.raises(HealthUnknownError, match="another server"):
            read(url)
    assert len(asked) == 1


def test_pages_without_an_end_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.watch._health._MOST_PAGES", 5)
    with answering(*[page(nextLink="SELF/again")] * 9) as (url, asked):
        with pytest.raises(HealthUnknownError, match="more than 5 pages"):
            read(url)
    assert len(asked) == 5


def test_the_default_provider_subscription_is_looked_up_where_none_is_configured() -> None:
    rows = ({"displayName": "Somebody's", "subscriptionId": "x"},)
    provider = {"displayName": "Default Provider Subscription", "subscriptionId": "the-one"}
    with answering(page(*rows, provider), page()) as (url, asked):
        assert read(url, None) == ()
    assert "/subscriptions/the-one/resourceGroups/System.local/" in asked[1]
    with answering(page(*rows)) as (url, _), pytest.raises(HealthUnknownError, match="Default Provider"):
        read(url, None)


def test_odd_rows_are_passed_over_and_times_of_seven_digits_are_read() -> None:
    good = {
        "properties": {
            "alertId": "1",
            "faultTypeId": NODE,
            "title": "t",
            "severity": "Critical",
            "state": "Active",
            "createdTimestamp": "2026-11-23T15:00:00.1234567Z",
            "closedTimestamp": "",
        }
    }
    closed = {"properties": {"alertId": "2", "faultTypeId": NODE, "closedTimestamp": "2026-11-23T15:00:00Z"}}
    with answering(page(None, 3, {}, {"properties": []}, closed, good)) as (url, _):
        [alert] = read(url)
    assert (alert.id, alert.created) == ("1", datetime(2026, 11, 23, 15, 0, 0, 123456, UTC))


@pytest.mark.parametrize("url", ["http://adminmanagement.east.example", "ftp://127.0.0.1", "adminmanagement", ""])
def test_a_token_is_not_sent_without_tls(url: str) -> None:
    with pytest.raises(HealthUnknownError, match="https"):
        checked_arm_url("east", url)


def test_the_login_endpoint_and_the_audience_come_from_the_metadata() -> None:
    document = {"authentication": {"loginEndpoint": "https://adfs.east.example/adfs", "audiences": ["https://a/1"]}}
    assert read_metadata(document) == ("https://adfs.east.example", "https://a/1")
    for damage in ({}, {"authentication": 3}, {"authentication": {"loginEndpoint": "x", "audiences": []}}):
        with pytest.raises(ValueError, match="metadata"):
            read_metadata(damage)


def test_alerts_are_found_at_any_depth_of_an_object_of_unknown_shape() -> None:
    odd = {"Name": "AzsAlertSummary", "Details": {"Critical": [{"FAULTTYPEID": NODE, "AlertId": 7}]}, "x": [[[["y"]]]]}
    assert [(alert.key, alert.fault_type_id) for alert in _find_alerts(odd)] == [("7", NODE)]
    deep: Any = {"faultTypeId": NODE}
    for _ in range(50):
        deep = [deep]
    assert list(_find_alerts(deep)) == []


def test_a_summary_that_failed_without_an_alert_in_it_is_not_good_health(tmp_path: Path) -> None:
    with SimulatedStamp(StampOptions(faults=("test-fails:AzsAlertSummary",))) as broken:
        with pytest.raises(HealthUnknownError, match="not passed"):
            endpoint(broken, tmp_path).read()


def test_a_principal_that_cannot_log_in_is_told_with_the_variables_to_set(
    simulated: SimulatedStamp, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET"):
        monkeypatch.setenv(name, "adfs")
    with pytest.raises(HealthUnknownError, match="no token") as caught:
        IdentityToken(simulated.name, simulated.portal.url)()
    assert "AZURE_CLIENT_ID" in caught.value.advice
