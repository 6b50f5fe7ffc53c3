"""What only a container can get wrong: what a SAS does not allow, versions, blocks, a service that is gone."""

from __future__ import annotations

import base64
import hashlib
import logging
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qs

import pytest

from bridge.errors import (
    ApiVersionError,
    SasError,
    SasExpiredError,
    StoreCorruptError,
    StoreError,
    StoreNotFoundError,
    StorePermissionError,
    StoreUnreachableError,
    UsageError,
)
from bridge.secrets import Secret
from bridge.store import Store, StoreSettings, open_store, parse_destination
from bridge.store._container import ContainerStore
from tests.support.azurite import Azurite
from tests.support.processes import free_port
from tests.support.transfer_lab import FlippingProxy

OTHER_KEY = base64.b64encode(b"another key of another account.." * 2).decode()
MIB = 1024 * 1024


@pytest.fixture
def container(azurite: Azurite) -> str:
    return azurite.new_container()


def opened(azurite: Azurite, container: str, sas: Secret, *, api_version: str | None = None) -> ContainerStore:
    return ContainerStore(
        azurite.container_url(container), sas, settings=StoreSettings(retries=0, api_version=api_version)
    )


def read(store: Store, path: str) -> bytes:
    with store.open_read(path) as reader:
        buffer = bytearray(reader.size_bytes)
        at = 0
        while at < len(buffer):
            at += reader.readinto(memoryview(buffer)[at:])
    return bytes(buffer)


def write(store: Store, path: str, data: bytes) -> None:
    with store.open_write(path) as writer:
        writer.write(data)
        writer.commit()


# -- what a SAS does not allow ----------------------------------------------------------------------------------------


def test_an_expired_sas_is_named_with_its_time(azurite: Azurite, container: str) -> None:
    sas = azurite.sas(container, starts_in=timedelta(hours=-2), expires_in=timedelta(hours=-1))
    with closing(opened(azurite, container, sas)) as store:
        for use in (lambda: list(store.list()), lambda: write(store, "a", b"x"), lambda: store.stat("a")):
            with pytest.raises(SasExpiredError, match="it expired at"):
                use()


def test_a_sas_that_is_not_valid_yet_is_named(azurite: Azurite, container: str) -> None:
    sas = azurite.sas(container, starts_in=timedelta(hours=1))
    with closing(opened(azurite, container, sas)) as store, pytest.raises(SasExpiredError, match="begins only"):
        list(store.list())


@pytest.mark.parametrize(
    ("permissions", "use", "lacks"),
    [
        ("rl", lambda store: write(store, "new", b"x"), "Write or Create"),
        ("rl", lambda store: write(store, "new", bytes(9_000_000)), "Write or Create"),
        ("rcwd", lambda store: list(store.list()), "List"),
        ("wl", lambda store: store.stat("there"), "Read"),
        ("wl", lambda store: read(store, "there"), "Read"),
        ("rwl", lambda store: store.remove("there"), "Delete"),
    ],
)
def test_a_permission_that_the_sas_lacks_is_named(
    azurite: Azurite, container: str, permissions: str, use: Callable[[ContainerStore], object], lacks: str
) -> None:
    with closing(opened(azurite, container, azurite.sas(container))) as owner:
        write(owner, "there", b"x")
    with closing(opened(azurite, container, azurite.sas(container, permissions))) as store:
        with pytest.raises(StorePermissionError, match=f"needs {lacks}"):
            use(store)


def test_what_a_sas_permits_is_said_in_words(azurite: Azurite, container: str) -> None:
    with closing(opened(azurite, container, azurite.sas(container, "acwdl"))) as store:
        with pytest.raises(StorePermissionError, match="needs Read, the SAS has Add, Create, Delete, List, Write"):
            store.stat("there")


def test_a_sas_that_may_only_write_still_writes_large_and_small_files(azurite: Azurite, container: str) -> None:
    with closing(opened(azurite, container, azurite.sas(container, "w"))) as store:
        write(store, "small", b"x")
        write(store, "large", bytes(9_000_000))
    with closing(opened(azurite, container, azurite.sas(container, "rl"))) as reader:
        assert [(entry.path, entry.size_bytes) for entry in reader.list()] == [("large", 9_000_000), ("small", 1)]


@pytest.mark.parametrize(
    "use", [lambda store: list(store.list()), lambda store: store.stat("a"), lambda store: write(store, "a", b"x")]
)
def test_the_sas_of_another_container_or_account_is_named(
    azurite: Azurite, container: str, use: Callable[[ContainerStore], object]
) -> None:
    other = azurite.new_container()
    for sas in (azurite.sas(other), azurite.sas(container, key=OTHER_KEY)):
        with closing(opened(azurite, container, sas)) as store, pytest.raises(SasError, match="another container"):
            use(store)


