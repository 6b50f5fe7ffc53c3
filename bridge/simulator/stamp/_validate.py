"""Test-AzureStack: the categories, their result on the console, and true or false."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from bridge.simulator._command import CommandContext, ParameterSpec
from bridge.simulator.stamp._parameters import parameters
from bridge.simulator.stamp._state import StampState

# pep-facts 1.6 (TEST-20): the categories.
_CATEGORY_NAMES = """
    AzsAcsSummary AzsAdSummary AzsAlertSummary AzsApplicationCrashSummary AzsBackupShareAccessibility
    AzsStampBMCSummary
    AzsHostingInfraSummary AzsHostingInfraUtilization AzsControlPlane AzsDefenderSummary AzsHostingInfraFWSummary
    AzsInfraCapacity AzsInfraPerformance AzsInfraRoleSummary AzsNetworkInfra AzsPortalAPISummary AzsScaleUnitEvents
    AzsScaleUnitResources AzsScenarios AzsSDNValidation AzsSFRoleSummary AzsStorageDataPlane AzsStorageSvcsSummary
    AzsStoreSummary AzsInfraUpdateSummary AzsVmPlacement"""
CATEGORIES: tuple[str, ...] = tuple(_CATEGORY_NAMES.split())
# pep-facts 1.6: as of 1910 the group UpdateReadiness also names these two.
_GROUPS = {
    "default": CATEGORIES,
    "updatereadiness": (*CATEGORIES, "AzsInfraFileValidation", "AzsActionPlanStatus"),
    "secretrotationreadiness": CATEGORIES,
}


def _declared() -> tuple[ParameterSpec, ...]:
    declared = parameters(
        "Include strings, Ignore strings, Group string, List switch, DetailedResults switch, Repair switch,"
        "UseRunners switch, DisableConsoleOutput switch, DoNotDeployTenantVm switch, TimeoutSeconds int,"
        "ServiceAdminCredentials credential, AdminCredential credential, BackupSharePath string,"
        "BackupShareCredential credential, WhatIf switch, Confirm switch"
    )
    # TEST-20 spells it both ways.
    aliases = {"ServiceAdminCredentials": ("ServiceAdminCredential",)}
    return tuple(replace(each, aliases=aliases.get(each.name, ())) for each in declared)


TEST_PARAMETERS = _declared()


def validate(state: StampState, ctx: CommandContext, arguments: Mapping[str, Any]) -> None:
    """Runs the categories. pep-facts 8.4: true or false; PASS, FAIL or WARN on the console.

    GUESS: the lines' shape, and the objects of ``-DetailedResults``.
    """
    categories = _asked(arguments)
    if arguments.get("List"):
        for category in categories:
            ctx.write_output({"Name": category, "Group": arguments.get("Group") or "Default"})
        return
    failing = state.faults.values("test-fails")
    passed = True
    for number, category in enumerate(categories):
        if ctx.stopping.is_set():
            return
        ctx.write_progress("Test-AzureStack", category, percent=number * 100 // len(categories))
        details = _details(state, category)
        result = "FAIL" if category.casefold() in failing else "WARN" if details else "PASS"
        passed = passed and result != "FAIL"
        if not arguments.get("DisableConsoleOutput"):
            ctx.write_information(f"{category:<40} {result}", from_host=True)
            for detail in details:
                text = f"    {detail['Severity']}: {detail['Title']} ({detail['FaultTypeId']})"
                ctx.write_information(text, from_host=True)
        if arguments.get("DetailedResults"):
            ctx.write_output({"Name": category, "Result": result, "Details": list(details)})
    ctx.write_progress("Test-AzureStack", "Completed", completed=True)
    if not arguments.get("DetailedResults"):
        ctx.write_output(passed)


def _asked(arguments: Mapping[str, Any]) -> tuple[str, ...]:
    group = _GROUPS.get(str(arguments.get("Group") or "Default").casefold(), CATEGORIES)
    include = {name.casefold() for name in arguments.get("Include") or ()}
    ignore = {name.casefold() for name in arguments.get("Ignore") or ()}
    return tuple(
        name for name in group if (not include or name.casefold() in include) and name.casefold() not in ignore
    )


def _details(state: StampState, category: str) -> tuple[dict[str, Any], ...]:
    if category != "AzsAlertSummary":
        return ()
    return tuple(
        {
            "AlertId": alert.alert_id,
            "Title": alert.title,
            "FaultTypeId": alert.fault_type_id,
            "Severity": alert.severity,
            "CreatedTimestamp": alert.created,
        }
        for alert in state.alerts.active()
    )
