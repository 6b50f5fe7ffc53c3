"""``config``: shows what is configured and where each value comes from, and changes single values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli._console import Console, Globals, JsonOption, Report, run_verb

if TYPE_CHECKING:
    from bridge.settings import Settings

app = typer.Typer(no_args_is_help=True, help="Show the configuration, and change single values of it.")

KeyArgument = Annotated[
    str, typer.Argument(metavar="KEY", help="As 'config show' lists it: transfer.limit_rate.", show_default=False)
]


@app.command()
def show(
    ctx: typer.Context,
    origin: Annotated[bool, typer.Option("--origin", help="Say where each value comes from.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show every setting: the file, overlaid by the environment.

    [bold]Example[/bold]

    pep-bridge config show --origin
    """

    def work(console: Console) -> Report:
        from bridge.settings import default_config_file

        loaded = ctx.obj.load()
        values = dict(_leaves(loaded.settings.model_dump(mode="json", exclude_none=True)))
        for key, value in values.items():
            told = f"  ({loaded.origins.get(key, 'file')})" if origin else ""
            console.show(f"{key} = {value!r}{told}")
        console.say(f"file: {loaded.file or f'none yet; it would be {default_config_file()}'}")
        return Report({"settings": values, "origins": dict(loaded.origins), "file": str(loaded.file or "")})

    run_verb(ctx, "config show", as_json, work)


@app.command("set")
def set_value(
    ctx: typer.Context,
    key: KeyArgument,
    value: Annotated[str, typer.Argument(metavar="VALUE", help="What it is to be.", show_default=False)],
    as_json: JsonOption = False,
) -> None:
    """Write one value into the configuration file; comments stay, and nothing is written that is not valid.

    A transfer that is running follows a new rate or new quiet hours within a second or two.

    [bold]Examples[/bold]

    pep-bridge config set transfer.limit_rate 5Mbit

    pep-bridge config set collection.to nas
    """
    run_verb(ctx, "config set", as_json, lambda console: _change(console, ctx.obj, key, value))


@app.command("unset")
def unset_value(ctx: typer.Context, key: KeyArgument, as_json: JsonOption = False) -> None:
    """Take one value out of the configuration file.

    [bold]Example[/bold]

    pep-bridge config unset transfer.limit_rate
    """
    run_verb(ctx, "config unset", as_json, lambda console: _change(console, ctx.obj, key, None))


def _change(console: Console, options: Globals, key: str, text: str | None) -> Report:
    from bridge.settings import change_setting, default_config_file

    file = options.config or default_config_file()
    value = change_setting(file, key, text, lambda settings: _check(settings, key))
    console.show(f"{key} is no longer set" if text is None else f"{key} = {value!r}")
    console.say(f"written to {file}")
    if options.load().origins.get(key) == "environment":
        console.warn(f"a variable of the environment says something else here, and goes over it: {key}")
    return Report({"key": key, "value": value, "file": str(file)})


def _check(settings: Settings, key: str) -> None:
    """What only those who use a value can tell: whether a rate is one, a span of time, or a place. A place that was
    wrong before keeps nobody from changing something else."""
    from tzlocal import get_localzone

    from bridge.collection import parse_window, read_settings
    from bridge.retention import read_limits
    from bridge.store.transfer import QuietHours, TransferSettings, parse_rate
    from bridge.watch import read_pause, read_policy
    from cli._places import find_place

    if settings.transfer.limit_rate is not None:
        parse_rate(settings.transfer.limit_rate)
    if settings.transfer.quiet_hours is not None:
        QuietHours.parse(settings.transfer.quiet_hours)
    parse_window(settings.collection.since, None, tz=get_localzone(), now=datetime.now(UTC))
    read_settings(settings.collection, TransferSettings())
    read_policy(settings.watch)
    read_pause(settings.watch)
    if settings.retention.model_dump(exclude_none=True):
        read_limits(settings.retention)
    if key == "collection.to" or key.startswith("destinations."):
        for place in _places(settings):
            find_place(place, settings)


def _places(settings: Settings) -> Iterator[str]:
    from cli.doctor import AUTO

    if settings.collection.to not in {None, AUTO}:
        yield str(settings.collection.to)
    yield from (known.staging for known in settings.destinations.values() if known.staging)


def _leaves(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _leaves(item, f"{prefix}.{key}" if prefix else str(key))
    elif prefix:
        yield prefix, value
