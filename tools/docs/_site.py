"""The site: the written pages, and one generated page for each verb, error and exit code."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bridge import __version__
from bridge.errors import ExitCode
from cli._help import HelpPage
from tools.docs._commands import file_name
from tools.docs._failures import Failure

_NEXT_STEP = {
    ExitCode.OK: "Keep the bundle encrypted: logs hold personal data. Note its bundle id.",
    ExitCode.UNEXPECTED: "The message names a file with the details, without secrets: send it with a report.",
    ExitCode.USAGE: "Nothing was sent. Correct the command or the configuration as the message says.",
    ExitCode.UNREACHABLE: "This machine must reach the ERCS machines: [Portal down](../how-to/portal-down.md).",
    ExitCode.AUTHENTICATION: "Correct user name or password before the next try: repeated failures lock the account.",
    ExitCode.NOT_PERMITTED: "Compare with what the endpoint offers: `pep-bridge run Get-StampCommand STAMP`.",
    ExitCode.PREFLIGHT: "Nothing was started. Mend what the check found, and run the same command again.",
    ExitCode.BUSY: "Wait, or let the command wait: `--queue`. `pep-bridge status` shows what runs.",
    ExitCode.PARTIAL: "There is a sealed bundle. Its coverage says what is missing; `--role` collects that again.",
    ExitCode.VERIFICATION: "Do not rely on this copy. Deliver it again from one that verifies, or collect again.",
    ExitCode.NO_SPACE: "Free space at the destination and run the same command again: what has arrived is kept.",
    ExitCode.DELIVERY: "The bundle is safe where the message says. Run the same command again: it resumes.",
    ExitCode.TIME_LIMIT: "Collect fewer roles or a shorter window, or raise `--timeout-minutes`.",
    ExitCode.SEALING: "The payload is untouched. Mend what the message names, then `pep-bridge attach RUN` seals it.",
    ExitCode.INTERRUPTED: "The run goes on or can be resumed: the command to do so was printed.",
}


def write_pages(
    pages: Sequence[HelpPage], failures: Sequence[Failure], codes: Mapping[ExitCode, str], *, source: Path, folder: Path
) -> None:
    """Puts the written pages of ``source`` and the generated ones into ``folder``."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source, folder)
    written = {file.stem for file in source.glob("*.md")}
    for page in pages:
        _write(folder / "verbs" / f"{file_name(page)}.md", _verb(page, pages, written))
    _write(folder / "verbs" / "index.md", _verb_list(pages))
    for failure in failures:
        _write(folder / "errors" / f"{failure.name}.md", _error(failure, failures))
    _write(folder / "errors" / "index.md", _error_list(failures))
    for code, meaning in codes.items():
        _write(folder / "exit-codes" / f"{int(code)}.md", _exit_code(code, meaning, failures))
    _write(folder / "exit-codes" / "index.md", _exit_code_list(codes))


