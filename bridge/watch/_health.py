"""Who is asked for active alerts: the administrator's ARM endpoint where it answers, else the privileged endpoint."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, urlsplit

from bridge.endpoint import Record, SessionOptions, Stream
from bridge.errors import AuthenticationFailedError, BridgeError, HealthUnknownError
from bridge.secrets import Credential, Scrubber, Secret
from bridge.stamp import Stamp
from bridge.watch._alerts import Alert
from bridge.watch._core import Observation

ALERTS_API_VERSION = "2016-05-01"
"""Of ``Microsoft.InfrastructureInsights.Admin`` (its public specification)."""
SUBSCRIPTIONS_API_VERSION = "2016-06-01"
METADATA_API_VERSION = "2015-01-01"
DEFAULT_SUBSCRIPTION = "Default Provider Subscription"
SCRIPT = "Get-StampAlert"
CATEGORY = "AzsAlertSummary"

_PROVIDER = "Microsoft.InfrastructureInsights.Admin"
_LARGEST_ANSWER_BYTES = 16 << 20
_MOST_PAGES = 200
_MOST_ALERTS = 10_000
_DEEPEST = 8
_LONGEST_WORD = 300
_RECORDS_KEPT = 200
_LOOPBACK = re.compile(r"^(?:localhost|127\.\d+\.\d+\.\d+|::1)$")

Token = Callable[[], Secret]
"""Gives a bearer token for the administrator's ARM endpoint; may raise ``HealthUnknownError``."""


class AlertSource(Protocol):
    """One way to learn of alerts. ``every``: how often it should be asked at most."""

    @property
    def name(self) -> str: ...

    @property
    def every(self) -> timedelta: ...

    def read(self) -> tuple[Alert, ...]:
        """The active alerts.

        Raises:
            HealthUnknownError: it does not answer, or not in a way that can be read.
            BridgeError: the endpoint could not be used.
        """
        ...


@dataclass(frozen=True, slots=True)
class Seen:
    """What came of one look. ``observation`` is ``None`` where nobody answers, or where it is too early to ask."""

    observation: Observation | None
    failures: tuple[BridgeError, ...] = ()
    nobody_answers: bool = False


@dataclass(frozen=True, slots=True)
class Health:
    """The sources in the order in which they are asked."""

    sources: tuple[AlertSource, ...]

    def look(self, now: Callable[[], datetime], last_source: str, last_at: datetime | None) -> Seen:
        """Asks the first source that answers. One that answered last and is not due again is not asked.

        Raises:
            AuthenticationFailedError: the endpoint refused the password; asking on would lock the account.
        """
        failures: list[BridgeError] = []
        for source in self.sources:
            if source.name == last_source and last_at and timedelta(0) <= now() - last_at < 0.9 * source.every:
                return Seen(None, tuple(failures))
            try:
                alerts = source.read()
            except AuthenticationFailedError:
                raise
            except BridgeError as error:
                failures.append(error)
            else:
                return Seen(Observation(now(), alerts, source.name), tuple(failures))
        return Seen(None, tuple(failures), nobody_answers=True)


