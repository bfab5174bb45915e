"""What is looked at in each record of an audit: itself, and that it goes on from the one before it.

A check is a function of the record before, the record, and what is known beside them. Some only remember what is
compared once all are read (verify.py).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from failoverd import views
from failoverd.audit import layout, packing, reading
from failoverd.audit.chain import UNCHAINED, VERSION, genesis
from failoverd.audit.inputs import InputError, unpacked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime
    from pathlib import Path

    from failoverd.audit.reading import Record

SET_BACK = timedelta(seconds=1)  # a wall clock is corrected by less all the time
AHEAD = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Found:
    """What is wrong, or odd, and where; `broken`: the record is. `seq`: the record's number, 0 where it has none."""

    place: reading.Place
    what: str
    broken: bool
    seq: int = 0


@dataclass(frozen=True, slots=True)
class Seen:
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
class Known:
    """What is known beside the record: from elsewhere, and of the records and files so far."""

    directory: Path
    now: datetime
    cluster: str | None
    heads: dict[int, str]
    digests: set[str] = field(default_factory=set)  # of inputs
    torn: dict[str, str] = field(default_factory=dict)  # pieces that records name, with their hash
    packed: set[str] = field(default_factory=set)  # packed files that records name
    expired: dict[int, str] = field(default_factory=dict)  # last records of files that were removed, with their hash
    first: Seen | None = None  # where it is not the first of all
    chained: bool = False  # a record of version 2 was seen
    unchained: hashlib._Hash = field(default_factory=hashlib.sha256)  # of all lines up to the first of version 2


def _head(_before: Seen | None, seen: Seen, known: Known) -> Iterator[Found]:
    version = seen.record.get("v")
    if version not in (UNCHAINED, VERSION) or isinstance(version, bool):  # a tuple: it may be no key of a set
        yield seen.found(f"its version is {version!r}, known are {UNCHAINED} and {VERSION}")
    if not isinstance(seen.record.get("node"), str) or not seen.record.get("node"):
        yield seen.found("it names no node")
    if seen.seq in known.heads and known.heads[seen.seq] != seen.hash:
        yield seen.found("it is not the record of that number that others know")


def _chain(before: Seen | None, seen: Seen, known: Known) -> Iterator[Found]:
    """Its number follows, and it holds the hash of the line before it."""
    record, former = seen.record, before.seq if before is not None else 0
    if seen.seq == 0:
        yield seen.found(f"its number is {record.get('seq')!r}")
    elif before is None:
        if seen.seq > 1:
            known.first = seen  # what was before it must have been removed for its age
        elif record.get("v") != UNCHAINED:
            yield from _genesis(seen, known)
    elif former and seen.seq != former + 1:
        missing = "1 record is missing" if seen.seq == former + 2 else f"{seen.seq - former - 1} records are missing"
        gap = missing if seen.seq > former else "it was there before"
        yield seen.found(f"number {seen.seq} follows {former}: {gap}")
    elif record.get("v") == UNCHAINED:
        if before.record.get("v") != UNCHAINED:
            yield seen.found(f"it is of version {UNCHAINED}, and the one before it of a later one")
    elif record.get("prev") != before.hash:
        yield before.found(f"it is not what record {seen.seq} goes on from: one of the two was changed")


def _genesis(seen: Seen, known: Known) -> Iterator[Found]:
    cluster, node = seen.record.get("cluster"), seen.record.get("node")
    if known.cluster is not None and cluster != known.cluster:
        yield seen.found(f"it is the audit of the cluster {cluster!r}, not of {known.cluster!r}")
    if seen.record.get("prev") != genesis(str(cluster), str(node)).hash:
        yield seen.found(f"it is not the beginning of an audit of {node} in {cluster}")


def _node(before: Seen | None, seen: Seen, _known: Known) -> Iterator[Found]:
    if before is not None and seen.record.get("node") != before.record.get("node"):
        yield seen.found(f"it is of {seen.record.get('node')}, the one before of {before.record.get('node')}")


def _time(before: Seen | None, seen: Seen, known: Known) -> Iterator[Found]:
    """Its time is one, and not before the former's, or in the future; a boot's clock only goes on."""
    record = seen.record
    moment, former = reading.moment_of(record), reading.moment_of(before.record) if before is not None else None
    if moment is None:
        yield seen.found(f"its time is {record.get('time')!r}")
        return
    if moment - known.now > AHEAD:
        yield seen.found(f"its time, {record['time']}, is to come: the wall clock was ahead", broken=False)
    if former is not None and former - moment > SET_BACK:
        by = (former - moment).total_seconds()
        yield seen.found(f"the wall clock was set back by {by:.0f} s before it", broken=False)
    boot = record.get("boot_ms")
    if not isinstance(boot, int) or isinstance(boot, bool) or boot < 0:
        yield seen.found(f"its time since boot is {boot!r}")


def _input(_before: Seen | None, seen: Seen, known: Known) -> Iterator[Found]:
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


def _file(before: Seen | None, seen: Seen, _known: Known) -> Iterator[Found]:
    """A closed file begins with the record that its name says."""
    matched = layout.CLOSED.fullmatch(seen.place.file)
    begins = before is None or before.place.file != seen.place.file
    if matched is not None and begins and int(matched[1]) != seen.seq:
        yield seen.found(f"{seen.place.file} begins with it, and its name says with {int(matched[1])}")


def _own(_before: Seen | None, seen: Seen, known: Known) -> Iterator[Found]:
    """What the audit says of itself."""
    record, name = seen.record, str(seen.record.get("file", ""))
    if "kept_in" in record:
        known.torn[str(record["kept_in"])] = str(record.get("torn_sha256", ""))
    kind, last = record.get("kind"), record.get("last")
    if kind == "audit-chained" and record.get("unchained_sha256") != known.unchained.hexdigest():
        yield seen.found(f"the records of version {UNCHAINED} before it are not those that it goes on from")
    if kind == "audit-lost":
        yield seen.found(str(record.get("text")))
    elif kind == packing.EXPIRED and isinstance(last, int):
        known.expired[last] = str(record.get("hash"))
    elif kind == packing.CLOSED and layout.CLOSED.fullmatch(name):
        known.packed.add(name)
        try:
            found = packing.hash_of(known.directory / name)
        except FileNotFoundError:
            return  # expired, or the records that it held are missing, which is said of them
        if found != record.get("packed_sha256"):
            yield Found(reading.Place(name, 1, 0), f"record {seen.seq} says that it was another file", broken=True)


CHECKS: tuple[Callable[[Seen | None, Seen, Known], Iterator[Found]], ...] = (
    _head,
    _chain,
    _node,
    _time,
    _input,
    _file,
    _own,
)
