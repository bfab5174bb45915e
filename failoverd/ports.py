"""The protocols between the loop and the world. An adapter is one file behind one of these and one line in a registry.

Expected failures are values (`Reading`, `Result`); an exception out of an adapter is a bug in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from failoverd.core.anchor import Anchor
    from failoverd.core.gtid import GtidSet
    from failoverd.core.model import DatabaseFacts, NodeName, Outcome, Reading, Record


@dataclass(frozen=True, slots=True)
class Target:
    """A node as a probe sees it: never a name that must be looked up."""

    node: NodeName
    address: str


class Clock(Protocol):
    """One node's own CLOCK_BOOTTIME."""

    def now_ms(self) -> int:
        """Milliseconds since boot, suspended time included."""
        ...


class Probe(Protocol):
    """One way of looking at a node. Holds its settings, no state between two readings that could lie."""

    async def read(self, target: Target) -> Reading:
        """Look once. Never raises; must give up everything it opened when cancelled."""
        ...


@dataclass(frozen=True, slots=True)
class Result:
    """How an action ended. `code` is empty when it succeeded. `facts`: the database as it stood right after."""

    outcome: Outcome
    code: str = ""
    reason: str = ""
    facts: DatabaseFacts | None = None


class Database(Protocol):
    """One SQL dialect on the local server. Every method blocks, is idempotent, and is called from a worker thread.

    Each opens what it needs within `deadline_ms` and never waits longer, whatever the server does: client-side socket
    timeouts, not only statement limits. Sequences and their order: shared/reference/prior-art.md, section 6.
    """

    def beside(self) -> Database:
        """The same server over connections of its own: to cancel one never ends what the other does."""
        ...

    def status(self, *, deadline_ms: int) -> Reading:
        """Read `DatabaseFacts` in one go. FAILED with a code when the server does not answer."""
        ...

    def settings(self, *, deadline_ms: int) -> Reading:
        """Read `SettingsFacts`, slower than `status` and seldom: FAILED with the first finding, UNKNOWN if not read."""
        ...

    def statements(self, *, limit_ms: int, deadline_ms: int) -> Reading:
        """Read `StatementFacts`: what was slow, and what has run for longer than `limit_ms`. UNKNOWN if not read."""
        ...

    def freeze(self, *, deadline_ms: int) -> Result:
        """Stop the receiver only, also against a silent source; the applier goes on, the relay log stays."""
        ...

    def apply_relay_log(self, *, deadline_ms: int) -> Result:
        """Wait until all that was received is applied. FAILED when the applier stopped, UNKNOWN at the deadline."""
        ...

    def await_position(self, *, position: GtidSet, deadline_ms: int) -> Result:
        """Wait until `position` (in the notation of `Replication.received`) is received and applied."""
        ...

    def become_source(self, *, deadline_ms: int) -> Result:
        """Still read-only: replication off and forgotten, semi-sync source on (AFTER_SYNC, never degrading)."""
        ...

    def stop_waiting(self, *, deadline_ms: int) -> Result:
        """Semi-sync source off: commits that wait for a replica end, and new ones do not wait any more."""
        ...

    def await_replica(self, *, deadline_ms: int) -> Result:
        """Wait until at least one replica that acknowledges is attached."""
        ...

    def make_writable(self, *, term: int, deadline_ms: int) -> Result:
        """read_only off, behind a first transaction whose number nobody can have: no number is used twice."""
        ...

    def write_journal(
        self, *, term: int, holder: NodeName, previous: NodeName | None, reason: str, deadline_ms: int
    ) -> Result:
        """Insert the row (term, holder, previous, gtid, reason), once a term."""
        ...

    def make_read_only(self, *, deadline_ms: int) -> Result:
        """Kill client connections and set read_only, bounded. FAILED/UNKNOWN: the caller kills the server."""
        ...

    def follow(self, *, address: str, deadline_ms: int) -> Result:
        """Be a read-only replica of the server at `address`, semi-sync replica on, source off, both threads started."""
        ...

    def beat(self, *, term: int, beat: int, deadline_ms: int) -> Result:
        """Write the heartbeat row. UNKNOWN when the commit waits, for example for an acknowledgement."""
        ...

    def cancel(self) -> None:
        """End whatever this object is doing in another thread: its socket is shut. Callable from any thread."""
        ...


ANCHORS_KEPT = 500  # two a term: years of them, where the role does not flap


