"""Fragments become messages and messages become records: judged by recordings of a real PowerShell."""

from __future__ import annotations

import json
import struct
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bridge.endpoint import Record, Stream, error_for
from bridge.endpoint._messages import (
    DamagedMessage,
    Defragmenter,
    HostCall,
    InvocationState,
    Message,
    MessageType,
    StateChange,
    read_message,
)
from bridge.errors import (
    BridgeError,
    CommandFailedError,
    CommandNotFoundError,
    ParameterRejectedError,
    ScriptNotAllowedError,
)

RECORDINGS = Path(__file__).parents[2] / "fixtures" / "real-powershell"
CONVERSATIONS = sorted(RECORDINGS.glob("from-*/*.json"))
NOW = datetime(2024, 3, 12, tzinfo=UTC)
POOL = uuid.UUID(int=1)


def from_server(conversation: Path) -> list[Message]:
    messages: list[dict[str, Any]] = json.loads(conversation.read_text(encoding="utf-8"))["messages"]
    return [
        Message(MessageType[message["type"]], POOL, None, message["clixml"].encode())
        for message in messages
        if message.get("from") == "server"
    ]


def said_in(name: str) -> tuple[list[Record], StateChange]:
    said = [read_message(message, NOW) for message in from_server(RECORDINGS / "from-pypsrp" / f"{name}.json")]
    change = next(item for item in said if isinstance(item, StateChange))
    return [item for item in said if isinstance(item, Record)], change


def fragment(object_id: int, number: int, flags: int, data: bytes) -> bytes:
    return struct.pack(">QQBI", object_id, number, flags, len(data)) + data


def body(text: str, kind: int = MessageType.PIPELINE_OUTPUT) -> bytes:
    return struct.pack("<II16s16s", 1, kind, POOL.bytes_le, bytes(16)) + text.encode()


def test_the_recordings_are_there() -> None:
    assert len(CONVERSATIONS) > 60


