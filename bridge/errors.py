"""Every failure that pep-bridge knows by name, with its exit code and what to do about it.

A class's docstring is the template of its message and ``fix`` the template of its advice; both are filled from
the keyword arguments of the instance, which stay available in ``fields``. Third-party exceptions stop at the border of
the room that calls the third party and become one of these.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, ClassVar


class ExitCode(IntEnum):
    """What the process ends with. The numbers are an interface: scripts depend on them."""

    OK = 0
    UNEXPECTED = 1
    USAGE = 2
    UNREACHABLE = 3
    AUTHENTICATION = 4
    NOT_PERMITTED = 5
    PREFLIGHT = 6
    BUSY = 7
    PARTIAL = 8
    VERIFICATION = 9
    NO_SPACE = 10
    DELIVERY = 11
    TIME_LIMIT = 12
    SEALING = 13
    INTERRUPTED = 130


class BridgeError(Exception):
    """{detail}"""

    exit_code: ClassVar[ExitCode] = ExitCode.UNEXPECTED
    fix: ClassVar[str] = ""

    def __init__(self, **fields: Any) -> None:
        self.fields = fields
        template = type(self).__doc__ or "{detail}"
        super().__init__(_fill(template, fields))

    @property
    def advice(self) -> str:
        """What to do next, in one or two sentences; empty where there is nothing useful to say."""
        return _fill(type(self).fix, self.fields)

    @property
    def name(self) -> str:
        """The stable name of this kind of error, as it stands in ``--json`` output."""
        return type(self).__name__

    def to_json(self) -> dict[str, Any]:
        """The error as it stands in ``errors`` of the ``--json`` document."""
        return {
            "error": self.name,
            "message": str(self),
            "fix": self.advice,
            "exit_code": int(self.exit_code),
        }


class _Blank(dict[str, Any]):
    def __missing__(self, key: str) -> str:
        return ""


def _fill(template: str, fields: dict[str, Any]) -> str:
    return " ".join(template.format_map(_Blank(fields)).split())


# -- usage and configuration ------------------------------------------------------------------------------------------


class UsageError(BridgeError):
    """{detail}"""

    exit_code = ExitCode.USAGE
    fix = "{fix}"


class ConfigurationError(UsageError):
    """{source}: {detail}"""


class SecretOnCommandLineError(UsageError):
    """A secret was given on the command line ({what}); it would be seen by every user of this machine."""

    fix = "Give it through {how}."


class WindowError(UsageError):
    """The window is not usable: {detail}."""


class PlanRefusedError(UsageError):
    """The plan {file} cannot be run: {detail}."""

    fix = "Make it again: pep-bridge plan STAMP ... --output FILE."


class ScriptRefusedError(UsageError):
    """{file}:{line}:{column}: {detail}: {text}"""


class ScriptArgumentError(UsageError):
    """Parameter {parameter}: {detail}."""


class EngineJudgementError(UsageError):
    """The PowerShell engine {engine} could not judge the script: {detail}"""

    fix = "Name a working pwsh with PEP_BRIDGE_PWSH, or check without an engine."


class PowerShellNotFoundError(UsageError):
    """No PowerShell can be used: {detail}."""

    fix = (
        "Install PowerShell 7.3 or later and put pwsh on PATH, or name one with PEP_BRIDGE_PWSH; without --engine pwsh"
        " the simulator needs none."
    )


class CommandNotAllowedError(UsageError):
    """{command} is not on the list of commands that '{verb}' may send; nothing was sent."""


# -- the endpoint -----------------------------------------------------------------------------------------------------


class EndpointError(BridgeError):
    """{detail}"""


class EndpointUnreachableError(EndpointError):
    """No privileged endpoint of {stamp} could be reached: {detail}"""

    exit_code = ExitCode.UNREACHABLE
    fix = (
        "Check that this machine may open TCP {port} to the ERCS machines (they are on the stamp's"
        " infrastructure network) and that the addresses are right."
    )


class CertificateRejectedError(EndpointUnreachableError):
    """The certificate of {host} was not accepted: {detail}"""

    fix = "Give the issuing authority with 'ca_file' of the stamp's configuration, or correct the host name."


class NotWSManError(EndpointUnreachableError):
    """{host} answers, but not as a Windows Remote Management service: {detail}"""

    fix = "Check the address and port: an ERCS machine listens on 5985 (HTTP) or 5986 (HTTPS)."


class NoSuchConfigurationError(EndpointUnreachableError):
    """{host} has no session configuration '{configuration}': it is not an ERCS machine."""

    fix = "Use the address of an ERCS machine (administrator portal, Region management, Properties)."


class AuthenticationFailedError(EndpointError):
    """{host} refused the credentials of {username}."""

    exit_code = ExitCode.AUTHENTICATION
    fix = (
        "Check user name (domain\\CloudAdmin) and password. Do not try again and again: the account may be locked out."
    )


class NotPermittedError(EndpointError):
    """The endpoint does not permit this: {detail}"""

    exit_code = ExitCode.NOT_PERMITTED
    fix = "{fix}"


class ScriptNotAllowedError(NotPermittedError):
    """The endpoint refused script text (ScriptsNotAllowed): it takes commands and parameters only."""

    fix = "Use plain commands: 'pep-bridge run --check FILE' says what would be refused and why."


class CommandNotFoundError(NotPermittedError):
    """The endpoint has no command '{command}'."""

    fix = "See what it has with Get-Command; names are singular (Get-AzureStackLog) and differ by version."


class ParameterRejectedError(NotPermittedError):
    """{command} refused its parameters ({error_id}): {detail}"""

    fix = "See the command's own parameters with 'Get-Command {command}' on the endpoint."


class QuotaExceededError(EndpointError):
    """{host} allows no further session: {detail}"""

    exit_code = ExitCode.BUSY
    fix = "Close stale sessions, or wait until they time out."


class CommandFailedError(EndpointError):
    """{command} failed on the endpoint ({error_id}): {detail}"""

    fix = "These are the endpoint's own words; 'pep-bridge doctor STAMP --to DEST' checks stamp and destination."


class OutputRefusedError(EndpointError):
    """The endpoint cannot write to {where}: {detail}"""

    exit_code = ExitCode.PREFLIGHT
    fix = (
        "The ERCS machine itself must be able to write there: give a share that it reaches, with an account that may"
        " write on the share and in its folder. It does not see the folders of this machine."
    )


class SessionLostError(EndpointError):
    """The session with {host} was lost and could not be had back in time: {detail}"""

    exit_code = ExitCode.UNREACHABLE
    fix = "The collection may still run on the stamp: look with 'pep-bridge status' and 'pep-bridge attach'."


class CommandUncertainError(SessionLostError):
    """The line to {host} broke while the command was sent; whether it runs there is not known: {detail}"""

    fix = "Treat it as running: 'pep-bridge attach' finds it, or says that the endpoint does not know it."


class SessionGoneError(SessionLostError):
    """{host} no longer has the session: {detail}"""

    fix = (
        "It was closed, timed out, or the machine restarted. Look at the output folder: what the stamp wrote is still"
        " there."
    )


class StopUnconfirmedError(SessionLostError):
    """Run {run} was not stopped, {host} is not to be had: {detail}"""

    fix = (
        "It still counts as running. Try 'pep-bridge stop {run}' again, or follow what it writes to its end with"
        " 'pep-bridge attach {run}'."
    )


class HostProcessDiedError(SessionGoneError):
    """The process that ran the command on {host} died in the middle of it: {detail}"""

    fix = "What had arrived until then is kept. Wait five minutes, then collect again what is missing."


# -- collection -------------------------------------------------------------------------------------------------------


class HealthUnknownError(BridgeError):
    """The alerts of {stamp} could not be read from {source}: {detail}"""

    exit_code = ExitCode.UNREACHABLE
    fix = "{fix}"


class ConsentMissingError(UsageError):
    """Nobody has agreed yet that logs of {stamp} are collected without being asked, to {destination}."""

    fix = "Start it once on a terminal and answer the question, or give --agree after reading 'watch --show-consent'."


class PreflightError(BridgeError):
    """{detail}"""

    exit_code = ExitCode.PREFLIGHT
    fix = "{fix}"


class StampBusyError(BridgeError):
    """{stamp} is busy: {detail}"""

    exit_code = ExitCode.BUSY
    fix = "{fix}"


class TimeLimitError(BridgeError):
    """The time limit of {limit} was reached: {detail}"""

    exit_code = ExitCode.TIME_LIMIT
    fix = "{fix}"


class JournalError(BridgeError):
    """The journal {path} cannot be used: {detail}"""

    fix = "{fix}"


class JournalFullError(JournalError):
    """The journal {path} cannot be written, there is no space left: {detail}"""

    exit_code = ExitCode.NO_SPACE
    fix = "Free space there and run the same command again: nothing that was written is lost."


class NoSuchRunError(UsageError):
    """The journal has no run '{run}'."""

    fix = (
        "See the runs with 'pep-bridge history'; the first characters of an id are enough where only one run has them."
    )


class ImpossibleTransitionError(BridgeError):
    """Run {run} is {old}; from there it cannot become {new}."""

    fix = "See where it stands with 'pep-bridge show {run}'."


class RunDrivenError(BridgeError):
    """Run {run} is driven by another process of this machine ({owner})."""

    exit_code = ExitCode.BUSY
    fix = "Watch it there, or end that process and run 'pep-bridge attach {run}'."


class StagingError(BridgeError):
    """The staging share on {host}: {detail}"""

    exit_code = ExitCode.PREFLIGHT
    fix = (
        "Run the same command again: it goes on where it stopped. The user must be an administrator of the host, and"
        " the account must exist."
    )


class StagingUnreachableError(StagingError):
    """{host} could not be reached over Windows Remote Management (port {port}): {detail}"""

    exit_code = ExitCode.UNREACHABLE
    fix = "Run 'Enable-PSRemoting' on the host, and check its name, port and firewall."


class StagingAuthenticationError(StagingError):
    """{host} refused the credentials of {username}."""

    exit_code = ExitCode.AUTHENTICATION
    fix = "Check user name (HOST\\user or DOMAIN\\user) and password: the account may lock after a few attempts."


# -- bundle and stores ------------------------------------------------------------------------------------------------


class SealingError(BridgeError):
    """The bundle could not be sealed: {detail}"""

    exit_code = ExitCode.SEALING
    fix = "{fix}"


class StrangersBesideError(SealingError):
    """The bundle could not be sealed: {where} holds files, not of this run, under a bundle's own names: {names}"""

    fix = "Move them out of the bundle's folder, then seal it with 'pep-bridge attach'."


