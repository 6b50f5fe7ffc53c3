"""A tiny cmd shell behind WinRS (MS-WSMV 2.2.4.39), so that live tests of other libraries can be pointed at it.

Nothing is run on this machine: a handful of commands are played. No privileged endpoint offers such a shell.
"""

from __future__ import annotations

import asyncio
import base64
import re
import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias
from xml.etree.ElementTree import Element
from xml.sax.saxutils import quoteattr

from bridge.simulator.wsman import _soap as soap
from bridge.simulator.wsman._shells import ShellInfo
from bridge.simulator.wsman._soap import NAMES, SHELL, Reply, Request

_PROVIDER: Final = ("Shell cmd plugin", "%systemroot%\\system32\\winrscmd.dll")
_UTF8: Final = "65001"
_INTERRUPTED: Final = -1073741510  # STATUS_CONTROL_C_EXIT
_ENVIRONMENT: Final = {"COMPUTERNAME": "AZS-ERCS01", "OS": "Windows_NT", "SystemRoot": "C:\\Windows"}


CommandLine: TypeAlias = Callable[[str], tuple[bytes, bytes, int]]
"""Plays a command line: standard output, standard error, exit code. Called on a thread of its own."""


@dataclass(eq=False)
class _Command:
    line: str
    stdin: bytearray = field(default_factory=bytearray)
    stdin_ended: asyncio.Event = field(default_factory=asyncio.Event)
    stdout: list[str] = field(default_factory=list)
    stderr: list[str] = field(default_factory=list)
    exit_code: int = 0
    task: asyncio.Task[None] | None = None


