"""Whether an audit is whole: every line a record, each holding the hash of the one before it, none missing.

What breaks the record is a *problem*, with its place, and the first one is what to look at. What is odd and can have
an honest cause (the wall clock was set, a torn piece was thrown away) is a *note*. What a power cut tore off was
never answered as written; it is kept aside, and the record `audit-repaired` names the file and its hash.

A record's own hash stands in the next one. So what was done to the newest record, or that the newest are cut off, is
only found by what others know of it: *known heads*, from the store and from other nodes' copies.

What is looked at in each record, checks.py says; here is how they are read, and what is compared at the end.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from failoverd import locks
from failoverd.audit import layout, packing, reading
from failoverd.audit.chain import UNCHAINED, Head, digest
from failoverd.audit.checks import CHECKS, Found, Known, Seen

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from failoverd.audit.reading import Read


@dataclass(slots=True)
class Verified:
    """What was looked at."""

    records: int = 0
    inputs: int = 0
    first: str = ""
    last: str = ""
    head: Head | None = None


def verify(
    directory: Path,
    verified: Verified,
    now: datetime | None = None,
    *,
    cluster: str | None = None,
    known_heads: Iterable[Head] = (),
) -> list[Found]:
    """Look at every record of the audit in `directory`. Raises OSError; FileNotFoundError where there is none.

    `cluster`: whose it must be. `known_heads`: records that others know, from which on it cannot have been made anew.
    What is found is in the order of the records, so that the first is where to look; what is about a file as a whole
    stands at its beginning.
    """
    order: dict[str, int] = {}
    found = _found(directory, verified, order, now=now, cluster=cluster, heads=dict(known_heads))
    return sorted(found, key=lambda each: (order.get(each.place.file, len(order)), each.place.line))


def _found(
    directory: Path,
    verified: Verified,
    order: dict[str, int],
    *,
    now: datetime | None,
    cluster: str | None,
    heads: dict[int, str],
) -> Iterator[Found]:
    """As they are met; `order` gets the files in theirs."""
    known = Known(directory, now or datetime.now(UTC), cluster, heads)
    before: Seen | None = None
    place = reading.Place(reading.NAME, 0, 0)
    for read in reading.records(directory):
        place = read.place
        order.setdefault(place.file, len(order))
        if not known.chained:
            known.chained = read.record is not None and read.record.get("v") != UNCHAINED
            known.unchained.update(read.line if not known.chained else b"")
        if read.record is None:
            if not _being_written(read, directory):
                yield Found(place, read.problem, broken=True)
            continue
        seen = Seen(place, read.record, digest(read.line))
        for check in CHECKS:
            yield from check(before, seen, known)
        _count(verified, seen)
        before = seen
    yield from _beginning(known)
    yield from _end(before, place, known)
    yield from _torn(place, known)
    yield from _files(known)


def _count(verified: Verified, seen: Seen) -> None:
    verified.records += 1
    verified.inputs += "input" in seen.record
    verified.last = str(seen.record.get("time", ""))
    verified.first = verified.first or verified.last
    verified.head = Head(seen.seq, seen.hash)


def _being_written(read: Read, directory: Path) -> bool:
    """The last line of the newest file has no end yet, and a daemon has the directory: it is writing it."""
    if not read.problem.startswith("no end of line") or read.place.file != reading.NAME:
        return False
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return locks.is_owned(descriptor)
    finally:
        os.close(descriptor)


def _beginning(known: Known) -> Iterator[Found]:
    """Where it does not begin with record 1, a record says that what was before it was removed for its age."""
    first = known.first
    if first is None:
        return
    before = known.expired.get(first.seq - 1)
    if before is None:
        yield first.found(f"it is the first: {first.seq - 1} records are missing, and no record says that they expired")
    elif first.record.get("v") != UNCHAINED and first.record.get("prev") != before:
        yield first.found("it does not go on from the record that expired before it")


def _end(last: Seen | None, place: reading.Place, known: Known) -> Iterator[Found]:
    """It goes as far as others know."""
    reached, newest = last.seq if last is not None else 0, max(known.heads, default=0)
    if newest > reached:
        text = f"it ends with record {reached}, and others know it up to {newest}: its end was cut off"
        yield Found(place, text, broken=True, seq=reached)


def _torn(place: reading.Place, known: Known) -> Iterator[Found]:
    """Each piece that was kept aside has its record, and each record its piece, as it was."""
    there = {path.name: path for path in known.directory.glob(f"{layout.TORN}*")}
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


def _files(known: Known) -> Iterator[Found]:
    """The files are those that an audit has, under their names."""
    names = {path.name for path in known.directory.iterdir()}
    if reading.NAME not in names:
        yield Found(reading.Place(reading.NAME, 0, 0), "it is not there: its records are missing", broken=True)
    for name in sorted(names):
        matched, file = layout.CLOSED.fullmatch(name), reading.Place(name, 1, 0)
        if matched is None:
            if name.startswith("audit") and not layout.is_known(name):
                yield Found(file, "no file of the audit has such a name", broken=False)
        elif matched[2] and name.removesuffix(layout.PACKED) in names:
            yield from _twins(known.directory / name, file)
        elif matched[2] and name not in known.packed:
            yield Found(file, "no record says that it was packed: a restart came between", broken=False)


def _twins(packed: Path, place: reading.Place) -> Iterator[Found]:
    """A file and the same one packed: the packing was cut short, and is done again."""
    try:
        with layout.opened(packed) as one, layout.opened(packed.with_suffix("")) as other:
            same = packing.hash_in(one) == packing.hash_in(other)
    except FileNotFoundError:
        return
    except layout.DAMAGED:
        same = False
    if same:
        yield Found(place, "it is there twice, packed and not: the packing was cut short", broken=False)
    else:
        yield Found(place, "it does not hold what the file does that it was packed from", broken=True)
