"""Services, proxies and firewalls that do what no blob service should: the delivery ends, and says why."""

from __future__ import annotations

import socket
import struct
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from bridge.errors import DeliveryFailedError, StoreAccessError, StoreCorruptError, StoreError, StoreUnreachableError
from bridge.secrets import Secret
from bridge.store import StoreSettings, open_store, parse_destination
from bridge.store.transfer import Note, Repairing, Retrying, TransferEvent, TransferItem, TransferSettings, transfer
from bridge.store.transfer._container import ContainerUpload
from tests.support.scripted_service import EMPTY_LISTING, Answer, Request, ScriptedService, block_list
from tests.support.transfer_lab import MIB, SAS, container, made_up, opened


def reset(connection: socket.socket) -> None:
    """Closes with RST instead of FIN."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@contextmanager
def served(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """Has every connection to a port of this machine served by a thread of its own, and tells the port."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve_one(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            serve(connection)

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = server.accept()
                threading.Thread(target=serve_one, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield server.getsockname()[1]
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()


@contextmanager
def raw_service(on_put: Callable[[socket.socket], None]) -> Iterator[tuple[int, list[bytes]]]:
    """Answers every listing as empty, leaves a PUT whose head is read to ``on_put``, and tells the heads."""
    heads: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            if not (part := connection.recv(4096)):
                return
            head += part
        if head.startswith(b"GET"):
            start = f"HTTP/1.1 200 OK\r\nContent-Length: {len(EMPTY_LISTING)}\r\nConnection: close\r\n\r\n"
            connection.sendall(start.encode() + EMPTY_LISTING)
            return
        heads.append(head)
        on_put(connection)

    with served(serve) as port:
        yield port, heads


@pytest.mark.parametrize("size", [3 * MIB, 9 * MIB], ids=["one request", "blocks"])
def test_a_firewall_that_resets_every_upload_is_met_with_back_off_and_given_up(size: int) -> None:
    events: list[TransferEvent] = []
    with raw_service(reset) as (port, heads), pytest.raises(DeliveryFailedError) as failure:
        transfer(
            made_up({"a.zip": size}),
            container(port),
            [TransferItem("a.zip", size)],
            settings=TransferSettings(connections=1, checksum="md5", give_up_after_s=2.0),
            on_event=events.append,
        )
    assert isinstance(failure.value.__cause__, StoreUnreachableError)
    retries = [event for event in events if isinstance(event, Retrying)]
    assert retries
    assert len(heads) <= len(retries) + 1, "each attempt but the last is followed by a pause that is told"


def test_what_resets_every_upload_does_not_keep_a_transfer_from_being_cancelled() -> None:
    cancel = threading.Event()

    def then_cancel(connection: socket.socket) -> None:
        reset(connection)
        cancel.set()

    with raw_service(then_cancel) as (port, heads), pytest.raises(InterruptedError):
        transfer(
            made_up({"a.zip": 3 * MIB}),
            container(port),
            [TransferItem("a.zip", 3 * MIB)],
            settings=TransferSettings(connections=1, checksum="md5"),
            cancel=cancel,
        )
    assert len(heads) <= 2


def test_a_refusal_that_comes_before_the_body_was_taken_is_heard() -> None:
    def refuse(connection: socket.socket) -> None:
        connection.sendall(
            b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n"
            b"x-ms-error-code: AuthorizationFailure\r\nConnection: close\r\n\r\n"
        )
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(1 << 16):  # a reset would throw the answer away before it is read
            pass

    with raw_service(refuse) as (port, heads), pytest.raises(DeliveryFailedError) as failure:
        transfer(
            made_up({"a.zip": 3 * MIB}),
            container(port),
            [TransferItem("a.zip", 3 * MIB)],
            settings=TransferSettings(connections=1, checksum="md5"),
        )
    assert isinstance(failure.value.__cause__, StoreAccessError)
    assert "403" in str(failure.value)
    assert len(heads) == 1


@pytest.mark.parametrize("status", [200, 202, 302])
@pytest.mark.parametrize("size", [1000, 9 * MIB], ids=["one request", "blocks"])
def test_only_the_services_own_yes_counts_as_arrived(status: int, size: int) -> None:
    """A login page answers 200 to everything; Put Blob, Put Block and Put Block List say 201."""

    def login_page(request: Request) -> Answer | None:
        return Answer(status, {"Content-MD5": "x"}, b"<html>Please log in</html>") if request.method == "PUT" else None

    with ScriptedService(login_page) as service, pytest.raises(DeliveryFailedError) as failure:
        transfer(made_up({"a": size}), container(service.port), [TransferItem("a", size)])
    assert "login page" in failure.value.advice
    assert f"HTTP {status}" in str(failure.value)


def test_answers_that_were_not_read_are_never_taken_for_those_of_later_requests() -> None:
    """The third file of a batch ends the delivery; the connection holds the answers to 29 more."""
    refused = threading.Event()

    def refuse_the_third(request: Request) -> Answer | None:
        if request.method == "PUT" and "/02.log" in request.target:
            refused.set()
            return Answer(403, {"x-ms-error-code": "AuthorizationPermissionMismatch"})
        return None

    sizes = {f"{number:02}.log": 1000 for number in range(40)}
    with ScriptedService(refuse_the_third) as service:
        closed: list[bool] = []
        lane_of = ContainerUpload._lane

        @contextmanager
        def watched(upload: ContainerUpload) -> Iterator[Any]:
            taken: Any = None
            try:
                with lane_of(upload) as taken:
                    yield taken
            finally:
                if refused.is_set() and taken is not None:
                    closed.append(not taken.wire.connection.is_open)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ContainerUpload, "_lane", watched)
            with pytest.raises(DeliveryFailedError):
                transfer(
                    made_up(sizes),
                    container(service.port),
                    [TransferItem(path, size) for path, size in sizes.items()],
                    settings=TransferSettings(connections=1, checksum="md5"),
                )
    assert closed == [True]


