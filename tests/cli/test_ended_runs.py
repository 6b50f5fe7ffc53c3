"""What the verbs say of a run that has ended, that was stopped, or that failed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.errors import ExitCode
from tests.support.command_line import Rehearsal, rehearsal


@pytest.fixture(scope="module")
def stamp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rehearsal]:
    with rehearsal(tmp_path_factory.mktemp("stamp"), "--duration", "0.5s", "--size", "1MB") as found:
        collect = found.run("collect", found.stamp, "--since", "4h", "--role", "Storage", "--to", "local")
        assert collect.returncode == ExitCode.OK, collect.stderr
        yield found


@pytest.mark.parametrize(("verb", "nothing"), [("stop", "nothing was stopped"), ("attach", "nothing to attach to")])
def test_a_run_that_has_ended_is_said_to_have_ended(stamp: Rehearsal, verb: str, nothing: str) -> None:
    done = stamp.run(verb)
    assert done.returncode == ExitCode.OK
    assert re.search(rf"run \S+ has ended already \(done; .*\); .*{nothing}", done.stderr), done.stderr
    assert "bundle id" in done.stdout


def test_a_run_is_shown_with_its_destination_and_to_the_second(stamp: Rehearsal) -> None:
    run = stamp.run("history", "--json").data["runs"][0]["id"]
    shown = stamp.run("show", run).stdout
    assert re.search(r"^to         .*\('local'\)$", shown, re.MULTILINE), shown
    assert len(re.findall(r"^  \d{4}-\d\d-\d\d \d\d:\d\d:\d\d \w+  ", shown, re.MULTILINE)) > 5


def test_a_role_unlike_any_other_is_sent_and_warned_of_once(stamp: Rehearsal) -> None:
    done = stamp.run("collect", stamp.stamp, "--since", "4h", "--role", "Gizmo", "--to", "local")
    assert done.stderr.count("not on the vendor's list of roles: Gizmo") == 1, done.stderr


def test_why_a_run_failed_is_said_once_with_its_fix_and_again_by_show(stamp: Rehearsal, tmp_path: Path) -> None:
    missing = tmp_path / "not" / "there"
    done = stamp.run("collect", stamp.stamp, "--since", "4h", "--role", "Storage", "--to", str(missing))
    assert done.returncode != ExitCode.OK
    why = re.search("^error: (.*)$", done.stderr, re.MULTILINE)
    assert why, done.stderr
    assert done.stderr.count(why[1]) == 1, done.stderr
    failed = stamp.run("history", "--status", "failed", "--json").data["runs"][0]["id"]
    assert re.search("^fix        .+", stamp.run("show", failed).stdout, re.MULTILINE)
