"""The audit as it is read: its records with their places, over all its files, and what somebody wants to see of them.

`records` names what it cannot read instead of passing over it; `tail` is for those who want the newest and go on. Both
may read while it is written to: a file may be closed, packed or removed meanwhile, and nothing is read twice or missed.
What a record's input is, inputs.py says; this imports nothing slow, so that failoverctl starts at once.
"""

from __future__ import annotations

import json
import os
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING

from failoverd.audit import layout
from failoverd.audit.file import MYSELF
from failoverd.audit.layout import NAME as NAME  # noqa: PLC0414 - offered here, to those who read

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    Record = dict[str, object]

LINE_LIMIT = 1 << 20  # bytes; one record is far smaller, and no damaged file shall fill the memory
SET_BACK_MOST = timedelta(days=1)  # by more a wall clock is hardly set back


@dataclass(frozen=True, slots=True)
class Place:
    """Where a line begins."""

    file: str
    line: int
    byte: int

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}, byte {self.byte}"


@dataclass(frozen=True, slots=True)
class Read:
    """One line, with its end: its record, or why it is none."""

    place: Place
    record: Record | None
    problem: str = ""
    line: bytes = field(default=b"", repr=False)


@contextmanager
def all_files(directory: Path) -> Iterator[tuple[list[Path], IO[bytes] | None]]:
    """The closed files, oldest first, and the one that is written to, opened: as they were at one moment."""
    while True:
        try:
            active: IO[bytes] | None = (directory / NAME).open("rb")
        except FileNotFoundError:
            active = None
        try:
            files = layout.closed(directory)
            if active is None:
                yield [each.path for each in files], None
                return
            mine = os.fstat(active.fileno())
            if _is(directory / NAME, mine):  # else it was closed meanwhile, and may be in the list or not
                yield [each.path for each in files if not _is(each.path, mine)], active
                return
        finally:
            if active is not None:
                active.close()


def _must_be_there(files: list[Path], active: IO[bytes] | None) -> None:
    if not files and active is None:
        raise FileNotFoundError(2, f"no {NAME} there")


def _is(path: Path, file: os.stat_result) -> bool:
    try:
        return os.path.samestat(path.stat(), file)
    except FileNotFoundError:
        return False


def records(directory: Path, since: datetime | None = None) -> Iterator[Read]:
    """Every line of the audit in `directory`, oldest first. Raises OSError; FileNotFoundError where there is none.

    `since`: files that end before it are left out; what is in the others before it is not.
    """
    with all_files(directory) as (files, active):
        _must_be_there(files, active)
        for path in files[_index(files, since) :]:
            try:
                file = layout.opened(path)
            except FileNotFoundError:
                continue  # removed since: it was too old, or the next one's beginning says that it is missing
            with closing(file):
                yield from _lines(file)
        if active is not None:
            yield from _lines(active)


def _index(files: list[Path], since: datetime | None) -> int:
    """Of the first file that may have records since then."""
    if since is None:
        return 0
    for index in range(len(files) - 1, -1, -1):
        begins = _begins(files[index])
        if begins is not None and since - begins > SET_BACK_MOST:
            return index
    return 0


def _begins(path: Path) -> datetime | None:
    with suppress(FileNotFoundError, *layout.DAMAGED), closing(layout.opened(path)) as file:
        record, _ = parse(file.readline(LINE_LIMIT))
        return moment_of(record) if record is not None else None
    return None


def _lines(file: IO[bytes]) -> Iterator[Read]:
    name = Path(file.name).name
    number = byte = 0
    while True:
        try:
            line = file.readline(LINE_LIMIT)
        except layout.DAMAGED as error:
            yield Read(Place(name, number + 1, byte), None, f"the file cannot be unpacked: {error or 'it is cut off'}")
            return
        if not line:
            return
        number += 1
        record, problem = parse(line)
        yield Read(Place(name, number, byte), record, problem, line)
        if not line.endswith(b"\n") and len(line) < LINE_LIMIT:
            return  # the end as of now: what is being written has its rest by the next read, and that is no line
        byte += len(line)


def parse(line: bytes) -> tuple[Record | None, str]:
    """The record in a line, or why it is none."""
    if not line.endswith(b"\n"):
        return None, "no end of line: it was not written whole" if len(line) < LINE_LIMIT else "too long for a record"
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        return None, f"no JSON: {error}"
    return (record, "") if isinstance(record, dict) else (None, "no JSON object")


def tail_lines(directory: Path, size: int) -> Iterator[bytes]:
    """The lines in the audit's last `size` bytes, over all its files. Raises OSError; where there is none as well."""
    with all_files(directory) as (files, active):
        _must_be_there(files, active)
        left = size - (os.fstat(active.fileno()).st_size if active is not None else 0)
        chosen: list[Path] = []
        while left > 0 and files:
            chosen.insert(0, files.pop())
            left -= layout.length(chosen[0])
        skip = max(-left, 0)  # of the oldest
        for path in chosen:
            with closing(layout.opened(path)) as file:
                yield from _from(file, skip)
            skip = 0
        if active is not None:
            yield from _from(active, skip)


def _from(file: IO[bytes], skip: int) -> Iterator[bytes]:
    """The lines after the first `skip` bytes; as far as a damaged file can be read."""
    try:
        file.seek(skip)
        if skip:
            file.readline(LINE_LIMIT)  # probably the rest of one
        while line := file.readline(LINE_LIMIT):
            yield line
    except layout.DAMAGED:
        return


def tail(directory: Path, size: int) -> Iterator[tuple[Record, int]]:
    """The records in the last `size` bytes, each with its length; lines that are none are passed over."""
    with suppress(FileNotFoundError):
        for line in tail_lines(directory, size):
            record, _ = parse(line)
            if record is not None:
                yield record, len(line)


def moment_of(record: Mapping[str, object]) -> datetime | None:
    """A record's time, None where it has none."""
    try:
        moment = datetime.fromisoformat(str(record.get("time")))
        return moment.astimezone(UTC) if moment.tzinfo is not None else None
    except (ValueError, OverflowError):  # no moment, or one that UTC has no year for
        return None


def actor_of(record: Mapping[str, object]) -> str:
    """Who asked for what a record tells of; those of version 1 have no such field."""
    actor, detail = record.get("actor"), record.get("detail")
    if actor is None and isinstance(detail, dict):
        actor = detail.get("by")
    return str(actor or MYSELF)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which records somebody wants to see: all that is given must hold."""

    since: datetime | None = None
    until: datetime | None = None
    actor: str = ""
    term: int | None = None
    node: str = ""
    kind: str = ""
    code: str = ""
    rule: str = ""
    request: str = ""

    def has(self, record: Mapping[str, object]) -> bool:
        """Whether `record` is one of them."""
        detail = record.get("detail")
        if self.since is not None or self.until is not None:
            moment = moment_of(record)
            if moment is None or not (self.since or moment) <= moment <= (self.until or moment):
                return False
        if self.actor and actor_of(record) != self.actor:
            return False
        if self.term is not None and record.get("term") != self.term:
            return False
        if self.request and not (isinstance(detail, dict) and detail.get("request") == self.request):
            return False
        named = {"node": self.node, "kind": self.kind, "code": self.code, "rule": self.rule}
        return all(not value or record.get(name) == value for name, value in named.items())
