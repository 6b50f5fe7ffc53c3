"""Where bundles live: a local folder, an SMB share or a blob container, behind one protocol."""

from bridge.store._paths import check_path
from bridge.store._protocol import Buffer, Entry, Reader, Store, Writer

__all__ = ["Buffer", "Entry", "Reader", "Store", "Writer", "check_path"]
