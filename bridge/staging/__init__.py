"""A staging share on a Windows host, prepared and removed over ordinary Windows Remote Management."""

from bridge.staging._commands import LONGEST_COMMAND_LINE, command_line
from bridge.staging._share import (
    PreparedShare,
    RemovedShare,
    ShareState,
    StagingHost,
    StagingShare,
    prepare_share,
    remove_share,
    show_share,
)

__all__ = [
    "LONGEST_COMMAND_LINE",
    "PreparedShare",
    "RemovedShare",
    "ShareState",
    "StagingHost",
    "StagingShare",
    "command_line",
    "prepare_share",
    "remove_share",
    "show_share",
]