class ArmAlerts:
    """The alerts API of the administrator's ARM endpoint.

    Args:
        url: the ARM endpoint, ``https://adminmanagement.<region>.<fqdn>``; http only to this machine itself.
        region: the stamp's region, which names the resource group and the location.
        token: gives the bearer token.
        subscription: the id of the default provider subscription; without it, the endpoint is asked for it.
        ca_file: the authority that signed the endpoint's certificate.
    """

    name = "arm"

    def __init__(
        self,
        stamp: str,
        url: str,
        region: str,
        token: Token,
        *,
        subscription: str | None = None,
        ca_file: Path | None = None,
        every: timedelta = timedelta(minutes=5),
        timeout_s: float = 30.0,
    ) -> None:
        self.every = every
        self._stamp = stamp
        self._url = checked_arm_url(stamp, url)
        self._region = region
        self._token = token
        self._subscription = subscription
        self._ca_file = ca_file
        self._timeout_s = timeout_s

    def read(self) -> tuple[Alert, ...]:
        subscription = self._subscription or self._find_subscription()
        region = quote(self._region, safe="")
        path = (
            f"/subscriptions/{quote(subscription, safe='')}/resourceGroups/System.{region}/providers/{_PROVIDER}"
            f"/regionHealths/{region}/alerts?api-version={ALERTS_API_VERSION}"
        )
        found = [alert for row in self._rows(path) if (alert := _from_arm(row)) is not None]
        return tuple(found[:_MOST_ALERTS])

    def _find_subscription(self) -> str:
        for row in self._rows(f"/subscriptions?api-version={SUBSCRIPTIONS_API_VERSION}"):
            if row.get("displayName") == DEFAULT_SUBSCRIPTION and row.get("subscriptionId"):
                self._subscription = str(row["subscriptionId"])
                return self._subscription
        raise self._unknown(
            f"the account sees no '{DEFAULT_SUBSCRIPTION}'",
            "Give the service principal the Reader role on it, or set 'subscription' of the stamp.",
        )

    def _rows(self, path: str) -> Iterator[Mapping[str, Any]]:
        url: str | None = self._url + path
        for _ in range(_MOST_PAGES):
            if url is None:
                return
            document = get_json(self._stamp, url, token=self._token(), ca_file=self._ca_file, timeout_s=self._timeout_s)
            rows = document.get("value")
            if not isinstance(rows, list):
                raise self._unknown("the answer has no 'value'")
            yield from (row for row in rows if isinstance(row, dict))
            url = self._next(document.get("nextLink"))
        raise self._unknown(f"the answer goes on for more than {_MOST_PAGES} pages")

    def _next(self, link: object) -> str | None:
        """The token goes to the endpoint that it is for, whatever a page says."""
        if not link:
            return None
        if not isinstance(link, str) or _origin(link) != _origin(self._url):
            raise self._unknown("the next page is said to be on another server")
        return link

    def _unknown(self, detail: str, fix: str = "") -> HealthUnknownError:
        return HealthUnknownError(stamp=self._stamp, source=self._url, detail=detail, fix=fix)


class EndpointAlerts:
    """``Test-AzureStack -Include AzsAlertSummary`` through the privileged endpoint: no ARM token is needed.

    The object that it gives is not documented; whatever in it has a fault type id or a title is taken for an alert, and
    a summary that did not pass but names none counts as unknown, not as healthy.
    """

    name = "endpoint"

    def __init__(
        self,
        stamp: Stamp,
        credential: Credential,
        *,
        records: Path,
        every: timedelta = timedelta(minutes=15),
        options: SessionOptions | None = None,
    ) -> None:
        self.every = every
        self._stamp = stamp
        self._credential = credential
        self._records = records
        self._options = options

    def read(self) -> tuple[Alert, ...]:
        from bridge.endpoint.script import load_script
        from bridge.scripting import SessionRecord, run_script

        outputs: list[Any] = []

        def keep(record: Record) -> None:
            if record.stream is Stream.OUTPUT and len(outputs) < _MOST_ALERTS:
                outputs.append(record.data)

        with SessionRecord(self._records, Scrubber([self._credential.password])) as session:
            outcome = run_script(
                self._stamp,
                self._credential,
                load_script(SCRIPT).bind({}),
                record=session,
                on_record=keep,
                verb="watch",
                options=self._options,
            )
        _forget_old(self._records)
        if outcome.errors:
            raise outcome.errors[0]
        return self._alerts(outputs)

    def _alerts(self, outputs: list[Any]) -> tuple[Alert, ...]:
        found = {alert.key: alert for output in outputs for alert in _find_alerts(output)}
        if not found and not _has_passed(outputs):
            raise HealthUnknownError(
                stamp=self._stamp.name,
                source=f"{CATEGORY} of Test-AzureStack",
                detail="it has not passed, and no alert in it can be recognised",
                fix="See what it says with 'pep-bridge run Get-StampAlert STAMP'.",
            )
        return tuple(found.values())


