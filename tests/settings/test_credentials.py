"""Secrets come from where they are safe, in one order, and never from a file that others can read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bridge.credentials import Sources, container_sas, read_secret_file, share_credential, stamp_credential
from bridge.errors import ConfigurationError, UsageError
from bridge.secrets import Secret

POSIX_ONLY = pytest.mark.skipif(os.name != "posix", reason="file modes say nothing on Windows")


def sources(**environment: str) -> Sources:
    return Sources(environment=environment, ask=None, use_keyring=False)


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    file = tmp_path / "pw.txt"
    file.write_text("from file\nsecond line\n", encoding="utf-8")
    file.chmod(0o600)
    return file


def test_the_environment_goes_before_the_file(password_file: Path) -> None:
    found = stamp_credential("east", "A\\b", password_file, sources(PEP_BRIDGE_PASSWORD="from env"))
    assert found.password.reveal() == "from env"


def test_standard_input_goes_before_the_environment() -> None:
    given = Sources({"PEP_BRIDGE_PASSWORD": "from env"}, stdin=Secret("from stdin"), use_keyring=False)
    assert stamp_credential("east", "A\\b", None, given).password.reveal() == "from stdin"


def test_standard_input_holds_the_stamps_password_and_is_not_taken_for_the_shares() -> None:
    given = Sources({"PEP_BRIDGE_SHARE_PASSWORD": "share"}, stdin=Secret("stamp"), use_keyring=False)
    assert share_credential("//nas/logs", "A\\b", None, given).password.reveal() == "share"


def test_the_first_line_of_a_file_is_the_secret(password_file: Path) -> None:
    assert read_secret_file(password_file).reveal() == "from file"


def test_a_prompt_is_the_last_resort_and_names_what_it_asks_for() -> None:
    asked: list[str] = []

    def ask(what: str) -> str:
        asked.append(what)
        return "typed"

    found = stamp_credential("east", "A\\b", None, Sources({}, ask=ask, use_keyring=False))
    assert found.password.reveal() == "typed"
    assert asked == ["the password of A\\b on east"]


def test_without_any_source_the_error_says_which_variable_to_set() -> None:
    with pytest.raises(UsageError) as caught:
        container_sas("https://a.blob.local/c", None, sources())
    assert "PEP_BRIDGE_SAS" in caught.value.advice


def test_a_sas_pasted_as_a_whole_url_is_cut_to_its_query() -> None:
    found = container_sas("x", None, sources(PEP_BRIDGE_SAS="https://a/c?sv=1&sig=abcd"))
    assert found.reveal() == "sv=1&sig=abcd"


@POSIX_ONLY
def test_a_file_that_others_can_read_is_refused(password_file: Path) -> None:
    password_file.chmod(0o640)
    with pytest.raises(ConfigurationError, match="others can read"):
        read_secret_file(password_file)


@pytest.mark.parametrize(("content", "said"), [(b"", "empty"), (b"\n\n", "empty"), (b"\xff\xfe\x00x", "UTF-8")])
def test_a_file_without_a_usable_secret_is_refused_without_showing_it(
    tmp_path: Path, content: bytes, said: str
) -> None:
    file = tmp_path / "pw.txt"
    file.write_bytes(content)
    file.chmod(0o600)
    with pytest.raises(ConfigurationError, match=said) as caught:
        read_secret_file(file)
    assert caught.value.__cause__ is None
