"""A PEP script as an object: its help, its parameters, and the commands that it sends with given values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, NoReturn

from bridge.endpoint._commands import Command, Hashtable, Int64, Value
from bridge.endpoint.script._convert import convert_program, read_program, set_default, valid_values
from bridge.endpoint.script._declared import Declared, declared_type
from bridge.endpoint.script._evaluate import Evaluator
from bridge.endpoint.script._help import Help, read_help
from bridge.endpoint.script._parser import LONGEST_TEXT
from bridge.endpoint.script._source import Source
from bridge.endpoint.script._syntax import Attribute, Number, ParameterDeclaration, Program, Text
from bridge.errors import ScriptArgumentError, ScriptRefusedError, UsageError
from bridge.secrets import Credential, Secret

_PACKAGE = "pep_scripts"
_COMMON: Mapping[str, Declared] = {
    "Verbose": Declared.SWITCH,
    "Debug": Declared.SWITCH,
    "ErrorAction": Declared.STRING,
    "WarningAction": Declared.STRING,
    "InformationAction": Declared.STRING,
}
_SIMPLE_PATTERN = re.compile(r"[A-Za-z0-9 ^$.*+?\[\]{}()|\\_/:@-]*")


@dataclass(frozen=True, slots=True)
class ScriptParameter:
    """One parameter of a script. ``default_text`` is its default as written; ``valid`` its ValidateSet."""

    name: str
    type: Declared
    mandatory: bool = False
    default_text: str | None = None
    valid: tuple[str, ...] = ()
    help: str = ""
    aliases: tuple[str, ...] = ()

    def answers_to(self, name: str) -> bool:
        """Whether a name, in any case, is this parameter's own or an alias."""
        return name.lower() in (self.name.lower(), *(alias.lower() for alias in self.aliases))


@dataclass(frozen=True)
class Script:
    """A PEP script that has been read and can be sent."""

    name: str
    source: Source = field(repr=False)
    program: Program = field(repr=False)
    help: Help = field(repr=False)
    parameters: tuple[ScriptParameter, ...]

    @property
    def synopsis(self) -> str:
        return self.help.synopsis

    @property
    def description(self) -> str:
        return self.help.description

    @property
    def text(self) -> str:
        return self.source.text

    @cached_property
    def command_names(self) -> tuple[str, ...]:
        """Every command that the script may send, each once, in order; one that is computed, as it is written."""
        calls = (call for statement in self.program.statements for call in statement)
        names = (
            call.name.value if isinstance(call.name, Text) else self.text[call.name.start : call.name.end]
            for call in calls
        )
        return tuple(dict.fromkeys(names))

    @property
    def takes_common_parameters(self) -> bool:
        """Whether it is an advanced script (``[CmdletBinding()]`` or ``[Parameter()]``): -Verbose and others bind."""
        declarations = self.program.parameters or ()
        return bool(self.program.attributes) or any(_attribute(each, "parameter") for each in declarations)

    def parameter(self, name: str) -> ScriptParameter:
        """The parameter of a name or alias, common ones included. Raises :class:`ScriptArgumentError`."""
        for parameter in self._accepted():
            if parameter.answers_to(name):
                return parameter
        known = ", ".join(parameter.name for parameter in self.parameters) or "none"
        raise ScriptArgumentError(parameter=name, detail=f"{self.name} has no such parameter", fix=f"It has: {known}.")

    def _accepted(self) -> tuple[ScriptParameter, ...]:
        if not self.takes_common_parameters:
            return self.parameters
        return self.parameters + tuple(ScriptParameter(name, kind) for name, kind in _COMMON.items())

    def bind(
        self, arguments: Mapping[str, Value], *, variables: Mapping[str, Value] | None = None
    ) -> tuple[Command, ...]:
        """The commands that the script sends with these values.

        Args:
            arguments: values by parameter name or alias, typed as :func:`convert_value` gives them.
            variables: what ``$using:name`` stands for.

        Raises:
            ScriptArgumentError: a parameter is unknown, missing, given twice, or its value does not fit.
            ScriptRefusedError: the script needs a value that was not given, or cannot be computed.
        """
        given = self._given(arguments)
        values: dict[str, Value] = {f"using:{name.lower()}": value for name, value in (variables or {}).items()}
        values["args"] = ()
        bound: list[tuple[str, Value]] = []
        for parameter in self._accepted():
            if parameter.name in given:
                values[parameter.name.lower()] = given[parameter.name]
                bound.append((parameter.name, given[parameter.name]))
        for declaration in self.program.parameters or ():
            if declaration.name.lower() not in values:
                set_default(self.source, declaration, values)
        return convert_program(self.source, self.program, values, bound=bound)

    def _given(self, arguments: Mapping[str, Value]) -> dict[str, Value]:
        given: dict[str, Value] = {}
        for name, value in arguments.items():
            parameter = self.parameter(name)
            if parameter.name in given:
                _refuse(parameter.name, "it is given twice", "Give it once.")
            given[parameter.name] = self._checked(parameter, value)
        for parameter in self.parameters:
            if parameter.mandatory and parameter.name not in given:
                _refuse(parameter.name, f"{self.name} needs it", f"Give it with '-p {parameter.name}=...'.")
        return given

    def _checked(self, parameter: ScriptParameter, value: Value) -> Value:
        fitted = _fit(parameter, value)
        allowed = [each.lower() for each in parameter.valid]
        items = fitted if isinstance(fitted, tuple) else (fitted,)
        for item in items:
            if allowed and str(item).lower() not in allowed:
                _refuse(
                    parameter.name, f"'{item}' is not one of its values", f"Give one of {', '.join(parameter.valid)}."
                )
        for declaration in self.program.parameters or ():
            if declaration.name == parameter.name:
                _validate(self.source, declaration, parameter, items)
        return fitted


