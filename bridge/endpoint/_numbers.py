"""Whether messages of a pipeline are missing, by the numbers that they carry.

MS-PSRP 2.2.4 asks only that an object id be a message's own. PowerShell counts: a process numbers every message that it
sends, whatever stream it goes to, one after the other (the sources of PowerShell 7; recordings of Windows PowerShell
5.1 show 4 on the pipeline before its client left, 5 and 6 in the answer to Connect, 7 on the pool, then 8, 9, 10). A
host that does not count so shows it while it is listened to, and is then not judged by it.
"""

from __future__ import annotations

from collections.abc import Collection


class MessageNumbers:
    """The numbers of one pipeline's messages, in the order in which they come to one client."""

    def __init__(self, received: int | None = None, in_answer: Collection[int] = ()) -> None:
        """
        Args:
            received: What ``received`` was when the last client left; None where nobody knows.
            in_answer: The numbers of the messages in the answer to this client's Connect.
        """
        # An answer that repeats what was said at the opening took no number.
        is_repeated = received is not None and any(number <= received for number in in_answer)
        self._others = set() if is_repeated else set(in_answer)
        self._others_until = max(self._others, default=0)
        self._awaits_private_data = bool(self._others)  # it follows the answer, on the stream of the pool
        self._last = received
        self._was_left = received is not None  # and what comes was written before this client connected
        self._counts = True

    @property
    def received(self) -> int | None:
        """The number of the last message that came; what comes next has the following one. None where the numbers do
        not tell that."""
        is_settled = self._last is not None and self._last > self._others_until and not self._awaits_private_data
        return self._last if is_settled and self._counts else None

    def missing_before(self, number: int) -> int:
        """How many messages of the pipeline should have come between the last one and this one, while nobody was
        connected. 0 where that is not known."""
        last, self._last = self._last, max(number, self._last or 0)
        if last is None:
            self._awaits_private_data = self._awaits_private_data and number <= self._others_until + 1
            return 0
        between = max(0, number - last - 1) - sum(last < other < number for other in self._others)
        if between > 0 and self._awaits_private_data and number > self._others_until + 1:
            self._awaits_private_data = False
            between -= 1
        was_left, self._was_left = self._was_left, self._was_left and number <= self._others_until
        if between > 0 and not was_left:
            self._counts = False
            return 0
        return max(0, between)
