"""The conversations that are recorded as cassettes, and what makes a recording repeatable.

Recorded is what passes between the client and an unsealing relay: plain SOAP, without authentication. A cassette is
matched by what the requests say (action, resource, decoded PSRP), with GUIDs, keys and secure strings blanked.
"""

from __future__ import annotations

import base64
import random
import re
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock
from xml.etree import ElementTree as ET

import psrpcore
import vcr
from cryptography.hazmat.primitives.asymmetric import rsa
from pypsrp import wsman
from pypsrp.negotiate import NoCertificateRetrievedWarning
from vcr.record_mode import RecordMode

from bridge.endpoint import (
    Command,
    Parameter,
    Record,
    SessionOptions,
    attach,
    error_for,
    identify,
    list_commands,
    open_session,
)
from bridge.endpoint._messages import Defragmenter, Message
from bridge.errors import BridgeError
from bridge.secrets import Credential, Secret
from bridge.stamp import EndpointAddress, Stamp

CASSETTES = Path(__file__).parents[2] / "fixtures" / "cassettes"
RECORDED_HOST = "ercs01.example"
KNOWN_PASSWORD = "Kn0wn-Passw0rd-of-the-operator"
KNOWN_SHARE_PASSWORD = "Kn0wn-Passw0rd-of-the-share"
OPTIONS = SessionOptions(operation_timeout_s=1, read_timeout_s=10, idle_timeout_s=7200)
LOG = "Get-AzureStackLog"
ALLOWED = (LOG, "Get-Command", "Get-NoSuchThing", "Get-AzureStackStampInformation")

_GUID = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
_KEYS = re.compile(r"(<SS[^>]*>|<S N=\"PublicKey\">)[^<]*")
_BASE64_PARTS = ("creationXml", "connectXml", "Arguments", "Stream")


@dataclass(frozen=True)
class Target:
    """Whom a conversation is with."""

    stamp: Stamp
    credential: Credential


Scenario = Callable[[Target], list[Any]]


# -- the conversations ------------------------------------------------------------------------------------------------


def run(target: Target, *commands: Command) -> list[Any]:
    """Opens, runs one pipeline, closes; what came, as JSON without the times."""
    with open_session(target.stamp, target.credential, allow=ALLOWED, options=OPTIONS) as session:
        pipeline = session.start(commands)
        said = [shown(record) for record in pipeline.records()]
        outcome = pipeline.wait()
    error = error_for(outcome.error).name if outcome.error is not None else None
    return [*said, {"state": str(outcome.state), "error": error}]


def shown(record: Record) -> dict[str, Any]:
    document = record.to_json()
    del document["at"]
    return document


def refused(target: Target) -> list[Any]:
    """What opening fails with."""
    try:
        open_session(target.stamp, target.credential, allow=ALLOWED, options=OPTIONS).close()
    except BridgeError as error:
        return [{"error": error.name, "exit_code": int(error.exit_code)}]
    return [{"error": None}]


def discover(target: Target) -> list[Any]:
    identity = identify(target.stamp.endpoints[0])
    return [{"vendor": identity.vendor, "schemes": list(identity.auth_schemes)}]


def metadata(target: Target) -> list[Any]:
    with open_session(target.stamp, target.credential, allow=ALLOWED, options=OPTIONS) as session:
        (command,) = list_commands(session, (LOG,))
    return [{"name": command.name, "parameters": {part.name: part.type_name for part in command.parameters}}]


def collect(target: Target) -> list[Any]:
    share = Credential("CORP\\writer", Secret(KNOWN_SHARE_PASSWORD))
    return run(
        target,
        Command(
            LOG,
            (
                Parameter("OutputSharePath", "\\\\nas\\drop"),
                Parameter("OutputShareCredential", share),
                Parameter("FilterByRole", ("ACS", "ECE")),
                Parameter("FromDate", datetime(2024, 3, 12, 8, 0, tzinfo=UTC)),
                Parameter("IncludeDumpFile", True),
            ),
        ),
    )


def slow(target: Target) -> list[Any]:
    """No record for longer than a poll: the operation time-out fault comes, and is no error."""
    return run(target, mode("ticks", Parameter("Count", 1), Parameter("PauseMs", 2500)))


def no_language(target: Target) -> list[Any]:
    """A script as the only command, as a client that cannot convert it sends it."""
    with (
        mock.patch("bridge.endpoint._psrp._packed_command", _script),
        mock.patch("bridge.endpoint._session.check_allowed"),
    ):
        return run(target, Command("$since = Get-Date; Get-AzureStackLog"))


def stop(target: Target) -> list[Any]:
    with open_session(target.stamp, target.credential, allow=ALLOWED, options=OPTIONS) as session:
        pipeline = session.start([mode("ticks", Parameter("Count", 10_000), Parameter("PauseMs", 50))])
        records = pipeline.records()
        next(records)
        pipeline.stop()
        for _ in records:
            pass
        return [{"state": str(pipeline.wait().state)}]


def reconnect(target: Target) -> list[Any]:
    with open_session(target.stamp, target.credential, allow=ALLOWED, options=OPTIONS) as session:
        pipeline = session.start([mode("ticks", Parameter("Count", 40), Parameter("PauseMs", 50))])
        records = pipeline.records()
        first = next(records)
        pipeline.disconnect()
        early = [first, *records]
    again = attach(target.stamp, target.credential, pipeline.ids, options=OPTIONS)
    late = list(again.records())
    again.session.close()
    texts = [record.text for record in [*early, *late]]
    return [{"left": str(pipeline.wait().state), "ended": str(again.wait().state), "texts": texts}]


