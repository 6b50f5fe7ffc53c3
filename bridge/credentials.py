"""Where a secret comes from: standard input, a file of the owner's alone, the environment, the keyring, or a prompt."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bridge.errors import ConfigurationError, UsageError
from bridge.secrets import Credential, Secret

PASSWORD_VARIABLE = "PEP_BRIDGE_PASSWORD"  # noqa: S105 - the name of a variable, not a password
SHARE_PASSWORD_VARIABLE = "PEP_BRIDGE_SHARE_PASSWORD"  # noqa: S105
SAS_VARIABLE = "PEP_BRIDGE_SAS"

_SERVICE = "pep-bridge"
_LONGEST_SECRET = 64 * 1024

Ask = Callable[[str], str | None]
"""Asks a person for a secret without showing it; ``None`` where nobody can be asked."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Everything a secret may come from, in the order in which it is looked for.

    ``stdin`` is what was read for ``--password-stdin``; ``environment`` is normally ``os.environ``.
    """

    environment: Mapping[str, str]
    ask: Ask | None = None
    stdin: Secret | None = None
    use_keyring: bool = True


def stamp_credential(stamp: str, username: str | None, password_file: Path | None, sources: Sources) -> Credential:
    """The credential of a stamp's privileged endpoint.

    Raises:
        UsageError: no user name is configured, or no password can be had.
        ConfigurationError: the password file cannot be used.
    """
    if not username:
        raise UsageError(
            detail=f"No user name is known for stamp {stamp}.",
            fix=f"Give --username 'DOMAIN\\CloudAdmin', or set 'username' in [stamps.{stamp}].",
        )
    secret = find_secret(
        f"the password of {username} on {stamp}",
        variable=PASSWORD_VARIABLE,
        file=password_file,
        keyring_name=f"stamp:{stamp}:{username}",
        sources=sources,
    )
    return Credential(username, secret)


def share_credential(location: str, username: str | None, password_file: Path | None, sources: Sources) -> Credential:
    """The credential that writes to a share; raises as ``stamp_credential`` does."""
    if not username:
        raise UsageError(
            detail=f"No user name is known for the share {location}.",
            fix="Give --share-username, or configure the share as a destination with 'username'.",
        )
    secret = find_secret(
        f"the password of {username} on {location}",
        variable=SHARE_PASSWORD_VARIABLE,
        file=password_file,
        keyring_name=f"share:{location}:{username}",
        sources=Sources(sources.environment, sources.ask, None, sources.use_keyring),
    )
    return Credential(username, secret)


def container_sas(location: str, sas_file: Path | None, sources: Sources) -> Secret:
    """The shared access signature of a container (with or without its ``?``); raises as ``stamp_credential`` does."""
    secret = find_secret(
        f"the SAS of {location}",
        variable=SAS_VARIABLE,
        file=sas_file,
        keyring_name=f"container:{location}",
        sources=Sources(sources.environment, sources.ask, None, sources.use_keyring),
    )
    return Secret(secret.reveal().rpartition("?")[2])


def find_secret(what: str, *, variable: str, file: Path | None, keyring_name: str, sources: Sources) -> Secret:
    """The first of: standard input, environment, file, keyring, prompt.

    Raises:
        UsageError: none of them has it.
        ConfigurationError: the file is there but must not be used.
    """
    if sources.stdin is not None:
        return sources.stdin
    if value := sources.environment.get(variable):
        return Secret(value)
    if file is not None:
        return read_secret_file(file)
    if sources.use_keyring and (value := _from_keyring(keyring_name)):
        return Secret(value)
    if sources.ask is not None and (value := sources.ask(what)):
        return Secret(value)
    raise UsageError(
        detail=f"There is no way to learn {what}.",
        fix=f"Set {variable}, name a file of mode 0600 in the configuration, or run where a prompt can be answered.",
    )


def read_secret_file(path: Path) -> Secret:
    """The first line of a file that only its owner can read.

    On Windows the file's access list is the owner's business: its mode says nothing there.

    Raises:
        ConfigurationError: it cannot be read, others may read it, or it is empty.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(_LONGEST_SECRET)
    except OSError as error:
        raise ConfigurationError(
            source=str(path), detail=f"cannot be read: {error.strerror}", fix="Check the path and its permissions."
        ) from error
    if os.name == "posix" and stat.S_IMODE(mode) & 0o077:
        raise ConfigurationError(source=str(path), detail="others can read this secret", fix=f"Run: chmod 600 {path}")
    try:
        value = content.decode("utf-8-sig").splitlines()[0] if content.strip() else ""
    except UnicodeDecodeError:
        raise ConfigurationError(
            source=str(path), detail="is not UTF-8 text", fix="Save it as UTF-8, the secret on its first line."
        ) from None
    if not value:
        raise ConfigurationError(source=str(path), detail="is empty", fix="Put the secret on its first line.")
    return Secret(value)


def remember_secret(keyring_name: str, secret: Secret) -> None:
    """Puts a secret into the operating system's keyring.

    Raises:
        ConfigurationError: this host has no keyring.
    """
    import keyring
    import keyring.errors

    try:
        keyring.set_password(_SERVICE, keyring_name, secret.reveal())
    except keyring.errors.KeyringError as error:
        raise ConfigurationError(
            source="keyring", detail=f"cannot be used here: {error}", fix="Use a file of mode 0600 instead."
        ) from error


def _from_keyring(name: str) -> str | None:
    """A headless host without a keyring simply has nothing in it."""
    import keyring
    import keyring.errors

    try:
        value: str | None = keyring.get_password(_SERVICE, name)
    except keyring.errors.KeyringError:
        return None
    return value
