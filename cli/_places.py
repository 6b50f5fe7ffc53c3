"""From what a person wrote (a path, a URL, a name of the configuration) to a place and the secret that opens it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bridge.collection import Place
from bridge.credentials import Sources, container_sas, share_credential
from bridge.errors import UsageError
from bridge.secrets import Credential, Secret
from cli._console import Console

if TYPE_CHECKING:
    from bridge.settings import Settings


_BARE_WORD = re.compile(r"[\w-][\w.-]*")
_API_VERSION = re.compile(r"\d{4}-\d{2}-\d{2}")


@dataclass(frozen=True, slots=True)
class OpenPlace:
    """A place with what opens it; a folder needs nothing."""

    place: Place
    access: Credential | Secret | None


def open_place(
    text: str,
    settings: Settings,
    sources: Sources,
    console: Console,
    *,
    username: str | None = None,
    api_version: str | None = None,
    is_bundle: bool = False,
) -> OpenPlace:
    """The place that a text means, and what opens it.

    Args:
        is_bundle: it is a bundle to read: where nothing is, nothing will be made, and whoever reads it says so.

    Raises:
        UsageError: the text is no place, holds a secret, or no secret can be had.
        ConfigurationError: a secret's file cannot be used.
    """
    place = find_place(text, settings, api_version=api_version, is_bundle=is_bundle)
    return OpenPlace(place, open_place_secret(place, settings, sources, console, username=username))


def find_place(text: str, settings: Settings, *, api_version: str | None = None, is_bundle: bool = False) -> Place:
    """The place that a text means: a destination's name, with ``/folder`` behind it if wanted, else a location.

    Raises:
        UsageError: the text is no place, holds a secret, is a name that nothing has, or ``api_version`` is not a date.
    """
    name, _, rest = text.partition("/")
    known = settings.destinations.get(name)
    if api_version is not None and _API_VERSION.fullmatch(api_version) is None:
        raise UsageError(detail=f"{api_version!r} is not a version of the blob service.", fix="Write it as 2019-02-02.")
    if known is None:
        if not is_bundle:
            _refuse_a_misspelt_name(text, name, settings)
        place = Place.parse(text, api_version=api_version)
        if not is_bundle:
            _refuse_a_file(place)
        return place
    between = "\\" if known.location.startswith("\\\\") else "/"
    whole = known.location.rstrip("/\\") + between + rest if rest else known.location
    return Place.parse(whole, name=name, api_version=api_version or known.api_version, encrypt=known.encrypt)


def _refuse_a_misspelt_name(text: str, name: str, settings: Settings) -> None:
    """A bare word that is neither a destination nor a folder here would quietly become a new folder."""
    if _BARE_WORD.fullmatch(name) is None or Path(name).exists():
        return
    known = ", ".join(sorted(settings.destinations)) or "none yet"
    raise UsageError(
        detail=f"There is no destination '{name}' in the configuration (known: {known}), and no such folder here.",
        fix=f"Correct the name, or write ./{text} for a new folder here.",
    )


def _refuse_a_file(place: Place) -> None:
    """Nothing can be made in what is a file: that is said here, where it is known what was typed."""
    if place.kind != "folder":
        return
    folder = Path(place.text)
    for each in (folder, *folder.parents):
        if each.is_file():
            raise UsageError(
                detail=f"{place.text} cannot hold bundles: {each} is a file.",
                fix="Give a folder, a share or a container.",
            )


def open_place_secret(
    place: Place, settings: Settings, sources: Sources, console: Console, *, username: str | None = None
) -> Credential | Secret | None:
    """What opens a place: a credential for a share, a SAS for a container, nothing for a folder."""
    known = settings.destinations.get(place.name or "")
    where = known.location if known else place.location
    if place.kind == "share":
        owner = username or (known.username if known else None)
        credential = share_credential(where, owner, known.password_file if known else None, sources)
        console.known_secrets.append(credential.password)
        return credential
    if place.kind == "container":
        sas = container_sas(where, known.sas_file if known else None, sources)
        console.known_secrets.append(sas)
        return sas
    return None
