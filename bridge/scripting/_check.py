"""What would be sent for a script file, or where and why it is refused; asked of a real PowerShell too, if wanted."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from bridge.endpoint import Command, Hashtable, Int64, Value
from bridge.endpoint.script import Difference, Problem, Script, compare_script_with_engine, load_script
from bridge.errors import ScriptRefusedError, UsageError
from bridge.secrets import Credential, Secret

PWSH_VARIABLE = "PEP_BRIDGE_PWSH"

_SAMPLES: Mapping[str, Value] = {
    "string[]": ("sample",),
    "int": 1,
    "int[]": (1,),
    "long": Int64(1),
    "switch": True,
    "bool": True,
    "datetime": datetime(2024, 3, 12, 8, tzinfo=UTC),
    "hashtable": Hashtable(()),
    "pscredential": Credential("sample", Secret("sample")),
    "securestring": Secret("sample"),
}


@dataclass(frozen=True, slots=True)
class CheckResult:
    """``differences`` are those between the bridge and a real PowerShell, where one was asked."""

    script: str
    command_names: tuple[str, ...]
    problems: tuple[Problem, ...]
    differences: tuple[Difference, ...]
    engine: str | None

    @property
    def ok(self) -> bool:
        return not self.problems and not self.differences

    def to_json(self) -> dict[str, Any]:
        return {
            "script": self.script,
            "accepted": not self.problems,
            "commands": list(self.command_names),
            "problems": _dicts(self.problems),
            "engine": self.engine,
            "differences": _dicts(self.differences),
        }


def check_file(script: str, *, engine: str | None = None) -> CheckResult:
    """Reads a script file, or a shipped script; ``engine`` is ``pwsh`` or the path of a PowerShell.

    Raises:
        UsageError: the file cannot be read, or there is no such engine.
    """
    try:
        loaded = load_script(script)
    except ScriptRefusedError as refused:
        return CheckResult(script, (), (_problem(refused),), (), None)
    program = find_engine(engine) if engine else None
    differences = compare_script_with_engine(program, loaded, _bind_samples(loaded)) if program else ()
    return CheckResult(script, loaded.command_names, (), tuple(differences), program)


def find_engine(engine: str) -> str:
    """The PowerShell to ask: a path as given; for ``pwsh``, ``PEP_BRIDGE_PWSH`` first, then PATH.

    Raises:
        UsageError: there is none.
    """
    named = os.environ.get(PWSH_VARIABLE) if engine == "pwsh" else None
    found = named or shutil.which(engine)
    if found is None:
        raise UsageError(
            detail=f"There is no PowerShell '{engine}' on this machine.",
            fix=f"Install PowerShell 7, or set {PWSH_VARIABLE} to the program.",
        )
    return found


def _bind_samples(script: Script) -> tuple[Command, ...]:
    """What the script sends when each mandatory parameter has a harmless value: only its form is compared."""
    mandatory = [parameter for parameter in script.parameters if parameter.mandatory]
    return script.bind(
        {each.name: each.valid[0] if each.valid else _SAMPLES.get(str(each.type), "sample") for each in mandatory}
    )


def _problem(refused: ScriptRefusedError) -> Problem:
    fields = {name: refused.fields[name] for name in ("file", "line", "column", "text", "detail", "error_id")}
    return Problem(**fields, fix=refused.advice)


def _dicts(items: Iterable[Any]) -> list[dict[str, Any]]:
    return [{name: getattr(item, name) for name in item.__slots__} for item in items]
