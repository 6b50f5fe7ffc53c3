"""One pipeline: its statements, commands and streams, run on a thread of its own."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Final, Protocol

from psrpcore import Command, PowerShell, PSRPCoreError
from psrpcore.types import PipelineResultTypes, PSRPMessageType, RemoteStreamOptions

from bridge.simulator._command import CommandSpec, Int64, SimulatedError
from bridge.simulator.session import _records as records
from bridge.simulator.session._binder import BindingError, Bound, bind
from bridge.simulator.session._builtin import BUILT_IN, Stage, StageHost
from bridge.simulator.session._catalog import Catalog, command_type, definition
from bridge.simulator.session._clixml import Thing
from bridge.simulator.session._values import plain, text_of

_END_OF_INPUT: Final = object()
_STOPPED_STATE, _COMPLETED_STATE, _FAILED_STATE = 3, 4, 5


class PipelineStoppedError(BaseException):
    """Unwinds a command's thread once its pipeline is to stop; not an Exception, so that no command swallows it."""


@dataclass(eq=False)
class _TerminatingError(Exception):
    error: SimulatedError
    invocation: records.Invocation | None = None
    details: Mapping[str, Any] | None = None
    inner: Thing | None = None
    invoked: bool = True


class Sender(Protocol):
    """Sends one message of a pipeline; blocks while its outbox is full."""

    def __call__(self, message_type: PSRPMessageType, payload: Any, *, wait: bool = True) -> None: ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a pipeline knows of its session."""

    catalog: Catalog
    session_id: str
    username: str
    machine: str
    process_id: int
    zone: tzinfo
    clock_offset: timedelta
    """How far the machine's clock is ahead of the true time."""


class Pipeline:
    """A CREATE_PIPELINE that is being run."""

    def __init__(
        self,
        surroundings: Surroundings,
        powershell: PowerShell,
        send: Sender,
        *,
        has_host: bool,
        history_id: int,
        on_end: Callable[[], None],
    ) -> None:
        self.stopping = threading.Event()
        self.surroundings = surroundings
        self.has_host = has_host
        self.history_id = history_id
        self.options = RemoteStreamOptions(int(powershell.remote_stream_options))
        self.send = send
        self._commands: Sequence[Command] = powershell.commands
        self._input: queue.SimpleQueue[Any] | None = None if powershell.no_input else queue.SimpleQueue()
        self._on_end = on_end
        self._thread = threading.Thread(target=self._run, name="simulated-pipeline", daemon=True)

    def start(self) -> None:
        """Starts the pipeline's thread."""
        self._thread.start()

    def join(self, timeout_s: float) -> None:
        """Waits for the pipeline's thread, if it was started."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    def stop(self) -> None:
        """Asks the running command to stop; the state message follows when it has."""
        self.stopping.set()
        self.end_input()

    def add_input(self, value: Any) -> None:
        """One PIPELINE_INPUT."""
        if self._input is not None:
            self._input.put(value)

    def end_input(self) -> None:
        """END_OF_PIPELINE_INPUT."""
        if self._input is not None:
            self._input.put(_END_OF_INPUT)

    def input_values(self) -> Iterator[Any]:
        """The client's input for the first command."""
        while self._input is not None and (value := self._input.get()) is not _END_OF_INPUT:
            yield value

    def check_stopping(self) -> None:
        """Raises PipelineStoppedError once the pipeline is to stop."""
        if self.stopping.is_set():
            raise PipelineStoppedError

    def now(self) -> datetime:
        """The machine's own clock."""
        return datetime.now(UTC).astimezone(self.surroundings.zone) + self.surroundings.clock_offset

    def _run(self) -> None:
        state, error = _COMPLETED_STATE, None
        try:
            self._run_statements()
            self.check_stopping()
        except PipelineStoppedError:
            state, error = _STOPPED_STATE, _stopped_record()
        except _TerminatingError as problem:
            state, error = _FAILED_STATE, _record_of(problem)
        self.send(PSRPMessageType.PipelineState, records.pipeline_state(state, error), wait=False)
        self._on_end()

    def _run_statements(self) -> None:
        statements = list(_statements(self._commands))
        for statement in statements:
            self.check_stopping()
            try:
                self._run_statement(statement)
            except _TerminatingError as problem:
                if len(statements) == 1:
                    raise
                self._send_as_error(problem)

    def _run_statement(self, statement: Sequence[Command]) -> None:
        stages: list[tuple[Stage, _Context]] = []
        emit = self._emit_output
        last = len(statement)
        for position, command in reversed(list(enumerate(statement, 1))):
            spec = self._resolve(command)
            context, bound = self._prepare(spec, command, emit, position, last)
            builder = BUILT_IN.get(spec.name)
            stage = builder(context, bound.parameters) if builder else _RunStage(spec, context, bound.parameters)
            stages.insert(0, (stage, context))
            emit = _guarded(stage.process, context)
        first, context = stages[0]
        for value in self.input_values():
            _guarded(first.process, context)(value)
        for stage, context in stages:
            _guarded(stage.end, context)()

    def _resolve(self, command: Command) -> CommandSpec:
        name = str(command.command_text)
        if command.is_script:
            message = (
                "The syntax is not supported by this runspace. This can occur if the runspace is in no-language mode."
            )
            error = SimulatedError(
                message, "ScriptsNotAllowed", "ParserError", records.NAMESPACE + "ParseException", name
            )
            raise _TerminatingError(error, details={"Errors": None, "Message": message})
        spec = self.surroundings.catalog.find(name)
        if spec is None:
            message = (
                f"The term '{name}' is not recognized as the name of a cmdlet, function, script file, or operable"
                " program. Check the spelling of the name, or if a path was included, verify that the path is correct"
                " and try again."
            )
            kind = records.NAMESPACE + "CommandNotFoundException"
            error = SimulatedError(message, "CommandNotFoundException", "ObjectNotFound", kind, name)
            raise _TerminatingError(error, details={"CommandName": name})
        return spec

    def _prepare(
        self, spec: CommandSpec, command: Command, emit: Callable[[Any], None], position: int, last: int
    ) -> tuple[_Context, Bound]:
        invocation = records.Invocation(
            spec.name,
            definition(spec),
            command_type(spec),
            history_id=self.history_id,
            pipeline_length=last,
            pipeline_position=position,
        )
        arguments = [(None if name is None else str(name), self._argument(value)) for name, value in command.parameters]
        piped = position > 1 or self._input is not None
        try:
            bound = bind(spec, arguments, zone=self.surroundings.zone, piped=piped)
        except BindingError as problem:
            raise _TerminatingError(problem.error, invocation, problem.details, problem.inner) from problem
        invocation = replace(invocation, bound=bound.shown)
        return _Context(self, invocation, bound.common, command, emit), bound

    def _argument(self, value: Any) -> Any:
        try:
            return plain(value)
        except (ValueError, LookupError, PSRPCoreError) as problem:
            # GUESS: a SecureString that was not encrypted with the session key.
            kind = "System.Security.Cryptography.CryptographicException"
            message = "The data of a SecureString could not be decrypted with the session key."
            raise _TerminatingError(SimulatedError(message, "CannotDecrypt", "InvalidData", kind)) from problem

    def _emit_output(self, value: Any) -> None:
        self.check_stopping()
        self.send(PSRPMessageType.PipelineOutput, value)
        self.check_stopping()

    def _send_as_error(self, problem: _TerminatingError) -> None:
        if problem.invocation is None:
            kind = records.NAMESPACE + "ParentContainsErrorRecordException"
            error = SimulatedError(
                problem.error.message, problem.error.error_id, problem.error.category, kind, problem.error.target
            )
            problem = _TerminatingError(error)
        extended = bool(self.options & RemoteStreamOptions.AddInvocationInfoToErrorRecord)
        self.send(PSRPMessageType.ErrorRecord, _record_of(problem, extended=extended))


