"""The command as a process: help, usage errors, the JSON document, secrets on the command line."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bridge.errors import ExitCode
from cli._words import quoted

ROOT = Path(__file__).parents[2]


def pep_bridge(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cli.main", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=os.environ | {"NO_COLOR": "1", "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring"} | environment,
        stdin=subprocess.DEVNULL,
    )


def verbs() -> list[str]:
    from cli.main import app

    return [command.name or str(getattr(command.callback, "__name__", "")) for command in app.registered_commands]


@pytest.mark.parametrize("verb", verbs())
def test_every_verb_explains_itself_with_an_example(verb: str) -> None:
    done = pep_bridge(verb, "--help")
    assert done.returncode == 0, done.stderr
    assert f"pep-bridge {verb}" in done.stdout.replace("Usage: pep-bridge " + verb, "", 1)


def test_help_imports_nothing_that_is_slow() -> None:
    code = (
        "import sys, runpy; sys.argv = ['pep-bridge', '--help']\n"
        "try: runpy.run_module('cli.main', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "slow = {'pypsrp', 'psrpcore', 'requests', 'smbprotocol', 'azure', 'cryptography', 'pydantic', 'jinja2'}\n"
        "print(sorted(slow & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.stderr.strip() == "[]"


def test_no_verb_shows_the_help_and_is_a_usage_error() -> None:
    done = pep_bridge()
    assert done.returncode == ExitCode.USAGE
    assert "collect" in done.stdout


@pytest.mark.parametrize("arguments", [("bogus",), ("verify",), ("verify", "x", "--bogus"), ("collect",)])
def test_a_usage_error_says_where_to_look(arguments: tuple[str, ...]) -> None:
    done = pep_bridge(*arguments)
    assert done.returncode == ExitCode.USAGE
    assert "--help" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_usage_error_is_a_json_document_too() -> None:
    done = pep_bridge("verify", "--bogus", "--json")
    document = json.loads(done.stdout)
    assert document["schema_version"] == 1
    assert document["command"] == "verify"
    assert document["ok"] is False
    assert document["exit_code"] == done.returncode == ExitCode.USAGE
    assert document["errors"][0]["fix"]


def test_a_sas_on_the_command_line_is_refused_and_not_repeated() -> None:
    done = pep_bridge("deliver", "x", "--to", "https://a.blob.example/c?sv=2019-02-02&sig=Zm9vYmFy", "--json")
    assert done.returncode == ExitCode.USAGE
    assert "PEP_BRIDGE_SAS" in done.stderr
    assert "Zm9vYmFy" not in done.stdout + done.stderr


def test_an_unknown_stamp_is_named_without_a_traceback(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text("[stamps.east]\nendpoints = ['10.0.0.1']\n", encoding="utf-8")
    done = pep_bridge("--config", str(config), "collect", "west", "--to", str(tmp_path))
    assert done.returncode == ExitCode.USAGE
    assert "'west'" in done.stderr
    assert "east" in done.stderr


def test_a_stamp_is_added_and_listed(tmp_path: Path) -> None:
    config = tmp_path / "new" / "config.toml"
    added = pep_bridge(
        "--config", str(config), "stamp", "add", "east", "--endpoint", "10.0.0.1", "--username", "A\\CloudAdmin"
    )
    assert added.returncode == 0, added.stderr
    listed = json.loads(pep_bridge("--config", str(config), "stamp", "list", "--json").stdout)
    assert listed["data"]["stamps"]["east"]["username"] == "A\\CloudAdmin"


def test_the_origin_of_a_setting_is_told(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text("[transfer]\nconnections = 2\n", encoding="utf-8")
    done = pep_bridge("--config", str(config), "config", "show", "--origin", PEP_BRIDGE_TRANSFER__LIMIT_RATE="5Mbit")
    assert "transfer.connections = 2  (file)" in done.stdout
    assert "transfer.limit_rate = '5Mbit'  (environment)" in done.stdout


def test_every_exit_code_is_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for code in ExitCode:
        assert f"\n| {int(code)} | " in readme, code


def test_a_misspelt_destination_does_not_become_a_folder(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(
        "[stamps.east]\nendpoints = ['10.0.0.1']\nshared_disk = true\n[destinations.nas]\nlocation = '/nowhere'\n",
        encoding="utf-8",
    )
    done = pep_bridge("--config", str(config), "--state-dir", str(tmp_path), "collect", "east", "--to", "nass")
    assert done.returncode == ExitCode.USAGE
    assert "'nass'" in done.stderr
    assert "known: nas)" in done.stderr
    assert "./nass" in done.stderr
    assert not (ROOT / "nass").exists()


def test_a_test_never_writes_into_the_home_of_whoever_runs_it(tmp_path: Path) -> None:
    done = pep_bridge("history", HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []
    assert Path(os.environ["PEP_BRIDGE_STATE_DIR"], "journal.sqlite").exists()


@pytest.mark.parametrize("state_dir", ["{file}/below", "/proc/nope"])
@pytest.mark.parametrize("verb", ["history", "status", "attach"])
def test_a_state_folder_that_cannot_be_used_is_a_usage_error_with_advice(
    tmp_path: Path, state_dir: str, verb: str
) -> None:
    (tmp_path / "file").touch()
    done = pep_bridge("--state-dir", state_dir.format(file=tmp_path / "file"), verb)
    assert done.returncode == ExitCode.USAGE
    assert "error: The state folder " in done.stderr
    assert "--state-dir" in done.stderr.partition("fix: ")[2]


@pytest.mark.parametrize(
    ("arguments", "verb"),
    [
        (("share", "prepare", "--bogus"), "share prepare"),
        (("stamp", "add"), "stamp add"),
        (("config", "set", "one"), "config set"),
        (("watch", "install"), "watch install"),
        (("--config", "share", "stamp", "list", "--bogus"), "stamp list"),
        (("--state-dir", "collect", "history", "--bogus"), "history"),
    ],
)
def test_the_document_of_a_usage_error_names_the_verb_with_its_group(arguments: tuple[str, ...], verb: str) -> None:
    document = json.loads(pep_bridge(*arguments, "--json").stdout)
    assert document["command"] == verb
    assert f"'pep-bridge {verb} --help'" in document["errors"][0]["fix"]


@pytest.mark.parametrize("verb", ["deliver", "report", "verify"])
@pytest.mark.parametrize(
    ("place", "code", "told"),
    [
        ("plain", ExitCode.VERIFICATION, "it is another folder, was never sealed, or is a delivery that has not ended"),
        ("nothing", ExitCode.USAGE, "nothing is there"),
    ],
)
def test_what_is_no_bundle_is_said_in_the_same_words_by_every_verb(
    tmp_path: Path, verb: str, place: str, code: ExitCode, told: str
) -> None:
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "a file").touch()
    to = ["--to", str(tmp_path / "copies")] if verb == "deliver" else []
    done = pep_bridge(verb, str(tmp_path / place), *to)
    assert done.returncode == code
    assert told in done.stderr
    assert "pep-bridge history" in done.stderr
    assert not (tmp_path / place / "bagit.txt").exists()


def stamp_of(folder: Path) -> Path:
    config = folder / "config.toml"
    config.write_text("[stamps.east]\nendpoints = ['127.0.0.1']\nshared_disk = true\n", encoding="utf-8")
    return config


@pytest.mark.parametrize("verb", ["collect", "plan"])
def test_a_log_type_that_no_stamp_has_is_refused_before_anything_is_sent(tmp_path: Path, verb: str) -> None:
    before = ["--config", str(stamp_of(tmp_path)), "--state-dir", str(tmp_path / "state")]
    done = pep_bridge(*before, verb, "east", "--to", str(tmp_path), "--log-type", "file,WindowsEvents")
    assert done.returncode == ExitCode.USAGE
    assert "no log type 'WindowsEvents'; did you mean WindowsEvent?" in done.stderr


def test_a_misspelt_role_is_answered_with_the_one_that_was_meant(tmp_path: Path) -> None:
    before = ["--config", str(stamp_of(tmp_path)), "--state-dir", str(tmp_path / "state")]
    done = pep_bridge(*before, "plan", "east", "--to", str(tmp_path), "--role", "Storge,ACS,Gizmo")
    assert done.returncode == 0, done.stderr
    assert "no role 'Storge'; did you mean Storage?" in done.stderr
    assert "'ACS'; did" not in done.stderr
    assert "'Gizmo'; did" not in done.stderr


@pytest.mark.parametrize("verb", ["collect", "send", "watch"])
def test_a_role_that_looks_misspelt_is_not_sent_where_nobody_can_be_asked(tmp_path: Path, verb: str) -> None:
    before = ["--config", str(stamp_of(tmp_path)), "--state-dir", str(tmp_path / "state")]
    to = [] if verb == "send" else ["--to", str(tmp_path)]
    done = pep_bridge(*before, verb, "east", *to, "--role", "Storag,Gizmo")
    assert done.returncode == ExitCode.USAGE
    assert "'Storag' (did you mean Storage?). Nothing was sent." in done.stderr
    assert "Gizmo" not in done.stderr, "a role unlike any other is the stamp's to judge"
    assert "--send-unknown-roles" in done.stderr
    meant = pep_bridge(*before, verb, "east", *to, "--role", "Storag", "--send-unknown-roles")
    assert "Storag" not in meant.stderr
    assert "user name" in meant.stderr or "onsent" in meant.stderr, "it goes on to what else is needed"


@pytest.mark.skipif(sys.platform == "win32", reason="not run: Windows has no pty")
def test_a_role_that_looks_misspelt_is_asked_for_in_a_terminal_and_no_is_the_default(tmp_path: Path) -> None:
    from tests.support.terminals import terminal

    before = ["--config", str(stamp_of(tmp_path)), "--state-dir", str(tmp_path / "state")]
    with terminal(*before, "collect", "east", "--to", str(tmp_path), "--role", "Storag") as screen:
        screen.wait_for("did you mean Storage?", "[y/N]")
        screen.type("\n")
        assert screen.wait() == ExitCode.USAGE
        assert "Nothing was sent." in screen.text


@pytest.mark.skipif(sys.platform == "win32", reason="not run: Windows has no pty")
def test_ctrl_c_at_a_question_is_an_interrupt_and_no_defect(tmp_path: Path) -> None:
    from tests.support.terminals import terminal

    config = tmp_path / "config.toml"
    config.write_text("[stamps.east]\nendpoints = ['127.0.0.1']\nusername = 'A\\B'\n".replace("A\\B", "admin"))
    before = ["--config", str(config), "--state-dir", str(tmp_path / "state")]
    with terminal(*before, "collect", "east", "--to", str(tmp_path)) as screen:
        screen.wait_for("assword")
        screen.type("\x03")
        assert screen.wait() == ExitCode.INTERRUPTED, screen.text
    assert not (tmp_path / "state" / "errors").exists()


def test_a_file_as_the_destination_is_named(tmp_path: Path) -> None:
    (tmp_path / "hosts").touch()
    before = ["--config", str(stamp_of(tmp_path)), "--state-dir", str(tmp_path / "state")]
    for place in (tmp_path / "hosts", tmp_path / "hosts" / "below"):
        done = pep_bridge(*before, "collect", "east", "--to", str(place))
        assert done.returncode == ExitCode.USAGE
        assert f"{place} cannot hold bundles: {tmp_path / 'hosts'} is a file." in done.stderr


@pytest.mark.parametrize("verb", ["verify", "prune"])
def test_who_opens_a_share_has_one_name_and_the_former_one_is_still_taken(tmp_path: Path, verb: str) -> None:
    limits = ["--keep", "1"] if verb == "prune" else []
    page = pep_bridge(verb, "--help").stdout
    assert "--share-username" in page
    assert "--username" not in page.replace("--share-username", "")
    for option in ("--share-username", "--username"):
        before = ["--state-dir", str(tmp_path), verb, "smb://127.0.0.1:1/share", *limits]
        done = pep_bridge(*before, option, "somebody", "--json")
        assert "somebody" in done.stderr + done.stdout, done.stderr


@pytest.mark.parametrize("arguments", [("run", "--list"), ("watch", "alerts", "--json")])
def test_a_reader_that_has_seen_enough_is_no_error(arguments: tuple[str, ...]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as nobody:
        done = subprocess.run(
            [sys.executable, "-m", "cli.main", *arguments],
            stdout=nobody,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            cwd=ROOT,
        )
    assert done.returncode == 0, done.stderr
    assert "rror" not in done.stderr


def test_a_table_that_nobody_reads_any_more_is_no_error() -> None:
    code = (
        "from rich.table import Table; from cli._console import Console\n"
        "console = Console(as_json=False); console.show_table(Table('a')); console.show('b'); console.say('went on')"
    )
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as nobody:
        done = subprocess.run(
            [sys.executable, "-c", code], stdout=nobody, stderr=subprocess.PIPE, text=True, check=False, cwd=ROOT
        )
    assert (done.returncode, done.stderr) == (0, "went on\n")


@pytest.mark.parametrize(
    ("platform", "text", "pasted"),
    [
        ("linux", "/srv/logs/east", "/srv/logs/east"),
        ("linux", r"\\nas\drop\it's here", "'" + r"\\nas\drop\it" + "'\"'\"'" + "s here'"),
        ("win32", r"C:\Logs\east", r"C:\Logs\east"),
        ("win32", r"\\nas\drop$\two words", r'"\\nas\drop$\two words"'),
    ],
)
def test_a_place_that_is_told_can_be_pasted_into_the_shell_of_its_system(
    monkeypatch: pytest.MonkeyPatch, platform: str, text: str, pasted: str
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    assert quoted(text) == pasted


def test_help_is_given_although_the_configuration_that_was_named_is_gone(tmp_path: Path) -> None:
    stale = str(tmp_path / "gone.toml")
    assert pep_bridge("collect", "--help", PEP_BRIDGE_CONFIG=stale).returncode == 0
    told = pep_bridge("status", PEP_BRIDGE_CONFIG=stale)
    assert told.returncode == ExitCode.USAGE
    assert "no such file" in told.stderr


def test_the_shipped_scripts_are_listed_in_columns() -> None:
    lines = [line for line in pep_bridge("run", "--list").stdout.splitlines() if line]
    starts = {len(re.match(r"\S+\s+", line)[0]) for line in lines}  # type: ignore[index]
    assert len(starts) == 1, lines