def get_json(
    stamp: str, url: str, *, token: Secret | None = None, ca_file: Path | None = None, timeout_s: float = 30.0
) -> dict[str, Any]:
    """One GET of the ARM endpoint; no redirect is followed, and an answer has a largest size.

    Raises:
        HealthUnknownError: no answer, another status than 200, or no JSON object.
    """
    import requests

    where = url.partition("?")[0]
    headers = {"Accept": "application/json"} | ({"Authorization": f"Bearer {token.reveal()}"} if token else {})
    try:
        with (
            requests.Session() as session,
            session.get(
                url,
                headers=headers,
                timeout=timeout_s,
                verify=str(ca_file) if ca_file else True,
                allow_redirects=False,
                stream=True,
            ) as answer,
        ):
            content = answer.raw.read(_LARGEST_ANSWER_BYTES + 1, decode_content=True)
            status = answer.status_code
    except (requests.RequestException, OSError) as error:
        raise HealthUnknownError(stamp=stamp, source=where, detail=_reason(error)) from error
    except Exception as error:  # urllib3's own, met while the body is read
        if type(error).__module__.partition(".")[0] != "urllib3":
            raise
        raise HealthUnknownError(stamp=stamp, source=where, detail=_reason(error)) from error
    if status != 200:
        fix = "Check the account that asks for the token, and its role on the stamp." if status in {401, 403} else ""
        raise HealthUnknownError(stamp=stamp, source=where, detail=f"it answers with HTTP status {status}", fix=fix)
    try:
        document = json.loads(content) if len(content) <= _LARGEST_ANSWER_BYTES else None
    except (ValueError, RecursionError) as error:
        raise HealthUnknownError(stamp=stamp, source=where, detail="the answer is not JSON") from error
    if not isinstance(document, dict):
        raise HealthUnknownError(stamp=stamp, source=where, detail="the answer is not a JSON object of a sane size")
    return document


def checked_arm_url(stamp: str, url: str) -> str:
    """The address without a slash at its end; a token goes over TLS only, or stays on this machine.

    Raises:
        HealthUnknownError: it is neither https nor on loopback.
    """
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and _LOOPBACK.match(parts.hostname or "")):
        raise HealthUnknownError(
            stamp=stamp,
            source=url,
            detail="it is not an https address",
            fix="Set 'arm' of the stamp to https://adminmanagement.<region>.<fqdn>.",
        )
    return url.rstrip("/")


def static_token(token: Secret) -> Token:
    """A token that somebody else renews: a simulated stamp's, or one in a file that a scheduler rewrites."""
    return lambda: token


class IdentityToken:
    """Tokens of a service principal, by azure-identity, from where the ARM endpoint's own metadata says.

    The principal comes from ``AZURE_TENANT_ID`` (``adfs`` on a stamp with AD FS), ``AZURE_CLIENT_ID`` and
    ``AZURE_CLIENT_SECRET`` or ``AZURE_CLIENT_CERTIFICATE_PATH``.
    """

    def __init__(self, stamp: str, arm_url: str, *, ca_file: Path | None = None) -> None:
        self._stamp = stamp
        self._arm_url = checked_arm_url(stamp, arm_url)
        self._ca_file = ca_file
        self._credential: Any = None
        self._scope = ""

    def __call__(self) -> Secret:
        from azure.core.exceptions import AzureError

        try:
            if self._credential is None:
                self._prepare()
            return Secret(self._credential.get_token(self._scope).token)
        except (AzureError, ValueError) as error:
            raise HealthUnknownError(
                stamp=self._stamp,
                source=self._arm_url,
                detail=f"no token could be had: {_reason(error)}",
                fix="Set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET (or the certificate's path).",
            ) from error

    def _prepare(self) -> None:
        from azure.identity import EnvironmentCredential

        document = get_json(
            self._stamp,
            f"{self._arm_url}/metadata/endpoints?api-version={METADATA_API_VERSION}",
            ca_file=self._ca_file,
        )
        login, audience = read_metadata(document)
        # An authority of a stamp (AD FS) is not known to the public cloud that would vouch for it.
        options: dict[str, Any] = {"authority": login, "disable_instance_discovery": True}
        if self._ca_file:
            options["connection_verify"] = str(self._ca_file)
        self._scope = audience.rstrip("/") + "/.default"
        self._credential = EnvironmentCredential(**options)


