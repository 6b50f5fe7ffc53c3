"""Writes values as CLIXML exactly as Windows PowerShell 5.1 does (MS-PSRP 2.2.5), one text per message.

psrpcore's serializer is made for clients: its objects carry no ``<ToString>``, cannot keep adapted beside extended
properties, and cost four times as much. What comes in is read with psrpcore; what goes out is written here, so that it
can be held against recordings of real hosts property by property.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from bridge.simulator._command import CredentialValue, Int64

_ESCAPED = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\U00010000-\U0010ffff]|_(?=x[0-9A-Fa-f]{4}_)")

OBJECT = "System.Object"
CORE_LIBRARY = "mscorlib, Version=4.0.0.0, Culture=neutral, PublicKeyToken=b77a5c561934e089"
"""The assembly of the base types in Windows PowerShell 5.1; 7.x says System.Private.CoreLib."""


def generic(name: str, *arguments: str) -> str:
    """The name of a generic type with arguments of the base library: ``name`[[argument, mscorlib, ...]]``."""
    inner = ",".join(f"[{argument}, {CORE_LIBRARY}]" for argument in arguments)
    return f"{name}`{len(arguments)}[{inner}]"


@dataclass(frozen=True, slots=True)
class Scalar:
    """A primitive with an explicit CLIXML tag (``U32``, ``Version``, ``URI``, ``SBK``, ...)."""

    tag: str
    text: str


@dataclass(frozen=True, slots=True)
class Enum:
    """A .NET enumeration value."""

    type_name: str
    name: str
    value: int


@dataclass(frozen=True, slots=True)
class SecureText:
    """A SecureString; encrypted with the session key when it is written."""

    text: str

    def __repr__(self) -> str:
        return "SecureText(***)"


@dataclass(eq=False, slots=True)
class Thing:
    """An object: adapted properties go to ``<Props>``, extended ones to ``<MS>``; the same ``Thing`` twice in one
    message becomes a ``<Ref>``."""

    types: tuple[str, ...] = ()
    text: str | None = None
    adapted: list[tuple[str, Any]] | None = None
    extended: list[tuple[str, Any]] | None = None
    items: Iterable[Any] | None = None
    entries: list[tuple[Any, Any]] | None = None
    base: Any = None
    """A primitive that carries extended properties (an annotated string)."""


class Encryptor:
    """Encrypts a SecureString with the session key; the default refuses, as a session without a key does."""

    def encrypt(self, text: str) -> str:
        raise LookupError("no session key has been exchanged")


def array(items: Iterable[Any], element_type: str = OBJECT) -> Thing:
    """A .NET array."""
    return Thing((f"{element_type}[]", "System.Array", OBJECT), items=items)


def generic_list(items: Iterable[Any], element_type: str) -> Thing:
    """A ``List<T>`` of a type of the base library."""
    return Thing((generic("System.Collections.Generic.List", element_type), OBJECT), items=items)


def to_clixml(value: Any, encryptor: Encryptor | None = None) -> str:
    """The CLIXML of one message payload."""
    writer = _Writer(encryptor or Encryptor())
    writer.write(value, None)
    return "".join(writer.parts)


def escape(text: str) -> str:
    """Text as CLIXML holds it: control characters and every UTF-16 surrogate as ``_xHHHH_``."""
    text = _ESCAPED.sub(_escape_character, text)
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _escape_character(match: re.Match[str]) -> str:
    units = match[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"_x{units[i]:02X}{units[i + 1]:02X}_" for i in range(0, len(units), 2))