class CmdShell:
    """One cmd shell."""

    def __init__(
        self, info: ShellInfo, body: Element, options: Mapping[str, str], run: CommandLine | None = None
    ) -> None:
        self.info = info
        self._run_line = run
        self._encoding = "utf-8" if options.get("WINRS_CODEPAGE") == _UTF8 else "cp437"
        self._directory = body.findtext("rsp:WorkingDirectory", "C:\\Users\\CloudAdmin", NAMES)
        variables = body.iterfind("rsp:Environment/rsp:Variable", NAMES)
        self._environment = {**_ENVIRONMENT, **{item.get("Name", ""): item.text or "" for item in variables}}
        self._commands: dict[str, _Command] = {}

    async def command(self, request: Request) -> Reply:
        line = request.body.find("rsp:CommandLine", NAMES)
        if line is None:
            raise soap.invalid_parameter(_PROVIDER)
        words = [line.findtext("rsp:Command", "", NAMES)]
        words += [item.text or "" for item in line.iterfind("rsp:Arguments", NAMES)]
        command = _Command(" ".join(words))
        command_id = (line.get("CommandId") or soap.new_id()).upper()
        self._commands[command_id] = command
        command.task = asyncio.ensure_future(self._run(command))
        body = f"<rsp:CommandResponse><rsp:CommandId>{command_id}</rsp:CommandId></rsp:CommandResponse>"
        return Reply(soap.answer(request, body))

    async def send(self, request: Request) -> Reply:
        for stream in request.body.iterfind("rsp:Send/rsp:Stream", NAMES):
            command = self._find(stream.get("CommandId"))
            command.stdin += base64.b64decode(stream.text or "")
            if stream.get("End", "").casefold() in ("true", "1"):
                command.stdin_ended.set()
        return Reply(soap.answer(request, "<rsp:SendResponse/>"))

    async def receive(self, request: Request) -> Reply:
        desired = request.body.find("rsp:Receive/rsp:DesiredStream", NAMES)
        command_id = None if desired is None else desired.get("CommandId")
        if not command_id:
            raise soap.invalid_parameter(_PROVIDER)
        command = self._find(command_id)
        if command.task is not None:
            done, _ = await asyncio.wait({command.task}, timeout=request.timeout_s)
            if not done:
                raise soap.timed_out()
        return Reply(soap.answer(request, self._output(command_id, command)))

    async def signal(self, request: Request) -> Reply:
        signal = request.body.find("rsp:Signal", NAMES)
        command = self._find(None if signal is None else signal.get("CommandId"))
        if command.task is not None:
            command.task.cancel()
        return Reply(soap.answer(request, "<rsp:SignalResponse/>"))

    async def connect(self, request: Request) -> Reply:
        raise soap.action_not_supported(request.action)

    def disconnect(self) -> None:
        """A cmd shell goes on."""

    def reconnect(self) -> None:
        """A cmd shell went on."""

    def limit_output(self, limit_bytes: int, *, drop: bool = False) -> None:
        """What is played is short."""

    def abort_receives(self) -> None:
        for command in self._commands.values():
            if command.task is not None:
                command.task.cancel()

    def close(self) -> None:
        self.abort_receives()

    def commands(self) -> list[str]:
        return [
            name for name, command in self._commands.items() if command.task is not None and not command.task.done()
        ]

    def _find(self, command_id: str | None) -> _Command:
        found = self._commands.get((command_id or "").upper())
        if found is None:
            raise soap.command_not_found()
        return found

    def _output(self, command_id: str, command: _Command) -> str:
        attribute = f"CommandId={quoteattr(command_id)}"
        parts = []
        for name, texts in (("stdout", command.stdout), ("stderr", command.stderr)):
            data = base64.b64encode("".join(texts).encode(self._encoding, "replace")).decode()
            if data:
                parts.append(f'<rsp:Stream Name="{name}" {attribute}>{data}</rsp:Stream>')
            parts.append(f'<rsp:Stream Name="{name}" {attribute} End="true"></rsp:Stream>')
            texts.clear()
        state = (
            f'<rsp:CommandState {attribute} State="{SHELL}/CommandState/Done">'
            f"<rsp:ExitCode>{command.exit_code}</rsp:ExitCode></rsp:CommandState>"
        )
        return f"<rsp:ReceiveResponse>{''.join(parts)}{state}</rsp:ReceiveResponse>"

    async def _run(self, command: _Command) -> None:
        self.info.last_used = time.monotonic()
        if self._run_line is not None:
            stdout, stderr, command.exit_code = await asyncio.to_thread(self._run_line, command.line)
            command.stdout.append(stdout.decode(self._encoding, "replace"))
            command.stderr.append(stderr.decode(self._encoding, "replace"))
            return
        try:
            line = re.sub(r"(?i)^cmd(\.exe)?\s+/c\s+", "", command.line)
            for part in line.split("&&"):
                if command.exit_code == 0:
                    await self._play(part.lstrip(), command)
        except asyncio.CancelledError:
            command.exit_code = _INTERRUPTED

    async def _play(self, part: str, command: _Command) -> None:
        name, _, rest = re.sub(r"%(\w+)%", self._variable, part).partition(" ")
        match name.casefold().removesuffix(".exe"):
            case "echo":
                target = command.stderr if ">&2" in rest else command.stdout
                target.append(rest.replace(">&2", "") + "\r\n")
            case "set":
                command.stdout += [f"{key}={value}\r\n" for key, value in self._environment.items()]
            case "dir":
                command.stdout.append(f" Volume in drive C is Windows\r\n\r\n Directory of {self._directory}\r\n\r\n")
            case "hostname":
                command.stdout.append(self._environment["COMPUTERNAME"] + "\r\n")
            case "ipconfig":
                command.stdout.append("\r\nWindows IP Configuration\r\n\r\n")
            case "exit":
                command.exit_code = int(rest.split()[-1]) if rest.split() else 0
            case "powershell":
                await self._play_powershell(rest, command)
            case _:
                message = f"'{name}' is not recognized as an internal or external command,\r\n"
                command.stderr.append(message + "operable program or batch file.\r\n")
                command.exit_code = 1

    def _variable(self, match: re.Match[str]) -> str:
        return self._environment.get(match[1], match[0])

    async def _play_powershell(self, text: str, command: _Command) -> None:
        if text.strip() == "-":
            await command.stdin_ended.wait()
            text = command.stdin.decode(self._encoding)
        encoded = re.search(r"(?i)-e(?:nc|ncodedcommand)?\s+(\S+)", text)
        if encoded:
            text = base64.b64decode(encoded[1]).decode("utf-16-le")
        text = re.sub(r"(?i)^\s*(-(NoProfile|NonInteractive|Command)\s+)*", "", text)
        for statement in filter(None, map(str.strip, text.split(";"))):
            await self._play_statement(statement, command)

    async def _play_statement(self, statement: str, command: _Command) -> None:
        words = shlex.split(statement)
        if statement == "(pwd).Path":
            command.stdout.append(self._directory + "\r\n")
        elif words[0].casefold() == "write-host":
            command.stdout.append(" ".join(words[1:]) + "\n")
        elif words[0].casefold() == "start-sleep":
            await asyncio.sleep(float(words[-1]))
        else:
            command.stderr.append(f"{words[0]} : The term '{words[0]}' is not recognized as the name of a cmdlet.\r\n")
            command.exit_code = 1
