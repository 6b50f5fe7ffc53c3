"""A staging share from the command line: pywinrm's sealed conversation on the wire, a real PowerShell behind it."""

from __future__ import annotations

import base64
import contextlib
import re
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge.errors import (
    ExitCode,
    StagingAuthenticationError,
    StagingError,
    StagingUnreachableError,
    UsageError,
)
from bridge.secrets import Credential, Secret
from bridge.simulator import EndpointServer
from bridge.staging import (
    LONGEST_COMMAND_LINE,
    StagingHost,
    StagingShare,
    command_line,
    prepare_share,
    remove_share,
    show_share,
)
from tests.support.command_line import Done, run

SCRIPTS = sorted((Path(__file__).parents[2] / "bridge" / "staging").glob("*.ps1"))
SHARE = StagingShare("PepStaging", "D:\\Staging", "CONTOSO\\writer")
PROGRAM_DATA = "[Environment]::GetFolderPath('CommonApplicationData')"


class WindowsHost:
    """What a Windows host would do with a command line: PowerShell runs it, with the host's own commands played."""

    def __init__(self, folder: Path, pwsh: str | None) -> None:
        self.folder, self._pwsh = folder, pwsh
        self.lines: list[str] = []
        self.answer = (b"", b"", 0)

    def __call__(self, line: str) -> tuple[bytes, bytes, int]:
        self.lines.append(line)
        if self._pwsh is None:
            return self.answer
        script = decode(line).replace(PROGRAM_DATA, f"'{self.folder / 'ProgramData'}'")
        played = Path(__file__).with_name("windows_host.ps1").read_text(encoding="utf-8")
        file = self.folder / "command.ps1"
        file.write_text(f"{played}\n{script}\n", encoding="utf-8-sig")
        done = subprocess.run(
            [self._pwsh, "-NoProfile", "-File", str(file)], capture_output=True, cwd=self.folder, check=False
        )
        return done.stdout, done.stderr, done.returncode

    def facts(self) -> list[str]:
        file = self.folder / "host.txt"
        return file.read_text(encoding="utf-8").split("\n")[:-1] if file.exists() else []


def decode(line: str) -> str:
    start, _, encoded = line.rpartition(" ")
    assert start == "powershell.exe -NoProfile -NonInteractive -EncodedCommand"
    return base64.b64decode(encoded).decode("utf-16-le")


@pytest.fixture
def windows(tmp_path: Path, pwsh: str) -> WindowsHost:
    return WindowsHost(tmp_path, pwsh)


@pytest.fixture
def server(windows: WindowsHost) -> Iterator[EndpointServer]:
    with EndpointServer(cmd_shell=windows) as found:
        yield found


@pytest.fixture
def host(server: EndpointServer) -> StagingHost:
    return host_of(server)


def host_of(server: EndpointServer) -> StagingHost:
    account = server.account
    return StagingHost(server.host, Credential(account.username, account.password), server.port)


@pytest.mark.engine
def test_preparing_makes_folder_share_and_rights_and_no_firewall_rule(host: StagingHost, windows: WindowsHost) -> None:
    found = prepare_share(host, SHARE)
    assert found.unc == f"\\\\{host.host}\\PepStaging"
    assert found.free_bytes > 0
    assert found.added == ("folder", "share", "access to the folder")
    assert (windows.folder / "D:\\Staging").is_dir()
    assert windows.facts() == [
        "share|PepStaging|D:\\Staging",
        "access|PepStaging|CONTOSO\\writer|Change",
        "acl|D:\\Staging|CONTOSO\\writer",
    ]


@pytest.mark.engine
def test_preparing_twice_adds_nothing_and_forgets_nothing(host: StagingHost, windows: WindowsHost) -> None:
    first = prepare_share(host, SHARE)
    facts = windows.facts()
    assert prepare_share(host, SHARE).added == first.added
    assert windows.facts() == facts


@pytest.mark.engine
def test_a_firewall_rule_is_made_only_when_asked_for_and_taken_away_again(
    host: StagingHost, windows: WindowsHost
) -> None:
    share = StagingShare("PepStaging", "D:\\Staging", "CONTOSO\\writer", ("192.0.2.224", "192.0.2.0/28"))
    assert "firewall rule" in prepare_share(host, share).added
    assert "rule|pep-bridge-PepStaging|Inbound TCP 445 Allow 192.0.2.224,192.0.2.0/28" in windows.facts()
    assert remove_share(host, "PepStaging").removed[0] == "firewall rule pep-bridge-PepStaging"
    assert windows.facts() == []


