"""Scripted sessions from the command line: every shipped script, what is refused and when, transcripts, and secrets."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge.endpoint.script import list_scripts
from bridge.errors import ExitCode
from bridge.simulator.stamp import SimulatedStamp, StampOptions
from tests.support.command_line import QUIET, ROOT, Done, Rehearsal, run
from tests.support.samba import Samba

SECRET_TOKEN = "s3cure-strin9-of-a-parameter"
DANGEROUS = "Get-AzureStackSupportConfiguration\nStop-AzureStack\n"


class Lab:
    """A simulated stamp in this process, so that its log of calls can be looked at, and the command line beside it."""

    def __init__(self, stamp: SimulatedStamp, folder: Path, samba: Samba) -> None:
        self.stamp, self.folder, self.samba = stamp, folder, samba
        self.line = Rehearsal(stamp.ready_document(), folder / "state")
        self.line.secrets["PEP_BRIDGE_SHARE_PASSWORD"] = samba.credential.password.reveal()

    def run(self, *arguments: str, **environment: str) -> Done:
        return self.line.run("run", *arguments, **environment)

    def script(self, text: str, name: str = "mine.ps1") -> str:
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return str(path)

    def calls(self) -> list[str]:
        return [call.name for call in self.stamp.state.calls]

    def share(self, folder: str) -> str:
        (self.samba.path("bundles") / folder).mkdir(parents=True, exist_ok=True)
        return self.samba.unc("bundles", folder)

    def record(self, done: Done) -> list[dict[str, Any]]:
        lines = Path(done.data["record"]).read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, samba: Samba) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("scripts")
    options = StampOptions(
        duration_s=0.3, size_bytes=300_000, seed=5, smb_port=samba.port, output_root=folder, client_lost_after_s=1
    )
    with SimulatedStamp(options) as stamp:
        yield Lab(stamp, folder, samba)


def arguments_of(lab: Lab, script: str) -> list[str]:
    to_share = [
        *("--OutputSharePath", lab.share(script), "--OutputShareCredential", lab.samba.credential.username),
        *("--FromDate", "-4h", "--ToDate=-1h"),
    ]
    return {
        "Get-StampLog": [*to_share, "--FilterByRole", "Storage"],
        "Invoke-StampOnDemandLog": [*to_share, "--FilterByRole", "SLB,Gateway", "--CollectRole", "Storage"],
        "Close-PepSession": [
            *("--TranscriptsPathDestination", lab.share(script), "--Credential", lab.samba.credential.username),
        ],
        "Test-Stamp": ["--Group", "UpdateReadiness", "--DetailedResults"],
        "Send-StampLog": ["-p", "FilterByRole=Storage", "-p", "FromDate=-4h"],
    }.get(script, [])


@pytest.mark.parametrize("name", [script.name for script in list_scripts()])
def test_each_shipped_script_runs_on_the_simulated_stamp_and_calls_what_it_says(lab: Lab, name: str) -> None:
    before = len(lab.calls())
    done = lab.run(name, lab.stamp.name, "--json", *arguments_of(lab, name))
    assert done.returncode == ExitCode.OK, done.stderr
    assert done.data["state"] == "completed"
    wanted = [each for each in dict.fromkeys(script_commands(name)) if each != "Get-Command"]
    assert list(dict.fromkeys(lab.calls()[before:])) == wanted
    assert not lab.stamp.state.dangerous_calls


def script_commands(name: str) -> tuple[str, ...]:
    return next(script.command_names for script in list_scripts() if script.name == name)


def test_results_are_objects_in_json_lines_a_table_and_clixml(lab: Lab) -> None:
    lines = lab.run("Get-StampStorageHealth", lab.stamp.name, "--output", "jsonl")
    disks = [json.loads(line) for line in lines.stdout.splitlines()]
    assert [disk["HealthStatus"] for disk in disks] == ["Healthy"] * 5
    table = lab.run("Get-StampStorageHealth", lab.stamp.name).stdout
    assert table.split()[0] == "FriendlyName"
    assert all(disk["FriendlyName"] in table for disk in disks)
    listed = lab.run("Get-StampInformation", lab.stamp.name).stdout
    assert f"RegionName : {lab.stamp.options.region}" in " ".join(listed.split())


@pytest.mark.engine
def test_clixml_results_are_read_by_powershell(lab: Lab, pwsh: str) -> None:
    done = lab.run("Get-StampStorageHealth", lab.stamp.name, "--output", "clixml")
    file = lab.folder / "disks.xml"
    file.write_text(done.stdout, encoding="utf-8")
    code = (
        f"$all = [System.Management.Automation.PSSerializer]::Deserialize([IO.File]::ReadAllText('{file}'));"
        "$all | ForEach-Object { $_.FriendlyName + '=' + $_.Size }"
    )
    read = subprocess.run([pwsh, "-NoProfile", "-Command", code], capture_output=True, text=True, check=False)
    assert read.stdout.split() == [
        f"{name}=2199023255552"
        for name in (
            "SU1_Infrastructure_1",
            "SU1_Infrastructure_2",
            "SU1_Infrastructure_3",
            "SU1_Public",
            "SU1_ObjStore",
        )
    ], read.stderr


def test_other_streams_go_to_stderr_and_are_kept_apart_in_json(lab: Lab) -> None:
    done = lab.run("Get-StampAlert", lab.stamp.name, "--json")
    assert done.data["records"]["information"] == 1
    assert done.data["streams"]["information"] == ["AzsAlertSummary                          PASS"]
    assert [result["Result"] for result in done.data["output"]] == ["PASS"]
    assert "information: AzsAlertSummary" in done.stderr


def test_errors_that_do_not_end_a_script_are_counted_and_told_by_exit_code_8(lab: Lab) -> None:
    script = lab.script(
        f"Get-AzureStackLog -OutputPath '{lab.folder}/none' -FilterByRole NoSuchRole -ErrorAction Continue\n"
        "Get-AzureStackSupportConfiguration\n"
        "Close-PrivilegedEndpoint '\\\\127.0.0.1\\nosuchshare'\n"
        "Get-SupportSessionInfo\n"
    )
    done = lab.run(script, lab.stamp.name, "--json")
    assert done.returncode == ExitCode.PARTIAL, done.stderr
    assert done.data["records"]["error"] >= 1
    assert done.data["streams"]["error"]
    assert done.data["output"][-1]["IsLocked"] is True


def test_a_refused_script_is_told_with_its_place_and_nothing_is_sent(lab: Lab) -> None:
    script = lab.script("# fine\nGet-AzureStackLog -FromDate (Get-Date).AddHours(-8)\n", "refused.ps1")
    before = len(lab.calls())
    done = lab.run(script, lab.stamp.name, "--json")
    assert done.returncode == ExitCode.USAGE
    [error] = done.document["errors"]
    assert error["error"] == "ScriptRefusedError"
    assert f"{script}:2:" in error["message"]
    assert error["fix"]
    assert len(lab.calls()) == before


def test_a_dangerous_command_is_refused_until_it_is_allowed_and_confirmed_by_name(lab: Lab) -> None:
    script = lab.script(DANGEROUS)
    before = len(lab.calls())
    refused = lab.run(script, lab.stamp.name)
    assert refused.returncode == ExitCode.USAGE
    assert "--allow Stop-AzureStack" in refused.stderr
    unconfirmed = lab.run(script, lab.stamp.name, "--allow", "Stop-AzureStack")
    assert unconfirmed.returncode == ExitCode.USAGE
    assert "not confirmed" in unconfirmed.stderr
    other = lab.run(script, lab.stamp.name, "--allow", "Stop-AzureStack", PEP_BRIDGE_CONFIRM="Start-AzureStack")
    assert other.returncode == ExitCode.USAGE
    assert lab.calls()[before:] == []
    allowed = lab.run(
        script, lab.stamp.name, "--allow", "Stop-AzureStack", "--json", PEP_BRIDGE_CONFIRM="stop-azurestack"
    )
    assert allowed.returncode == ExitCode.OK, allowed.stderr
    assert lab.calls()[before:] == ["Get-AzureStackSupportConfiguration", "Stop-AzureStack"]
    assert ["Stop-AzureStack"] in [event.get("commands") for event in lab.record(allowed)]


@pytest.mark.skipif(sys.platform == "win32", reason="not run: a terminal of one's own is a pty")
@pytest.mark.parametrize(("typed", "called"), [("Stop-AzureStack\n", True), ("yes\n", False)])
def test_at_a_terminal_the_name_is_typed(lab: Lab, typed: str, called: bool) -> None:
    before = len(lab.calls())
    arguments = lab.line.arguments("run", lab.script(DANGEROUS), lab.stamp.name, "--allow", "Stop-AzureStack")
    done = at_a_terminal(arguments, typed, lab.line.secrets)
    assert (done.returncode == ExitCode.OK) is called, done.stderr
    assert ("Stop-AzureStack" in lab.calls()[before:]) is called


def at_a_terminal(arguments: list[str], typed: str, environment: dict[str, str]) -> Done:
    ours, theirs = os.openpty()
    try:
        os.write(ours, typed.encode())
        done = subprocess.run(
            [sys.executable, "-m", "cli.main", *arguments],
            stdin=theirs,
            capture_output=True,
            text=True,
            cwd=ROOT,
            env=os.environ | QUIET | environment,
            check=False,
        )
    finally:
        os.close(ours)
        os.close(theirs)
    return Done(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("Get-AzureStackLog -FilterByRol1 Storage\n", "ParameterRejectedError"),
        ("Get-SupportSessionInfo\nGet-AzureStackLog -FilterBy Storage\n", "ParameterRejectedError"),
        ("Get-AzureStackLog -AsJob\n", "ParameterRejectedError"),
        ("Get-SupportSessionInfo\nGet-AzureStackLogs\n", "CommandNotFoundError"),
    ],
)
def test_what_the_endpoint_would_refuse_is_caught_before_anything_runs(lab: Lab, text: str, error: str) -> None:
    before = len(lab.calls())
    done = lab.run(lab.script(text), lab.stamp.name, "--json")
    assert done.returncode == ExitCode.NOT_PERMITTED
    assert [each["error"] for each in done.document["errors"]] == [error]
    assert lab.calls()[before:] == []


def test_abbreviated_parameters_reach_the_endpoint_as_powershell_would_take_them(lab: Lab) -> None:
    script = lab.script("Get-AzureStackSupportConfiguration -IncludeReg -ea Stop\n")
    done = lab.run(script, lab.stamp.name, "--json")
    assert done.returncode == ExitCode.OK, done.stderr
    assert "RegistrationObjectId" in done.data["output"][0]


def test_validation_that_repairs_is_not_read_only(lab: Lab) -> None:
    done = lab.run(lab.script("Test-AzureStack -Repair\n"), lab.stamp.name)
    assert done.returncode == ExitCode.USAGE
    assert "--allow Test-AzureStack" in done.stderr


def test_a_dry_run_prints_what_would_be_sent_and_needs_no_stamp_and_no_secret(lab: Lab) -> None:
    arguments = ("-p", r"OutputSharePath=\\192.0.2.10\logs", "-p", r"OutputShareCredential=CORP\writer")
    done = run("run", "Get-StampLog", *arguments, "-p", "FromDate=2026-11-23T08:00+01:00", "--dry-run", "--json")
    assert done.returncode == ExitCode.OK, done.stderr
    [command] = done.data["commands"]
    assert command == {
        "name": "Get-AzureStackLog",
        "parameters": [
            ["OutputSharePath", r"\\192.0.2.10\logs"],
            [
                "OutputShareCredential",
                {"type": "System.Management.Automation.PSCredential", "text": r"CORP\writer ***"},
            ],
            ["FromDate", {"type": "System.DateTime", "text": "2026-11-23T08:00:00+01:00"}],
        ],
        "end_of_statement": False,
    }
    dangerous = run("run", lab.script(DANGEROUS), "--dry-run")
    assert dangerous.stdout.split() == ["Get-AzureStackSupportConfiguration", "Stop-AzureStack"]
    assert "--allow Stop-AzureStack" in dangerous.stderr


def test_parameters_come_from_options_a_file_and_pairs_and_the_pair_wins(lab: Lab) -> None:
    script = "param([Parameter(Mandatory)][string[]]$Role, [int]$Minutes = 5, [switch]$Dump)\n"
    script += "Get-AzureStackLog -FilterByRole $Role -TimeOutInMinutes $Minutes -IncludeDumpFile:$Dump\n"
    path = lab.script(script, "parameters.ps1")
    for name, text in (("a.json", '{"Role": ["ACS", "ECE"], "Minutes": 7}'), ("a.toml", 'Role = "ACS,ECE"\nMinutes=7')):
        file = lab.folder / name
        file.write_text(text, encoding="utf-8")
        done = run("run", path, "--parameters-file", str(file), "--Dump", "-p", "Minutes=9", "--dry-run", "--json")
        assert done.returncode == ExitCode.OK, done.stderr
        values = [value for name, value in done.data["commands"][0]["parameters"] if value is not None]
        assert values == [["ACS", "ECE"], 9, True]
    missing = run("run", path, "--dry-run")
    assert missing.returncode == ExitCode.USAGE
    assert "Role" in missing.stderr
    unknown = run("run", path, "--Rolle", "x", "--dry-run")
    assert unknown.returncode == ExitCode.USAGE
    assert "--Rolle" in unknown.stderr


def test_a_script_has_its_own_help_with_its_parameters_as_options() -> None:
    done = run("run", "Test-Stamp", "--help")
    assert done.returncode == ExitCode.OK
    assert "Validates the state of a stamp." in done.stdout
    assert "--DetailedResults" in done.stdout
    listed = run("run", "--list")
    assert [line.split()[0] for line in listed.stdout.splitlines()] == [script.name for script in list_scripts()]


# -- transcripts -------------------------------------------------------------------------------------------------------


def test_a_closed_session_leaves_its_transcripts_on_the_share_and_one_that_is_not_says_so(lab: Lab) -> None:
    share = lab.share("transcripts")
    user = ("--share-username", lab.samba.credential.username)
    place = lab.samba.url("bundles", "transcripts")
    kept = lab.run("Get-StampSupportSession", lab.stamp.name, "--json")
    assert kept.data["closed"] is False
    assert "transcripts of this session stay" in kept.stderr
    assert "stay on the endpoint" in lab.record(kept)[-1]["how"]
    done = lab.run("Get-StampSupportConfiguration", lab.stamp.name, "--close", place, *user, "--json")
    assert done.returncode == ExitCode.OK, done.stderr
    assert done.data["closed"] is True
    folders = list((lab.samba.path("bundles") / "transcripts").glob("Transcripts_*"))
    assert folders, share
    text = "".join(file.read_text(encoding="utf-8") for folder in folders for file in folder.iterdir())
    assert "Get-AzureStackSupportConfiguration" in text
    assert lab.record(done)[-1]["event"] == "closed"


def test_a_session_that_could_not_be_closed_ends_with_an_error_and_keeps_the_results(lab: Lab) -> None:
    place = lab.samba.url("nosuchshare")
    done = lab.run(
        "Get-StampSupportSession", lab.stamp.name, "--close", place, "--share-username", "PEPTEST\\collector", "--json"
    )
    assert done.returncode != ExitCode.OK
    assert done.data["closed"] is False
    assert done.data["output"][0]["IsLocked"] is True


def test_transcripts_do_not_go_into_a_bundle(lab: Lab) -> None:
    place = lab.samba.url("bundles", "east-20261123T135500Z-1a2b3c4d")
    done = lab.run(
        "Get-StampSupportSession", lab.stamp.name, "--close", place, "--share-username", "PEPTEST\\collector"
    )
    assert done.returncode == ExitCode.USAGE
    assert "never inside" in done.stderr


# -- send --------------------------------------------------------------------------------------------------------------


def test_sending_shows_the_consent_text_and_records_the_answer(lab: Lab) -> None:
    before = len(lab.calls())
    refused = lab.line.run("send", lab.stamp.name, "--since", "4h", "--role", "Storage")
    assert refused.returncode == ExitCode.USAGE
    assert "consent" in refused.stderr
    assert lab.calls()[before:] == []
    done = lab.line.run("send", lab.stamp.name, "--since", "4h", "--role", "Storage", "--consent", "--json")
    assert done.returncode == ExitCode.OK, done.stderr
    assert lab.calls()[before:] == ["Send-AzureStackDiagnosticLog"]
    assert done.data["output"][0]["Status"] == "Success"
    assert "progress: Send-AzureStackDiagnosticLog" in done.stderr
    [consent] = [event for event in lab.record(done) if event["event"] == "consent"]
    assert consent["text"] in done.stderr
    assert consent["how"] == "by --consent"


def test_a_stamp_without_registration_cannot_send_and_says_why(tmp_path: Path, samba: Samba) -> None:
    with SimulatedStamp(StampOptions(duration_s=0.1, registered=False, output_root=tmp_path)) as stamp:
        lab = Lab(stamp, tmp_path, samba)
        done = lab.line.run("send", stamp.name, "--consent", "--json")
    assert done.returncode == ExitCode.UNEXPECTED
    assert "not registered" in done.document["errors"][0]["message"]


# -- records, secrets, Ctrl-C ------------------------------------------------------------------------------------------


def test_every_session_leaves_a_record_for_its_owner_alone(lab: Lab) -> None:
    done = lab.run("Get-StampSupportSession", lab.stamp.name, "--json")
    events = [line["event"] for line in lab.record(done)]
    assert events == ["begun", "opened", "sent", "record", "ended", "closed"]
    assert all(line["at"].endswith("Z") for line in lab.record(done))
    if os.name == "posix":
        assert stat.S_IMODE(Path(done.data["record"]).stat().st_mode) == 0o600


def test_a_refused_password_leaves_a_record_too(lab: Lab) -> None:
    records = lab.folder / "state" / "sessions"
    before = set(records.iterdir())
    password = lab.script("not-the-password\n", "wrong.txt")
    Path(password).chmod(0o600)
    config = Path(lab.line.ready["config"]).read_text(encoding="utf-8").replace("password.txt", password)
    wrong = lab.script(config, "wrong.toml")
    done = run("--config", wrong, "--state-dir", str(lab.folder / "state"), "run", "Get-StampAlert", lab.stamp.name)
    assert done.returncode == ExitCode.AUTHENTICATION, done.stderr
    [new] = set(records.iterdir()) - before
    lines = [json.loads(line) for line in new.read_text(encoding="utf-8").splitlines()]
    assert [line["event"] for line in lines] == ["begun", "closed"]
    assert "AuthenticationFailedError" in lines[-1]["how"]


def test_no_known_secret_is_in_anything_that_is_written_or_shown(lab: Lab) -> None:
    secrets = [lab.stamp.password.reveal(), lab.samba.credential.password.reveal(), SECRET_TOKEN]
    token = lab.script("param([securestring]$Token)\nUnlock-SupportSession -ResponseToken $Token\n", "token.ps1")
    environment = {"PEP_BRIDGE_PARAMETER_TOKEN": SECRET_TOKEN, "PEP_BRIDGE_CONFIRM": "Unlock-SupportSession"}
    share = ("--close", lab.samba.url("bundles", "secrets"), "--share-username", lab.samba.credential.username)
    lab.share("secrets")
    allow = ("--allow", "Unlock-SupportSession")
    shown = ""
    for form in ("table", "jsonl", "clixml"):
        done = lab.run(token, lab.stamp.name, "-p", "Token", *allow, *share, "--output", form, **environment)
        assert done.returncode == ExitCode.OK, done.stderr
        shown += done.stdout + done.stderr
    done = lab.run("Get-StampLog", lab.stamp.name, "--json", *arguments_of(lab, "Get-StampLog"))
    shown += done.stdout + done.stderr
    assert "***" in (lab.folder / "state" / "sessions" / Path(done.data["record"]).name).read_text(encoding="utf-8")
    written = [path for path in (lab.folder / "state").rglob("*") if path.is_file()]
    assert len(written) >= 4
    for secret in secrets:
        assert secret not in shown
        assert not [path for path in written if secret.encode() in path.read_bytes()]


def test_a_secure_string_on_the_command_line_is_refused(lab: Lab) -> None:
    token = lab.script("param([securestring]$Token)\nUnlock-SupportSession -ResponseToken $Token\n", "token.ps1")
    done = lab.run(token, lab.stamp.name, "-p", f"Token={SECRET_TOKEN}")
    assert done.returncode == ExitCode.USAGE
    assert SECRET_TOKEN not in done.stdout + done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="not run: SIGINT to another process is not to be had on Windows")
def test_ctrl_c_stops_the_script_on_the_endpoint(tmp_path: Path, samba: Samba) -> None:
    with SimulatedStamp(StampOptions(duration_s=600, output_root=tmp_path)) as stamp:
        lab = Lab(stamp, tmp_path, samba)
        process = lab.line.start("send", stamp.name, "--consent", "--json")
        with process:
            assert process.stderr is not None
            for line in process.stderr:
                if line.startswith("progress:"):
                    break
            process.send_signal(signal.SIGINT)
            stdout, stderr = process.communicate()
        assert process.returncode == ExitCode.INTERRUPTED, stderr
        assert json.loads(stdout)["data"]["state"] == "stopped"
        assert not [shell for server in stamp.servers for shell in server.shells()]
