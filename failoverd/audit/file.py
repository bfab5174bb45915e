"""The audit file: one JSON object a line, appended and on disk before the effect that it tells of begins.

    {"v":2,"seq":41,"prev":"9f86…","time":"2026-03-01T12:00:00.123Z","boot_ms":81234,"node":"mail2","term":7,…}

`seq` grows by one a record, without gaps, over restarts. `prev` is the hash of the line before (chain.py). `boot_ms`
orders records even when the wall clock was set. The rest is what the caller gave; record 1 names the cluster as well.
A power cut can leave the last lines torn. They were never answered as written, so that nothing was done on them; they
are kept aside in a file of their own, and a record says so, with their hash.

A file is closed when it is large enough, or of an earlier day (UTC), before a record that would go to it; the chain
goes on in the next (layout.py). Where the disk is full the reserve makes room (reserve.py).
"""

from __future__ import annotations

import json
import os
from collections import deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from failoverd import locks
from failoverd.audit import layout
from failoverd.audit.chain import UNCHAINED, VERSION, Head, Written, digest, genesis
from failoverd.audit.packing import hash_in
from failoverd.audit.reserve import FULL, Reserve
from failoverd.durable import sync_directory

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from failoverd.ports import Clock

RESERVED = frozenset({"v", "seq", "prev", "time", "boot_ms", "node", "cluster"})
TAIL = 1 << 20  # bytes looked at from the end; one append is far smaller (inputs.APPEND_LIMIT)
FIRST = 1 << 17  # bytes in which a file's first record is looked for its day
ROTATE_SIZE = 16 << 20
MYSELF = "failoverd"  # the actor of what no person asked for


