"""A real blob service for the tests: Azurite on loopback, and SAS tokens of every kind for it."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlencode

from azure.storage.blob import ContainerClient

from bridge.secrets import Secret
from tests.support.processes import end, free_port, wait_for_port

ACCOUNT = "devstoreaccount1"
# The emulator's documented key, the same everywhere.
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass
class Azurite:
    """One emulator, blob service only. It judges versions as the service does (no ``--skipApiVersionCheck``)."""

    base: Path
    port: int = field(default_factory=free_port)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/{ACCOUNT}"

    def container_url(self, container: str) -> str:
        return f"{self.url}/{container}"

    def new_container(self, name: str | None = None) -> str:
        """Creates a container and returns its name."""
        name = name or f"c{secrets.token_hex(8)}"
        with self.owner(name) as client:
            client.create_container()
        return name

    def owner(self, container: str) -> ContainerClient:
        """A client with the account's key, for what a test does behind the store's back."""
        return ContainerClient(
            self.url,
            container,
            credential={"account_name": ACCOUNT, "account_key": KEY},
            api_version="2021-12-02",
        )

    def sas(
        self,
        container: str,
        permissions: str = "racwdl",
        *,
        expires_in: timedelta = timedelta(hours=24),
        starts_in: timedelta | None = timedelta(minutes=-5),
        version: str = "2019-02-02",
        key: str = KEY,
    ) -> Secret:
        """A service SAS of one container."""
        now = datetime.now(UTC)
        start = "" if starts_in is None else _stamp(now + starts_in)
        expiry = _stamp(now + expires_in)
        # Create a service SAS, Microsoft Learn: what is signed differs by version.
        signed = [permissions, start, expiry, f"/blob/{ACCOUNT}/{container}", "", "", "", version]
        signed += ["c", ""] if version >= "2018-11-09" else []
        signed += [""] if version >= "2020-12-06" else []
        signed += [""] * 5
        fields = {"sv": version, "sr": "c", "sp": permissions, "st": start, "se": expiry}
        return _token(fields, "\n".join(signed), key)

    def account_sas(self, permissions: str = "racwdl", *, resource_types: str = "co", services: str = "b") -> Secret:
        """A SAS of the whole account, as the vendor's portals make it."""
        version, expiry = "2019-02-02", _stamp(datetime.now(UTC) + timedelta(hours=24))
        signed = [ACCOUNT, permissions, services, resource_types, "", expiry, "", "", version, ""]
        fields = {"sv": version, "ss": services, "srt": resource_types, "sp": permissions, "se": expiry}
        return _token(fields, "\n".join(signed), KEY)

    def start(self) -> None:
        program = REPOSITORY / ".tools" / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"
        node = shutil.which("node")
        if node is None or not program.exists():
            raise FileNotFoundError("azurite")
        log = self.base / "azurite.out"
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [
                    node,
                    str(program),
                    *("--location", str(self.base / "data")),
                    *("--blobHost", "127.0.0.1", "--blobPort", str(self.port)),
                    *("--silent", "--disableTelemetry"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        wait_for_port(self.port, self._process, log)

    def stop(self) -> None:
        if self._process is not None:
            end(self._process)
            self._process = None


def _stamp(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def _token(fields: dict[str, str], signed: str, key: str) -> Secret:
    digest = hmac.new(base64.b64decode(key), signed.encode(), hashlib.sha256).digest()
    return Secret(urlencode({name: value for name, value in fields.items() if value} | {"sig": _base64(digest)}))


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


@contextlib.contextmanager
def running_azurite(base: Path) -> Iterator[Azurite]:
    """An emulator for as long as the context lasts."""
    azurite = Azurite(base)
    try:
        azurite.start()
        yield azurite
    finally:
        azurite.stop()
