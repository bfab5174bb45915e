r"""What a server's binary log holds, read from its files: also of one that is stopped, or does not start any more.

Only what is needed for that: the event headers and GTID events. The layout is MariaDB's own
(https://mariadb.com/kb/en/2-binlog-event-header/, https://mariadb.com/kb/en/gtid_event/):

    magic "\xfebin" │ event │ event …
    event   header of 19 bytes: time 4, type 1, server 4, length 4, end 4, flags 2
    GTID    number 8, domain 4, flags 1; begins a group, which ends where the next begins, complete with a commit

A group at the end of a file that a crash has cut off is none: the server takes it back when it starts.

A relay log has the same layout. It is written without a sync, so that a power cut may leave anything at its end: what
cannot be read there is not there.
"""

from __future__ import annotations

import contextlib
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from failoverd.rebuild import RebuildError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAGIC = b"\xfebin"
QUERY, STOP, ROTATE, FORMAT, XID, XA_PREPARE = 2, 3, 4, 15, 16, 38
CHECKPOINT, GTID, GTID_LIST, ENCRYPTION, COMPRESSED_QUERY = 161, 162, 163, 164, 165
_HEADER = struct.Struct("<IBIIIH")
_GTID = struct.Struct("<QIB")
_STANDALONE = 1  # flag of a GTID event: DDL
_OWN = frozenset({STOP, ROTATE, FORMAT, CHECKPOINT, GTID_LIST})  # of the file, of no group
_ENDS = frozenset({QUERY, COMPRESSED_QUERY, XID, XA_PREPARE})


@dataclass(frozen=True, slots=True)
class Group:
    """One transaction, or one DDL statement, and where it stands."""

    domain: int
    server: int
    number: int
    standalone: bool
    file: Path
    start: int
    stop: int

    @property
    def source(self) -> str:
        """Who wrote it, as core.gtid names it."""
        return f"{self.domain}-{self.server}"


def files(index: Path) -> list[Path]:
    """Return the files of a binary log, oldest first. Raises RebuildError where there is no such log."""
    try:
        lines = index.read_text(errors="surrogateescape").splitlines()
    except OSError as error:
        raise RebuildError("AHEAD_NO_BINLOG", f"{index}: {error.strerror}") from None
    return [index.parent / line.strip() for line in lines if line.strip()]


def groups(index: Path) -> Iterator[Group]:
    """Yield every complete group, in order. Raises RebuildError where it cannot be read to its end."""
    for path in files(index):
        try:
            with path.open("rb") as file:
                yield from _groups_of(path, file)
        except OSError as error:
            raise RebuildError("AHEAD_UNREADABLE", f"{path}: {error.strerror}") from None


def relay_logs(data: Path, own: Path) -> list[Path]:
    """Return the indexes of the relay logs in a data directory: every other one than the binary log's `own`."""
    return sorted(path for path in data.glob("*.index") if path != own)


def received(index: Path) -> Iterator[Group]:
    """Yield the groups of a relay log, each file up to where it can be read. Raises OSError."""
    for path in files(index):
        if path.is_file():
            with path.open("rb") as file, contextlib.suppress(RebuildError):
                yield from _groups_of(path, file)


def _groups_of(path: Path, file: BinaryIO) -> Iterator[Group]:
    size = file.seek(0, 2)
    file.seek(0)
    if file.read(len(MAGIC)) != MAGIC:
        raise RebuildError("AHEAD_UNREADABLE", f"{path} is no binary log")
    position = len(MAGIC)
    begun: tuple[int, int, int, bool] | None = None  # domain, server, number, standalone
    start, last = 0, 0
    while position + _HEADER.size <= size:
        file.seek(position)
        _, kind, server, length, _, _ = _HEADER.unpack(file.read(_HEADER.size))
        if length < _HEADER.size + (_GTID.size if kind == GTID else 0):
            raise RebuildError("AHEAD_UNREADABLE", f"{path}: no event at {position}")
        if kind == ENCRYPTION:
            raise RebuildError("AHEAD_UNREADABLE", f"{path} is encrypted")
        if kind == GTID or kind in _OWN:
            if begun is not None and last in _ENDS:
                yield Group(*begun, path, start, position)
            begun = None
        if position + length > size:
            return  # a crash has cut it off
        if kind == GTID:
            number, domain, flags = _GTID.unpack(file.read(_GTID.size))
            begun, start = (domain, server, number, bool(flags & _STANDALONE)), position
        last = kind
        position += length
    if begun is not None and last in _ENDS:
        yield Group(*begun, path, start, position)
