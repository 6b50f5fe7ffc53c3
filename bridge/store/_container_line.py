"""The way to a container: its client, the connections of its readers, and the API version that it takes."""

from __future__ import annotations

import logging
import re
import threading
from typing import TYPE_CHECKING, Any

from bridge.errors import ApiVersionError, StoreClosedError
from bridge.secrets import Secret
from bridge.store._access import ContainerAccess
from bridge.store._blob_reads import BlobReads
from bridge.store._settings import StoreSettings
from bridge.store._wire import proxy_for

if TYPE_CHECKING:
    from azure.storage.blob import BlobClient, ContainerClient

API_VERSIONS = ("2019-02-02", "2017-11-09", "2017-04-17")
"""What is tried, in this order: stamps since 2005, since 1811, before (Azure Stack Hub storage differences)."""
_OLDEST_OF_THE_CLIENT = "2019-02-02"

_VERSION = re.compile(r"^\d{4}-\d{2}-\d{2}$")
_SIGNATURE = re.compile(r"(?i)(sig=)[^&\s\"']+")


class ContainerLine:
    """The client with its connections, and the API version that the service was found to take."""

    def __init__(self, container_url: str, sas: Secret, settings: StoreSettings) -> None:
        self._container_url = container_url
        self._sas = sas
        self._settings = settings
        self._lock = threading.Lock()
        self._client: ContainerClient | None = None
        self._reads: BlobReads | None = None
        self._closed = False
        self._fixed = settings.api_version
        self.version = settings.api_version or API_VERSIONS[0]
        if not _VERSION.match(self.version):
            raise ApiVersionError(store=container_url, version=ascii(self.version), detail="write it as 2019-02-02")

    @property
    def container(self) -> ContainerClient:
        with self._lock:
            if self._client is None:
                self._client = self._connect()
            return self._client

    @property
    def reads(self) -> BlobReads:
        with self._lock:
            if self._reads is None:
                self._reads = BlobReads(self._container_url, self._sas, self._settings)
            return self._reads

    def blob(self, name: str) -> BlobClient:
        return self.container.get_blob_client(name)

    def step_down(self, refused: str) -> bool:
        """Takes the next older version, unless one was set; tells whether there is one left to try."""
        with self._lock:
            if self._fixed is not None:
                return False
            if self.version == refused:
                older = [version for version in API_VERSIONS if version < refused]
                if not older:
                    return False
                self.version = older[0]
            return True

    def check_open(self, location: str) -> None:
        if self._closed:
            raise StoreClosedError(store=location)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            if self._client is not None:
                self._client.close()
                self._client = None
            reads, self._reads = self._reads, None
        if reads is not None:
            reads.close()

    def _connect(self) -> ContainerClient:
        import requests
        from azure.core.credentials import AzureSasCredential
        from azure.core.pipeline.transport import RequestsTransport
        from azure.storage.blob import ContainerClient, ExponentialRetry
        from requests.adapters import HTTPAdapter

        _keep_sas_out_of_urllib3_log()
        session = requests.Session()
        session.trust_env = False  # a .netrc must not add its own Authorization to a SAS
        access = ContainerAccess.at(self._container_url, self._sas)
        if access.scheme == "https" and (proxy := proxy_for(access.host)) is not None:
            session.proxies = {"https": proxy.url}
        for scheme in ("https://", "http://"):
            session.mount(scheme, HTTPAdapter(pool_maxsize=64))
        return ContainerClient.from_container_url(
            self._container_url,
            credential=AzureSasCredential(self._sas.reveal()),
            api_version=_OLDEST_OF_THE_CLIENT,
            transport=RequestsTransport(
                session=session,
                session_owner=True,
                connection_timeout=self._settings.connect_timeout_s,
                read_timeout=self._settings.io_timeout_s,
                connection_verify=self._settings.ca_file or True,
                use_env_settings=False,
            ),
            retry_policy=ExponentialRetry(
                initial_backoff=1, increment_base=2, retry_total=self._settings.retries, random_jitter_range=1
            ),
            permit_redirects=False,
            max_single_put_size=64 * 1024 * 1024,
            raw_request_hook=self._set_version,
        )

    def _set_version(self, request: Any) -> None:
        # The client knows only some versions; the requests that are made here are the same in all of them.
        request.http_request.headers["x-ms-version"] = self.version


def bare_etag(etag: object) -> str | None:
    """A listing gives it bare, every other answer in quotes."""
    return str(etag).strip('"') if etag else None


def without_address(error: Exception) -> str:
    """What went wrong on the line, in words of our own: the client's text has the address in it."""
    cause: BaseException | None = error
    names: list[str] = []
    while cause is not None and len(names) < 6:
        names.append(type(cause).__name__)
        reason = getattr(cause, "reason", None)
        inner = reason if isinstance(reason, BaseException) else getattr(cause, "inner_exception", None)
        cause = inner or cause.__cause__ or cause.__context__
    text = " ".join(names).lower()
    for sign, words in (
        ("nameresolution", "the name of the account cannot be resolved"),
        ("gaierror", "the name of the account cannot be resolved"),
        ("ssl", "its certificate was not accepted (set 'ca_file' of the destination for a stamp's own)"),
        ("refused", "the connection was refused"),
        ("connecttimeout", "it does not answer"),
        ("timeout", "it stopped answering"),
        ("blockingio", "it stopped answering"),
        ("incomplete", "the connection was cut"),
        ("reset", "the connection was cut"),
        ("connection", "there is no connection"),
        ("valueerror", "its answer cannot be understood"),
    ):
        if sign in text:
            return words
    return names[0]


class _WithoutSignature(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        if "sig=" in message.lower():
            record.msg, record.args = _SIGNATURE.sub(r"\1***", message), ()
        return True


_FILTER = _WithoutSignature()


def _keep_sas_out_of_urllib3_log() -> None:
    """urllib3 writes whole request lines at level DEBUG and in its warnings about retries."""
    for name in ("urllib3.connectionpool", "urllib3.util.retry", "urllib3.connection"):
        logging.getLogger(name).addFilter(_FILTER)
