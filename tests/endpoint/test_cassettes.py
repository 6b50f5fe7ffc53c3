"""The recorded conversations, replayed: what they said then is understood now, and they hold no secret."""

from __future__ import annotations

import base64
import json
import re
import struct
from types import SimpleNamespace
from typing import Any

import pytest
import vcr.errors

from bridge.endpoint import Command, Parameter
from bridge.secrets import Credential, Secret
from tests.support.cassettes import (
    CASSETTES,
    KNOWN_PASSWORD,
    KNOWN_SHARE_PASSWORD,
    LOG,
    SCENARIOS,
    Target,
    cassette,
    meaning,
    run,
    same_request,
    target_of,
)

PASSWORDS = (KNOWN_PASSWORD, KNOWN_SHARE_PASSWORD, "held-by-the-relay")


def target(name: str) -> Target:
    configuration = "NoSuchEndpoint" if name == "no-such-endpoint" else "PrivilegedEndpoint"
    return target_of("127.0.0.1", 5985, Credential("CORP\\operator", Secret("not-needed")), configuration)


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.endpoint._opening._ATTACH_PAUSE_S", 0.0)


@pytest.mark.usefixtures("no_waiting")
@pytest.mark.parametrize("name", sorted(SCENARIOS))
def test_a_recorded_conversation_is_understood_as_it_was(name: str) -> None:
    expected = json.loads((CASSETTES / f"{name}.json").read_text(encoding="utf-8"))
    with cassette(name, record=False):
        assert SCENARIOS[name](target(name)) == expected


EXPECTED_END: dict[str, Any] = {
    "discover": {"vendor": "Microsoft Corporation", "schemes": ["Negotiate"]},
    "collect": {"state": "completed", "error": None},
    "slow": {"state": "completed", "error": None},
    "no-language": {"state": "failed", "error": "ScriptNotAllowedError"},
    "unknown-command": {"state": "failed", "error": "CommandNotFoundError"},
    "unknown-parameter": {"state": "failed", "error": "ParameterRejectedError"},
    "non-terminating-error": {"state": "completed", "error": None},
    "terminating-error": {"state": "failed", "error": "CommandFailedError"},
    "denied": {"error": "AuthenticationFailedError", "exit_code": 4},
    "no-such-endpoint": {"error": "NoSuchConfigurationError", "exit_code": 3},
    "stop": {"state": "stopped"},
}


@pytest.mark.parametrize("name", sorted(EXPECTED_END))
def test_what_was_recorded_is_what_its_name_says(name: str) -> None:
    said = json.loads((CASSETTES / f"{name}.json").read_text(encoding="utf-8"))
    assert said[-1] == EXPECTED_END[name]


def test_the_reconnected_pipeline_was_left_and_then_completed() -> None:
    (said,) = json.loads((CASSETTES / "reconnect.json").read_text(encoding="utf-8"))
    assert (said["left"], said["ended"]) == ("disconnected", "completed")
    assert said["texts"] == ["Starting collection", *(f"tick {number}" for number in range(40)), "finished"]


def test_the_slow_conversation_holds_an_operation_timeout() -> None:
    assert "2150858793" in (CASSETTES / "slow.yaml").read_text(encoding="utf-8")


def test_a_request_that_says_something_else_is_not_played() -> None:
    with cassette("non-terminating-error", record=False):
        with pytest.raises(vcr.errors.CannotOverwriteExistingCassetteException):
            run(target("non-terminating-error"), Command(LOG, (Parameter("Mode", "term"),)))


def envelope(action: str, message_id: str, payload: str, object_id: int) -> bytes:
    """A request with one PSRP message; ids differ from call to call as they do on the wire."""
    body = struct.pack("<II16s16s", 2, 0x00021006, bytes([object_id]) * 16, bytes(16)) + payload.encode()
    fragment = struct.pack(">QQBI", object_id, 0, 3, len(body)) + body
    packed = base64.b64encode(fragment).decode()
    return (
        f"<E><Action>{action}</Action><MessageID>{message_id}</MessageID><Arguments>{packed}</Arguments></E>".encode()
    )


def test_the_matcher_compares_decoded_psrp_and_not_ids_or_keys() -> None:
    one = SimpleNamespace(body=envelope("Command", "1", '<SS N="P">abcd</SS>', 1))
    same = SimpleNamespace(body=envelope("Command", "2", '<SS N="P">wxyz</SS>', 2))
    other_message = SimpleNamespace(body=envelope("Command", "1", "<S>abcd</S>", 1))
    other_action = SimpleNamespace(body=envelope("Send", "1", '<SS N="P">abcd</SS>', 1))
    assert "BLANK" in "".join(meaning(one.body))
    same_request(one, same)
    for other in (other_message, other_action):
        with pytest.raises(AssertionError):
            same_request(one, other)


@pytest.mark.parametrize("file", sorted(CASSETTES.glob("*")), ids=lambda path: path.name)
def test_a_cassette_holds_no_secret_and_no_token(file: Any) -> None:
    text = file.read_text(encoding="utf-8")
    packed = [base64.b64decode(part) for part in re.findall(r"[A-Za-z0-9+/]{60,}={0,2}", text) if len(part) % 4 == 0]
    everything = text.encode() + b"".join(packed)
    for password in PASSWORDS:
        assert password.encode() not in everything
        assert password.encode("utf-16-le") not in everything
    assert b"NTLMSSP" not in everything
    assert "TlRMTVNT" not in text
    assert "Authorization" not in text
