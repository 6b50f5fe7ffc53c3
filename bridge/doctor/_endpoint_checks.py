"""The privileged endpoint: which machines answer, then, once, the credentials, the commands and the registration."""

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from bridge.doctor._checks import Check, failed, passed, refused, skipped, warned
from bridge.doctor._subject import Subject
from bridge.doctor._web import Clock, ClockSample
from bridge.endpoint import (
    EndpointSession,
    Identity,
    Pipeline,
    PipelineState,
    SessionOptions,
    Stream,
    check_tcp,
    identify,
    list_commands,
    open_session,
)
from bridge.endpoint.script import allow_list, load_script
from bridge.errors import BridgeError, CommandNotFoundError, EndpointError, ExitCode
from bridge.secrets import Credential
from bridge.stamp import HTTPS_PORT, EndpointAddress, Stamp

_VERB = "doctor"
_SUPPORT_SCRIPT = "Get-StampSupportConfiguration"
_COLLECTING = "Get-AzureStackLog"
_ALWAYS_SENT = ("FromDate", "ToDate", "TimeOutInMinutes", "IncludeDumpFile", "PerformVMLogRecovery")
"""What every collection passes; filters differ by version and are sent only when asked for."""
_TCP_TIMEOUT_S = 3.0
_IDENTIFY_TIMEOUT_S = 5.0
_REGISTRATION_TIMEOUT_S = 20.0
_PATIENCE = SessionOptions(
    connect_timeout_s=5,
    operation_timeout_s=10,
    read_timeout_s=15,
    open_timeout_s=30.0,
    idle_timeout_s=120,  # should this process die, its shell does not count against the quota for long
    reconnect_deadline_s=15.0,
)


@dataclass(frozen=True, slots=True)
class EndpointLook:
    """``answers``: a machine speaks WSMan and may be tried. ``registered`` is ``None`` where nobody could say."""

    checks: tuple[Check, ...]
    answers: bool
    registered: bool | None
    clocks: tuple[ClockSample, ...]


def look_at_endpoint(subject: Subject, now: Clock) -> EndpointLook:
    """All machines at the same time, then one session on the first that answers.

    The password is sent once: one that is refused is not tried on the next machine.
    """
    stamp = subject.stamp
    with ThreadPoolExecutor(max_workers=max(1, min(8, len(stamp.endpoints)))) as pool:
        looks = tuple(pool.map(lambda address: _look_at_machine(stamp, address, now), stamp.endpoints))
    answering = tuple(look.address for look in looks if look.identity is not None)
    machines = tuple(_machine_check(look, others=bool(answering)) for look in looks)
    session, registered = _look_inside(subject, answering)
    return EndpointLook(
        checks=(*machines, *session),
        answers=bool(answering),
        registered=registered,
        clocks=tuple(look.clock for look in looks if look.clock is not None),
    )


@dataclass(frozen=True, slots=True)
class _MachineLook:
    address: EndpointAddress
    identity: Identity | None = None
    error: EndpointError | None = None
    clock: ClockSample | None = None


def _look_at_machine(stamp: Stamp, address: EndpointAddress, now: Clock) -> _MachineLook:
    port = (address.https_port or HTTPS_PORT) if stamp.use_https else address.port
    try:
        check_tcp(address.host, port, timeout_s=_TCP_TIMEOUT_S)
        identity = identify(address, use_https=stamp.use_https, ca_file=stamp.ca_file, timeout_s=_IDENTIFY_TIMEOUT_S)
    except EndpointError as error:
        return _MachineLook(address, error=error)
    clock = ClockSample(address.name, identity.date - now(), of_stamp=True) if identity.date else None
    return _MachineLook(address, identity, clock=clock)


def _machine_check(look: _MachineLook, *, others: bool) -> Check:
    """One machine that is down stops nothing as long as another answers."""
    name = f"ercs:{look.address.name}"
    if look.error is not None:
        found = refused(name, look.error)
        return warned(name, found.evidence, found.fix) if others else found
    identity = look.identity
    says = " ".join(filter(None, (identity.vendor, identity.product_version))) if identity else ""
    offers = ", ".join(identity.auth_schemes) if identity else ""
    evidence = f"{look.address.host} answers as WSMan{f' ({says})' if says else ''}"
    return passed(name, f"{evidence}{f', offers {offers}' if offers else ''}")


def _look_inside(subject: Subject, answering: tuple[EndpointAddress, ...]) -> tuple[tuple[Check, ...], bool | None]:
    if not answering:
        return _not_asked("no machine of the endpoint answers"), None
    credential = subject.credential
    if not isinstance(credential, Credential):
        return _not_asked("there are no credentials to try"), None
    stamp = replace(subject.stamp, endpoints=answering)
    support = load_script(_SUPPORT_SCRIPT)
    allow = {"Get-Command", *allow_list(support.command_names, verb=_VERB)}
    try:
        session = open_session(stamp, credential, allow=allow, verb=_VERB, options=_PATIENCE)
    except BridgeError as error:
        return (refused("session", error), *_not_asked("there is no session")[1:]), None
    with session:
        opened = passed("session", f"{session.endpoint.name} accepts {credential.username}")
        commands = _look_at_commands(session)
        registration, registered = _look_at_registration(session)
    return (opened, commands, registration), registered


def _not_asked(why: str) -> tuple[Check, ...]:
    return tuple(skipped(name, f"not asked: {why}") for name in ("session", "commands", "registration"))


def _look_at_commands(session: EndpointSession) -> Check:
    name = "commands"
    try:
        commands = list_commands(session)
    except BridgeError as error:
        return refused(name, error)
    found = next((command for command in commands if command.name.casefold() == _COLLECTING.casefold()), None)
    if found is None:
        missing = CommandNotFoundError(command=_COLLECTING)
        return refused(name, missing, "This account's role on the endpoint lacks it: use the CloudAdmin account.")
    if lacking := [name for name in _ALWAYS_SENT if found.parameter(name) is None]:
        return failed(
            name,
            f"{_COLLECTING} has no parameter {', '.join(lacking)} here",
            f"This version differs: run your own script with 'pep-bridge run' (see 'Get-Command {_COLLECTING}').",
            ExitCode.NOT_PERMITTED,
        )
    return passed(name, f"{len(commands)} commands, {_COLLECTING} with every parameter that is used")


def _stop(pipeline: Pipeline) -> None:
    with contextlib.suppress(BridgeError):  # the reader of its records gets the same error
        pipeline.stop()


def _look_at_registration(session: EndpointSession) -> tuple[Check, bool | None]:
    """Registration details, or nothing where the stamp is not registered (Get-AzureStackSupportConfiguration)."""
    name = "registration"
    try:
        pipeline = session.start(load_script(_SUPPORT_SCRIPT).bind({}))
        too_long = threading.Timer(_REGISTRATION_TIMEOUT_S, _stop, (pipeline,))
        too_long.start()
        try:
            told = [record for record in pipeline.records() if record.stream is Stream.OUTPUT and record.data]
        finally:
            too_long.cancel()
            too_long.join()
        outcome = pipeline.wait()
        outcome.raise_for_failure()
    except BridgeError as error:
        return skipped(name, f"could not be learnt: {error}"), None
    if outcome.state is not PipelineState.COMPLETED:
        return skipped(name, f"could not be learnt within {_REGISTRATION_TIMEOUT_S:.0f} s"), None
    if told:
        return passed(name, "the stamp is registered"), True
    fix = "Register the stamp, or save locally and upload from a connected machine: 'send' needs a registered stamp."
    return warned(name, "the stamp is not registered", fix), False
