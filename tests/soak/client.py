"""One client process of the soak: collects, attaches or stops as the command line does, with less patience."""

from __future__ import annotations

import faulthandler
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bridge.collection import (
    Access,
    Control,
    Delivered,
    LockSettings,
    Outcome,
    Place,
    Request,
    Settings,
    attach,
    collect,
    deliver,
    stop,
)
from bridge.collection._parts import default_ports
from bridge.errors import BridgeError
from bridge.secrets import Credential, Secret
from bridge.store.transfer import TransferSettings
from cli._signals import interrupts

IMPATIENT = Settings(
    watch_s=0.1,
    settle_s=0.4,
    after_stop_s=4.0,
    stop_s=5.0,
    second_thoughts_s=1.0,
    late_s=2.0,
    stall_s=4.0,
    started_s=0.3,
    reattach_s=1.0,
    busy_s=0.5,
    attach_deadline_s=20.0,
    line_deadline_s=6.0,
    free_bytes=1,
    lock=LockSettings(heartbeat_s=0.5, poll_s=0.1),
    transfer=TransferSettings(connections=4),
)


def start(document: dict[str, Any], log: Path) -> subprocess.Popen[str]:
    """Starts one; what it writes on stdout is one line of JSON, its stderr goes to ``log``."""
    with log.open("ab") as errors:
        child = subprocess.Popen(
            [sys.executable, "-m", "tests.soak.client"],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
        )
    assert child.stdin is not None
    child.stdin.write(json.dumps(document))
    child.stdin.close()
    child.stdin = None
    return child


def main() -> None:
    faulthandler.enable()
    document = json.load(sys.stdin)
    control = Control()
    answer: dict[str, Any]
    with interrupts(control, lambda text: None):
        try:
            outcome = _work(document, control)
        except BridgeError as error:
            answer = {"raised": type(error).__name__, "errors": [str(error)]}
        else:
            answer = outcome.to_json() | {"coverage": None}
            if isinstance(outcome, Outcome):
                answer["errors"] = [str(error) for error in outcome.errors]
                answer["exit_code"] = int(outcome.exit_code)
    print(json.dumps(answer | {"verb": document["verb"]}))


def _work(document: dict[str, Any], control: Control) -> Outcome | Delivered:
    if document["verb"] == "deliver":
        return deliver(
            Place.parse(document["bundle"]),
            Place.parse(document["copy"]),
            source_access=_secret(document["destination"]),
            target_access=_secret(document["copy_access"]),
            state_dir=Path(document["state_dir"]),
            control=control,
            settings=IMPATIENT,
        )
    access = Access(
        Credential(document["username"], Secret(document["password"])),
        _secret(document["destination"]),
        _share_credential(document["staging"]),
    )
    state_dir = Path(document["state_dir"])
    match document["verb"]:
        case "collect":
            return collect(
                Request.from_json(document["request"]),
                access,
                state_dir=state_dir,
                control=control,
                detach=document["detach"],
                settings=IMPATIENT,
                ports=replace(default_ports(), now=_clock(document["clock_min"])),
            )
        case "attach":
            return attach(document["run"], access, state_dir=state_dir, control=control, settings=IMPATIENT)
        case _:
            return stop(document["run"], access, state_dir=state_dir, settings=IMPATIENT, patience_s=60.0)


def _clock(ahead_min: int) -> Callable[[], datetime]:
    return lambda: datetime.now(UTC) + timedelta(minutes=ahead_min)


def _secret(document: dict[str, str] | None) -> Credential | Secret | None:
    if document is not None and "sas" in document:
        return Secret(document["sas"])
    return _share_credential(document)


def _share_credential(document: dict[str, str] | None) -> Credential | None:
    return Credential(document["username"], Secret(document["password"])) if document else None


if __name__ == "__main__":
    main()
