"""Binds the arguments of a command object to parameters as PowerShell's binder does, with its error ids.

Facts: recordings of PowerShell 7.6 in a NoLanguage session (fixtures/real-powershell), in the wording of 5.1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from typing import Any, Final

from bridge.simulator._command import CommandSpec, CredentialValue, Int64, ParameterSpec, SimulatedError
from bridge.simulator.session._clixml import OBJECT, Enum, Scalar, SecureText, Thing, array
from bridge.simulator.session._records import NAMESPACE, exception
from bridge.simulator.session._sets import ParameterSets, named_sets
from bridge.simulator.session._values import text_of, type_name

SWITCH: Final = NAMESPACE + "SwitchParameter"
_PREFERENCE: Final = NAMESPACE + "ActionPreference"
_PREFERENCES: Final = ("SilentlyContinue", "Stop", "Continue", "Inquire", "Ignore", "Suspend")

COMMON_PARAMETERS: Final = (
    ParameterSpec("Verbose", SWITCH, aliases=("vb",)),
    ParameterSpec("Debug", SWITCH, aliases=("db",)),
    ParameterSpec("ErrorAction", _PREFERENCE, aliases=("ea",)),
    ParameterSpec("WarningAction", _PREFERENCE, aliases=("wa",)),
    ParameterSpec("InformationAction", _PREFERENCE, aliases=("infa",)),
    ParameterSpec("ErrorVariable", "System.String", aliases=("ev",)),
    ParameterSpec("WarningVariable", "System.String", aliases=("wv",)),
    ParameterSpec("InformationVariable", "System.String", aliases=("iv",)),
    ParameterSpec("OutVariable", "System.String", aliases=("ov",)),
    ParameterSpec("OutBuffer", "System.Int32", aliases=("ob",)),
    ParameterSpec("PipelineVariable", "System.String", aliases=("pv",)),
)
"""about_CommonParameters, Windows PowerShell 5.1 (ProgressAction came with 7.4)."""

_DATE_FORMATS: Final = (
    "%m/%d/%Y %I:%M:%S %p",
    "%m/%d/%Y %I:%M %p",
    "%m/%d/%Y %H:%M:%S",
    "%m/%d/%Y %H:%M",
    "%m/%d/%Y",
    "%d %B %Y",
)


@dataclass(frozen=True, slots=True)
class Bound:
    """What was bound: the command's own parameters by their full names, and the common ones."""

    parameters: Mapping[str, Any]
    common: Mapping[str, Any]
    shown: Mapping[str, Any]
    """Everything as ``$PSBoundParameters`` shows it, with its .NET types."""


@dataclass(eq=False)
class BindingError(Exception):
    """A refused argument: the error record's parts and the exception's own properties."""

    error: SimulatedError
    details: dict[str, Any] = field(default_factory=dict)
    inner: Thing | None = None


@dataclass(frozen=True, slots=True)
class _Argument:
    name: str | None
    value: Any = None
    has_value: bool = True


def bind(
    command: CommandSpec, arguments: Sequence[tuple[str | None, Any]], *, zone: tzinfo, piped: bool = False
) -> Bound:
    """Binds ``arguments`` (name or None, value) in the forms that clients send.

    Args:
        command: The command and its parameters.
        arguments: Pairs as they stand in the command object: ``Name``, ``-Name``, ``-Name:`` or None.
        zone: The machine's time zone; a date without one is local time there.
        piped: True where the command gets input from the pipeline, which may satisfy a mandatory parameter.

    Raises:
        BindingError: The command is not run; the pipeline ends with this error.
    """
    sets = ParameterSets(command)
    bound: dict[str, Any] = {}
    rest: list[_Argument] = []
    stream = iter([_parse(name, value) for name, value in arguments])
    for argument in stream:
        spec = None if argument.name is None else _find(command, argument.name)
        if spec is None or argument.name is None:
            rest.append(argument)
            continue
        if spec.name in bound:
            raise _already_bound(argument.name)
        bound[spec.name] = convert(spec, _value_of(spec, argument, stream), zone)
        sets.narrow(spec)
    rest = _bind_positional(command, rest, bound, zone, sets)
    if piped:
        _leave_to_the_pipeline(command, bound, sets)
    if not sets.resolve(bound):
        raise _ambiguous_set()
    if rest:  # told only after what could be bound was bound, and so may have failed first
        raise _not_found(rest[0])
    _check_mandatory(command, bound, sets, piped=piped)
    own = {spec.name for spec in command.parameters}
    types = {spec.name: spec.type_name for spec in (*command.parameters, *COMMON_PARAMETERS)}
    return Bound(
        {name: value for name, value in bound.items() if name in own},
        {name: value for name, value in bound.items() if name not in own},
        {name: _shown(types[name], value) for name, value in bound.items()},
    )


