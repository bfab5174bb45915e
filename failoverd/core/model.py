"""The vocabulary. Every word here is the word in code, configuration, command line, audit and runbooks.

All times are integers of milliseconds of one node's own CLOCK_BOOTTIME and are never compared between nodes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from typing import NewType

from failoverd.core.errant import Journal
from failoverd.core.gtid import GtidSet
from failoverd.core.monitoring import Gauges, MonitoringFacts

NodeName = NewType("NodeName", str)
# In error 1236, which has other causes as well, and those pass.
UNKNOWN_TO_SOURCE = "which is not in the master's binlog"  # MariaDB
MORE_THAN_SOURCE = "has more GTIDs than the "  # MySQL: of the source's own uuid; it does not look at others


class NodeKind(Enum):
    """What a node is for."""

    DATA = "data"
    ARBITER = "arbiter"


class Role(Enum):
    """What a node is, or should be, for clients."""

    PRIMARY = "primary"
    REPLICA = "replica"
    ARBITER = "arbiter"
    FENCED = "fenced"  # a data node that neither serves nor follows: closed gate, read-only


class Health(Enum):
    """What one probe found. UNKNOWN is for "we could not look", never for "it did not answer"."""

    OK = "ok"
    FAILED = "failed"
    UNKNOWN = "unknown"


class Outcome(Enum):
    """How an effect ended. UNKNOWN is what the executor says at the deadline."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Node:
    """One configured member: membership is static."""

    name: NodeName
    kind: NodeKind
    address: str
    priority: int = 0


# ---- what probes find -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class UnitFacts:
    """One systemd unit: its name, active state and sub-state, as D-Bus gives them."""

    unit: str
    active: str
    sub: str


@dataclass(frozen=True, slots=True)
class VipFacts:
    """Who has the virtual IP: this node's interface, and the hardware addresses that answered for it on the wire."""

    present: bool
    others: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class HostFacts:
    """Load per core (1 minute), memory available and the fullest disk, in percent; stall shares where known."""

    load_per_core: float
    memory_free_percent: float
    disk_free_percent: float
    fullest_disk: str


@dataclass(frozen=True, slots=True)
class QueueFacts:
    """Messages in the mail queue: delivered from now, put off, held by failoverd, held by somebody else."""

    moving: int
    deferred: int
    held: int
    held_by_others: int

    @property
    def waiting(self) -> int:
        """What is failoverd's business: what an administrator holds is not."""
        return self.moving + self.deferred + self.held


class Thread(Enum):
    """A replication thread. CONNECTING is a receiver that looks for its source."""

    RUNNING = "running"
    CONNECTING = "connecting"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Replication:
    """A configured replica's threads. `received` is what its receiver has got, applied or not.

    In MariaDB it is a GtidSet by domain, in MySQL by server uuid.
    """

    source: str  # address of the node it receives from
    receiver: Thread
    applier: Thread
    received: GtidSet
    receiver_error: str = ""
    applier_error: str = ""

    @property
    def refused(self) -> bool:
        """The source has said that it does not know what this server holds last: it never had anything from there."""
        return UNKNOWN_TO_SOURCE in self.receiver_error or MORE_THAN_SOURCE in self.receiver_error


@dataclass(frozen=True, slots=True)
class DatabaseFacts:
    """One database server's state, as one reading of it gave.

    `holdings` is what its own binary log holds (MariaDB: @@gtid_binlog_state). `applied` is the same in the notation
    of `Replication.received` (MariaDB: by domain), so that `applied.covers(received)` means: relay log applied. `own`
    is, in that notation again, what this server wrote itself as a source, and did not receive. MySQL has one notation.
    `heartbeat_term` and `heartbeat_beat` are the row of failoverd.heartbeat as it stands on this server.
    """

    version: str
    server_id: int
    read_only: bool
    holdings: GtidSet
    applied: GtidSet
    replication: Replication | None
    semi_sync_source: bool  # waits for an acknowledgement: enabled, AFTER_SYNC, and not degraded
    semi_sync_replica: bool
    semi_sync_clients: int  # replicas attached that acknowledge
    heartbeat_term: int
    heartbeat_beat: int
    own: GtidSet = field(default_factory=GtidSet)
    run: str = ""  # names the time since which its relay log was kept; "": not known, which proves nothing
    unacknowledged: int = 0  # source only: commits that did not wait, and times it stopped waiting, since its start

    @property
    def receives(self) -> bool:
        """A receiver runs, or tries to: the position may still grow."""
        return self.replication is not None and self.replication.receiver is not Thread.STOPPED

    @property
    def position(self) -> GtidSet:
        """All that this server has got: received and applied."""
        return self.applied if self.replication is None else self.applied.union(self.replication.received)


@dataclass(frozen=True, slots=True)
class Identity:
    """What is compared between nodes: (name, value) that no two may share, and that all must share. Empty: nothing."""

    unique: tuple[str, str] = ("", "")
    shared: tuple[str, str] = ("", "")


