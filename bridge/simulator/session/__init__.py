"""A restricted NoLanguage session without any transport: PSRP bytes in, PSRP bytes out."""

from bridge.simulator.session._outbox import Outbox
from bridge.simulator.session._session import ProtocolError, Session, SessionSettings

__all__ = ["Outbox", "ProtocolError", "Session", "SessionSettings"]