def read_metadata(document: Mapping[str, Any]) -> tuple[str, str]:
    """Where to log in, without a tenant, and the audience of the tokens.

    Raises:
        ValueError: the document has neither.
    """
    authentication = document.get("authentication")
    if not isinstance(authentication, dict):
        raise ValueError("the endpoint's metadata has no 'authentication'")
    login, audiences = authentication.get("loginEndpoint"), authentication.get("audiences")
    if not isinstance(login, str) or not isinstance(audiences, list) or not audiences:
        raise ValueError("the endpoint's metadata names no login endpoint or no audience")
    return re.sub(r"(?i)/adfs/?$", "", login.rstrip("/")), str(audiences[0])


def _from_arm(row: Mapping[str, Any]) -> Alert | None:
    """An active alert of the API; a closed one is ``None``."""
    found = row.get("properties")
    if not isinstance(found, dict) or _word(found, "closedTimestamp"):
        return None
    if _word(found, "state").casefold() not in {"", "active"}:
        return None
    return Alert(
        id=_word(found, "alertId") or _word(row, "name"),
        fault_type_id=_word(found, "faultTypeId"),
        title=_word(found, "title"),
        severity=_word(found, "severity"),
        created=_time(_word(found, "createdTimestamp")),
    )


def _find_alerts(value: Any, depth: int = 0) -> Iterator[Alert]:
    """Everything that looks like an alert in an object whose shape nobody has published."""
    if depth > _DEEPEST:
        return
    if isinstance(value, dict):
        fields = {str(name).casefold(): each for name, each in value.items()}
        fault, title = _word(fields, "faulttypeid"), _word(fields, "title")
        closed = _word(fields, "closedtimestamp") or _word(fields, "state").casefold() not in {"", "active"}
        if (fault or title) and not closed:
            created = _time(_word(fields, "createdtimestamp"))
            yield Alert(_word(fields, "alertid"), fault, title, _word(fields, "severity"), created)
        for each in value.values():
            yield from _find_alerts(each, depth + 1)
    elif isinstance(value, list):
        for each in value:
            yield from _find_alerts(each, depth + 1)


def _has_passed(outputs: list[Any]) -> bool:
    """Whether the alert summary is there and says PASS."""
    for output in outputs:
        fields = {str(name).casefold(): each for name, each in output.items()} if isinstance(output, dict) else {}
        if _word(fields, "name").casefold() == CATEGORY.casefold():
            return _word(fields, "result").casefold() in {"pass", "true"}
    return False


def _word(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    return str(value)[:_LONGEST_WORD] if isinstance(value, str | int) and not isinstance(value, bool) else ""


def _time(text: str) -> datetime | None:
    """.NET writes seven digits of a second, and at times no zone: UTC then (createdTimestamp of the API)."""
    try:
        moment = datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text))
    except ValueError:
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc.casefold()


def _reason(error: Exception) -> str:
    """The shortest true words: an error of a library may carry a whole request."""
    return f"{type(error).__name__}: {str(error)[:_LONGEST_WORD]}"


def _forget_old(folder: Path) -> None:
    """A look every quarter of an hour leaves a hundred records a day; the newest ones are kept."""
    for old in sorted(folder.glob("*.jsonl"))[:-_RECORDS_KEPT]:
        old.unlink(missing_ok=True)
