"""Whose lease is being renewed: what several looks at the same records say together.

The store has no clock, and nobody's but one's own is asked. So a lease that was seen once is neither alive nor over: it
is alive when its counter was seen to move, and over when it was seen to stand still for its whole length, as any node
that waits to take over counts it (rule 3 of the lease).

    look 1   sent ────── answered           counter 11
                             │<─ at least ─>│
    look 2                        sent ──── answered      counter 11: silent for so long; 12: renewed

Times are milliseconds of a clock that only goes forward, which the caller reads.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from failoverd.core.model import Record


@dataclass(frozen=True, slots=True)
class Entry:
    """One cluster as it stands in etcd: its record, or why there is none, or none to be understood (`written`)."""

    cluster: str
    record: Record | None
    problem: str = ""
    written: bool = True


@dataclass(frozen=True, slots=True)
class Watched:
    """A cluster after the looks so far. `renewed`: its counter was seen to move. `silent_ms`: at least so long not."""

    entry: Entry
    renewed: bool
    silent_ms: int

    @property
    def undecided(self) -> bool:
        """Whether looking longer could still say more: a lease given back a moment ago may be taken in the next."""
        record = self.entry.record
        if record is None or (self.renewed and not record.revoked):
            return False
        return self.silent_ms < record.ttl_ms

    @property
    def may_live(self) -> bool:
        """Whether somebody may have its lease: it was renewed, has not ended yet, or is not to be understood."""
        unknown = self.entry.record is None and self.entry.written
        return unknown or self.renewed or self.undecided


@dataclass(slots=True)
class _Lease:
    mark: tuple[int, int]  # term and renewals
    since_ms: int  # when it was first known to stand at that
    until_ms: int  # the newest moment at which it still did
    renewed: bool = False


@dataclass(slots=True)
class Watch:
    """The looks so far."""

    _entries: dict[str, Entry] = field(default_factory=dict)
    _leases: dict[str, _Lease] = field(default_factory=dict)

    def look(self, entries: Iterable[Entry], *, sent_ms: int, answered_ms: int) -> None:
        """Take what was asked for at `sent_ms` or later and was there by `answered_ms`, of all clusters or of some."""
        for entry in entries:
            self._entries[entry.cluster] = entry
            if entry.record is None:
                self._leases.pop(entry.cluster, None)
                continue
            mark = (entry.record.term, entry.record.counter)
            lease = self._leases.get(entry.cluster)
            if lease is None:
                self._leases[entry.cluster] = _Lease(mark, answered_ms, answered_ms)
            elif lease.mark == mark:
                lease.until_ms = max(sent_ms, lease.since_ms)
            else:
                self._leases[entry.cluster] = _Lease(mark, answered_ms, answered_ms, renewed=True)

    def found(self) -> Mapping[str, Watched]:
        """What is known now, by cluster."""
        found = {}
        for name, entry in self._entries.items():
            lease = self._leases.get(name)
            silent_ms = lease.until_ms - lease.since_ms if lease is not None else 0
            found[name] = Watched(entry, renewed=lease is not None and lease.renewed, silent_ms=silent_ms)
        return found