class _Context(StageHost):
    """What one command of a running pipeline may do (``CommandContext``)."""

    def __init__(
        self,
        pipeline: Pipeline,
        invocation: records.Invocation,
        common: Mapping[str, Any],
        command: Command,
        emit: Callable[[Any], None],
    ) -> None:
        around = pipeline.surroundings
        self.stopping = pipeline.stopping
        self.session_id = around.session_id
        self.username = around.username
        self.machine = around.machine
        self.catalog = around.catalog
        self.has_host = pipeline.has_host
        self.invocation = invocation
        self._pipeline = pipeline
        self._common = common
        self._command = command
        self._emit = emit

    def write_output(self, value: Any) -> None:
        self._pipeline.check_stopping()
        self._emit(value)

    def write_error(self, error: SimulatedError) -> None:
        self._pipeline.check_stopping()
        action = self._common.get("ErrorAction", "Continue")
        if action == "Stop":
            raise _TerminatingError(error, self.invocation)
        if action in ("SilentlyContinue", "Ignore"):
            return
        extended = self._asked_for(RemoteStreamOptions.AddInvocationInfoToErrorRecord)
        record = records.error_record(error, self.invocation, extended=extended, in_error_stream=True)
        self._write_stream(self._command.merge_error, PSRPMessageType.ErrorRecord, record)

    def write_warning(self, message: str) -> None:
        if self._common.get("WarningAction") in ("SilentlyContinue", "Ignore"):
            return
        option = RemoteStreamOptions.AddInvocationInfoToWarningRecord
        self._write_informational("Warning", message, option, ("WriteWarningLine", 22))

    def write_verbose(self, message: str) -> None:
        if self._common.get("Verbose") is False:
            return
        option = RemoteStreamOptions.AddInvocationInfoToVerboseRecord
        self._write_informational("Verbose", message, option, ("WriteVerboseLine", 21))

    def write_debug(self, message: str) -> None:
        option = RemoteStreamOptions.AddInvocationInfoToDebugRecord
        self._write_informational("Debug", message, option, ("WriteDebugLine", 19))

    def write_information(self, message: str, *, tags: tuple[str, ...] = (), from_host: bool = False) -> None:
        self._pipeline.check_stopping()
        color = "-1" if self.has_host else None
        record = records.information_record(
            records.host_information_message(message, color) if from_host else message,
            "Write-Host" if from_host else "Write-Information",
            ("PSHOST", *tags) if from_host else tags,
            at=self._pipeline.now(),
            user=self.username,
            computer=self.machine,
            process_id=self._pipeline.surroundings.process_id,
        )
        self._write_stream(self._command.merge_information, PSRPMessageType.InformationRecord, record)
        if from_host:
            self.call_host("WriteLine3", 17, (-1, -1, message))

    def write_progress(
        self,
        activity: str,
        status: str,
        *,
        percent: int = -1,
        activity_id: int = 0,
        parent_id: int = -1,
        operation: str | None = None,
        seconds_remaining: int = -1,
        completed: bool = False,
    ) -> None:
        self._pipeline.check_stopping()
        record = records.progress_record(
            activity,
            status,
            percent=percent,
            activity_id=activity_id,
            parent_id=parent_id,
            operation=operation,
            seconds_remaining=seconds_remaining,
            completed=completed,
        )
        self._pipeline.send(PSRPMessageType.ProgressRecord, record)
        self.call_host("WriteProgress", 20, (Int64(0), record))

    def call_host(self, method: str, number: int, parameters: Sequence[Any]) -> None:
        """A host call that expects no answer; none is made where the client has no host."""
        if self.has_host:
            call = records.host_call(-100, records.host_method(method, number), parameters)
            self._pipeline.send(PSRPMessageType.PipelineHostCall, call)

    def always_call_host(self, method: str, number: int, parameters: Sequence[Any]) -> None:
        """A host call that is made even without a host: PopRunspace is (recorded)."""
        call = records.host_call(-100, records.host_method(method, number), parameters)
        self._pipeline.send(PSRPMessageType.PipelineHostCall, call)

    def _asked_for(self, option: RemoteStreamOptions) -> bool:
        return bool(self._pipeline.options & option)

    def _write_informational(
        self, kind: str, message: str, option: RemoteStreamOptions, host_method: tuple[str, int]
    ) -> None:
        self._pipeline.check_stopping()
        record = records.informational_record(kind, message, self.invocation if self._asked_for(option) else None)
        target = getattr(self._command, f"merge_{kind.lower()}")
        self._write_stream(target, getattr(PSRPMessageType, f"{kind}Record"), record)
        self.call_host(*host_method, (message,))

    def _write_stream(self, target: PipelineResultTypes, message_type: PSRPMessageType, record: Thing) -> None:
        if target == PipelineResultTypes.Output:
            self._emit(record)
        elif target != PipelineResultTypes.Null:
            self._pipeline.send(message_type, record)