@pytest.mark.engine
def test_removing_takes_away_exactly_what_was_added(host: StagingHost, windows: WindowsHost) -> None:
    prepare_share(host, SHARE)
    found = remove_share(host, "PepStaging")
    assert found.removed == (
        "share PepStaging",
        "access of CONTOSO\\writer to the folder",
        "folder D:\\Staging",
    )
    assert windows.facts() == []
    assert not (windows.folder / "D:\\Staging").exists()
    again = remove_share(host, "PepStaging")
    assert (again.removed, again.kept) == ((), ())


@pytest.mark.engine
def test_what_was_there_before_stays(host: StagingHost, windows: WindowsHost) -> None:
    (windows.folder / "D:\\Staging").mkdir()
    before = ["share|PepStaging|D:\\Staging", "access|PepStaging|CONTOSO\\boss|Full", "acl|D:\\Staging|CONTOSO\\boss"]
    (windows.folder / "host.txt").write_text("".join(f"{line}\n" for line in before), encoding="utf-8")
    assert prepare_share(host, SHARE).added == ("access to the share", "access to the folder")
    assert set(windows.facts()) > set(before)
    remove_share(host, "PepStaging")
    assert windows.facts() == before
    assert (windows.folder / "D:\\Staging").is_dir()


@pytest.mark.engine
def test_a_folder_with_files_in_it_is_kept(host: StagingHost, windows: WindowsHost) -> None:
    prepare_share(host, SHARE)
    (windows.folder / "D:\\Staging" / "bundle").mkdir()
    found = remove_share(host, "PepStaging")
    assert found.kept == ("folder D:\\Staging, with what is in it",)
    assert (windows.folder / "D:\\Staging" / "bundle").is_dir()


@pytest.mark.engine
def test_a_failure_halfway_is_told_and_what_was_added_until_then_is_removed(
    host: StagingHost, windows: WindowsHost
) -> None:
    with pytest.raises(StagingError, match="No mapping between account names"):
        prepare_share(host, StagingShare("PepStaging", "D:\\Staging", "CONTOSO\\nobody"))
    assert (windows.folder / "D:\\Staging").is_dir()
    assert remove_share(host, "PepStaging").removed[-1] == "folder D:\\Staging"
    assert not (windows.folder / "D:\\Staging").exists()


@pytest.mark.engine
def test_a_share_of_that_name_for_another_folder_is_left_alone(host: StagingHost, windows: WindowsHost) -> None:
    (windows.folder / "host.txt").write_text("share|PepStaging|E:\\Other\n", encoding="utf-8")
    with pytest.raises(StagingError, match="of the folder E:"):
        prepare_share(host, SHARE)
    assert windows.facts() == ["share|PepStaging|E:\\Other"]
    assert not (windows.folder / "D:\\Staging").exists()


@pytest.mark.engine
def test_showing_tells_who_may_write_and_what_is_ours(host: StagingHost, windows: WindowsHost) -> None:
    assert show_share(host, "PepStaging").is_shared is False
    prepare_share(host, SHARE)
    facts = windows.facts()
    found = show_share(host, "PepStaging")
    assert found.access == ("CONTOSO\\writer: Change",)
    assert (found.is_shared, found.is_prepared, found.path) == (True, True, "D:\\Staging")
    assert windows.facts() == facts


@pytest.mark.engine
@pytest.mark.parametrize("value", ["$(exit 9)", "O'Neill", "a;b`c", "Grüße"])
def test_a_value_is_never_read_as_code(host: StagingHost, windows: WindowsHost, value: str) -> None:
    if ";" not in value:
        prepare_share(host, StagingShare("PepStaging", f"D:\\{value}", "CONTOSO\\writer"))
        assert f"share|PepStaging|D:\\{value}" in windows.facts()
        return
    with pytest.raises(UsageError):
        StagingShare("PepStaging", "D:\\Staging", value)


@pytest.mark.engine
def test_the_command_line_does_it_all_and_the_password_is_in_no_command(
    server: EndpointServer, windows: WindowsHost
) -> None:
    password = server.account.password.reveal()

    def share(*arguments: str) -> Done:
        connection = ("--port", str(server.port), "--username", server.account.username, "--json")
        verb, *more = arguments
        return run("share", verb, server.host, *more, *connection, PEP_BRIDGE_STAGING_PASSWORD=password)

    done = share("prepare", "--account", "CONTOSO\\writer", "--path", "D:\\Staging")
    assert done.returncode == ExitCode.OK, done.stderr
    assert done.data["added"] == ["folder", "share", "access to the folder"]
    assert share("show").data["access"] == ["CONTOSO\\writer: Change"]
    assert share("remove").data["removed"][-1] == "folder D:\\Staging"
    assert len(windows.lines) == 3
    for line in windows.lines:
        assert len(line) <= LONGEST_COMMAND_LINE
        assert password not in decode(line)


