"""A copy on its disk: closed and packed like an audit, whole after a write that failed, never without its newest."""

from __future__ import annotations

import contextlib
import json
import resource
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from failoverd.audit import layout
from failoverd.audit.branch import Branch, Line, line_of, lines_of
from failoverd.audit.chain import digest
from failoverd.audit.copies import Copies, Taken

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def chain(count: int, *, text: str = "", size: int = 100, first: int = 1, prev: str = "00" * 32) -> list[Line]:
    """Make a record a day."""
    found = []
    for seq in range(first, first + count):
        time = (NOON + seq * DAY).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        record = {"v": 2, "seq": seq, "prev": prev, "time": time, "node": "mail1", "text": text + "x" * size}
        data = json.dumps(record, separators=(",", ":")).encode() + b"\n"
        prev = digest(data)
        found.append(line_of(data))
    return found


def body(lines: list[Line]) -> bytes:
    return b"".join(line.data for line in lines)


@contextlib.contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """Let writes beyond it fail, as on a disk that is full: the last one that fits is a piece."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_files_are_closed_by_size_packed_and_read_as_one(tmp_path: Path) -> None:
    branch, lines = Branch(tmp_path / "copies/mail1/1", file_most=1000), chain(60)
    for at in range(0, 60, 5):
        branch.append(lines[at : at + 5])
    closed = layout.closed(branch.directory)
    assert len(closed) > 3
    branch.keep_house(1000 * DAY, NOON + 70 * DAY)
    assert [each.packed for each in layout.closed(branch.directory)] == [True] * (len(closed) - 1) + [False]
    assert list(branch.lines(0)) == lines
    assert [line.seq for line in lines_of(branch.directory, 31)] == list(range(32, 61))
    again = Branch(branch.directory)
    assert (again.first, again.seq, again.hash) == (1, 60, lines[-1].hash)
    assert again.hashes([1, 17, 60, 61]) == {n: lines[n - 1].hash for n in (1, 17, 60)}
    again.append(chain(1, first=61, prev=lines[-1].hash))
    assert Branch(branch.directory).seq == 61


def test_what_is_older_than_the_retention_goes_by_the_record_s_own_time(tmp_path: Path) -> None:
    branch, lines = Branch(tmp_path / "copies/mail1/1", file_most=1000), chain(60)
    for at in range(0, 60, 5):
        branch.append(lines[at : at + 5])
    branch.keep_house(30 * DAY, NOON + 10_000 * DAY)  # this node's clock is years ahead
    oldest = next(branch.lines(0)).seq
    assert oldest == branch.first
    assert 20 < oldest <= 31, "the newest record is of day 60"
    assert branch.seq == 60


def test_a_write_that_fails_leaves_what_there_was(tmp_path: Path) -> None:
    branch, lines = Branch(tmp_path / "copies/mail1/1"), chain(20)
    branch.append(lines[:5])
    with files_no_larger_than(len(body(lines[:5])) + 300), pytest.raises(OSError, match="File too large"):
        branch.append(lines[5:])
    assert (branch.directory / layout.NAME).read_bytes() == body(lines[:5])
    branch.append(lines[5:])
    assert list(branch.lines(0)) == lines


def test_another_version_that_could_not_begin_is_none(tmp_path: Path) -> None:
    copies = Copies(tmp_path / "copies", ["mail1"], free_least=0)
    lines, other = chain(5), chain(5, text="other")
    copies.take("mail1", body(lines))
    for _ in range(8):
        with files_no_larger_than(100), pytest.raises(OSError, match="File too large"):
            copies.take("mail1", body(other))
    taken = copies.take("mail1", body(other))
    assert isinstance(taken, Taken)
    assert (taken.versions, taken.forked) == (2, 1)
    assert [(each.number, each.seq) for each in copies.versions("mail1")] == [(1, 5), (2, 5)]


def test_of_one_node_so_many_versions_are_kept_and_no_more(tmp_path: Path) -> None:
    copies = Copies(tmp_path / "copies", ["mail1"], free_least=0)
    for number in range(5):
        copies.take("mail1", body(chain(3, text=str(number))))
    with pytest.raises(Exception, match="5 versions of mail1's record are kept here"):
        copies.take("mail1", body(chain(3, text="once more")))
    assert len(copies.versions("mail1")) == 5


def test_a_version_that_somebody_moved_away_is_not_missed(tmp_path: Path) -> None:
    copies = Copies(tmp_path / "copies", ["mail1"], free_least=0)
    lines = chain(6)
    copies.take("mail1", body(lines[:3]))
    (tmp_path / "copies/mail1/1").rename(tmp_path / "evidence")
    assert copies.versions("mail1") == []
    taken = copies.take("mail1", body(lines))
    assert isinstance(taken, Taken)
    assert (taken.version.number, taken.version.seq, taken.versions) == (1, 6, 1)
