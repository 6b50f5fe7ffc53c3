"""TAB in four shells: the shells' own scripts, started as a user's shell starts them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from bridge.collection import Journal
from tests.support.command_line import QUIET, ROOT
from tests.support.runs import make_request

CONFIG = """
[stamps.east]
endpoints = ["10.0.0.1"]

[stamps.west]
endpoints = ["10.0.1.1"]

[destinations.nas]
location = '\\\\nas\\drop'
"""


@dataclass
class Site:
    """A configuration and a journal, and a ``pep-bridge`` on PATH as the shells' scripts call it."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        ours = {
            "PATH": f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "PEP_BRIDGE_CONFIG": str(self.folder / "config.toml"),
            "PEP_BRIDGE_STATE_DIR": str(self.folder / "state"),
            "HOME": str(self.folder),
        }
        return os.environ | QUIET | ours

    def run(self, *command: str, **environment: str) -> str:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=self.folder, env=self.environment | environment
        )
        assert done.stderr == "", "a shell would show this in the middle of the typed line"
        return done.stdout

    def script(self, shell: str) -> Path:
        """The script that the program gives for a shell, as documented."""
        file = self.folder / f"completion.{shell}"
        file.write_text(self.run("pep-bridge", _PEP_BRIDGE_COMPLETE=f"source_{shell}"), encoding="utf-8")
        return file

    def complete(self, line: str) -> set[str]:
        """What bash is told for the typed line."""
        words = line.split(" ")
        told = self.run(
            "pep-bridge",
            _PEP_BRIDGE_COMPLETE="complete_bash",
            COMP_WORDS=" ".join(words),
            COMP_CWORD=str(len(words) - 1),
        )
        return set(told.split())


@pytest.fixture
def site(tmp_path: Path) -> Site:
    (tmp_path / "config.toml").write_text(CONFIG, encoding="utf-8")
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "pep-bridge"
    program.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m cli.main "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    return Site(tmp_path)


def need(shell: str) -> str:
    found = shutil.which(shell)
    if found is None:
        pytest.skip(f"not run: no {shell} here")
    return found


def in_bash(site: Site, line: str) -> set[str]:
    words = line.split(" ")
    code = (
        f'source "{site.script("bash")}"; COMP_WORDS=({line}); COMP_CWORD={len(words) - 1};'
        ' _pep_bridge_completion pep-bridge; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    return set(site.run(need("bash"), "--norc", "-c", code).split())


def in_zsh(site: Site, line: str) -> set[str]:
    # Only zsh's line editor can take the offers; what it would be given is printed instead.
    code = (
        'compdef() { }; _arguments() { print -r -- "$@" }; _files() { print }; '
        f'source "{site.script("zsh")}"; words=({line}); CURRENT=$#words; _pep_bridge_completion'
    )
    return set(re.findall(r'"([^"]+)":"', site.run(need("zsh"), "-f", "-c", code)))


def in_fish(site: Site, line: str) -> set[str]:
    told = site.run(need("fish"), "--no-config", "-c", f'source "{site.script("fish")}"; complete -C "{line}"')
    return {each.partition("\t")[0] for each in told.splitlines()}


@pytest.mark.parametrize("ask", [in_bash, in_zsh, in_fish])
def test_a_shell_offers_the_stamps_of_the_configuration(site: Site, ask: Callable[[Site, str], set[str]]) -> None:
    assert ask(site, "pep-bridge collect e") == {"east"}


@pytest.mark.parametrize("ask", [in_bash, in_zsh, in_fish])
def test_a_shell_offers_verbs(site: Site, ask: Callable[[Site, str], set[str]]) -> None:
    assert {"status", "stop", "stamp"} <= ask(site, "pep-bridge st")


@pytest.mark.engine
def test_powershell_offers_the_stamps_of_the_configuration(site: Site, pwsh: str) -> None:
    line = "pep-bridge collect e"
    # A hosted engine has no line editor, whose key the script binds first.
    without_editor = "function Import-Module { }\nfunction Set-PSReadLineKeyHandler { }\n"
    ask = (
        f"\n$found = [System.Management.Automation.CommandCompletion]::CompleteInput('{line}', {len(line)}, $null)\n"
        "$found.CompletionMatches | ForEach-Object { $_.CompletionText }\n"
    )
    script = site.folder / "ask.ps1"
    script.write_text(without_editor + site.script("powershell").read_text(encoding="utf-8") + ask, encoding="utf-8")
    assert set(site.run(pwsh, "-File", str(script)).split()) == {"east"}


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("pep-bridge collect east --to n", {"nas"}),
        ("pep-bridge collect east --staging ", {"nas"}),
        ("pep-bridge deliver x --to ", {"nas"}),
        ("pep-bridge collect east --role Storage,SeedRingS", {"Storage,SeedRingServices"}),
        ("pep-bridge run Close-", {"Close-PepSession"}),
        ("pep-bridge run Test-Stamp w", {"west"}),
        ("pep-bridge simulate --fault quota", {"quota-exceeded"}),
        ("pep-bridge history --stamp w", {"west"}),
        ("pep-bridge collect east --sta", {"--staging"}),
    ],
)
def test_each_place_offers_what_fits_there(site: Site, line: str, offered: set[str]) -> None:
    assert site.complete(line) == offered


def test_a_role_that_was_named_is_not_offered_again(site: Site) -> None:
    offered = site.complete("pep-bridge collect east --role Storage,")
    assert "Storage,ACS" in offered
    assert "Storage,Storage" not in offered


def test_runs_and_bundles_come_from_the_journal(site: Site) -> None:
    with Journal(site.folder / "state") as journal:
        journal.create("20261123T135500Z-1a2b3c4d", make_request(site.folder), "azs-sim-20261123T135500Z-1a2b3c4d")
        journal.note("20261123T135500Z-1a2b3c4d", bundle="/srv/bundles/azs-sim-20261123T135500Z-1a2b3c4d")
    assert site.complete("pep-bridge attach 2026") == {"20261123T135500Z-1a2b3c4d"}
    assert site.complete("pep-bridge show ") == {"20261123T135500Z-1a2b3c4d"}
    assert site.complete("pep-bridge verify /srv") == {"/srv/bundles/azs-sim-20261123T135500Z-1a2b3c4d"}


def test_the_options_before_the_verb_count(site: Site) -> None:
    other = site.folder / "other.toml"
    other.write_text("[stamps.south]\nendpoints = ['10.0.2.1']\n", encoding="utf-8")
    assert site.complete(f"pep-bridge --config {other} collect ") == {"south"}


def test_looking_for_runs_makes_no_journal(site: Site) -> None:
    assert site.complete("pep-bridge attach ") == set()
    assert not (site.folder / "state").exists()


@pytest.mark.parametrize("content", ["[stamps", "stamps = 3", "\x00\xff", "[stamps.east]\nbogus = 1"])
def test_a_broken_configuration_is_no_reason_to_speak(site: Site, content: str) -> None:
    (site.folder / "config.toml").write_text(content, encoding="latin-1")
    assert site.complete("pep-bridge collect w") == set()


def test_a_broken_journal_is_no_reason_to_speak(site: Site) -> None:
    (site.folder / "state").mkdir()
    (site.folder / "state" / "journal.sqlite").write_bytes(b"not a database" * 100)
    assert site.complete("pep-bridge attach ") == set()
