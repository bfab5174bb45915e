"""The files that together are one node's audit, oldest first, and how they come to be.

    audit-000000000001.jsonl.gz     closed, packed: read-only
    audit-000000004712.jsonl        closed, the newest of them: read-only, so that whoever ships lines can end with it
    audit.jsonl                     written to
    audit.jsonl.torn-4800-81234     what a power cut tore off; a record says so
    audit.reserve                   room for the record of a failover (reserve.py)

A closed file is named by the number of its first record. `audit.jsonl` never goes: closing it is a second name for it,
and an empty file in its place in one step. So each moment of that is one of these, and a kill or a power cut between
two of them leaves nothing to guess:

    audit.jsonl.new         an empty file that nobody reads yet                      removed at the next start
    audit-….jsonl           the same file as audit.jsonl, by another name            that name is removed again
    audit.jsonl             empty: closed                                            it goes on

Packing leaves the original until the packed one is on disk under its name; where both are there, the original counts.
"""

from __future__ import annotations

import gzip
import os
import re
import struct
import zlib
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, cast

from failoverd.durable import sync_directory

if TYPE_CHECKING:
    from pathlib import Path

NAME = "audit.jsonl"
NEW = f"{NAME}.new"
RESERVE = "audit.reserve"
TORN = f"{NAME}.torn-"
PACKED = ".gz"
PART = ".part"
CLOSED = re.compile(r"audit-([0-9]{12,18})\.jsonl(\.gz)?")
LAST_LINE = 1 << 20  # bytes from a file's end in which its last line is looked for
CHUNK = 1 << 16
DAMAGED = (EOFError, zlib.error, gzip.BadGzipFile)  # what a packed file raises that is none any more


@dataclass(frozen=True, slots=True, order=True)
class Closed:
    """A file that nothing is written to any more; `first` is the number of its first record."""

    first: int
    path: Path

    @property
    def packed(self) -> bool:
        """Whether it is compressed."""
        return self.path.suffix == PACKED


def name_of(first: int) -> str:
    """A closed file's name, by the number of its first record."""
    return f"audit-{first:012d}.jsonl"


def closed(directory: Path) -> list[Closed]:
    """The closed files, oldest first; none where there is no such directory. Raises OSError."""
    try:
        entries = {entry.name: entry.inode() for entry in os.scandir(directory)}
    except FileNotFoundError:
        return []
    found: list[Closed] = []
    for name, inode in entries.items():
        matched = CLOSED.fullmatch(name)
        if matched is None or (matched[2] and name.removesuffix(PACKED) in entries):
            continue
        if not matched[2] and inode == entries.get(NAME):
            continue  # being closed: still the one that is written to
        found.append(Closed(int(matched[1]), directory / name))
    return sorted(found)


def is_known(name: str) -> bool:
    """Whether the audit may have a file of that name."""
    if name in {NAME, NEW, RESERVE} or name.startswith(TORN):
        return True
    return CLOSED.fullmatch(name.removesuffix(PART)) is not None


def paths(directory: Path) -> list[Path]:
    """All files that hold records, oldest first. Raises OSError."""
    active = directory / NAME
    return [each.path for each in closed(directory)] + ([active] if active.exists() else [])


def opened(path: Path) -> IO[bytes]:
    """A file of records to read from, packed or not, also where it was packed since it was listed. Raises OSError.

    What reading a damaged one raises is in DAMAGED.
    """
    if path.suffix != PACKED:
        try:
            return path.open("rb")
        except FileNotFoundError:
            if path.name == NAME:
                raise
            path = path.with_name(path.name + PACKED)
    return cast("IO[bytes]", gzip.open(path, "rb"))


def length(path: Path) -> int:
    """How many bytes of lines a file holds: of a packed one, what its end says (RFC 1952). Raises OSError."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        if path.suffix != PACKED or size < 4:
            return size
        file.seek(-4, os.SEEK_END)
        return int(struct.unpack("<I", file.read(4))[0])


def last_line(path: Path) -> bytes:
    """A closed file's last line, with its end; empty where there is none. Raises OSError, and what is in DAMAGED."""
    with opened(path) as file:
        end = b""
        if path.suffix != PACKED:
            file.seek(max(file.seek(0, os.SEEK_END) - LAST_LINE, 0))
        while chunk := file.read(CHUNK):
            end = (end + chunk)[-LAST_LINE:]
    if not end.endswith(b"\n"):
        return b""
    return end[end.rfind(b"\n", 0, len(end) - 1) + 1 :]


def close_active(path: Path, first: int) -> int:
    """Give the file that is written to a closed one's name, and put an empty one in its place: its descriptor.

    Raises OSError, and nothing is changed then. No file is written over: one that has that name is an error. Have
    `sync` called before anything is written to the new one.
    """
    new, name = path.with_name(NEW), path.with_name(name_of(first))
    descriptor = os.open(new, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
    try:
        name.hardlink_to(path)
        try:
            new.rename(path)
        except BaseException:
            name.unlink()
            raise
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def undo_closing(directory: Path) -> None:
    """Take back what a kill left of closing a file: the file that is written to has one name. Raises OSError."""
    active = (directory / NAME).stat()
    for path in directory.glob("audit-*.jsonl"):
        if CLOSED.fullmatch(path.name) and os.path.samestat(path.stat(), active):
            path.unlink()
    (directory / NEW).unlink(missing_ok=True)


def keep_aside(path: Path, seq: int, now_ms: int, torn: bytes) -> None:
    """Write what was found after the record before `seq`, where it is not kept already. Raises OSError."""
    if any(piece.read_bytes() == torn for piece in aside(path, seq)):
        return
    piece = path.with_name(f"{TORN}{seq}-{now_ms}")
    with piece.open("xb") as file:
        try:
            file.write(torn)
            file.flush()
            os.fsync(file.fileno())
        except BaseException:
            piece.unlink()
            raise
    sync_directory(path.parent)


def aside(path: Path, seq: int) -> list[Path]:
    """What is kept aside of what came in the place of record `seq`. Raises OSError."""
    return sorted(path.parent.glob(f"{TORN}{seq}-*"))
