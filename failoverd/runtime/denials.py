"""Refused callers, counted; and which of them are worth a record: whoever tries again and again must not fill the disk.

The same caller with the same wish is recorded once a minute, and of all together so many a minute at most. What is left
out is in the count, and its number in the next record.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from failoverd.ports import Clock

SOCKET = "socket"
AGAIN_MS = 60_000
AT_MOST = 30  # records within AGAIN_MS


class Denials:
    """Those of one daemon. Called on the loop."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.counted: Counter[str] = Counter()  # "socket" or "remote"
        self._recorded: deque[tuple[int, str, str]] = deque()  # when, who, what; the oldest first
        self._left_out = 0

    def worth_a_record(self, where: str, who: str, what: str) -> int | None:
        """Count one. How many were left out since the last that was worth it; None: so is this one.

        `where`: SOCKET, or the address of a caller from elsewhere.
        """
        self.counted[SOCKET if where == SOCKET else "remote"] += 1
        now_ms = self._clock.now_ms()
        while self._recorded and now_ms - self._recorded[0][0] >= AGAIN_MS:
            self._recorded.popleft()
        if len(self._recorded) >= AT_MOST or any((who, what) == known[1:] for known in self._recorded):
            self._left_out += 1
            return None
        self._recorded.append((now_ms, who, what))
        left_out, self._left_out = self._left_out, 0
        return left_out
