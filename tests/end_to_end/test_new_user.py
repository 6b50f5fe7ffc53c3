"""A new user: the README's own lines lead to a verified bundle, and each mistake is answered with what to do."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bridge.errors import ExitCode
from tests.support.command_line import QUIET, ROOT, Done

PROGRAM = ".venv/bin/pep-bridge"
STAMP = "azs-sim"
MISTAKES = {
    "a stamp that is not configured": ("collect azs-simm --to local", ExitCode.USAGE, ("azs-simm", "known: azs-sim")),
    "no destination": ("collect azs-sim", ExitCode.USAGE, ("no destination", "--to DEST")),
    "a destination's name misspelt": ("collect azs-sim --to loca", ExitCode.USAGE, ("'loca'", "known: local")),
    "a folder below a file": ("collect azs-sim --to {file}/logs", ExitCode.USAGE, ("{file}/logs", "is a file")),
    "a role misspelt": ("collect azs-sim --to local --role Storge", ExitCode.USAGE, ("did you mean Storage?",)),
    "a wrong password": ("collect azs-sim --to {out} --password-stdin", ExitCode.AUTHENTICATION, ("password",)),
    "a SAS among the arguments": (
        "collect azs-sim --to 'https://a.blob.core.windows.net/logs?sv=2019-02-02&sig=c2VjcmV0'",
        ExitCode.USAGE,
        ("PEP_BRIDGE_SAS",),
    ),
    "a window that is no time": (
        "collect azs-sim --since tuesdayish --to local",
        ExitCode.USAGE,
        ("'tuesdayish'", "4h"),
    ),
    "a window that ends before it starts": (
        "collect azs-sim --since 4h --until 8h --to local",
        ExitCode.USAGE,
        ("--since", "--until"),
    ),
    "an option misspelt": ("collect azs-sim --sinse 4h --to local", ExitCode.USAGE, ("--sinse", "--since")),
    "a verb misspelt": ("colect azs-sim --to local", ExitCode.USAGE, ("'colect'", "'collect'")),
    "verifying a folder that is no bundle": ("verify {plain}", ExitCode.VERIFICATION, ("{plain}", "bagit.txt")),
    "verifying what is not there": ("verify {plain}/nothing", ExitCode.USAGE, ("{plain}/nothing", "nothing is there")),
    "reporting what is not there": ("report {plain}/nothing", ExitCode.USAGE, ("{plain}/nothing", "nothing is there")),
    "delivering what is not there": ("deliver {plain}/nothing --to {out}", ExitCode.USAGE, ("nothing is there",)),
    "delivering what is no bundle": ("deliver {plain} --to {out}", ExitCode.VERIFICATION, ("{plain}", "bagit.txt")),
    "a key that the configuration has not": ("--config {config} stamp list", ExitCode.USAGE, ("{config}", "endpoint")),
    "a configuration that is not there": ("--config {plain}/no.toml stamp list", ExitCode.USAGE, ("{plain}/no.toml",)),
    "a configuration that is not there, with a verb that needs none": (
        "--config {plain}/no.toml status",
        ExitCode.USAGE,
        ("{plain}/no.toml", "no such file", "PEP_BRIDGE_CONFIG"),
    ),
    "a rate without a unit": ("deliver {plain} --to {out} --limit-rate 5", ExitCode.USAGE, ("no unit", "5Mbit")),
    "a run that never was": ("attach 19990101", ExitCode.USAGE, ("'19990101'", "history")),
    "a script that is not there": ("run no-such-script.ps1 azs-sim", ExitCode.USAGE, ("no-such-script.ps1", "--list")),
}
"""What is typed, the exit code, and words without which the answer would be of no use."""


def readme_lines() -> tuple[str, ...]:
    """The shell lines under "Try it, without a stamp" of the README, but those of make."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.split("## Try it, without a stamp", 1)[1].split("\n## ", 1)[0]
    blocks = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    return tuple(line for line in lines if line and not line.startswith("make "))


