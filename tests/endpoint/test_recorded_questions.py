"""The questions that were put to a real PowerShell, put to the simulated endpoint by our client: what the client makes
of the answers is what it makes of the recorded ones."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from bridge.endpoint import Command, EndpointSession, Parameter, Record, Value, open_session
from bridge.endpoint._clixml import decode_text
from bridge.endpoint._messages import Message, MessageType, StateChange, read_message
from bridge.secrets import Credential, Secret
from bridge.simulator import EndpointServer
from tests.support.recorded_commands import RECORDED_COMMANDS
from tests.support.simulated_endpoint import credential_of, stamp_of

RECORDINGS = Path(__file__).parents[2] / "fixtures" / "real-powershell" / "from-pypsrp"
POOL = uuid.UUID(int=1)
DIFFERENT_ON_PURPOSE = {
    "measure": "Measure-Object has StandardDeviation since PowerShell 6; the simulated endpoint is a 5.1",
}
NEVER_ASKED = {
    "arguments-local-date": "a date without a zone: our client refuses to send one",
    "stop": "stopped by hand in the middle",
}
QUESTIONS = {
    path.stem: conversation
    for path in sorted(RECORDINGS.glob("*.json"))
    if (conversation := json.loads(path.read_text(encoding="utf-8")))
    and sum(message.get("type") == "CREATE_PIPELINE" for message in conversation["messages"]) == 1
    and '<B N="IsScript">true</B>' not in json.dumps(conversation).replace('\\"', '"')
    and path.stem not in NEVER_ASKED
}


def value_of(element: ET.Element) -> Value:
    text = decode_text(element.text or "")
    match element.tag:
        case "Nil":
            return None
        case "B":
            return text == "true"
        case "I32":
            return int(text)
        case "DT":
            return datetime.fromisoformat(text)
        case "Obj" if element.find("LST") is not None:
            return tuple(value_of(item) for item in element.find("LST") or ())
        case "Obj":
            return Credential("CORP\\svc", Secret("x" * 14))
        case _:
            return text


def commands_of(clixml: str) -> list[Command]:
    """The commands of a recorded CREATE_PIPELINE."""
    shell = ET.fromstring(clixml).find(".//Obj[@N='PowerShell']/MS")
    assert shell is not None
    statements = shell.findall("Obj[@N='ExtraCmds']/LST/Obj/MS/Obj[@N='Cmds']/LST") or shell.findall(
        "Obj[@N='Cmds']/LST"
    )
    found = []
    for number, statement in enumerate(statements, 1):
        for place, command in enumerate(statement, 1):
            parameters = []
            for argument in command.findall("MS/Obj[@N='Args']/LST/Obj/MS"):
                name, value = argument.find("*[@N='N']"), argument.find("*[@N='V']")
                assert name is not None
                assert value is not None
                parameters.append(Parameter(name.text if name.tag == "S" else None, value_of(value)))
            last = place == len(statement) and number < len(statements)
            found.append(Command(command.findtext("MS/S[@N='Cmd']") or "", tuple(parameters), end_of_statement=last))
    return found


def summary(records: list[Record]) -> list[tuple[str, ...]]:
    """The records without what differs on purpose: versions, times and wording; repetitions of one kind once."""
    kinds = [
        (str(record.stream), record.error.error_id if record.error else "", _shape(record.data)) for record in records
    ]
    return [kind for place, kind in enumerate(kinds) if place == 0 or kinds[place - 1] != kind]


def _shape(data: Any) -> str:
    if isinstance(data, dict) and not any(key.startswith(("Error", "Tags", "Source")) for key in data):
        return ",".join(data)
    return type(data).__name__


@pytest.fixture(scope="module")
def session() -> Iterator[EndpointSession]:
    names = {command.name for question in QUESTIONS.values() for command in commands_of(_created(question))}
    with EndpointServer(RECORDED_COMMANDS) as server:
        with open_session(stamp_of(server), credential_of(server), allow=names) as opened:
            yield opened


def _created(question: dict[str, Any]) -> str:
    return next(str(message["clixml"]) for message in question["messages"] if message.get("type") == "CREATE_PIPELINE")


def test_there_are_questions() -> None:
    assert len(QUESTIONS) > 25


@pytest.mark.parametrize("name", QUESTIONS)
def test_the_simulated_answer_reads_like_the_real_one(session: EndpointSession, name: str) -> None:
    question = QUESTIONS[name]
    real: list[Record] = []
    change: StateChange | None = None
    for message in question["messages"]:
        if message.get("from") != "server" or "type" not in message:
            continue
        said = read_message(Message(MessageType[message["type"]], POOL, None, message["clixml"].encode()))
        if isinstance(said, Record):
            real.append(said)
        elif isinstance(said, StateChange):
            change = said
            real += [said.record] if said.record is not None else []
    assert change is not None
    pipeline = session.start(commands_of(_created(question)))
    simulated = list(pipeline.records())
    outcome = pipeline.wait()
    assert str(outcome.state) == change.state.name.lower()
    assert outcome.error is None or re.match(r"[A-Za-z]", outcome.error.error_id)
    assert (summary(simulated) == summary(real)) is (name not in DIFFERENT_ON_PURPOSE)