class NotABundleError(BridgeError):
    """{where} is not a bundle: {detail}"""

    exit_code = ExitCode.VERIFICATION
    fix = "{fix}"


class NothingThereError(NotABundleError):
    """There is no bundle at {where}: {detail}"""

    exit_code = ExitCode.USAGE
    fix = "Correct the place: 'pep-bridge history' shows where bundles are."


class VerificationFailedError(BridgeError):
    """{where} does not verify: {detail}"""

    exit_code = ExitCode.VERIFICATION
    fix = "{fix}"


class SourceMismatchError(VerificationFailedError):
    """{where} does not have what it should have; these files were not delivered: {detail}"""

    fix = (
        "Deliver from a copy that verifies, or collect again ('pep-bridge verify {where}' shows all that is wrong)."
        " The files that are in order have been delivered."
    )


class StoreError(BridgeError):
    """{store}: {detail}"""

    exit_code = ExitCode.DELIVERY
    fix = "{fix}"


class UnsafePathError(StoreError):
    """{store}: the name {path} is not safe to use: {detail}"""

    fix = "Nothing was read or written under that name."


class NameCollisionError(StoreError):
    """{store}: {path} differs only in case from {other}, and this store takes both for one"""

    fix = "Choose a container, or a folder that tells upper and lower case apart."


