"""Judges a role by what arrived of it and what was said of it."""

from __future__ import annotations

from collections.abc import Collection

from bridge.collection.coverage._output_log import MAX_EVIDENCE, Evidence, Said, Testimony
from bridge.collection.coverage._result import RoleCoverage, RoleState, ZipCoverage
from bridge.collection.coverage._zip import ZipState

_MAX_NAMED = 5


def judge(role: RoleCoverage, testimony: Testimony, *, ended: bool) -> None:
    """Sets the state of a role and of its nodes, with the explanation and the evidence; ``ended`` as in ``assess``."""
    said = testimony.roles.get(role.name, Said())
    role.evidence = [_zip_evidence(file) for file in role.zips[: MAX_EVIDENCE // 2]]
    if role.zips:
        _judge_output(role, said, testimony, ended=ended)
    else:
        _judge_absence(role, said, testimony, ended=ended)
    _judge_nodes(role, said)


def _judge_output(role: RoleCoverage, said: Said, testimony: Testimony, *, ended: bool) -> None:
    broken = [file for file in role.zips if file.state in {ZipState.CUT, ZipState.DAMAGED}]
    with_output = {file.machine.casefold() for file in role.zips if file.machine}
    lost = {node for node in said.machines if node.casefold() not in with_output}
    if broken:
        role.state = RoleState.TRUNCATED
        role.explanation = f"{len(broken)} of {len(role.zips)} zips are not whole: {broken[0].problems[0]}."
        role.evidence = [_zip_evidence(file) for file in broken[: MAX_EVIDENCE // 2]] + said.failed_firmly + said.failed
    elif said.missing_zips:
        role.state = RoleState.TRUNCATED
        role.explanation = f"Zips that an error names are not there: {_some(said.missing_zips)}."
        role.evidence = list(said.missing_zips.values()) + said.failed_firmly + role.evidence
    elif said.failed_firmly or said.truncated:
        role.state = RoleState.TRUNCATED
        role.explanation = "The endpoint reported an error for the role after part of its output was there."
        role.evidence = said.failed_firmly + said.truncated + role.evidence
    elif all(file.state is ZipState.EMPTY for file in role.zips):
        role.state = RoleState.EMPTY
        role.explanation = "There are zips, and nothing is in them."
        role.evidence += said.empty
    elif said.zip_count > len(role.zips):
        role.state = RoleState.TRUNCATED
        role.explanation = f"The endpoint told of {said.zip_count} zips, and {len(role.zips)} arrived."
        role.evidence = said.counted + role.evidence
    elif lost:
        role.state = RoleState.TRUNCATED
        role.explanation = f"Nothing came from {_some(lost)}."
        role.evidence = [evidence for node in sorted(lost) for evidence in said.machines[node]] + role.evidence
    elif role.without_event_logs:
        role.state = RoleState.TRUNCATED
        role.explanation = (
            f"No Windows event logs came from {_some(role.without_event_logs)}: the VM may be off or paused."
        )
        role.evidence = without_event_logs(role) + role.evidence
    elif not ended and not said.zip_count:
        role.state = RoleState.TRUNCATED
        role.explanation = (
            f"{len(role.zips)} zips arrived, and the collection was never seen to end: more may have been to come."
        )
    elif testimony.ended_by is not None and not said.zip_count:
        role.state = RoleState.TRUNCATED
        role.explanation = (
            f"{len(role.zips)} zips arrived, and the command ended with an error: nothing says that the role was done."
        )
        role.evidence = [testimony.ended_by, *role.evidence]
    elif role.outside_window:
        role.state = RoleState.EMPTY
        role.explanation = "None of the times found in a sample of its logs lies in the window."
    else:
        role.state = RoleState.COLLECTED
        role.explanation = f"{len(role.zips)} zips arrived."


def _judge_absence(role: RoleCoverage, said: Said, testimony: Testimony, *, ended: bool) -> None:
    missing = list(said.missing_zips.values())
    for state, evidence, explanation in (
        (RoleState.FAILED, missing, "An error names a zip of the role, and no zip arrived."),
        (RoleState.FAILED, said.failed_firmly, "The endpoint reported an error for the role, and no zip arrived."),
        (RoleState.SKIPPED, said.skipped, "The endpoint skipped the role: it may not know it."),
        (RoleState.EMPTY, said.empty, "The endpoint found nothing to collect in the window."),
        (RoleState.FAILED, said.failed, "Errors mention the role, and no zip arrived."),
    ):
        if evidence:
            role.state, role.evidence, role.explanation = state, list(evidence), explanation
            return
    if testimony.ended_by is not None:
        role.state, role.evidence = RoleState.FAILED, [testimony.ended_by]
        role.explanation = "The command ended with an error before any zip of the role arrived."
    elif not ended and not said.mentioned:
        role.explanation = "No zip arrived, and the collection was never seen to reach the role."
    elif not ended:
        role.explanation = "No zip arrived, and the collection was never seen to end."
    else:
        role.explanation = "No zip arrived, and nothing says why."


def _judge_nodes(role: RoleCoverage, said: Said) -> None:
    for node in said.machines:
        role.nodes[node] = RoleState.FAILED
    for node in {file.machine for file in role.zips if file.machine is not None}:
        states = {file.state for file in role.zips if file.machine == node}
        short = node.casefold() in said.short_machines or node in role.without_event_logs
        if short or states & {ZipState.CUT, ZipState.DAMAGED}:
            role.nodes[node] = RoleState.TRUNCATED
        else:
            role.nodes[node] = RoleState.EMPTY if states == {ZipState.EMPTY} else RoleState.COLLECTED


# -- small helpers ----------------------------------------------------------------------------------------------------


def without_event_logs(role: RoleCoverage) -> list[Evidence]:
    """The zips of a role that should hold Windows event logs and do not."""
    return [
        Evidence(
            "zip", f"no Windows event log among {file.members} members", file=file.path, size_bytes=file.size_bytes
        )
        for file in role.zips
        if file.machine in role.without_event_logs
    ][: MAX_EVIDENCE // 2]


def _some(names: Collection[str]) -> str:
    shown = ", ".join(sorted(names)[:_MAX_NAMED])
    return shown if len(names) <= _MAX_NAMED else f"{shown} and {len(names) - _MAX_NAMED} more"


def _zip_evidence(file: ZipCoverage) -> Evidence:
    text = "; ".join(file.problems) or f"{file.state} zip with {file.members} members"
    return Evidence("zip", text, file=file.path, size_bytes=file.size_bytes)
