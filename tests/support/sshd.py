"""A real openssh-server on loopback whose subsystem ``powershell`` is the simulated endpoint, and its ssh client."""

from __future__ import annotations

import getpass
import os
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.processes import end, free_port, wait_for_port

_ADMIN_FOLDERS = ("/usr/sbin", "/usr/local/sbin")
# Debian's unit makes this folder; sshd started as root wants it and has no option for another place.
_PRIVILEGE_SEPARATION = Path("/run/sshd")
_CONFIGURATION = """
ListenAddress 127.0.0.1
Port {port}
HostKey {base}/host_key
PidFile none
AuthorizedKeysFile {base}/authorized_keys
AllowUsers {user}
PermitRootLogin prohibit-password
PubkeyAuthentication yes
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
# The key lies in a temporary folder, which others may write to.
StrictModes no
UseDNS no
SetEnv {environment}
Subsystem powershell {command}
"""


def find_sshd() -> str | None:
    """A sshd that can run beside the machine's own (not Windows'); it is seldom on an ordinary user's PATH."""
    if os.name == "nt":
        return None
    return shutil.which("sshd", path=os.pathsep.join((os.environ.get("PATH", ""), *_ADMIN_FOLDERS)))


@dataclass
class Sshd:
    """One sshd that runs as the current user and lets only that user in, by key.

    ``command`` is the subsystem ``powershell``; ``environment`` is what its process gets beside sshd's own.
    """

    base: Path
    command: Sequence[str]
    environment: dict[str, str]
    host: str = "127.0.0.1"
    user: str = field(default_factory=getpass.getuser)
    port: int = field(default_factory=free_port)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def key(self) -> Path:
        """The private key that the server knows."""
        return self.base / "key"

    @property
    def known_hosts(self) -> Path:
        """What a client is to know of the server."""
        return self.base / "known_hosts"

    def __enter__(self) -> Self:
        self.base.mkdir(exist_ok=True)
        for name in ("host_key", "key", "stranger"):
            self._generate_key(self.base / name)
        (self.base / "authorized_keys").write_bytes((self.base / "key.pub").read_bytes())
        public = (self.base / "host_key.pub").read_text(encoding="ascii")
        self.known_hosts.write_text(f"[{self.host}]:{self.port} {public}", encoding="ascii")
        self._start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            end(self._process)

    def ssh(self, *, key: Path | None = None) -> list[str]:
        """The command that opens the subsystem, as PowerShell starts it but with options of its own."""
        options = {
            "BatchMode": "yes",
            "IdentitiesOnly": "yes",
            "StrictHostKeyChecking": "yes",
            "UserKnownHostsFile": str(self.known_hosts),
            "LogLevel": "ERROR",
        }
        given = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
        place = ["-i", str(key or self.key), "-p", str(self.port), "-l", self.user]
        return ["ssh", "-F", os.devnull, *given, *place, "-s", self.host, "powershell"]

    def _generate_key(self, path: Path) -> None:
        arguments = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(path)]
        subprocess.run(arguments, check=True, capture_output=True)

    def _start(self) -> None:
        sshd = find_sshd()
        if sshd is None:
            raise FileNotFoundError("sshd")
        if os.geteuid() == 0:
            _PRIVILEGE_SEPARATION.mkdir(mode=0o755, exist_ok=True)
        configuration = self.base / "sshd_config"
        environment = " ".join(f'"{name}={value}"' for name, value in self.environment.items())
        text = _CONFIGURATION.format(
            port=self.port, base=self.base, user=self.user, environment=environment, command=shlex.join(self.command)
        )
        configuration.write_text(text, encoding="utf-8")
        log = self.base / "sshd.log"
        with log.open("ab") as output:
            # In the foreground (-D) with its log on stderr (-e): it belongs to the test and to nobody else.
            self._process = subprocess.Popen(
                [sshd, "-D", "-e", "-f", str(configuration)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        wait_for_port(self.port, self._process, log)
