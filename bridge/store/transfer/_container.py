"""Uploads to a container: large files in blocks on many connections, small files together, hashed as they are read."""

from __future__ import annotations

import hashlib
import threading
import time
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

from bridge.errors import (
    ApiVersionError,
    StoreCorruptError,
    StoreError,
    StorePermissionError,
    StoreUnreachableError,
)
from bridge.store._access import ContainerAccess, LeanContainer
from bridge.store._blob_listing import all_pages
from bridge.store._block_limits import MAX_BLOCK_BYTES, MAX_BLOCKS
from bridge.store._buffers import aligned_buffer
from bridge.store._wire import tls_context
from bridge.store.transfer._agreement import FIRST_BYTES, Agreement
from bridge.store.transfer._arrived import Arrived, Fact
from bridge.store.transfer._blob_wire import (
    BlobWire,
    BlocksLostError,
    BusyError,
    ForeignBlocksError,
    LineError,
    Put,
    TooLargeError,
)
from bridge.store.transfer._block_ids import BlockKey
from bridge.store.transfer._checksum import Algorithm, checksum_of
from bridge.store.transfer._delivery import Delivery, Finished, SourceChanged
from bridge.store.transfer._events import FileStatus, Note, TransferItem
from bridge.store.transfer._line import SMALLEST_PIECE, USUAL_PIECE
from bridge.store.transfer._pieces import Pieces, Sending
from bridge.store.transfer._presence import Presence

_MOST_TOGETHER = 32
_MOST_REPAIRS = 3
_MOST_HOLES = 1000

_MayPass = BusyError | LineError | ApiVersionError
_MAY_PASS = (BusyError, LineError, ApiVersionError)


@dataclass(slots=True)
class _Load:
    """A small file in its thread's buffer."""

    item: TransferItem
    data: memoryview
    sha256: str
    status: FileStatus = "copied"
    attempts: int = 0


class _Lane:
    """A connection and a buffer, for one thread at a time."""

    def __init__(self, wire: BlobWire, buffer_bytes: int) -> None:
        self.wire = wire
        self.buffer = aligned_buffer(buffer_bytes)

    def room(self, size_bytes: int) -> memoryview:
        """The buffer, made larger only for a file so large that 50,000 usual blocks do not hold it."""
        if size_bytes > len(self.buffer):
            self.buffer = aligned_buffer(size_bytes)
        return self.buffer[:size_bytes]