Blocks = list[tuple[str, int]]


def shorter_by_a_byte(blocks: Blocks) -> Blocks:
    return [*blocks[:-1], (blocks[-1][0], blocks[-1][1] - 1)]


def the_last_one_twice(blocks: Blocks) -> Blocks:
    """As many blocks and bytes as were sent; only the names tell."""
    return [*blocks[:-2], blocks[-1], blocks[-1]]


WRONG_LISTS = {
    "one missing": lambda blocks: blocks[:-1],
    "none at all": lambda blocks: [],
    "another size": shorter_by_a_byte,
    "another order": lambda blocks: blocks[::-1],
    "another block": the_last_one_twice,
    "one more": lambda blocks: [*blocks, ("AAAA", 1)],
    "an empty one more": lambda blocks: [*blocks, ("AAAA", 0)],
}


@pytest.mark.parametrize("wrong", WRONG_LISTS.values(), ids=WRONG_LISTS.keys())
def test_a_blob_whose_block_list_is_not_what_was_sent_is_sent_again(wrong: Callable[[Blocks], Blocks]) -> None:
    lies = [wrong]

    def lie_once(request: Request) -> Answer | None:
        if "blocklisttype=committed" in request.target and lies:
            return block_list(lies.pop()(service.committed(request.target)))
        return None

    events: list[TransferEvent] = []
    with ScriptedService(lie_once) as service:
        result = transfer(
            made_up({"a.zip": 4 * MIB}),
            container(service.port),
            [TransferItem("a.zip", 4 * MIB)],
            settings=TransferSettings(block_size_bytes=MIB),
            on_event=events.append,
        )
        staged = [request.target for request in service.requests if "comp=block&" in request.target]
    told = [event for event in events if isinstance(event, Repairing)]
    assert [event.path for event in told] == ["a.zip"]
    assert "sent were 4194304 in 4" in told[0].reason
    assert result.repaired == 1
    assert sorted(staged) == sorted(2 * list(dict.fromkeys(staged))), "all of it was sent again, once"
    assert len(staged) == 8


def test_a_service_that_never_has_what_was_sent_ends_the_delivery() -> None:
    def lie(request: Request) -> Answer | None:
        if "blocklisttype=committed" in request.target:
            return block_list(service.committed(request.target)[:-1])
        return None

    events: list[TransferEvent] = []
    with ScriptedService(lie) as service, pytest.raises(DeliveryFailedError) as failure:
        transfer(
            made_up({"a.zip": 4 * MIB}),
            container(service.port),
            [TransferItem("a.zip", 4 * MIB)],
            settings=TransferSettings(block_size_bytes=MIB),
            on_event=events.append,
        )
    assert isinstance(failure.value.__cause__, StoreCorruptError)
    assert failure.value.exit_code == 11
    assert len([event for event in events if isinstance(event, Repairing)]) == 3


