"""Destinations as people write them, and what a SAS says of itself."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from bridge.errors import SasError, SecretOnCommandLineError, StoreAuthenticationError, UsageError
from bridge.secrets import Secret
from bridge.store import DestinationKind, FolderStore, describe_sas, open_store, parse_destination

SIGNATURE = "Zm9vYmFyYmF6cXV4cXV1eA%3D%3D"
SAS = f"sv=2019-02-02&st=2026-01-01T00%3A00%3A00Z&se=2026-01-02T06%3A30Z&sr=c&sp=racwl&spr=https&sig={SIGNATURE}"


def test_a_path_is_a_folder_and_becomes_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    destination = parse_destination("bundles/here")
    assert destination.kind is DestinationKind.FOLDER
    assert destination.path == tmp_path / "bundles" / "here"
    assert isinstance(open_store(destination), FolderStore)


@pytest.mark.parametrize(
    ("text", "host", "port", "share", "folder", "location", "unc"),
    [
        (r"\\srv\logs", "srv", None, "logs", "", r"\\srv\logs", r"\\srv\logs"),
        (r"\\srv\logs\a\b", "srv", None, "logs", "a/b", r"\\srv\logs\a\b", r"\\srv\logs\a\b"),
        (r"\\10.0.0.4\logs$\a" + "\\", "10.0.0.4", None, "logs$", "a", r"\\10.0.0.4\logs$\a", r"\\10.0.0.4\logs$\a"),
        ("smb://srv/logs/a%20b/c", "srv", None, "logs", "a b/c", r"\\srv\logs\a b\c", r"\\srv\logs\a b\c"),
        ("smb://srv:445/logs", "srv", None, "logs", "", r"\\srv\logs", r"\\srv\logs"),
        ("SMB://srv:4450/logs/x y", "srv", 4450, "logs", "x y", "smb://srv:4450/logs/x%20y", r"\\srv\logs\x y"),
    ],
)
def test_a_share_is_read_in_both_its_forms(
    text: str, host: str, port: int | None, share: str, folder: str, location: str, unc: str
) -> None:
    found = parse_destination(text)
    assert (found.kind, found.host, found.port, found.share, found.folder) == ("share", host, port, share, folder)
    assert (found.location, found.unc) == (location, unc)
    assert parse_destination(found.location) == found


@pytest.mark.parametrize(
    ("text", "account_url", "container", "folder"),
    [
        ("https://acc.blob.core.windows.net/logs", "https://acc.blob.core.windows.net", "logs", ""),
        (
            "https://acc.blob.local.azurestack.external/logs/a%20b/c/",
            "https://acc.blob.local.azurestack.external",
            "logs",
            "a b/c",
        ),
        ("https://acc.blob.x.y:8443/logs", "https://acc.blob.x.y:8443", "logs", ""),
        ("http://127.0.0.1:10000/devstoreaccount1/logs/sub", "http://127.0.0.1:10000/devstoreaccount1", "logs", "sub"),
    ],
)
def test_a_container_is_read(text: str, account_url: str, container: str, folder: str) -> None:
    found = parse_destination(text)
    assert (found.kind, found.account_url, found.share, found.folder) == ("container", account_url, container, folder)
    assert found.container_url == f"{account_url}/{container}"
    assert found.url == found.location
    assert parse_destination(found.location) == found


@pytest.mark.parametrize(
    "text",
    [
        f"https://acc.blob.core.windows.net/logs?{SAS}",
        f"https://acc.blob.core.windows.net/logs?sp=rl&SIG={SIGNATURE}",
        "smb://user:hunter22@server/share",
        "https://user:hunter22@acc.blob.core.windows.net/logs",
    ],
)
def test_a_secret_in_a_destination_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(SecretOnCommandLineError) as caught:
        parse_destination(text)
    told = str(caught.value) + caught.value.advice + repr(caught.value.fields)
    assert SIGNATURE not in told
    assert "hunter22" not in told
    assert "PEP_BRIDGE_" in caught.value.advice


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "  ",
            "ftp://server/x",
            "file:///tmp/x",
            "smb://",
            "smb://server",
            "smb:///share",
            "\\\\server",
            "\\\\\\share\\x",
        ),
        *("\\\\ser ver\\share", "\\\\server\\sh:are", "smb://server/share/../up", "\\\\server\\share\\..\\up"),
        *("smb://server:99999/share", "smb://user@server/share", "smb://server/share?x=1", "smb://server/share/a%5Cb"),
        *("https://acc.blob.core.windows.net", "https://acc.blob.core.windows.net/UPPER", "https://acc.blob/c/../d"),
        *("https://acc.blob.core.windows.net/a--b", "https://acc.blob.core.windows.net/logs?restype=container"),
        *("https://[::1/x", "https:///logs", "bad\0path"),
    ],
)
def test_what_cannot_be_a_destination_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_destination(text)


def test_a_store_is_not_opened_without_its_secret() -> None:
    with pytest.raises(SasError):
        open_store(parse_destination("https://acc.blob.core.windows.net/logs"))
    with pytest.raises(StoreAuthenticationError):
        open_store(parse_destination("smb://server:4450/share"))


def test_a_sas_says_what_it_allows_and_until_when() -> None:
    for text in (SAS, "?" + SAS, f"https://acc.blob.core.windows.net/logs?{SAS}", f" {SAS}\n"):
        info = describe_sas(Secret(text))
        assert info.permissions == frozenset("racwl")
        assert (info.resource, info.version, info.protocols) == ("container", "2019-02-02", "https")
        assert info.starts == datetime(2026, 1, 1, tzinfo=UTC)
        assert info.expires == datetime(2026, 1, 2, 6, 30, tzinfo=UTC)
        assert info.allows("d") is False


def test_an_account_sas_and_one_with_a_stored_policy_are_told_apart() -> None:
    account = describe_sas(Secret(f"sv=2019-02-02&ss=bqt&srt=sco&sp=rwdlacup&se=2030-01-01&sig={SIGNATURE}"))
    assert (account.resource, account.services, account.resource_types) == (
        "account",
        frozenset("bqt"),
        frozenset("sco"),
    )
    assert account.expires == datetime(2030, 1, 1, tzinfo=UTC)
    policy = describe_sas(Secret(f"sv=2019-02-02&sr=c&si=nightly&sig={SIGNATURE}"))
    assert policy.policy == "nightly"
    assert policy.allows("w") is None
    assert policy.expires is None


@pytest.mark.parametrize(
    "text",
    [
        *("", "nonsense", "https://acc.blob.core.windows.net/logs", f"sp=rl&se=2030-01-01&sig={SIGNATURE}"),
        *(f"sv=2019-02-02&sig={SIGNATURE}", f"sv=2019-02-02&sp=rl&se=soon&sig={SIGNATURE}", "sv=2019-02-02&sp=rl&sig="),
        *(
            f"sv=2019-02-02&sv=2019-02-02&sp=rl&se=2030-01-01&sig={SIGNATURE}",
            f"sv=2019-02-02&sp=\u0440l&sig={SIGNATURE}",
        ),
    ],
)
def test_a_sas_that_cannot_be_one_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(SasError) as caught:
        describe_sas(Secret(text))
    assert SIGNATURE not in str(caught.value)
