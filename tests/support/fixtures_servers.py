"""The servers that tests ask for by name: ``samba`` and ``azurite``, one of each for a whole run."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator

import pytest

if sys.platform != "win32":
    from tests.support.azurite import Azurite, running_azurite
    from tests.support.samba import Samba, running_samba

_HOW = "not run: {} is missing here; tools/setup_test_servers.sh installs it"


@pytest.fixture(scope="session")
def samba(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Samba]:
    """Samba's smbd on a high loopback port (Linux)."""
    if sys.platform == "win32":
        pytest.skip("not run: smbd does not run on Windows")
    try:
        with running_samba(tmp_path_factory.mktemp("samba")) as server:
            yield server
    except FileNotFoundError as error:
        pytest.skip(_HOW.format(error.filename or error))


@pytest.fixture(autouse=True)
def empty_small_share(request: pytest.FixtureRequest) -> Iterator[None]:
    """What a test left on the small share would fill it for the next one."""
    yield
    if "samba" in request.fixturenames:
        server: Samba = request.getfixturevalue("samba")
        for left in server.path("small").iterdir():
            if left.is_dir():
                shutil.rmtree(left)
            else:
                left.unlink()


@pytest.fixture
def own_samba(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Samba]:
    """A Samba of one test's own, to be killed."""
    if sys.platform == "win32":
        pytest.skip("not run: smbd does not run on Windows")
    try:
        with running_samba(tmp_path_factory.mktemp("own-samba")) as server:
            yield server
    except FileNotFoundError as error:
        pytest.skip(_HOW.format(error.filename or error))


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    """Azurite's blob service on a loopback port."""
    try:
        with running_azurite(tmp_path_factory.mktemp("azurite")) as server:
            yield server
    except FileNotFoundError as error:
        pytest.skip(_HOW.format(error.filename or error))


@pytest.fixture
def own_azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    """An Azurite of one test's own, to be stopped."""
    try:
        with running_azurite(tmp_path_factory.mktemp("own-azurite")) as server:
            yield server
    except FileNotFoundError as error:
        pytest.skip(_HOW.format(error.filename or error))
