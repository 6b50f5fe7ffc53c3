"""What the verbs that read a bundle say of a secret that does not open its place."""

from __future__ import annotations

import base64
from datetime import timedelta
from pathlib import Path

import pytest

from bridge.errors import ExitCode
from bridge.store import FolderStore
from tests.support.azurite import Azurite
from tests.support.bundles import INFO, make_bundle
from tests.support.command_line import run
from tests.support.samba import USERNAME, Samba
from tests.support.tcp_proxy import TcpProxy

HOUR = timedelta(hours=1)
OTHER_KEY = base64.b64encode(bytes(64)).decode()
VERBS = ("verify", "report", "deliver")


@pytest.mark.parametrize("verb", VERBS)
def test_a_wrong_password_of_a_share_is_one_and_not_a_failed_delivery(samba: Samba, verb: str) -> None:
    to = ("--to", "./copies") if verb == "deliver" else ()
    done = run(
        *(verb, samba.url(folder="east-20261123T135500Z-1a2b3c4d"), *to, "--share-username", USERNAME),
        PEP_BRIDGE_SHARE_PASSWORD="not-the-password",
    )
    assert done.returncode == ExitCode.AUTHENTICATION, done.stderr
    assert "unknown user name or wrong password" in done.stderr
    assert "locked out" in done.stderr, "the fix says not to try again and again"
    assert "not-the-password" not in done.stderr


@pytest.mark.parametrize("verb", VERBS)
def test_a_sas_of_another_container_is_told_as_that_with_what_to_do(azurite: Azurite, verb: str) -> None:
    there, other = azurite.new_container(), azurite.new_container()
    to = ("--to", "./copies") if verb == "deliver" else ()
    done = run(
        *(verb, f"{azurite.container_url(there)}/east-20261123T135500Z-1a2b3c4d", *to),
        PEP_BRIDGE_SAS=azurite.sas(other).reveal(),
    )
    assert done.returncode == ExitCode.AUTHENTICATION, done.stderr
    assert "another container" in done.stderr
    assert "make a new one for this very container" in done.stderr
    assert "sig=" not in done.stderr


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    root = tmp_path / INFO.bundle_name
    make_bundle(root, FolderStore(root))
    return root


def test_a_wrong_password_of_the_place_to_deliver_to_is_told_as_that_after_one_attempt(
    samba: Samba, sealed: Path
) -> None:
    with TcpProxy(samba.host, samba.port) as line:
        url = samba.url(folder="copies").replace(f":{samba.port}/", f":{line.port}/")
        done = run(
            *("deliver", str(sealed), "--to", url, "--share-username", USERNAME),
            PEP_BRIDGE_SHARE_PASSWORD="not-the-password",
        )
    assert done.returncode == ExitCode.AUTHENTICATION, done.stderr
    assert "unknown user name or wrong password" in done.stderr
    assert "locked out" in done.stderr
    assert line.connections == 1, "each attempt brings the account nearer to its lock"


@pytest.mark.parametrize("permissions", ["racwdl", "acwl", "acw"])
@pytest.mark.parametrize("wrong", ["another container", "another account", "expired"])
def test_a_sas_that_does_not_open_the_container_to_deliver_to_is_told_as_that(
    azurite: Azurite, sealed: Path, wrong: str, permissions: str
) -> None:
    there = azurite.new_container()
    sas = {
        "another container": lambda: azurite.sas(azurite.new_container(), permissions),
        "another account": lambda: azurite.sas(there, permissions, key=OTHER_KEY),
        "expired": lambda: azurite.sas(there, permissions, expires_in=-HOUR, starts_in=-2 * HOUR),
    }[wrong]()
    done = run("deliver", str(sealed), "--to", azurite.container_url(there), PEP_BRIDGE_SAS=sas.reveal())
    assert done.returncode == ExitCode.AUTHENTICATION, done.stderr
    assert "Make a new SAS" in done.stderr or "make a new one" in done.stderr
    assert "does not allow listing" not in done.stderr or "l" not in permissions
    assert ("it expired at" in done.stderr) is (wrong == "expired")


@pytest.mark.parametrize("permissions", ["racwd", "acwdl"])
def test_a_sas_that_may_not_look_at_a_copy_delivers_it_and_is_told_as_no_sas_to_verify_with(
    azurite: Azurite, sealed: Path, permissions: str
) -> None:
    there = azurite.new_container()
    sas = azurite.sas(there, permissions).reveal()
    delivered = run("deliver", str(sealed), "--to", azurite.container_url(there), PEP_BRIDGE_SAS=sas)
    assert delivered.returncode == ExitCode.OK, delivered.stderr
    [following] = [line for line in delivered.stderr.splitlines() if line.startswith("next, with ")]
    assert "Read and List" in following
    assert following.endswith(f": pep-bridge verify {azurite.container_url(there)}/{INFO.bundle_name}"), "to be copied"
    done = run("verify", f"{azurite.container_url(there)}/{INFO.bundle_name}", PEP_BRIDGE_SAS=sas)
    assert done.returncode == ExitCode.AUTHENTICATION, done.stderr
    assert "it needs List" in done.stderr or "it needs Read" in done.stderr
    assert "with the permissions Read and List to look at a bundle" in done.stderr


@pytest.mark.parametrize("verb", VERBS)
def test_a_share_that_is_not_there_is_named_with_what_to_check(samba: Samba, sealed: Path, verb: str) -> None:
    missing = samba.url("backups")
    words = (verb, str(sealed), "--to", missing) if verb == "deliver" else (verb, f"{missing}/{INFO.bundle_name}")
    done = run(*words, "--share-username", USERNAME, PEP_BRIDGE_SHARE_PASSWORD=samba.credential.password.reveal())
    assert done.returncode == ExitCode.USAGE, done.stderr
    assert f"{missing}: not found: " in done.stderr
    assert "no such share" in done.stderr
    assert "fix: Check the name of the share and of its server" in done.stderr


def test_a_share_that_may_only_be_read_is_told_as_that_with_who_can_change_it(samba: Samba, sealed: Path) -> None:
    done = run(
        *("deliver", str(sealed), "--to", samba.url("readonly"), "--share-username", USERNAME),
        PEP_BRIDGE_SHARE_PASSWORD=samba.credential.password.reveal(),
    )
    assert done.returncode == ExitCode.DELIVERY, done.stderr
    assert "the account may not write there" in done.stderr
    assert "fix: Let this account write there: on the share and in the folder's own permissions." in done.stderr
    assert "Or give another place." in done.stderr


@pytest.mark.parametrize("verb", VERBS)
def test_a_container_that_is_not_there_is_named_with_what_to_check(azurite: Azurite, sealed: Path, verb: str) -> None:
    missing = azurite.container_url("not-there")
    words = (verb, str(sealed), "--to", missing) if verb == "deliver" else (verb, f"{missing}/{INFO.bundle_name}")
    done = run(*words, PEP_BRIDGE_SAS=azurite.account_sas().reveal())
    assert done.returncode == ExitCode.USAGE, done.stderr
    assert missing in done.stderr
    assert "there is no such container" in done.stderr
    assert "fix: Check the name of the container and of its server" in done.stderr


def test_a_bundle_that_a_share_has_not_is_a_wrong_place(samba: Samba) -> None:
    done = run(
        *("verify", samba.url(folder="no-such-bundle"), "--share-username", USERNAME),
        PEP_BRIDGE_SHARE_PASSWORD=samba.credential.password.reveal(),
    )
    assert done.returncode == ExitCode.USAGE, done.stderr
    assert "nothing is there" in done.stderr
