"""The audit file: one JSON object a line, appended and on disk before the effect that it tells of begins.

    {"v":1,"seq":41,"time":"2026-03-01T12:00:00.123Z","boot_ms":81234,"node":"mail2","term":7,…what the caller gave}

`seq` grows by one a record, without gaps, over restarts. `boot_ms` orders records even when the wall clock was set.
A power cut can leave the last lines torn. They were never answered as written, so that nothing was done on them; they
are kept aside in a file of their own and a record says so. (Chaining the records by hashes is to come: `v` grows then.)
"""

from __future__ import annotations

import fcntl
import json
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from failoverd.ports import Clock

VERSION = 1
RESERVED = frozenset({"v", "seq", "time", "boot_ms", "node"})
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
        told: Callable[[list[dict[str, object]]], None] = lambda _records: None,
    ) -> None:
        """Open or create `path`, repair its end. Raises OSError, also when another process has it open.

        `told` gets each record once it is on disk, in the thread that wrote it.
        """
        self._path = path
        self._node = node
        self._clock = clock
        self._wall = wall
        self._told = told
        self._descriptor = -1
        self._sequence = 0
        self._open()

    @property
    def sequence(self) -> int:
        """The last record's number."""
        return self._sequence

    def append(self, lines: list[dict[str, object]]) -> None:
        """Write and fsync; blocking. Each line has `term` (null when left out). Raises OSError: then it may be there.

        After an error the next call opens the file anew and looks at what it holds, before it writes.
        """
        if self._descriptor < 0:
            self._open()
        records = [self._record(number, line) for number, line in enumerate(lines, self._sequence + 1)]
        self._write(records)
        self._told(records)

    def close(self) -> None:
        """Let go of the file; `append` would open it again."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _record(self, sequence: int, line: dict[str, object]) -> dict[str, object]:
        assert not RESERVED & line.keys(), f"{RESERVED & line.keys()} are the audit's own"  # noqa: S101 - a bug, see style
        time = self._wall().astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        head = {"v": VERSION, "seq": sequence, "time": time, "boot_ms": self._clock.now_ms(), "node": self._node}
        return head | {"term": None} | line

    def _write(self, records: list[dict[str, object]]) -> None:
        rest = memoryview(b"".join(map(_encoded, records)))
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
            os.fsync(self._descriptor)
        except BaseException:
            self.close()
            raise
        self._sequence += len(records)

    def _open(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._descriptor = os.open(self._path, flags, 0o640)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _sync_directory(self._path.parent)
            self._repair()
        except BaseException:
            self.close()
            raise

    def _repair(self) -> None:
        """Find the last record that can be read; keep what comes after it aside."""
        size = os.fstat(self._descriptor).st_size
        start = max(size - TAIL, 0)
        tail = os.pread(self._descriptor, TAIL, start)
        end = len(tail)
        self._sequence = 0
        while (line_end := tail.rfind(b"\n", 0, end)) >= 0:
            line_start = tail.rfind(b"\n", 0, line_end) + 1
            if (sequence := _sequence_of(tail[line_start:line_end])) is not None:
                self._sequence = sequence
                break
            end = line_end
        if self._sequence == 0 and start > 0:
            raise AuditDamagedError(
                f"{self._path}: no record in its last {TAIL} bytes; move it away to begin a new one"
            )
        torn = tail[line_end + 1 :]
        if torn:
            aside = self._path.with_name(f"{self._path.name}.torn-{self._sequence + 1}-{self._clock.now_ms()}")
            _write_new(aside, torn)
            os.ftruncate(self._descriptor, size - len(torn))
            found = {"event": "audit-repaired", "torn_bytes": len(torn), "kept_in": aside.name}
            self._write([self._record(self._sequence + 1, found)])


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
