"""Asks a real PowerShell what its converter makes of a text, and says where that differs from what the bridge sends."""

from __future__ import annotations

import re
import subprocess
import tempfile
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources
from itertools import zip_longest
from pathlib import Path

from bridge.endpoint._commands import Command, Hashtable, Int64, NumberLiteral, Value
from bridge.endpoint.script._convert import convert_text
from bridge.endpoint.script._numeric import format_number
from bridge.endpoint.script._printer import format_commands
from bridge.endpoint.script._script import Script
from bridge.errors import EngineJudgementError, ScriptRefusedError
from bridge.secrets import REDACTED

_TIMEOUT_S = 120.0
_ENCODED = re.compile(r"(command |s:|o:[A-Za-z0-9+/]*={0,2}:)([A-Za-z0-9+/]*={0,2})")


@dataclass(frozen=True, slots=True)
class Difference:
    """One point where the engine and the bridge do not agree; either side in words."""

    bridge: str
    engine: str


@dataclass(frozen=True, slots=True)
class _Answer:
    lines: tuple[str, ...]
    errors: tuple[str, ...]


def compare_with_engine(pwsh: str | Path, texts: Sequence[str]) -> tuple[tuple[Difference, ...], ...]:
    """For each text, where the bridge and a real PowerShell differ on it; empty where they agree.

    Args:
        pwsh: the program: PowerShell 7, or Windows PowerShell 5.1.
        texts: without ``$using:``; asked in one run of the program.

    Raises:
        EngineJudgementError: the program cannot be run.
    """
    return tuple(map(_judge, texts, _ask(pwsh, texts, "convert")))


def _judge(text: str, answer: _Answer) -> tuple[Difference, ...]:
    try:
        ours = convert_text(text)
    except ScriptRefusedError as error:
        return () if answer.errors else (Difference(f"refused: {error}", "accepted"),)
    return _compare(ours, answer)


def parse_with_engine(pwsh: str | Path, text: str) -> tuple[str, ...]:
    """The errors that a real PowerShell finds in a text when it parses it; empty where it parses.

    Raises:
        EngineJudgementError: the program cannot be run.
    """
    [parsed] = _ask(pwsh, [text], "parse")
    return parsed.errors


def compare_script_with_engine(pwsh: str | Path, script: Script, commands: Sequence[Command]) -> tuple[Difference, ...]:
    """Where a real PowerShell differs on a script and on what it sends; empty where they agree.

    The engine parses the whole file, and converts the commands as the bridge prints them: its converter knows no
    ``@PSBoundParameters``.

    Raises:
        EngineJudgementError: the program cannot be run.
    """
    if errors := parse_with_engine(pwsh, script.text):
        return tuple(Difference("accepted", f"refused: {error}") for error in errors)
    printed = format_commands(commands)
    if REDACTED in printed:
        return ()  # what holds a credential cannot be shown to the engine
    [answer] = _ask(pwsh, [printed], "convert")
    return _compare(convert_text(printed), answer)


def _compare(ours: Sequence[Command], answer: _Answer) -> tuple[Difference, ...]:
    if answer.errors:
        return tuple(Difference("accepted", f"refused: {error}") for error in answer.errors)
    expected = [line for command in ours for line in _lines_of(command)]
    return tuple(
        Difference(_readable(mine), _readable(theirs))
        for mine, theirs in zip_longest(expected, answer.lines, fillvalue="")
        if mine != theirs
    )


def _ask(pwsh: str | Path, texts: Sequence[str], mode: str) -> list[_Answer]:
    helper = resources.files(__package__ or "").joinpath("judge.ps1")
    with tempfile.TemporaryDirectory(prefix="pep-bridge-judge-") as folder, resources.as_file(helper) as judge:
        for number, text in enumerate(texts):
            (Path(folder) / f"{number:06d}.txt").write_bytes(text.encode("utf-8", "replace"))
        arguments = [str(pwsh), "-NoProfile", "-File", str(judge), folder, mode]
        try:
            done = subprocess.run(
                arguments, capture_output=True, timeout=_TIMEOUT_S, check=False, stdin=subprocess.DEVNULL
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise EngineJudgementError(engine=pwsh, detail=str(error)) from error
    answers = _answers(done.stdout.decode("ascii", "replace").splitlines())
    if len(answers) != len(texts):
        detail = done.stderr.decode("utf-8", "replace").strip()[:500] or f"exit code {done.returncode}"
        raise EngineJudgementError(engine=pwsh, detail=detail)
    return answers


def _answers(lines: Sequence[str]) -> list[_Answer]:
    answers: list[_Answer] = []
    found: list[str] = []
    for line in map(str.strip, lines):
        if line == "end":
            errors = tuple(_error_text(each) for each in found if each.startswith("error "))
            answers.append(_Answer(tuple(each for each in found if not each.startswith("error ")), errors))
            found = []
        elif line:
            found.append(line)
    return answers


def _error_text(line: str) -> str:
    _, error_id, message = line.split(" ")
    return f"{_decode(error_id)}: {_decode(message)}"


def _decode(text: str) -> str:
    return b64decode(text).decode("utf-8", "replace")


def _encode(text: str) -> str:
    return b64encode(text.encode("utf-8", "surrogatepass")).decode("ascii")


def _readable(line: str) -> str:
    return _ENCODED.sub(lambda found: f"{found[1]}{_decode(found[2])!r}", line) if line else "nothing"


def _lines_of(command: Command) -> list[str]:
    lines = [f"command {_encode(command.name)} {int(command.end_of_statement)}"]
    for parameter in command.parameters:
        name = "n:" if parameter.name is None else f"s:{_encode(parameter.name)}"
        lines.append(f"parameter {name} {_term(parameter.value)}")
    return lines


def _term(value: Value) -> str:
    """A value as ``judge.ps1`` writes it."""
    match value:
        case None:
            return "n:"
        case bool():
            return f"b:{int(value)}"
        case str():
            return f"s:{_encode(value)}"
        case datetime():
            return f"t:{value.astimezone(UTC):%Y-%m-%dT%H:%M:%S}"
        case float():
            return f"d:{format_number(value)}"
        case NumberLiteral():
            return _term(value.value)
        case Hashtable():
            return f"h:({' '.join(sorted(f'{_term(key)}>{_term(item)}' for key, item in value.items))})"
        case tuple():
            return f"a:({' '.join(map(_term, value))})"
        case int():
            return f"o:{_encode('System.Int32')}:{_encode(str(value))}"
        case Int64():
            return f"o:{_encode('System.Int64')}:{_encode(str(value.value))}"
        case _:
            return f"o:{_encode('System.Decimal')}:{_encode(str(value))}"
