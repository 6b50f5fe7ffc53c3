"""What can go wrong between a client and a simulated endpoint on purpose, chosen by a seed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ProtocolFaults:
    """Faults of the wire and of the service; the default is none.

    Chances are per request: what happens to the n-th request of a machine follows from ``seed``, the machine's name
    and n alone, whatever other faults there are.
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
    cut_waiting_after_s: float | None = None
    """Closes a connection whose request has waited so long for its answer, as a gateway that forgets it does."""
    session_ends_after_s: float | None = None
    """Every session ends so long after it was opened, as when its process dies."""
    quota_exceeded: bool = False
    """Create is answered with fault 2150859173."""
    access_denied: bool = False
    """Create is answered with fault 5."""
    no_such_configuration: bool = False
    """Create is answered as on a machine that is no ERCS machine."""
    no_enumeration: bool = False
    """Nobody may ask which shells there are."""
    disconnected_buffer_bytes: int | None = None
    """How much a command may write while nobody is connected before it stalls, whatever mode its client asked for."""
    dropping_buffer_bytes: int | None = None
    """How much of a command's output is kept while nobody is connected to a shell that was left in the mode Drop."""
    clock_skew_s: float = 0.0
    """How far the machine's clock is ahead (negative: behind)."""
