"""What one node knows here and now, and how it is looked up.

Nearly every event makes a new snapshot, and many rules ask it the same questions. So its answers are remembered, in
`_answers` and nowhere else: a changed copy has one place to begin empty, and what was true of the former one cannot
be read off it. (`dataclasses.replace` is as safe, since it runs `__init__`; `changed` spares that.)

**The one door to the clock.** Every comparison with the time is `reached`, which also notes the earliest moment that
an answer still waits for. Before that moment nothing that was worked out changes by time alone, whatever it was: each
comparison behind it comes out the same. That is how a node knows how long it may sleep (`machine.next_wake_ms`);
a test holds that nobody compares with `now_ms` elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from functools import wraps
from typing import Any, Self, TypeVar

from failoverd.core.gtid import GtidSet
from failoverd.core.health import Sendings, Sighting, Sightings, born_after_ms
from failoverd.core.hearsay import ANY, SELDOM
from failoverd.core.lag import NO_LAG, Lag
from failoverd.core.lease import NO_MEMORY, Held, Memory, Promise, Unanswered, Watch
from failoverd.core.mail_store import StoreState
from failoverd.core.model import DatabaseFacts, Floor, Node, NodeKind, NodeName, Record, Rejoin, Report, RequestEnded
from failoverd.core.policy import Policy

NEVER_MS = 1 << 62
ASKED_OF_REPORTS = frozenset({ANY, *SELDOM.values()})
_WAITS_FOR = "(the earliest moment)"  # no question's name

K = TypeVar("K", bound="Known")
T = TypeVar("T")


def remembered(question: Callable[[K], T]) -> Callable[[K], T]:
    """Work the answer out once a value: it is asked by several rules."""
    name = question.__name__

    @wraps(question)
    def answer(known: K) -> T:
        found: T
        try:
            found = known._answers[name]  # noqa: SLF001 - the other half of `Known`
        except KeyError:
            found = known._answers[name] = question(known)  # noqa: SLF001 - likewise
        return found

    return answer


class GateState(Enum):
    """What this node last did to its gate. UNKNOWN: the daemon has just started and has not touched it."""

    OPEN = "open"
    CLOSED = "closed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Leaving:
    """This node is giving the term back: renewals end as `renew` says, and nothing brings the role back in it."""

    term: int
    successor: NodeName | None
    rule: str
    renew: bool  # keep the lease alive until the database is read-only, so that nobody has to wait for its end
    began_ms: int
    undo: bool  # planned: a step that fails takes the switchover back instead of killing the server


@dataclass(frozen=True, slots=True)
class Restart:
    """A unit's restart: when it ended (None: under way) and whether the service manager was content.

    `failures_told`: how many looks had failed in a row by its end, for each observer (restarts.py).
    """

    service: str
    began_ms: int
    ended_ms: int | None
    worked: bool
    failures_told: tuple[tuple[NodeName, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Stuck:
    """A step of this node's promotion that failed again and again, and when it last did."""

    code: str
    reason: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class CatchUp:
    """What would prove that this node's database has all that it may have acknowledged before `run` began.

    A heartbeat of `term` with a higher number than `beat`: one that its primary began after `run` had been seen here.
    """

    run: str
    seen_ms: int
    term: int = 0
    beat: int = 0  # 0: the primary has not told since


@dataclass(frozen=True, slots=True)
class Waits:
    """Commits of this node wait for a replica again: in which term and run of the server, and how many were let go.

    All of those are in `behind`; None before a second reading has found the same.
    """

    term: int
    run: str
    count: int
    behind: GtidSet | None


@dataclass(frozen=True, slots=True)
class Target:
    """The store that the record may be moved to, as this node last looked at it, and why it did not answer (None)."""

    seen_ms: int
    record: Record | None
    reason: str = ""


