"""What is done to an audit beside its writing, in a thread: files are packed, old ones removed, the reserve is made.

    closed, not the newest ──> packed ──read back: the same──> named, on disk ──> original removed ──> audit-closed
    older than the retention ──> audit-expired on disk ──> removed
    audit.reserve too short ──> there is room ──> made again

Nothing waits for it. Its records go to disk with the next append (`AuditFile.note`), which costs no write of their own.

`audit-closed` holds a file's last number and hash, and the SHA-256 of the packed file: a bit of it can be changed that
changes no record. `audit-expired` holds the same of what is removed, so that the next file still begins at a proven
point. It is on disk before anything is removed; a wall clock that is ahead for some hours must not cost the record, so
that a file must have been too old for `HOLD_MS` of uptime.
"""

from __future__ import annotations

import threading
from collections import deque
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import structlog

from failoverd.audit import layout, packing, reading
from failoverd.audit.file import own
from failoverd.durable import sync_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from failoverd.audit.chain import Written
    from failoverd.audit.packing import Contents
    from failoverd.audit.reserve import Reserve
    from failoverd.ports import Clock

LOOK_S = 60.0
HOLD_MS = 6 * 3_600_000

_log = structlog.get_logger(__name__)


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Keeper:
    """One audit's. `look` does all there is to do; `start` lets a thread do it, each minute and when it is told."""

    def __init__(
        self,
        directory: Path,
        *,
        reserve: Reserve,
        retention: timedelta,
        clock: Clock,
        note: Callable[[dict[str, object]], None],
        wall: Callable[[], datetime] = _utc_now,
    ) -> None:
        """`note` takes a line for the next append; any thread may call it."""
        self._directory = directory
        self._reserve = reserve
        self._retention = retention
        self._clock = clock
        self._note = note
        self._wall = wall
        self._oldest: tuple[str, Contents] | None = None
        self._old_since: int | None = None  # since when there is one that is too old
        self._said_old: set[str] = set()
        self._may_go: deque[tuple[str, tuple[str, ...]]] = deque()
        self._looked = False
        self._was_whole = True
        self._wake = threading.Event()
        self._end = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin."""
        self._thread = threading.Thread(target=self._run, name="audit-keeper", daemon=True)
        self._thread.start()

    def stop(self, within_s: float) -> None:
        """End, after the step that is under way. Blocking. What is half done is done at the next start."""
        self._end = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(within_s)

    def told(self, written: Sequence[Written]) -> None:
        """These are on disk. Called in the audit's thread."""
        for each in written:
            if each.record.get("kind") == packing.EXPIRED:
                torn = each.record.get("torn")
                names = tuple(map(str, torn)) if isinstance(torn, list) else ()
                self._may_go.append((str(each.record.get("file")), names))
                self._wake.set()

    def _run(self) -> None:
        said = ""
        while not self._end:
            problem = ""
            try:
                self.look()
            except Exception as error:  # noqa: BLE001 - what only keeps house must not end what acts
                problem = f"{type(error).__name__}: {error}"
            if problem and problem != said:
                _log.error("the audit's files are not kept in order", reason=problem)
            said = problem
            self._wake.wait(LOOK_S)
            self._wake.clear()

    def look(self) -> None:
        """Do what there is to do. Blocking; raises OSError, ValueError. May be killed at any point and begun anew."""
        whole = self._reserve.make()
        if self._was_whole and not whole:
            missing = f"{self._reserve.short} of {self._reserve.size} bytes are missing"
            _log.error("the audit's disk is full, its reserve is not whole", code="AUDIT_DISK_FULL", reason=missing)
        self._was_whole = whole
        if not self._looked:
            for each in packing.untold(self._directory):
                self._tell(packing.CLOSED, each, packing.contents_of(each.path))
            self._looked = True
        self._remove()
        if whole:  # else what it needs beside the file would be taken from where a record has to go
            self._pack()
        self._expire()

    def _pack(self) -> None:
        """Each closed file but the newest. Raises ValueError at the end where one is not what it should be."""
        files = [each for each in layout.closed(self._directory) if not each.packed]
        for each in files:
            each.path.chmod(packing.READ_ONLY)
        damaged = ""
        for each in files[:-1]:
            if self._end:
                return
            try:
                contents = packing.contents_of(each.path)
            except ValueError as error:
                damaged = damaged or str(error)
                continue
            packed = packing.pack(each.path, contents.sha256)
            self._tell(packing.CLOSED, layout.Closed(each.first, packed), contents)
        if damaged:
            raise ValueError(damaged)

    def _expire(self) -> None:
        """Say which files go, once the oldest has been too old for long enough."""
        for each in layout.closed(self._directory):
            name = each.path.name
            if name in self._said_old:
                continue
            if not each.packed or self._end:
                return
            if self._oldest is None or self._oldest[0] != name:
                self._oldest = (name, packing.contents_of(each.path))
            contents = self._oldest[1]
            until = reading.moment_of({"time": contents.until})
            if until is None or until > self._wall() - self._retention:
                self._old_since = None
                return
            if self._old_since is None:
                self._old_since = self._clock.now_ms()
            if self._clock.now_ms() - self._old_since < HOLD_MS:
                return
            self._said_old.add(name)
            self._tell(packing.EXPIRED, each, contents)

    def _remove(self) -> None:
        """What is on disk as a record to be removed."""
        while self._may_go:
            name, torn = self._may_go.popleft()
            for gone in (*torn, name):  # the file last: it says which pieces there are
                (self._directory / gone).unlink(missing_ok=True)
            sync_directory(self._directory)
            self._said_old.discard(name)
            _log.info("a file of the audit was older than the retention and is removed", file=name)

    def _tell(self, kind: str, file: layout.Closed, contents: Contents) -> None:
        """A line for the next append."""
        name = file.path.name
        about: dict[str, object] = {"file": name, "first": file.first, "last": contents.last, "hash": contents.hash}
        about |= {"until": contents.until, "bytes": contents.size, "sha256": contents.sha256}
        if kind == packing.CLOSED:
            about["packed_sha256"] = packing.hash_of(file.path)
        else:
            about["torn"] = list(contents.torn)
        said = "is closed" if kind == packing.CLOSED else "is older than the retention and goes"
        self._note(own(kind, f"{name}, records {file.first} to {contents.last}, {said}", **about))
