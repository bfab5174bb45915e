"""One word for each cluster, and why: what a person who looks after hundreds of them has to read first.

    unreadable    what stands in etcd is no record that this release understands
    no primary    nobody has a lease: given back, revoked, never made, or silent for its whole length
    silent        it was not renewed while it was watched, which was for less than its length
    unproven      a failover would be refused: a replica may lack what clients were told of
    paused        nothing acts by itself
    changing      an operator's switchover is under way
    maintenance   a replica is worked on
    scheduled     a switchover will begin by itself
    well

The first that holds is the cluster's state, and the order is that of the screen. Down to `unproven`, clients or the
next failover suffer; `paused` to `scheduled` somebody has ordered.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from failoverd.core.model import Record
    from failoverd.fleet.watched import Entry, Watched


class State(Enum):
    """Worst first."""

    UNREADABLE = "unreadable"
    NO_PRIMARY = "no primary"
    SILENT = "silent"
    UNPROVEN = "unproven"
    PAUSED = "paused"
    CHANGING = "changing"
    MAINTENANCE = "maintenance"
    SCHEDULED = "scheduled"
    WELL = "well"


ORDER = {state: place for place, state in enumerate(State)}
BAD = frozenset({State.UNREADABLE, State.NO_PRIMARY, State.SILENT, State.UNPROVEN})
ORDERED = frozenset({State.PAUSED, State.MAINTENANCE})  # by a person, and not to be forgotten


@dataclass(frozen=True, slots=True)
class Mark:
    """One thing to say of a cluster, in words."""

    state: State
    why: str


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster as the screen has it. `marks`: all that is to be said, the worst first; none where it is well."""

    name: str
    term: int
    holder: str  # who has, or had, the newest term; "": nobody yet
    ttl_ms: int
    renewed: bool
    silent_ms: int
    marks: tuple[Mark, ...]

    @property
    def state(self) -> State:
        """The worst of it."""
        return self.marks[0].state if self.marks else State.WELL

    @property
    def primary(self) -> str:
        """Who holds the lease; "": nobody, or nobody knows."""
        return "" if self.state in {State.UNREADABLE, State.NO_PRIMARY} else self.holder


def fleet(found: Iterable[Watched]) -> list[Cluster]:
    """All clusters, worst first, and of one state by name."""
    clusters = [_cluster(watched) for watched in found]
    return sorted(clusters, key=lambda cluster: (ORDER[cluster.state], cluster.name))


def _cluster(watched: Watched) -> Cluster:
    entry = watched.entry
    record = entry.record
    marks = sorted(_marks(entry, record, watched), key=lambda mark: ORDER[mark.state])
    return Cluster(
        name=entry.cluster,
        term=record.term if record else 0,
        holder=(record.holder or "") if record else "",
        ttl_ms=record.ttl_ms if record else 0,
        renewed=watched.renewed,
        silent_ms=watched.silent_ms,
        marks=tuple(marks),
    )


def _marks(entry: Entry, record: Record | None, watched: Watched) -> Iterator[Mark]:
    if record is None:
        yield Mark(State.UNREADABLE, entry.problem)
        return
    yield from _lease(record, watched)
    if record.unproven:
        yield Mark(State.UNPROVEN, record.unproven)
    if record.paused:
        yield Mark(State.PAUSED, f"by {record.paused}")
    if record.request is not None:
        yield Mark(State.CHANGING, f"promote {record.request.target}, by {record.request.by}")
    for worked_on in record.maintenance:
        yield Mark(State.MAINTENANCE, f"{worked_on.node}, by {worked_on.by}: {worked_on.reason}")
    if record.scheduled is not None:
        yield Mark(State.SCHEDULED, f"promote {record.scheduled.target}, by {record.scheduled.by}")


def _lease(record: Record, watched: Watched) -> Iterator[Mark]:
    holder = record.holder
    if holder is None:
        yield Mark(State.NO_PRIMARY, "no node has had the lease yet")
    elif record.off:
        yield Mark(State.NO_PRIMARY, f"{holder} has no power ({record.off})")
    elif record.condemned_by is not None:
        yield Mark(State.NO_PRIMARY, f"{record.condemned_by} has the power of {holder} cut")
    elif record.revoked:
        yield Mark(State.NO_PRIMARY, f"{holder} gave its lease back" + _to(record))
    elif watched.silent_ms >= record.ttl_ms:
        yield Mark(State.NO_PRIMARY, f"the lease of {holder} has ended: not renewed for its whole length")
    elif not watched.renewed:
        yield Mark(State.SILENT, f"{holder} did not renew its lease while it was watched")


def _to(record: Record) -> str:
    return f" to {record.successor}" if record.successor is not None else ""
