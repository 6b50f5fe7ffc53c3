"""Which checksum the service and this end agree on: CRC64 where the service checks it, MD5 elsewhere."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from bridge.errors import StoreError
from bridge.store._access import ContainerAccess
from bridge.store.transfer._checksum import Algorithm
from bridge.store.transfer._settings import Checksum

FIRST_BYTES = 128 << 10
"""With how much it is found out which checksum the service knows: it may have to be sent twice."""
_CRC64_SINCE = "2019-02-02"


class Agreement:
    """Which checksum the service checks for one kind of request, found out with the first one."""

    def __init__(self, access: ContainerAccess, chosen: Checksum) -> None:
        self.algorithm = Algorithm.MD5 if chosen == "md5" else Algorithm.CRC64
        self._location = access.location
        self._demanded = chosen == "crc64"
        self._asking = threading.Lock()
        self._settled = threading.Event()
        if chosen == "md5":
            self._settled.set()
        self.goes_on_in(access.api_version)

    def goes_on_in(self, api_version: str) -> None:
        """What follows is asked in this version: one from before CRC64 is not asked for it."""
        if api_version < _CRC64_SINCE:
            self.give_up()

    @property
    def settled(self) -> bool:
        return self._settled.is_set()

    @contextmanager
    def asked(self, at_stake_bytes: int) -> Iterator[Algorithm]:
        """What a body is sent with. One thread finds out alone, with little; others who have as little wait for it.

        Meanwhile more than that goes with MD5, which every service checks: asked with, it might have to go twice.
        """
        if self.settled:
            yield self.algorithm
        elif at_stake_bytes > FIRST_BYTES and not self._demanded:
            yield Algorithm.MD5
        else:
            with self._asking:
                yield self.algorithm

    def heard(self, *, echoed: bool) -> bool:
        """Whether a body that the service accepted with its CRC64 is checked; where that was ignored, MD5 follows it.

        Nobody need ask of MD5: every service refuses a body that does not match its ``Content-MD5``, whether it tells
        the MD5 back or not.

        Raises:
            StoreError: CRC64 was demanded and the service does not check it.
        """
        if echoed:
            self._settled.set()
            return True
        if self._demanded:
            raise StoreError(
                store=self._location,
                detail="the service does not check CRC64",
                fix="Use the checksum 'auto' or 'md5' for this destination.",
            )
        self.give_up()
        return False

    def give_up(self) -> None:
        """The service does not check CRC64: MD5 it is, unless CRC64 was demanded."""
        if not self._demanded:
            self.algorithm = Algorithm.MD5
            self._settled.set()
