"""Whether an audit is whole: every line a record, each holding the hash of the one before it, none missing.

What breaks the record is a *problem*, with its place, and the first one is what to look at. What is odd and can have
an honest cause (the wall clock was set, a torn piece was thrown away) is a *note*. What a power cut tore off was
never answered as written; it is kept aside, and the record `audit-repaired` names the file and its hash.

A record's own hash stands in the next one. So what was done to the newest record, or that the newest are cut off, is
only found by what others know of it: *known heads*, from the store and from other nodes' copies.

A check is a function of the record before and the record.
"""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from failoverd import views
from failoverd.audit import reading
from failoverd.audit.chain import UNCHAINED, VERSION, Head, digest, genesis
from failoverd.audit.inputs import InputError, unpacked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from failoverd.audit.reading import Read, Record

SET_BACK = timedelta(seconds=1)  # a wall clock is corrected by less all the time
AHEAD = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Found:
    """What is wrong, or odd, and where; `broken`: the record is. `seq`: the record's number, 0 where it has none."""

    place: reading.Place
    what: str
    broken: bool
    seq: int = 0


@dataclass(slots=True)
class Verified:
    """What was looked at."""

    records: int = 0
    inputs: int = 0
    first: str = ""
    last: str = ""
    head: Head | None = None


@dataclass(frozen=True, slots=True)
class _Seen:
    """A record, where it is, and its line's hash."""

    place: reading.Place
    record: Record
    hash: str

    @property
    def seq(self) -> int:
        """Its number, 0 where it is none."""
        number = self.record.get("seq")
        return number if isinstance(number, int) and not isinstance(number, bool) and number > 0 else 0

    def found(self, what: str, *, broken: bool = True) -> Found:
        """What is to be said of it."""
        return Found(self.place, what, broken, self.seq)


@dataclass(slots=True)
class _Known:
    """What is known beside the record: of other records, and from elsewhere."""

    now: datetime
    cluster: str | None
    heads: dict[int, str]
    digests: set[str] = field(default_factory=set)  # of inputs
    torn: dict[str, str] = field(default_factory=dict)  # pieces that records name, with their hash


def verify(
    directory: Path,
    verified: Verified,
    now: datetime | None = None,
    *,
    cluster: str | None = None,
    known_heads: Iterable[Head] = (),
) -> Iterator[Found]:
    """Look at every record of the audit in `directory`. Raises OSError; FileNotFoundError where there is none.

    `cluster`: whose it must be. `known_heads`: records that others know, from which on it cannot have been made anew.
    """
    paths = reading.files_of(directory)
    if not paths:
        raise FileNotFoundError(2, f"no {reading.NAME} there")
    known = _Known(now or datetime.now(UTC), cluster, dict(known_heads))
    before: _Seen | None = None
    place = reading.Place(reading.NAME, 0, 0)
    for read in reading.records(paths):
        place = read.place
        if read.record is None:
            if not _being_written(read, paths[-1]):
                yield Found(place, read.problem, broken=True)
            continue
        seen = _Seen(place, read.record, digest(read.line))
        for check in CHECKS:
            yield from check(before, seen, known)
        _count(verified, seen)
        before = seen
    yield from _end(before, place, known)
    yield from _torn(directory, place, known)


def _count(verified: Verified, seen: _Seen) -> None:
    verified.records += 1
    verified.inputs += "input" in seen.record
    verified.last = str(seen.record.get("time", ""))
    verified.first = verified.first or verified.last
    verified.head = Head(seen.seq, seen.hash)


