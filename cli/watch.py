"""``watch``: collects when a health alert persists, in a loop or once for a scheduler; and what goes with it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from cli._console import Console, JsonOption, Report, run_verb
from cli._options import (
    ApiVersionOption,
    ConnectionsOption,
    DirectOption,
    LimitRateOption,
    PasswordStdinOption,
    QuietHoursOption,
    RoleOption,
    SendUnknownRolesOption,
    ShareUsernameOption,
    StagingOption,
    StampArgument,
    ToOption,
    UsernameOption,
)
from cli._transfer import LineUse, LineWishes

if TYPE_CHECKING:
    from bridge.collection import Request
    from bridge.watch import Memory, Policy

_START = "start"


class _StartByDefault(TyperGroup):
    """``watch STAMP`` starts the watch: no one need type ``watch start STAMP``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = [_START, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_StartByDefault,
    no_args_is_help=True,
    help="""Collect when a health alert on the vendor's lists persists; keep a rolling offload.

    [bold]Examples[/bold]

    pep-bridge watch east --to nas

    pep-bridge watch east --to nas --offload 8h --older-than 30d

    pep-bridge watch install east --to nas --print
    """,
)


@app.command(_START)
def start(
    ctx: typer.Context,
    stamp: StampArgument,
    to: ToOption = None,
    every: Annotated[
        str | None,
        typer.Option(help="The pause between two looks.", show_default="5m, of the endpoint 15m"),
    ] = None,
    persist: Annotated[str | None, typer.Option(help="How long an alert must be there.", show_default="30m")] = None,
    cool_down: Annotated[
        str | None, typer.Option("--cool-down", help="The pause after a collection for an alert.", show_default="4h")
    ] = None,
    budget: Annotated[
        int | None, typer.Option(min=0, max=24, help="The most collections for alerts in a day.", show_default="3")
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="How much of the past is collected for an alert.", show_default="4h")
    ] = None,
    offload: Annotated[
        str | None,
        typer.Option(metavar="SPAN", help="Also collect all the time, this much at once: 8h.", show_default=False),
    ] = None,
    older_than: Annotated[
        str | None,
        typer.Option(help="Remove what the rolling offload collected when it is older: 30d.", show_default=False),
    ] = None,
    keep: Annotated[
        int | None, typer.Option(min=1, help="Keep this many of the rolling offload.", show_default=False)
    ] = None,
    max_size: Annotated[
        str | None, typer.Option(help="Keep this much of the rolling offload: 500GB.", show_default=False)
    ] = None,
    warnings: Annotated[
        bool, typer.Option("--warnings", help="Listed alerts count although they are mere warnings.")
    ] = False,
    role: RoleOption = None,
    send_unknown_roles: SendUnknownRolesOption = False,
    staging: StagingOption = None,
    direct: DirectOption = False,
    api_version: ApiVersionOption = None,
    limit_rate: LimitRateOption = None,
    quiet_hours: QuietHoursOption = None,
    connections: ConnectionsOption = None,
    once: Annotated[
        bool, typer.Option("--once", help="Look once, collect if it is time, and leave: for a scheduler.")
    ] = False,
    agree: Annotated[
        bool, typer.Option("--agree", help="Agree to collections that nobody asks for one by one (--show-consent).")
    ] = False,
    show_consent: Annotated[bool, typer.Option("--show-consent", help="Show what is agreed to, and leave.")] = False,
    username: UsernameOption = None,
    share_username: ShareUsernameOption = None,
    password_stdin: PasswordStdinOption = False,
    as_json: JsonOption = False,
) -> None:
    """Watch a stamp: collect when an alert on the vendor's lists persists for about 30 minutes.

    Health is read from the administrator's ARM endpoint where it answers, else through the privileged endpoint. A mere
    warning leads to no collection. What is remembered survives a restart; SIGTERM leaves a collection working at the
    endpoint, and the next start finishes it.

    [bold]Examples[/bold]

    pep-bridge watch east --to nas

    pep-bridge watch east --to nas --offload 8h --older-than 30d --max-size 500GB

    pep-bridge watch east --to nas --once
    """

    def work(console: Console) -> Report:
        from bridge.watch import read_offload_limits, read_pause, read_policy
        from cli._request import build_request, check_roles, split
        from cli._watching import keep_watch

        settings = ctx.obj.load().settings
        request = build_request(
            settings,
            stamp,
            to=to,
            staging=staging,
            api_version=api_version,
            roles=split(role),
            direct=direct,
        )
        if show_consent:
            return _show_consent(console, request)
        check_roles(console, request.roles, send_unknown=send_unknown_roles)
        policy = read_policy(
            settings.watch,
            persist=persist,
            cool_down=cool_down,
            budget=budget,
            since=since,
            offload=offload,
            warnings=warnings,
        )
        limits = None
        if policy.offload:
            limits = read_offload_limits(settings.retention, older_than=older_than, keep=keep, max_size=max_size)
        return keep_watch(
            console,
            ctx.obj,
            request,
            policy,
            limits,
            line=LineUse(ctx.obj, LineWishes(limit_rate, quiet_hours, connections), say=console.say),
            every=read_pause(settings.watch, every),
            once=once,
            agree=agree,
            who=(username, share_username, password_stdin),
        )

    run_verb(ctx, "watch", as_json, work)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def install(
    ctx: typer.Context,
    stamp: StampArgument,
    show: Annotated[bool, typer.Option("--print", help="Print the files; write nothing.")] = False,
    folder: Annotated[
        Path | None,
        typer.Option("--dir", help="Where the files go.", show_default="the user's systemd folder; here on Windows"),
    ] = None,
    kind: Annotated[
        str | None, typer.Option("--for", help="systemd or windows.", show_default="this machine's")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write what makes this machine's scheduler watch: a systemd service and timer, or a Windows task.

    Nothing is enabled; the commands for that are shown. Every other option is one of 'watch' itself and goes into the
    files. Secrets must be in files that the configuration names, or in a keyring that works without a logon.

    [bold]Examples[/bold]

    pep-bridge watch install east --to nas --offload 8h --print

    pep-bridge watch install east --to nas --agree
    """

    def work(console: Console) -> Report:
        from cli._scheduling import install_service

        return install_service(console, ctx, stamp, show=show, folder=folder, kind=kind)

    run_verb(ctx, "watch install", as_json, work)


@app.command()
def status(ctx: typer.Context, stamp: StampArgument, as_json: JsonOption = False) -> None:
    """Show what a watch knows: alerts, what it waits for, the last collections, the consent.

    [bold]Example[/bold]

    pep-bridge watch status east
    """

    def work(console: Console) -> Report:
        from bridge.watch import Memory, read_policy

        settings = ctx.obj.load().settings
        settings.stamp_settings(stamp)
        return _show_status(console, Memory(ctx.obj.state(), stamp), read_policy(settings.watch))

    run_verb(ctx, "watch status", as_json, work)


@app.command()
def revoke(ctx: typer.Context, stamp: StampArgument, as_json: JsonOption = False) -> None:
    """Take the consent back: the watch of this stamp does not start again until somebody agrees anew.

    What was collected until now stays; 'pep-bridge prune' removes bundles.

    [bold]Example[/bold]

    pep-bridge watch revoke east
    """

    def work(console: Console) -> Report:
        from bridge.watch import Memory

        revoked = Memory(ctx.obj.state(), stamp).revoke(datetime.now(UTC))
        console.show(f"the consent for {stamp} is taken back" if revoked else f"there was no consent for {stamp}")
        return Report({"stamp": stamp, "revoked": revoked})

    run_verb(ctx, "watch revoke", as_json, work)


@app.command()
def alerts(ctx: typer.Context, as_json: JsonOption = False) -> None:
    """Show the vendor's lists: the alerts that lead to a collection, and which list has them.

    [bold]Example[/bold]

    pep-bridge watch alerts
    """

    def work(console: Console) -> Report:
        from bridge.watch import LISTED_ALERTS

        rows = [
            {"fault_type_id": row.fault_type_id, "title": row.title, "lists": sorted(map(str, row.lists))}
            for row in LISTED_ALERTS
        ]
        for row in rows:
            console.show(f"{row['fault_type_id']}\n    {row['title']} ({', '.join(row['lists'])})")
        return Report({"alerts": rows})

    run_verb(ctx, "watch alerts", as_json, work)


def _show_consent(console: Console, request: Request) -> Report:
    from bridge.watch import consent_text, places_of

    text = consent_text(request.stamp.name, places_of(request))
    console.show(text)
    return Report({"consent": text})


def _show_status(console: Console, memory: Memory, policy: Policy) -> Report:
    from bridge.watch import Wait, decide
    from cli._words import local_time

    state, agreement = memory.load(), memory.agreement()
    decision = decide(state, policy, datetime.now(UTC))
    known = local_time(state.observed) if state.observed else "never"
    console.show(f"health     last known {known}" + (f" from {state.source}" if state.source else ""))
    for each in state.tracked:
        done = "; logs were collected" if each.handled else ""
        console.show(f"alert      {each.words}, since {local_time(each.since)}{done}")
    if state.begun is not None:
        console.show(f"under way  {state.begun.kind}, begun {local_time(state.begun.at)}: {state.begun.reason}")
    elif isinstance(decision, Wait):
        until = f" (until {local_time(decision.until)})" if decision.until else ""
        console.show(f"waiting    {decision.reason}{until}")
    console.show(f"collected  {len(state.starts)} for alerts in the last 24 hours")
    agreed = f"{agreement.consent.given_by}, {local_time(agreement.consent.given_at)}" if agreement else "none"
    console.show(f"consent    {agreed}")
    consent = agreement.consent.to_json() | {"destination": agreement.destination} if agreement else None
    return Report({"stamp": memory.stamp, "state": state.to_json(), "consent": consent})
