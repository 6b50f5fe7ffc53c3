"""Short ways to declare the parameters of simulated commands.

The reference types every parameter as Object and names no sets (pep-facts 1): types and sets here are what the meaning
asks for. GUESS: all of them, unless a source is named beside them.
"""

from __future__ import annotations

from bridge.simulator._command import ParameterSpec

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
