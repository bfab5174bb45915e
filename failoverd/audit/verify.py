"""Whether an audit is whole: every line a record, no number missing, times sane, inputs as they were written.

What breaks the record is a *problem*, with its place, and the first one is what to look at. What is odd and can have
an honest cause (the wall clock was set, a torn piece was thrown away) is a *note*. What a power cut tore off was
never answered as written; it is kept aside, and the record `audit-repaired` names the file.

A check is a function of the record before and the record; a chain of hashes is one more row of CHECKS.
"""

from __future__ import annotations

import fcntl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from failoverd import views
from failoverd.audit import reading
from failoverd.audit.file import VERSION
from failoverd.audit.inputs import InputError, unpacked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from failoverd.audit.reading import Read, Record

SET_BACK = timedelta(seconds=1)  # a wall clock is corrected by less all the time
AHEAD = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Found:
    """What is wrong, or odd, and where; `broken`: the record is."""

    place: reading.Place
    what: str
    broken: bool


@dataclass(slots=True)
class Verified:
    """What was looked at."""

    records: int = 0
    inputs: int = 0
    first: str = ""
    last: str = ""


def verify(directory: Path, verified: Verified, now: datetime | None = None) -> Iterator[Found]:
    """Look at every record of the audit in `directory`. Raises OSError; FileNotFoundError where there is none."""
    paths = reading.files_of(directory)
    if not paths:
        raise FileNotFoundError(2, f"no {reading.NAME} there")
    now = now or datetime.now(UTC)
    before: Record | None = None
    digests: set[str] = set()
    torn: set[str] = set()
    place = reading.Place(reading.NAME, 0, 0)
    for read in reading.records(paths):
        place = read.place
        if read.record is None:
            if not _being_written(read, paths[-1]):
                yield Found(place, read.problem, broken=True)
            continue
        record = read.record
        for check in CHECKS:
            yield from check(before, record, place)
        yield from _time(before, record, place, now)
        yield from _input(record, place, digests)
        if "kept_in" in record:
            torn.add(str(record["kept_in"]))
        _count(verified, record)
        before = record
    yield from _torn(directory, torn, place)


def _count(verified: Verified, record: Record) -> None:
    verified.records += 1
    verified.inputs += "input" in record
    verified.last = str(record.get("time", ""))
    verified.first = verified.first or verified.last


def _being_written(read: Read, newest: Path) -> bool:
    """The last line of the newest file has no end yet, and a daemon has the file: it is writing it."""
    if not read.problem.startswith("no end of line") or read.place.file != newest.name:
        return False
    with newest.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


# ---- each record, and the one before it -------------------------------------------------------------------------


def _head(_before: Record | None, record: Record, place: reading.Place) -> Iterator[Found]:
    if record.get("v") != VERSION:
        yield Found(place, f"its version is {record.get('v')!r}, known is {VERSION}", broken=True)
    if not isinstance(record.get("node"), str) or not record.get("node"):
        yield Found(place, "it names no node", broken=True)


def _sequence(before: Record | None, record: Record, place: reading.Place) -> Iterator[Found]:
    number, former = record.get("seq"), before.get("seq") if before is not None else None
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        yield Found(place, f"its number is {number!r}", broken=True)
    elif isinstance(former, int) and number != former + 1:
        gap = f"{number - former - 1} records are missing" if number > former else "it was there before"
        yield Found(place, f"number {number} follows {former}: {gap}", broken=True)


def _node(before: Record | None, record: Record, place: reading.Place) -> Iterator[Found]:
    if before is not None and record.get("node") != before.get("node"):
        yield Found(place, f"it is of {record.get('node')}, the one before of {before.get('node')}", broken=True)


CHECKS: tuple[Callable[[Record | None, Record, reading.Place], Iterator[Found]], ...] = (_head, _sequence, _node)


def _time(before: Record | None, record: Record, place: reading.Place, now: datetime) -> Iterator[Found]:
    """Its time is one, and not before the former's, or in the future; a boot's clock only goes on."""
    moment, former = reading.moment_of(record), reading.moment_of(before) if before is not None else None
    if moment is None:
        yield Found(place, f"its time is {record.get('time')!r}", broken=True)
        return
    if moment > now + AHEAD:
        yield Found(place, f"its time, {record['time']}, is to come: the wall clock was ahead", broken=False)
    if former is not None and moment < former - SET_BACK:
        by = (former - moment).total_seconds()
        yield Found(place, f"the wall clock was set back by {by:.0f} s before it", broken=False)
    boot = record.get("boot_ms")
    if not isinstance(boot, int) or isinstance(boot, bool) or boot < 0:
        yield Found(place, f"its time since boot is {boot!r}", broken=True)


def _input(record: Record, place: reading.Place, digests: set[str]) -> Iterator[Found]:
    given = record.get("input")
    if given is None:
        return
    if not isinstance(given, dict):
        yield Found(place, "its input is none", broken=True)
        return
    digest = str(given.get("digest", ""))
    if "omitted" in given:
        yield Found(place, f"its input was left out: {given['omitted']}", broken=False)
        return
    if "view" not in given:
        if digest not in digests:
            yield Found(place, f"no record before it holds its input, {digest}", broken=True)
        return
    digests.add(digest)
    try:
        data = unpacked(given)
    except InputError as error:
        yield Found(place, str(error), broken=True)
        return
    try:
        views.decode(data)
    except views.ViewError as error:  # its digest is right: it is of another version, not damaged
        yield Found(place, f"its input, of failoverd {given.get('software')}, is not read here: {error}", broken=False)


def _torn(directory: Path, named: set[str], place: reading.Place) -> Iterator[Found]:
    """Each piece that was kept aside has its record, and each record its piece."""
    there = {path.name for path in directory.glob(f"{reading.NAME}.torn-*")}
    for name in sorted(there - named):
        yield Found(reading.Place(name, 1, 0), "kept aside, and no record says so", broken=True)
    for name in sorted(there & named):
        yield Found(reading.Place(name, 1, 0), "torn off by a crash and kept aside: never answered", broken=False)
    for name in sorted(named - there):
        yield Found(place, f"{name}, which a record says was kept aside, is not there any more", broken=False)