def format_datetime(value: datetime) -> str:
    """A date as .NET's XmlConvert writes it: seven digits of fraction without trailing zeros, numeric offset."""
    fraction = f"{value.microsecond:06d}".rstrip("0")
    base = value.strftime("%Y-%m-%dT%H:%M:%S") + (f".{fraction}" if fraction else "")
    offset = value.utcoffset()
    if offset is None:
        return base
    minutes = int(offset.total_seconds() // 60)
    sign = "-" if minutes < 0 else "+"
    return f"{base}{sign}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}"


def _format_timespan(value: timedelta) -> str:
    sign = "-" if value < timedelta() else ""
    value = abs(value)
    hours, rest = divmod(value.seconds, 3600)
    minutes, seconds = divmod(rest, 60)
    days = f"{value.days}D" if value.days else ""
    fraction = f".{value.microseconds:06d}".rstrip("0") if value.microseconds else ""
    parts = [f"{hours}H" if hours else "", f"{minutes}M" if minutes else ""]
    parts.append(f"{seconds}{fraction}S" if seconds or fraction or not any((days, *parts)) else "")
    time = "".join(parts)
    return f"{sign}P{days}" + (f"T{time}" if time else "")


class _Writer:
    def __init__(self, encryptor: Encryptor) -> None:
        self.parts: list[str] = []
        self._encryptor = encryptor
        self._references: dict[int, tuple[int, Thing]] = {}  # keeps each Thing alive, or its id could come again
        self._types: dict[tuple[str, ...], int] = {}
        self._count = 0

    def write(self, value: Any, name: str | None) -> None:
        n = "" if name is None else f' N="{escape(name).replace(chr(34), "&quot;")}"'
        scalar = self._scalar(value)
        if scalar is not None:
            tag, text = scalar
            self.parts.append(f"<{tag}{n}>{text}</{tag}>" if text is not None else f"<{tag}{n} />")
        else:
            self._write_object(_as_thing(value), n)

    def _scalar(self, value: Any) -> tuple[str, str | None] | None:  # noqa: PLR0912 - one case a primitive
        match value:
            case None:
                return "Nil", None
            case bool():
                return "B", "true" if value else "false"
            case str():
                return "S", escape(value)
            case Int64():
                return "I64", str(int(value))
            case int():
                return ("I32" if -(2**31) <= value < 2**31 else "I64"), str(value)
            case float():
                return "Db", repr(value)
            case Decimal():
                return "D", str(value)
            case datetime():
                return "DT", format_datetime(value)
            case timedelta():
                return "TS", _format_timespan(value)
            case UUID():
                return "G", str(value)
            case Scalar():
                return value.tag, escape(value.text)
            case SecureText():
                return "SS", self._encryptor.encrypt(value.text)
            case _:
                return None

    def _write_object(self, thing: Thing | Enum, n: str) -> None:
        known = self._references.get(id(thing)) if isinstance(thing, Thing) else None
        if known is not None:
            self.parts.append(f'<Ref{n} RefId="{known[0]}" />')
            return
        reference = self._count
        self._count += 1
        self.parts.append(f'<Obj{n} RefId="{reference}">')
        if isinstance(thing, Enum):
            self._write_types((thing.type_name, "System.Enum", "System.ValueType", OBJECT))
            self.parts.append(f"<ToString>{escape(thing.name)}</ToString><I32>{thing.value}</I32></Obj>")
            return
        self._references[id(thing)] = (reference, thing)
        self._write_types(thing.types)
        if thing.text is not None:
            self.parts.append(f"<ToString>{escape(thing.text)}</ToString>")
        if thing.base is not None:
            self.write(thing.base, None)
        self._write_items(thing)
        for tag, properties in (("Props", thing.adapted), ("MS", thing.extended)):
            if properties is not None:
                self.parts.append(f"<{tag}>")
                for key, item in properties:
                    self.write(item, key)
                self.parts.append(f"</{tag}>")
        self.parts.append("</Obj>")

    def _write_items(self, thing: Thing) -> None:
        if thing.items is not None:
            start = len(self.parts)
            self.parts.append("<LST>")
            for item in thing.items:
                self.write(item, None)
            self.parts[start:] = ["<LST />"] if len(self.parts) == start + 1 else [*self.parts[start:], "</LST>"]
        if thing.entries is not None:
            if not thing.entries:
                self.parts.append("<DCT />")
                return
            self.parts.append("<DCT>")
            for key, item in thing.entries:
                self.parts.append("<En>")
                self.write(key, "Key")
                self.write(item, "Value")
                self.parts.append("</En>")
            self.parts.append("</DCT>")

    def _write_types(self, types: tuple[str, ...]) -> None:
        if not types:
            return
        known = self._types.get(types)
        if known is not None:
            self.parts.append(f'<TNRef RefId="{known}" />')
            return
        self._types[types] = len(self._types)
        names = "".join(f"<T>{escape(name)}</T>" for name in types)
        self.parts.append(f'<TN RefId="{self._types[types]}">{names}</TN>')


def _as_thing(value: Any) -> Thing | Enum:
    match value:
        case Thing() | Enum():
            return value
        case CredentialValue():
            return Thing(
                ("System.Management.Automation.PSCredential", OBJECT),
                text="System.Management.Automation.PSCredential",
                adapted=[("UserName", value.username), ("Password", SecureText(value.password))],
            )
        case Mapping():
            own = value.get("PSTypeName")
            types = ("System.Management.Automation.PSCustomObject", OBJECT)
            return Thing(
                (str(own), *types) if own else types,
                extended=[(str(key), item) for key, item in value.items() if key != "PSTypeName"],
            )
        case list() | tuple() | frozenset() | set():
            return array(value)
        case _:
            raise TypeError(f"a command wrote a {type(value).__name__}, which has no CLIXML form here")
