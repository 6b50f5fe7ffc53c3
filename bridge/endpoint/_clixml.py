"""Reads CLIXML (MS-PSRP 2.2.5) into JSON-like data, whatever a hostile or broken sender put into it.

pypsrp's reader ends the session on a lone surrogate and gives many types as something else; psrpcore's builds a Python
object for each .NET one. What the bridge keeps is JSON, so this reads the XML straight into it: one pass, with bounds
on size, depth and what references may expand to.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree as ET  # the DTDs and entities that defusedxml guards against are refused in parse()

from bridge.secrets import REDACTED

MAX_PAYLOAD_BYTES = 16 * 1024 * 1024
MAX_TAGS = 1_000_000  # what the tree of the parser may hold, and about as many attributes
MAX_DEPTH = 80  # PowerShell itself serialises remote output one to a few levels deep, never beyond 50
MAX_EXPANDED_NODES = 1_000_000  # what the JSON may hold once every Ref is written out

_CHARACTERS_OF_A_NODE = 64  # a text counts for as many values as it is long
_ESCAPED = re.compile(r"_x([0-9A-Fa-f]{4})_")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_INTEGERS = frozenset({"SB", "By", "I16", "U16", "I32", "U32", "I64", "U64"})
_TEXTS = frozenset({"S", "URI", "XD", "SBK", "Version", "G", "DT", "TS", "D", "BA", "ToString"})
_SEQUENCES = frozenset({"LST", "IE", "STK", "QUE"})


class UnreadableCliXmlError(ValueError):
    """A payload that is no CLIXML that this reader accepts; the caller keeps it as it came."""


@dataclass(slots=True)
class CliObject:
    """One ``<Obj>`` before it becomes JSON: its type names, its ``ToString`` and its properties by name."""

    type_names: tuple[str, ...] = ()
    to_string: str | None = None
    properties: dict[str, Any] = field(default_factory=dict)
    value: Any = None
    has_value: bool = False
    parts: dict[str, CliObject] = field(default_factory=dict)

    def is_a(self, type_name: str) -> bool:
        """Whether the object is of that .NET type, or was before it was deserialised on the way."""
        return any(name.removeprefix("Deserialized.") == type_name for name in self.type_names)

    def get(self, name: str, default: Any = None) -> Any:
        """A property by name; PowerShell's names have no case."""
        if name in self.properties:
            return self.properties[name]
        lowered = name.lower()
        return next((value for key, value in self.properties.items() if key.lower() == lowered), default)

    def text(self, name: str) -> str:
        """A property as text, empty where it is missing or null."""
        value = self.get(name)
        return "" if value is None else value if isinstance(value, str) else str(value)


def decode_text(text: str) -> str:
    """A CLIXML string without its ``_xHHHH_`` escapes (MS-PSRP 2.2.5.3.2).

    A surrogate without its partner (the name of a broken file) becomes the visible text ``\\ud800``, so that what is
    read can always be written as UTF-8.
    """
    if "_x" in text or "_X" in text:
        text = _ESCAPED.sub(lambda match: chr(int(match.group(1), 16)), text)
    if _SURROGATE.search(text):
        paired = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
        text = paired.encode("utf-8", "backslashreplace").decode("utf-8")
    return text


def read_clixml(payload: bytes) -> CliObject:
    """The top value of a PSRP message.

    Raises:
        UnreadableCliXmlError: The payload is not well-formed, declares entities, or exceeds a bound.
    """
    return _Reader().read(_parse(payload))


def _parse(payload: bytes) -> ET.Element:
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise UnreadableCliXmlError(f"{len(payload)} bytes are more than the {MAX_PAYLOAD_BYTES} that are read")
    if b"<!" in payload or b"<?" in payload:
        # CLIXML has neither declarations nor comments; without them there is no DTD, no entity and no other encoding.
        raise UnreadableCliXmlError("the payload holds an XML declaration or a DTD")
    if payload.count(b"<") > MAX_TAGS or payload.count(b'="') + payload.count(b"='") > MAX_TAGS:
        raise UnreadableCliXmlError(f"the payload has more than {MAX_TAGS} tags or attributes")
    try:
        return ET.fromstring(payload.decode("utf-8", "surrogatepass").encode("utf-8", "backslashreplace"))  # noqa: S314
    except (ET.ParseError, UnicodeDecodeError) as error:
        raise UnreadableCliXmlError(f"the payload is not well-formed: {error}") from error


@dataclass(frozen=True, slots=True)
class _Finished:
    """An object that may be referred to: what it is as JSON, and how many values and levels that has."""

    value: Any
    weight: int
    height: int