def test_an_account_sas_works_and_one_for_other_resources_is_named(azurite: Azurite, container: str) -> None:
    with closing(opened(azurite, container, azurite.account_sas())) as store:
        write(store, "a", b"x")
        assert read(store, "a") == b"x"
    with closing(opened(azurite, container, azurite.account_sas(resource_types="s"))) as store:
        with pytest.raises(StorePermissionError, match="resource types"):
            list(store.list())
    with closing(opened(azurite, container, azurite.account_sas(services="q"))) as store:
        with pytest.raises(StorePermissionError, match="blob service"):
            list(store.list())


def test_a_container_that_is_not_there_is_told_from_a_blob_that_is_not_there(azurite: Azurite, container: str) -> None:
    with closing(opened(azurite, container, azurite.sas(container))) as store:
        with pytest.raises(StoreNotFoundError, match="no such blob"):
            read(store, "nope")
    with closing(opened(azurite, "not-there", azurite.sas("not-there"))) as store:
        with pytest.raises(StoreNotFoundError, match="no such container"):
            list(store.list())
        with pytest.raises(StoreNotFoundError, match="no such container"):
            write(store, "a", b"x")


def test_a_sas_is_never_sent_in_clear_text_over_a_network() -> None:
    destination = parse_destination("http://account.blob.example.com/container")
    with pytest.raises(UsageError, match="clear text"):
        open_store(destination, sas=Secret("sv=2019-02-02&sr=c&sp=rl&se=2030-01-01&sig=c2lnbmF0dXJl"))


def test_nothing_that_fails_shows_the_sas(azurite: Azurite, container: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    other = azurite.new_container()
    sas = azurite.sas(other)
    signature = sas.reveal().rpartition("sig=")[2]
    told = ""
    gone = ContainerStore(
        f"http://127.0.0.1:{free_port()}/devstoreaccount1/gone", sas, settings=StoreSettings(retries=0)
    )
    wrong = opened(azurite, container, sas)
    for store in (gone, wrong):
        for use in (
            lambda s: list(s.list()),
            lambda s: s.stat("a"),
            lambda s: write(s, "a", b"x"),
            lambda s: read(s, "a"),
        ):
            with pytest.raises(StoreError) as caught:
                use(store)
            told += "".join(traceback.format_exception(caught.value)) + repr(vars(caught.value))
            assert caught.value.__context__ is None
        told += repr(store) + store.location + repr(store.sas)
        store.close()
    assert "127.0.0.1" in caplog.text  # the client did log its requests
    for form in (signature, signature.replace("%2B", "+").replace("%2F", "/").replace("%3D", "=")):
        assert form not in told
        assert form not in caplog.text


# -- versions ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "use", [lambda store: list(store.list()), lambda store: store.stat("a"), lambda store: write(store, "a", b"x")]
)
def test_a_version_that_the_service_does_not_know_is_named(
    azurite: Azurite, container: str, use: Callable[[ContainerStore], object]
) -> None:
    with closing(opened(azurite, container, azurite.sas(container), api_version="2031-01-01")) as store:
        with pytest.raises(ApiVersionError, match="2031-01-01"):
            use(store)


@pytest.mark.parametrize("version", ["2017-04-17", "2017-11-09", "2019-02-02", "2021-12-02"])
def test_the_version_that_is_set_is_the_one_that_is_sent(azurite: Azurite, container: str, version: str) -> None:
    with closing(opened(azurite, container, azurite.sas(container), api_version=version)) as store:
        write(store, "large", bytes(9_000_000))
        assert read(store, "large") == bytes(9_000_000)
        assert [entry.size_bytes for entry in store.list()] == [9_000_000]
        assert store.api_version == version


def test_an_old_service_is_asked_in_an_older_version_until_it_answers() -> None:
    with _old_service(newest="2017-11-09") as (url, asked):
        store = ContainerStore(url, _SAS, settings=StoreSettings(retries=0))
        assert list(store.list()) == []
        assert asked == ["2019-02-02", "2017-11-09"]
        assert store.api_version == "2017-11-09"
        assert list(store.list()) == []
        assert asked[2:] == ["2017-11-09"]
        store.close()


def test_a_service_older_than_all_is_named_and_not_asked_for_ever() -> None:
    with _old_service(newest="2009-09-19") as (url, asked):
        store = ContainerStore(url, _SAS, settings=StoreSettings(retries=0))
        with pytest.raises(ApiVersionError):
            list(store.list())
        assert asked == ["2019-02-02", "2017-11-09", "2017-04-17"]
        store.close()


def test_a_version_that_was_set_is_not_changed_in_silence() -> None:
    with _old_service(newest="2017-11-09") as (url, asked):
        store = ContainerStore(url, _SAS, settings=StoreSettings(retries=0, api_version="2019-07-07"))
        with pytest.raises(ApiVersionError, match="2019-07-07"):
            list(store.list())
        assert asked == ["2019-07-07"]
        store.close()