@dataclass(frozen=True)
class Known:
    """The fields of a view. Built by `machine`, never changed in place."""

    me: Node
    nodes: tuple[Node, ...]
    policy: Policy
    membership: str
    now_ms: int
    sendings: Sendings
    highest_term: int = 0
    memory: Memory = NO_MEMORY  # as it is on this node's disk, or will be before anything else is begun
    record: Record | None = None  # the store's newest, None before the first read
    watch: Watch | None = None
    store_heard_ms: int | None = None
    held: Held | None = None
    leaving: Leaving | None = None
    served_term: int = 0  # the newest term in which this node's database was made writable
    gate: GateState = GateState.UNKNOWN
    frozen_term: int | None = None
    catch_up: CatchUp | None = None  # None before the first reading of the database
    reports: tuple[Report, ...] = ()
    sightings: tuple[Sighting, ...] = ()
    database: DatabaseFacts | None = None
    restarts: tuple[Restart, ...] = ()
    takeovers_ms: tuple[int, ...] = ()  # when this node saw terms begin, newest last
    request_seen: tuple[str, int] | None = None  # (id, when this node first saw it)
    request_failed: RequestEnded | None = None  # a switchover that this node took back, and why
    takeover_sent: Unanswered | None = None
    renewed_ms: int | None = None  # when the newest renewal was sent that the store answered
    promise: Promise | None = None  # this node's own, to the holder
    fenced_term: int | None = None  # the term whose holder this node's fence agents have confirmed to be off
    stuck: Stuck | None = None
    marked_term: int = 0  # in which the store took this daemon's word that commits go unproven, and no CLEAR was sent
    let_go: tuple[int, int] | None = None  # (term, count) that the store was last told of, by this run of the daemon
    waits: Waits | None = None
    beat_seen_ms: int | None = None  # when a commit of this node's was last seen to be acknowledged: a new heartbeat
    samples: tuple[tuple[int, GtidSet], ...] = ()  # of this primary's position, with when it was asked (bounded.py)
    floor: Floor | None = None  # the newest that was heard of in this term
    beyond: tuple[int, bool] | None = None  # since when no replica is within the bound, and whether that was told
    lag: Lag = NO_LAG  # of this node's database, as a finding
    mail_store: StoreState = StoreState.UNKNOWN
    mail_store_ms: int = 0  # since when
    rejoin: Rejoin | None = None  # this node's database is to be made anew: on its disk as in `memory`
    rejoin_since_ms: int | None = None  # since when this run of the daemon knows of it
    rejoin_starts: tuple[int, ...] = ()  # when that was started, newest last
    rejoin_ended: RequestEnded | None = None  # what became of the newest one
    rejoin_failed: tuple[int, int] = (0, 0)  # how many failed since one has succeeded, and when the last did
    rejoin_due_since_ms: int | None = None  # since when this node's database has needed one
    membership_next: str = ""  # as in a report
    target: Target | None = None  # the store that the record may be moved to, as last looked at; None: not yet, or none
    epoch_ms: int | None = None  # what the wall clock was at this clock's 0; None: not known. Of no use for safety
    _answers: dict[str, Any] = field(init=False, repr=False, compare=False, default_factory=dict)

    def changed(self, **changes: object) -> Self:
        """A copy with these fields changed, which has been asked nothing yet."""
        copy = object.__new__(type(self))
        object.__setattr__(copy, "__dict__", {**self.__dict__, **changes, "_answers": {}})
        return copy

    # ---- time -------------------------------------------------------------------------------------------------

    def reached(self, moment_ms: int) -> bool:
        """Whether it is that late; if not, the answer that asks changes then at the earliest."""
        if self.now_ms >= moment_ms:
            return True
        if moment_ms < self._answers.get(_WAITS_FOR, NEVER_MS):
            self._answers[_WAITS_FOR] = moment_ms
        return False

    def past(self, wall_ms: int) -> bool:
        """Whether it is that late by the wall clock; never while that is not known."""
        return self.epoch_ms is not None and self.reached(wall_ms - self.epoch_ms)

    def wall_ms(self) -> int | None:
        """What the wall clock says, for words; comparisons are `past`."""
        return None if self.epoch_ms is None else self.now_ms + self.epoch_ms

    @property
    def waits_for_ms(self) -> int:
        """Before this moment no answer given so far changes by time alone."""
        moment_ms: int = self._answers.get(_WAITS_FOR, NEVER_MS)
        return moment_ms

    # ---- nodes and reports ------------------------------------------------------------------------------------

    @property
    def asked_of_reports(self) -> frozenset[str]:
        """Which of the questions that look into reports were asked so far; empty where no report was looked into."""
        return ASKED_OF_REPORTS & self._answers.keys()

    @property
    def data_nodes(self) -> tuple[Node, ...]:
        """The members that hold mail."""
        return tuple(node for node in self.nodes if node.kind is NodeKind.DATA)

    def node(self, name: NodeName) -> Node:
        """The configured member of that name; KeyError when there is none."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise KeyError(name)

    @property
    @remembered
    def fresh(self) -> dict[NodeName, Report]:
        """The reports that are young enough to count, by sender; this node's own is not among them."""
        found: dict[NodeName, Report] = {}
        for report in self.reports:
            born = born_after_ms(report, self.me.name, self.sendings)
            if born is not None and not self.reached(born + self.policy.report_max_age_ms + 1):
                found[report.sender] = report
        return found

    @property
    @remembered
    def versions(self) -> dict[NodeName, tuple[int, int]]:
        """The newest record that each node heard here has seen: how often it had moved, and its version."""
        return {name: (report.moves, report.version) for name, report in self.fresh.items()}

    @property
    @remembered
    def heard_elsewhere(self) -> frozenset[NodeName]:
        """Who is heard by any node that is heard here."""
        return frozenset(name for report in self.fresh.values() for name in report.hears)

    def alike(self, report: Report) -> bool:
        """Whether that node agrees with this one on members, timings and store, as of now or as of its next store.

        While the record is moved from one store to another, nodes are restarted one by one with both in their files,
        and then with the new one alone. At any time two neighbours in that share a store, and go by the same record
        there: before it is sealed the old store's, and after that the new one's (migration.py).
        """
        if report.membership == self.membership:
            return True
        mine, theirs = {self.membership, self.membership_next}, {report.membership, report.membership_next}
        return bool(mine & theirs - {""})

    def report_of(self, name: NodeName) -> Report | None:
        """A fresh report of `name`, if there is one."""
        return self.fresh.get(name)

    def facts_of(self, name: NodeName) -> DatabaseFacts | None:
        """What is known of the database on `name`: read here if it is this node, otherwise as freshly reported."""
        if name == self.me.name:
            return self.database
        report = self.fresh.get(name)
        return report.database if report else None

    def sighting(self, probe: str, target: NodeName) -> Sighting | None:
        """This node's own last look at `probe` of `target`."""
        seen = self.sightings
        return (seen if type(seen) is Sightings else self._indexed()).by_name.get((probe, target))

    @property
    def looks(self) -> Sightings:
        """This node's sightings, ready to be asked."""
        # `machine` keeps them so; a view that somebody built has a plain tuple.
        return self.sightings if isinstance(self.sightings, Sightings) else self._indexed()

    @remembered
    def _indexed(self) -> Sightings:
        return Sightings(self.sightings)
