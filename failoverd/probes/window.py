"""Counts of the last so-and-so long, in bounded memory: a window of slices, of which the oldest is dropped as a whole.

    now                                    window ago
     │ slice │ slice │ slice │ … │ slice │
       added                       dropped when the next one begins

So a count is of the window and at most one slice less. Names come from outside (the addresses of clients, for one): a
slice that has met too many keeps those it met most often, so that a count is then at least so much.
"""

from __future__ import annotations

from collections import Counter, deque

SLICES = 12
NAMES = 4096  # of one slice


class Window:
    """Counts by name. The clock is the caller's, in ms, and never goes back."""

    def __init__(self, length_ms: int, *, names: int = NAMES) -> None:
        self._slice_ms = max(1, length_ms // SLICES)
        self._names = names
        self._slices: deque[tuple[int, Counter[str]]] = deque(maxlen=SLICES)

    def add(self, now_ms: int, name: str, amount: int = 1) -> None:
        """Count `amount` more of `name`."""
        number = now_ms // self._slice_ms
        if not self._slices or self._slices[-1][0] != number:
            self._slices.append((number, Counter()))
        counts = self._slices[-1][1]
        counts[name] += amount
        if len(counts) > self._names:
            kept = dict(counts.most_common(self._names // 2))
            counts.clear()
            counts.update(kept)

    def totals(self, now_ms: int) -> Counter[str]:
        """All counts of the window."""
        self._forget(now_ms)
        found: Counter[str] = Counter()
        for _, counts in self._slices:
            found.update(counts)
        return found

    def _forget(self, now_ms: int) -> None:
        first = now_ms // self._slice_ms - SLICES + 1
        while self._slices and self._slices[0][0] < first:
            self._slices.popleft()
