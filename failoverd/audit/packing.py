"""A closed file of the audit: what it holds, and how it is packed without a moment in which it could be lost."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import os
import shutil
import time
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, cast

from failoverd.audit import layout
from failoverd.audit.chain import digest
from failoverd.durable import sync_directory

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CLOSED = "audit-closed"  # the kind of record that tells of a packed file
EXPIRED = "audit-expired"  # the one that tells of a file that is removed for its age
LEVEL = 6
READ_ONLY = 0o440


@dataclass(frozen=True, slots=True)
class Contents:
    """What a closed file holds: its last record and that one's time, and the pieces kept aside that it names."""

    last: int
    hash: str
    until: str
    size: int
    sha256: str
    torn: tuple[str, ...]


def contents_of(path: Path) -> Contents:
    """Read all of it. Raises OSError, ValueError where it does not end with a record, what is in layout.DAMAGED."""
    whole, size, line, torn = hashlib.sha256(), 0, b"", []
    with layout.opened(path) as file:
        for line in _with_breath(file):
            whole.update(line)
            size += len(line)
            if b'"kept_in"' in line:
                name = str(_record(line).get("kept_in", ""))
                if name.startswith(layout.TORN) and "/" not in name:  # whatever a record says, nothing else goes
                    torn.append(name)
    last = _record(line)
    number = last.get("seq")
    if not isinstance(number, int) or not line.endswith(b"\n"):
        raise ValueError(f"{path.name} does not end with a record")
    return Contents(number, digest(line), str(last.get("time", "")), size, whole.hexdigest(), tuple(torn))


def pack(path: Path, sha256: str) -> Path:
    """Compress a closed file in its place; `sha256` is of what it holds. Blocking; raises OSError, and leaves it then.

    The original goes when the packed one was read back and is on disk under its name. Killed anywhere before that, it
    is done anew from the beginning.
    """
    packed = path.with_name(path.name + layout.PACKED)
    part = packed.with_name(packed.name + layout.PART)
    part.unlink(missing_ok=True)
    try:
        with path.open("rb") as plain, part.open("xb") as raw:
            with gzip.GzipFile("", "wb", LEVEL, raw, mtime=0) as file:
                shutil.copyfileobj(plain, file, layout.CHUNK)
            raw.flush()
            os.fchmod(raw.fileno(), READ_ONLY)
            os.fsync(raw.fileno())
        _read_back(part, sha256)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise
    part.replace(packed)
    sync_directory(path.parent)
    path.unlink()
    sync_directory(path.parent)
    return packed


def _read_back(part: Path, sha256: str) -> None:
    with gzip.open(part, "rb") as back:
        found = hash_in(cast("IO[bytes]", back))
    if found != sha256:
        raise OSError(f"{part.name} does not read back as what was packed")


def hash_in(file: IO[bytes]) -> str:
    """The SHA-256 of what is left of an open file. Raises OSError, and what is in layout.DAMAGED."""
    whole = hashlib.sha256()
    while chunk := file.read(layout.CHUNK):
        whole.update(chunk)
    return whole.hexdigest()


def hash_of(path: Path) -> str:
    """The SHA-256 of a file as it is on disk. Raises OSError."""
    with path.open("rb") as file:
        return hash_in(file)


def untold(directory: Path) -> list[layout.Closed]:
    """Packed files that no record tells of, since a kill came between: oldest first. Raises OSError.

    A file's record is in a newer file, and the records come in the files' order: the newest files are all that is read.
    """
    found: list[layout.Closed] = []
    told = _told_in(directory / layout.NAME)
    for each in reversed(layout.closed(directory)):
        if each.packed:
            if each.path.name in told:
                break
            found.append(each)
        told |= _told_in(each.path)
    return found[::-1]


def _told_in(path: Path) -> set[str]:
    """The packed files that the records in one file tell of."""
    told: set[str] = set()
    with contextlib.suppress(FileNotFoundError, *layout.DAMAGED), layout.opened(path) as file:
        for line in _with_breath(file):
            if f'"{CLOSED}"'.encode() in line:
                record = _record(line)
                if record.get("kind") == CLOSED:
                    told.add(str(record.get("file")))
    return told


def _with_breath(file: IO[bytes]) -> Iterator[bytes]:
    """The lines; the loop has this process's lock now and then, sooner so than it would be given it."""
    read = 0
    for line in file:
        yield line
        read += len(line)
        if read > layout.CHUNK:
            time.sleep(0.001)
            read = 0


def _record(line: bytes) -> dict[str, object]:
    """The record in a line, an empty one where there is none."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}