class AuditDamagedError(OSError):
    """No record can be read at the audit's end, so that the sequence cannot go on."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


def own(kind: str, text: str, **fields: object) -> dict[str, object]:
    """A line that the audit has to say of itself."""
    return {
        "term": None,
        "actor": MYSELF,
        "kind": kind,
        "rule": "",
        "result": "done",
        "text": text,
        **fields,
    }


class AuditFile:
    """`ports.AuditSink` in one file, and those that it was before. One process writes it, at one call at a time."""

    def __init__(
        self,
        path: Path,
        node: str,
        clock: Clock,
        wall: Callable[[], datetime] = _utc_now,
        told: Callable[[list[Written]], None] = lambda _written: None,
        *,
        cluster: str = "",
        rotate_size: int = ROTATE_SIZE,
        reserve: Reserve | None = None,
    ) -> None:
        """Open or create `path`, audit.jsonl in a directory of its own; repair its end.

        Raises OSError, also when another process has that directory open.
        `told` gets each record with its line once both are on disk, in the thread that wrote them; that of a repair
        as well, so that it may be called before this returns. What an append that failed may have left in the file is
        not told: whoever keeps a copy and sees a number left out reads it there.
        """
        self._path = path
        self._node = node
        self._clock = clock
        self._wall = wall
        self._told = told
        self._cluster = cluster
        self._rotate_size = rotate_size
        self._reserve = reserve or Reserve(path.with_name(layout.RESERVE), 0)
        self._noted: deque[dict[str, object]] = deque()
        self._lock = -1
        self._descriptor = -1
        self._size = 0
        self._first: tuple[int, str] | None = None  # number and day of the file's first record
        self._head = genesis(cluster, node)
        self._open()

    @property
    def head(self) -> Head:
        """The newest record's number and its line's hash. Another thread may read it: it is one value."""
        return self._head

    @property
    def sequence(self) -> int:
        """The newest record's number."""
        return self._head.seq

    def append(self, lines: list[dict[str, object]]) -> None:
        """Write and fsync; blocking. Each line has `term` (null when left out). Raises OSError: then it may be there.

        After an error the next call opens the file anew and looks at what it holds, before it writes.
        """
        if self._descriptor < 0:
            self._open()
        self._rotate_if_due()
        noted = len(self._noted)
        self._write([*lines, *(self._noted[index] for index in range(noted))])
        for _ in range(noted):
            self._noted.popleft()

    def note(self, line: dict[str, object]) -> None:
        """Have `line` written with the next append. Any thread may call it; returns at once."""
        self._noted.append(line)

    def close(self) -> None:
        """Let go of the file; `append` would open it again."""
        for descriptor in (self._descriptor, self._lock):
            if descriptor >= 0:
                os.close(descriptor)
        self._descriptor = self._lock = -1

    # ---- records --------------------------------------------------------------------------------------------------

    def _chained(self, lines: list[dict[str, object]]) -> list[Written]:
        """Each line as the record that it becomes, the first one after the newest on disk."""
        written: list[Written] = []
        head = self._head
        for line in lines:
            record = self._record(head, line)
            written.append(Written(record, _encoded(record)))
            head = written[-1].head
        return written

    def _record(self, before: Head, line: dict[str, object]) -> dict[str, object]:
        assert not RESERVED & line.keys(), f"{RESERVED & line.keys()} are the audit's own"  # noqa: S101 - a bug, see style
        time = self._wall().astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        head: dict[str, object] = {"v": VERSION, "seq": before.seq + 1, "prev": before.hash, "time": time}
        head |= {"boot_ms": self._clock.now_ms(), "node": self._node}
        if before.seq == 0:
            head["cluster"] = self._cluster
        return head | {"term": None} | line

    def _write(self, lines: list[dict[str, object]]) -> None:
        written = self._chained(lines)
        data = b"".join(each.line for each in written)
        try:
            self._with_room(lambda: self._put(data), len(data))
        except BaseException:
            self.close()
            raise
        if not written:
            return
        self._size += len(data)
        self._first = self._first or _number_and_day(written[0].record)
        self._head = written[-1].head
        self._told(written)

    def _put(self, data: bytes) -> None:
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
            os.fsync(self._descriptor)
        except OSError as error:
            if error.errno in FULL:
                os.ftruncate(self._descriptor, self._size)  # nothing of it was answered
            raise

    def _with_room(self, write: Callable[[], None], size: int) -> None:
        """Do `write`, of so many bytes; where the disk is full, again, as long as the reserve has something to give."""
        given = False
        while True:
            try:
                write()
                break
            except OSError as error:
                if error.errno not in FULL or not self._reserve.give(size):
                    raise
                given = True
        if given:
            text = f"the disk is full: {self._reserve.short} of {self._reserve.size} bytes of the reserve are given up"
            self.note(own("audit-reserve", text))

    # ---- files ----------------------------------------------------------------------------------------------------

    def _take(self, directory: Path) -> None:
        """Be the only one who writes there. The lock is the directory's: its files come and go. Raises OSError."""
        try:
            locks.own(self._lock)
        except BlockingIOError as error:
            reason = "another failoverd writes its record there"
            raise BlockingIOError(error.errno, reason, str(directory)) from None

    def _open(self) -> None:
        directory = self._path.parent
        directory.mkdir(parents=True, exist_ok=True, mode=0o750)
        try:
            self._lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            self._take(directory)
            lost = not self._path.exists() and layout.closed(directory)
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
            layout.undo_closing(directory)
            sync_directory(directory)
            self._repair()
            if lost:
                text = f"{self._path.name} was not there: what it held is lost; it goes on from {lost[-1].path.name}"
                self._write([own("audit-lost", text, result="failed")])
        except BaseException:
            self.close()
            raise

    def _rotate_if_due(self) -> None:
        """Close the file where it is large enough or of another day.

        Where that cannot be done, it goes on: a disk that is full must not cost the record that is to be written.
        """
        if self._first is None:
            return
        number, day = self._first
        if self._size < self._rotate_size and day == self._wall().astimezone(UTC).date().isoformat():
            return
        try:
            descriptor = layout.close_active(self._path, number)
        except OSError:
            return
        os.close(self._descriptor)
        self._descriptor, self._size, self._first = descriptor, 0, None
        try:
            sync_directory(self._path.parent)
        except BaseException:
            self.close()
            raise

    def _repair(self) -> None:
        """Find the last record that can be read, which the chain goes on from; keep what comes after it aside."""
        size = os.fstat(self._descriptor).st_size
        start = max(size - TAIL, 0)
        tail = os.pread(self._descriptor, TAIL, start)
        end, newest = len(tail), b""
        while (line_end := tail.rfind(b"\n", 0, end)) >= 0:
            line = tail[tail.rfind(b"\n", 0, line_end) + 1 : line_end + 1]
            if _head_of(line) is not None:
                newest = line
                break
            end = line_end
        if not newest and start > 0:
            raise AuditDamagedError(
                f"{self._path}: no record in its last {TAIL} bytes; move it away to begin a new one"
            )
        self._head = _head_of(newest) or self._head_before()
        torn = tail[line_end + 1 :]
        if torn:
            seq, now_ms = self._head.seq + 1, self._clock.now_ms()
            self._with_room(lambda: layout.keep_aside(self._path, seq, now_ms, torn), len(torn))
            os.ftruncate(self._descriptor, size - len(torn))
        self._size = size - len(torn)
        line = os.pread(self._descriptor, FIRST, 0).partition(b"\n")[0]
        self._first = _number_and_day(_record_in(line), self._head.seq) if self._size else None
        said = [_repaired(piece) for piece in layout.aside(self._path, self._head.seq + 1)]  # also of one cut short
        if _record_in(newest).get("v") == UNCHAINED:
            said.insert(0, self._chained_from_here())
        if said:
            self._write(said)

    def _chained_from_here(self) -> dict[str, object]:
        """What the records of version 1 are, which hold no hashes: they are all in this file."""
        with self._path.open("rb") as file:
            whole = hash_in(file)
        text = f"{self._size} bytes of records of version {UNCHAINED} come before this one"
        return own("audit-chained", text, unchained_bytes=self._size, unchained_sha256=whole)

    def _head_before(self) -> Head:
        """That of the newest closed file, or the beginning of all."""
        files = layout.closed(self._path.parent)
        if not files:
            return genesis(self._cluster, self._node)
        try:
            head = _head_of(layout.last_line(files[-1].path))
        except layout.DAMAGED:
            head = None
        if head is None:
            raise AuditDamagedError(
                f"{files[-1].path}: it does not end with a record; move the audit away to begin a new one"
            )
        return head


def _repaired(piece: Path) -> dict[str, object]:
    torn = piece.read_bytes()
    text = f"{len(torn)} bytes after the last record were torn, and are kept in {piece.name}"
    return own("audit-repaired", text, torn_bytes=len(torn), kept_in=piece.name, torn_sha256=digest(torn))


def _encoded(record: dict[str, object]) -> bytes:
    return json.dumps(record, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def _record_in(line: bytes) -> dict[str, object]:
    """The record in a line, an empty one where there is none."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def _head_of(line: bytes) -> Head | None:
    """The head of a chain that ends with `line`, None for what is no record."""
    sequence = _record_in(line).get("seq")
    return Head(sequence, digest(line)) if isinstance(sequence, int) and sequence > 0 else None


def _number_and_day(record: dict[str, object], otherwise: int = 0) -> tuple[int, str]:
    """A first record's number, `otherwise` where it cannot be read, and the day that it was written on."""
    number = record.get("seq")
    return number if isinstance(number, int) else otherwise, str(record.get("time", ""))[:10]
