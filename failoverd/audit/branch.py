"""One chain of another node's audit lines, kept here byte for byte, in a directory of its own.

It is laid out as an audit is (layout.py), so that whatever reads one reads this as well. What is in it was fsynced
before it was answered for; what a power cut tore off was not, and its origin sends it again.
"""

from __future__ import annotations

import json
import os
import time
from collections import OrderedDict
from contextlib import closing
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from failoverd.audit import layout, packing, reading
from failoverd.audit.chain import UNCHAINED, digest
from failoverd.durable import sync_directory

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from datetime import datetime, timedelta
    from pathlib import Path

NUMBERS = 1 << 63  # of records: what nodes tell each other, and the store keeps
RECENT = 512  # hashes in memory: what is sent again is nearly always of the last batch
TAIL = 2 << 20  # bytes looked at from the end for the last line
FILE_MOST = 16 << 20  # bytes of lines in one file, about
BREATH_BYTES = 256 << 10  # after so much of reading the loop's thread goes first
BREATH_S = 0.001


class LineError(ValueError):
    """What was to be a line of an audit is none; the text says why."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line with its end, and what a chain is made of. `prev` "": a record of before there was a chain."""

    data: bytes
    seq: int
    prev: str
    node: str
    hash: str


def line_of(data: bytes) -> Line:
    """Look at a line. Raises LineError."""
    record, problem = reading.parse(data)
    if record is None:
        raise LineError(problem)
    seq, node = record.get("seq"), record.get("node")
    prev = record.get("prev") if record.get("v") != UNCHAINED else ""
    if not isinstance(seq, int):
        raise LineError("its number is none")
    if isinstance(seq, bool) or not 1 <= seq < NUMBERS:
        raise LineError(f"its number is {seq!r:.20}")
    if not isinstance(prev, str) or (not prev and record.get("v") != UNCHAINED) or not isinstance(node, str):
        raise LineError("it does not say what it follows, or whose it is")
    return Line(data, seq, prev, node, digest(data))


class Branch:
    """Opens what is there. Every method blocks, and raises OSError; one thread at a time."""

    def __init__(self, directory: Path, *, file_most: int = FILE_MOST) -> None:
        self.directory = directory
        self.first = self.seq = 0
        self.hash = ""
        self._file_most = file_most
        self._newest = b""
        self._oldest: tuple[int, packing.Contents] | None = None
        self._active_first = 0  # of the file that is written to
        self._recent: OrderedDict[int, str] = OrderedDict()
        self._open()

    def append(self, lines: Sequence[Line]) -> None:
        """Write lines that follow the head, and fsync. After an error there is what there was before."""
        path = self.directory / layout.NAME
        new = not path.exists()
        if new:
            self.directory.mkdir(parents=True, exist_ok=True, mode=0o750)
            for directory in self.directory.parents[:3]:  # the node's, that of all copies, the audit's
                sync_directory(directory)
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            size = os.fstat(descriptor).st_size
            if size >= self._file_most:
                os.close(descriptor)
                descriptor, size = layout.close_active(path, self._active_first), 0
                sync_directory(self.directory)
                self._active_first = 0
            data = memoryview(b"".join(line.data for line in lines))
            try:
                while data:
                    data = data[os.write(descriptor, data) :]
                os.fsync(descriptor)
            except OSError:
                os.ftruncate(descriptor, size)
                raise
        finally:
            os.close(descriptor)
        if new:
            sync_directory(self.directory)
        self.first = self.first or lines[0].seq
        self._active_first = self._active_first or lines[0].seq
        for line in lines:
            self._note(line)

    def lines(self, after: int) -> Iterator[Line]:
        """Those with a higher number than `after`; see lines_of."""
        return lines_of(self.directory, after)

    def hashes(self, at: Collection[int]) -> dict[int, str]:
        """The hashes of the lines of these numbers, as far as they are there."""
        found = {seq: self._recent[seq] for seq in at if seq in self._recent}
        missing = {seq for seq in at if self.first <= seq <= self.seq} - found.keys()
        return found | hashes_of(self.directory, missing)

    def known(self, *, all_over: bool = True) -> list[tuple[int, str]]:
        """Its head and some lines before it, further and further apart: so that its origin finds what both have.

        Not `all_over`: the head alone, for which nothing has to be read.
        """
        if not all_over:
            return [(self.seq, self.hash)] if self.seq else []
        at = {self.first, self.seq} if self.seq else set()
        back = 1
        while self.seq - back > self.first:
            at.add(self.seq - back)
            back *= 2
        return sorted(self.hashes(at).items(), reverse=True)

    def keep_house(self, retention: timedelta, now: datetime) -> None:
        """Pack closed files, and remove those that ended longer than `retention` ago; never the newest of them.

        Ago by its newest record, where that is earlier than `now`: a clock here that is ahead removes nothing. Raises
        also ValueError where a file is not what it should be.
        """
        newest = reading.moment_of(reading.parse(self._newest)[0] or {})
        files = layout.closed(self.directory)[:-1]
        for each in files:
            if not each.packed:
                packing.pack(each.path, packing.contents_of(each.path).sha256)
        latest = min(now, newest or now)
        for each in files:
            if self._oldest is None or self._oldest[0] != each.first:  # it is unpacked once, not at each look
                self._oldest = each.first, packing.contents_of(each.path)
            contents = self._oldest[1]
            until = reading.moment_of({"time": contents.until})
            if until is None or latest - until <= retention:  # a sum could be beyond the years that there are
                return
            each.path.with_name(layout.name_of(each.first) + layout.PACKED).unlink(missing_ok=True)
            self.first = contents.last + 1

    def _note(self, line: Line) -> None:
        self.seq, self.hash, self._newest = line.seq, line.hash, line.data
        self._recent[line.seq] = line.hash
        while len(self._recent) > RECENT:
            self._recent.popitem(last=False)

    def _open(self) -> None:
        """Find both ends; a torn one is cut off."""
        active = self.directory / layout.NAME
        if active.exists():
            layout.undo_closing(self.directory)
            self._cut_torn(active)
            with active.open("rb") as file:
                self._active_first = number_of(file.readline(reading.LINE_LIMIT)) or 0
        closed = layout.closed(self.directory)
        self.first = closed[0].first if closed else self._active_first
        if not self.first:
            return
        for data in reading.tail_lines(self.directory, TAIL):
            try:
                line = line_of(data)
            except LineError:
                self.seq, self.hash = 0, ""  # what is before it is no end
                self._recent.clear()
            else:
                self._note(line)
        if not self.seq:
            raise OSError(f"{self.directory}: its end cannot be read; move the directory away, and it is sent anew")

    @staticmethod
    def _cut_torn(path: Path) -> None:
        with path.open("r+b") as file:
            size = file.seek(0, os.SEEK_END)
            start = max(size - TAIL, 0)
            file.seek(start)
            whole = start + file.read().rfind(b"\n") + 1
            if whole < size:
                file.truncate(whole)
                os.fsync(file.fileno())


