"""The audit as it is read: its records with their places, and what somebody wants to see of them.

`records` names what it cannot read instead of passing over it; `tail` is for those who want the newest and go on. What
a record's input is, inputs.py says; this imports nothing slow, so that failoverctl starts at once.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    Record = dict[str, object]

LINE_LIMIT = 1 << 20  # bytes; one record is far smaller, and no damaged file shall fill the memory
NAME = "audit.jsonl"


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


def files_of(directory: Path) -> list[Path]:
    """The files that together are the audit, oldest first."""
    return [path for path in (directory / NAME,) if path.exists()]


def records(paths: Iterable[Path]) -> Iterator[Read]:
    """Every line of the files. Raises OSError."""
    for path in paths:
        number = byte = 0
        with path.open("rb") as file:
            while line := file.readline(LINE_LIMIT):
                number += 1
                record, problem = parse(line)
                yield Read(Place(path.name, number, byte), record, problem, line)
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


def opened_tail(path: Path, size: int) -> BinaryIO:
    """The file, at the beginning of the first line in its last `size` bytes. Raises OSError."""
    file = path.open("rb")
    start = max(file.seek(0, 2) - size, 0)
    file.seek(start)
    if start:
        file.readline(LINE_LIMIT)  # probably the rest of one
    return file


def tail(path: Path, size: int) -> Iterator[tuple[Record, int]]:
    """The records in the last `size` bytes, each with its length; lines that are none are passed over."""
    try:
        file = opened_tail(path, size)
    except FileNotFoundError:
        return
    with file:
        while line := file.readline(LINE_LIMIT):
            record, _ = parse(line)
            if record is not None:
                yield record, len(line)


def moment_of(record: Mapping[str, object]) -> datetime | None:
    """A record's time, None where it has none."""
    try:
        moment = datetime.fromisoformat(str(record.get("time")))
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which records somebody wants to see: all that is given must hold."""

    since: datetime | None = None
    term: int | None = None
    node: str = ""
    kind: str = ""
    code: str = ""
    rule: str = ""
    request: str = ""

    def has(self, record: Mapping[str, object]) -> bool:
        """Whether `record` is one of them."""
        detail = record.get("detail")
        if self.since is not None:
            moment = moment_of(record)
            if moment is None or moment < self.since:
                return False
        if self.term is not None and record.get("term") != self.term:
            return False
        if self.request and not (isinstance(detail, dict) and detail.get("request") == self.request):
            return False
        named = {"node": self.node, "kind": self.kind, "code": self.code, "rule": self.rule}
        return all(not value or record.get(name) == value for name, value in named.items())
