"""The connection that stores of one Windows share have in common; what Windows itself does is replaced."""

from __future__ import annotations

import pytest

from bridge.errors import StoreAuthenticationError
from bridge.secrets import Credential, Secret
from bridge.store import _windows_share, parse_destination

SOMEBODY = Credential("CORP\\somebody", Secret("pw"))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was asked of Windows."""
    made: list[str] = []
    monkeypatch.setattr(_windows_share, "_connect", lambda share, credential: made.append(f"connect {share}"))
    monkeypatch.setattr(_windows_share, "_disconnect", lambda share: made.append(f"disconnect {share}"))
    return made


def test_a_share_stays_connected_until_the_last_store_on_it_is_closed(calls: list[str]) -> None:
    first, second = (
        _windows_share.open_windows_share(parse_destination(place), SOMEBODY)
        for place in (r"\\nas\logs\runs", r"\\NAS\Logs\staging")
    )
    assert calls == ["connect \\\\nas\\logs"]
    first.close()
    assert len(calls) == 1
    second.close()
    assert calls[1:] == ["disconnect \\\\NAS\\Logs"]


def test_a_share_that_was_closed_is_connected_anew(calls: list[str]) -> None:
    for _ in range(2):
        _windows_share.open_windows_share(parse_destination(r"\\nas\logs"), SOMEBODY).close()
    assert calls == ["connect \\\\nas\\logs", "disconnect \\\\nas\\logs"] * 2


def test_a_second_account_on_an_open_share_is_refused_by_name(calls: list[str]) -> None:
    store = _windows_share.open_windows_share(parse_destination(r"\\nas\logs"), SOMEBODY)
    with pytest.raises(StoreAuthenticationError, match=r"CORP.somebody"):
        _windows_share.open_windows_share(parse_destination(r"\\nas\logs"), Credential("other", Secret("pw")))
    store.close()
    assert calls[-1] == "disconnect \\\\nas\\logs"


def test_a_connection_that_is_refused_is_not_counted(monkeypatch: pytest.MonkeyPatch, calls: list[str]) -> None:
    def refuse(share: str, credential: Credential) -> None:
        raise StoreAuthenticationError(store=share, detail="no")

    with monkeypatch.context() as refusing:
        refusing.setattr(_windows_share, "_connect", refuse)
        with pytest.raises(StoreAuthenticationError):
            _windows_share.open_windows_share(parse_destination(r"\\nas\logs"), SOMEBODY)
    _windows_share.open_windows_share(parse_destination(r"\\nas\logs"), SOMEBODY).close()
    assert calls == ["connect \\\\nas\\logs", "disconnect \\\\nas\\logs"]
