"""From a destination and its secret to the store."""

from __future__ import annotations

import re
import sys

from bridge.errors import SasError, StoreAuthenticationError, UsageError
from bridge.secrets import Credential, Secret
from bridge.store._destination import Destination, DestinationKind
from bridge.store._folder import FolderStore
from bridge.store._protocol import Store
from bridge.store._settings import StoreSettings

_LOOPBACK = re.compile(r"^(?:localhost|127\.\d+\.\d+\.\d+|\[::1\])$")


def open_store(
    destination: Destination,
    *,
    credential: Credential | None = None,
    sas: Secret | None = None,
    settings: StoreSettings | None = None,
) -> Store:
    """The store at a destination. A share or container is not asked anything before the first method is called.

    Args:
        credential: of a share; on Windows ``None`` means whoever runs this.
        sas: of a container.

    Raises:
        StoreAuthenticationError: the credential or SAS that this kind of store needs was not given.
        SasError: the SAS cannot be read.
        UsageError: a SAS would go over the line in clear text, or ``ca_file`` cannot be used.
    """
    settings = settings or StoreSettings()
    match destination.kind:
        case DestinationKind.FOLDER:
            return FolderStore(destination.path)
        case DestinationKind.SHARE:
            return _open_share(destination, credential, settings)
        case DestinationKind.CONTAINER:
            return _open_container(destination, sas, settings)


def _open_share(destination: Destination, credential: Credential | None, settings: StoreSettings) -> Store:
    if sys.platform == "win32" and destination.port is None:
        from bridge.store._windows_share import open_windows_share

        return open_windows_share(destination, credential)
    from bridge.store._share import ShareStore

    if credential is None:
        raise StoreAuthenticationError(
            store=destination.location,
            detail="no credential was given",
            fix="Give the user name of the share in the configuration, and its password through the prompt, the keyring"
            " or PEP_BRIDGE_SHARE_PASSWORD.",
        )
    return ShareStore(
        destination.host,
        destination.share,
        credential,
        port=destination.port,
        root=destination.folder,
        settings=settings,
    )


def _open_container(destination: Destination, sas: Secret | None, settings: StoreSettings) -> Store:
    from bridge.store._container import ContainerStore

    if sas is None:
        raise SasError(
            store=destination.location, detail="none was given; set PEP_BRIDGE_SAS or 'sas_file' of the destination"
        )
    if destination.account_url.startswith("http://") and not _LOOPBACK.match(destination.host):
        raise UsageError(
            detail=f"{destination.location} would get the SAS over the line in clear text",
            fix="Write the address with https://.",
        )
    if settings.ca_file is not None:
        _check_authorities(settings.ca_file, destination)
    return ContainerStore(destination.container_url, sas, root=destination.folder, settings=settings)


def _check_authorities(ca_file: str, destination: Destination) -> None:
    import ssl

    from bridge.store._wire import tls_context

    try:
        tls_context(ca_file)
    except OSError as error:  # that of TLS is one too
        reason = "it holds no certificate in PEM form" if isinstance(error, ssl.SSLError) else error.strerror
        raise UsageError(
            detail=f"'ca_file' of {destination.location} cannot be used: {ca_file}: {reason}",
            fix="Name a PEM file with the certificate of the authority that issued the service's own.",
        ) from error