def test_every_message_of_the_conversation_is_sealed(tmp_path: Path) -> None:
    windows = WindowsHost(tmp_path, None)
    with EndpointServer(cmd_shell=windows) as server, Tap(server.host, server.port) as tap:
        host = StagingHost("127.0.0.1", host_of(server).credential, tap.port)
        with pytest.raises(StagingError):
            prepare_share(host, SHARE)
    assert len(windows.lines) == 1
    assert tap.seen.count(b"HTTP-SPNEGO-session-encrypted") >= 4
    for clear in (b"Envelope", b"powershell", b"CommandLine", server.account.password.reveal().encode()):
        assert clear not in tap.seen


class Tap:
    """A relay on the wire that keeps what it sees."""

    def __init__(self, host: str, port: int) -> None:
        self.seen = b""
        self._target = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Tap:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()

    def _start(self, work: Callable[..., None], *arguments: object) -> None:
        self._threads.append(threading.Thread(target=work, args=arguments))
        self._threads[-1].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target)
                self._start(self._relay, client, server)
                self._start(self._relay, server, client)

    def _relay(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self.seen += data
                target.sendall(data)
        for each in (source, target):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


def test_what_the_host_says_and_who_it_refuses_is_told(tmp_path: Path) -> None:
    windows = WindowsHost(tmp_path, None)
    windows.answer = (b"", b"'powershell.exe' is not recognized", 1)
    with EndpointServer(cmd_shell=windows) as server:
        with pytest.raises(StagingError, match="is not recognized"):
            prepare_share(host_of(server), SHARE)
        wrong = StagingHost(server.host, Credential(server.account.username, Secret("wrong")), server.port)
        with pytest.raises(StagingAuthenticationError) as caught:
            prepare_share(wrong, SHARE)
        assert caught.value.exit_code == ExitCode.AUTHENTICATION
        port = server.port
    with pytest.raises(StagingUnreachableError) as unreachable:
        prepare_share(StagingHost("127.0.0.1", Credential("a", Secret("b")), port), SHARE)
    assert unreachable.value.exit_code == ExitCode.UNREACHABLE


@pytest.mark.parametrize(
    ("name", "path", "account"),
    [
        ("a b;c", "D:\\S", "C\\w"),
        ("ok", "relative", "C\\w"),
        ("ok", "D:\\..\\Windows", "C\\w"),
        ("ok", "\\\\server\\share", "C\\w"),
        ("ok", "D:\\S", "C\\w:F"),
        ("", "D:\\S", "C\\w"),
    ],
)
def test_what_is_no_share_name_folder_or_account_is_refused_here(name: str, path: str, account: str) -> None:
    with pytest.raises(UsageError):
        StagingShare(name, path, account)


def test_values_that_make_the_command_line_too_long_are_refused() -> None:
    with pytest.raises(UsageError, match="8191"):
        command_line("New-StagingFirewallRule", {"Name": "x", "Address": ["192.0.2.1"] * 200})


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_has_help_for_each_parameter_and_no_password(script: Path) -> None:
    text = script.read_text(encoding="utf-8")
    assert text.isascii()
    assert ".SYNOPSIS" in text
    assert "password" not in text.split("#>")[1].lower()
    assert set(re.findall(r"^\.PARAMETER (\w+)", text, re.MULTILINE)) == set(
        re.findall(r"^    \[\w+(?:\[\])?\]\$(\w+)", text, re.MULTILINE)
    )


@pytest.mark.engine
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_powershell_parses_each_script_and_what_is_sent_of_it(script: Path, pwsh: str, tmp_path: Path) -> None:
    sent = [script.read_text(encoding="utf-8")]
    if script.stem != "Invoke-Request":
        sent.append(decode(command_line(script.stem, {"Name": "x"})))
    for text in sent:
        assert syntax_errors(pwsh, tmp_path, text) == ""


def syntax_errors(pwsh: str, folder: Path, text: str) -> Any:
    file = folder / "parsed.ps1"
    file.write_text(text, encoding="utf-8")
    code = (
        "$tokens = $errors = $null;"
        f"$null = [Management.Automation.Language.Parser]::ParseFile('{file}', [ref]$tokens, [ref]$errors);"
        "$errors | ForEach-Object { $_.Message }"
    )
    return subprocess.run(
        [pwsh, "-NoProfile", "-Command", code], capture_output=True, text=True, check=True
    ).stdout.strip()