@pytest.mark.parametrize(
    "quoted", ["c2Vjcm+V0c2Vj/cmV0=", "c2Vjcm%2bV0c2Vj%2fcmV0%3d", "c2Vjcm&#43;V0c2Vj&#47;cmV0="], ids=str.__len__
)
def test_a_service_that_quotes_the_signature_in_any_form_does_not_get_it_into_an_error(quoted: str) -> None:
    def refuse(request: Request) -> Answer | None:
        if request.method != "PUT":
            return None
        text = (
            f"<Error><Code>AuthenticationFailed</Code><Message>The MAC signature '{quoted}' is not the same</Message>"
        )
        return Answer(403, {"x-ms-error-code": f"sig={quoted}"}, f"{text}</Error>".encode())

    sas = Secret("sv=2019-02-02&sr=c&sp=racwl&se=2099-01-01T00:00:00Z&sig=c2Vjcm%2BV0c2Vj%2FcmV0%3D")
    with ScriptedService(refuse) as service:
        target = opened(open_store(parse_destination(f"http://127.0.0.1:{service.port}/account/container"), sas=sas))
        with pytest.raises(DeliveryFailedError) as failure:
            transfer(made_up({"a.log": 1000}), target, [TransferItem("a.log", 1000)])
    assert "AuthenticationFailed" in str(failure.value)
    assert "c2Vjcm" not in f"{failure.value!r} {failure.value} {failure.value.__cause__!r}"


@pytest.mark.parametrize("status", [400, 403, 409, 503])
def test_a_service_that_quotes_the_request_does_not_get_the_sas_into_an_error_of_a_reader(status: int) -> None:
    asked: list[str] = []

    def quote_it(request: Request) -> Answer:
        asked.append(request.target)
        text = request.target.replace("&", "&amp;")
        body = f"<Error><Code>Odd</Code><Message>{text}</Message><Reason>{text}</Reason></Error>"
        return Answer(status, {"x-ms-error-code": "Odd", "x-ms-request": request.target}, body.encode())

    with ScriptedService(quote_it) as service:
        store = opened(
            open_store(
                parse_destination(f"http://127.0.0.1:{service.port}/account/container"),
                sas=SAS,
                settings=StoreSettings(retries=0),
            )
        )
        tries: list[Callable[[], object]] = [
            lambda: list(store.list()),
            lambda: store.stat("a.zip"),
            lambda: store.open_read("a.zip").__enter__().readinto(memoryview(bytearray(10))),
        ]
        for attempt in tries:
            with pytest.raises(StoreError) as failure:
                attempt()
            shown = "".join(traceback.format_exception(failure.value))
            assert "Odd" in str(failure.value) or str(status) in str(failure.value)
            assert "c2VjcmV0" not in f"{shown} {failure.value!r} {failure.value.fields}"
    assert len(asked) >= len(tries)
    assert all("c2VjcmV0" in target for target in asked), "each answer had the signature in it"


# -- what a service says of itself -------------------------------------------------------------------------------------


def listing(blobs: str = "", marker: str = "") -> Answer:
    text = f"<EnumerationResults><Blobs>{blobs}</Blobs><NextMarker>{marker}</NextMarker></EnumerationResults>"
    return Answer(200, body=text.encode())


@pytest.mark.parametrize("marker", ["the same", "another one each time"])
def test_a_listing_without_an_end_ends_the_delivery(marker: str) -> None:
    asked = 0

    def endless(request: Request) -> Answer | None:
        nonlocal asked
        if "comp=list&" not in request.target:
            return None
        asked += 1
        return listing(marker="m" if marker == "the same" else f"m{asked}")

    with ScriptedService(endless) as service, pytest.raises(DeliveryFailedError, match="listing has no end"):
        transfer(made_up({"a": 1000}), container(service.port), [TransferItem("a", 1000)])


def test_a_listing_may_have_pages_without_a_blob() -> None:
    def paged(request: Request) -> Answer | None:
        if "comp=list&" not in request.target:
            return None
        page = int(request.target.partition("marker=")[2].partition("&")[0] or "0")
        return listing(marker=str(page + 1) if page < 500 else "")

    with ScriptedService(paged) as service:
        result = transfer(made_up({"a": 1000}), container(service.port), [TransferItem("a", 1000)])
    assert result.copied == 1