def lines_of(directory: Path, after: int) -> Iterator[Line]:
    """The lines of an audit with a higher number than `after`, up to one that cannot be read. Raises OSError."""
    with reading.all_files(directory) as (paths, active):
        for path in _from(paths, after):
            try:
                file = layout.opened(path)
            except FileNotFoundError:
                continue  # it was too old, and is removed since
            with closing(file):
                yield from _lines(file, after)
        if active is not None:
            yield from _lines(active, after)


def _from(paths: list[Path], after: int) -> list[Path]:
    """The closed files without those that end before the line after `after`."""
    firsts = [int(matched[1]) if (matched := layout.CLOSED.fullmatch(path.name)) else 0 for path in paths]
    ended = sum(first <= after + 1 for first in firsts[1:])  # each but the last ends where the next one begins
    return paths[ended:]


def _lines(file: IO[bytes], after: int) -> Iterator[Line]:
    read = 0
    try:
        while data := file.readline(reading.LINE_LIMIT):
            if (number := number_of(data)) is not None and number > after:
                yield line_of(data)
            read += len(data)
            if read > BREATH_BYTES:
                time.sleep(BREATH_S)  # the loop has this process's lock sooner so
                read = 0
    except (LineError, *layout.DAMAGED):
        return


def hashes_of(directory: Path, at: Collection[int]) -> dict[int, str]:
    """The hashes of an audit's lines of these numbers, as far as they are there. Raises OSError."""
    wanted, found = set(at), {}
    if not wanted:
        return {}
    newest = max(wanted)
    for line in lines_of(directory, min(wanted) - 1):
        if line.seq in wanted:
            found[line.seq] = line.hash
        if line.seq >= newest:
            break
    return found


def number_of(data: bytes) -> int | None:
    """A line's number, None where it is none. Without reading all of it: `v` and `seq` stand first."""
    head = data[:48].partition(b'"seq":')[2].partition(b",")[0]
    if head.isdigit():
        return int(head)
    try:
        number = json.loads(data)["seq"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return number if isinstance(number, int) else None