def mode(name: str, *parameters: Parameter) -> Command:
    return Command(LOG, (Parameter("Mode", name), *parameters))


def _script(command: Command) -> psrpcore.Command:
    return psrpcore.Command(command.name, is_script=True)


SCENARIOS: dict[str, Scenario] = {
    "discover": discover,
    "metadata": metadata,
    "collect": collect,
    "slow": slow,
    "no-language": no_language,
    "unknown-command": lambda target: run(target, Command("Get-NoSuchThing")),
    "unknown-parameter": lambda target: run(target, Command(LOG, (Parameter("NoSuch", 1),))),
    "non-terminating-error": lambda target: run(target, mode("nonterm")),
    "terminating-error": lambda target: run(target, mode("term")),
    "denied": refused,
    "no-such-endpoint": refused,
    "stop": stop,
    "reconnect": reconnect,
}


# -- what makes them repeatable ---------------------------------------------------------------------------------------


@contextmanager
def cassette(name: str, *, record: bool) -> Iterator[None]:
    """One conversation recorded, or played from its cassette and nothing else."""
    recorder = vcr.VCR(
        cassette_library_dir=str(CASSETTES),
        record_mode=RecordMode.ALL if record else RecordMode.NONE,
        match_on=["psrp"],
        filter_headers=["authorization", "cookie", "user-agent"],
        before_record_request=_without_address,
        decode_compressed_response=True,
    )
    recorder.register_matcher("psrp", same_request)
    with ExitStack() as stack:
        stack.enter_context(_repeatable(name))
        stack.enter_context(recorder.use_cassette(f"{name}.yaml"))
        yield


@contextmanager
def _repeatable(name: str) -> Iterator[None]:
    """GUIDs and the key of the session key from a seed, no sealing, and connections that vcrpy can replace."""
    source = random.Random(name)
    key = _key(random.Random(name))

    def guid() -> uuid.UUID:
        return uuid.UUID(int=source.getrandbits(128), version=4)

    with (
        mock.patch("uuid.uuid4", guid),
        mock.patch("bridge.endpoint._line.WSMan", _PlainWSMan),
        mock.patch("pypsrp._pool_manager._create_connection_pool", return_value=None),
        mock.patch("psrpcore._crypto.rsa.generate_private_key", return_value=key),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore", NoCertificateRetrievedWarning)  # a recorded answer has no socket
        yield


class _PlainWSMan(wsman.WSMan):  # type: ignore[misc]
    """WSMan without sealing: the relay beside the test does it."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.transport.wrap_required = False


def _without_address(request: Any) -> Any:
    """The request without the relay's address, which differs from one recording to the next."""
    request.uri = re.sub(r"://[^/]+/", f"://{RECORDED_HOST}:5985/", request.uri)
    if request.body:
        request.body = re.sub(
            rb"(<wsa:To>)[^<]*", rb"\1http://" + RECORDED_HOST.encode() + rb":5985/wsman", request.body
        )
    return request


def same_request(one: Any, other: Any) -> None:
    """vcrpy's matcher: fails where the two requests do not say the same."""
    assert meaning(one.body) == meaning(other.body)


def meaning(body: bytes | None) -> list[str]:
    """What a WSMan request says: action, resource, options, selectors, and its PSRP decoded; ids and keys blanked."""
    if not body:
        return []
    root = ET.fromstring(body)
    said: list[str] = []
    for element in root.iter():
        name = element.tag.rpartition("}")[2]
        if name in ("Action", "ResourceURI", "Option", "Code", "DesiredStream", "Identify"):
            said.append(f"{name} {element.get('Name', '')} {element.text or ''}")
        elif name in _BASE64_PARTS and element.text:
            said += _psrp(base64.b64decode(element.text))
    return [_GUID.sub("GUID", line) for line in said]


def _psrp(data: bytes) -> Iterator[str]:
    for message in Defragmenter().feed(data):
        if isinstance(message, Message):
            text = _KEYS.sub(r"\1BLANK", message.payload.decode())
            yield f"{message.type:#x} {text}"
        else:
            yield message.detail


def _key(source: random.Random) -> rsa.RSAPrivateKey:
    """An RSA key that is the same for the same seed: for recordings, never for a secret."""
    first, second = _prime(source), _prime(source)
    exponent, product = 65537, (first - 1) * (second - 1)
    private = pow(exponent, -1, product)
    public = rsa.RSAPublicNumbers(exponent, first * second)
    numbers = rsa.RSAPrivateNumbers(
        first, second, private, private % (first - 1), private % (second - 1), pow(second, -1, first), public
    )
    return numbers.private_key()


def _prime(source: random.Random) -> int:
    while True:
        number = source.getrandbits(1024) | (3 << 1022) | 1
        if all(number % small for small in (3, 5, 7, 11, 13, 17, 19, 23, 29, 31)) and all(
            pow(base, number - 1, number) == 1 for base in (2, 3, 5, 7)
        ):
            return number


def target_of(host: str, port: int, credential: Credential, configuration: str = "PrivilegedEndpoint") -> Target:
    stamp = Stamp("recorded", (EndpointAddress("AzS-ERCS01", host, port),), configuration_name=configuration)
    return Target(stamp, credential)
