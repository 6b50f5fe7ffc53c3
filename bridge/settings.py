"""The configuration: one TOML file, overlaid by environment variables; unknown keys are refused."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, ClassVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from bridge.errors import ConfigurationError, UsageError
from bridge.files import replace_file
from bridge.stamp import HTTP_PORT, EndpointAddress, Stamp

APP_NAME = "pep-bridge"
ENV_PREFIX = "PEP_BRIDGE_"
_MOST_PROBLEMS = 5


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class EndpointSettings(_Model):
    """One ERCS machine. In the file a bare string is its host."""

    host: str = Field(min_length=1)
    name: str = ""
    port: int = Field(default=HTTP_PORT, ge=1, le=65535)
    https_port: int | None = Field(default=None, ge=1, le=65535)


class StampSettings(_Model):
    """``[stamps.NAME]``: how to reach a stamp."""

    endpoints: tuple[EndpointSettings, ...] = Field(min_length=1)
    username: str | None = None
    password_file: Path | None = None
    domain: str | None = None
    region: str | None = None
    external_fqdn: str | None = None
    timezone: str | None = None
    cloud_id: str | None = None
    version: str | None = None
    configuration_name: str = "PrivilegedEndpoint"
    https: bool = False
    ca_file: Path | None = None
    portal: str | None = None
    arm: str | None = None
    """The administrator's ARM endpoint, ``https://adminmanagement.<region>.<fqdn>``."""
    arm_token_file: Path | None = None
    """A file with a bearer token for it, where no service principal is used."""
    subscription: str | None = None
    """The id of the default provider subscription."""
    shared_disk: bool = False
    """The endpoint sees this machine's folders: true of a simulated stamp on this machine only."""

    @field_validator("endpoints", mode="before")
    @classmethod
    def _host_alone(cls, value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return tuple({"host": item} if isinstance(item, str) else item for item in value)
        return value

    def to_stamp(self, name: str) -> Stamp:
        """The stamp that these settings describe; endpoints without a name are ERCS01, 02, 03 in turn."""
        return Stamp(
            name=name,
            endpoints=tuple(
                EndpointAddress(
                    name=endpoint.name or f"ERCS{number:02}",
                    host=endpoint.host,
                    port=endpoint.port,
                    https_port=endpoint.https_port,
                )
                for number, endpoint in enumerate(self.endpoints, start=1)
            ),
            username=self.username,
            domain=self.domain,
            region=self.region,
            external_fqdn=self.external_fqdn,
            timezone=self.timezone,
            cloud_id=self.cloud_id,
            version=self.version,
            configuration_name=self.configuration_name,
            use_https=self.https,
            ca_file=self.ca_file,
        )


class DestinationSettings(_Model):
    """``[destinations.NAME]``: a place for bundles, by name."""

    location: str = Field(min_length=1)
    username: str | None = None
    password_file: Path | None = None
    sas_file: Path | None = None
    api_version: str | None = None
    encrypt: bool = False
    staging: str | None = None


class TransferPreferences(_Model):
    """``[transfer]``: how politely a line is used."""

    limit_rate: str | None = None
    quiet_hours: str | None = None
    connections: int | None = Field(default=None, ge=1, le=32)


class CollectionPreferences(_Model):
    """``[collection]``: what ``collect`` does where its options are silent. Spans are written ``10s``, ``30m``, ``4h``.

    ``settle``: for how long the output must stay as it is, once the command has ended, before it is sealed.
    ``settle_after_stop``: the same after a stop, or the death of the process that ran the command: what it had begun
    may go on.
    """

    since: str = "4h"
    to: str | None = None
    timeout_minutes: int = Field(default=240, ge=1, le=1440)
    roles: tuple[str, ...] = ()
    settle: str = "10s"
    settle_after_stop: str = "60s"


class WatchPreferences(_Model):
    """``[watch]``: when ``watch`` collects. Spans are written ``30m``, ``4h``, ``2d``."""

    every: str | None = None
    persist: str = "30m"
    cool_down: str = "4h"
    daily_budget: int = Field(default=3, ge=0, le=24)
    since: str = "4h"
    offload: str | None = None
    warnings: bool = False
    more_alerts: tuple[str, ...] = ()
    fewer_alerts: tuple[str, ...] = ()


class RetentionPreferences(_Model):
    """``[retention]``: what ``prune`` keeps where its options are silent, and ``watch`` of its rolling offload."""

    older_than: str | None = None
    keep: int | None = Field(default=None, ge=1)
    max_size: str | None = None


class Settings(BaseSettings):
    """Everything that can be configured.

    ``PEP_BRIDGE_TRANSFER__LIMIT_RATE=20Mbit`` overlays ``limit_rate`` of ``[transfer]``.
    """

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
    )

    _reads_environment: ClassVar[bool] = True

    stamps: dict[str, StampSettings] = {}
    destinations: dict[str, DestinationSettings] = {}
    transfer: TransferPreferences = TransferPreferences()
    collection: CollectionPreferences = CollectionPreferences()
    watch: WatchPreferences = WatchPreferences()
    retention: RetentionPreferences = RetentionPreferences()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment goes over the file, whose content arrives as keyword arguments."""
        return (env_settings, init_settings) if cls._reads_environment else (init_settings,)

    def stamp(self, name: str) -> Stamp:
        """The stamp of that name.

        Raises:
            ConfigurationError: there is none.
        """
        return self.stamp_settings(name).to_stamp(name)

    def stamp_settings(self, name: str) -> StampSettings:
        """``[stamps.NAME]`` as configured; raises ``ConfigurationError`` where there is none."""
        try:
            return self.stamps[name]
        except KeyError:
            known = ", ".join(sorted(self.stamps)) or "none yet"
            raise ConfigurationError(
                source="the configuration",
                detail=f"there is no stamp '{name}' (known: {known})",
                fix="Add it with 'pep-bridge stamp add', or see 'pep-bridge config show'.",
            ) from None


class _InFile(Settings):
    """What a file says by itself: no variable of the environment hides that a value in it is wrong."""

    _reads_environment: ClassVar[bool] = False


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings, and where each of them came from."""

    settings: Settings
    file: Path | None
    origins: Mapping[str, str]
    """Dotted key to ``file``, ``environment`` or ``default``."""