class StoreNotFoundError(StoreError):
    """{store}: not found: {detail}"""


class NoSuchPlaceError(StoreNotFoundError):
    """{store}: not found: {detail}"""

    exit_code = ExitCode.USAGE
    fix = (
        "Check the name of the {kind} and of its server, and whether it may be seen with what was given: no {kind} is"
        " made from here."
    )


class StoreAccessError(StoreError):
    """{store}: access was refused: {detail}"""


class StoreAuthenticationError(StoreAccessError):
    """{store}: the credentials were refused: {detail}"""

    exit_code = ExitCode.AUTHENTICATION
    fix = (
        "Check user name (DOMAIN\\user) and password of the share. Do not try again and again: the account may be"
        " locked out."
    )


class StoreReadOnlyError(StoreAccessError):
    """{store}: writing was refused: {detail}"""


class StoreFullError(StoreError):
    """{store}: there is no space left: {detail}"""

    exit_code = ExitCode.NO_SPACE
    fix = "Free space there and run the same command again: what has arrived is kept."


class StoreExistsError(StoreError):
    """{store}: there is already a file of that name: {detail}"""


class BeingWrittenError(StoreError):
    """{store}: {path}: another transfer is writing it"""

    fix = "Wait until it has ended, then run the same command again: what has arrived is kept."


class StoreClosedError(StoreError):
    """{store}: it was closed and cannot be used any more."""


class StoreCorruptError(StoreError):
    """{store}: what arrived is not what was sent: {detail}"""

    fix = "Run the same command again; if it happens again, the line or the server changes bytes."


class StoreReplacedError(StoreCorruptError):
    """{store}: {detail}"""

    fix = "Run the same command again: it begins with the file that is there now."


class StorePermissionError(StoreAccessError):
    """{store}: the SAS does not allow this: {detail}"""

    exit_code = ExitCode.AUTHENTICATION
    fix = (
        "Make a new SAS for this container: with the permissions Read and List to look at a bundle, with Write and"
        " Create too to deliver one."
    )


class SasExpiredError(StoreAuthenticationError):
    """{store}: the SAS is not valid now: {detail}"""

    fix = "Make a new SAS that outlives the collection and its delivery (12 hours or more), and check the clock here."


class SasError(StoreAuthenticationError):
    """{store}: the SAS cannot be used: {detail}"""

    fix = (
        "Copy the SAS token again, from '?sv=' or 'sv=' to its end, without line breaks; if that was whole, make a new"
        " one for this very container."
    )


class StoreUnreachableError(StoreError):
    """{store}: cannot be reached: {detail}"""

    fix = "Check the name, the port and the line, then run the same command again: what has arrived is kept."


class ApiVersionError(StoreError):
    """{store}: the service does not accept API version {version}: {detail}"""

    fix = "Set 'api_version' of the destination (2019-02-02 or 2017-11-09 for a container on the stamp itself)."


class DeliveryFailedError(BridgeError):
    """Delivery to {store} failed; the bundle at {source} is safe: {detail}"""

    exit_code = ExitCode.DELIVERY
    fix = "{fix}"


class InterruptedRunError(BridgeError):
    """Interrupted: {detail}"""

    exit_code = ExitCode.INTERRUPTED
    fix = "{fix}"
