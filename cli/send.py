"""``send``: the stamp sends its logs to the vendor itself, after consent."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from bridge.errors import UsageError
from cli._console import Console, Globals, JsonOption, Report, run_verb
from cli._options import (
    NodeOption,
    PasswordStdinOption,
    ProviderOption,
    RoleOption,
    SendUnknownRolesOption,
    SinceOption,
    StampArgument,
    UntilOption,
    UsernameOption,
)
from cli._request import check_roles, split

if TYPE_CHECKING:
    from bridge.endpoint import Command, Value

SCRIPT = "Send-StampLog"
CONSENT = """\
Sending logs gives the vendor your consent to receive them and to keep them in storage that the vendor controls,
for up to 90 days, for troubleshooting only. Logs may hold personal data and the names of your users and machines.
Withdrawing consent later does not reach what was already sent.
It needs a registered stamp with a way to the internet."""
"""Sources: the articles on diagnostic log collection and on log and customer data handling; in our own words."""


def send(
    ctx: typer.Context,
    stamp: StampArgument,
    since: SinceOption = None,
    until: UntilOption = None,
    role: RoleOption = None,
    send_unknown_roles: SendUnknownRolesOption = False,
    node: NodeOption = None,
    resource_provider: ProviderOption = None,
    consent: Annotated[
        bool, typer.Option("--consent", help="You have read the consent text and agree (for use without a terminal).")
    ] = False,
    username: UsernameOption = None,
    password_stdin: PasswordStdinOption = False,
    as_json: JsonOption = False,
) -> None:
    """Let the stamp send its logs to the vendor: straight, without a bundle.

    For a registered, connected stamp whose portal is down. The consent text is shown and your answer recorded.

    [bold]Example[/bold]

    pep-bridge send east --since 4h --role Storage
    """

    def work(console: Console) -> Report:
        from tzlocal import get_localzone

        from bridge.collection import parse_window
        from bridge.endpoint.script import load_script

        given = ctx.obj.load().settings
        window = parse_window(since or given.collection.since, until, tz=get_localzone(), now=datetime.now(UTC))
        arguments: dict[str, Value] = {"FromDate": window.since, "ToDate": window.until}
        filters = {"FilterByRole": role, "FilterByNode": node, "FilterByResourceProvider": resource_provider}
        arguments |= {name: split(values) for name, values in filters.items() if values}
        check_roles(console, split(role), send_unknown=send_unknown_roles)
        return _send(console, ctx.obj, stamp, load_script(SCRIPT).bind(arguments), consent, username, password_stdin)

    run_verb(ctx, "send", as_json, work)


def _send(
    console: Console,
    options: Globals,
    stamp: str,
    commands: Sequence[Command],
    consent: bool,
    username: str | None,
    password_stdin: bool,
) -> Report:
    from bridge.credentials import stamp_credential
    from bridge.scripting import Control, SessionRecord, run_script
    from cli._session import Results, tell_line, tell_outcome
    from cli._signals import script_interrupts

    settings = options.load().settings
    known = settings.stamp_settings(stamp)
    agreed = ask_consent(console, given=consent)
    sources = console.sources(password_stdin=password_stdin)
    credential = stamp_credential(stamp, username or known.username, known.password_file, sources)
    console.known_secrets.append(credential.password)
    control = Control()
    with SessionRecord(options.state() / "sessions", console.scrub) as record:
        record.agreed(CONSENT, agreed)
        results = Results(console, "table")
        with script_interrupts(control, console.say):
            outcome = run_script(
                settings.stamp(stamp),
                credential,
                commands,
                record=record,
                on_record=results.take,
                verb="send",
                control=control,
                on_line=lambda event: tell_line(console, event),
            )
    results.finish()
    tell_outcome(console, outcome)
    console.say("your consent is in the session's record")
    data = outcome.to_json() | results.to_json() | {"consent": {"text": CONSENT, "given": agreed}}
    return Report(data, outcome.exit_code, list(outcome.errors))


def ask_consent(console: Console, *, given: bool) -> str:
    """Shows the text; returns how consent was given.

    Raises:
        UsageError: it was not given.
    """
    console.say(CONSENT)
    if given:
        return "by --consent"
    if sys.stdin.isatty() and not console.as_json and typer.confirm("Do you agree, and send?", err=True):
        return "at the prompt"
    raise UsageError(
        detail="Nothing was sent: consent was not given.",
        fix="Agree when asked, or give --consent; to keep the logs yourself: pep-bridge collect.",
    )
