"""Where bundles live: a local folder, an SMB share or a blob container, behind one protocol."""

from bridge.store._destination import Destination, DestinationKind, parse_destination
from bridge.store._folder import FolderStore
from bridge.store._open import open_store
from bridge.store._paths import check_path
from bridge.store._places import lies_within
from bridge.store._protocol import (
    Buffer,
    Entry,
    FolderTree,
    PartialStore,
    ReadableStore,
    Reader,
    Store,
    UnsafeNameHandler,
    Writer,
)
from bridge.store._sas import SasInfo, describe_sas
from bridge.store._settings import StoreSettings
from bridge.store._sqlite import says_full, use_write_ahead_log
from bridge.store._temporary import FilesByPath, FilesOnDisk, TemporaryDatabase

__all__ = [
    "Buffer",
    "Destination",
    "DestinationKind",
    "Entry",
    "FilesByPath",
    "FilesOnDisk",
    "FolderStore",
    "FolderTree",
    "PartialStore",
    "ReadableStore",
    "Reader",
    "SasInfo",
    "Store",
    "StoreSettings",
    "TemporaryDatabase",
    "UnsafeNameHandler",
    "Writer",
    "check_path",
    "describe_sas",
    "lies_within",
    "open_store",
    "parse_destination",
    "says_full",
    "use_write_ahead_log",
]