@pytest.mark.parametrize(
    ("version", "largest"), [("2019-02-02", 100 * MIB), ("2019-07-07", 100 * MIB), ("2019-12-12", 101 * MIB)]
)
def test_the_largest_block_depends_on_the_version(version: str, largest: int) -> None:
    sent: list[int] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        sent.append(int(handler.headers["Content-Length"]))
        _answer(handler, 201, "")

    with _service(answer) as url:
        with closing(ContainerStore(url, _SAS, settings=StoreSettings(retries=0, api_version=version))) as store:
            # So many bytes that 50,000 blocks of 101 MiB hold them.
            with store.open_write("file", 101 * MIB * 50_000) as writer:
                writer.write(bytes(101 * MIB))
    assert sent == [largest]


# -- blocks and checksums ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "flip_at"), [(60_000, 30_000), (9_000_000, 30_000), (9_000_000, 8_900_000)], ids=["whole", "first", "last"]
)
def test_bytes_that_changed_on_the_way_are_refused_by_the_service(
    azurite: Azurite, container: str, size: int, flip_at: int
) -> None:
    sas = azurite.sas(container)
    with FlippingProxy(azurite.port, flip_at=flip_at) as proxy:
        url = azurite.container_url(container).replace(f":{azurite.port}/", f":{proxy.port}/")
        with closing(ContainerStore(url, sas, settings=StoreSettings(retries=0))) as store:
            with pytest.raises(StoreCorruptError):
                write(store, "file", bytes(size))
        assert proxy.flipped == 1
    with closing(opened(azurite, container, sas)) as store:
        assert list(store.list()) == []


