"""This node's own lines, for those who keep a copy: the newest from memory, older ones from its files.

audit's thread ── noted ──> the newest, up to 1 MiB ──┐
the files, read on from where one was ────────────────┴── Sending.batch ──> one other node
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

from failoverd.audit.branch import Line, hashes_of, line_of, lines_of
from failoverd.audit.chain import Head

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from pathlib import Path

    from failoverd.audit.chain import Written

BATCH = 128 << 10  # bytes of one message; at least one line
MEMORY = 1 << 20  # bytes


class Outgoing:
    """`noted` is called in the audit's thread, the others from any; `told` in that thread, after each."""

    def __init__(self, directory: Path, told: Callable[[], None] = lambda: None) -> None:
        self.directory = directory
        self.told = told
        self._lock = threading.Lock()
        self._newest: deque[Line] = deque()
        self._size = 0
        self._head = Head(0, "")

    @property
    def head(self) -> Head:
        """The newest line. Before the first of this daemon: what `begin` was given."""
        return self._head

    def begin(self, head: Head) -> None:
        """What the audit held when it was opened, where nothing was noted yet."""
        if self._head.seq == 0:
            self._head = head

    def noted(self, written: Sequence[Written]) -> None:
        """These were just written."""
        lines = [line_of(each.line) for each in written]
        if not lines:
            return
        with self._lock:
            if self._newest and lines[0].seq != self._newest[-1].seq + 1:
                self._newest.clear()  # an append that failed has left lines that are in the files only
                self._size = 0
            self._newest += lines
            self._size += sum(len(line.data) for line in lines)
            while self._size > MEMORY:
                self._size -= len(self._newest.popleft().data)
            self._head = Head(lines[-1].seq, lines[-1].hash)
        self.told()

    def newest(self, after: int) -> list[Line] | None:
        """The lines after that number, up to BATCH; None where they are in the files only. At once."""
        with self._lock:
            if after >= self._head.seq:
                return []
            if not self._newest or after + 1 < self._newest[0].seq:
                return None
            return _batch(line for line in self._newest if line.seq > after)

    def hashes(self, at: Collection[int]) -> dict[int, str]:
        """Of the lines of these numbers, as far as they are there. Blocking. Raises OSError."""
        with self._lock:
            found = {line.seq: line.hash for line in self._newest if line.seq in at}
            found |= {self._head.seq: self._head.hash} if self._head.seq in at else {}
        missing = {seq for seq in at if seq <= self._head.seq} - found.keys()
        return found | hashes_of(self.directory, missing)

    def first(self) -> int:
        """The oldest line's number that is there still; 0: there is none. Blocking. Raises OSError."""
        return next((line.seq for line in lines_of(self.directory, 0)), 0)


class Sending:
    """Goes through one node's lines in their order: from the files for as long as it is behind."""

    def __init__(self, outgoing: Outgoing) -> None:
        self._outgoing = outgoing
        self._reading: Iterator[Line] | None = None
        self._at = 0  # the last line that was read
        self._left: Line | None = None  # read, and did not fit into the batch

    def from_files(self, after: int) -> list[Line]:
        """The lines after that number, up to BATCH. Blocking. Raises OSError."""
        if self._reading is None or self._at != after:
            self._reading, self._left = lines_of(self._outgoing.directory, after), None
        lines = _batch(self._on(self._reading))
        if not lines:
            self._reading = None
        self._at = lines[-1].seq if lines else 0
        return lines

    def _on(self, reading: Iterator[Line]) -> Iterator[Line]:
        if self._left is not None:
            left, self._left = self._left, None
            yield left
        for line in reading:
            self._left = line
            yield line
            self._left = None


def _batch(lines: Iterator[Line]) -> list[Line]:
    found: list[Line] = []
    size = 0
    for line in lines:
        size += len(line.data)
        if found and size > BATCH:
            break
        found.append(line)
    return found
