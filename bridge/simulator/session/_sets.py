"""Which parameter set a command runs with: what PowerShell's binder concludes from the parameters that were bound.

Compared with the engine's binder on random arguments by tests/simulator/test_binder_against_engine.py.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Final

from bridge.simulator._command import CommandSpec, ParameterSpec

ALL_SETS: Final = "__AllParameterSets"


def named_sets(command: CommandSpec) -> tuple[str, ...]:
    """The parameter sets that a command declares, none if it declares no set."""
    names = dict.fromkeys(name for spec in command.parameters for name in spec.parameter_sets if name != ALL_SETS)
    if names and command.default_parameter_set is not None:
        names.setdefault(command.default_parameter_set)
    return tuple(names)


class ParameterSets:
    """The sets that are still possible while arguments are bound, one after the other."""

    def __init__(self, command: CommandSpec) -> None:
        self._command = command
        self._default = command.default_parameter_set
        self._declared = bool(named_sets(command))
        self._possible = set(named_sets(command))

    def may_take(self, spec: ParameterSpec) -> bool:
        """Whether the parameter belongs to a set that is still possible."""
        return self._is_common(spec) or not self._possible.isdisjoint(spec.parameter_sets)

    def in_default_set(self, spec: ParameterSpec) -> bool:
        """Whether the parameter belongs to the default set, whose positional parameters come first."""
        return self._is_common(spec) or (self._default in self._possible and self._default in spec.parameter_sets)

    def narrow(self, spec: ParameterSpec) -> None:
        """Notes a bound parameter; no set may be left."""
        if not self._is_common(spec):
            self._possible &= set(spec.parameter_sets)

    def resolve(self, bound: Container[str]) -> bool:
        """Decides for one set; False if that cannot be done.

        The only possible one, else the default one, else the only one without an unbound mandatory parameter.
        """
        if not self._declared or len(self._possible) == 1:
            return True
        if self._default in self._possible:
            self._possible = {str(self._default)}
            return True
        for spec in self._command.parameters:
            if spec.mandatory and spec.name not in bound and not self._is_common(spec):
                self._possible -= set(spec.parameter_sets)
        return len(self._possible) == 1

    def _is_common(self, spec: ParameterSpec) -> bool:
        return not self._declared or ALL_SETS in spec.parameter_sets
