"""``stamp``: adds stamps to the configuration, and lists them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bridge.errors import UsageError
from cli._console import Console, JsonOption, Report, run_verb

app = typer.Typer(no_args_is_help=True, help="Add stamps to the configuration, and list them.")


@app.command()
def add(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What you call the stamp.")],
    information: Annotated[
        Path | None,
        typer.Option("--from", metavar="FILE", help="AzureStackStampInformation.json.", show_default=False),
    ] = None,
    endpoint: Annotated[
        list[str] | None,
        typer.Option(help="Address of an ERCS machine; repeat it for all three.", show_default=False),
    ] = None,
    username: Annotated[str | None, typer.Option(help="DOMAIN\\CloudAdmin.", show_default=False)] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Write over a stamp of that name.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Add a stamp: from its information file, or typed.

    [bold]Examples[/bold]

    pep-bridge stamp add east --from AzureStackStampInformation.json

    pep-bridge stamp add east --endpoint 10.0.0.225 --endpoint 10.0.0.226 --username 'AZURESTACK\\CloudAdmin'
    """

    def work(console: Console) -> Report:
        from bridge.settings import StampSettings, default_config_file, load_settings, save_stamp
        from bridge.stamp_information import read_stamp_information

        if information is not None:
            settings = read_stamp_information(information)
        elif endpoint:
            settings = StampSettings.model_validate({"endpoints": endpoint})
        else:
            raise UsageError(
                detail="No address is known.", fix="Give --from FILE, or --endpoint for each ERCS machine."
            )
        if username:
            settings = settings.model_copy(update={"username": username})
        file = ctx.obj.config or default_config_file()
        save_stamp(file, name, settings, replace=replace)
        load_settings(file)
        hosts = ", ".join(found.host for found in settings.endpoints)
        console.show(f"stamp {name}: {hosts}; user {settings.username or '(give --username)'}")
        console.say(f"written to {file}")
        console.say(f"next: pep-bridge collect {name} --since 4h --to DEST")
        return Report({"stamp": name, "file": str(file), **settings.model_dump(mode="json", exclude_defaults=True)})

    run_verb(ctx, "stamp add", as_json, work)


@app.command("list")
def list_stamps(ctx: typer.Context, as_json: JsonOption = False) -> None:
    """List the stamps of the configuration.

    [bold]Example[/bold]

    pep-bridge stamp list
    """

    def work(console: Console) -> Report:
        loaded = ctx.obj.load()
        for name, stamp in loaded.settings.stamps.items():
            console.show(f"{name}  {', '.join(endpoint.host for endpoint in stamp.endpoints)}")
        if not loaded.settings.stamps:
            console.say("No stamp yet. Add one: pep-bridge stamp add NAME --from AzureStackStampInformation.json")
        dumped = {
            name: stamp.model_dump(mode="json", exclude_defaults=True) for name, stamp in loaded.settings.stamps.items()
        }
        return Report({"stamps": dumped})

    run_verb(ctx, "stamp list", as_json, work)
