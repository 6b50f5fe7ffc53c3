"""Builds the manual pages and the site: ``python -m tools.docs OUTPUT``."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from tools.docs._commands import read_pages
from tools.docs._failures import read_exit_codes, read_failures
from tools.docs._links import find_problems
from tools.docs._manual import write_manual
from tools.docs._site import build_site, navigation, write_pages

ROOT = Path(__file__).parents[2]


def main(output: Path) -> int:
    """Writes ``output/man``, ``output/site`` and checks the site; 1 where a link is broken."""
    pages, failures, codes = read_pages(), read_failures(), read_exit_codes(ROOT / "README.md")
    manual = write_manual(pages, codes, output / "man", when=source_date(ROOT))
    sources = output / "pages"
    write_pages(pages, failures, codes, source=ROOT / "docs", folder=sources)
    build_site(sources, output / "site", navigation(sources, pages))
    problems = find_problems(output / "site")
    for problem in problems:
        sys.stderr.write(f"{problem}\n")
    count = len(list((output / "site").rglob("*.html")))
    sys.stderr.write(f"{len(manual)} manual pages and {count} pages in {output}; {len(problems)} broken links\n")
    return 1 if problems else 0


def source_date(root: Path) -> datetime:
    """When the sources were last changed: ``SOURCE_DATE_EPOCH``, else the last commit, else 1980 (as in a zip)."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    if given is None:
        command = ["git", "log", "-1", "--format=%ct"]
        asked = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
        given = asked.stdout.strip() if asked.returncode == 0 else ""
    return datetime.fromtimestamp(int(given), UTC) if given else datetime(1980, 1, 1, tzinfo=UTC)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "build/docs")))