class _Reader:
    """Reads one message: references live as long as it does."""

    def __init__(self) -> None:
        self._objects: dict[str, _Finished] = {}
        self._open: set[str] = set()
        self._type_names: dict[str, tuple[str, ...]] = {}
        self._nodes = 0
        self._deepest = 0

    def read(self, element: ET.Element) -> CliObject:
        if element.tag == "Obj":
            return self._object(element, 0)
        return CliObject(value=self._value(element, 0), has_value=True)

    def _value(self, element: ET.Element, depth: int) -> Any:
        tag, text = element.tag, element.text or ""
        self._count(1 + len(text) // _CHARACTERS_OF_A_NODE)
        if tag == "Nil":
            return None
        if tag == "B":
            return text.strip().lower() == "true"
        if tag in _TEXTS:
            return decode_text(text)
        if tag in _INTEGERS:
            return _number(text, int)
        if tag in ("Db", "Sg"):
            return _finite(text)
        if tag == "C":
            return decode_text(chr(_number(text, int) & 0xFFFF))
        if tag == "SS":
            return REDACTED
        if tag == "Ref":
            return self._reference(element, depth)
        if tag == "PR":
            return {child.tag: decode_text(child.text or "") for child in element}
        if tag == "Obj":
            return to_json(self._object(element, depth))
        raise UnreadableCliXmlError(f"unknown element <{tag[:40]}>")

    def _object(self, element: ET.Element, depth: int) -> CliObject:
        if depth > MAX_DEPTH:
            raise UnreadableCliXmlError(f"objects are nested more than {MAX_DEPTH} deep")
        self._count(1)
        before, deepest = self._nodes, self._deepest
        self._deepest = depth
        reference = element.get("RefId")
        if reference is not None:
            self._open.add(reference)
        result = CliObject(type_names=self._types_of(element))
        for child in element:
            self._read_part(child, result, depth + 1)
        if reference is not None:
            self._open.discard(reference)
            self._objects[reference] = _Finished(to_json(result), self._nodes - before + 1, self._deepest - depth)
        self._deepest = max(self._deepest, deepest)
        return result

    def _read_part(self, child: ET.Element, result: CliObject, depth: int) -> None:
        tag = child.tag
        if tag in ("TN", "TNRef"):
            return
        if tag == "ToString":
            result.to_string = decode_text(child.text or "")
            self._count(1 + len(result.to_string) // _CHARACTERS_OF_A_NODE)
        elif tag in ("Props", "MS"):
            for part in child:
                name = decode_text(part.get("N", ""))
                if part.tag == "Obj":
                    inner = self._object(part, depth)
                    result.parts[name] = inner
                    result.properties[name] = to_json(inner)
                else:
                    result.properties[name] = self._value(part, depth)
        elif tag == "DCT":
            result.value, result.has_value = dict(self._entries(child, depth)), True
        elif tag in _SEQUENCES:
            result.value, result.has_value = [self._value(item, depth) for item in child], True
        else:
            result.value, result.has_value = self._value(child, depth), True

    def _entries(self, dictionary: ET.Element, depth: int) -> Iterator[tuple[str, Any]]:
        for entry in dictionary:
            parts = {part.get("N"): part for part in entry}
            if "Key" not in parts or "Value" not in parts:
                raise UnreadableCliXmlError("a dictionary entry lacks its key or its value")
            key = self._value(parts["Key"], depth)
            yield key if isinstance(key, str) else str(key), self._value(parts["Value"], depth)

    def _types_of(self, element: ET.Element) -> tuple[str, ...]:
        names = element.find("TN")
        if names is not None:
            found = tuple(decode_text(name.text or "") for name in names)
            self._type_names[names.get("RefId", "")] = found
            return found
        reference = element.find("TNRef")
        return self._type_names.get(reference.get("RefId", ""), ()) if reference is not None else ()

    def _reference(self, element: ET.Element, depth: int) -> Any:
        name = element.get("RefId", "")
        if name in self._open or name not in self._objects:
            return {"$ref": name}  # an object that holds itself cannot be written as JSON
        found = self._objects[name]
        self._count(found.weight)
        self._deepest = max(self._deepest, depth + found.height)
        if self._deepest > MAX_DEPTH:
            raise UnreadableCliXmlError(f"objects are nested more than {MAX_DEPTH} deep")
        return found.value

    def _count(self, nodes: int) -> None:
        self._nodes += nodes
        if self._nodes > MAX_EXPANDED_NODES:
            raise UnreadableCliXmlError(f"the payload expands to more than {MAX_EXPANDED_NODES} values")


def to_json(item: CliObject) -> Any:
    """The object as JSON-like data: an enum is its name, a list a list, anything with properties a dict of them."""
    if item.has_value:
        if item.is_a("System.Enum") and item.to_string is not None:
            return item.to_string
        return item.value
    if item.properties:
        return item.properties
    return item.to_string if item.to_string is not None else {}


def one_line(item: CliObject) -> str:
    """What a person would read of the object on one line: its ``ToString``, else ``@{Name=value; ...}``."""
    value = to_json(item)
    if isinstance(value, str):
        return value
    custom = item.is_a("System.Management.Automation.PSCustomObject") or not item.type_names
    if item.to_string and not custom:
        return item.to_string
    return _brief(value)


def _brief(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return str(value)
        case dict():
            return "@{" + "; ".join(f"{key}={_brief(part)}" for key, part in value.items()) + "}"
        case list():
            return " ".join(_brief(part) for part in value)
        case _:
            return str(value)


def _number(text: str, kind: type[int]) -> int:
    try:
        return kind(text)
    except ValueError as error:
        raise UnreadableCliXmlError(f"not a number: {text[:40]!r}") from error


def _finite(text: str) -> float | str:
    """A float, or the text itself for what JSON has no number for (NaN, Infinity)."""
    try:
        value = float(text.replace("INF", "inf"))
    except ValueError as error:
        raise UnreadableCliXmlError(f"not a number: {text[:40]!r}") from error
    return value if value == value and abs(value) != float("inf") else decode_text(text)  # noqa: PLR0124
