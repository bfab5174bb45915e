"""The file of the embedded store: SQLite, one record a cluster, each swap durable before it is answered.

It is made by `create` alone, complete and under its final name in one step. A file that is missing, damaged, of
something else or of a newer failoverd is refused: starting from nothing would forget who is primary.
"""

from __future__ import annotations

import os
import sqlite3
from typing import TYPE_CHECKING, TypeVar

from failoverd import wire
from failoverd.core.model import Record
from failoverd.stores.memory import renumbered

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_APPLICATION_ID = 0x666F7664  # "fovd" in the file's header
_SCHEMA = 1

_T = TypeVar("_T")


class StoreFileError(Exception):
    """The database file cannot be used as it is; the text says why and what to do."""


class StoreFile:
    """The SQLite file. Every method blocks and is called from one thread, the one that opened it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection = self._open()

    @staticmethod
    def create(path: Path) -> None:
        """Make an empty store, durable when this returns. Raises StoreFileError when there is one, OSError."""
        new = path.with_name(path.name + ".new")
        new.unlink(missing_ok=True)  # left by a creation that was interrupted: it never got its name
        connection = sqlite3.connect(new, isolation_level=None)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute(f"PRAGMA application_id={_APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version={_SCHEMA}")
            connection.execute(
                "CREATE TABLE record (cluster TEXT PRIMARY KEY, version INTEGER NOT NULL, body BLOB NOT NULL) STRICT"
            )
        except sqlite3.Error as error:
            raise StoreFileError(f"{path}: cannot be created: {error}") from error
        finally:
            connection.close()  # also empties and removes the write-ahead log
        _sync(new)
        try:
            os.link(new, path)  # unlike a rename, never replaces a store that is there
        except FileExistsError:
            raise StoreFileError(f"{path}: there is a store already") from None
        finally:
            new.unlink()
        _sync(path.parent)

    def _open(self) -> sqlite3.Connection:
        _check_header(self._path)
        address = f"{self._path.absolute().as_uri()}?mode=rw"
        connection = sqlite3.connect(address, uri=True, isolation_level=None, timeout=1.0)
        try:
            # Before the first read: in this mode the log's index is in memory, and a second process cannot open it.
            connection.execute("PRAGMA locking_mode=EXCLUSIVE")
            connection.execute("BEGIN EXCLUSIVE")
            connection.execute("COMMIT")
            connection.execute("PRAGMA synchronous=FULL")
            (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
            (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        except (sqlite3.Error, UnicodeDecodeError) as error:  # the latter where a damaged file's names are told
            connection.close()
            hint = " (does another failoverd have it?)" if "locked" in str(error) else ""
            raise StoreFileError(f"{self._path}: {error}{hint}") from error
        if mode != "wal" or found != "ok":
            connection.close()
            raise StoreFileError(f"{self._path}: damaged: journal mode {mode}, check: {found}")
        return connection

    def load(self) -> dict[str, Record]:
        """Every cluster's record. Raises StoreFileError when one cannot be understood."""
        records = {}
        try:
            rows = self._connection.execute("SELECT cluster, version, body FROM record").fetchall()
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise StoreFileError(f"{self._path}: {error}") from error
        for cluster, version, body in rows:
            try:
                record = wire.decode_record(body)
            except wire.WireError as error:
                raise StoreFileError(f"{self._path}: record of {cluster}: {error}") from error
            if record.version != version:
                raise StoreFileError(f"{self._path}: record of {cluster}: version {record.version} in row {version}")
            records[cluster] = record
        return records

    def begin_run(self, first_version: int) -> dict[str, Record]:
        """Every cluster's record, with a version that no earlier run has given. Raises StoreFileError."""
        records = {cluster: renumbered(record, first_version) for cluster, record in self.load().items()}
        execute = self._connection.execute
        try:
            execute("BEGIN IMMEDIATE")
            for cluster, record in records.items():
                body = wire.encode_record(record)
                execute("UPDATE record SET version = ?, body = ? WHERE cluster = ?", (record.version, body, cluster))
            execute("COMMIT")
        except sqlite3.Error as error:
            raise StoreFileError(f"{self._path}: cannot be written: {error}") from error
        return records

    def change(self, cluster: str, wanted: Callable[[Record], Record | None]) -> tuple[bool, Record]:
        """Put what is `wanted` of the record that stands; durable when this returns.

        None: it stays, and (False, what stands) is returned. What `wanted` raises is raised, and nothing has happened.
        Raises sqlite3.Error: it may have happened or not.
        """
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        try:
            row = execute("SELECT version, body FROM record WHERE cluster = ?", (cluster,)).fetchone()
            standing = Record() if row is None else wire.decode_record(row[1])
            put = wanted(standing)
            if put is not None:
                standing = put
                execute(
                    "INSERT INTO record (cluster, version, body) VALUES (?, ?, ?)"
                    " ON CONFLICT (cluster) DO UPDATE SET version = excluded.version, body = excluded.body",
                    (cluster, standing.version, wire.encode_record(standing)),
                )
            execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                execute("ROLLBACK")
            raise
        return put is not None, standing

    def with_connection(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """What `work` returns, which must leave no transaction open. Raises what it raises."""
        return work(self._connection)

    def reopen(self) -> dict[str, Record]:
        """After an error: a fresh connection recovers the log, and the file says what really happened."""
        self._connection.close()
        self._connection = self._open()
        return self.load()

    def close(self) -> None:
        """Give the file up."""
        self._connection.close()


def _check_header(path: Path) -> None:
    """Look at the file before SQLite does, which would already change another program's."""
    try:
        with path.open("rb") as file:
            header = file.read(100)
    except OSError as error:
        raise StoreFileError(f"{path}: {error.strerror}; only a new cluster starts without its store") from error
    # Fields of the header: https://www.sqlite.org/fileformat.html#the_database_header
    if header[:16] != b"SQLite format 3\0" or int.from_bytes(header[68:72], "big") != _APPLICATION_ID:
        raise StoreFileError(f"{path}: not a store of failoverd, or damaged")
    schema = int.from_bytes(header[60:64], "big")
    if schema > _SCHEMA:
        raise StoreFileError(f"{path}: written by a newer failoverd (schema {schema}, this one knows {_SCHEMA})")
    if schema < _SCHEMA:
        raise StoreFileError(f"{path}: schema {schema} is not known, expected {_SCHEMA}")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
