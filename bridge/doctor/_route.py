"""The route, as the vendor's flow chart has it: portal, else send or upload, else save locally."""

from __future__ import annotations

from dataclasses import dataclass

from bridge.doctor._checks import Route, RouteKind
from bridge.doctor._subject import Subject


@dataclass(frozen=True, slots=True)
class Signs:
    """What the choice stands on; ``None`` where it could not be learnt."""

    portal_up: bool | None
    arm_up: bool | None
    endpoint_answers: bool
    internet: bool
    registered: bool | None
    destination_usable: bool


def choose_route(subject: Subject, signs: Signs) -> Route:
    """Failed checks do not change the route: it is the one to take once they are mended."""
    if signs.portal_up and signs.arm_up is not False:
        return Route(
            RouteKind.PORTAL,
            f"the portal is up at {subject.portal_address}: its Help + support collects without PowerShell and keeps a"
            " history",
            f"open {subject.portal_address}, Help + support",
        )
    portal = _about_the_portal(signs)
    if not signs.endpoint_answers:
        return Route(
            RouteKind.UNREACHABLE,
            f"{portal}, and no machine of the privileged endpoint answers: nothing can be collected from here",
            "mend the way to the ERCS machines (TCP 5985 from a machine on the stamp's infrastructure network), then"
            f" run 'pep-bridge doctor {subject.stamp.name}' again",
        )
    where = subject.request.destination if subject.request is not None else None
    if where is not None and where.kind == "container" and signs.destination_usable:
        return Route(
            RouteKind.UPLOAD,
            f"{portal}, and {where.location} can be written: upload there",
            _collect(subject),
        )
    if signs.internet and signs.registered:
        return Route(
            RouteKind.SEND,
            f"{portal}, the stamp is registered and there is a way to the internet: it can send its logs itself (with"
            " your consent), or upload a bundle to a container",
            f"pep-bridge send {subject.stamp.name}",
        )
    return Route(
        RouteKind.SAVE,
        f"{portal}, and {_why_not_send(signs)}: save locally, and deliver from a connected machine",
        _collect(subject),
    )


def _about_the_portal(signs: Signs) -> str:
    if signs.portal_up:
        return "the portal's page is up, but the ARM endpoint that it needs is down"
    if signs.portal_up is None:
        return "whether the portal is up is not known (look yourself: it would be the easiest way)"
    return "the portal is down"


def _why_not_send(signs: Signs) -> str:
    if signs.registered is False:
        return "the stamp is not registered"
    if not signs.internet:
        return "there is no way to the internet from here"
    return "whether the stamp is registered could not be learnt"


def _collect(subject: Subject) -> str:
    request = subject.request
    goal = (request.destination.name or request.destination.location) if request is not None else "DEST"
    quoted = f"'{goal}'" if any(each in goal for each in " \\&$") else goal
    stage = f" --staging {request.staging.name or request.staging.location}" if request and request.staging else ""
    direct = " --direct" if request is not None and request.direct else ""
    return f"pep-bridge collect {subject.stamp.name} --to {quoted}{stage}{direct}"
