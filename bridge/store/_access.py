"""Where a container is and how it may be reached: what the lean blob path needs to know of a blob store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable
from urllib.parse import quote, unquote, urlsplit

from bridge.secrets import Secret


@dataclass(frozen=True, slots=True)
class ContainerAccess:
    """A place in a blob container and the SAS that opens it.

    ``container_path`` is the path of the container in the URL (``/container``, or ``/account/container`` for path-style
    services such as Azurite); ``root`` the folder inside it, without slashes at its ends; ``sas`` the query of the SAS
    without its question mark; ``api_version`` goes out as ``x-ms-version``.
    """

    scheme: str
    host: str
    port: int
    container_path: str
    root: str
    sas: Secret
    api_version: str
    ca_file: str | None = None

    @property
    def location(self) -> str:
        """The URL without its query: for people and for error texts."""
        usual = {"http": 80, "https": 443}.get(self.scheme)
        port = "" if self.port == usual else f":{self.port}"
        root = f"/{self.root}" if self.root else ""
        return f"{self.scheme}://{self.host}{port}{self.container_path}{root}"

    @property
    def authority(self) -> str:
        """What stands in ``Host``."""
        return self.host if self.port in {80, 443} else f"{self.host}:{self.port}"

    @classmethod
    def of(cls, store: LeanContainer) -> ContainerAccess:
        """The access that a container store has, in the wire's terms."""
        return cls.at(
            store.container_url,
            store.sas,
            root=store.root.strip("/"),
            api_version=store.api_version,
            ca_file=store.ca_file,
        )

    @classmethod
    def at(
        cls, container_url: str, sas: Secret, *, root: str = "", api_version: str = "", ca_file: str | None = None
    ) -> ContainerAccess:
        """The access to a container by its URL, which has no query."""
        url = urlsplit(container_url)
        return cls(
            scheme=url.scheme,
            host=url.hostname or "",
            port=url.port or {"http": 80}.get(url.scheme, 443),
            container_path=unquote(url.path).rstrip("/"),
            root=root,
            sas=sas,
            api_version=api_version,
            ca_file=ca_file,
        )

    def blob_name(self, path: str) -> str:
        """The blob's name in its container."""
        return f"{self.root}/{path}" if self.root else path

    def target(self, path: str, query: str = "") -> str:
        """The request target of a blob: path and query, SAS included. Only for the wire."""
        sas = self.sas.reveal()
        tail = "&".join(part for part in (query, sas) if part)
        return f"{self.container_path}/{quote(self.blob_name(path), safe='/~')}?{tail}"


@runtime_checkable
class LeanContainer(Protocol):
    """A container store that says enough of itself to be written to on the lean path."""

    @property
    def container_url(self) -> str:
        """The container, without a query."""
        ...

    @property
    def root(self) -> str:
        """The folder in the container that the store is rooted at; empty for the container itself."""
        ...

    @property
    def sas(self) -> Secret: ...

    @property
    def api_version(self) -> str: ...

    @property
    def ca_file(self) -> str | None: ...

    def step_down(self, refused: str) -> bool:
        """Goes on in the next older API version, for everybody; tells whether there is one (none where one was set)."""
        ...
