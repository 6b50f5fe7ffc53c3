"""``doctor``: every check that can be made before a collection, and the route to take."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bridge.errors import BridgeError, PreflightError, UsageError
from cli._console import Console, Globals, JsonOption, Report, run_verb
from cli._options import (
    ApiVersionOption,
    DirectOption,
    PasswordStdinOption,
    ShareUsernameOption,
    StagingOption,
    StampArgument,
    TimeoutOption,
    ToOption,
    UsernameOption,
)

if TYPE_CHECKING:
    from bridge.collection import Access, Request
    from bridge.doctor import Check, Diagnosis, Opener, Subject
    from bridge.settings import Settings

AUTO = "auto"
"""As a destination: the route that the doctor recommends."""
PROBE_VARIABLE = "PEP_BRIDGE_INTERNET_PROBE"


def doctor(
    ctx: typer.Context,
    stamp: StampArgument,
    to: ToOption = None,
    staging: StagingOption = None,
    direct: DirectOption = False,
    api_version: ApiVersionOption = None,
    timeout_minutes: TimeoutOption = None,
    internet_probe: Annotated[
        str | None,
        typer.Option(
            envvar=PROBE_VARIABLE,
            metavar="HOST",
            help="Whom to ask whether there is a way to the internet: a host, or an https:// address.",
            show_default="login.microsoftonline.com",
        ),
    ] = None,
    username: UsernameOption = None,
    share_username: ShareUsernameOption = None,
    password_stdin: PasswordStdinOption = False,
    as_json: JsonOption = False,
) -> None:
    """Check everything that a collection needs, before it is needed, and say which route to take.

    Nothing is changed on the stamp; a probe file at the destination is removed; a password is sent once. States: ok,
    warning (a collection would start all the same), failed (it would not), skipped.

    [bold]Examples[/bold]

    pep-bridge doctor east --to '\\\\nas\\drop'

    pep-bridge doctor east --to support --staging nas --json

    [bold]Exit codes[/bold]: 0 a collection could start now; 6 something would stop it, or the code of the sole cause: 2
    configuration or secrets, 3 unreachable, 4 wrong password, 5 not permitted, 7 busy or cooling down, 10 no space.
    """

    def work(console: Console) -> Report:
        settings = ctx.obj.load().settings
        goal = find_goal(settings, to)
        request = _request(settings, stamp, goal, staging, direct, api_version, timeout_minutes) if goal else None
        subject = find_subject(
            console,
            ctx.obj,
            settings,
            stamp,
            request,
            username=username,
            share_username=share_username,
            password_stdin=password_stdin,
            internet_probe=internet_probe,
        )
        diagnosis = diagnose(console, subject)
        show(console, diagnosis)
        return report(diagnosis)

    run_verb(ctx, "doctor", as_json, work)


def find_goal(settings: Settings, to: str | None) -> str | None:
    """The destination that an option or the configuration means; for ``auto`` the one that is configured.

    Raises:
        UsageError: ``auto``, and the configuration does not say which.
    """
    goal = to or settings.collection.to
    if goal != AUTO:
        return goal
    chosen = settings.collection.to
    if chosen and chosen != AUTO:
        return chosen
    if len(settings.destinations) == 1:
        return next(iter(settings.destinations))
    known = ", ".join(sorted(settings.destinations)) or "none"
    raise UsageError(
        detail=f"'auto' needs one destination in the configuration (there are: {known}).",
        fix="Set 'to' of [collection] to one of them, or give --to DEST.",
    )


def find_subject(
    console: Console,
    options: Globals,
    settings: Settings,
    stamp: str,
    request: Request | None,
    *,
    username: str | None = None,
    share_username: str | None = None,
    password_stdin: bool = False,
    internet_probe: str | None = None,
) -> Subject:
    """What the doctor looks at; a secret that cannot be had is a finding, not the end."""
    from dataclasses import replace

    from bridge.credentials import stamp_credential
    from bridge.doctor import DEFAULT_INTERNET_PROBE, Subject
    from cli._places import open_place_secret

    known = settings.stamp_settings(stamp)
    sources = console.sources(password_stdin=password_stdin)
    try:
        credential: Any = stamp_credential(stamp, username or known.username, known.password_file, sources)
        console.known_secrets.append(credential.password)
    except BridgeError as error:
        credential = error

    def opener(place: Any) -> Opener:
        try:
            return open_place_secret(place, settings, sources, console, username=share_username) if place else None
        except BridgeError as error:
            return error

    found = settings.stamp(stamp)
    return Subject(
        stamp=replace(found, username=username or found.username),
        state_dir=options.state(),
        credential=credential,
        request=request,
        destination_opener=opener(request.destination if request else None),
        staging_opener=opener(request.staging if request else None),
        portal=known.portal,
        arm=known.arm,
        internet_probe=internet_probe or os.environ.get(PROBE_VARIABLE) or DEFAULT_INTERNET_PROBE,
    )


def diagnose(console: Console, subject: Subject) -> Diagnosis:
    """Makes the checks; a person at a terminal sees which groups are done."""
    from bridge.doctor import examine

    if console.as_json or not console.is_terminal:
        return examine(subject)
    done: list[str] = []
    with console.rich().status("checking ...") as status:

        def progress(name: str) -> None:
            done.append(name)
            status.update(f"checking ... done: {', '.join(done)}")

        return examine(subject, on_progress=progress)


def show(console: Console, diagnosis: Diagnosis) -> None:
    """Each check with its evidence, its fix below it, and the route at the end."""
    width = max(len(check.name) for check in diagnosis.checks)
    for check in diagnosis.checks:
        console.show(f"{check.state:<8} {check.name:<{width}}  {check.evidence}")
        if check.fix and check.state != "ok":
            console.show(f"{'':<8} {'':<{width}}  fix: {check.fix}")
    console.show(f"route    {diagnosis.route.kind}: {diagnosis.route.reason}")
    console.say(f"next: {diagnosis.route.next_step}")


def report(diagnosis: Diagnosis) -> Report:
    """How ``doctor`` ends."""
    if not diagnosis.failed:
        return Report(diagnosis.to_json())
    return Report(diagnosis.to_json(), diagnosis.exit_code, [_summary(diagnosis.failed)])


def take_route(
    console: Console,
    subject: Subject,
    *,
    force: bool,
    waits: bool,
) -> Report | Access:
    """For ``collect --to auto``: what opens the places of the route, or why it is not taken.

    Args:
        force: collects although the portal works, or the stamp could send its logs itself.
        waits: the caller deals with a busy stamp itself (``--queue``, ``--break-lock``).
    """
    from bridge.collection import Access
    from bridge.doctor import exit_code_of
    from bridge.secrets import Credential

    diagnosis = diagnose(console, subject)
    route = diagnosis.route
    data = diagnosis.to_json()
    if not route.kind.is_collection and route.kind != "unreachable" and not force:
        refusal = PreflightError(
            detail=f"Nothing was collected: {route.reason}",
            fix=f"Go on with: {route.next_step}. To collect all the same, give --force, or name a destination (--to).",
        )
        return Report(data, refusal.exit_code, [refusal])
    stopping = tuple(check for check in diagnosis.failed if not (waits and check.name == "running"))
    if stopping:
        show(console, diagnosis)
        return Report(data, exit_code_of(stopping), [_summary(stopping)])
    if isinstance(subject.credential, BridgeError) or isinstance(subject.destination_opener, BridgeError):
        raise AssertionError("an error among the secrets is a failed check")
    console.say(f"route: {route.kind}: {route.reason}")
    staging = subject.staging_opener
    return Access(subject.credential, subject.destination_opener, staging if isinstance(staging, Credential) else None)


def _summary(checks: tuple[Check, ...]) -> PreflightError:
    names = ", ".join(check.name for check in checks)
    advice = f"{checks[0].name}: {checks[0].fix}" if len(checks) == 1 else "Each of them says its fix above."
    return PreflightError(detail=f"A collection could not start now; failed: {names}", fix=advice)


def _request(
    settings: Settings,
    stamp: str,
    goal: str,
    staging: str | None,
    direct: bool,
    api_version: str | None,
    timeout_minutes: int | None,
) -> Request:
    from cli._request import build_request

    return build_request(
        settings,
        stamp,
        to=goal,
        staging=staging,
        direct=direct,
        api_version=api_version,
        timeout_minutes=timeout_minutes,
    )
