"""Turns a parsed script and the values of its variables into the commands that are sent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from bridge.endpoint._commands import Command, Hashtable, Parameter, Value
from bridge.endpoint.script._casts import cast, type_key
from bridge.endpoint.script._evaluate import CONSTANTS, Evaluator
from bridge.endpoint.script._numeric import NotExactError
from bridge.endpoint.script._parser import parse
from bridge.endpoint.script._source import Source
from bridge.endpoint.script._syntax import (
    Argument,
    Attribute,
    CommandCall,
    Expandable,
    Expression,
    Index,
    Member,
    Node,
    Number,
    ParameterDeclaration,
    Program,
    Splat,
    Text,
    Variable,
)
from bridge.endpoint.script._walk import walk, walk_defaults, walk_statements

USING = "using:"
BOUND = "psboundparameters"
_WITHOUT_VALUE: dict[str, Value] = {"string": "", "int": 0, "switch": False, "bool": False, "double": 0.0}
_NEEDS_VALUE = ("datetime", "timespan", "decimal", "char")
_UNDECLARED_FIX = "Declare it in param() and give its value when the script is run, or write $using:Name."
_ATTRIBUTES: Mapping[str, tuple[range, frozenset[str]]] = {
    "cmdletbinding": (
        range(1),
        frozenset(
            {"defaultparametersetname", "supportsshouldprocess", "confirmimpact", "helpuri", "positionalbinding"}
        ),
    ),
    "parameter": (
        range(1),
        frozenset(
            {
                "mandatory",
                "position",
                "parametersetname",
                "valuefrompipeline",
                "valuefrompipelinebypropertyname",
                "valuefromremainingarguments",
                "helpmessage",
                "dontshow",
            }
        ),
    ),
    "validateset": (range(1, 1000), frozenset({"ignorecase"})),
    "alias": (range(1, 1000), frozenset()),
    "validaterange": (range(2, 3), frozenset()),
    "validatelength": (range(2, 3), frozenset()),
    "validatecount": (range(2, 3), frozenset()),
    "validatepattern": (range(1, 2), frozenset()),
    "validatenotnull": (range(1), frozenset()),
    "validatenotnullorempty": (range(1), frozenset()),
    "allownull": (range(1), frozenset()),
    "allowemptystring": (range(1), frozenset()),
    "allowemptycollection": (range(1), frozenset()),
    "supportswildcards": (range(1), frozenset()),
    "credential": (range(1), frozenset()),
}
"""How many values each attribute takes, and its properties, in both versions (about_Functions_Advanced_Parameters)."""


def read_program(source: Source) -> Program:
    """Parse and check a text, whatever values it will get.

    Raises:
        ScriptRefusedError: it does not parse, or something in it could never be sent.
    """
    program = parse(source)
    _check_attributes(source, program)
    declared = {declaration.name.lower() for declaration in program.parameters or ()}
    for node in walk_defaults(program):
        _check_variable(source, node, declared)
    for node in walk_statements(program):
        _check_variable(source, node, declared)
        _check_using(source, node)
    return program


def _check_attributes(source: Source, program: Program) -> None:
    for attribute in program.attributes:
        _check_attribute(source, attribute, of_script=True)
    for declaration in program.parameters or ():
        for attribute in declaration.attributes:
            _check_attribute(source, attribute, of_script=False)
        _check_type(source, declaration)


def _check_attribute(source: Source, attribute: Attribute, *, of_script: bool) -> None:
    name = attribute.name.lower().removeprefix("system.management.automation.").removesuffix("attribute")
    if name not in _ATTRIBUTES or (name == "cmdletbinding") != of_script:
        detail = f"the bridge does not know the attribute [{attribute.name}] here"
        source.refuse(attribute.start, attribute.end, "BridgeAttribute", detail, "Remove it.")
    count, properties = _ATTRIBUTES[name]
    unknown = [each for each, _ in attribute.named if each.lower() not in properties]
    if len(attribute.positional) not in count or unknown:
        detail = f"the bridge does not know what [{attribute.name}] is given here"
        source.refuse(attribute.start, attribute.end, "BridgeAttribute", detail, "Correct or remove it.")
    for node in (*attribute.positional, *(value for _, value in attribute.named)):
        if node is not None and not _is_constant(node):
            detail = f"[{attribute.name}] takes constants only"
            source.refuse(
                attribute.start, attribute.end, "ParameterAttributeArgumentNeedsToBeConstant", detail, "Write one."
            )


def _is_constant(node: Expression) -> bool:
    return isinstance(node, Text | Number) or (isinstance(node, Variable) and node.name.lower() in CONSTANTS)


def _check_type(source: Source, declaration: ParameterDeclaration) -> None:
    if declaration.type is None:
        return
    key = type_key(declaration.type)
    known = {
        "string",
        "int",
        "long",
        "double",
        "decimal",
        "bool",
        "switch",
        "datetime",
        "timespan",
        "object",
        "psobject",
    }
    known |= {"hashtable", "pscredential", "securestring", "uri", "array", "char"}
    if key.removesuffix("[]") not in known:
        fix = "Use string, string[], int, int[], long, switch, bool, datetime, uri, pscredential or securestring."
        detail = f"the bridge does not know the type [{declaration.type}]"
        source.refuse(declaration.start, declaration.end, "BridgeTypeName", detail, fix)


def _check_variable(source: Source, node: Node, declared: set[str]) -> None:
    if not isinstance(node, Variable | Splat):
        return
    name = node.name.lower()
    if (
        name.startswith(USING)
        or name in declared
        or name == "args"
        or (name in CONSTANTS and isinstance(node, Variable))
    ):
        return
    if name == BOUND and isinstance(node, Splat):
        return
    fix = _UNDECLARED_FIX
    if name == BOUND:
        fix = "Write @PSBoundParameters: the bridge gives the parameters that were given."
    detail = f"the variable {'@' if isinstance(node, Splat) else '$'}{node.name} does not exist there"
    source.refuse(node.start, node.end, "CantConvertWithUndeclaredVariables", detail, fix)


def _check_using(source: Source, node: Node) -> None:
    """``$using:x`` takes members and constant indexes only (about_Remote_Variables)."""
    if not isinstance(node, Member | Index):
        return
    root: Node = node
    while isinstance(root, Member | Index):
        root = root.target
    if not (isinstance(root, Variable) and root.name.lower().startswith(USING)):
        return
    calls = isinstance(node, Member) and node.arguments is not None
    computed = isinstance(node, Index) and any(isinstance(part, Variable | Member) for part in walk(node.index))
    if calls or computed:
        fix = f"Put the variable in parentheses: (${root.name})."
        source.refuse(node.start, node.end, "InvalidUsingExpression", "a $using: value takes no method call here", fix)


def convert_program(
    source: Source,
    program: Program,
    values: Mapping[str, Value],
    *,
    bound: Sequence[tuple[str, Value]] = (),
) -> tuple[Command, ...]:
    """The commands of a program.

    Args:
        values: every variable by its name in lower case: parameters, ``args`` and ``using:...``.
        bound: what ``@PSBoundParameters`` stands for, in order.

    Raises:
        ScriptRefusedError: a value is missing, or cannot be computed as PowerShell does.
    """
    _check_using_values(source, program, values)
    converter = _Converter(source, Evaluator(source, values), values, bound)
    found: list[Command] = []
    for statement in program.statements:
        commands = [converter.command(call) for call in statement]
        if statement is not program.statements[-1]:
            commands[-1] = replace(commands[-1], end_of_statement=True)
        found.extend(commands)
    return tuple(found)


def _check_using_values(source: Source, program: Program, values: Mapping[str, Value]) -> None:
    for node in walk_statements(program):
        if isinstance(node, Variable | Splat) and node.name.lower() not in values and node.name.lower() != BOUND:
            if node.name.lower() in CONSTANTS:
                continue
            error_id = "UsingVariableIsUndefined" if node.name.lower().startswith(USING) else "nullToObjectInvalidCast"
            detail = f"the value of ${node.name} was not given"
            source.refuse(node.start, node.end, error_id, detail, "Give it when the script is run.")


class _Converter:
    def __init__(
        self, source: Source, evaluator: Evaluator, values: Mapping[str, Value], bound: Sequence[tuple[str, Value]]
    ) -> None:
        self._source = source
        self._evaluator = evaluator
        self._values = values
        self._bound = bound

    def command(self, call: CommandCall) -> Command:
        parameters = [parameter for argument in call.arguments for parameter in self._parameters(argument)]
        return Command(self._name(call), tuple(parameters), merge=call.merge)

    def _name(self, call: CommandCall) -> str:
        name = call.name
        if isinstance(name, Expandable) and not call.invoked:
            value: Value = name.raw  # PowerShell's converter sends an unquoted name as it is written
        else:
            value = name.value if isinstance(name, Text) else self._evaluator.value(name)
        if not isinstance(value, str) or not value.strip() or not value.isprintable():
            detail = "this is not the name of a command"
            self._source.refuse(name.start, name.end, "CantConvertWithScriptBlockInvocation", detail, "Write its name.")
        if value.startswith(("-", "\u2013", "\u2014", "\u2015")):
            self._source.refuse(
                name.start, name.end, "BridgeDashCommand", "no command's name begins with a dash", "Write its name."
            )
        return value

    def _parameters(self, argument: Argument) -> Iterable[Parameter]:
        if isinstance(argument.value, Splat):
            return self._splat(argument.value)
        if argument.value is None:
            return (Parameter(argument.name),)
        value = self._evaluator.value(argument.value)
        if argument.name is not None and isinstance(argument.value, Number):
            value = argument.value.literal.value  # behind a colon only the number itself is sent
        return (Parameter(argument.name, value),)

    def _splat(self, splat: Splat) -> Iterable[Parameter]:
        if splat.name.lower() == BOUND:
            return [Parameter(name, value) for name, value in self._bound]
        value = self._values[splat.name.lower()]
        if isinstance(value, Hashtable):
            if any(not isinstance(key, str) for key, _ in value.items):
                self._refuse_splat(splat, "a key of the table is not a name")
            return [Parameter(key, item) for key, item in value.items]
        if isinstance(value, str):
            self._refuse_splat(splat, "PowerShell would send each character of the text as a value")
        return [Parameter(None, item) for item in (value if isinstance(value, tuple) else (value,))]

    def _refuse_splat(self, splat: Splat, detail: str) -> None:
        self._source.refuse(splat.start, splat.end, "BridgeSplat", detail, "Splat a hashtable or a list.")


def convert_text(
    text: str,
    *,
    variables: Mapping[str, Value] | None = None,
    arguments: Sequence[Value] = (),
    file: str = "<text>",
) -> tuple[Command, ...]:
    """The commands that PowerShell's own converter makes of a text (``ScriptBlock.GetPowerShell``).

    Args:
        variables: what ``$using:name`` stands for.
        arguments: bound to the parameters of ``param()`` by position; what is left over is ``$args``.

    Raises:
        ScriptRefusedError: no NoLanguage endpoint would accept it, or the bridge cannot say for certain what it means.
    """
    source = Source(text, file)
    program = read_program(source)
    values: dict[str, Value] = {f"{USING}{name.lower()}": value for name, value in (variables or {}).items()}
    declarations = program.parameters or ()
    values["args"] = tuple(arguments[len(declarations) :])
    for position, declaration in enumerate(declarations):
        if position < len(arguments):
            _set(values, declaration, _cast_argument(source, declaration, arguments[position]))
        else:
            set_default(source, declaration, values)
        _check_set(source, declaration, values)
    bound = [(each.name, value) for each, value in zip(declarations, arguments, strict=False)]
    return convert_program(source, program, values, bound=bound)


def _set(values: dict[str, Value], declaration: ParameterDeclaration, value: Value) -> None:
    values[declaration.name.lower()] = value


def _cast_argument(source: Source, declaration: ParameterDeclaration, value: Value) -> Value:
    if declaration.type is None:
        return value
    key = type_key(declaration.type)
    try:
        if key in ("switch", "bool") and isinstance(value, str):
            raise NotExactError(f"text is no value for a [{key}]")
        result: Value = cast(declaration.type, value)
    except NotExactError as error:
        source.refuse(
            declaration.start, declaration.end, "BridgeArgument", f"${declaration.name}: {error}", "Give another value."
        )
    return result


def set_default(source: Source, declaration: ParameterDeclaration, values: dict[str, Value]) -> None:
    """Give an omitted parameter the value that PowerShell gives it; none where PowerShell would fail."""
    if declaration.default is not None:
        value = Evaluator(source, values).value(declaration.default)
        if isinstance(declaration.default, Number):
            value = declaration.default.literal.value
        _set(values, declaration, _cast_argument(source, declaration, value))
        return
    key = type_key(declaration.type) if declaration.type else "object"
    if key == "long":
        _set(values, declaration, cast("long", 0))
    elif key not in _NEEDS_VALUE:
        _set(values, declaration, _WITHOUT_VALUE.get(key))


def valid_values(declaration: ParameterDeclaration) -> tuple[str, ...]:
    """What ``[ValidateSet()]`` of a parameter lists; empty where it has none."""
    found: list[str] = []
    for attribute in declaration.attributes:
        if attribute.name.lower().endswith("validateset"):
            found += [node.value for node in attribute.positional if isinstance(node, Text)]
    return tuple(found)


def _check_set(source: Source, declaration: ParameterDeclaration, values: Mapping[str, Value]) -> None:
    validators = [each for each in declaration.attributes if each.name.lower().startswith("validate")]
    if not validators or declaration.name.lower() not in values:
        return
    value = values[declaration.name.lower()]
    allowed = [each.lower() for each in valid_values(declaration)]
    items = value if isinstance(value, tuple) else (value,)
    others = [
        each for each in validators if not each.name.lower().endswith(("validateset", "notnullorempty", "notnull"))
    ]
    if others and value is not None:
        detail = f"${declaration.name}: the bridge cannot check [{others[0].name}] here"
        source.refuse(others[0].start, others[0].end, "BridgeArgument", detail, "Use ValidateSet.")
    if allowed and any(str(item).lower() not in allowed for item in items):
        detail = f"${declaration.name} is not one of its ValidateSet"
        source.refuse(
            declaration.start, declaration.end, "ValidateSetFailure", detail, "Give one of the listed values."
        )