def default_config_file() -> Path:
    """The user's configuration file, where the operating system wants it."""
    from platformdirs import user_config_path

    return user_config_path(APP_NAME, appauthor=False) / "config.toml"


def default_state_dir() -> Path:
    """The user's state folder, where the operating system wants it."""
    from platformdirs import user_state_path

    return user_state_path(APP_NAME, appauthor=False)


def load_settings(file: Path | None = None) -> Loaded:
    """Reads the configuration; an absent file is an error only where it was named.

    Raises:
        ConfigurationError: the file cannot be read, is not TOML, or holds something unknown or wrong.
    """
    named = file is not None
    path = file or default_config_file()
    variables = _variables()
    document: dict[str, Any] = {}
    if named or path.exists():
        document = _read_toml(path)
        _resolve_paths(document, path.parent)
    try:
        settings = Settings(**document)
    except ValidationError as error:
        raise _not_valid(error, path, variables) from None
    origins = dict.fromkeys(_leaves(settings.model_dump()), "default")
    origins |= dict.fromkeys(_leaves(document), "file")
    origins |= dict.fromkeys(variables, "environment")
    return Loaded(settings=settings, file=path if document else None, origins=origins)


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigurationError(
            source=str(path),
            detail=f"cannot be read: {error.strerror}",
            fix="Check the path and the permissions of the file.",
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            source=str(path),
            detail=f"is not TOML: {error}",
            fix="In TOML a Windows path goes into single quotes: location = '\\\\nas\\logs'.",
        ) from error


def _resolve_paths(document: dict[str, Any], base: Path) -> None:
    """Relative file names in the file are relative to the file."""
    for table in ("stamps", "destinations"):
        entries = document.get(table)
        for entry in entries.values() if isinstance(entries, dict) else ():
            for key in ("password_file", "sas_file", "ca_file", "arm_token_file"):
                if isinstance(entry, dict) and isinstance(entry.get(key), str):
                    entry[key] = str(base / Path(entry[key]).expanduser())


