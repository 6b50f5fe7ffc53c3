"""What a PSRP message holds becomes JSON-like data, whatever it holds."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bridge.endpoint._clixml import UnreadableCliXmlError, one_line, read_clixml, to_json


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