@dataclass(frozen=True, slots=True)
class SettingsFacts:
    """A database's settings, slowly read: what is wrong with them as (code, reason), and what the journal says."""

    found: tuple[tuple[str, str], ...]
    identity: Identity
    journal: Journal


@dataclass(frozen=True, slots=True)
class StoreFacts:
    """The mail store of this node: whether it is mounted here. None: only its program knows."""

    here: bool | None


@dataclass(frozen=True, slots=True)
class RebuildFacts:
    """The newest rebuild of this node's database: how far it is, or how it ended.

    `request` names whose it is ("": a person's, who started the program by hand), `touched` that the old data have left
    their place. Bytes and bytes a second; `left_s` None: not known. `saved`: where what was extra is kept.
    """

    request: str
    stage: str
    running: bool
    touched: bool
    received: int = 0
    expected: int = 0
    rate: int = 0
    left_s: int | None = None
    code: str = ""
    reason: str = ""
    saved: str = ""

    @property
    def home(self) -> bool:
        """The new data are in place and the server answers."""
        return self.stage in ("home", "done")

    @property
    def at_work(self) -> bool:
        """It goes on, or has to."""
        return not self.home and (self.touched or (self.running and self.stage != "failed"))


Facts = (
    UnitFacts
    | VipFacts
    | HostFacts
    | DatabaseFacts
    | SettingsFacts
    | QueueFacts
    | StoreFacts
    | RebuildFacts
    | MonitoringFacts
)


@dataclass(frozen=True, slots=True)
class Reading:
    """One probe's answer. `code` is empty when OK, otherwise a stable name with a page in runbooks/."""

    health: Health
    code: str = ""
    reason: str = ""
    facts: Facts | None = None


@dataclass(frozen=True, slots=True)
class Observation:
    """One probe of one node: `probe` is the name in the configuration (imap, smtp, unit:NAME, database, vip, host)."""

    probe: str
    target: NodeName
    reading: Reading
    ended_ms: int
    took_ms: int


# ---- the store's record -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Request:
    """An operator's switchover in flight. `by` is who asked."""

    id: str
    target: NodeName
    by: str
    reason: str
    term: int = 0  # in which it was asked
    allow_loss: bool = False  # forced: whatever the target lacks may be lost with the primary that is gone


@dataclass(frozen=True, slots=True)
class Rejoin:
    """The database of `node` is to be made anew from `donor`'s. `by`: who asked, or the rule.

    Asked of any node, kept on the disk of that one until it is done.
    """

    id: str
    node: NodeName
    donor: NodeName
    by: str
    term: int


@dataclass(frozen=True, slots=True)
class RequestEnded:
    """What became of the newest request, told to whoever asked on whatever node. `refused`: nothing was touched."""

    id: str
    succeeded: bool
    refused: bool = False
    code: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Floor:
    """What whoever takes over must have, so as to lack no more than the bound allows (bounded.py).

    `at_ms` is when the holder counted it, by its own clock: of two of one term the later one holds. Without a position
    no bound is known.
    """

    at_ms: int
    position: GtidSet | None


@dataclass(frozen=True, slots=True)
class Maintenance:
    """`node` is worked on: no candidate, and nothing is done to it by itself. It follows and acknowledges as before.

    `until_ms` is by the wall clock, in milliseconds since 1970; 0: until somebody ends it. See orders.py.
    """

    node: NodeName
    by: str
    reason: str
    until_ms: int = 0


@dataclass(frozen=True, slots=True)
class Scheduled:
    """An operator's switchover that the holder of `term` begins at `at_ms`, by its wall clock. See orders.py."""

    id: str
    target: NodeName
    by: str
    reason: str
    term: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class Ordered:
    """Who gave the newest order on `what` that the record has: what it began has the name as well, its end has none."""

    what: str
    by: str