def _being_written(read: Read, newest: Path) -> bool:
    """The last line of the newest file has no end yet, and a daemon has the directory: it is writing it."""
    if not read.problem.startswith("no end of line") or read.place.file != newest.name:
        return False
    descriptor = os.open(newest.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


# ---- each record, and the one before it -------------------------------------------------------------------------


def _head(_before: _Seen | None, seen: _Seen, known: _Known) -> Iterator[Found]:
    version = seen.record.get("v")
    if version not in {UNCHAINED, VERSION} or isinstance(version, bool):
        yield seen.found(f"its version is {version!r}, known are {UNCHAINED} and {VERSION}")
    if not isinstance(seen.record.get("node"), str) or not seen.record.get("node"):
        yield seen.found("it names no node")
    if seen.seq in known.heads and known.heads[seen.seq] != seen.hash:
        yield seen.found("it is not the record of that number that others know")


def _chain(before: _Seen | None, seen: _Seen, known: _Known) -> Iterator[Found]:
    """Its number follows, and it holds the hash of the line before it."""
    record, former = seen.record, before.seq if before is not None else 0
    if seen.seq == 0:
        yield seen.found(f"its number is {record.get('seq')!r}")
    elif seen.seq != former + 1 and (before is None or former):
        missing = "1 record is missing" if seen.seq == former + 2 else f"{seen.seq - former - 1} records are missing"
        gap = missing if seen.seq > former else "it was there before"
        yield seen.found(f"number {seen.seq} follows {former}: {gap}" if former else f"it is the first: {gap}")
    elif record.get("v") == UNCHAINED:
        if before is not None and before.record.get("v") != UNCHAINED:
            yield seen.found(f"it is of version {UNCHAINED}, and the one before it of a later one")
    elif before is None:
        yield from _genesis(seen, known)
    elif record.get("prev") != before.hash:
        yield before.found(f"it is not what record {seen.seq} goes on from: one of the two was changed")


def _genesis(seen: _Seen, known: _Known) -> Iterator[Found]:
    cluster, node = seen.record.get("cluster"), seen.record.get("node")
    if known.cluster is not None and cluster != known.cluster:
        yield seen.found(f"it is the audit of the cluster {cluster!r}, not of {known.cluster!r}")
    if seen.record.get("prev") != genesis(str(cluster), str(node)).hash:
        yield seen.found(f"it is not the beginning of an audit of {node} in {cluster}")


def _node(before: _Seen | None, seen: _Seen, _known: _Known) -> Iterator[Found]:
    if before is not None and seen.record.get("node") != before.record.get("node"):
        yield seen.found(f"it is of {seen.record.get('node')}, the one before of {before.record.get('node')}")


def _time(before: _Seen | None, seen: _Seen, known: _Known) -> Iterator[Found]:
    """Its time is one, and not before the former's, or in the future; a boot's clock only goes on."""
    record = seen.record
    moment, former = reading.moment_of(record), reading.moment_of(before.record) if before is not None else None
    if moment is None:
        yield seen.found(f"its time is {record.get('time')!r}")
        return
    if moment > known.now + AHEAD:
        yield seen.found(f"its time, {record['time']}, is to come: the wall clock was ahead", broken=False)
    if former is not None and moment < former - SET_BACK:
        by = (former - moment).total_seconds()
        yield seen.found(f"the wall clock was set back by {by:.0f} s before it", broken=False)
    boot = record.get("boot_ms")
    if not isinstance(boot, int) or isinstance(boot, bool) or boot < 0:
        yield seen.found(f"its time since boot is {boot!r}")


def _input(_before: _Seen | None, seen: _Seen, known: _Known) -> Iterator[Found]:
    given = seen.record.get("input")
    if given is None:
        return
    if not isinstance(given, dict):
        yield seen.found("its input is none")
        return
    digest_ = str(given.get("digest", ""))
    if "omitted" in given:
        yield seen.found(f"its input was left out: {given['omitted']}", broken=False)
        return
    if "view" not in given:
        if digest_ not in known.digests:
            yield seen.found(f"no record before it holds its input, {digest_}")
        return
    known.digests.add(digest_)
    try:
        data = unpacked(given)
    except InputError as error:
        yield seen.found(str(error))
        return
    try:
        views.decode(data)
    except views.ViewError as error:  # its digest is right: it is of another version, not damaged
        yield seen.found(f"its input, of failoverd {given.get('software')}, is not read here: {error}", broken=False)


def _repaired(_before: _Seen | None, seen: _Seen, known: _Known) -> Iterator[Found]:
    """Remember what it says was kept aside."""
    if "kept_in" in seen.record:
        known.torn[str(seen.record["kept_in"])] = str(seen.record.get("torn_sha256", ""))
    yield from ()


CHECKS: tuple[Callable[[_Seen | None, _Seen, _Known], Iterator[Found]], ...] = (
    _head,
    _chain,
    _node,
    _time,
    _input,
    _repaired,
)


# ---- all of them ------------------------------------------------------------------------------------------------


def _end(last: _Seen | None, place: reading.Place, known: _Known) -> Iterator[Found]:
    """It goes as far as others know."""
    reached, newest = last.seq if last is not None else 0, max(known.heads, default=0)
    if newest > reached:
        text = f"it ends with record {reached}, and others know it up to {newest}: its end was cut off"
        yield Found(place, text, broken=True, seq=reached)


def _torn(directory: Path, place: reading.Place, known: _Known) -> Iterator[Found]:
    """Each piece that was kept aside has its record, and each record its piece, as it was."""
    there = {path.name: path for path in directory.glob(f"{reading.NAME}.torn-*")}
    for name in sorted(there):
        piece, hash_ = reading.Place(name, 1, 0), known.torn.get(name)
        if hash_ is None:
            yield Found(piece, "kept aside, and no record says so", broken=True)
        elif hash_ and digest(there[name].read_bytes()) != hash_:
            yield Found(piece, "it is not what was kept aside: it was changed", broken=True)
        else:
            yield Found(piece, "torn off by a crash and kept aside: never answered", broken=False)
    for name in sorted(known.torn.keys() - there.keys()):
        yield Found(place, f"{name}, which a record says was kept aside, is not there any more", broken=False)
