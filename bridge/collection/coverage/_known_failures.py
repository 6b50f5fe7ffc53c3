"""The failures of Get-AzureStackLog that are known in public, with their meaning and fix.

Sources: the operator article "Collect diagnostic logs via the PEP" (GETLOG), Microsoft's script ERCS_AzureStackLogs.ps1
(ERCS), the reference of the endpoint's cmdlets (REF), MicrosoftDocs/azure-stack-docs (ASD) and azure-docs threads,
MS-WSMV, MS-ERREF.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class KnownFailure:
    """One failure.

    ``hints`` are lower-case words of which each text of this failure has one: looking for them is many times quicker
    than the pattern, and an output log has many lines. ``costs_output`` says that it means lost output wherever it is
    seen; the others explain what is missing already. ``only_where_missing`` hides it where nothing is missing.
    """

    name: str
    hints: tuple[str, ...]
    pattern: re.Pattern[str]
    meaning: str
    fix: str
    source: str
    costs_output: bool = False
    only_where_missing: bool = False

    def is_in(self, text: str, lowered: str) -> bool:
        """Whether a text, given with its lower-case form, tells of this failure."""
        return any(hint in lowered for hint in self.hints) and self.pattern.search(text) is not None


def _known(
    name: str, *, hints: tuple[str, ...], pattern: str, meaning: str, fix: str, source: str, **options: bool
) -> KnownFailure:
    return KnownFailure(name, hints, re.compile(pattern, re.IGNORECASE), meaning, fix, source, **options)


VM_OFF = "vm-off"
KNOWN_FAILURES: tuple[KnownFailure, ...] = (
    _known(
        "disk-full",
        hints=("not enough space",),
        pattern=r"There is not enough space on the disk",
        meaning="The disk of the ERCS machine, where logs wait before they are moved, or the share itself was full.",
        fix="Collect a shorter time or fewer roles, and make room on the share.",
        source="ERCS",
        costs_output=True,
    ),
    _known(
        "0x85200001",
        hints=("0x85200001",),
        pattern=r"0x85200001",
        meaning="Microsoft's own script looks for this code and does not say what it means.",
        fix="Give the line to Microsoft support.",
        source="ERCS",
    ),
    _known(
        "no-language-mode",
        hints=("not supported by this runspace", "no-language mode", "scriptsnotallowed"),
        pattern=r"not supported by this runspace|no-language mode|ScriptsNotAllowed",
        meaning="Script text was sent to the endpoint, which takes plain commands only.",
        fix="Send plain commands; compute dates and other values on the client.",
        source="PEP, 'Use the privileged endpoint'",
    ),
    _known(
        "ambiguous-parameters",
        hints=("ambiguousparameterset", "parameter set cannot"),
        pattern=r"AmbiguousParameterSet|Parameter set cannot be resolved using the specified named parameters",
        meaning="A resource provider was asked for together with roles and without a place to write to.",
        fix="Give an output share or SAS, or use 'pep-bridge send' (Send-AzureStackDiagnosticLog).",
        source="ASD issue 1958",
    ),
    _known(
        "unknown-command",
        hints=("is not recognized",),
        pattern=r"The term '[^']{1,80}' is not recognized as the name of a cmdlet",
        meaning="The endpoint has no such command; the name is singular: Get-AzureStackLog.",
        fix="Look at the endpoint's commands with Get-Command.",
        source="ASD issues 816 and 935",
    ),
    _known(
        "wrong-host",
        hints=("privilegedendpoint session",),
        pattern=r"Cannot find the PrivilegedEndpoint session configuration",
        meaning="The machine is no ERCS machine.",
        fix="Use the address of an ERCS machine (administrator portal, Region management, Properties).",
        source="AzureStack-Tools issue 535",
    ),
    _known(
        "outside-the-endpoint",
        hints=("ececlient",),
        pattern=r"ECEClient\.psm1' was not loaded",
        meaning="A command of the endpoint was run outside it.",
        fix="Run it in a session with the configuration PrivilegedEndpoint.",
        source="AzureStack-Tools issue 535",
    ),
    _known(
        "too-many-shells",
        hints=("concurrent",),
        pattern=r"maximum number of (?:\d+ )?concurrent shells|maximum number of users concurrently performing",
        meaning="The endpoint allows no further session for this user.",
        fix="Close stale sessions, or wait until they time out.",
        source="MS-WSMV 3.1.4.5.2.1",
    ),
    _known(
        "trusted-hosts",
        hints=("trustedhosts",),
        pattern=r"must be added to the TrustedHosts configuration",
        meaning="The Windows client does not trust an address without Kerberos.",
        fix="Add the address of the ERCS machine to TrustedHosts (keep what is there: -Concatenate).",
        source="PEP, 'Use the privileged endpoint'",
    ),
    _known(
        "output-path-and-share",
        hints=("outputpath",),
        pattern=r"OutputPath.{0,80}OutputSharePath|OutputSharePath.{0,80}OutputPath",
        meaning="OutputPath and OutputSharePath do not go together.",
        fix="Give the share alone.",
        source="azure-docs pull request 4462",
    ),
    _known(
        "sas-refused",
        hints=("signature", "authenticationfailed", "authorizationpermissionmismatch", "expired"),
        pattern=(
            r"Signature (?:not valid|did not match)|AuthenticationFailed|AuthorizationPermissionMismatch"
            r"|\bSAS\b.{0,40}expired"
        ),
        meaning="The container refused the SAS: expired, for another container, or without write.",
        fix="Make a SAS with Read, Write and List that outlives the collection and its time-out.",
        source="GETLOG",
        costs_output=True,
    ),
    _known(
        "share-lost",
        hints=("network name", "network path", "semaphore timeout"),
        pattern=(
            r"The specified network name is no longer available|The network (?:path was not|name cannot be) found"
            r"|The semaphore timeout period has expired"
        ),
        meaning="The ERCS machine lost the share while it wrote to it.",
        fix="Look at the share's server and the line between; then collect the roles that are missing again.",
        source="MS-ERREF 2.2 (codes 53, 64, 67 and 121); no public log of a collection shows it",
        costs_output=True,
    ),
    _known(
        VM_OFF,
        hints=("off", "paused"),
        pattern=r"\b(?:VM|virtual machine)\b.{0,80}\b(?:Off|Paused)(?:Critical)?\b",  # GUESS: no text of it is public
        meaning="A VM was off or paused: its Windows event logs are read from its disk only when that is asked for.",
        fix="Collect its roles again with --recover-vm-logs (-PerformVMLogRecovery).",
        source="REF",
        only_where_missing=True,
    ),
    _known(
        "terminating-error",
        hints=("ps>terminatingerror",),
        pattern=r"PS>TerminatingError",
        meaning="PowerShell noted an error that ended a command; to be ignored unless expected files are missing.",
        fix="Read the lines around it in Get-AzureStackLog_Output.log, and give them to Microsoft support.",
        source="GETLOG",
        only_where_missing=True,
    ),
)