def _shown(type_name_: str, value: Any) -> Any:
    if type_name_ == SWITCH:
        text = "True" if value else "False"
        return Thing((SWITCH, "System.ValueType", OBJECT), text=text, adapted=[("IsPresent", bool(value))])
    if type_name_.endswith("[]") and isinstance(value, list):
        return array(value, type_name_.removesuffix("[]"))
    if type_name_ == "System.Uri":
        return Scalar("URI", str(value))
    if type_name_ == _PREFERENCE:
        return Enum(_PREFERENCE, str(value), _PREFERENCES.index(value))
    return value


def positions(command: CommandSpec) -> list[ParameterSpec]:
    """The positional parameters in order.

    A function without explicit positions and without parameter sets gives one to each parameter but switches.
    """
    explicit = sorted(
        (spec for spec in command.parameters if spec.position is not None), key=lambda spec: spec.position or 0
    )
    if explicit or command.command_type != "Function" or named_sets(command):
        return explicit
    return [spec for spec in command.parameters if spec.type_name != SWITCH]


def _parse(name: str | None, value: Any) -> _Argument:
    if not name:
        return _Argument(None, value)
    if not name.startswith("-"):
        return _Argument(name, value)
    if name.endswith(":"):
        return _Argument(name[1:-1], value)
    return _Argument(name[1:], value, has_value=value is not None)


def _value_of(spec: ParameterSpec, argument: _Argument, stream: Iterator[_Argument]) -> Any:
    if spec.type_name == SWITCH:
        return True if argument.value is None else argument.value
    if argument.has_value:
        return argument.value
    following = next(stream, None)
    if following is None or following.name is not None:
        message = (
            f"Missing an argument for parameter '{spec.name}'. Specify a parameter of type '{spec.type_name}' and try"
            " again."
        )
        raise _binding_error(message, "MissingArgument", spec.name, parameter_type=spec.type_name)
    return following.value


def _find(command: CommandSpec, name: str) -> ParameterSpec | None:
    wanted = name.casefold()
    prefixed: list[ParameterSpec] = []
    for spec in (*command.parameters, *COMMON_PARAMETERS):
        names = [known.casefold() for known in (spec.name, *spec.aliases)]
        if wanted in names:
            return spec
        if wanted and any(known.startswith(wanted) for known in names):
            prefixed.append(spec)
    if len(prefixed) == 1:
        return prefixed[0]
    if prefixed:
        matches = " ".join(f"-{spec.name}" for spec in prefixed)
        message = (
            f"Parameter cannot be processed because the parameter name '{name}' is ambiguous."
            f" Possible matches include: {matches}."
        )
        raise _binding_error(message, "AmbiguousParameter", name)
    return None


def _not_found(argument: _Argument) -> BindingError:
    specified = type_name(argument.value) if argument.has_value else None
    if argument.name is None:
        shown = text_of(argument.value)
        message = f"A positional parameter cannot be found that accepts argument '{shown}'."
        return _binding_error(message, "PositionalParameterNotFound", shown, specified=specified)
    message = f"A parameter cannot be found that matches parameter name '{argument.name}'."
    return _binding_error(message, "NamedParameterNotFound", argument.name, specified=specified)


def _ambiguous_set() -> BindingError:
    message = "Parameter set cannot be resolved using the specified named parameters."
    return _binding_error(message, "AmbiguousParameterSet", None)


def _already_bound(name: str) -> BindingError:
    message = (
        f"Cannot bind parameter because parameter '{name}' is specified more than once. To provide multiple values to"
        " parameters that can accept multiple values, use the array syntax. For example,"
        ' "-parameter value1,value2,value3".'
    )
    return _binding_error(message, "ParameterAlreadyBound", name)


def _bind_positional(
    command: CommandSpec, arguments: list[_Argument], bound: dict[str, Any], zone: tzinfo, sets: ParameterSets
) -> list[_Argument]:
    """Gives each value without a name to the next free position; returns what nothing took, in its order."""
    values = iter(_values(arguments))
    taken: list[_Argument] = []
    for here in _by_position(command):
        free = [spec for spec in here if spec.name not in bound and sets.may_take(spec)]
        argument = next(values, None) if free else None
        if argument is not None:
            _bind_at(free, argument.value, bound, zone, sets)
            taken.append(argument)
    return [argument for argument in arguments if not any(argument is each for each in taken)]


def _values(arguments: list[_Argument]) -> Iterator[_Argument]:
    """The arguments without a name; one that follows an unknown parameter is taken for that parameter's value."""
    before: _Argument | None = None
    for argument in arguments:
        if argument.name is None and (before is None or before.name is None):
            yield argument
            before = None
        else:
            before = argument if argument.name is not None else None


