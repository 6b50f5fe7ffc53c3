"""Short ways to declare the parameters of simulated commands.

The reference types every parameter as Object and names no sets (pep-facts 1): types and sets here are what the meaning
asks for. GUESS: all of them, unless a source is named beside them.
"""

from __future__ import annotations

from collections.abc import Iterable

from bridge.simulator._command import ParameterSpec, SimulatedError

_AUTOMATION = "System.Management.Automation"
TYPE_NAMES = {
    "string": "System.String",
    "strings": "System.String[]",
    "int": "System.Int32",
    "date": "System.DateTime",
    "switch": f"{_AUTOMATION}.SwitchParameter",
    "credential": f"{_AUTOMATION}.PSCredential",
    "secret": "System.Security.SecureString",
    "object": "System.Object",
}


def parameters(text: str) -> tuple[ParameterSpec, ...]:
    """Reads ``Name type, Name! type@0``: ``!`` is mandatory, ``@N`` a position, ``<`` before a type pipeline input."""
    return tuple(_parameter(each) for each in text.split(",") if each.strip())


def _parameter(text: str) -> ParameterSpec:
    name, kind = text.split()
    kind, _, position = kind.partition("@")
    return ParameterSpec(
        name.rstrip("!"),
        TYPE_NAMES[kind.lstrip("<")],
        mandatory=name.endswith("!"),
        position=int(position) if position else None,
        from_pipeline=kind.startswith("<"),
    )


def check_sets(command: str, declared: tuple[ParameterSpec, ...], default: str | None, bound: Iterable[str]) -> None:
    """Raises what PowerShell does when the bound parameters leave no parameter set, or several without the default one.

    Raises:
        SimulatedError: AmbiguousParameterSet; its text is the public one (pep-facts 7, ASD #1958).
    """
    sets = {name for spec in declared for name in spec.parameter_sets}
    for name in bound:
        spec = next(each for each in declared if each.name == name)
        sets &= set(spec.parameter_sets) if "__AllParameterSets" not in spec.parameter_sets else sets
    if len(sets) != 1 and (default is None or default not in sets):
        raise SimulatedError(
            "Parameter set cannot be resolved using the specified named parameters.",
            f"AmbiguousParameterSet,{command}",
            "InvalidArgument",
            "System.Management.Automation.ParameterBindingException",
        )