def _write(file: Path, lines: Iterator[str]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")


def _verb(page: HelpPage, pages: Sequence[HelpPage], written: set[str]) -> Iterator[str]:
    yield from (f"# {page.name}", "", _text(page.summary), "")
    if page.examples:
        yield from ("## Examples", "", "```sh")
        for example in page.examples:
            yield from (f"# {example.comment}",) if example.comment else ()
            yield example.command
        yield from ("```", "")
    yield from ("## Usage", "", "```", page.usage, "```", "")
    for paragraph in page.paragraphs:
        yield from (_text(paragraph), "")
    for section in page.sections:
        yield from (f"## {section.title}", "", "| | |", "|---|---|")
        for entry in section.entries:
            yield f"| {_entry_link(page, entry.name, pages)} | {_cell(entry.text)} |"
        yield ""
    verb = page.name.partition(" ")[2]
    about = [name for name in (verb.replace(" ", "-"), *_ABOUT.get(verb, ())) if name in written]
    if about:
        links = ", ".join(f"[{name.replace('-', ' ')}](../{name}.md)" for name in about)
        yield from (f"More about it: {links}.", "")
    yield "Every verb ends with one of the [exit codes](../exit-codes/index.md)."


_ABOUT = {
    "collect": ("bundle", "collection"),
    "attach": ("collection",),
    "stop": ("collection",),
    "verify": ("bundle",),
    "deliver": ("bundle",),
    "report": ("bundle",),
    "run": ("powershell", "scripts"),
    "share": ("staging-share",),
    "simulate": ("rehearsal-faults", "rehearse-with-powershell", "conformance", "cassettes"),
    "prune": ("data-handling",),
    "send": ("data-handling",),
}


def _entry_link(page: HelpPage, name: str, pages: Sequence[HelpPage]) -> str:
    for other in pages:
        if other.name == f"{page.name} {name}":
            return f"[{name}]({file_name(other)}.md)"
    return f"`{name}`"


def _verb_list(pages: Sequence[HelpPage]) -> Iterator[str]:
    yield from ("# Verbs", "", "| verb | does |", "|---|---|")
    for page in pages:
        yield f"| [{page.name}]({file_name(page)}.md) | {_cell(page.summary)} |"


def _error(failure: Failure, failures: Sequence[Failure]) -> Iterator[str]:
    yield from (f"# {failure.name}", "")
    yield from ("> " + _text(failure.message or "What happened is said in the message itself."), "")
    yield from ("## What to do", "", _text(failure.fix or "The message says it: `fix:` below the error."), "")
    code = int(failure.exit_code)
    yield from ("## In a script", "")
    yield from (
        f"The process ends with exit code [{code}](../exit-codes/{code}.md); with `--json` the entry of `errors` has",
        f'`"error": "{failure.name}"`, the message, and the fix.',
        "",
    )
    if failure.kind_of:
        yield from (f"It is a case of [{failure.kind_of}]({failure.kind_of}.md).", "")
    cases = [other.name for other in failures if other.kind_of == failure.name]
    if cases:
        yield "Cases of it: " + ", ".join(f"[{name}]({name}.md)" for name in cases) + "."


def _error_list(failures: Sequence[Failure]) -> Iterator[str]:
    yield from (
        "# Errors",
        "",
        "The name stands in the `--json` document; capital words stand for what is known then.",
        "",
    )
    yield from ("| error | message | exit code |", "|---|---|---|")
    for failure in failures:
        code = int(failure.exit_code)
        link = f"[{failure.name}]({failure.name}.md)"
        yield f"| {link} | {_cell(failure.message)} | [{code}](../exit-codes/{code}.md) |"


def _exit_code(code: ExitCode, meaning: str, failures: Sequence[Failure]) -> Iterator[str]:
    yield from (f"# Exit code {int(code)}", "", _text(meaning[:1].upper() + meaning[1:].rstrip(".")) + ".", "")
    yield from ("## What to do", "", _NEXT_STEP[code], "")
    found = [failure for failure in failures if failure.exit_code == code]
    if found:
        yield from ("## Errors that end with it", "", "| error | message |", "|---|---|")
        for failure in found:
            yield f"| [{failure.name}](../errors/{failure.name}.md) | {_cell(failure.message)} |"


def _exit_code_list(codes: Mapping[ExitCode, str]) -> Iterator[str]:
    yield from ("# Exit codes", "", "The numbers are an interface: scripts may depend on them.", "")
    yield from ("| code | meaning |", "|---|---|")
    for code, meaning in codes.items():
        yield f"| [{int(code)}]({int(code)}.md) | {_cell(meaning)} |"


def _text(text: str) -> str:
    """Text that Markdown leaves as it is."""
    return "".join(f"\\{char}" if char in "\\`*_{}[]<>#|" else char for char in text)


def _cell(text: str) -> str:
    return _text(text) or " "


def navigation(folder: Path, pages: Sequence[HelpPage]) -> list[dict[str, Any]]:
    """The menu: the written pages by their titles, and the lists of what is generated."""
    written = [
        {_title(file): file.relative_to(folder).as_posix()}
        for file in sorted(folder.glob("*.md"))
        if file.name != "index.md"
    ]
    guides = [{_title(file): file.relative_to(folder).as_posix()} for file in sorted((folder / "how-to").glob("*.md"))]
    verbs = [{page.name: f"verbs/{file_name(page)}.md"} for page in pages if len(page.name.split()) == 2]
    return [
        {"Start": "index.md"},
        {"How to": guides},
        {"Verbs": [{"All verbs": "verbs/index.md"}, *verbs]},
        {"Errors": "errors/index.md"},
        {"Exit codes": "exit-codes/index.md"},
        {"Reference": written},
    ]


def _title(file: Path) -> str:
    heading = next((line for line in file.read_text(encoding="utf-8").splitlines() if line.startswith("# ")), None)
    return heading.removeprefix("# ").replace("`", "") if heading else file.stem


def build_site(folder: Path, site: Path, nav: list[dict[str, Any]]) -> None:
    """Renders the pages; a warning of MkDocs is an error."""
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    config = load_config(
        config_file=str(Path(__file__).with_name("mkdocs.yml")),
        docs_dir=str(folder.resolve()),
        site_dir=str(site.resolve()),
        nav=nav,
        strict=True,
        copyright=f"pep-bridge {__version__}",
    )
    build(config)
    for index in site.glob("sitemap.xml*"):  # of no use without an address, and never the same twice
        index.unlink()
