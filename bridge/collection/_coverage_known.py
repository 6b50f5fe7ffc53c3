"""The failures of Get-AzureStackLog that are known in public, with their meaning and fix.

Sources: the operator article "Collect diagnostic logs via the PEP" (GETLOG), Microsoft's script ERCS_AzureStackLogs.ps1
(ERCS), MicrosoftDocs/azure-stack-docs (ASD) and azure-docs threads, MS-WSMV.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class KnownFailure:
    """One failure. ``costs_output`` says that it means lost output wherever it is seen; the others explain what is
    missing already. ``only_where_missing`` hides it where nothing is missing."""

    name: str
    pattern: re.Pattern[str]
    meaning: str
    fix: str
    source: str
    costs_output: bool = False
    only_where_missing: bool = False


def _known(name: str, pattern: str, meaning: str, fix: str, source: str, **options: bool) -> KnownFailure:
    return KnownFailure(name, re.compile(pattern, re.IGNORECASE), meaning, fix, source, **options)


KNOWN_FAILURES: tuple[KnownFailure, ...] = (
    _known(
        "disk-full",
        r"There is not enough space on the disk",
        "The disk of the ERCS machine, where logs are gathered before they are moved, or the share itself was full.",
        "Collect a shorter time or fewer roles, and make room on the share.",
        "ERCS",
        costs_output=True,
    ),
    _known(
        "0x85200001",
        r"0x85200001",
        "Microsoft's own script looks for this code and does not say what it means.",
        "Give the line to Microsoft support.",
        "ERCS",
    ),
    _known(
        "no-language-mode",
        r"not supported by this runspace|no-language mode|ScriptsNotAllowed",
        "Script text was sent to the endpoint, which takes plain commands only.",
        "Send plain commands; compute dates and other values on the client.",
        "PEP, 'Use the privileged endpoint'",
    ),
    _known(
        "ambiguous-parameters",
        r"AmbiguousParameterSet|Parameter set cannot be resolved using the specified named parameters",
        "A resource provider was asked for together with roles and without a place to write to.",
        "Give an output share or SAS, or use 'pep-bridge send' (Send-AzureStackDiagnosticLog).",
        "ASD issue 1958",
    ),
    _known(
        "unknown-command",
        r"The term '[^']{1,80}' is not recognized as the name of a cmdlet",
        "The endpoint has no such command; the name is singular: Get-AzureStackLog.",
        "Look at the endpoint's commands with Get-Command.",
        "ASD issues 816 and 935",
    ),
    _known(
        "wrong-host",
        r"Cannot find the PrivilegedEndpoint session configuration",
        "The machine is no ERCS machine.",
        "Use the address of an ERCS machine (administrator portal, Region management, Properties).",
        "AzureStack-Tools issue 535",
    ),
    _known(
        "outside-the-endpoint",
        r"ECEClient\.psm1' was not loaded",
        "A command of the endpoint was run outside it.",
        "Run it in a session with the configuration PrivilegedEndpoint.",
        "AzureStack-Tools issue 535",
    ),
    _known(
        "too-many-shells",
        r"maximum number of (?:\d+ )?concurrent shells|maximum number of users concurrently performing",
        "The endpoint allows no further session for this user.",
        "Close stale sessions, or wait until they time out.",
        "MS-WSMV 3.1.4.5.2.1",
    ),
    _known(
        "trusted-hosts",
        r"must be added to the TrustedHosts configuration",
        "The Windows client does not trust an address without Kerberos.",
        "Add the address of the ERCS machine to TrustedHosts (keep what is there: -Concatenate).",
        "PEP, 'Use the privileged endpoint'",
    ),
    _known(
        "output-path-and-share",
        r"OutputPath.{0,80}OutputSharePath|OutputSharePath.{0,80}OutputPath",
        "OutputPath and OutputSharePath do not go together.",
        "Give the share alone.",
        "azure-docs pull request 4462",
    ),
    _known(
        "sas-refused",
        r"Signature (?:not valid|did not match)|AuthenticationFailed|AuthorizationPermissionMismatch"
        r"|\bSAS\b.{0,40}expired",
        "The container refused the SAS: expired, for another container, or without write.",
        "Make a SAS with Read, Write and List that outlives the collection and its time-out.",
        "GETLOG",
    ),
    _known(
        "terminating-error",
        r"PS>TerminatingError",
        "PowerShell noted an error that ended a command. Such lines may be ignored unless expected files are missing.",
        "Read the lines around it in Get-AzureStackLog_Output.log, and give them to Microsoft support.",
        "GETLOG",
        only_where_missing=True,
    ),
)
