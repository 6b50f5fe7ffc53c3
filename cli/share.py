"""``share``: a staging share on a Windows host, prepared, shown and removed over ordinary WinRM."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer

from cli._console import Console, JsonOption, Report, run_verb
from cli._words import size

if TYPE_CHECKING:
    from bridge.staging import StagingHost

PASSWORD_VARIABLE = "PEP_BRIDGE_STAGING_PASSWORD"  # noqa: S105 - the name of a variable, not a password

app = typer.Typer(no_args_is_help=True, help="Prepare a staging share on a Windows host, and take it away again.")

HostArgument = Annotated[str, typer.Argument(metavar="HOST", help="The Windows host, by name or address.")]
AdministratorOption = Annotated[
    str, typer.Option("--username", help="An administrator of the host: HOST\\user or DOMAIN\\user.")
]
NameOption = Annotated[str, typer.Option(help="The share's name.")]
PortOption = Annotated[int | None, typer.Option(help="WinRM's port.", show_default="5985, with --https 5986")]
HttpsOption = Annotated[bool, typer.Option("--https", help="Use HTTPS (over HTTP every message is sealed).")]
AuthorityOption = Annotated[
    Path | None, typer.Option("--ca-file", help="The authority (PEM) of the host's certificate.", show_default=False)
]
StdinOption = Annotated[
    bool, typer.Option("--password-stdin", help="Read the administrator's password from the first line of stdin.")
]


@app.command()
def prepare(
    ctx: typer.Context,
    host: HostArgument,
    username: AdministratorOption,
    account: Annotated[
        str, typer.Option(help="Who will write to the share. It exists already: only its name is used.")
    ],
    path: Annotated[str, typer.Option(help="The folder on the host.")] = "C:\\PepStaging",
    name: NameOption = "PepStaging",
    open_firewall: Annotated[
        list[str] | None,
        typer.Option(metavar="ADDRESS", help="Let this address (an ERCS machine, 192.0.2.0/24) reach SMB; repeatable."),
    ] = None,
    port: PortOption = None,
    https: HttpsOption = False,
    ca_file: AuthorityOption = None,
    password_stdin: StdinOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make folder, share and rights for one account; a firewall rule only where asked for. Repeatable.

    The administrator's password comes from PEP_BRIDGE_STAGING_PASSWORD, --password-stdin, the keyring, or a prompt.

    [bold]Example[/bold]

    pep-bridge share prepare jump01 --username 'CONTOSO\\admin' --account 'CONTOSO\\writer' --path 'D:\\Staging'
    """

    def work(console: Console, login: _Login) -> _Result:
        from bridge.staging import StagingShare, prepare_share

        wanted = StagingShare(name, path, account, tuple(open_firewall or ()))
        found = prepare_share(login.open(console), wanted)
        console.show(f"share  {found.unc}")
        console.show(f"folder {found.path}, {size(found.free_bytes)} free")
        console.show(f"added  {', '.join(found.added) or 'nothing: all of it was there'}")
        console.say(f"next: pep-bridge collect STAMP --to '{found.unc}' --share-username '{found.account}'")
        console.say(f"afterwards: pep-bridge share remove {host} --name {name} --username '{username}'")
        return found

    _run(ctx, "share prepare", _Login(host, username, port, https, ca_file, password_stdin), as_json, work)


@app.command()
def remove(
    ctx: typer.Context,
    host: HostArgument,
    username: AdministratorOption,
    name: NameOption = "PepStaging",
    port: PortOption = None,
    https: HttpsOption = False,
    ca_file: AuthorityOption = None,
    password_stdin: StdinOption = False,
    as_json: JsonOption = False,
) -> None:
    """Take away exactly what 'share prepare' added. Files stay.

    [bold]Example[/bold]

    pep-bridge share remove jump01 --username 'CONTOSO\\admin'
    """

    def work(console: Console, login: _Login) -> _Result:
        from bridge.staging import remove_share

        found = remove_share(login.open(console), name)
        for text in found.removed:
            console.show(f"removed {text}")
        for text in found.kept:
            console.show(f"kept    {text}")
        if not found.removed and not found.kept:
            console.show("nothing to remove")
        return found

    _run(ctx, "share remove", _Login(host, username, port, https, ca_file, password_stdin), as_json, work)


@app.command()
def show(
    ctx: typer.Context,
    host: HostArgument,
    username: AdministratorOption,
    name: NameOption = "PepStaging",
    port: PortOption = None,
    https: HttpsOption = False,
    ca_file: AuthorityOption = None,
    password_stdin: StdinOption = False,
    as_json: JsonOption = False,
) -> None:
    """Show what the host says of a share: who may write, how much space is left, what we added.

    [bold]Example[/bold]

    pep-bridge share show jump01 --username 'CONTOSO\\admin'
    """

    def work(console: Console, login: _Login) -> _Result:
        from bridge.staging import show_share

        found = show_share(login.open(console), name)
        if found.is_shared:
            console.show(f"share  \\\\{host}\\{name}, folder {found.path}, {size(found.free_bytes or 0)} free")
            console.show(f"access {'; '.join(found.access) or 'nobody'}")
        else:
            console.show(f"{host} has no share {name}")
        console.show(f"added  {', '.join(found.added) or 'nothing by us'}")
        return found

    _run(ctx, "share show", _Login(host, username, port, https, ca_file, password_stdin), as_json, work)


@dataclass(frozen=True, slots=True)
class _Login:
    """How the host is reached, as it was typed."""

    host: str
    username: str
    port: int | None
    https: bool
    ca_file: Path | None
    password_stdin: bool

    def open(self, console: Console) -> StagingHost:
        """The host with the administrator's password, from wherever that may come."""
        from bridge.credentials import find_secret
        from bridge.secrets import Credential
        from bridge.staging import StagingHost

        secret = find_secret(
            f"the password of {self.username} on {self.host}",
            variable=PASSWORD_VARIABLE,
            file=None,
            keyring_name=f"staging:{self.host}:{self.username}",
            sources=console.sources(password_stdin=self.password_stdin),
        )
        console.known_secrets.append(secret)
        port = self.port or (5986 if self.https else 5985)
        return StagingHost(self.host, Credential(self.username, secret), port, self.https, self.ca_file)


class _Result(Protocol):
    def to_json(self) -> dict[str, Any]: ...


def _run(
    ctx: typer.Context, command: str, login: _Login, as_json: bool, work: Callable[[Console, _Login], _Result]
) -> None:
    """One verb on the host; what it found is the data of the JSON document."""
    run_verb(ctx, command, as_json, lambda console: Report(work(console, login).to_json()))
