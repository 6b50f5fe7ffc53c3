"""The built documentation: every verb, error and exit code has its page; links lead somewhere; nothing is fetched."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import bridge.errors
from bridge.errors import BridgeError, ExitCode
from tests.support.command_line import ROOT
from tools.docs._commands import file_name, read_pages
from tools.docs._links import find_problems

PAGES = read_pages()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("documentation")
    command = [sys.executable, "-m", "tools.docs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "0 broken links" in done.stderr
    return folder


@pytest.mark.parametrize("verb", [file_name(page) for page in PAGES])
def test_every_verb_has_a_manual_page_and_a_page_of_the_site(built: Path, verb: str) -> None:
    assert (built / "man" / f"{verb}.1").is_file()
    assert (built / "site" / "verbs" / f"{verb}.html").is_file()


def test_every_error_has_a_page_with_its_exit_code(built: Path) -> None:
    errors = [
        each
        for each in vars(bridge.errors).values()
        if isinstance(each, type) and issubclass(each, BridgeError) and each is not BridgeError
    ]
    assert len(errors) > 30
    for error in errors:
        page = (built / "site" / "errors" / f"{error.__name__}.html").read_text(encoding="utf-8")
        assert f'href="../exit-codes/{int(error.exit_code)}.html"' in page, error


@pytest.mark.parametrize("code", ExitCode)
def test_every_exit_code_has_a_page_that_says_what_to_do(built: Path, code: ExitCode) -> None:
    page = (built / "site" / "exit-codes" / f"{int(code)}.html").read_text(encoding="utf-8")
    assert "What to do" in page


@pytest.mark.parametrize("guide", ["portal-down", "disconnected-site", "slow-line", "first-rehearsal"])
def test_the_guides_are_there_and_in_the_menu(built: Path, guide: str) -> None:
    assert f'href="how-to/{guide}.html"' in (built / "site" / "index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("file", sorted((ROOT / "docs").rglob("*.md")), ids=lambda file: file.name)
def test_the_commands_of_the_pages_exist(file: Path) -> None:
    """Options that a page types after ``pep-bridge`` are options of the program."""
    verbs = {page.name.split()[1] for page in PAGES if " " in page.name}
    options = {
        word
        for page in PAGES
        for section in page.sections
        for entry in section.entries
        for word in re.findall(r"--[\w-]+", entry.name)
    }
    for command in re.findall(r"^(?:\$ )?pep-bridge ([^|].*)$", file.read_text(encoding="utf-8"), re.MULTILINE):
        words = command.partition(" #")[0].split()
        verb = next((word for word in words if word in verbs), None)
        if verb == "run":  # a script's parameters are options too
            continue
        unknown = [word for word in words if word.startswith("--") and word.partition("=")[0] not in options]
        assert not unknown, command
        assert verb or words[0].startswith("-"), command


def test_the_manual_is_sound_roff(built: Path) -> None:
    if shutil.which("mandoc") is None:
        pytest.skip("not run: no mandoc here")
    files = [str(file) for file in sorted((built / "man").glob("*.1"))]
    done = subprocess.run(["mandoc", "-Tlint", "-Wwarning", *files], capture_output=True, text=True, check=False)
    assert done.stdout + done.stderr == ""


def test_man_shows_a_command_as_it_is_to_be_typed(built: Path) -> None:
    if shutil.which("mandoc") is None:
        pytest.skip("not run: no mandoc here")
    page = built / "man" / "pep-bridge-collect.1"
    done = subprocess.run(["mandoc", "-Tutf8", "-Owidth=200", page], capture_output=True, text=True, check=True)
    shown = re.sub(".\b", "", done.stdout)  # bold is printed over itself
    assert "pep-bridge collect east --since 4h --role Storage,ACS --to '\\\\nas\\drop'" in shown


SOUND = '<html><link rel="stylesheet" href="a.css"><h1 id="here">x</h1><a href="#here">x</a><a href="https://e.example">y</a></html>'


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("page.html", '<a href="gone.html">x</a>', "gone.html leads nowhere"),
        ("page.html", '<a href="index.html#gone">x</a>', "no such place"),
        ("page.html", '<script src="https://cdn.example/a.js"></script>', "fetches https://cdn.example/a.js"),
        ("page.html", '<link rel="stylesheet" href="//cdn.example/a.css">', "fetches //cdn.example/a.css"),
        ("page.html", '<img src="gone.png">', "gone.png is missing"),
        (
            "b.css",
            "@font-face { src: url(https://fonts.example/a.woff2) }",
            "fetches url(https://fonts.example/a.woff2",
        ),
        ("b.css", '@import "https://fonts.example/a.css";', "fetches @import"),
        ("c.js", "fetch('https://api.example/x')", "fetches fetch('https://api.example/x"),
    ],
)
def test_the_check_of_the_links_finds(tmp_path: Path, name: str, content: str, told: str) -> None:
    (tmp_path / "index.html").write_text(SOUND, encoding="utf-8")
    (tmp_path / "a.css").write_text("body { background: url(data:image/png;base64,AA==) }", encoding="utf-8")
    assert find_problems(tmp_path) == []
    (tmp_path / name).write_text(content, encoding="utf-8")
    (problem,) = find_problems(tmp_path)
    assert told in problem
