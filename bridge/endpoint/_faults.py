"""The border to the third party: what pypsrp, requests and the endpoint itself say becomes an error of the bridge."""

from __future__ import annotations

from xml.etree.ElementTree import ParseError

import requests
from pypsrp.exceptions import AuthenticationError, WinRMError, WinRMTransportError, WSManFaultError

from bridge.endpoint._answers import UnusableAnswerError
from bridge.endpoint._line import RequestLostError
from bridge.endpoint._records import ErrorDetail
from bridge.endpoint._words import brief, connection_detail
from bridge.errors import (
    AuthenticationFailedError,
    BridgeError,
    CertificateRejectedError,
    CommandFailedError,
    CommandNotFoundError,
    EndpointError,
    EndpointUnreachableError,
    HostProcessDiedError,
    NoSuchConfigurationError,
    NotPermittedError,
    NotWSManError,
    ParameterRejectedError,
    QuotaExceededError,
    ScriptNotAllowedError,
    SessionGoneError,
    SessionLostError,
)

# WSMan fault codes (the wsmerror.h of the Windows SDK).
OPERATION_TIMED_OUT = 2150858793
SHELL_NOT_FOUND = 2150858843  # ERROR_WSMAN_UNEXPECTED_SELECTORS: PowerShell's "the session does not exist"
INVALID_RESOURCE_URI = 2150858811
SHELL_DISCONNECTED = 2150859204
IN_USE_CANNOT_RECONNECT = 2150859213
STREAM_DISCONNECTED = 2150859230
ACCESS_DENIED = 5
LOGON_FAILURE = 1326
HOST_PROCESS_DIED = 1726  # RPC_S_CALL_FAILED: wsmprovhost, which holds the session, has gone (public reports)
_QUOTAS = frozenset({*range(2150859173, 2150859177), 2150859179, *range(2150859236, 2150859243), 2150858815})
_REFUSED_CONFIGURATION = "session configuration"

# What the binder of PowerShell calls its refusals; the part before the comma of the error id.
_PARAMETER_ERRORS = frozenset(
    {
        "NamedParameterNotFound",
        "PositionalParameterNotFound",
        "AmbiguousParameter",
        "AmbiguousParameterSet",
        "AmbiguousPositionalParameterNoName",
        "ParameterAlreadyBound",
        "ParameterArgumentTransformationError",
        "ParameterArgumentValidationError",
        "ParameterArgumentValidationErrorNullNotAllowed",
        "ParameterArgumentValidationErrorEmptyStringNotAllowed",
        "ParameterArgumentValidationErrorEmptyArrayNotAllowed",
        "CannotConvertArgument",
        "CannotConvertArgumentNoMessage",
        "MissingArgument",
        "MissingMandatoryParameter",
        "InputObjectNotBound",
        "InputObjectMissingMandatory",
        "ParameterNotInParameterSet",
        "ParameterBindingFailed",
    }
)


def opening_error(
    error: Exception, *, host: str, port: int, stamp: str, username: str, configuration: str
) -> BridgeError:
    """Why one machine could not be opened.

    Args:
        error: What pypsrp, requests or this room raised.
        host: The address that was tried, for the message.
        port: Its port.
        stamp: The stamp's name.
        username: Whose credentials were sent.
        configuration: The session configuration asked for.
    """
    fields = {"host": host, "port": port, "stamp": stamp}
    match error:
        case BridgeError():
            return error
        case AuthenticationError() if "did not response with one of" in str(error):
            return NotWSManError(**fields, detail="it offers no Negotiate or NTLM authentication")
        case AuthenticationError():
            return AuthenticationFailedError(**fields, username=username)
        case WSManFaultError() if error.code is None and isinstance(error.__context__, WinRMTransportError):
            return NotWSManError(**fields, detail=f"HTTP status {error.__context__.code}")
        case WSManFaultError():
            return _opening_fault(error, fields, username, configuration)
        case WinRMTransportError():
            return NotWSManError(**fields, detail=f"HTTP status {error.code}")
        case requests.exceptions.SSLError():
            return tls_error(error, host, port, stamp)
        case requests.exceptions.Timeout():
            return EndpointUnreachableError(**fields, detail="no answer in time")
        case requests.exceptions.RequestException() | OSError():
            return EndpointUnreachableError(**fields, detail=connection_detail(error))
        case _:  # an answer without a challenge, or one that is no SOAP
            return NotWSManError(**fields, detail=brief(error))


