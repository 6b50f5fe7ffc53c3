"""Portal and administrator ARM endpoint of a simulated stamp, on loopback HTTP: only what health checks ask for."""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Callable
from datetime import datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from bridge.secrets import Secret
from bridge.simulator.stamp._alerts import Alert
from bridge.simulator.stamp._state import StampState

_PAGE_OF_ALERTS = 10
_ALERT_TYPE = "Microsoft.InfrastructureInsights.Admin/regionHealths/alerts"


class Portal:
    """Serves while it is up; ``url`` stays the same when it goes down and comes back.

    ``token`` is the bearer token that the alerts API accepts (pep-facts 8.3). With the stamp's fault ``portal-down`` it
    starts down.
    """

    def __init__(self, state: StampState, host: str = "127.0.0.1", port: int = 0) -> None:
        self.token = Secret(secrets.token_urlsafe(24))
        self._state = state
        self._host = host
        self._port = port
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Of both portal and ARM, without a trailing slash."""
        return f"http://{self._host}:{self._port}"

    def __enter__(self) -> Portal:
        self.bring_up()
        if self._state.faults.has("portal-down"):
            self.take_down()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.take_down()

    def bring_up(self) -> None:
        """Listens; does nothing where it already does."""
        if self._server is not None:
            return
        self._server = ThreadingHTTPServer(
            (self._host, self._port), _handler(self._state, self.token, lambda: self.url)
        )
        self._port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, name="portal")
        self._thread.start()

    def take_down(self) -> None:
        """Stops listening."""
        if self._server is None or self._thread is None:
            return
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self._server = self._thread = None


def _handler(state: StampState, token: Secret, base: Callable[[], str]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, kind, body = _answer(state, token, base(), self.path, self.headers.get("Authorization", ""))
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Says nothing: stderr belongs to the verb."""

    return Handler


def _answer(state: StampState, token: Secret, base: str, target: str, authorization: str) -> tuple[int, str, bytes]:
    parts = urlsplit(target)
    query = {name.casefold(): values[-1] for name, values in parse_qs(parts.query).items()}
    path = unquote(parts.path).strip("/")
    if not path:
        page = "<!DOCTYPE html><title>Azure Stack Hub - Administration (simulated)</title>"
        return HTTPStatus.OK, "text/html", page.encode()
    if path.casefold() == "metadata/endpoints":
        return _json(HTTPStatus.OK, _metadata(base)) if "api-version" in query else _error("MissingApiVersionParameter")
    segments = path.split("/")
    lowered = [segment.casefold() for segment in segments]
    if "regionhealths" not in lowered or "alerts" not in lowered:
        return _error("ResourceNotFound", HTTPStatus.NOT_FOUND)
    if not secrets.compare_digest(authorization.encode(), f"Bearer {token.reveal()}".encode()):
        return _error("AuthenticationFailed", HTTPStatus.UNAUTHORIZED)
    if "api-version" not in query:
        return _error("MissingApiVersionParameter")
    after = segments[lowered.index("alerts") + 1 :]
    return _one_alert(state, path, after[0]) if after else _alerts(state, base, path, query)


def _metadata(base: str) -> dict[str, Any]:
    """The unauthenticated discovery document (GET /metadata/endpoints?api-version=2015-01-01). GUESS: its values."""
    return {
        "galleryEndpoint": f"{base}/gallery",
        "graphEndpoint": "https://graph.windows.net/",
        "portalEndpoint": f"{base}/",
        "authentication": {"loginEndpoint": f"{base}/adfs", "audiences": [f"{base}/audience"]},
    }


def _alerts(state: StampState, base: str, path: str, query: dict[str, str]) -> tuple[int, str, bytes]:
    alerts = state.alerts.seen()
    if "active" in query.get("$filter", "").casefold():  # GUESS: the one filter that is understood
        alerts = tuple(alert for alert in alerts if alert.closed is None)
    skip = query.get("$skiptoken", "0")
    first = int(skip) if skip.isdecimal() else 0
    document: dict[str, Any] = {
        "value": [_resource(state, path, alert) for alert in alerts[first : first + _PAGE_OF_ALERTS]]
    }
    if len(alerts) > first + _PAGE_OF_ALERTS:
        rest = "&".join(f"{name}={quote(value)}" for name, value in query.items() if name != "$skiptoken")
        document["nextLink"] = f"{base}/{quote(path)}?{rest}&$skiptoken={first + _PAGE_OF_ALERTS}"
    return _json(HTTPStatus.OK, document)


def _one_alert(state: StampState, path: str, name: str) -> tuple[int, str, bytes]:
    found = next((alert for alert in state.alerts.seen() if alert.alert_id == name), None)
    if found is None:
        return _error("ResourceNotFound", HTTPStatus.NOT_FOUND)
    return _json(HTTPStatus.OK, _resource(state, path.rpartition("/")[0], found))


def _resource(state: StampState, path: str, alert: Alert) -> dict[str, Any]:
    """One alert as the API's specification of 2016-05-01 names its fields."""
    region = state.options.region
    return {
        "id": f"/{path}/{alert.alert_id}",
        "name": f"{region}/{alert.alert_id}",
        "type": _ALERT_TYPE,
        "location": region,
        "tags": {},
        "properties": {
            "alertId": alert.alert_id,
            "faultId": alert.alert_id,
            "faultTypeId": alert.fault_type_id,
            "title": alert.title,
            "severity": alert.severity,
            "state": "Active" if alert.closed is None else "Closed",
            "createdTimestamp": _time(alert.created),
            "lastUpdatedTimestamp": _time(alert.closed or alert.created),
            "closedTimestamp": "" if alert.closed is None else _time(alert.closed),
            "description": [{"type": "Text", "text": alert.title}],
            "remediation": [{"type": "Text", "text": "Collect logs and contact support."}],
            "alertProperties": {},
            "resourceRegistrationId": "",
            "resourceProviderRegistrationId": "",
            "impactedResourceId": "",
            "impactedResourceDisplayName": "",
            "closedByUserAlias": "",
            "hasValidRemediationAction": False,
        },
    }


def _time(instant: datetime) -> str:
    return f"{instant:%Y-%m-%dT%H:%M:%S.%f}Z"


def _json(status: int, document: dict[str, Any]) -> tuple[int, str, bytes]:
    return status, "application/json", json.dumps(document).encode()


def _error(code: str, status: int = HTTPStatus.BAD_REQUEST) -> tuple[int, str, bytes]:
    return _json(status, {"error": {"code": code, "message": f"{code} (simulated)"}})
