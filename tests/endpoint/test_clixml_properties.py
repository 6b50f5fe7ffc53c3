"""Whatever bytes an endpoint sends, the reader answers with data or with one error, and the pipeline goes on."""

from __future__ import annotations

import json
import uuid

from hypothesis import given
from hypothesis import strategies as st

from bridge.endpoint import Record
from bridge.endpoint._clixml import UnreadableCliXmlError, decode_text, read_clixml, to_json
from bridge.endpoint._messages import DamagedMessage, Defragmenter, Message, MessageType, read_message

TAGS = st.sampled_from(
    ["Obj", "MS", "Props", "LST", "DCT", "En", "S", "I32", "Ref", "TN", "TNRef", "T", "ToString", "B"]
)
ATTRIBUTES = st.sampled_from(["", ' N="Key"', ' N="Value"', ' RefId="0"', ' RefId="1"', ' N="A" RefId="0"'])
TEXT = st.text(alphabet="a1_x0DF;\n ", max_size=8)


def element(children: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.builds(
        lambda tag, attributes, inside: f"<{tag}{attributes}>{''.join(inside)}</{tag}>",
        TAGS,
        ATTRIBUTES,
        st.lists(children, max_size=4),
    )


DOCUMENTS = element(st.recursive(TEXT, element, max_leaves=20))


@given(DOCUMENTS)
def test_any_well_formed_document_is_data_that_json_takes_or_one_error(document: str) -> None:
    try:
        value = to_json(read_clixml(document.encode()))
    except UnreadableCliXmlError:
        return
    json.dumps(value).encode()


@given(st.binary(max_size=200))
def test_any_bytes_are_a_record(payload: bytes) -> None:
    for kind in (MessageType.PIPELINE_OUTPUT, MessageType.ERROR_RECORD, MessageType.PROGRESS_RECORD):
        said = read_message(Message(kind, uuid.UUID(int=1), None, payload))
        assert isinstance(said, Record)
        json.dumps(said.to_json()).encode()


@given(DOCUMENTS, st.sampled_from(list(MessageType)))
def test_any_document_in_any_message_is_read_or_refused_with_one_error(document: str, kind: MessageType) -> None:
    try:
        read_message(Message(kind, uuid.UUID(int=1), None, document.encode()))
    except UnreadableCliXmlError:
        return


@given(st.lists(st.binary(max_size=60), max_size=5))
def test_any_fragments_are_messages_or_damage(parts: list[bytes]) -> None:
    defragmenter = Defragmenter()
    for part in parts:
        for found in defragmenter.feed(part):
            assert isinstance(found, (Message, DamagedMessage))


@given(st.text())
def test_any_text_without_escapes_is_itself_and_can_be_written(text: str) -> None:
    decoded = decode_text(text.replace("_", "-"))
    assert decoded == text.replace("_", "-")
    decoded.encode("utf-8")
