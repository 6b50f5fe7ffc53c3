"""The help of every verb: examples first, nothing of the markup left, readable in any width."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cli._help import HelpPage, to_text
from tests.support.command_line import run
from tools.docs._commands import read_pages

PAGES = read_pages()
names = [page.name for page in PAGES]


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_the_examples_come_before_everything_but_the_summary(page: HelpPage) -> None:
    lines = to_text(page).splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("  "))
    assert lines[first - 1] in {"Example:", "Examples:"}
    assert any(
        example.command.startswith("pep-bridge") or " pep-bridge " in example.command for example in page.examples
    )
    assert lines.index(next(line for line in lines if line.startswith("Usage: "))) > first


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_no_markup_of_the_renderer_is_left(page: HelpPage) -> None:
    assert not re.search(r"\[/?(bold|italic|dim|cyan|red|green)\b|\\\[", to_text(page))


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_every_option_and_argument_says_what_it_is_for(page: HelpPage) -> None:
    silent = [entry.name for section in page.sections for entry in section.entries if not entry.text.strip()]
    assert silent == []


@pytest.mark.parametrize("width", [50, 80, 200])
@pytest.mark.parametrize("page", PAGES, ids=names)
def test_text_is_wrapped_and_commands_are_not(page: HelpPage, width: int) -> None:
    text = to_text(page, width)
    for example in page.examples:
        assert f"  {example.command}\n" in text + "\n"
    commands = {f"  {example.command}" for example in page.examples}
    long = [line for line in text.splitlines() if len(line) > min(width, 100) and line not in commands]
    one_word = [" " not in line.strip().rpartition("  ")[2] or line.startswith("  # ") for line in long]
    assert all(one_word), long


@pytest.mark.parametrize("verb", ["collect", "doctor"])
def test_a_path_of_a_share_is_shown_as_it_is_typed(verb: str) -> None:
    assert "--to '\\\\nas\\drop'" in run(verb, "--help").stdout


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_what_an_example_types_is_what_the_verb_takes(page: HelpPage) -> None:
    """Each option of an example is one of its verb."""
    options = {
        word
        for each in PAGES
        for s in each.sections
        for entry in s.entries
        for word in re.findall(r"--?[\w-]+", entry.name)
    }
    for example in page.examples:
        for word in example.command.split():
            if word.startswith("--"):
                assert word.partition("=")[0] in options, example.command


@pytest.mark.parametrize("group", ["stamp", "config", "watch"])
def test_a_group_without_its_verb_shows_its_help(group: str) -> None:
    done = run(group)
    assert done.returncode == 2
    assert f"Usage: pep-bridge {group} " in done.stdout
    assert done.stderr == ""


def test_a_mistake_in_a_verb_of_a_group_points_to_the_help_of_that_verb() -> None:
    assert "'pep-bridge config show --help'" in run("config", "show", "--bogus").stderr


@pytest.mark.parametrize(("place", "code", "told"), [(".", 9, "bagit.txt"), ("nothing-is-here", 2, "nothing is there")])
def test_what_is_no_bundle_is_said_once_and_not_file_by_file(place: str, code: int, told: str) -> None:
    done = run("verify", place)
    assert done.returncode == code
    assert done.stdout == ""
    assert told in done.stderr
    assert "fix: " in done.stderr


def test_a_folder_that_cannot_be_made_is_no_defect_of_the_demo(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = run("demo", "--output", str(tmp_path / "file" / "there"))
    assert done.returncode == 2
    assert "--output" in done.stderr
