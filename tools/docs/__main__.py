"""Builds the manual pages and the site: ``python -m tools.docs OUTPUT``."""

from __future__ import annotations

import sys
from pathlib import Path

from tools._source_date import source_date
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


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "build/docs")))