def _refuse(name: str, detail: str, fix: str) -> NoReturn:
    raise ScriptArgumentError(parameter=name, detail=detail, fix=fix)


def _fit(parameter: ScriptParameter, value: Value) -> Value:
    """The value, where it is of the declared type; text for a list becomes a list of one."""
    kinds: dict[Declared, tuple[type, ...]] = {
        Declared.STRING: (str,),
        Declared.URI: (str,),
        Declared.INT: (int,),
        Declared.LONG: (Int64,),
        Declared.DOUBLE: (float,),
        Declared.SWITCH: (bool,),
        Declared.BOOL: (bool,),
        Declared.DATETIME: (datetime,),
        Declared.PSCREDENTIAL: (Credential,),
        Declared.SECURESTRING: (Secret,),
        Declared.HASHTABLE: (Hashtable,),
    }
    if parameter.type in (Declared.STRING, Declared.URI) and isinstance(value, Secret):
        return value.reveal()
    if parameter.type in (Declared.STRINGS, Declared.INTS):
        kinds[parameter.type] = (tuple,)
        item = str if parameter.type is Declared.STRINGS else int
        value = value if isinstance(value, tuple) else (value,)
        if any(not isinstance(each, item) or isinstance(each, bool) for each in value):
            _refuse(parameter.name, f"a value of type [{parameter.type}] is expected", "Give another value.")
    fits = parameter.type is Declared.OBJECT or isinstance(value, kinds[parameter.type])
    if not fits or (parameter.type is Declared.INT and isinstance(value, bool)):
        _refuse(parameter.name, f"a value of type [{parameter.type}] is expected", "Give another value.")
    if isinstance(value, datetime) and value.tzinfo is None:
        _refuse(parameter.name, "the date has no time zone", "Give it with an offset.")
    return value


def _validate(
    source: Source, declaration: ParameterDeclaration, parameter: ScriptParameter, items: tuple[Value, ...]
) -> None:
    """Apply the Validate attributes other than ValidateSet, as PowerShell would locally."""
    for attribute in declaration.attributes:
        constants = [_constant(source, node) for node in attribute.positional]
        match attribute.name.lower(), constants:
            case "validaterange", [int() as lowest, int() as highest]:
                if any(not isinstance(item, int) or not lowest <= item <= highest for item in items):
                    _refuse(parameter.name, "it is out of range", f"Give a number from {lowest} to {highest}.")
            case "validatepattern", [str() as pattern] if _SIMPLE_PATTERN.fullmatch(pattern) and "(?" not in pattern:
                if any(not isinstance(item, str) or not re.search(pattern, item, re.IGNORECASE) for item in items):
                    _refuse(parameter.name, "it does not have the form that is expected", f"The form is {pattern}")
            case (("validatenotnullorempty" | "validatenotnull"), []):
                if not items or any(item is None or item == "" for item in items):
                    _refuse(parameter.name, "it is empty", "Give a value, or leave the parameter out.")
            case name, _ if name.startswith("validate") and name != "validateset":
                detail = f"the bridge does not check [{attribute.name}]"
                source.refuse(attribute.start, attribute.end, "BridgeAttribute", detail, "Use ValidateSet.")