def _not_valid(error: ValidationError, path: Path, variables: Collection[str]) -> ConfigurationError:
    """What is wrong, and where it was said: in the file, or by a variable of the environment."""
    problems = list(_problems(error))
    said_by = [(key, words) for key, words in problems if key in variables]
    if said_by:
        key, words = said_by[0]
        name = _variable(key)
        return ConfigurationError(
            source=f"the variable {name}", detail=words, fix=f"Correct the variable, or take it away: unset {name}."
        )
    return ConfigurationError(
        source=str(path),
        detail="; ".join(f"{key}: {words}" for key, words in problems),
        fix="Correct these keys in the file; the README has an example of each table.",
    )


def _problems(error: ValidationError) -> Iterator[tuple[str, str]]:
    """The first few keys that are not good, and why, in words for people."""
    for problem in error.errors(include_input=False, include_url=False)[:_MOST_PROBLEMS]:
        parts = [str(part) for part in problem["loc"]]
        words = _no_such_key(parts) if problem["type"] == "extra_forbidden" else problem["msg"]
        yield ".".join(parts), words


def _no_such_key(parts: Sequence[str]) -> str:
    *tables, name = parts
    meant = get_close_matches(name, _keys_in(tables), n=1, cutoff=0.5)
    return "there is no such key" + (f"; did you mean {'.'.join([*tables, *meant])}?" if meant else "")


