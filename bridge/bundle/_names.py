"""How a bundle is called: its folder's name, and its id in a form that can be read over the phone."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from bridge.errors import UnsafePathError, UsageError
from bridge.store import check_path

_TOKEN = re.compile(r"[0-9a-f]{8}")
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9._-]+")
_BETWEEN_GROUPS = re.compile(r"[\s:.-]+")
_BUNDLE_ID = re.compile(r"[0-9a-f]{64}")
_MAX_STAMP_CHARACTERS = 64


def bundle_name(stamp: str, started: datetime, token: str) -> str:
    """The folder of a bundle: ``<stamp>-<UTC start, ISO 8601 basic format>-<8 hex digits>``.

    Args:
        stamp: the stamp's name; characters that not every store takes become ``-``.
        started: when the collection started, aware.
        token: eight lower-case hex digits that keep two bundles of one second apart.

    Raises:
        ValueError: ``started`` is naive or ``token`` has another form.
    """
    if started.tzinfo is None:
        raise ValueError("the start of a bundle needs a time zone")
    if not _TOKEN.fullmatch(token):
        raise ValueError("a bundle's token is eight lower-case hex digits")
    safe = _NOT_IN_A_NAME.sub("-", stamp).strip("-.")[:_MAX_STAMP_CHARACTERS] or "stamp"
    return check_path(f"{safe}-{started.astimezone(UTC):%Y%m%dT%H%M%SZ}-{token}")


def format_bundle_id(bundle_id: str) -> str:
    """The 64 hex digits of a bundle id in sixteen groups of four."""
    return " ".join(bundle_id[start : start + 4] for start in range(0, len(bundle_id), 4))


def parse_bundle_id(text: str) -> str:
    """The id that somebody read out or pasted: groups, blanks, dashes and capitals do not matter.

    Raises:
        UsageError: what is left is not 64 hex digits.
    """
    digits = _BETWEEN_GROUPS.sub("", text).lower()
    if not _BUNDLE_ID.fullmatch(digits):
        raise UsageError(
            detail=f"this is not a bundle id: {len(digits)} characters are left without blanks and dashes",
            fix="A bundle id has 64 hex digits (0-9, a-f), in any grouping.",
        )
    return digits


def name_of_unsafe(error: UnsafePathError) -> str:
    """The name that ``check_path`` refused, in ASCII with escapes, so that it can be shown and written anywhere."""
    shown = str(error.fields["path"])
    return shown[1:-1] if len(shown) > 1 and shown[0] == shown[-1] and shown[0] in "'\"" else shown
