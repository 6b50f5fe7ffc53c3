"""Arguments and options that several verbs take, each declared once."""

from __future__ import annotations

from typing import Annotated

import typer

from cli._completion import complete_bundle, complete_destination, complete_role, complete_run, complete_stamp

WINDOW = "The window"
FILTERS = "What to collect"
PLACES = "Where it goes"
RUNNING = "How it runs"
LINE = "The line (for what the bridge uploads or copies)"

BundleArgument = Annotated[
    str,
    typer.Argument(
        metavar="BUNDLE",
        help="A folder, \\\\server\\share\\folder, smb://server/share/folder, https://account.../container/bundle,"
        " or NAME/bundle of a configured destination.",
        show_default=False,
        autocompletion=complete_bundle,
    ),
]
StampArgument = Annotated[
    str,
    typer.Argument(
        metavar="STAMP",
        help="The stamp's name in the configuration.",
        show_default=False,
        autocompletion=complete_stamp,
    ),
]
SinceOption = Annotated[
    str | None,
    typer.Option(
        help="Start of the window: 4h, 90m, 2d ago, or ISO 8601 (2026-11-23T08:00+01:00).",
        show_default="4h",
        rich_help_panel=WINDOW,
    ),
]
UntilOption = Annotated[
    str | None,
    typer.Option(help="End of the window, in the same forms.", show_default="now", rich_help_panel=WINDOW),
]
RoleOption = Annotated[
    list[str] | None,
    typer.Option(
        "--role",
        help="A role (Storage, ACS, ...); repeat it, or give a list A,B.",
        show_default="all",
        autocompletion=complete_role,
        rich_help_panel=FILTERS,
    ),
]
SendUnknownRolesOption = Annotated[
    bool,
    typer.Option(
        "--send-unknown-roles",
        help="Send a role that looks misspelt as it is, without asking: the vendor's list differs by version.",
        rich_help_panel=FILTERS,
    ),
]
NodeOption = Annotated[
    list[str] | None, typer.Option("--node", help="A computer (azs-xrp01); repeatable.", rich_help_panel=FILTERS)
]
LogTypeOption = Annotated[
    list[str] | None,
    typer.Option("--log-type", help="File, Share or WindowsEvent; repeatable.", rich_help_panel=FILTERS),
]
ProviderOption = Annotated[
    list[str] | None,
    typer.Option("--resource-provider", help="A value-add resource provider; repeatable.", rich_help_panel=FILTERS),
]
DumpOption = Annotated[bool, typer.Option("--include-dump-file", help="Dump files too.", rich_help_panel=FILTERS)]
RecoverOption = Annotated[
    bool,
    typer.Option(
        "--recover-vm-logs", help="Event logs of VMs that are off or paused, from their disks.", rich_help_panel=FILTERS
    ),
]
TimeoutOption = Annotated[
    int | None,
    typer.Option(
        "--timeout-minutes",
        min=1,
        max=1440,
        help="The endpoint's own time limit.",
        show_default="240",
        rich_help_panel=RUNNING,
    ),
]
ToOption = Annotated[
    str | None,
    typer.Option(
        "--to",
        metavar="DEST",
        help="A folder, \\\\server\\share\\folder, smb://server/share/folder, https://account.../container, a"
        " configured name, or 'auto': the route that the doctor recommends, with the configured destination.",
        show_default=False,
        autocompletion=complete_destination,
        rich_help_panel=PLACES,
    ),
]
StagingOption = Annotated[
    str | None,
    typer.Option(
        metavar="DEST",
        help="For a container: the share (or folder) that the endpoint writes to and the bridge uploads from.",
        show_default=False,
        autocompletion=complete_destination,
        rich_help_panel=PLACES,
    ),
]
DirectOption = Annotated[
    bool,
    typer.Option("--direct", help="For a container: the endpoint writes there itself, by SAS.", rich_help_panel=PLACES),
]
RemoveStagingOption = Annotated[
    bool,
    typer.Option(
        "--remove-staging", help="Remove the staged copy once the delivery is verified.", rich_help_panel=PLACES
    ),
]
CaseOption = Annotated[
    str | None, typer.Option("--case", help="Support case number, for the bundle.", show_default=False)
]
ApiVersionOption = Annotated[
    str | None,
    typer.Option(help="Blob service version, for an old service (2019-02-02).", rich_help_panel=PLACES),
]
RunArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[RUN]",
        help="The run's id, or its first characters; the one that is not finished if left out, else the latest.",
        autocompletion=complete_run,
    ),
]

UsernameOption = Annotated[
    str | None,
    typer.Option(
        help="Who opens the endpoint, DOMAIN\\CloudAdmin (default: the stamp's 'username').", show_default=False
    ),
]
ShareUsernameOption = Annotated[
    str | None,
    typer.Option(
        help="Who opens the share (default: the destination's 'username'; its password: PEP_BRIDGE_SHARE_PASSWORD, or a"
        " prompt).",
        show_default=False,
    ),
]
FormerShareUsernameOption = Annotated[str | None, typer.Option("--username", hidden=True)]
"""What ``--share-username`` was called where no endpoint is opened; it is still taken."""
PasswordStdinOption = Annotated[
    bool, typer.Option("--password-stdin", help="Read the endpoint's password from the first line of stdin.")
]
LimitRateOption = Annotated[
    str | None,
    typer.Option(
        "--limit-rate",
        metavar="RATE",
        help="Use at most this much of the line, in bits per second: 20Mbit, 512kbit. It can be changed meanwhile.",
        show_default="'limit_rate' of [transfer]",
        rich_help_panel=LINE,
    ),
]
QuietHoursOption = Annotated[
    str | None,
    typer.Option(
        "--quiet-hours",
        metavar="SPAN",
        help="Pause between these times of day: 08:00-18:00.",
        show_default="'quiet_hours' of [transfer]",
        rich_help_panel=LINE,
    ),
]
ConnectionsOption = Annotated[
    int | None,
    typer.Option(
        "--connections",
        min=1,
        max=32,
        help="Files or blocks under way at once.",
        show_default="by what the line bears",
        rich_help_panel=LINE,
    ),
]