class _RunStage:
    """A declared command as a stage: run once, or once for each piped value if it takes input from the pipeline."""

    def __init__(self, spec: CommandSpec, context: _Context, bound: Mapping[str, Any]) -> None:
        self._spec = spec
        self._context = context
        self._bound = bound
        self._takes = next((parameter for parameter in spec.parameters if parameter.from_pipeline), None)
        self._first = context.invocation.pipeline_position == 1
        self._fed = False

    def process(self, value: Any) -> None:
        self._fed = True
        if self._takes is None:
            self._context.write_error(_not_bindable(value))
            return
        self._run({**self._bound, self._takes.name: value})

    def end(self) -> None:
        if self._first and not self._fed:
            self._run(self._bound)

    def _run(self, bound: Mapping[str, Any]) -> None:
        self._spec.run(self._context, bound)


def _guarded(call: Callable[..., None], context: _Context) -> Callable[..., None]:
    """Turns what a command raises into a terminating error of that command."""

    def run(*arguments: Any) -> None:
        try:
            call(*arguments)
        except SimulatedError as error:
            context._pipeline.check_stopping()
            raise _TerminatingError(error, context.invocation) from error
        except _TerminatingError:
            raise
        except Exception as problem:
            context._pipeline.check_stopping()
            defect = SimulatedError(f"{type(problem).__name__}: {problem}", "SimulatorDefect", "NotSpecified")
            raise _TerminatingError(defect, context.invocation) from problem

    return run


def _not_bindable(value: Any) -> SimulatedError:
    return SimulatedError(
        "The input object cannot be bound to any parameters for the command either because the command does not take"
        " pipeline input or the input and its properties do not match any of the parameters that take pipeline input.",
        "InputObjectNotBound",
        "InvalidArgument",
        records.NAMESPACE + "ParameterBindingException",
        text_of(value),
    )


def _statements(commands: Sequence[Command]) -> Iterator[list[Command]]:
    statement: list[Command] = []
    for command in commands:
        statement.append(command)
        if command.end_of_statement:
            yield statement
            statement = []
    if statement:
        yield statement


def _record_of(problem: _TerminatingError, *, extended: bool = False) -> Thing:
    return records.error_record(
        problem.error, problem.invocation, details=problem.details, inner=problem.inner, extended=extended
    )


def _stopped_record() -> Thing:
    kind = records.NAMESPACE + "PipelineStoppedException"
    return records.error_record(
        SimulatedError("The pipeline has been stopped.", "PipelineStopped", "OperationStopped", kind), None
    )
