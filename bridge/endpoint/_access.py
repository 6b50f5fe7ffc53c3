"""Whose session with which stamp it is, and the lines that this takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from bridge.endpoint._faults import opening_error
from bridge.endpoint._line import Line, LineEvent, SessionOptions
from bridge.errors import BridgeError
from bridge.secrets import Credential
from bridge.stamp import EndpointAddress, Stamp

OnLine = Callable[[LineEvent], None]


@dataclass(frozen=True, slots=True)
class Access:
    """Whose session with which stamp, for what, and how patiently."""

    stamp: Stamp
    credential: Credential
    allow: frozenset[str]
    verb: str
    options: SessionOptions
    on_line: OnLine | None

    def line_to(self, address: EndpointAddress) -> Line:
        return self._line(address, self.options, self.on_line, None)

    def second_line(self, line: Line) -> Line:
        """Another connection of the same WSMan session, for another thread; it is not waited for as long."""
        patience = replace(self.options, reconnect_deadline_s=min(60.0, self.options.reconnect_deadline_s))
        second = self._line(line.address, patience, None, line.wsman.session_id)
        second.heals = True
        return second

    def _line(
        self, address: EndpointAddress, options: SessionOptions, on_line: OnLine | None, session_id: str | None
    ) -> Line:
        return Line(
            address,
            self.credential,
            options,
            use_https=self.stamp.use_https,
            ca_file=self.stamp.ca_file,
            session_id=session_id,
            on_line=on_line,
        )

    def opening_error(self, error: Exception, line: Line, configuration: str) -> BridgeError:
        return opening_error(
            error,
            host=line.address.host,
            port=line.port,
            stamp=self.stamp.name,
            username=self.credential.username,
            configuration=configuration,
        )
