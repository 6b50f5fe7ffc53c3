"""Random commands with parameter sets, and dates: the simulated binder concludes what PowerShell's own one does."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from zoneinfo import ZoneInfo

import pytest

from bridge.simulator import CommandContext, CommandSpec, ParameterSpec
from bridge.simulator.session import Session, SessionSettings
from bridge.simulator.session._binder import SWITCH, BindingError, bind
from tests.support.psrp_replay import Message
from tests.support.raw_stdio import Argument, RawStdio, ask, text

SEED = 8
COMMANDS, QUESTIONS = 16, 24
TYPES = ("System.String", "System.Int32", SWITCH)
SETS = ("One", "Two", "Three")
COMMON = "__AllParameterSets"
ZONE = "America/New_York"
NAMES = ("Alpha", "Beta", "Gamma", "Delta", "Epsilon")


def nothing(*_: Any) -> None:
    """A command that is never run."""


def random_command(chance: random.Random, number: int) -> CommandSpec:
    uses_positions = chance.random() < 0.4
    parameters = []
    for name in NAMES:
        sets = (COMMON,) if chance.random() < 0.25 else tuple(chance.sample(SETS, chance.randint(1, 2)))
        kind = chance.choice(TYPES)
        parameters.append(
            ParameterSpec(
                name,
                kind,
                mandatory=kind != SWITCH and chance.random() < 0.4,
                position=chance.randint(0, 2) if uses_positions and kind != SWITCH else None,
                parameter_sets=sets,
            )
        )
    used = {spec.position for spec in parameters}
    if len(used - {None}) < sum(spec.position is not None for spec in parameters):
        # Two parameters of one set may not share a position: the engine would refuse the command itself.
        parameters = [_alone(parameters, spec) for spec in parameters]
    default = chance.choice((None, *SETS))
    return CommandSpec(f"Get-Random{number}", nothing, tuple(parameters), default_parameter_set=default)


def _alone(parameters: Sequence[ParameterSpec], spec: ParameterSpec) -> ParameterSpec:
    for other in parameters[: parameters.index(spec)]:
        shared = COMMON in spec.parameter_sets + other.parameter_sets or set(spec.parameter_sets) & set(
            other.parameter_sets
        )
        if other.position == spec.position and shared:
            return ParameterSpec(
                spec.name, spec.type_name, mandatory=spec.mandatory, parameter_sets=spec.parameter_sets
            )
    return spec


def random_arguments(chance: random.Random, command: CommandSpec) -> list[tuple[str | None, Any]]:
    arguments: list[tuple[str | None, Any]] = []
    for spec in chance.sample(command.parameters, chance.choice((0, 1, 1, 2, 2, 3))):
        value: Any = {TYPES[0]: "text", TYPES[1]: 5, SWITCH: True}[spec.type_name]
        arguments.append((spec.name, value if chance.random() < 0.95 else "no number"))
    if chance.random() < 0.15:
        arguments.insert(chance.randint(0, len(arguments)), ("NoSuch", 1))
    arguments += [(None, chance.choice(("1", "2", "text"))) for _ in range(chance.choice((0, 0, 0, 1, 2)))]
    return arguments


def clixml(arguments: Sequence[tuple[str | None, Any]]) -> list[Argument]:
    def value(item: Any) -> str:
        match item:
            case bool():
                return f"<B>{str(item).lower()}</B>"
            case int():
                return f"<I32>{item}</I32>"
            case _:
                return text(item)

    return [(name, value(item)) for name, item in arguments]


def function(command: CommandSpec, body: str) -> str:
    """The command as a line of a session configuration's FunctionDefinitions."""
    default = f"DefaultParameterSetName='{command.default_parameter_set}'" if command.default_parameter_set else ""
    parameters = []
    for spec in command.parameters:
        marks = [f"ParameterSetName='{name}'" for name in spec.parameter_sets]
        more = (", Mandatory=$true" if spec.mandatory else "") + (
            f", Position={spec.position}" if spec.position is not None else ""
        )
        attributes = "".join(f"[Parameter({mark}{more})]" for mark in marks)
        parameters.append(f"{attributes}[{spec.type_name}]${spec.name}")
    block = f"[CmdletBinding({default})] param({', '.join(parameters)}) {body}"
    return f"@{{ Name = '{command.name}'; ScriptBlock = {{ {block} }} }}"


def configuration(folder: Path, functions: Sequence[str], names: Sequence[str]) -> Path:
    path = folder / "session.pssc"
    listed = ", ".join(f"'{name}'" for name in names)
    path.write_text(
        "@{ SchemaVersion = '2.0.0.0'; GUID = '6f3f2f60-1d0e-4c55-9a3f-6c1b8f0e7a10'; LanguageMode = 'NoLanguage'\n"
        f"SessionType = 'RestrictedRemoteServer'; VisibleFunctions = {listed}\n"
        "FunctionDefinitions = @(\n" + "\n".join(functions) + "\n) }\n",
        encoding="utf-8",
    )
    return path


