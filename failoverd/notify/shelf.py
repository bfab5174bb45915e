"""Book and queue on this node's disk: one SQLite file (WAL, `synchronous=FULL`), all of it in memory as well.

SQLite rather than a file a message: what is decided and what is queued of it has to reach the disk together, and each
call of `keep` is one transaction. A file that is damaged is put aside and begun anew: the other nodes have the book.

    entry (key, body)     what is decided          told (key, receiver, level)
    queue (number, receiver, body, queued_ms)      count (name, value): how many were left out, and when last
"""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING

import structlog
from pydantic import TypeAdapter, ValidationError

from failoverd.core.telling import EMPTY, Book, Entry, Message
from failoverd.notify.teller import Row

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from failoverd.core.telling import Sent

FILE = "alerts.sqlite3"
_APPLICATION_ID = 0x666F7661  # "fova"
_SCHEMA = 1
_TABLES = """
CREATE TABLE IF NOT EXISTS entry (key TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS told (key TEXT, receiver TEXT, level INTEGER NOT NULL, PRIMARY KEY (key, receiver)) STRICT;
CREATE TABLE IF NOT EXISTS queue (number INTEGER PRIMARY KEY AUTOINCREMENT, receiver TEXT NOT NULL, body TEXT NOT NULL,
 queued_ms INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS count (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS receiver (name TEXT PRIMARY KEY) STRICT;
"""
_ENTRY = TypeAdapter(Entry)
_MESSAGE = TypeAdapter(Message)
_log = structlog.get_logger(__name__)


class ShelfError(Exception):
    """The disk does not take it, or the file cannot be opened; the text says why."""


class SqliteShelf:
    """See Shelf. Every method blocks, and is called from the thread that made it. Raises ShelfError."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / FILE
        self.book: Book = EMPTY
        self._rows: list[Row] = []
        self.dropped = 0
        self.dropped_ms = 0  # when last
        try:
            directory.mkdir(mode=0o750, parents=True, exist_ok=True)
            self._connection = self._open()
        except OSError as error:
            raise ShelfError(f"{directory}: {error.strerror}") from error

    def _open(self) -> sqlite3.Connection:
        try:
            return self._load()
        except (sqlite3.DatabaseError, ValidationError) as error:
            if isinstance(error, sqlite3.OperationalError):  # no damage: a full disk, another process
                raise ShelfError(f"{self._path}: {error}") from error
            damaged = self._path.with_suffix(".damaged")
            self._path.replace(damaged)
            for suffix in ("-wal", "-shm"):
                self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
            _log.error("the queue of alerts is damaged and begun anew", code="ALERTS_DISK", kept=str(damaged))
        try:
            return self._load()
        except sqlite3.Error as error:
            raise ShelfError(f"{self._path}: {error}") from error

    def _load(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, isolation_level=None, timeout=1.0)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute(f"PRAGMA application_id={_APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version={_SCHEMA}")
            connection.executescript(_TABLES)
            rows = connection.execute("SELECT key, body FROM entry").fetchall()
            entries = {key: _ENTRY.validate_json(body) for key, body in rows}
            told = {(key, to): level for key, to, level in connection.execute("SELECT key, receiver, level FROM told")}
            queue = connection.execute("SELECT number, receiver, body, queued_ms FROM queue ORDER BY number").fetchall()
            self._rows = [Row(number, to, _MESSAGE.validate_json(body), at) for number, to, body, at in queue]
            counts = dict(connection.execute("SELECT name, value FROM count").fetchall())
        except BaseException:
            connection.close()
            raise
        self.book = Book(entries, told)
        self.dropped, self.dropped_ms = counts.get("dropped", 0), counts.get("dropped_ms", 0)
        return connection

    @property
    def rows(self) -> Sequence[Row]:
        """The queue, oldest first."""
        return self._rows

    def keep(
        self, book: Book, add: Sent = (), *, drop: Collection[int] = (), wall_ms: int = 0, dropped: int = 0
    ) -> None:
        """See Shelf; on disk when this returns."""
        execute, numbers = self._connection.execute, []
        try:
            execute("BEGIN IMMEDIATE")
            self._write(book)
            for number in drop:
                execute("DELETE FROM queue WHERE number = ?", (number,))
            for to, message in add:
                body = _MESSAGE.dump_json(message).decode()
                done = execute("INSERT INTO queue (receiver, body, queued_ms) VALUES (?, ?, ?)", (to, body, wall_ms))
                numbers.append(done.lastrowid or 0)
            if dropped:
                execute("INSERT OR REPLACE INTO count VALUES ('dropped', ?)", (self.dropped + dropped,))
                execute("INSERT OR REPLACE INTO count VALUES ('dropped_ms', ?)", (wall_ms,))
            execute("COMMIT")
        except sqlite3.Error as error:
            if self._connection.in_transaction:
                with contextlib.suppress(sqlite3.Error):  # the first error says what is wrong
                    execute("ROLLBACK")
            raise ShelfError(f"{self._path}: {error}") from error
        self.book = book
        gone = set(drop)
        self._rows = [row for row in self._rows if row.number not in gone]
        self._rows += [Row(n, to, message, wall_ms) for n, (to, message) in zip(numbers, add, strict=True)]
        if dropped:
            self.dropped, self.dropped_ms = self.dropped + dropped, wall_ms

    def _write(self, book: Book) -> None:
        """What is new in `book`."""
        execute = self._connection.execute
        for key, entry in book.entries.items():
            if self.book.entries.get(key) is not entry:
                execute("INSERT OR REPLACE INTO entry VALUES (?, ?)", (key, _ENTRY.dump_json(entry).decode()))
        for (key, to), level in book.told.items():
            if self.book.told.get((key, to)) != level:
                execute("INSERT OR REPLACE INTO told VALUES (?, ?, ?)", (key, to, level))

    def meet(self, receivers: Collection[str], wall_ms: int) -> None:
        """Take note of the receivers there are now.

        One that is new is not told of what is over; one that is gone takes its queue with it.
        """
        known = {name for (name,) in self._connection.execute("SELECT name FROM receiver")}
        book = self.book
        for key, entry in self.book.entries.items():
            for name in set(receivers) - known:
                book = book.told_of(key, name, entry.level - 1 if entry.open else entry.level)
        orphans = [row.number for row in self._rows if row.receiver not in receivers]
        if orphans:
            _log.warning("alerts were queued for a receiver that the configuration names no more", count=len(orphans))
        self.keep(book, drop=orphans, wall_ms=wall_ms)
        try:
            self._connection.execute("DELETE FROM receiver")
            self._connection.executemany("INSERT INTO receiver VALUES (?)", [(name,) for name in receivers])
        except sqlite3.Error as error:
            raise ShelfError(f"{self._path}: {error}") from error

    def close(self) -> None:
        """Give the file up."""
        self._connection.close()
