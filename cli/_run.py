"""What the verbs that drive a run share: its options, its secrets, its view, and what is said at its end."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from bridge.errors import ExitCode
from cli._console import Console, Report
from cli._words import quoted, size

if TYPE_CHECKING:
    from bridge.collection import Access, Control, Event, Outcome, Request
    from bridge.settings import Settings

UsernameOption = Annotated[
    str | None,
    typer.Option(
        help="Who opens the endpoint, DOMAIN\\CloudAdmin (default: the stamp's 'username').", show_default=False
    ),
]
ShareUsernameOption = Annotated[
    str | None,
    typer.Option(help="Who opens the share (default: the destination's 'username').", show_default=False),
]
PasswordStdinOption = Annotated[
    bool, typer.Option("--password-stdin", help="Read the endpoint's password from the first line of stdin.")
]

_UNCHECKED_NAMED = 3

Drive = Callable[["Control", Callable[["Event"], None]], "Outcome"]


def drive(console: Console, title: str, work: Drive) -> Report:
    """Runs something that has an outcome, with its view and its Ctrl-C, and tells the outcome."""
    from bridge.collection import Control
    from cli._live import live_view
    from cli._signals import interrupts

    control = Control()
    with live_view(console, title) as view, interrupts(control, console.say):
        outcome = work(control, view.on_event)
    tell(console, outcome)
    return Report(outcome.to_json(), outcome.exit_code, list(outcome.errors))


def find_access(
    request: Request,
    settings: Settings,
    console: Console,
    *,
    username: str | None = None,
    share_username: str | None = None,
    password_stdin: bool = False,
) -> Access:
    """The secrets that a request needs, found where this machine keeps them."""
    from bridge.collection import Access
    from bridge.credentials import stamp_credential
    from bridge.secrets import Credential
    from cli._places import open_place_secret

    sources = console.sources(password_stdin=password_stdin)
    known = settings.stamps.get(request.stamp.name)
    endpoint = stamp_credential(
        request.stamp.name, username or request.stamp.username, known.password_file if known else None, sources
    )
    console.known_secrets.append(endpoint.password)
    destination = open_place_secret(request.destination, settings, sources, console, username=share_username)
    staging = None
    if request.staging is not None:
        found = open_place_secret(request.staging, settings, sources, console, username=share_username)
        staging = found if isinstance(found, Credential) else None
    return Access(endpoint, destination, staging)


def tell(console: Console, outcome: Outcome) -> None:
    """The end of a run for people: the coverage table, where the bundle is, its id, and the next useful command."""
    from cli._coverage import coverage_table

    if outcome.coverage is not None:
        console.show_table(coverage_table(outcome.coverage))
    for text in outcome.warnings:
        console.warn(text)
    if named := outcome.unchecked[:_UNCHECKED_NAMED]:
        more = len(outcome.unchecked) - len(named)
        rest = f" and {more} more (--json names all)" if more else ""
        console.warn(f"no checksum proves {', '.join(named)}{rest}")
    if outcome.bundle_id:
        console.show(f"bundle     {outcome.bundle}")
        console.show(f"bundle id  {outcome.bundle_id}")
        console.show(f"size       {outcome.file_count} files, {size(outcome.size_bytes or 0)}")
        if outcome.staging and not any(outcome.staging in text for text in outcome.warnings):  # else that says more
            console.say(
                f"the staged copy is kept, sealed as well: {outcome.staging} (--remove-staging would remove it)"
            )
        if outcome.staging_removed:
            console.say(f"the staged copy is removed: {outcome.staging_removed}")
        console.say("the endpoint keeps its transcript: 'pep-bridge run Close-PepSession --help' tells how to fetch it")
        console.say(f"next: pep-bridge verify {quoted(outcome.bundle or '')}")
    elif outcome.exit_code in {ExitCode.OK, ExitCode.INTERRUPTED}:
        console.say(f"run {outcome.run_id} goes on at the endpoint")
        console.say(f"next: pep-bridge attach {outcome.run_id}")
    elif outcome.run_id:
        console.say(f"run {outcome.run_id}: pep-bridge show {outcome.run_id}")