def random_commands() -> list[CommandSpec]:
    chance = random.Random(SEED)
    return [random_command(chance, number) for number in range(COMMANDS)]


@pytest.fixture(scope="module")
def engine(pwsh: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RawStdio]:
    commands = random_commands()
    functions = [function(command, "[string]::Join(',', $PSBoundParameters.Keys)") for command in commands]
    when = "param([datetime]$When) $When.ToString('o') + ' ' + $When.Kind"
    functions.append(f"@{{ Name = 'Get-When'; ScriptBlock = {{ {when} }} }}")
    names = [*(command.name for command in commands), "Get-When"]
    path = configuration(tmp_path_factory.mktemp("engine"), functions, names)
    command_line = [pwsh, "-sshs", "-NoLogo", "-NoProfile", "-ConfigurationFile", str(path)]
    with RawStdio(command_line, environment={**os.environ, "TZ": ZONE}) as session:
        yield session


def said(messages: Sequence[Message]) -> tuple[str, ...]:
    """What the engine concluded: the bound parameters, or the error with the parameter that it names."""
    last = ElementTree.fromstring(messages[-1].clixml.lstrip("\ufeff"))
    error = last.find(".//Obj[@N='ExceptionAsErrorRecord']")
    if error is None:
        (output,) = (message for message in messages if message.kind == "PIPELINE_OUTPUT")
        names = ElementTree.fromstring(output.clixml.lstrip("\ufeff")).text or ""
        return ("bound", *sorted(filter(None, names.split(","))))
    details = [error.find(f".//*[@N='{name}']") for name in ("FullyQualifiedErrorId", "ParameterName", "TypeSpecified")]
    return tuple(("" if item is None else item.text or "").partition(",")[0] for item in details)


def concluded(command: CommandSpec, arguments: Sequence[tuple[str | None, Any]]) -> tuple[str, ...]:
    """The same of the simulated binder."""
    try:
        bound = bind(command, arguments, zone=ZoneInfo(ZONE))
    except BindingError as problem:
        details = (problem.details["ParameterName"], problem.details["TypeSpecified"])
        return (problem.error.error_id, *(item or "" for item in details))
    return ("bound", *sorted(bound.parameters))


@pytest.mark.engine
@pytest.mark.parametrize("command", random_commands(), ids=lambda command: command.name)
def test_random_arguments_bind_as_in_powershell(engine: RawStdio, command: CommandSpec) -> None:
    chance = random.Random(f"{SEED} {command.name}")
    for _ in range(QUESTIONS):
        arguments = random_arguments(chance, command)
        want = said(engine.ask(command.name, clixml(arguments)))
        assert concluded(command, arguments) == want, f"{arguments} for {function(command, '')}"


DATES = (
    "<DT>2024-03-12T08:00:00+00:00</DT>",
    "<DT>2024-03-12T08:00:00.25-05:00</DT>",
    "<DT>2024-01-12T08:00:00.25+05:30</DT>",
    "<DT>2024-03-12T08:00:00Z</DT>",
    "<DT>2024-03-12T08:00:00</DT>",
    "<S>2024-03-12T08:00:00Z</S>",
    "<S>2024-03-12T08:00:00+02:00</S>",
    "<S>2024-03-12T08:00:00</S>",
)


@pytest.mark.engine
@pytest.mark.parametrize("date", DATES)
def test_a_command_sees_the_hour_and_the_zone_that_it_sees_in_powershell(engine: RawStdio, date: str) -> None:
    output, _ = engine.ask("Get-When", [("When", date)])
    moment, kind = (ElementTree.fromstring(output.clixml.lstrip("\ufeff")).text or "").split()
    want = datetime.fromisoformat(moment.replace("0000000", "000000").replace("2500000", "250000"))
    seen = seen_by_a_simulated_command(date)
    assert seen.replace(tzinfo=None) == want.replace(tzinfo=None)
    here = want.replace(tzinfo=ZoneInfo(ZONE)) if kind == "Unspecified" else want
    assert seen.utcoffset() == here.utcoffset()


def seen_by_a_simulated_command(date: str) -> datetime:
    seen: list[datetime] = []

    def see(_: CommandContext, bound: Mapping[str, Any]) -> None:
        seen.append(bound["When"])

    get_when = CommandSpec("Get-When", see, (ParameterSpec("When", "System.DateTime"),))
    ask(Session(SessionSettings([get_when], zone=ZoneInfo(ZONE)), "CORP\\operator"), "Get-When", [("When", date)])
    return seen[0]


def test_a_date_sent_as_utc_keeps_its_hour_and_one_with_an_offset_becomes_the_machines_time() -> None:
    seen = [seen_by_a_simulated_command(date) for date in DATES]
    assert [moment.hour for moment in seen] == [4, 9, 21, 8, 8, 4, 2, 8]
    assert [moment.tzinfo == UTC for moment in seen] == [False, False, False, True, False, False, False, False]
