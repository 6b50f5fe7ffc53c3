"""``config``: shows what is configured, and where each value comes from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

from cli._console import Console, JsonOption, Report, run_verb

app = typer.Typer(no_args_is_help=True, help="Show the configuration.")


@app.callback()
def group() -> None:
    """Show the configuration."""


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


def _leaves(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _leaves(item, f"{prefix}.{key}" if prefix else str(key))
    elif prefix:
        yield prefix, value
