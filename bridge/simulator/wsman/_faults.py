"""What can go wrong between a client and a simulated endpoint on purpose, chosen by a seed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ProtocolFaults:
    """Faults of the wire and of the service; the default is none.

    Chances are per request and drawn from ``seed`` in the order in which requests arrive.
    """

    seed: int = 0
    refuse_connections: bool = False
    """Every new connection is reset at once."""
    cut_chance: float = 0.0
    """Chance that a connection is reset instead of answering; what the answer held stays in its buffer."""
    cut_every: int = 0
    """Resets the connection at every n-th request; 0 never."""
    stall_chance: float = 0.0
    """Chance that an answer waits ``stall_s`` before it is sent."""
    stall_s: float = 0.0
    close_idle_after_s: float | None = None
    """Closes a connection that was silent so long (http.sys: about 120 s)."""
    quota_exceeded: bool = False
    """Create is answered with fault 2150859173."""
    access_denied: bool = False
    """Create is answered with fault 5."""
    no_such_configuration: bool = False
    """Create is answered as on a machine that is no ERCS machine."""
    disconnected_buffer_bytes: int | None = None
    """How much a command may write while nobody is connected before it stalls."""
    clock_skew_s: float = 0.0
    """How far the machine's clock is ahead (negative: behind)."""