@dataclass(frozen=True, slots=True)
class Record:
    """All that the cluster shares. `version` is the store's own and grows with each change; 0 means: no record yet."""

    version: int = 0
    term: int = 0
    holder: NodeName | None = None
    counter: int = 0  # renewals in this term
    ttl_ms: int = 0  # the lease asked for, counted by whoever waits for it
    revoked: bool = False  # given back by its holder: nobody has to wait
    successor: NodeName | None = None  # to whom it was given
    began: GtidSet | None = None  # what the holder had as the term began
    position: GtidSet | None = None  # what it had when it gave the term back; None: it did not, or could not be read
    previous: NodeName | None = None  # the holder before this term
    reason: str = ""  # the rule that made this term; of a forced one also who, why, and what was given up
    request: Request | None = None
    request_ended: RequestEnded | None = None
    condemned_by: NodeName | None = None  # who revoked the term in order to fence its holder, which cannot renew it now
    off: str = ""  # who confirms that the holder's power is off, in words: nobody has to wait
    paused: str = ""  # by whom and why nothing may act by itself
    unproven: str = ""  # why, and since when, what clients were told may be only on the holder; kept across terms
    marks: int = 0  # how often `unproven` was set or taken away: of two copies, the one with more of them says it
    forced: int = 0  # the newest term that a person forced; kept across terms, since what it gave up may return
    bound_ms: int = 0  # above 0: commits wait for no replica, and no more than the last so much of them may be lost
    floor: Floor | None = None
    bounded: int = 0  # the newest term that began by a floor; kept across terms, since what it gave up may return
    paused_until_ms: int = 0  # by the wall clock; 0: until somebody resumes
    maintenance: tuple[Maintenance, ...] = ()  # who is worked on, never the present holder
    acknowledged: int = 0  # the changes of primary up to this term do not count as flapping any more
    acknowledged_by: str = ""  # who says so, and why
    scheduled: Scheduled | None = None
    schedule_ended: RequestEnded | None = None  # what became of the newest that came to no switchover
    ordered: tuple[Ordered, ...] = ()  # by whom a pause, maintenance and so on is as it is; none: by itself
    moves: int = 0  # how often it went to another store; kept across terms: of two copies the one with more counts
    moved_to: str = ""  # the name of the place that the newest move reserved for it in its store (migration.py)
    sealed: bool = False  # nobody writes it here any more: it counts in that place

    @property
    def is_place(self) -> bool:
        """No record, but the place reserved for one that is to be moved here."""
        return self.sealed and self.term == 0

    def awaits(self, record: Record) -> bool:
        """Whether this is the place that was reserved for `record`."""
        return self.is_place and not record.sealed and (self.moves, self.moved_to) == (record.moves, record.moved_to)


# ---- what nodes tell each other ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Claim:
    """What an observer says of one probe of one node. `failures` counts consecutive ones up to now."""

    probe: str
    target: NodeName
    health: Health
    failures: int
    code: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Heard:
    """The newest report that the sender had from a node: process and number. It bounds a report's age, see health."""

    node: NodeName
    process: str
    number: int


@dataclass(frozen=True)  # no slots: `claims_by_name` has to be kept somewhere
class Report:
    """What one node tells every other, pushed at each interval and at once when something changed.

    `process` names one run of the daemon, `number` counts its reports. `term` is the highest it has seen,
    `version` the store's newest version that it has seen, `lease_over` that it has seen this version's lease run out
    (or revoked). `frozen_term` is the term in which its receiver was stopped for good, `caught_up` that its database
    has, since it was started, all that it may have acknowledged before. `beat` is the newest heartbeat that the sender
    had begun to write, 0 while it has begun none.
    """

    sender: NodeName
    process: str
    number: int
    heard: tuple[Heard, ...]
    membership: str  # digest of what all nodes must agree on
    software: str
    term: int
    version: int
    lease_over: bool
    role: Role
    serving: bool  # the gate is open
    ready: bool  # its own services answer its own probes
    steady: bool  # and have done so for a while
    frozen_term: int | None
    caught_up: bool
    database: DatabaseFacts | None
    claims: tuple[Claim, ...]
    findings: tuple[tuple[str, str], ...] = field(default=())  # (code, reason): what an operator should know
    rule: str = ""  # the rule in force
    doing: str = ""  # the step under way
    vip: VipFacts | None = None
    host: HostFacts | None = None
    units: tuple[UnitFacts, ...] = ()
    request: str = ""  # the id of the request for this node that it has seen: it is there to take the role
    store_answers: bool = True  # it was heard lately, so that a takeover of the sender would arrive
    beat: int = 0
    hears: tuple[NodeName, ...] = ()  # whose reports are fresh there: that they live is known beyond their own voice
    asks_ms: int = 0  # above 0, this very report asks every other data node for its promise for so long (rule 4)
    promised: Heard | None = None  # the newest report of the holder that the sender gave its promise to
    identity: Identity | None = None  # of its database's settings; None: not read yet
    unproven: str = ""  # as the newest record says that the sender has seen, and how many marks that has
    marks: int = 0
    floor: Floor | None = None  # the newest of the term; of a holder that asks for promises: for their leases
    rebuilding: bool = False  # its database is being made anew, or is to be
    rebuild: RebuildFacts | None = None  # the newest rebuild
    rejoin: Rejoin | None = None  # an operator's request to another node
    rejoin_ended: RequestEnded | None = None  # what became of the newest one to the sender
    rejoining: str = ""  # the id of the one that the sender has taken, and that has not ended
    monitoring: Gauges | None = None
    membership_next: str = ""  # what `membership` is to be when `store.next` has become the store; "": there is none
    next_answers: bool = False  # the store that the record may be moved to has answered the sender lately
    next_place: str = ""  # the place that is reserved there, as the sender has seen it
    moves: int = 0  # of the newest record that the sender has read

    @cached_property
    def claims_by_name(self) -> dict[tuple[str, NodeName], Claim]:
        """By probe and target: each report is asked many times before the next one comes."""
        return {(claim.probe, claim.target): claim for claim in reversed(self.claims)}  # the first counts


@dataclass(frozen=True, slots=True)
class Rejected:
    """Why something may not be: a node as candidate, a change now. The words reach log, audit, CLI and page."""

    node: NodeName
    code: str
    reason: str
