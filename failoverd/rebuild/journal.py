"""How far a rebuild has come, on disk before the next step: whatever ends it, the next run goes on or begins anew.

    RECEIVING   nothing of the node has been touched: begun anew
    PREPARED    the new data are whole and durable: from here only forward
    MOVING_OUT  the old files leave the data directory
    MOVING_IN   the new ones enter it
    IN_PLACE    the server may start

While the file `hold` lies beside it, the database's unit does not start: see systemd/mariadb.service.d/failoverd.conf.
"""

from __future__ import annotations

import ctypes
import enum
import fcntl
import json
import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from failoverd.durable import sync_directory, write_durably
from failoverd.rebuild import RebuildError

if TYPE_CHECKING:
    from pathlib import Path


class Stage(enum.StrEnum):
    """In this order."""

    RECEIVING = "receiving"
    PREPARED = "prepared"
    MOVING_OUT = "moving-out"
    MOVING_IN = "moving-in"
    IN_PLACE = "in-place"


@dataclass(frozen=True, slots=True)
class Entry:
    """What the next run must know."""

    stage: Stage
    donor: str
    primary: str = ""
    position: str = ""  # gtid_slave_pos of the new data
    state: str = ""  # and their gtid_binlog_state
    ahead: tuple[str, ...] = ()  # where what was extra is saved
    keep_old: bool = False
    request: str = ""  # whose rebuild it is: the daemon's, by its name
    runs: int = 1  # that have begun to receive for this request; all but the newest were killed


class Journal:
    """One node's, in `directory`. `taken` is for one process at a time."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True, mode=0o750)
        self._directory = directory
        self._path = directory / "journal.json"
        self._hold = directory / "hold"
        self._ended = directory / "ended.json"
        self._lock: int | None = None

    def take(self) -> None:
        """Be the only one until this process ends. Raises RebuildError."""
        self._lock = os.open(self._directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RebuildError("REBUILD_RUNNING", f"{self._directory / 'lock'} is held") from None

    def read(self) -> Entry | None:
        """Return how far the last run came; None when there is nothing to be finished. Raises RebuildError."""
        try:
            value = json.loads(self._path.read_text())
            return Entry(**(value | {"stage": Stage(value["stage"]), "ahead": tuple(value["ahead"])}))
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, RecursionError):
            raise RebuildError("REBUILD_DATA", f"{self._path} is damaged: how far a run came is unknown") from None

    def write(self, entry: Entry) -> None:
        """Have it on disk when this returns."""
        write_durably(self._path, json.dumps(asdict(entry)) + "\n")

    def clear(self) -> None:
        """Nothing is to be finished."""
        self._path.unlink(missing_ok=True)
        sync_directory(self._directory)

    def end(self, entry: Entry) -> None:
        """All is done. Whose it was is kept: asked for again, since the power went before that was seen, it is done."""
        write_durably(self._ended, json.dumps({"request": entry.request, "ahead": entry.ahead}) + "\n")
        self.clear()

    def ended(self, request: str) -> list[str] | None:
        """Return where the newest rebuild that ended has saved what was extra; None where that was another's."""
        try:
            value = json.loads(self._ended.read_text())
        except (FileNotFoundError, ValueError, RecursionError):
            return None
        if not isinstance(value, dict) or not request or value.get("request") != request:
            return None
        ahead = value.get("ahead")
        return [str(directory) for directory in ahead] if isinstance(ahead, list) else []

    def hold(self) -> None:
        """Keep the database's unit from starting, also after a reboot."""
        write_durably(self._hold, "a rebuild changes the data directory: failoverd rebuild finishes it\n")

    def release(self) -> None:
        """Let it start again."""
        self._hold.unlink(missing_ok=True)
        sync_directory(self._directory)


def sync_file_system(path: Path) -> None:
    """Have all on disk that was written to the file system of `path`: many files at once. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(path))
    finally:
        os.close(descriptor)
