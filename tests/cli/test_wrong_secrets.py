"""What the verbs that read a bundle say of a secret that does not open its place."""

from __future__ import annotations

import pytest

from bridge.errors import ExitCode
from tests.support.azurite import Azurite
from tests.support.command_line import run
from tests.support.samba import USERNAME, Samba

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


def test_a_bundle_that_a_share_has_not_is_a_wrong_place(samba: Samba) -> None:
    done = run(
        *("verify", samba.url(folder="no-such-bundle"), "--share-username", USERNAME),
        PEP_BRIDGE_SHARE_PASSWORD=samba.credential.password.reveal(),
    )
    assert done.returncode == ExitCode.USAGE, done.stderr
    assert "nothing is there" in done.stderr
