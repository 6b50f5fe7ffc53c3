"""Manual pages in plain roff, with the words of the help."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from bridge import __version__
from bridge.errors import ExitCode
from cli._help import HelpPage, Section
from tools.docs._commands import file_name

_VARIABLES = (
    ("PEP_BRIDGE_CONFIG", "The configuration file, as --config."),
    ("PEP_BRIDGE_STATE_DIR", "The folder where runs are remembered, as --state-dir."),
    ("PEP_BRIDGE_PASSWORD", "The password of the endpoint's user."),
    ("PEP_BRIDGE_SHARE_PASSWORD", "The password of the share's user."),
    ("PEP_BRIDGE_SAS", "The shared access signature of a container."),
    ("PEP_BRIDGE_CONFIRM", "Names of dangerous commands that a script run without a terminal confirms."),
    ("PEP_BRIDGE_PWSH", "A PowerShell to ask where one is used."),
    ("NO_COLOR", "No colours, where it is set."),
)


def write_manual(
    pages: Sequence[HelpPage], codes: Mapping[ExitCode, str], folder: Path, *, when: datetime
) -> list[Path]:
    """One page a verb and ``pep-bridge.1``, in ``folder``; ``when`` stands in their footers."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for page in pages:
        file = folder / f"{file_name(page)}.1"
        file.write_text("\n".join(_page(page, pages, codes, when)) + "\n", encoding="utf-8", newline="\n")
        written.append(file)
    return written


def _page(page: HelpPage, pages: Sequence[HelpPage], codes: Mapping[ExitCode, str], when: datetime) -> Iterator[str]:
    date = when.astimezone(UTC).date().isoformat()
    title = file_name(page)
    yield f'.TH {_escape(title.upper())} 1 "{date}" "pep-bridge {__version__}"'
    yield from (".SH NAME", f"{_escape(title)} \\- {_escape(page.summary.rstrip('.'))}")
    yield from (".SH SYNOPSIS", f".B {_escape(page.usage)}")
    if page.examples:
        yield ".SH EXAMPLES"
        for number, example in enumerate(page.examples):
            yield from (".PP",) if number else ()
            yield from (_line(example.comment),) if example.comment else ()
            yield from (".nf", ".RS 4", _line(example.command), ".RE", ".fi")
    if page.paragraphs:
        yield ".SH DESCRIPTION"
        for number, paragraph in enumerate(page.paragraphs):
            yield from (".PP",) if number else ()
            yield _line(paragraph)
    for section in page.sections:
        yield from _section(section)
    yield ".SH EXIT STATUS"
    for code, meaning in codes.items():
        yield from _term(str(int(code)), meaning)
    if len(page.name.split()) == 1:
        yield ".SH ENVIRONMENT"
        for name, meaning in _VARIABLES:
            yield from _term(name, meaning)
    yield ".SH SEE ALSO"
    others = [file_name(other) for other in pages if other is not page]
    yield ",\n".join(f".BR {_escape(name)} (1)" for name in others).replace(",\n", " ,\n")


def _section(section: Section) -> Iterator[str]:
    yield f".SH {_escape(section.title.upper())}"
    for entry in section.entries:
        yield from _term(entry.name, entry.text)


def _term(name: str, text: str) -> Iterator[str]:
    yield from (".TP", f".B {_escape(name)}", _line(text) if text else "\\&")


def _line(text: str) -> str:
    """A line of text: one that begins like a request is kept from being one."""
    return ("\\&" if text[:1] in {".", "'"} else "") + _escape(text)


def _escape(text: str) -> str:
    """Backslashes and hyphens as themselves, so that what is copied from the page works."""
    return (
        text.replace("\\", "\\e")
        .replace("-", "\\-")
        .replace("'", "\\(aq")
        .replace("`", "\\(ga")
        .replace("^", "\\(ha")
        .replace("~", "\\(ti")
    )