def tls_error(error: Exception, host: str, port: int, stamp: str = "") -> BridgeError:
    """A refused certificate, or a port that does not speak TLS."""
    text = brief(error)
    if "certificate" in text.lower() or "hostname" in text.lower():
        return CertificateRejectedError(host=host, port=port, stamp=stamp, detail=text)
    return NotWSManError(host=host, port=port, stamp=stamp, detail=f"no TLS on port {port}: {text}")


def _opening_fault(fault: WSManFaultError, fields: dict[str, object], username: str, configuration: str) -> BridgeError:
    text = fault_text(fault)
    if fault.code == LOGON_FAILURE:
        return AuthenticationFailedError(**fields, username=username)
    if fault.code == ACCESS_DENIED:
        return NotPermittedError(
            **fields,
            detail=f"{fields['host']} knows {username} but gives no access to '{configuration}'",
            fix="Use an account of the CloudAdmins group.",
        )
    if fault.code in _QUOTAS:
        return QuotaExceededError(**fields, detail=text)
    if fault.code == INVALID_RESOURCE_URI or _REFUSED_CONFIGURATION in text.lower():
        return NoSuchConfigurationError(**fields, configuration=configuration)
    return EndpointUnreachableError(**fields, detail=text)


def session_error(error: Exception, *, host: str) -> BridgeError:
    """Why a session that was open cannot go on."""
    match error:
        case BridgeError():
            return error
        case WSManFaultError() if error.code == SHELL_NOT_FOUND:
            return SessionGoneError(host=host, detail=fault_text(error))
        case WSManFaultError() if error.code == HOST_PROCESS_DIED:
            return HostProcessDiedError(host=host, detail=fault_text(error))
        case WSManFaultError() if error.code in _QUOTAS:
            return QuotaExceededError(host=host, detail=fault_text(error))
        case WSManFaultError():
            return SessionLostError(host=host, detail=fault_text(error))
        case requests.exceptions.RequestException() | WinRMError() | RequestLostError() | OSError():
            return SessionLostError(host=host, detail=connection_detail(error))
        case UnusableAnswerError() | ParseError():
            return SessionLostError(host=host, detail=f"it does not answer as WS-Management does: {brief(error)}")
        case _:
            return EndpointError(detail=f"{host}: {brief(error)}")


def fault_text(fault: WSManFaultError) -> str:
    """What a WSMan fault says to people, with its code."""
    reason = fault.provider_fault or fault.reason or "no reason given"
    return f"{' '.join(str(reason).split())} (code {fault.code})"


def error_for(detail: ErrorDetail, command: str | None = None) -> BridgeError:
    """The error of the bridge for the error that ended a pipeline.

    Args:
        detail: The terminating error.
        command: The command that ran, where only one did; else it is taken from the error id.
    """
    kind, _, origin = detail.error_id.partition(",")
    name = origin.split(",")[-1] or command or "the command"
    if kind == "ScriptsNotAllowed":
        return ScriptNotAllowedError(error_id=detail.error_id, detail=detail.message)
    if kind == "CommandNotFoundException" or detail.exception_type.endswith(".CommandNotFoundException"):
        return CommandNotFoundError(command=detail.target or command or "", detail=detail.message)
    if kind in _PARAMETER_ERRORS or ".ParameterBinding" in detail.exception_type:
        return ParameterRejectedError(command=name, error_id=detail.error_id, detail=detail.message)
    return CommandFailedError(command=name, error_id=detail.error_id, detail=detail.message, category=detail.category)
