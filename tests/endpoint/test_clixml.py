"""What a PSRP message holds becomes JSON-like data, whatever it holds."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest

from bridge.endpoint._clixml import MAX_TAGS, UnreadableCliXmlError, one_line, read_clixml, to_json


def read(text: str) -> Any:
    return to_json(read_clixml(text.encode()))


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        ("<S>plain</S>", "plain"),
        ("<S />", ""),
        ("<Nil />", None),
        ("<B>true</B>", True),
        ("<I32>-5</I32>", -5),
        ("<U64>18446744073709551615</U64>", 18446744073709551615),
        ("<Db>1.5</Db>", 1.5),
        ("<Db>NaN</Db>", "NaN"),
        ("<Db>-INF</Db>", "-INF"),
        ("<D>1.50</D>", "1.50"),
        ("<C>65</C>", "A"),
        ("<DT>2024-03-12T08:00:00.1234567+01:00</DT>", "2024-03-12T08:00:00.1234567+01:00"),
        ("<TS>PT1M</TS>", "PT1M"),
        ("<Version>5.1.17763</Version>", "5.1.17763"),
        ("<BA>AQID</BA>", "AQID"),
        ("<SS>c2VjcmV0</SS>", "***"),
        ("<S>a_x000A_b_x005F_x0041_</S>", "a\nb_x0041_"),
        ("<S>_xD83D__xDE00_</S>", "\U0001f600"),
    ],
)
def test_a_simple_value_keeps_its_kind(payload: str, expected: Any) -> None:
    assert read(payload) == expected


def test_a_lone_surrogate_becomes_visible_text_that_can_be_written() -> None:
    value = read("<S>broken_xD800_name</S>")
    assert value == "broken\\ud800name"
    value.encode("utf-8")


def test_an_object_is_a_dictionary_of_its_properties() -> None:
    value = read('<Obj RefId="0"><MS><S N="Role">ACS</S><I64 N="Bytes">7</I64></MS></Obj>')
    assert value == {"Role": "ACS", "Bytes": 7}


def test_an_enum_is_its_name_and_a_dictionary_and_a_list_are_themselves() -> None:
    value = read(
        '<Obj RefId="0"><MS>'
        '<Obj N="Type" RefId="1"><TN RefId="0"><T>X.Y</T><T>System.Enum</T></TN>'
        "<ToString>Done</ToString><I32>1</I32></Obj>"
        '<Obj N="List" RefId="2"><TN RefId="1"><T>System.Object[]</T></TN><LST><I32>1</I32><Nil /></LST></Obj>'
        '<Obj N="Map" RefId="3"><DCT><En><I32 N="Key">1</I32><S N="Value">one</S></En></DCT></Obj>'
        '<Obj N="Queue" RefId="4"><QUE><S>a</S></QUE></Obj>'
        "</MS></Obj>"
    )
    assert value == {"Type": "Done", "List": [1, None], "Map": {"1": "one"}, "Queue": ["a"]}


def test_an_object_that_holds_itself_can_be_printed() -> None:
    value = read('<Obj RefId="0"><MS><S N="Name">n</S><Ref N="Me" RefId="0" /></MS></Obj>')
    assert json.loads(json.dumps(value)) == {"Name": "n", "Me": {"$ref": "0"}}


def test_a_reference_to_a_finished_object_is_that_object() -> None:
    inner = '<Obj RefId="1"><MS><I32 N="X">1</I32></MS></Obj>'
    assert read(f'<Obj RefId="0"><LST>{inner}<Ref RefId="1" /></LST></Obj>') == [{"X": 1}, {"X": 1}]


def test_references_cannot_expand_without_end() -> None:
    def layer(number: int) -> str:
        held = f'<Ref RefId="{number - 1}" />' * 10 if number > 1 else "<I32>1</I32>"
        return f'<Obj RefId="{number}"><LST>{held}</LST></Obj>'

    layers = "".join(map(layer, range(1, 12)))
    with pytest.raises(UnreadableCliXmlError, match="expands"):
        read(f'<Obj RefId="0"><LST>{layers}</LST></Obj>')


@pytest.mark.parametrize(
    "payload",
    [
        "<S>no end",
        "<Unknown />",
        "<I32>many</I32>",
        "",
        "<!DOCTYPE x [<!ENTITY a 'b'>]><S>&a;</S>",
        "<?xml version='1.0' encoding='utf-16'?><S />",
        '<Obj RefId="0"><DCT><En><S N="Key">k</S></En></DCT></Obj>',
        '<Obj RefId="0"><LST>' * 200 + "</LST></Obj>" * 200,
    ],
)
def test_what_is_no_clixml_is_refused_with_one_error(payload: str) -> None:
    with pytest.raises(UnreadableCliXmlError):
        read(payload)


def test_bytes_that_are_no_utf8_are_refused() -> None:
    with pytest.raises(UnreadableCliXmlError):
        read_clixml(b"<S>\xff</S>")


def test_one_line_of_an_object_is_what_powershell_would_print() -> None:
    custom = (
        '<Obj RefId="0"><TN RefId="0"><T>System.Management.Automation.PSCustomObject</T></TN>'
        '<MS><S N="Role">ACS</S><Obj N="Nodes" RefId="1"><LST><S>a</S><S>b</S></LST></Obj></MS></Obj>'
    )
    named = (
        '<Obj RefId="0"><TN RefId="0"><T>X.Y</T></TN><ToString>the name</ToString>'
        '<Props><I32 N="A">1</I32></Props></Obj>'
    )
    assert one_line(read_clixml(custom.encode())) == "@{Role=ACS; Nodes=a b}"
    assert one_line(read_clixml(named.encode())) == "the name"


def chained(links: int, levels: int) -> str:
    """Objects a few levels deep, each of which holds the one before it at its bottom."""

    def link(number: int) -> str:
        held = f'<Ref RefId="top{number - 1}" />' if number else "<I32>1</I32>"
        inside = "".join(f'<Obj RefId="{number}-{level}"><LST>' for level in range(levels))
        return f'<Obj RefId="top{number}"><LST>{inside}{held}{"</LST></Obj>" * levels}</LST></Obj>'

    return f'<Obj RefId="all"><LST>{"".join(map(link, range(links)))}</LST></Obj>'


def test_references_cannot_pile_objects_up_to_any_depth() -> None:
    json.dumps(read(chained(2, 20)))
    with pytest.raises(UnreadableCliXmlError, match="deep"):
        read(chained(300, 40))


def test_one_long_text_cannot_be_referred_to_again_and_again() -> None:
    text = f'<Obj RefId="1"><S>{"x" * 1_000_000}</S></Obj>'
    assert len(read(f'<Obj RefId="0"><LST>{text}<Ref RefId="1" /></LST></Obj>')) == 2
    again = '<Ref RefId="1" />' * 500
    with pytest.raises(UnreadableCliXmlError, match="expands"):
        read(f'<Obj RefId="0"><LST>{text}{again}</LST></Obj>')


@pytest.mark.parametrize(
    "payload",
    [
        "<Obj>" + "<Nil/>" * (MAX_TAGS + 1) + "</Obj>",
        "<S " + " ".join(f'a{n:x}=""' for n in range(MAX_TAGS + 1)) + "/>",
    ],
    ids=["tags", "attributes"],
)
def test_a_payload_that_is_all_tags_or_attributes_is_refused_before_it_is_parsed(payload: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(UnreadableCliXmlError, match="tags or attributes"):
            read_clixml(payload.encode())
        assert tracemalloc.get_traced_memory()[1] < 4 * len(payload)
    finally:
        tracemalloc.stop()