def _constant(source: Source, node: Any) -> Value:
    return node.literal.value if isinstance(node, Number) else Evaluator(source, {}).value(node)


# -- reading ----------------------------------------------------------------------------------------------------------


def read_script(text: str, *, name: str = "script", file: str = "<text>") -> Script:
    """The script that a text is. Raises :class:`ScriptRefusedError` where no endpoint would take it."""
    source = Source(text.removeprefix("\ufeff"), file)
    program = read_program(source)
    help_text = read_help(source.text)
    parameters = tuple(_parameter(source, each, help_text) for each in program.parameters or ())
    return Script(name, source, program, help_text, parameters)


def _parameter(source: Source, declaration: ParameterDeclaration, help_text: Help) -> ScriptParameter:
    kind = declared_type(declaration.type)
    if kind is None:
        detail = f"no value of type [{declaration.type}] can be given"
        source.refuse(declaration.start, declaration.end, "BridgeTypeName", detail, "Declare another type.")
    alias = _attribute(declaration, "alias")
    default = declaration.default
    return ScriptParameter(
        name=declaration.name,
        type=kind,
        mandatory=_is_mandatory(source, declaration),
        default_text=None if default is None else source.text[default.start : default.end],
        valid=valid_values(declaration),
        help=help_text.parameters.get(declaration.name.lower(), ""),
        aliases=tuple(node.value for node in alias.positional if isinstance(node, Text)) if alias else (),
    )


def _attribute(declaration: ParameterDeclaration, name: str) -> Attribute | None:
    return next((each for each in declaration.attributes if each.name.lower() == name), None)


def _is_mandatory(source: Source, declaration: ParameterDeclaration) -> bool:
    attribute = _attribute(declaration, "parameter")
    for name, node in attribute.named if attribute else ():
        if name.lower() == "mandatory":
            return node is None or bool(Evaluator(source, {}).value(node))
    return False


def load_script(path_or_name: str | Path) -> Script:
    """The script in a file, or the one of that name that is shipped with the bridge.

    Raises:
        UsageError: there is no such script, or its file cannot be read.
        ScriptRefusedError: no endpoint would take it.
    """
    path = Path(path_or_name)
    if isinstance(path_or_name, str) and not path.is_file():
        wanted = path_or_name.lower().removesuffix(".ps1")
        for name, entry in _shipped_files().items():
            if name.lower() == wanted:
                return _read_shipped(name, entry)
    return read_script(_read(path), name=path.stem, file=str(path))


def list_scripts() -> tuple[Script, ...]:
    """The scripts that are shipped with the bridge, by name."""
    return tuple(_read_shipped(name, entry) for name, entry in sorted(_shipped_files().items()))


def _shipped_files() -> dict[str, Traversable]:
    entries = resources.files(_PACKAGE).iterdir()
    return {entry.name.removesuffix(".ps1"): entry for entry in entries if entry.name.endswith(".ps1")}


def _read_shipped(name: str, entry: Traversable) -> Script:
    return read_script(entry.read_text(encoding="utf-8"), name=name, file=f"{_PACKAGE}/{entry.name}")


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > 4 * LONGEST_TEXT:
            raise UsageError(detail=f"The script {path} is too large.", fix="Split it.")
        raw = path.read_bytes()
    except OSError as error:
        fix = "'pep-bridge run --list' shows the scripts that are shipped; a path names any other."
        raise UsageError(detail=f"The script {path} cannot be read: {error.strerror}.", fix=fix) from error
    encoding = "utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as error:
        raise UsageError(detail=f"The script {path} is not UTF-8 text.", fix="Save it as UTF-8.") from error


# -- checking ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a text is refused: where, what stands there, and what to write instead."""

    file: str
    line: int
    column: int
    text: str
    detail: str
    fix: str
    error_id: str


def check_text(text: str, *, file: str = "<text>") -> list[Problem]:
    """The problems of a script's text, the first one only; none where an endpoint would take it."""
    try:
        read_script(text, file=file)
    except ScriptRefusedError as error:
        where = error.fields
        return [
            Problem(
                file=where["file"],
                line=where["line"],
                column=where["column"],
                text=where["text"],
                detail=where["detail"],
                fix=error.advice,
                error_id=where["error_id"],
            )
        ]
    return []