def _bind_at(free: list[ParameterSpec], value: Any, bound: dict[str, Any], zone: tzinfo, sets: ParameterSets) -> None:
    """Binds one value at a position: where its type fits before where it must be converted, the default set first.

    Parameters of several sets that fit equally well all get the value, which leaves no set: so does PowerShell.
    """
    fitting = [spec for spec in free if spec.type_name in (type_name(value), OBJECT)]
    refusal: BindingError | None = None
    for candidates in (fitting, free):
        for group in (list(filter(sets.in_default_set, candidates)), candidates):
            converted: dict[str, Any] = {}
            for spec in group:
                try:
                    converted[spec.name] = convert(spec, value, zone)
                except BindingError as problem:
                    refusal = refusal or problem
            if converted:
                bound.update(converted)
                for spec in group:
                    if spec.name in converted:
                        sets.narrow(spec)
                return
    if refusal is not None:
        raise refusal


def _by_position(command: CommandSpec) -> list[list[ParameterSpec]]:
    """Parameters of different sets may share a position."""
    found: dict[int, list[ParameterSpec]] = {}
    for number, spec in enumerate(positions(command)):
        found.setdefault(number if spec.position is None else spec.position, []).append(spec)
    return list(found.values())


def _leave_to_the_pipeline(command: CommandSpec, bound: Mapping[str, Any], sets: ParameterSets) -> None:
    """A parameter that will be bound from the pipeline decides for its sets as one that is bound already."""
    waiting = [
        spec for spec in command.parameters if spec.from_pipeline and spec.name not in bound and sets.may_take(spec)
    ]
    if len(waiting) == 1:
        sets.narrow(waiting[0])


def _check_mandatory(command: CommandSpec, bound: Mapping[str, Any], sets: ParameterSets, *, piped: bool) -> None:
    missing = [
        spec.name
        for spec in command.parameters
        if spec.mandatory and spec.name not in bound and sets.may_take(spec) and not (piped and spec.from_pipeline)
    ]
    if missing:
        names = "".join(f" {name}" for name in missing)  # with the blank in front: so PowerShell sends it
        message = f"Cannot process command because of one or more missing mandatory parameters:{names}."
        raise _binding_error(message, "MissingMandatoryParameter", names)


def convert(spec: ParameterSpec, value: Any, zone: tzinfo) -> Any:
    """One argument as the parameter's type; elements of an array type one by one, then ValidateSet."""
    element_type = spec.type_name.removesuffix("[]")
    if spec.type_name.endswith("[]"):
        items = value if isinstance(value, (list, tuple)) else [value]
        converted: Any = [_convert_one(spec, element_type, item, zone) for item in items]
        elements = converted
    else:
        converted = _convert_one(spec, element_type, value, zone)
        elements = [converted]
    if spec.validate_set:
        for element in elements:
            _validate(spec, element)
    return converted


def _convert_one(spec: ParameterSpec, target: str, value: Any, zone: tzinfo) -> Any:
    converter = {
        "System.String": _to_string,
        "System.Uri": _to_string,
        "System.Int32": _to_integer,
        "System.Int64": _to_integer,
        "System.DateTime": _to_datetime,
        "System.Boolean": _to_boolean,
        SWITCH: _to_boolean,
        NAMESPACE + "PSCredential": _to_credential,
        "System.Security.SecureString": _to_secure_string,
        _PREFERENCE: _to_preference,
    }.get(target)
    if converter is None:
        return value
    try:
        return converter(target, value, zone)
    except ValueError as problem:
        raise _transformation_error(spec, value, str(problem)) from problem


def _to_string(_: str, value: Any, __: tzinfo) -> str:
    if isinstance(value, (list, tuple)):
        raise ValueError("Cannot convert value to type System.String.")
    return text_of(value)


def _to_integer(target: str, value: Any, _: tzinfo) -> int:
    if value is None:
        return 0
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, float):
        return round(value)
    try:
        number = int(value if isinstance(value, int) else str(value).strip())
    except ValueError:
        raise ValueError(_cannot(target, value, "Input string was not in a correct format.")) from None
    if target == "System.Int32" and not -(2**31) <= number < 2**31:
        raise ValueError(_cannot(target, value, "Value was either too large or too small for an Int32."))
    return Int64(number) if target == "System.Int64" else number


def _to_boolean(target: str, value: Any, _: tzinfo) -> bool:
    if isinstance(value, (bool, int, float)):
        return bool(value)
    shown = "" if value is None else f'"{text_of(value)}" '
    raise ValueError(
        f'Cannot convert value {shown}to type "{target}". Boolean parameters accept only Boolean values and numbers,'
        " such as $True, $False, 1 or 0."
    )