@pytest.mark.parametrize("conversation", CONVERSATIONS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_message_of_a_real_powershell_is_understood(conversation: Path) -> None:
    for message in from_server(conversation):
        said = read_message(message, NOW)
        if isinstance(said, Record):
            assert said.raw is None, said.text
            json.dumps(said.to_json()).encode()
            if said.stream is Stream.ERROR:
                assert said.error is not None
                assert said.error.message
                assert said.error.error_id
            if said.stream is Stream.PROGRESS:
                assert said.progress is not None
                assert said.progress.activity
        elif isinstance(said, HostCall):
            assert said.method


def test_a_collection_shows_progress_a_warning_and_its_output() -> None:
    records, change = said_in("collect-ok")
    assert [str(record.stream) for record in records] == ["verbose", *["progress"] * 4, "warning", "output"]
    first, last = records[1].progress, records[4].progress
    assert first is not None
    assert (first.activity, first.activity_id, first.percent, first.operation) == ("Collecting", 1, 33, "Storage")
    assert first.seconds_remaining == 2
    assert not first.completed
    assert last is not None
    assert last.completed
    assert last.percent == -1
    assert records[5].text == "One node did not answer"
    assert change.state is InvocationState.COMPLETED


def test_objects_keep_their_properties_and_types() -> None:
    records, _ = said_in("objects")
    data = [record.data for record in records if record.stream is Stream.OUTPUT]
    assert [item["Role"] for item in data] == ["R1", "R2", "R3"]
    assert data[0]["Bytes"] == 1073741824
    assert data[0]["Ok"] is True
    assert data[0]["When"].startswith("2024-03-12T08:00:00")


def test_what_write_host_wrote_is_an_information_record_with_its_tag() -> None:
    records, _ = said_in("information")
    information = [record for record in records if record.stream is Stream.INFORMATION]
    assert [record.text for record in information] == ["an information record", "host text"]
    assert information[0].data["Tags"] == ["tag1"]
    assert information[1].data["Tags"] == ["PSHOST"]


def test_bound_parameters_never_reach_a_record() -> None:
    conversation = RECORDINGS / "from-pypsrp" / "arguments.json"
    assert "InvocationInfo_BoundParameters" in conversation.read_text(encoding="utf-8")
    records, _ = said_in("arguments")
    for record in records:
        if record.stream is not Stream.OUTPUT:
            assert "sig=abc" not in json.dumps(record.to_json())


def test_a_nonterminating_error_is_a_record_and_the_pipeline_completes() -> None:
    records, change = said_in("error-nonterminating")
    errors = [record.error for record in records if record.error is not None]
    assert [(error.error_id, error.category, error.target, error.terminating) for error in errors] == [
        ("RoleFailed,Get-AzureStackLog", "ResourceUnavailable", "X", False)
    ]
    assert change.state is InvocationState.COMPLETED


@pytest.mark.parametrize(
    ("name", "kind", "told"),
    [
        ("refused-script", ScriptNotAllowedError, ""),
        ("refused-script-of-one-command", ScriptNotAllowedError, ""),
        ("unknown-command", CommandNotFoundError, "Get-NoSuchThing"),
        ("unknown-parameter", ParameterRejectedError, "NoSuch"),
        ("wrong-type", ParameterRejectedError, "FromDate"),
        ("not-in-validateset", ParameterRejectedError, "Mode"),
        ("ambiguous-parameter", ParameterRejectedError, "Get-AzureStackLog"),
        ("parameter-twice", ParameterRejectedError, "Get-AzureStackLog"),
        ("error-terminating", CommandFailedError, "cannot reach share"),
        ("error-throw", CommandFailedError, "plain throw"),
        ("error-action-stop", CommandFailedError, "Role X failed"),
    ],
)
def test_each_way_to_fail_is_an_error_of_its_own(name: str, kind: type[BridgeError], told: str) -> None:
    _, change = said_in(name)
    assert change.state is InvocationState.FAILED
    assert change.error is not None
    assert change.error.terminating
    error = error_for(change.error, "Get-AzureStackLog")
    assert type(error) is kind
    assert told in str(error)


def test_an_unreadable_record_keeps_its_payload_and_does_not_raise() -> None:
    said = read_message(Message(MessageType.PIPELINE_OUTPUT, POOL, None, b"<Obj><broken"), NOW)
    assert isinstance(said, Record)
    assert said.raw == "<Obj><broken"
    assert "could not be read" in said.text


def test_an_empty_output_is_null() -> None:
    said = read_message(Message(MessageType.PIPELINE_OUTPUT, POOL, None, b""), NOW)
    assert isinstance(said, Record)
    assert said.data is None
    assert said.raw is None


def test_a_message_of_an_unknown_type_is_no_record() -> None:
    assert not isinstance(read_message(Message(0x00049999, POOL, None, b"<S>x</S>"), NOW), Record)


def test_fragments_of_several_messages_may_be_mixed_and_cut_anywhere() -> None:
    first, second = body("<S>first</S>"), body("<S>second</S>")
    stream = (
        fragment(7, 0, 1, first[:20])
        + fragment(8, 0, 1, second[:50])
        + fragment(7, 1, 2, first[20:])
        + fragment(8, 1, 2, second[50:])
    )
    for cut in range(len(stream)):
        defragmenter = Defragmenter()
        found = [*defragmenter.feed(stream[:cut]), *defragmenter.feed(stream[cut:])]
        assert [message.payload for message in found if isinstance(message, Message)] == [
            b"<S>first</S>",
            b"<S>second</S>",
        ]


def test_a_missing_fragment_loses_only_its_message_and_is_told_once() -> None:
    whole = body("<S>whole</S>")
    stream = fragment(1, 1, 0, b"middle") + fragment(1, 2, 2, b"end") + fragment(2, 0, 3, whole)
    found = list(Defragmenter().feed(stream))
    assert [type(item) for item in found] == [DamagedMessage, Message]


def test_a_fragment_that_claims_gigabytes_does_not_stop_the_next_answer() -> None:
    defragmenter = Defragmenter()
    hostile = struct.pack(">QQBI", 1, 0, 3, 0xFFFFFFFF) + b"x"
    assert isinstance(next(iter(defragmenter.feed(hostile))), DamagedMessage)
    found = list(defragmenter.feed(fragment(2, 0, 3, body("<S>next</S>"))))
    assert [item.payload for item in found if isinstance(item, Message)] == [b"<S>next</S>"]


def test_a_message_as_a_fragment_reads_back_as_itself() -> None:
    message = Message(MessageType.PIPELINE_OUTPUT, POOL, uuid.UUID(int=9), b"<S>x</S>")
    assert list(Defragmenter().feed(message.as_fragment())) == [message]
