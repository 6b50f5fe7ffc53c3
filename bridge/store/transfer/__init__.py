"""The transfer engine: moves files between any two stores, hashing each byte as it passes, and seals them in place."""

from bridge.store._access import ContainerAccess, LeanContainer
from bridge.store.transfer._engine import transfer
from bridge.store.transfer._events import (
    EventHandler,
    FileFinished,
    FileResult,
    FileStatus,
    Note,
    Paused,
    Progress,
    Repairing,
    Retrying,
    TransferEvent,
    TransferItem,
    TransferResult,
    Unpaused,
)
from bridge.store.transfer._hashing import FileHash, comes_over_a_line, hash_files
from bridge.store.transfer._journal import TransferJournal
from bridge.store.transfer._patience import PatientReads
from bridge.store.transfer._settings import LinePolicy, QuietHours, TransferSettings, parse_rate
from bridge.store.transfer._tally import SILENT_S

__all__ = [
    "SILENT_S",
    "ContainerAccess",
    "EventHandler",
    "FileFinished",
    "FileHash",
    "FileResult",
    "FileStatus",
    "LeanContainer",
    "LinePolicy",
    "Note",
    "PatientReads",
    "Paused",
    "Progress",
    "QuietHours",
    "Repairing",
    "Retrying",
    "TransferEvent",
    "TransferItem",
    "TransferJournal",
    "TransferResult",
    "TransferSettings",
    "Unpaused",
    "comes_over_a_line",
    "hash_files",
    "parse_rate",
    "transfer",
]