class ContainerUpload:
    """The work of one upload; ``work`` runs on several threads, which share a pool of connections and buffers."""

    def __init__(self, delivery: Delivery, container: LeanContainer, *, readers: int) -> None:
        self._delivery = delivery
        self._container = container
        self._access = access = ContainerAccess.of(container)
        self._stepping = threading.Lock()
        self._tls = tls_context(access.ca_file) if access.scheme == "https" else None
        self._pieces = Pieces(delivery.line, most_open=readers, most_together=_MOST_TOGETHER)
        self._for_blobs = Agreement(access, delivery.settings.checksum)
        self._for_blocks = Agreement(access, delivery.settings.checksum)
        self._asking = threading.Lock()
        self._may_read = True
        self._arrived: Arrived | None = None
        self._presence: Presence | None = None
        self._lanes: list[_Lane] = []
        self._idle: list[_Lane] = []

    # -- the threads --------------------------------------------------------------------------------------------------

    def begin(self, items: Iterator[TransferItem]) -> None:
        """Sets what the threads will send next; called while none of them runs."""
        self._pieces.begin(items)

    def work(self) -> None:
        """Sends until nothing is left.

        Raises:
            StoreError: something that ends the transfer.
            Stopped: the transfer is ending.
        """
        # The lock before the turn: whoever holds it gives its turn back while it waits for a busy service.
        with self._asking:
            if self._presence is None:
                with self._lane() as lane:
                    self._look_at_target(lane)
        while (task := self._pieces.next_task()) is not None:
            with self._lane() as lane:
                if isinstance(task, Sending):
                    self._send_piece(task, lane)
                else:
                    self._send_together(task, lane)

    @contextmanager
    def _lane(self) -> Iterator[_Lane]:
        """A turn on the line with a connection and a buffer; the one used last, so that unused ones stay untouched."""
        with self._delivery.line.turn():
            try:
                lane = self._idle.pop()
            except IndexError:
                lane = self._new_lane()
            lane.wire.use(self._access)
            try:
                yield lane
            except BaseException:
                # Answers that nobody has read would be taken for those of the next one's requests.
                lane.wire.connection.close()
                raise
            finally:
                self._idle.append(lane)

    def _new_lane(self) -> _Lane:
        wire = BlobWire(
            self._access,
            tls=self._tls,
            limiter=self._delivery.line.limiter,
            timeout_s=self._delivery.settings.io_timeout_s,
            on_sent=self._delivery.tally.sent,
        )
        lane = _Lane(wire, self._delivery.settings.block_size_bytes or USUAL_PIECE)
        self._lanes.append(lane)
        return lane

    def abort(self) -> None:
        """Wakes every thread; they see that the transfer is ending."""
        for lane in list(self._lanes):
            lane.wire.connection.abort()
        self._pieces.wake()

    def close(self) -> None:
        self._pieces.close()
        for lane in self._lanes:
            lane.wire.connection.close()
        if self._arrived is not None:
            self._arrived.close()

    def _try_again(self, lane: _Lane, path: str, error: _MayPass, attempt: int) -> None:
        """Makes ready for the same request once more: after a wait, or in an older version.

        Raises:
            StoreError: it would be of no use.
            Stopped: the transfer is ending.
        """
        lane.wire.connection.close()
        if isinstance(error, ApiVersionError):
            self._step_down(lane, error)
            return
        if isinstance(error, BusyError):
            self._delivery.line.answered()
        self._delivery.retry(path, error, attempt)

    def _step_down(self, lane: _Lane, error: ApiVersionError) -> None:
        """The store tries an older version, unless one was set; each lane follows with its next request."""
        with self._stepping:
            refused = lane.wire.access.api_version
            if refused == self._access.api_version:  # nobody has stepped down since this lane asked
                if not self._container.step_down(refused):
                    raise error
                self._access = ContainerAccess.of(self._container)
                for agreement in (self._for_blobs, self._for_blocks):
                    agreement.goes_on_in(self._access.api_version)
                self._delivery.tally.tell(
                    Note(f"The service does not accept API version {refused}: {self._access.api_version} is used.")
                )
        lane.wire.use(self._access)

    # -- what the target has ------------------------------------------------------------------------------------------

    def _look_at_target(self, lane: _Lane) -> None:
        attempt = 0
        while self._presence is None:
            try:
                self._arrived = Arrived(self._listing(lane.wire))
                self._presence = Presence(self._delivery, self._arrived, listed=True)
            except _MAY_PASS as error:
                attempt += 1
                self._try_again(lane, self._access.location, error, attempt)
            except StorePermissionError:
                # A write-only SAS is ordinary: then the journal remembers. One that is wrong ends the transfer.
                self._delivery.tally.tell(
                    Note("The SAS does not allow listing: what has arrived is known from the journal.")
                )
                self._arrived = Arrived(())
                self._presence = Presence(self._delivery, self._arrived, listed=False)
        self._delivery.line.answered()

    def _listing(self, wire: BlobWire) -> Iterator[Fact]:
        start = self._access.blob_name("")
        for blob in all_pages(self._access.location, wire.list_page):
            if blob.name.startswith(start) and blob.size_bytes is not None:
                yield Fact(blob.name[len(start) :], blob.size_bytes, blob.md5, blob.etag, blob.sha256)

    def _sha256_there(self, item: TransferItem, buffer: memoryview) -> str | None:
        assert self._presence is not None  # noqa: S101 - set before any task is taken
        return self._presence.sha256_there(item, buffer)

    def _staged(self, item: TransferItem, lane: _Lane) -> list[BlockKey]:
        """The blocks of this file that the service holds, uncommitted."""
        attempt = 0
        while self._may_read:
            try:
                found = lane.wire.block_list(item.path, committed=False)
                keys = [(BlockKey.decode(block.block_id), block.size_bytes) for block in found]
                return [key for key, size_bytes in keys if key is not None and key.size_bytes == size_bytes]
            except _MAY_PASS as error:
                attempt += 1
                self._try_again(lane, item.path, error, attempt)
            except StorePermissionError:
                self._may_read = False
                self._delivery.tally.tell(
                    Note(
                        "The SAS does not allow reading: staged blocks are known from the journal, "
                        "and only the checksum of each request proves what has arrived."
                    )
                )
        journal = self._delivery.journal
        return journal.staged(item.path) if journal is not None else []

    # -- small files --------------------------------------------------------------------------------------------------

    def _send_together(self, items: list[TransferItem], lane: _Lane) -> None:
        read = [load for load in self._loads(items, lane) if load is not None]
        loads = sorted(read, key=lambda load: load.item.size_bytes)
        attempt = 0
        while loads:
            with self._for_blobs.asked(loads[0].item.size_bytes) as algorithm:
                asks = algorithm is Algorithm.CRC64 and not self._for_blobs.settled
                together = 1 if asks else self._pieces.most_together
                now, later = loads[:together], loads[together:]
                left, error = self._exchange(now, lane, algorithm)
            loads = left + later
            if error is None:
                attempt = 0
                continue
            attempt += 1
            if isinstance(error, LineError) and len(now) > 1:
                # Something on the way may not bear several requests at once (RFC 9112, section 9.3.2).
                self._pieces.most_together = max(1, self._pieces.most_together // 2)
            self._try_again(lane, left[0].item.path, error, attempt)

    def _loads(self, items: list[TransferItem], lane: _Lane) -> Iterator[_Load | None]:
        buffer = lane.room(max(len(lane.buffer), sum(item.size_bytes for item in items)))
        position = 0
        for item in items:
            data = buffer[position : position + item.size_bytes]
            position += item.size_bytes
            yield self._load(item, data)

    def _load(self, item: TransferItem, data: memoryview) -> _Load | None:
        attempt = 0
        while True:
            try:
                if self._skipped(item, data):  # the rest of the lane's buffer has other files in it
                    return None
                digest = hashlib.sha256()
                with self._delivery.open_source(item) as reader:
                    self._delivery.fill(item, reader, data, digest)
                sha256 = digest.hexdigest()
                self._delivery.expect_digest(item, sha256)
                return _Load(item, data, sha256)
            except SourceChanged as error:
                self._delivery.mismatch(item.path, error)
                return None
            except StoreUnreachableError as error:
                attempt += 1
                self._delivery.retry(item.path, error, attempt)

    def _skipped(self, item: TransferItem, buffer: memoryview) -> bool:
        """Whether it is there already. Where the source is read to find out, that goes into the buffer."""
        sha256 = self._sha256_there(item, buffer)
        if sha256 is None:
            return False
        fact = self._presence.candidate(item) if self._presence is not None else None
        self._delivery.tally.confirmed(item.size_bytes, moved=False)
        self._delivery.finish([Finished(item, sha256, "skipped", 0, fact.etag if fact is not None else None)])
        return True

    def _exchange(self, loads: list[_Load], lane: _Lane, algorithm: Algorithm) -> tuple[list[_Load], _MayPass | None]:
        """Sends files at once and takes the answers; returns those to be sent again, and what was in the way."""
        puts = [Put(load.item.path, load.data, checksum_of(load.data, algorithm), load.sha256) for load in loads]
        for load in loads:
            load.attempts += 1
        done: list[Finished] = []
        left: list[_Load] = []
        problem: _MayPass | None = None
        begun = time.monotonic()
        try:
            lane.wire.put_blobs(puts)
            for number, (load, put) in enumerate(zip(loads, puts, strict=True)):
                if number and lane.wire.connection.closing:
                    left += loads[number:]  # it answers no more of them on this connection; not a failure
                    break
                try:
                    mark, echoed = lane.wire.accept_put(put)
                except (BusyError, ApiVersionError) as error:
                    left.append(load)
                    problem = error
                except (StoreCorruptError, BlocksLostError) as error:
                    left.append(self._to_repair(load, error))
                except TooLargeError as error:
                    self._make_smaller(load.item.size_bytes, error)
                    self._pieces.add(load.item)
                except LineError as error:
                    left += loads[number:]
                    problem = error
                    break
                else:
                    if algorithm is Algorithm.MD5 or self._for_blobs.heard(echoed=echoed):
                        done.append(Finished(load.item, load.sha256, load.status, load.attempts, mark))
                    else:
                        left.append(load)
        except LineError as error:
            left, problem = loads, error
        finally:
            self._confirm(done, time.monotonic() - begun)
        return left, problem

    def _to_repair(self, load: _Load, error: StoreCorruptError) -> _Load:
        if load.attempts > _MOST_REPAIRS:
            raise error
        self._delivery.repair(load.item.path, error)
        load.status = "repaired"
        return load

    def _confirm(self, done: list[Finished], took_s: float) -> None:
        if done:
            self._delivery.line.confirmed(took_s)
            self._delivery.tally.confirmed(sum(finished.item.size_bytes for finished in done))
            self._delivery.finish(done)

    # -- large files --------------------------------------------------------------------------------------------------

    def _send_piece(self, sending: Sending, lane: _Lane) -> None:
        """Reads the next piece of a file, lets other threads read on, and sends it."""
        item = sending.item
        try:
            piece = self._read_piece(sending, lane)
        except SourceChanged as error:
            self._delivery.mismatch(item.path, error)
            self._pieces.drop(sending)
            return
        if sending.dropped:
            return
        offset = sending.offset - len(piece) if piece else 0
        complete = self._pieces.release(sending, sends=bool(piece))
        if piece:
            complete = self._stage(sending, offset, piece, lane)
        if complete:
            self._commit(sending, lane)

    def _read_piece(self, sending: Sending, lane: _Lane) -> memoryview:
        """The next bytes that the service does not have yet; empty at the end of the file."""
        attempt = 0
        while True:
            try:
                if not sending.opened:
                    if self._skipped(sending.item, lane.buffer):
                        self._pieces.drop(sending)
                        return memoryview(b"")
                    self._remember_staged(sending, lane)
                    sending.opened = True
                if sending.reader is None:
                    self._open(sending)
                return self._next_unsent(sending, lane)
            except StoreUnreachableError as error:
                sending.close_reader()
                attempt += 1
                self._delivery.retry(sending.item.path, error, attempt)

    def _remember_staged(self, sending: Sending, lane: _Lane) -> None:
        keys = self._staged(sending.item, lane)
        staged: dict[int, list[BlockKey]] = {}
        for key in keys:
            staged.setdefault(key.offset, []).append(key)
        offsets = sorted(staged)
        holes = sum(first + staged[first][0].size_bytes != second for first, second in pairwise(offsets))
        if holes > _MOST_HOLES:
            return  # no attempt of ours leaves so many, and each would take one of the blocks that a blob may have
        sending.staged, sending.staged_offsets = staged, offsets
        if keys and sending.status == "copied":
            sending.status = "resumed"

    def _open(self, sending: Sending) -> None:
        opened = self._delivery.open_source(sending.item, sending.offset)
        sending.reader = sending.resources.enter_context(opened)

    def _next_unsent(self, sending: Sending, lane: _Lane) -> memoryview:
        while True:
            left = sending.item.size_bytes - sending.offset
            if not left:
                return memoryview(b"")
            candidates = sending.staged.get(sending.offset, [])
            size = candidates[0].size_bytes if candidates else self._piece_bytes(sending, left)
            piece = lane.room(min(size, left))
            # A failed read leaves the digest as it was: it is tried again from the same offset.
            digest = sending.digest.copy()
            assert sending.reader is not None  # noqa: S101 - opened by the caller
            self._delivery.fill(sending.item, sending.reader, piece, digest)
            if len(piece) == left:  # before anything is noted: where the source cannot be asked, it is read again
                self._delivery.expect_digest(sending.item, digest.hexdigest())
            sending.digest = digest
            sending.pieces += 1
            offset = sending.offset
            sending.offset += len(piece)
            sending.read_all = sending.offset == sending.item.size_bytes
            if sending.read_all:
                sending.close_reader()
            key = _matching(candidates, piece)
            if key is None:
                return piece
            sending.ids[offset] = key.encode()
            self._delivery.tally.confirmed(len(piece), moved=False)

    def _piece_bytes(self, sending: Sending, left: int) -> int:
        usual = self._delivery.line.piece_bytes()
        if not self._for_blocks.settled and self._delivery.settings.block_size_bytes is None:
            usual = min(usual, FIRST_BYTES)
        ahead = bisect_right(sending.staged_offsets, sending.offset)
        still_staged = len(sending.staged_offsets) - ahead
        least = -(-left // max(1, MAX_BLOCKS - sending.pieces - still_staged))
        if least > MAX_BLOCK_BYTES:
            raise StoreError(
                store=self._access.location, detail=f"{sending.item.path}: it is larger than a blob may be", fix=""
            )
        size = max(usual, least)
        return min(size, sending.staged_offsets[ahead] - sending.offset) if still_staged else size

    def _stage(self, sending: Sending, offset: int, piece: memoryview, lane: _Lane) -> bool:
        """Sends a piece, in halves where it is too large; tells whether the file can be committed."""
        parts = [(offset, piece)]
        while parts:
            offset, part = parts.pop()
            try:
                if not self._stage_block(sending, offset, part, lane):
                    return False
            except TooLargeError as error:
                self._make_smaller(len(part), error)
                half = len(part) // 2
                parts += [(offset + half, part[half:]), (offset, part[:half])]
        return self._pieces.sent(sending)

    def _make_smaller(self, size_bytes: int, error: TooLargeError) -> None:
        if size_bytes <= SMALLEST_PIECE:
            raise error
        if self._delivery.line.refuses(size_bytes):
            words = f"Something on the way takes no requests of {size_bytes:,} bytes: smaller ones are sent."
            self._delivery.tally.tell(Note(words))

    def _stage_block(self, sending: Sending, offset: int, piece: memoryview, lane: _Lane) -> bool:
        """Sends one block until the service has confirmed it; tells whether it has, or the file was given up."""
        path = sending.item.path
        attempt = repairs = 0
        foreign: ForeignBlocksError | None = None
        while not sending.dropped:
            try:
                if foreign is not None:
                    self._clear(sending, foreign, lane)
                    foreign = None
                with self._for_blocks.asked(0) as algorithm:
                    begun = time.monotonic()
                    key = BlockKey(offset, len(piece), checksum_of(piece, algorithm))
                    echoed = lane.wire.put_block(path, key.encode(), piece, key.checksum)
                    if algorithm is Algorithm.CRC64 and not self._for_blocks.heard(echoed=echoed):
                        self._for_blobs.give_up()  # one body sent twice is enough to know
                        continue
                break
            except _MAY_PASS as error:
                attempt += 1
                self._try_again(lane, path, error, attempt)
            except StoreCorruptError as error:
                repairs += 1
                if repairs > _MOST_REPAIRS:
                    raise
                if isinstance(error, ForeignBlocksError):
                    foreign = error
                    continue
                sending.status = "repaired"
                self._delivery.repair(path, error)
        else:
            return False
        sending.ids[offset] = key.encode()
        if self._delivery.journal is not None:
            self._delivery.journal.record_block(path, key)
        self._delivery.line.confirmed(time.monotonic() - begun)
        self._delivery.tally.confirmed(len(piece))
        return True

    def _clear(self, sending: Sending, error: ForeignBlocksError, lane: _Lane) -> None:
        """Another tool's staged blocks have ids of another length, which the service does not mix with ours."""
        with sending.lock:
            if not sending.cleared:
                self._delivery.repair(sending.item.path, error)
                lane.wire.clear(sending.item.path)
                sending.cleared = True

    def _commit(self, sending: Sending, lane: _Lane) -> None:
        item, sha256 = sending.item, sending.digest.hexdigest()
        ids = [sending.ids[offset] for offset in sorted(sending.ids)]
        attempt = 0
        while True:
            try:
                mark = lane.wire.put_block_list(item.path, ids, sha256)
                self._check_committed(sending, ids, lane)
                break
            except _MAY_PASS as error:
                attempt += 1
                self._try_again(lane, item.path, error, attempt)
            except StoreCorruptError as error:
                self._begin_again(sending, error)
                return
        self._delivery.line.confirmed()
        self._delivery.finish([Finished(item, sha256, sending.status, sending.attempt, mark)])
        self._pieces.drop(sending)

    def _check_committed(self, sending: Sending, ids: list[str], lane: _Lane) -> None:
        """The service's own list of the blob's blocks: each id names offset, size and checksum of what it holds."""
        if not self._may_read:
            return
        try:
            found = lane.wire.block_list(sending.item.path, committed=True)
        except StorePermissionError:
            self._may_read = False
            return
        size_bytes = sum(block.size_bytes for block in found)
        if [block.block_id for block in found] != ids or size_bytes != sending.item.size_bytes:
            raise StoreCorruptError(
                store=self._access.location,
                detail=f"{sending.item.path}: the blob has {size_bytes} bytes in {len(found)} blocks,"
                f" sent were {sending.item.size_bytes} in {len(ids)}",
            )

    def _begin_again(self, sending: Sending, error: StoreCorruptError) -> None:
        if sending.attempt > _MOST_REPAIRS:
            raise error
        self._delivery.repair(sending.item.path, error)
        if self._delivery.journal is not None:
            self._delivery.journal.forget(sending.item.path)
        self._delivery.tally.unconfirmed(sending.item.size_bytes)
        again = Sending(sending.item, attempt=sending.attempt + 1, status="repaired")
        self._pieces.drop(sending, again)


def _matching(candidates: list[BlockKey], piece: memoryview) -> BlockKey | None:
    """The staged block that has exactly these bytes, by the checksum that the service has checked."""
    for key in candidates:
        if key.size_bytes == len(piece) and checksum_of(piece, key.checksum.algorithm) == key.checksum:
            return key
    return None
