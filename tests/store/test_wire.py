"""What the lean wire makes of headers and of the environment: waits that are asked for, and proxies."""

from __future__ import annotations

import tracemalloc
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from bridge.errors import UsageError
from bridge.secrets import Secret
from bridge.store._container_errors import Answer, service_error
from bridge.store._sas import describe_sas
from bridge.store._wire import proxy_for, retry_after_s
from bridge.store.transfer._blob_wire import StagedBlock, _blocks


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("7", 7.0),
        ("999999999999999999999", 600.0),
        ("soon", None),
        ("-3", None),
        ("\xb2", None),
        ("x, 1 Jan 99999999999999999999 00:00:00 GMT", None),
        ("Mon, 01 Jan 2001 00:00:00 GMT", 0.0),
        ("Fri, 31 Dec 2999 00:00:00 GMT", 600.0),
    ],
)
def test_a_wait_is_read_as_seconds_or_not_at_all(value: str | None, seconds: float | None) -> None:
    assert retry_after_s(value) == seconds


def test_a_wait_may_be_given_as_the_moment_of_its_end() -> None:
    then = datetime.now(UTC) + timedelta(seconds=100)
    assert retry_after_s(format_datetime(then, usegmt=True)) == pytest.approx(100, abs=5)


def test_a_clock_of_the_service_that_cannot_be_does_not_hide_its_refusal() -> None:
    error = service_error(
        Answer(
            store="https://account.blob.local/container",
            path="",
            status=403,
            code="AuthenticationFailed",
            message="",
            headers={"Date": "Fri, 31 Dec 9999 23:59:59 -0800"},
            sas=describe_sas(Secret("sv=2019-02-02&sr=c&sp=r&se=2099-01-01T00:00:00Z&sig=c2VjcmV0")),
            needs="r",
            version="2019-02-02",
        )
    )
    assert "AuthenticationFailed" in str(error)


@pytest.mark.parametrize(
    ("named", "host", "port"),
    [
        ("http://proxy.corp:3128", "proxy.corp", 3128),
        ("proxy.corp:3128", "proxy.corp", 3128),
        ("10.0.0.1:3128", "10.0.0.1", 3128),
        ("http://proxy.corp", "proxy.corp", 8080),
        ("name:word@proxy.corp:3128", "proxy.corp", 3128),
    ],
)
def test_a_proxy_is_taken_as_other_tools_take_it(
    monkeypatch: pytest.MonkeyPatch, named: str, host: str, port: int
) -> None:
    for name in ("no_proxy", "NO_PROXY", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", named)
    proxy = proxy_for("account.blob.local")
    assert proxy is not None
    assert (proxy.host, proxy.port) == (host, port)
    assert (proxy.authorization is not None) == ("@" in named)


@pytest.mark.parametrize("named", ["http://proxy:abc", "socks5://proxy:1080", "https://name:word@proxy:443", "http://"])
def test_what_is_no_proxy_that_can_be_spoken_to_is_named_before_anything_is_sent(
    monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    for name in ("no_proxy", "NO_PROXY", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", named)
    with pytest.raises(UsageError, match="HTTPS_PROXY") as caught:
        proxy_for("account.blob.local")
    assert "word" not in str(caught.value)


def test_a_block_list_as_long_as_they_come_takes_little_memory() -> None:
    block = b"<Block><Name>" + b"A" * 40 + b"</Name><Size>4194304</Size></Block>"
    body = b"\xef\xbb\xbf<BlockList><CommittedBlocks>" + block * 50_000 + b"</CommittedBlocks></BlockList>"
    tracemalloc.start()
    blocks = _blocks(body)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert blocks == [StagedBlock("A" * 40, 4194304)] * 50_000
    assert peak_bytes < 16 << 20


@pytest.mark.parametrize("size", ["-1", "many", "\u0661", "9" * 30], ids=ascii)
def test_a_block_whose_size_is_none_is_refused(size: str) -> None:
    with pytest.raises(ValueError, match="size"):
        _blocks(f"<BlockList><Block><Name>QQ==</Name><Size>{size}</Size></Block></BlockList>".encode())
