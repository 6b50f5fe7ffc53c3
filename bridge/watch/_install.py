"""The files that make a machine's own scheduler run the watch: a systemd service and timer, or a Windows task."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from xml.sax.saxutils import escape

from bridge.errors import UsageError
from bridge.files import replace_file

_SAFE = re.compile(r"[A-Za-z0-9_./:=,@%+-]+")


@dataclass(frozen=True, slots=True)
class Service:
    """What is run, and how often.

    Args:
        stamp: the stamp's name.
        command: the program and its arguments; no secret is ever one of them.
        every: the pause between two looks.
        user: the Windows account that the task runs as.
    """

    stamp: str
    command: Sequence[str]
    every: timedelta
    user: str = ""

    @property
    def name(self) -> str:
        """``pep-bridge-watch-east``."""
        return "pep-bridge-watch-" + re.sub(r"[^A-Za-z0-9_.-]", "_", self.stamp)


class Scheduler(StrEnum):
    """What starts a watch again and again on a machine."""

    SYSTEMD = "systemd"
    WINDOWS = "windows"

    def default_folder(self, environment: Mapping[str, str]) -> Path:
        """The user's systemd folder (systemd.unit(5)); on Windows the current one: a task is read from anywhere."""
        if self is Scheduler.WINDOWS:
            return Path.cwd()
        root = environment.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
        return Path(root) / "systemd" / "user"

    def files(self, service: Service) -> dict[str, str]:
        """Names and contents of what the scheduler reads."""
        if self is Scheduler.SYSTEMD:
            return systemd_units(service)
        return {f"{service.name}.xml": scheduled_task(service)}

    def write(self, service: Service, folder: Path) -> tuple[Path, ...]:
        """Writes the files, each whole or not at all, in the encoding that the scheduler wants; says where they are.

        Raises:
            UsageError: the folder cannot be written.
        """
        encoding = "utf-8" if self is Scheduler.SYSTEMD else "utf-16"
        return tuple(_write(folder / name, content, encoding) for name, content in self.files(service).items())

    def enabling(self, service: Service, written: Sequence[Path]) -> tuple[str, ...]:
        """The commands by which an operator enables what was written."""
        if self is Scheduler.WINDOWS:
            return (
                f'schtasks /Create /TN {service.name} /XML "{written[0]}"',
                f"schtasks /Change /TN {service.name} /ENABLE",
            )
        return (
            "systemctl --user daemon-reload",
            f"systemctl --user enable --now {service.name}.timer",
            "loginctl enable-linger    # so that it runs while nobody is logged on",
        )


def systemd_units(service: Service) -> dict[str, str]:
    """Names and contents of a service that looks once, and of the timer that starts it (systemd.service(5),
    systemd.timer(5)). A collection may take hours, so a start has no time limit, and the timer waits for its end.
    """
    about = _one_line(service.stamp).replace("%", "%%")
    unit = f"""\
[Unit]
Description=Watches the health of Azure Stack Hub {about} and collects its logs when an alert persists
Wants=network-online.target
After=network-online.target

[Service]
Type=oneshot
ExecStart={" ".join(map(_systemd_word, service.command))}
TimeoutStartSec=infinity
TimeoutStopSec=2min
KillSignal=SIGTERM
UMask=0077
NoNewPrivileges=yes
PrivateTmp=yes
# Left at the endpoint, or partial: both are told by the next look.
SuccessExitStatus=8 130
"""
    timer = f"""\
[Unit]
Description=Looks at the health of Azure Stack Hub {about} every {service.every.total_seconds() / 60:g} minutes

[Timer]
OnActiveSec=1min
OnUnitInactiveSec={service.every.total_seconds():.0f}s
AccuracySec=15s

[Install]
WantedBy=timers.target
"""
    return {f"{service.name}.service": unit, f"{service.name}.timer": timer}


def scheduled_task(service: Service) -> str:
    """The task for ``schtasks /Create /XML FILE /TN NAME`` (Task Scheduler schema 1.2). It is to be written in UTF-16.

    A second instance is not started beside one that collects, and none has a time limit. The task runs whether its
    user is logged on or not, without a stored password: secrets must be in files that the configuration names.
    """
    minutes = max(1, round(service.every.total_seconds() / 60))
    program, *arguments = service.command
    return f"""\
<?xml version="1.0" encoding="UTF-16"?>
<Task version="1.2" xmlns="http://schemas.microsoft.com/windows/2004/02/mit/task">
  <RegistrationInfo>
    <Description>{escape(_one_line(f"Watches the health of Azure Stack Hub {service.stamp}"))}</Description>
    <URI>{escape(chr(92) + service.name)}</URI>
  </RegistrationInfo>
  <Triggers>
    <TimeTrigger>
      <Repetition>
        <Interval>PT{minutes}M</Interval>
        <StopAtDurationEnd>false</StopAtDurationEnd>
      </Repetition>
      <StartBoundary>2020-01-01T00:00:00</StartBoundary>
      <Enabled>true</Enabled>
    </TimeTrigger>
  </Triggers>
  <Principals>
    <Principal id="Author">
      <UserId>{escape(service.user)}</UserId>
      <LogonType>S4U</LogonType>
      <RunLevel>LeastPrivilege</RunLevel>
    </Principal>
  </Principals>
  <Settings>
    <MultipleInstancesPolicy>IgnoreNew</MultipleInstancesPolicy>
    <DisallowStartIfOnBatteries>false</DisallowStartIfOnBatteries>
    <StopIfGoingOnBatteries>false</StopIfGoingOnBatteries>
    <StartWhenAvailable>true</StartWhenAvailable>
    <RunOnlyIfNetworkAvailable>false</RunOnlyIfNetworkAvailable>
    <Enabled>false</Enabled>
    <ExecutionTimeLimit>PT0S</ExecutionTimeLimit>
  </Settings>
  <Actions Context="Author">
    <Exec>
      <Command>{escape(program)}</Command>
      <Arguments>{escape(" ".join(map(_windows_word, arguments)))}</Arguments>
    </Exec>
  </Actions>
</Task>
"""


def _write(path: Path, content: str, encoding: str) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, content.encode(encoding))
    except OSError as error:
        raise UsageError(
            detail=f"{path} cannot be written: {error.strerror}.", fix="Give another folder with --dir."
        ) from error
    return path


def _systemd_word(word: str) -> str:
    """One argument in ExecStart: specifiers and variables are taken literally (systemd.service(5), COMMAND LINES)."""
    text = _one_line(word).replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return text if _SAFE.fullmatch(text) else f'"{text}"'


def _windows_word(word: str) -> str:
    """One argument for CommandLineToArgvW: backslashes count double before a quote."""
    if word and not re.search(r'[\s"]', word):
        return word
    doubled = re.sub(r'(\\*)"', r'\1\1\\"', word)
    return '"' + re.sub(r"(\\+)$", r"\1\1", doubled) + '"'


def _one_line(text: str) -> str:
    """A control character would begin another line of the file."""
    return re.sub(r"[\x00-\x1f\x7f]", " ", text)