@pytest.mark.parametrize("size", ["\xb2", "-1", "9" * 5000, "18446744073709551616", "0x10", ""])
def test_a_listed_size_that_cannot_be_counts_as_nothing_there(size: str) -> None:
    def strange(request: Request) -> Answer | None:
        listed = f"<Blob><Name>west/a</Name><Properties><Content-Length>{size}</Content-Length></Properties></Blob>"
        return listing(listed) if "comp=list&" in request.target else None

    with ScriptedService(strange) as service:
        result = transfer(made_up({"a": 1000}), container(service.port), [TransferItem("a", 1000)])
    assert result.copied == 1


@pytest.mark.parametrize(
    "answer",
    [
        Answer(200, body=b"<html>log in here"),
        listing(
            "<Blob><Name>west/a</Name><Properties><Content-Length>1000</Content-Length><Content-MD5>abc</Content-MD5>"
            "</Properties></Blob>"
        ),
    ],
    ids=["a login page", "an MD5 that is none"],
)
def test_a_listing_that_is_none_is_named(answer: Answer) -> None:
    with ScriptedService(lambda request: answer if "comp=list&" in request.target else None) as service:
        with pytest.raises(DeliveryFailedError, match="its listing is not understood") as failure:
            transfer(made_up({"a": 1000}), container(service.port), [TransferItem("a", 1000)])
    assert "login page" in failure.value.advice


@pytest.mark.parametrize("size", [1000, 9 * MIB], ids=["one request", "blocks"])
@pytest.mark.parametrize(
    ("status", "code", "says", "advises"),
    [
        (412, "LeaseIdMissing", "holds a lease", "lease broken"),
        (409, "BlobImmutableDueToPolicy", "immutable", "another folder"),
        (409, "InvalidBlobType", "page blob", "Remove that blob"),
        (409, "BlobArchived", "archived", "Remove that blob"),
        (403, "AuthorizationPermissionMismatch", "Write or Create", "new SAS"),
        (403, "InsufficientAccountPermissions", "permissions", "owner of the storage account"),
        (403, "AuthenticationFailed", "SAS", "SAS token again"),
        (404, "ContainerNotFound", "no such container", "name of the container"),
        (409, "ContainerBeingDeleted", "being deleted", "another container"),
        (413, "RequestBodyTooLarge", "413", "limit raised"),
        (413, "", "413", "limit raised"),
        (400, "OutOfRangeInput", "OutOfRangeInput", "name"),
        (507, "", "no space left", "Free space"),
        (501, "NotImplemented", "501", "operators of the service"),
        (302, "", "302", "login page"),
    ],
)
def test_a_refusal_is_told_in_words_with_what_to_do_next(
    size: int, status: int, code: str, says: str, advises: str
) -> None:
    def refuse(request: Request) -> Answer | None:
        return Answer(status, {"x-ms-error-code": code}) if request.method == "PUT" else None

    with ScriptedService(refuse) as service, pytest.raises(DeliveryFailedError) as failure:
        transfer(made_up({"a": size}), container(service.port), [TransferItem("a", size)])
    assert says in str(failure.value)
    advice = failure.value.advice
    assert advises in advice
    assert advice.count("same command again") == 1
    assert advice[0].isupper()
    assert "share" not in advice or "SAS" not in str(failure.value), "a SAS has no user name and no password"


@pytest.mark.parametrize("code", ["", "RequestBodyTooLarge"])
def test_smaller_requests_follow_one_that_was_too_large_for_something_on_the_way(code: str) -> None:
    def proxy(request: Request) -> Answer | None:
        refused = request.method == "PUT" and request.body_bytes > MIB
        return Answer(413, {"x-ms-error-code": code} if code else {}) if refused else None

    sizes = {"1.zip": 9 * MIB + 1, "2.zip": 3 * MIB, "3.zip": 20 * MIB, "4.log": 1000, "5.log": MIB, "6.log": MIB + 1}
    events: list[TransferEvent] = []
    with ScriptedService(proxy) as service:
        result = transfer(
            made_up(sizes),
            container(service.port),
            [TransferItem(path, size) for path, size in sizes.items()],
            on_event=events.append,
        )
        refused = [request for request in service.requests if request.body_bytes > MIB]
        made = {path: service.committed(f"/account/container/west/{path}") for path in sizes}
    assert result.copied == len(sizes)
    assert {path: sum(size for _, size in blocks) for path, blocks in made.items() if blocks} == {
        path: size for path, size in sizes.items() if size > MIB
    }
    assert 0 < len(refused) <= 12, "what is read already, and no more"
    notes = [event.text for event in events if isinstance(event, Note)]
    assert all("takes no requests of" in note for note in notes)
    assert 1 <= len(notes) <= 3


