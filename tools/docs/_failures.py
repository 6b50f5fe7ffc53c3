"""Exit codes and error classes as the documentation tells them, read from the code and from the README's table."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import bridge.errors
from bridge.errors import BridgeError, ExitCode

_ROW = re.compile(r"^\| (\d+) \| (.+) \|$", re.MULTILINE)
_FIELD = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class Failure:
    """One class of ``bridge.errors``."""

    name: str
    message: str
    fix: str
    exit_code: ExitCode
    kind_of: str | None
    """The class that it is a case of."""


def read_failures() -> list[Failure]:
    """Every error that the program knows by name, in alphabetical order."""
    return sorted(map(_failure, _classes(BridgeError)), key=lambda failure: failure.name)


def _classes(base: type[BridgeError]) -> Iterator[type[BridgeError]]:
    for found in base.__subclasses__():
        if found.__module__ == bridge.errors.__name__:
            yield found
        yield from _classes(found)


def _failure(error: type[BridgeError]) -> Failure:
    parent = error.__base__
    return Failure(
        name=error.__name__,
        message=_words(inspect.cleandoc(error.__doc__ or "")),
        fix=_words(error.fix),
        exit_code=error.exit_code,
        kind_of=parent.__name__ if parent is not None and parent is not BridgeError else None,
    )


def _words(template: str) -> str:
    """``{host} answers`` as ``HOST answers``; what only an instance knows becomes empty where there is nothing else."""
    text = " ".join(template.replace("\\\\", "\\").split())
    return "" if _FIELD.fullmatch(text) else _FIELD.sub(lambda field: field[1].upper(), text)


def read_exit_codes(readme: Path) -> dict[ExitCode, str]:
    """The meaning of each exit code, from the README's table."""
    found = {int(number): meaning for number, meaning in _ROW.findall(readme.read_text(encoding="utf-8"))}
    return {code: found[int(code)] for code in ExitCode}
