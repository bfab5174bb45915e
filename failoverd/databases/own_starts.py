"""Which of the statements that a server counts were failoverd's own, and lost nothing.

Some statements may throw a relay log away, and with it what was acknowledged and not applied yet. The server counts
them, and a reading puts the count into `DatabaseFacts.run`: when it grows, the run has ended.
"""

from __future__ import annotations

import threading


class OwnStarts:
    """How many of the statements that the server counts were failoverd's own, and lost nothing.

    Nothing else tells them from an administrator's. A count is added after its statement: in between, or where its
    answer did not come, what was received counts as lost, which is wrong on the safe side.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._run = ""
        self._count = 0

    def add(self, server_run: str) -> None:
        """One more statement of this run of the server."""
        with self._lock:
            self._count = self._count + 1 if server_run == self._run else 1
            self._run = server_run

    def of(self, server_run: str) -> int:
        """How many there were in this run of the server."""
        with self._lock:
            return self._count if server_run == self._run else 0