def test_what_takes_no_requests_at_all_ends_a_delivery_soon() -> None:
    def proxy(request: Request) -> Answer | None:
        return Answer(413) if request.method == "PUT" and request.body_bytes > 200 << 10 else None

    with ScriptedService(proxy) as service, pytest.raises(DeliveryFailedError, match="413") as failure:
        transfer(made_up({"a": 9 * MIB}), container(service.port), [TransferItem("a", 9 * MIB)])
    assert "limit raised" in failure.value.advice


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("refused", ["GET", "PUT"])
def test_a_refusal_of_something_on_the_way_is_not_told_as_one_of_the_sas(refused: str, status: int) -> None:
    def proxy(request: Request) -> Answer | None:
        return Answer(status, body=b"<html>Blocked</html>") if request.method == refused else None

    events: list[TransferEvent] = []
    with ScriptedService(proxy) as service, pytest.raises(DeliveryFailedError, match="no error code") as failure:
        transfer(made_up({"a": 10}), container(service.port), [TransferItem("a", 10)], on_event=events.append)
    assert "SAS" not in str(failure.value)
    assert "SAS" not in failure.value.advice
    assert "proxy" in failure.value.advice
    assert not [event for event in events if isinstance(event, Note)], "that it may not list is not what is wrong"


@pytest.mark.parametrize("refused", ["GET", "PUT"])
def test_a_sas_that_has_ended_by_the_services_clock_is_named_so(refused: str) -> None:
    def late(request: Request) -> Answer | None:
        headers = {"x-ms-error-code": "AuthenticationFailed", "Date": "Fri, 01 Jan 2100 00:00:00 GMT"}
        return Answer(403, headers) if request.method == refused else None

    events: list[TransferEvent] = []
    with ScriptedService(late) as service, pytest.raises(DeliveryFailedError, match="it expired at 2099") as failure:
        transfer(made_up({"a": 10}), container(service.port), [TransferItem("a", 10)], on_event=events.append)
    assert "new SAS" in failure.value.advice
    assert not [event for event in events if isinstance(event, Note)], "that it may not list is not what is wrong"


# -- answers that come too early, twice, or in bits --------------------------------------------------------------------


def test_a_yes_to_a_request_that_was_not_taken_is_none() -> None:
    def too_early(connection: socket.socket) -> None:
        connection.sendall(b'HTTP/1.1 201 Created\r\nETag: "1"\r\nContent-Length: 0\r\n\r\n')
        connection.shutdown(socket.SHUT_RD)

    with raw_service(too_early) as (port, heads), pytest.raises(DeliveryFailedError) as failure:
        transfer(
            made_up({"a": 4 * MIB}),
            container(port),
            [TransferItem("a", 4 * MIB)],
            settings=TransferSettings(checksum="md5", give_up_after_s=1.0, first_back_off_s=0.1),
        )
    assert isinstance(failure.value.__cause__, StoreUnreachableError)
    assert len(heads) > 1, "it was tried again"


def test_an_answer_that_comes_twice_is_not_taken_for_that_of_the_next_request() -> None:
    """The second file is refused; the first one's second yes stands in the line before that."""
    yes = b'HTTP/1.1 201 Created\r\nETag: "1"\r\nContent-Length: 0\r\n\r\n'
    puts: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        with connection.makefile("rb") as incoming:
            while line := incoming.readline():
                length = 0
                while (header := incoming.readline()).strip():
                    if header.lower().startswith(b"content-length:"):
                        length = int(header.partition(b":")[2])
                incoming.read(length)
                if line.startswith(b"GET"):
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(EMPTY_LISTING))
                    connection.sendall(EMPTY_LISTING)
                    continue
                puts.append(line.split(b"?")[0])
                if b"/west/a?" in line:
                    connection.sendall(yes + yes)
                else:
                    refusal = b"HTTP/1.1 507 Full\r\nContent-Length: 0\r\n\r\n"
                    connection.sendall(refusal)

    with served(serve) as port, pytest.raises(DeliveryFailedError, match="no space left"):
        transfer(
            made_up({"a": 1000, "b": 1000}),
            container(port),
            [TransferItem("a", 1000)],
            last=[TransferItem("b", 1000)],
            settings=TransferSettings(checksum="md5", connections=1),
        )
    assert puts == [b"PUT /account/container/west/a", b"PUT /account/container/west/b"]
