"""Records the cassettes anew: against the simulated stamp, or against a real one.

    python -m tests.endpoint.record_cassettes [NAME ...]
    python -m tests.endpoint.record_cassettes --host 10.0.0.1 --username 'DOMAIN\\CloudAdmin' [NAME ...]

The password of a real stamp is read from PEP_BRIDGE_PASSWORD, else asked for. See docs/cassettes.md.
"""

from __future__ import annotations

import argparse
import getpass
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from bridge.secrets import Credential, Secret
from tests.support.cassettes import CASSETTES, KNOWN_PASSWORD, SCENARIOS, cassette, target_of

_WRONG = Credential("CORP\\nobody", Secret("wrong"))


def main() -> int:
    arguments = _arguments()
    if arguments.serve:
        return _serve(arguments)
    CASSETTES.mkdir(parents=True, exist_ok=True)
    for name in arguments.names or SCENARIOS:
        with _relay(arguments, wrong_password=name == "denied") as (host, port):
            file = CASSETTES / f"{name}.yaml"
            file.unlink(missing_ok=True)
            configuration = "NoSuchEndpoint" if name == "no-such-endpoint" else "PrivilegedEndpoint"
            target = target_of(host, port, Credential("CORP\\operator", Secret("held-by-the-relay")), configuration)
            with cassette(name, record=True):
                said = SCENARIOS[name](target)
            file.with_suffix(".json").write_text(json.dumps(said, indent=1, sort_keys=True) + "\n", encoding="utf-8")
            print(f"{name}: {len(said)} answers")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Records the cassettes anew.")
    parser.add_argument("names", nargs="*", help=f"which of {', '.join(SCENARIOS)}; none means all")
    parser.add_argument("--host", help="the address of a real ERCS machine; none means a simulated one")
    parser.add_argument("--username", default="CORP\\operator")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--wrong-password", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


@contextmanager
def _relay(arguments: argparse.Namespace, *, wrong_password: bool) -> Iterator[tuple[str, int]]:
    """The endpoint and the relay in a process of their own: GUIDs are seeded in this one."""
    command = [sys.executable, "-m", "tests.endpoint.record_cassettes", "--serve", "--username", arguments.username]
    command += ["--host", arguments.host] if arguments.host else []
    command += ["--wrong-password"] if wrong_password else []
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            host, port = process.stdout.readline().split()
            yield host, int(port)
        finally:
            process.stdin.close()


def _serve(arguments: argparse.Namespace) -> int:
    from tests.support.unsealing_relay import UnsealingRelay

    if arguments.host:
        password = os.environ.get("PEP_BRIDGE_PASSWORD") or getpass.getpass()
        credential = _WRONG if arguments.wrong_password else Credential(arguments.username, Secret(password))
        with UnsealingRelay(arguments.host, 5985, credential) as relay:
            _until_closed(relay.host, relay.port)
        return 0
    from bridge.simulator import Account
    from tests.support.simulated_endpoint import simulated_endpoint

    account = Account("CORP\\operator", Secret(KNOWN_PASSWORD))
    with simulated_endpoint(accounts=(account,)) as simulated:
        credential = _WRONG if arguments.wrong_password else simulated.credential
        with UnsealingRelay(simulated.server.host, simulated.server.port, credential) as relay:
            _until_closed(relay.host, relay.port)
    return 0


def _until_closed(host: str, port: int) -> None:
    print(host, port, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    sys.exit(main())