@dataclass(frozen=True, slots=True)
class Newcomer:
    """Types lines into a shell; what the README puts into ``/tmp`` is in a folder of the test."""

    folder: Path

    @property
    def ready_file(self) -> Path:
        return self.folder / "ready.json"

    def start(self, line: str, **environment: str) -> subprocess.Popen[str]:
        program = f"{shlex.quote(sys.executable)} -m cli.main"
        typed = line.replace(PROGRAM, program)
        for name in ("rehearsal", "ready.json"):
            typed = typed.replace(f"/tmp/{name}", str(self.folder / name))
        own = {"PEP_BRIDGE_STATE_DIR": str(self.folder / "state"), "PEP_BRIDGE_CONFIG": str(self.folder / "none.toml")}
        return subprocess.Popen(
            ["/bin/sh", "-e", "-c", typed],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=os.environ | QUIET | own | environment,
            start_new_session=True,
        )

    def type(self, line: str, *, answer: str = "", **environment: str) -> Done:
        with self.start(line, **environment) as process:
            stdout, stderr = process.communicate(answer)
        return Done(process.returncode, stdout, stderr)


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Newcomer]:
    """With the README's simulated stamp, in the README's first terminal."""
    if os.name == "nt":
        pytest.skip("not run: the README's lines are for a POSIX shell")
    found = Newcomer(tmp_path_factory.mktemp("newcomer"))
    with found.start("exec " + readme_lines()[0]) as simulator:
        try:
            deadline = time.monotonic() + 60
            while not found.ready_file.exists():
                if simulator.poll() is not None or time.monotonic() > deadline:
                    simulator.kill()
                    raise RuntimeError(f"the README's simulated stamp did not start: {simulator.communicate()}")
                time.sleep(0.05)
            yield found
        finally:
            simulator.send_signal(signal.SIGTERM)
            simulator.communicate()


def test_the_lines_of_the_readme_lead_from_nothing_to_a_verified_bundle(newcomer: Newcomer) -> None:
    lines = readme_lines()
    assert len([line for line in lines if PROGRAM in line]) < 5
    done = newcomer.type("\n".join(lines[1:]))
    assert done.returncode == ExitCode.OK, done.stderr
    [bundle] = (newcomer.folder / "rehearsal").glob(f"{STAMP}-*")
    assert (bundle / "bagit.txt").exists()
    collected, verified = (done.stdout.index(word) for word in ("bundle id", "verified"))
    assert collected < verified
    assert f"pep-bridge verify {bundle}" in done.stderr  # whoever reads no README is told the next line as well


@pytest.fixture(scope="module")
def names(newcomer: Newcomer) -> dict[str, str]:
    """What the mistakes are made with."""
    found = {name: newcomer.folder / name for name in ("plain", "file", "config", "out")}
    found["plain"].mkdir()
    (found["plain"] / "notes.txt").write_text("no bundle\n")
    found["file"].write_text("a file where a folder is to be\n")
    found["config"].write_text("[stamps.east]\nendpoint = ['192.0.2.1']\n")
    return {name: str(path) for name, path in found.items()}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_ends_with_its_exit_code_an_error_and_a_fix(
    newcomer: Newcomer, names: dict[str, str], mistake: str
) -> None:
    typed, code, words = MISTAKES[mistake]
    setting, *_ = readme_lines()[1:]
    done = newcomer.type(f"{setting}\n{PROGRAM} {typed.format(**names)}", answer="not the password\n")
    assert done.returncode == code, done.stderr
    assert re.search(r"^error: \S", done.stderr, re.MULTILINE), done.stderr
    assert re.search(r"^  fix: \S", done.stderr, re.MULTILINE), done.stderr
    for word in words:
        assert word.format(**names) in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert "Unexpected" not in done.stderr
    assert "c2VjcmV0" not in done.stdout + done.stderr
    assert not (newcomer.folder / "state" / "errors").exists()


def test_a_role_that_the_stamp_has_not_is_partial_and_named(newcomer: Newcomer) -> None:
    """The vendor's list differs by version, so it is sent all the same; nobody may take the result for complete."""
    setting, collect, _ = readme_lines()[1:]
    done = newcomer.type(f"{setting}\n{collect.replace('Storage,ACS', 'Xylophone')}")
    assert done.returncode == ExitCode.PARTIAL, done.stderr
    assert "not on the vendor's list of roles: Xylophone" in done.stderr
    assert re.search(r"^Xylophone +skipped", done.stdout, re.MULTILINE)