def _keys_in(tables: Sequence[str]) -> list[str]:
    """The keys that a table may have, by the models that describe it."""
    model: Any = Settings
    for table in tables:
        if isinstance(model, type) and issubclass(model, BaseModel):
            field = model.model_fields.get(table)
            model = field.annotation if field else None
        else:  # a dictionary of models, by name
            model = next(reversed(get_args(model)), None)
    return list(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else []


def _variable(key: str) -> str:
    return ENV_PREFIX + key.replace(".", "__").upper()


def _refuse_misspelt_variables() -> None:
    """A variable that looks like a key of the configuration and is none would quietly change nothing."""
    for name in os.environ:
        if name.upper().startswith(ENV_PREFIX) and (
            problem := _misspelt(name.upper().removeprefix(ENV_PREFIX).lower())
        ):
            raise ConfigurationError(
                source=f"the variable {name}", detail=problem, fix=f"Correct it, or take it away: unset {name}."
            )


def _misspelt(words: str) -> str:
    """What is wrong with the rest of a variable's name; empty where it is a key, or no business of ours."""
    table, separator, key = words.partition("__")
    tables = list(Settings.model_fields)
    if table in tables:
        return ""
    if separator:
        meant = [f"{each}.{key}" for each in get_close_matches(table, tables, n=1)]
    else:  # one underscore where two belong
        meant = [each + "." + table.removeprefix(f"{each}_") for each in tables if table.startswith(f"{each}_")]
    if not separator and not meant:
        return ""
    return "it is no key of the configuration" + (f"; did you mean {_variable(meant[0])}?" if meant else "")


def _variables() -> set[str]:
    """The keys that variables of the environment overlay."""
    _refuse_misspelt_variables()
    try:
        return set(_leaves(EnvSettingsSource(Settings)()))
    except SettingsError as error:
        raise ConfigurationError(
            source=f"a variable {ENV_PREFIX}...",
            detail=f"{error}",
            fix="""A list is written as JSON: PEP_BRIDGE_COLLECTION__ROLES='["Storage", "ACS"]'.""",
        ) from None


def _leaves(value: Any, prefix: str = "") -> Iterator[str]:
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _leaves(item, f"{prefix}.{key}" if prefix else str(key))
    elif prefix:
        yield prefix


def save_stamp(file: Path, name: str, stamp: StampSettings, *, replace: bool = False) -> None:
    """Writes ``[stamps.NAME]`` into the configuration; comments and the order of the rest stay.

    Raises:
        ConfigurationError: the file is not TOML, cannot be written, or has that stamp already.
    """
    import tomlkit

    document = _editable(file)
    stamps = document.setdefault("stamps", tomlkit.table(is_super_table=True))
    if name in stamps and not replace:
        raise ConfigurationError(
            source=str(file), detail=f"there is a stamp '{name}' already", fix="Give --replace to write over it."
        )
    values = stamp.model_dump(mode="json", exclude_defaults=True)
    values["endpoints"] = [
        endpoint.host if endpoint == EndpointSettings(host=endpoint.host) else endpoint.model_dump(exclude_none=True)
        for endpoint in stamp.endpoints
    ]
    table = tomlkit.table()
    for key, value in values.items():
        table.add(key, value)
    stamps[name] = table
    _write(file, tomlkit.dumps(document))


def change_setting(file: Path, key: str, text: str | None, check: Callable[[Settings], None]) -> Any:
    """Writes one value (``transfer.limit_rate``) into the configuration, or takes it out; comments and order stay.

    Args:
        text: the value as it is typed: a number, ``true``, words, or a list ``A,B``; ``None`` takes it out.
        check: raises where the settings that would result are not good.

    Returns:
        The value as it stands in the file now.

    Raises:
        ConfigurationError: the file cannot be read or written, or would not be a configuration any more.
        UsageError: it is no key, or not there; or what ``check`` raises. The file is as it was.
    """
    import tomlkit

    path = _parts(key)
    document = _editable(file)
    problem: ConfigurationError | None = None
    for value in (None,) if text is None else _readings(text):
        changed = tomlkit.parse(tomlkit.dumps(document))
        _put(changed, path, value, key)
        plain = tomllib.loads(tomlkit.dumps(changed))
        _resolve_paths(plain, file.parent)
        try:
            settings = _InFile(**plain)
        except ValidationError as error:
            problem = problem or _not_to_be_set(error, key)
            continue
        check(settings)
        _write(file, tomlkit.dumps(changed))
        return value
    raise problem or AssertionError(key)


def _not_to_be_set(error: ValidationError, key: str) -> ConfigurationError:
    problems = [words if found == key else f"{found}: {words}" for found, words in _problems(error)]
    return ConfigurationError(
        source=key,
        detail="; ".join(problems),
        fix="'pep-bridge config show' lists the keys; the README has an example of each table.",
    )


def _parts(key: str) -> tuple[str, ...]:
    """The names of a dotted key; one that itself has a dot stands in quotes, as in TOML."""
    try:
        found: Any = tomllib.loads(f"{key} = 0")
    except tomllib.TOMLDecodeError:
        found = None
    parts: list[str] = []
    while isinstance(found, dict) and len(found) == 1:
        [(name, found)] = found.items()
        parts.append(name)
    if found != 0 or len(parts) < 2:
        raise UsageError(detail=f"'{key}' is no key of the configuration.", fix="Write it like transfer.limit_rate.")
    return tuple(parts)


def _readings(text: str) -> Iterator[Any]:
    """What a value may mean: the number, truth or list that it looks like, the words that it is, or several of them."""
    with suppress(tomllib.TOMLDecodeError):
        found = tomllib.loads(f"value = {text}")
        if list(found) == ["value"] and isinstance(found["value"], (bool, int, list)):
            yield found["value"]
    yield text
    yield [part.strip() for part in text.split(",")]


def _put(document: Any, path: tuple[str, ...], value: Any, key: str) -> None:
    import tomlkit

    *tables, name = path
    table = document
    for each in tables:
        if each not in table and value is not None:
            table[each] = tomlkit.table(is_super_table=each != tables[-1])
        table = table.get(each)
        if not isinstance(table, Mapping):
            raise UsageError(detail=f"There is no '{key}' in the configuration.", fix="See 'pep-bridge config show'.")
    if value is not None:
        table[name] = value
    elif name in table:
        del table[name]
    else:
        raise UsageError(detail=f"There is no '{key}' in the configuration.", fix="See 'pep-bridge config show'.")


def _editable(file: Path) -> Any:
    """The file with its comments, or an empty one where there is none yet."""
    import tomlkit

    if not file.exists():
        return tomlkit.document()
    _read_toml(file)  # tells what is wrong with it
    return tomlkit.parse(file.read_text(encoding="utf-8-sig"))


def _write(file: Path, text: str) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        replace_file(file, text.encode())
    except OSError as error:
        raise ConfigurationError(
            source=str(file), detail=f"cannot be written: {error.strerror}", fix="Check the folder's permissions."
        ) from error