def _to_datetime(target: str, value: Any, zone: tzinfo) -> datetime:
    if isinstance(value, datetime):
        return value if value.tzinfo is not None else value.replace(tzinfo=zone)
    if value is None:
        raise ValueError(f'Cannot convert null to type "{target}".')
    if not isinstance(value, str):
        # A DateTimeOffset object, for one: an Azure Stack endpoint refuses it as every [datetime] parameter does.
        raise ValueError(
            f'Cannot convert the "{text_of(value)}" value of type "{type_name(value)}" to type "{target}".'
        )
    text = value.strip()
    for parse in (datetime.fromisoformat, *(_format_parser(form) for form in _DATE_FORMATS)):
        try:
            found = parse(text)
        except ValueError:
            continue
        return found.astimezone(zone) if found.tzinfo is not None else found.replace(tzinfo=zone)
    raise ValueError(
        _cannot(
            target,
            value,
            "The string was not recognized as a valid DateTime. There is an unknown word starting at index 0.",
        )
    )


def _format_parser(form: str) -> Callable[[str], datetime]:
    return lambda text: datetime.strptime(text, form)  # noqa: DTZ007 - the caller adds the machine's zone


def _to_credential(target: str, value: Any, _: tzinfo) -> CredentialValue:
    if isinstance(value, CredentialValue):
        return value
    if value is None:
        return CredentialValue("", "")
    # GUESS: a real endpoint would prompt for the password, which fails without a host.
    raise ValueError(f'Cannot convert the "{text_of(value)}" value of type "{type_name(value)}" to type "{target}".')


def _to_secure_string(target: str, value: Any, _: tzinfo) -> SecureText:
    if isinstance(value, SecureText):
        return value
    raise ValueError(f'Cannot convert the "{text_of(value)}" value of type "{type_name(value)}" to type "{target}".')


def _to_preference(target: str, value: Any, _: tzinfo) -> str:
    if isinstance(value, int) and 0 <= value < len(_PREFERENCES):
        return _PREFERENCES[value]
    text = text_of(value).casefold()
    for known in _PREFERENCES:
        if text == known.casefold():
            return known
    choices = ",".join(_PREFERENCES)
    raise ValueError(
        f'Cannot convert value "{text_of(value)}" to type "{target}". Error: "Unable to match the identifier name'
        f" {text_of(value)} to a valid enumerator name. Specify one of the following enumerator names and try again:"
        f' {choices}"'
    )


def _cannot(target: str, value: Any, why: str) -> str:
    return f'Cannot convert value "{text_of(value)}" to type "{target}". Error: "{why}"'


def _validate(spec: ParameterSpec, value: Any) -> None:
    text = text_of(value)
    if text.casefold() in {choice.casefold() for choice in spec.validate_set}:
        return
    reason = (
        f'The argument "{text}" does not belong to the set "{",".join(spec.validate_set)}" specified by the ValidateSet'
        " attribute. Supply an argument that is in the set and then try the command again."
    )
    raise _binding_error(
        f"Cannot validate argument on parameter '{spec.name}'. {reason}",
        "ParameterArgumentValidationError",
        spec.name,
        parameter_type=spec.type_name,
        specified=spec.type_name,
        kind="ParameterBindingValidationException",
        category="InvalidData",
        inner=exception(NAMESPACE + "ValidationMetadataException", reason, raised=True),
    )


def _transformation_error(spec: ParameterSpec, value: Any, reason: str) -> BindingError:
    cause = None
    if spec.type_name == "System.DateTime" and isinstance(value, str):
        cause = exception("System.FormatException", reason.partition('Error: "')[2].rstrip('"'), raised=True)
    cast = exception(NAMESPACE + "PSInvalidCastException", reason, inner=cause, raised=True)
    return _binding_error(
        f"Cannot process argument transformation on parameter '{spec.name}'. {reason}",
        "ParameterArgumentTransformationError",
        spec.name,
        parameter_type=spec.type_name,
        specified=type_name(value) or None,
        kind="ParameterBindingArgumentTransformationException",
        category="InvalidData",
        inner=exception(NAMESPACE + "ArgumentTransformationMetadataException", reason, inner=cast, raised=True),
    )


def _binding_error(
    message: str,
    error_id: str,
    name: str | None,
    *,
    parameter_type: str | None = None,
    specified: str | None = None,
    kind: str = "ParameterBindingException",
    category: str = "InvalidArgument",
    inner: Thing | None = None,
) -> BindingError:
    details = {
        "Message": message,
        "ParameterName": name,
        "ParameterType": parameter_type,
        "TypeSpecified": specified,
        "ErrorId": error_id,
        "Line": Int64(0),
        "Offset": Int64(0),
        "CommandInvocation": NAMESPACE + "InvocationInfo",
    }
    return BindingError(SimulatedError(message, error_id, category, NAMESPACE + kind), details, inner)
