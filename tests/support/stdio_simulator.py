"""A process that serves the recorded commands over stdin and stdout, as ssh would start it."""

from __future__ import annotations

import sys

from bridge.simulator import serve_stdio
from tests.support.recorded_commands import RECORDED_COMMANDS

if __name__ == "__main__":
    serve_stdio(RECORDED_COMMANDS, sys.stdin.buffer, sys.stdout.buffer)
