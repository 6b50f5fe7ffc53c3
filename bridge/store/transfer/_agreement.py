"""Which checksum the service and this end agree on: CRC64 where the service checks it, MD5 elsewhere."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from bridge.errors import StoreError
from bridge.store._access import ContainerAccess
from bridge.store.transfer._checksum import Algorithm
from bridge.store.transfer._settings import Checksum

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
        if api_version < _CRC64_SINCE and not self._demanded:
            self.algorithm = Algorithm.MD5
            self._settled.set()

    @property
    def settled(self) -> bool:
        return self._settled.is_set()

    @contextmanager
    def asked(self) -> Iterator[None]:
        """Lets one thread find out alone; the others wait for its answer."""
        if self.settled:
            yield
            return
        with self._asking:
            yield

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
        self.algorithm = Algorithm.MD5
        self._settled.set()
        return False
