"""The audit file: one JSON object a line, appended and on disk before the effect that it tells of begins.

    {"v":2,"seq":41,"prev":"9f86…","time":"2026-03-01T12:00:00.123Z","boot_ms":81234,"node":"mail2","term":7,…}

`seq` grows by one a record, without gaps, over restarts. `prev` is the hash of the line before (chain.py). `boot_ms`
orders records even when the wall clock was set. The rest is what the caller gave; record 1 names the cluster as well.
A power cut can leave the last lines torn. They were never answered as written, so that nothing was done on them; they
are kept aside in a file of their own, and a record says so, with their hash.
"""

from __future__ import annotations

import fcntl
import json
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from failoverd.audit.chain import VERSION, Head, Written, digest, genesis

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from failoverd.ports import Clock

RESERVED = frozenset({"v", "seq", "prev", "time", "boot_ms", "node", "cluster"})
TAIL = 1 << 20  # bytes looked at from the end; one append is far smaller (inputs.APPEND_LIMIT)


class AuditDamagedError(OSError):
    """No record can be read at the file's end, so that the sequence cannot go on."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


class AuditFile:
    """`ports.AuditSink` in one file. One process writes it, at one call at a time."""

    def __init__(
        self,
        path: Path,
        node: str,
        clock: Clock,
        wall: Callable[[], datetime] = _utc_now,
        told: Callable[[list[Written]], None] = lambda _written: None,
        *,
        cluster: str = "",
    ) -> None:
        """Open or create `path`, repair its end. Raises OSError, also when another process has its directory open.

        `told` gets each record with its line once both are on disk, in the thread that wrote them; that of a repair
        as well, so that it may be called before this returns. What an append that failed may have left in the file is
        not told: whoever keeps a copy and sees a number left out reads it there.
        """
        self._path = path
        self._node = node
        self._cluster = cluster
        self._clock = clock
        self._wall = wall
        self._told = told
        self._lock = -1
        self._descriptor = -1
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
        self._write(lines)

    def close(self) -> None:
        """Let go of the file; `append` would open it again."""
        for descriptor in (self._descriptor, self._lock):
            if descriptor >= 0:
                os.close(descriptor)
        self._descriptor = self._lock = -1

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
        rest = memoryview(b"".join(each.line for each in written))
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
            os.fsync(self._descriptor)
        except BaseException:
            self.close()
            raise
        if written:
            self._head = written[-1].head
        self._told(written)

    def _open(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
        try:
            self._lock = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the directory's: its files come and go
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
            _sync_directory(self._path.parent)
            self._repair()
        except BaseException:
            self.close()
            raise

    def _repair(self) -> None:
        """Find the last record that can be read, which the chain goes on from; keep what comes after it aside."""
        size = os.fstat(self._descriptor).st_size
        start = max(size - TAIL, 0)
        tail = os.pread(self._descriptor, TAIL, start)
        end = len(tail)
        self._head = genesis(self._cluster, self._node)
        while (line_end := tail.rfind(b"\n", 0, end)) >= 0:
            line = tail[tail.rfind(b"\n", 0, line_end) + 1 : line_end + 1]
            if (sequence := _sequence_of(line)) is not None:
                self._head = Head(sequence, digest(line))
                break
            end = line_end
        if self._head.seq == 0 and start > 0:
            raise AuditDamagedError(
                f"{self._path}: no record in its last {TAIL} bytes; move it away to begin a new one"
            )
        torn = tail[line_end + 1 :]
        if torn:
            aside = self._path.with_name(f"{self._path.name}.torn-{self._head.seq + 1}-{self._clock.now_ms()}")
            _write_new(aside, torn)
            os.ftruncate(self._descriptor, size - len(torn))
            found = {"event": "audit-repaired", "torn_bytes": len(torn), "kept_in": aside.name}
            self._write([found | {"torn_sha256": digest(torn)}])


def _encoded(record: dict[str, object]) -> bytes:
    return json.dumps(record, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def _sequence_of(line: bytes) -> int | None:
    """Return a record's number, None for what is no record."""
    try:
        sequence = json.loads(line)["seq"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return sequence if isinstance(sequence, int) and sequence > 0 else None


def _write_new(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    _sync_directory(path.parent)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
