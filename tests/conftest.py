"""What every test may ask for."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

# How long an example takes says nothing on a machine that others use too.
hypothesis.settings.register_profile(
    "shared-machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("shared-machine")

# A CI that was begun with nohup ignores a closed terminal, one begun in the background of a script ignores Ctrl-C; and
# so would every program that a test starts.
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = ["tests.support.fixtures_servers"]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """``-n auto``: twice as many as there are processors, as these tests mostly wait for processes and lines."""
    return 2 * (os.cpu_count() or 1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that hold a slow test come first: one that is begun last would keep the others' processors waiting."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def pwsh() -> str:
    """The PowerShell engine that judges: ``PEP_BRIDGE_PWSH``, else ``pwsh`` on PATH."""
    found = os.environ.get("PEP_BRIDGE_PWSH") or shutil.which("pwsh")
    if not found:
        pytest.skip("not run: no PowerShell engine (set PEP_BRIDGE_PWSH, or put pwsh on PATH)")
    return found


@pytest.fixture(scope="session", autouse=True)
def own_user_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test, and no process that one starts, uses the configuration and the state of whoever runs the tests."""
    folder = tmp_path_factory.mktemp("user")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(folder / "state"))
        patch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
        patch.setenv("PEP_BRIDGE_STATE_DIR", str(folder / "state" / "pep-bridge"))
        patch.delenv("PEP_BRIDGE_CONFIG", raising=False)
        yield


@pytest.fixture(autouse=True)
def own_umask() -> Iterator[None]:
    """The command makes its process's files its owner's alone; called inside a test, every later one's."""
    before = os.umask(0)
    os.umask(before)
    yield
    os.umask(before)


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    if sys.platform == "win32":
        pytest.skip("not run: a small file system is mounted on Unix only")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("not run: mounting a small file system needs root")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)