@pytest.mark.parametrize("size", [10, 9_000_000])
def test_what_is_written_has_its_md5_kept_by_the_service(azurite: Azurite, container: str, size: int) -> None:
    with closing(opened(azurite, container, azurite.sas(container))) as store:
        data = bytes(range(256)) * (size // 256) + b"!"
        write(store, "file", data)
        assert store.stat("file").md5 == hashlib.md5(data).digest()


def test_a_blob_that_is_replaced_while_it_is_read_is_noticed(azurite: Azurite, container: str) -> None:
    with closing(opened(azurite, container, azurite.sas(container))) as store:
        write(store, "file", bytes(9_000_000))
        buffer = memoryview(bytearray(5_000_000))
        with store.open_read("file") as reader:
            reader.readinto(buffer)
            write(store, "file", bytes(9_000_001))
            with pytest.raises(StoreCorruptError, match="replaced while it was being read"):
                reader.readinto(buffer)


# -- a service that is gone -------------------------------------------------------------------------------------------


def test_a_service_that_is_down_is_unreachable_and_usable_again_later(own_azurite: Azurite) -> None:
    container = own_azurite.new_container()
    with closing(opened(own_azurite, container, own_azurite.sas(container))) as store:
        write(store, "file", b"x")
        own_azurite.stop()
        with pytest.raises(StoreUnreachableError, match="refused"):
            write(store, "other", b"y")
        with pytest.raises(StoreUnreachableError):
            list(store.list())
        own_azurite.start()
        assert [entry.path for entry in store.list()] == ["file"]


def test_a_service_that_is_busy_says_when_to_ask_again() -> None:
    with _service(
        lambda handler: _answer(handler, 503, "ServerBusy", {"Retry-After": "7"}, "<Message>Ingress.</Message>")
    ) as url:
        store = ContainerStore(url, _SAS, settings=StoreSettings(retries=0))
        with pytest.raises(StoreUnreachableError) as caught:
            list(store.list())
        assert caught.value.fields["retry_after_s"] == 7.0
        store.close()


def test_a_listing_goes_on_from_page_to_page() -> None:
    markers: list[str] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        marker = parse_qs(handler.path).get("marker", [""])[0]
        markers.append(marker)
        following = {"": "second", "second": "third", "third": ""}[marker]
        properties = "<Content-Length>1</Content-Length><BlobType>BlockBlob</BlobType>"
        blob = f"<Blob><Name>{marker or 'first'}</Name><Properties>{properties}</Properties></Blob>"
        blobs = "" if marker == "second" else blob  # a page may be empty and not the last
        results = f"<Blobs>{blobs}</Blobs><NextMarker>{following}</NextMarker>"
        text = f"<EnumerationResults ContainerName='c'>{results}</EnumerationResults>"
        _answer(handler, 200, "", {}, f"<?xml version='1.0' encoding='utf-8'?>{text}")

    with _service(answer) as url:
        with closing(ContainerStore(url, _SAS, settings=StoreSettings(retries=0))) as store:
            assert [entry.path for entry in store.list()] == ["first", "third"]
    assert markers == ["", "second", "third"]


@pytest.mark.parametrize(
    "text",
    [
        "<html><body>Please log in</body></html>",
        "<EnumerationResults><Blobs>",
        "<!DOCTYPE a [<!ENTITY b 'c'>]><EnumerationResults><Blobs/><NextMarker>&b;</NextMarker></EnumerationResults>",
        "<EnumerationResults><Blobs><Blob><Name>a</Name><Properties><Content-Length>-5</Content-Length></Properties>"
        "</Blob></Blobs></EnumerationResults>",
        "<EnumerationResults><Blobs/><NextMarker>again</NextMarker></EnumerationResults>",
    ],
    ids=["a login page", "cut short", "an entity", "a negative size", "no end"],
)
def test_a_listing_that_cannot_be_one_is_an_error_and_ends(text: str) -> None:
    with _service(lambda handler: _answer(handler, 200, "", {}, text)) as url:
        with closing(ContainerStore(url, _SAS, settings=StoreSettings(retries=0))) as store:
            with pytest.raises(StoreUnreachableError, match=r"cannot be understood|has no end"):
                list(store.list())


def test_a_name_that_xml_cannot_hold_is_read_as_it_is_written() -> None:
    properties = "<Properties><Content-Length>1</Content-Length></Properties>"
    names = '<Name Encoded="true">data/50%25.log</Name>', "<Name>data/50%25.log</Name>"
    blobs = "".join(f"<Blob>{name}{properties}</Blob>" for name in names)
    text = f"<EnumerationResults><Blobs>{blobs}</Blobs><NextMarker/></EnumerationResults>"
    with _service(lambda handler: _answer(handler, 200, "", {}, text)) as url:
        with closing(ContainerStore(url, _SAS, settings=StoreSettings(retries=0))) as store:
            assert [entry.path for entry in store.list()] == ["data/50%.log", "data/50%25.log"]


def test_an_answer_that_the_client_stumbles_over_is_no_traceback_of_its_own() -> None:
    for status, code in ((500, "InternalError"), (409, "Oops"), (418, "")):
        with _service(lambda handler, status=status, code=code: _answer(handler, status, code)) as url:  # type: ignore[misc]
            store = ContainerStore(url, _SAS, settings=StoreSettings(retries=0))
            for use in (lambda store: list(store.list()), lambda store: write(store, "a", b"x")):
                with pytest.raises(StoreError):
                    use(store)
            store.close()


def test_a_redirect_to_another_host_does_not_get_the_sas() -> None:
    got: list[str] = []

    def redirected(handler: BaseHTTPRequestHandler) -> None:
        got.append(handler.path)
        _answer(handler, 200, "")

    with _service(redirected) as other:
        with _service(lambda handler: _answer(handler, 307, "", {"Location": other + "/x"})) as url:
            store = ContainerStore(url, _SAS, settings=StoreSettings(retries=0))
            with pytest.raises(StoreError):
                list(store.list())
            store.close()
    assert got == []


_SAS = Secret("sv=2019-02-02&sr=c&sp=racwdl&se=2099-01-01T00%3A00%3A00Z&sig=c2lnbmF0dXJl")
# Common REST API error codes, Microsoft Learn: the header is named beside the message.
_WRONG_HEADER = (
    "<Message>The value for one of the HTTP headers is not in the correct format.</Message>"
    "<HeaderName>x-ms-version</HeaderName><HeaderValue>2031-01-01</HeaderValue>"
)
_EMPTY = b"<?xml version='1.0' encoding='utf-8'?><EnumerationResults><Blobs/><NextMarker/></EnumerationResults>"


@contextmanager
def _old_service(newest: str) -> Iterator[tuple[str, list[str]]]:
    """A service as a stamp's: it refuses every version above one (Azurite knows none that low)."""
    asked: list[str] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        version = handler.headers["x-ms-version"]
        asked.append(version)
        if version > newest:
            _answer(handler, 400, "InvalidHeaderValue", {}, _WRONG_HEADER)
        else:
            _answer(handler, 200, "", {"Content-Type": "application/xml"}, _EMPTY.decode())

    with _service(answer) as url:
        yield url, asked


@contextmanager
def _service(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        def do_PUT(self) -> None:
            left = int(self.headers["Content-Length"])
            while left:
                left -= len(self.rfile.read(min(left, MIB)))
            answer(self)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Silent."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/devstoreaccount1/container"
        finally:
            server.shutdown()
            thread.join()


def _answer(
    handler: BaseHTTPRequestHandler, status: int, code: str, headers: dict[str, str] | None = None, text: str = ""
) -> None:
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code>{text}</Error>" if code else text
    handler.send_response(status)
    for name, value in {"Content-Type": "application/xml", **(headers or {})}.items():
        handler.send_header(name, value)
    if code:
        handler.send_header("x-ms-error-code", code)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body.encode())