class StoreUnavailableError(Exception):
    """The store did not answer in time, or refused the connection: nothing is known about what it did."""


class Store(Protocol):
    """The smallest thing that can be right. Values only; leases are counted by nodes, never by the store."""

    async def read(self) -> Record:
        """Linearizable. `Record()` (version 0) when there is none. Raises StoreUnavailableError."""
        ...

    async def compare_and_swap(self, expected_version: int, record: Record) -> tuple[bool, Record]:
        """Write `record` if the version is still `expected_version` (0: no record).

        A version that stood once never stands again for another record, also where an old copy of the store is put in
        the place of a newer one: a swap may be on its way for any time.

        Returns (True, the record as stored, with its new version) or (False, the record that stands).
        Raises StoreUnavailableError: then it may have happened or not, or may still happen.
        """
        ...

    async def adopt(self, place: Record, record: Record) -> tuple[bool, Record]:
        """Put a record of another store in the place reserved for it here, if `place` still stands as it was read.

        `place.awaits(record)`. Its version stays what the record says, or is one more than the place's if that is not
        less: versions grow across a move (core/migration.py). Returns and raises as compare_and_swap.
        """
        ...

    def watch(self, after_version: int) -> AsyncIterator[Record]:
        """Yield each newer record soon after it is written (intermediate ones may be skipped). Raises as read."""
        ...

    async def put_anchor(self, anchor: Anchor) -> None:
        """Keep `anchor` beside the record, which it neither is part of nor changes. Raises StoreUnavailableError.

        Of one node's anchors of one term and moment the first and the newest are kept, and of all the newest
        ANCHORS_KEPT.
        """
        ...

    async def anchors(self) -> tuple[Anchor, ...]:
        """All that are kept, oldest first. Raises StoreUnavailableError."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...


class Gate(Protocol):
    """The lease, kept by the kernel: VIP lifetime and nftables gate. Blocking, quick, called from one thread."""

    def install(self) -> Result:
        """Create the tables, closed, or adopt those that stand without opening them. Idempotent."""
        ...

    @property
    def closings(self) -> int:
        """How often it was closed. May be asked from any thread."""
        ...

    def open(self, *, until_ms: int, announce: bool, closings: int | None = None) -> Result:
        """Traffic passes and the VIP stays until `until_ms` (CLOCK_BOOTTIME), by relative and absolute bound.

        `closings` as of when this was decided (None: now): after another one nothing is opened, and it is FAILED.

        Looks at the clock again right after: late means close and FAILED. Renewing is opening again with a later
        bound. `announce` sends the gratuitous ARP burst.
        """
        ...

    def close(self) -> Result:
        """Withdraw VIP and traffic now, established connections included."""
        ...

    def verify(self) -> Result:
        """Close a closed gate again that somebody has changed, and say so: FAILED with GATE_CHANGED."""
        ...


class Fence(Protocol):
    """A way of making sure that another node cannot serve. Called on a loop, never blocks it."""

    async def power_off(self, node: NodeName, *, deadline_ms: int) -> Result:
        """Cut the node's power. SUCCEEDED only when it is confirmed to be off; UNKNOWN when that was not seen in time.

        When cancelled, what it started is ended.
        """
        ...

    async def status(self, node: NodeName, *, own: bool, deadline_ms: int) -> Result:
        """Whether the node's power could be cut now. Touches nothing. `own`: the asking node, which is on."""
        ...


class MovedStore(Protocol):
    """A mail store that only the primary has. Called on a loop, never blocks it. When cancelled, it ends what it began.

    Both steps are idempotent: they are asked for again after any restart.
    """

    async def take(self, *, term: int, previous: NodeName | None, deadline_ms: int) -> Result:
        """Make it usable here. Only for the holder of the lease of `term`. UNKNOWN: it may be here, now or later."""
        ...

    async def release(self, *, term: int, deadline_ms: int) -> Result:
        """End its use here. Only SUCCEEDED says that it is not here and will not appear."""
        ...

    async def look(self, *, deadline_ms: int) -> Reading:
        """Read `StoreFacts`; FAILED when it could not be taken here. Changes nothing."""
        ...


class AuditSink(Protocol):
    """Where decisions are recorded before they act."""

    def append(self, lines: list[dict[str, object]]) -> None:
        """Write and fsync; blocking. Raises OSError."""
        ...
