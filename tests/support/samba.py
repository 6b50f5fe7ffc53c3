"""A real SMB server for the tests: Debian's smbd with its own configuration, user and high loopback port."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from bridge.secrets import Credential, Secret
from tests.support.processes import end, free_port, wait_for_port

USERNAME = "PEPTEST\\collector"
PASSWORD = "Sh4re-pass-w0rd!"
SMALL_SHARE_BYTES = 4 * 1024 * 1024
SHARES = ("bundles", "readonly", "small", "encrypted")

_GLOBAL = """
[global]
    server role = standalone server
    workgroup = PEPTEST
    netbios name = PEPTEST
    map to guest = never
    username map = {base}/users.map
    passdb backend = tdbsam:{base}/passdb.tdb
    private dir = {base}/private
    lock directory = {base}/lock
    state directory = {base}/state
    cache directory = {base}/cache
    pid directory = {base}/pid
    ncalrpc dir = {base}/ncalrpc
    log file = {base}/log.smbd
    log level = 1
    max log size = 0
    interfaces = 127.0.0.1/8
    bind interfaces only = yes
    smb ports = {port}
    disable netbios = yes
    disable spoolss = yes
    load printers = no
    printcap name = /dev/null
    mangled names = no
    store dos attributes = no
    map archive = no
    unix charset = UTF-8
"""
_SHARE = """
[{name}]
    path = {path}
    read only = {read_only}
    server smb encrypt = {encrypt}
"""


@dataclass
class Samba:
    """One smbd with four shares: ``bundles``, ``readonly``, ``small`` (really full at 4 MiB) and ``encrypted``."""

    base: Path
    port: int = field(default_factory=free_port)
    host: str = "127.0.0.1"
    credential: Credential = field(default_factory=lambda: Credential(USERNAME, Secret(PASSWORD)))
    wrong_credential: Credential = field(default_factory=lambda: Credential(USERNAME, Secret("not-" + PASSWORD)))
    small_is_mounted: bool = False
    _process: subprocess.Popen[bytes] | None = None

    def url(self, share: str = "bundles", folder: str = "") -> str:
        """``smb://`` with the port, as a destination is written."""
        return "/".join(filter(None, [f"smb://{self.host}:{self.port}/{share}", folder]))

    def unc(self, share: str = "bundles", folder: str = "") -> str:
        """The UNC path, as an endpoint is given it; the port has no place in it."""
        return "\\\\" + "\\".join(filter(None, [self.host, share, *folder.split("/")]))

    def path(self, share: str = "bundles") -> Path:
        """The share's folder on this machine's disk."""
        return self.base / "shares" / share

    def prepare(self) -> None:
        for name in ("private", "lock", "state", "cache", "pid", "ncalrpc"):
            (self.base / name).mkdir(parents=True, exist_ok=True)
        for share in SHARES:
            self.path(share).mkdir(parents=True, exist_ok=True)
        self._mount_small()
        unix_user = getpass.getuser()
        (self.base / "users.map").write_text(f"{unix_user} = collector\n")
        self._conf.write_text(self._configuration())
        subprocess.run(
            # Unlike smbpasswd, this needs no root.
            ["pdbedit", "-s", str(self._conf), "-a", "-t", "-u", unix_user],
            input=f"{PASSWORD}\n{PASSWORD}\n".encode(),
            check=True,
            capture_output=True,
        )

    def start(self) -> None:
        smbd = shutil.which("smbd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        if smbd is None:
            raise FileNotFoundError("smbd")
        with (self.base / "smbd.out").open("ab") as output:
            self._process = subprocess.Popen(
                [smbd, "--foreground", "--no-process-group", "--configfile", str(self._conf)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # an ending smbd sends SIGTERM to its whole process group
            )
        wait_for_port(self.port, self._process, self.base / "log.smbd")

    def kill(self) -> None:
        """Ends the server and every connection at once, as a host that dies."""
        if self._process is None:
            return
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self._process.pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()
        self._process.kill()
        self._process.wait()
        self._process = None

    def processes(self) -> list[psutil.Process]:
        """The server and those of its children that serve clients."""
        assert self._process is not None
        parent = psutil.Process(self._process.pid)
        return [parent, *parent.children(recursive=True)]

    def cut_connections(self) -> None:
        """Kills the processes that serve clients; the server goes on taking new ones."""
        assert self._process is not None
        for child in psutil.Process(self._process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):  # a child may end by itself while it is looked at
                if any(connection.status == "ESTABLISHED" for connection in child.net_connections("tcp")):
                    child.kill()

    def stop(self) -> None:
        if self._process is not None:
            end(self._process)
            self._process = None
        if self.small_is_mounted:
            deadline = time.monotonic() + 5
            while subprocess.run(["umount", str(self.path("small"))], capture_output=True, check=False).returncode:
                if time.monotonic() > deadline:
                    subprocess.run(["umount", "--lazy", str(self.path("small"))], check=False)
                    break
                time.sleep(0.1)

    @property
    def _conf(self) -> Path:
        return self.base / "smb.conf"

    def _configuration(self) -> str:
        shares = [
            _SHARE.format(
                name=share,
                path=self.path(share),
                read_only="yes" if share == "readonly" else "no",
                encrypt="required" if share == "encrypted" else "default",
            )
            for share in SHARES
        ]
        return _GLOBAL.format(base=self.base, port=self.port) + "".join(shares)

    def _mount_small(self) -> None:
        if os.geteuid() == 0:
            mounted = subprocess.run(
                ["mount", "-t", "tmpfs", "-o", f"size={SMALL_SHARE_BYTES}", "tmpfs", str(self.path("small"))],
                capture_output=True,
                check=False,
            )
            self.small_is_mounted = mounted.returncode == 0


@contextlib.contextmanager
def running_samba(base: Path) -> Iterator[Samba]:
    """A Samba server for as long as the context lasts."""
    samba = Samba(base)
    try:
        samba.prepare()
        samba.start()
        yield samba
    finally:
        samba.stop()
