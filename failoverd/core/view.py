"""One snapshot of all that this node knows, with the predicates that the rules are made of.

A view is a value: the audit stores it, `explain` replays it, the simulator builds it. `now_ms` is in it, so a
predicate never asks for the time. Predicates read as claims and are total: what is not known is False, and the rule
table is ordered so that False is the safe side.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property

from failoverd.core.gtid import GtidSet
from failoverd.core.health import Sendings, Sighting, born_after_ms
from failoverd.core.lease import Held, Promise, Unanswered, Watch, is_over, still_held
from failoverd.core.model import (
    DatabaseFacts,
    Health,
    Heard,
    HostFacts,
    Node,
    NodeKind,
    NodeName,
    Record,
    Report,
    RequestEnded,
    Thread,
    UnitFacts,
    VipFacts,
)
from failoverd.core.policy import Policy
from failoverd.core.quorum import Tally, Vote, majority, tally

DISK_FAILURES = 2


class GateState(Enum):
    """What this node last did to its gate. UNKNOWN: the daemon has just started and has not touched it."""

    OPEN = "open"
    CLOSED = "closed"
    UNKNOWN = "unknown"


class Verdict(Enum):
    """What a quorum of observers agrees on. DEGRADED: some say down, too few to act on."""

    UP = "up"
    DOWN = "down"
    DEGRADED = "degraded"
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
    """A unit's restart: when it ended (None: under way) and whether the service manager was content."""

    service: str
    began_ms: int
    ended_ms: int | None
    worked: bool


@dataclass(frozen=True)
class View:
    """All that is known here and now. Built by `machine`, never changed in place."""

    me: Node
    nodes: tuple[Node, ...]
    policy: Policy
    membership: str
    now_ms: int
    sendings: Sendings
    highest_term: int = 0
    record: Record | None = None  # the store's newest, None before the first read
    watch: Watch | None = None
    store_heard_ms: int | None = None
    held: Held | None = None
    leaving: Leaving | None = None
    served_term: int = 0  # the newest term in which this node's database was made writable
    gate: GateState = GateState.UNKNOWN
    frozen_term: int | None = None
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
    stuck: tuple[str, str] | None = None  # (code, reason): a step of the promotion that fails again and again

    # ---- nodes and reports ------------------------------------------------------------------------------------

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

    @cached_property
    def fresh(self) -> dict[NodeName, Report]:
        """The reports that are young enough to count, by sender; this node's own is not among them."""
        found: dict[NodeName, Report] = {}
        for report in self.reports:
            born = born_after_ms(report, self.me.name, self.sendings)
            if born is not None and self.now_ms - born <= self.policy.report_max_age_ms:
                found[report.sender] = report
        return found

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
        for seen in self.sightings:
            if seen.observation.probe == probe and seen.observation.target == target:
                return seen
        return None

    # ---- verdicts ---------------------------------------------------------------------------------------------

    def votes(self, service: str, target: NodeName) -> dict[NodeName, Vote]:
        """Each observer's vote on "`service` of `target` is down". Observers are all the other members."""
        needed = next((failures for name, _, failures in self.policy.services if name == service), 1)
        votes: dict[NodeName, Vote] = {}
        for observer in self.nodes:
            if observer.name == target:
                continue
            if observer.name == self.me.name:
                seen = self.sighting(service, target)
                claim = seen.claim() if seen else None
            else:
                report = self.fresh.get(observer.name)
                claims = report.claims if report and report.membership == self.membership else ()
                claim = next((c for c in claims if (c.probe, c.target) == (service, target)), None)
            if claim is None or claim.health is Health.UNKNOWN:
                votes[observer.name] = Vote.UNKNOWN  # its own network may be the broken part
            elif claim.health is Health.OK:
                votes[observer.name] = Vote.NO
            else:
                votes[observer.name] = Vote.YES if claim.failures >= needed else Vote.UNKNOWN
        return votes

    def verdict(self, service: str, target: NodeName) -> Verdict:
        """What the observers agree on for one service of one node."""
        votes = self.votes(service, target).values()
        match tally(votes, len(self.nodes) - 1):
            case Tally.WON:
                return Verdict.DOWN
            case Tally.LOST:
                return Verdict.DEGRADED if Vote.YES in votes else Verdict.UP
            case Tally.PENDING:
                return Verdict.DEGRADED if Vote.YES in votes else Verdict.UNKNOWN

    @property
    def database_failing(self) -> bool:
        """This node's own database did not answer so many times in a row that it counts."""
        seen = self.sighting("database", self.me.name)
        return seen is not None and seen.failures >= self.policy.database_failures

    def service_failing_here(self, service: str, unit: str) -> str:
        """Why `service` of this node counts as down, in words, or "" while it does not."""
        if service == "database":
            seen = self.sighting("database", self.me.name)
            return seen.observation.reading.reason if seen and self.database_failing else ""
        own = self.sighting(f"unit:{unit}", self.me.name)
        if own is not None and own.failures >= 2:  # once may be the blink of somebody else's restart
            return own.observation.reading.reason
        if self.verdict(service, self.me.name) is Verdict.DOWN:
            agreeing = [name for name, vote in self.votes(service, self.me.name).items() if vote is Vote.YES]
            return f"{service} fails for {', '.join(agreeing)}"
        return ""

    @cached_property
    def failing_here(self) -> tuple[tuple[str, str, str], ...]:
        """(service, unit, why) of what counts as down on this node."""
        # The database first: the mail services ask it, and a restart of theirs would not help them.
        watched = [("database", self.policy.database_unit), *((name, unit) for name, unit, _ in self.policy.services)]
        found = ((name, unit, self.service_failing_here(name, unit)) for name, unit in watched)
        # A disk before all: what hangs on it is not helped by a restart, and a restart would hang as well.
        disks = ((seen.observation.probe, "", seen.observation.reading.reason) for seen in self.failing_disks)
        return (*disks, *((name, unit, why) for name, unit, why in found if why))

    @property
    def failing_disks(self) -> tuple[Sighting, ...]:
        """The write probes of this node's mounts that failed twice in a row: once may be the blink of a busy disk."""
        return tuple(
            seen
            for seen in self.sightings
            if seen.observation.probe.startswith("disk:")
            and seen.observation.target == self.me.name
            and seen.failures >= DISK_FAILURES
        )

    @cached_property
    def ready(self) -> bool:
        """This node's own services answer its own probes, so that it could serve."""
        if self.database is None or self.database_failing:
            return False
        seen = [self.sighting(name, self.me.name) for name, _, _ in self.policy.services]
        return all(sight is not None and sight.failures == 0 for sight in seen)

    @property
    def findings(self) -> tuple[tuple[str, str], ...]:
        """(code, reason) of what this node sees wrong with itself."""
        return tuple(
            (seen.observation.reading.code, seen.observation.reading.reason)
            for seen in self.sightings
            if seen.observation.target == self.me.name and seen.failures
        )

    @property
    def host(self) -> HostFacts | None:
        """What the host probe last measured."""
        seen = self.sighting("host", self.me.name)
        facts = seen.observation.reading.facts if seen else None
        return facts if isinstance(facts, HostFacts) else None

    @property
    def vip(self) -> VipFacts | None:
        """Where the virtual IP was last seen from here."""
        seen = self.sighting("vip", self.me.name)
        facts = seen.observation.reading.facts if seen else None
        return facts if isinstance(facts, VipFacts) else None

    @property
    def units(self) -> tuple[UnitFacts, ...]:
        """The states of this node's units, as last seen."""
        found = (seen.observation.reading.facts for seen in self.sightings)
        return tuple(facts for facts in found if isinstance(facts, UnitFacts))

    # ---- lease ------------------------------------------------------------------------------------------------

    @property
    def holder(self) -> NodeName | None:
        """Who the store says is, or last was, primary."""
        return self.record.holder if self.record else None

    @property
    def valid(self) -> Held | None:
        """This node's own lease while it runs."""
        return still_held(self.held, self.now_ms)

    def asking(self) -> bool:
        """Rule 4: this node holds the lease and two renewals were not answered, so that it asks for promises."""
        valid = self.valid
        if valid is None or not self.i_hold():
            return False
        counted_ms = valid.deadline_ms - self.policy.ttl_ms + self.policy.margin_ms
        answered_ms = counted_ms if self.renewed_ms is None else min(counted_ms, self.renewed_ms)
        return self.now_ms - answered_ms >= 2 * self.policy.renew_ms

    def may_promise(self, report: Report) -> bool:
        """Rule 5: only to the holder of the newest term that this node knows, and with no claim of its own."""
        record = self.record
        if record is None or self.me.kind is not NodeKind.DATA or report.membership != self.membership:
            return False
        if report.term != self.highest_term or record.term != self.highest_term or record.holder != report.sender:
            return False
        if record.revoked or record.condemned_by is not None or report.asks_ms > record.ttl_ms:
            return False
        return self.held is None and self.leaving is None and self.takeover_sent is None

    def promised_to(self) -> Heard | None:
        """What this node's promise answers, while it is one of the newest term."""
        promise = self.promise
        return promise.heard if promise is not None and promise.term == self.highest_term else None

    def round_promised_ms(self) -> int | None:
        """Rule 4: when the newest round was sent that *every* other data node has answered with a promise.

        A majority is not enough: the one that is silent may be the one that takes over.
        """
        sent: list[int] = []
        for node in self.data_nodes:
            if node.name == self.me.name:
                continue
            report = next((known for known in self.reports if known.sender == node.name), None)
            promised = report.promised if report is not None and report.term == self.highest_term else None
            if promised is None or (promised.node, promised.process) != (self.me.name, self.sendings.process):
                return None
            sent_ms = self.sendings.sent_ms(promised.number)
            if sent_ms is None:
                return None
            sent.append(sent_ms)
        return min(sent, default=None)

    def i_am_condemned(self) -> bool:
        """Others have revoked this node's term in order to cut its power: it cannot renew any more."""
        return self.record is not None and self.record.holder == self.me.name and self.record.condemned_by is not None

    def paused(self) -> bool:
        """An operator has paused the cluster: nothing acts by itself."""
        return self.record is not None and bool(self.record.paused)

    def i_hold(self) -> bool:
        """This node holds the lease of the newest term that it knows, and is not giving it back."""
        valid = self.valid
        return valid is not None and self.leaving is None and valid.term == self.highest_term

    def asked_node_answers(self) -> bool:
        """The node asked for has said, since, that it knows of the request: it is there to take the role."""
        request = self.record.request if self.record else None
        report = self.fresh.get(request.target) if request else None
        return request is not None and report is not None and report.request == request.id

    def i_am_leaving(self) -> bool:
        """This node is giving back the term that it holds or held."""
        return self.leaving is not None

    def lease_running_out(self) -> bool:
        """Held, but so long without a renewal that the role must be gone by the deadline."""
        valid = self.valid
        return valid is not None and self.now_ms >= valid.deadline_ms - self.policy.step_down_before_ms

    def store_unread(self) -> bool:
        """The store has not been read since the daemon started."""
        return self.record is None

    def store_answers(self) -> bool:
        """The store was heard lately, so that a swap of this node would arrive."""
        heard = self.store_heard_ms
        return heard is not None and self.now_ms - heard <= self.policy.report_max_age_ms

    def store_is_behind(self) -> bool:
        """The store's record is of a lower term than one that this node has seen: an old copy, or not read since."""
        return self.record is not None and self.record.term < self.highest_term

    def never_claimed(self) -> bool:
        """The store answers and holds no record: nobody has ever been primary under failoverd."""
        return self.record is not None and self.record.version == 0

    def lease_is_over(self) -> bool:
        """This node has itself seen that the holder's lease ran out, or was given back."""
        record, watch = self.record, self.watch
        if record is None or record.version == 0 or watch is None:
            return False
        return is_over(record, watch, self.promise, self.now_ms)

    def lease_is_lapsing(self) -> bool:
        """The holder has begun to let go: it gave back, or did not renew for so long while the store answered.

        Where the store does not answer this node, the word of a majority of the holder's observers will do: what
        follows from it, stopping the receiver, is undone as easily as it is done.
        """
        record, watch, heard = self.record, self.watch, self.store_heard_ms
        if record is None or watch is None or heard is None or record.holder is None:
            return False
        if record.revoked or record.condemned_by is not None:
            return True
        since_ms, promise = watch.first_seen_ms, self.promise
        if promise is not None and promise.term == record.term:  # heard from at least then
            since_ms = max(since_ms, promise.until_ms - record.ttl_ms)
        if not self.store_answers():
            told = [report for report in self.fresh.values() if report.lease_over and report.term == record.term]
            return len(told) + self.lease_is_over() >= majority(len(self.nodes) - 1)
        return self.now_ms >= since_ms + self.policy.lapse_ms and heard >= watch.first_seen_ms + self.policy.renew_ms

    def lease_over_by_quorum(self) -> bool:
        """A majority of the holder's observers has itself seen this version's lease run out."""
        record = self.record
        if record is None or not self.lease_is_over():
            return False
        votes = []
        for observer in self.nodes:
            if observer.name == record.holder:
                continue
            if observer.name == self.me.name:
                votes.append(Vote.YES)
                continue
            report = self.fresh.get(observer.name)
            if report is None or report.membership != self.membership:
                votes.append(Vote.UNKNOWN)
            elif report.version == record.version:
                votes.append(Vote.YES if report.lease_over else Vote.NO)
            else:
                votes.append(Vote.NO if report.version > record.version else Vote.UNKNOWN)
        return tally(votes, len(self.nodes) - 1) is Tally.WON

    def i_hold_the_ended_term(self) -> bool:
        """The store names this node as holder of a lease that it no longer has, and it has given nothing back yet."""
        record = self.record
        return record is not None and record.holder == self.me.name and not record.revoked and self.valid is None

    # ---- what this node is and does ---------------------------------------------------------------------------

    def i_am_arbiter(self) -> bool:
        """This node holds no mail."""
        return self.me.kind is NodeKind.ARBITER

    def i_was_here_before(self) -> bool:
        """This node has taken part in a term, so an untouched cluster it is not."""
        return self.highest_term > 0

    def writable(self) -> bool:
        """The local database takes writes."""
        return self.database is not None and not self.database.read_only

    def i_look_like_primary(self) -> bool:
        """Gate not closed or database not read-only: not something to be without the lease."""
        return self.gate is not GateState.CLOSED or self.writable()

    def membership_differs(self) -> bool:
        """This node's idea of who is a member, or of the timings, is that of the fewer: it stands aside."""
        alike = sum(report.membership == self.membership for report in self.fresh.values())
        return len(self.fresh) - alike > alike

    def adoptable(self) -> bool:
        """Nobody was ever primary, this node runs as one, and every other data node replicates from it."""
        if not self.never_claimed() or not self.writable() or self.i_was_here_before():
            return False
        if not (self.vip is not None and self.vip.present):
            return False
        others = [node for node in self.data_nodes if node.name != self.me.name]
        facts = [self.facts_of(node.name) for node in others]
        return all(
            known is not None
            and known.read_only
            and known.replication is not None
            and known.replication.source == self.me.address
            and known.replication.receiver is Thread.RUNNING
            for known in facts
        )

    # ---- positions --------------------------------------------------------------------------------------------

    def relay_log_applied(self) -> bool:
        """All that this node has received is applied."""
        facts = self.database
        return facts is not None and (facts.replication is None or facts.applied.covers(facts.replication.received))

    def i_am_frozen(self) -> bool:
        """This node's receiver was stopped in the record's term, and still is, so its position is final."""
        stopped = self.database is not None and not self.database.receives
        return stopped and self.record is not None and self.frozen_term == self.record.term

    def position_of(self, name: NodeName) -> GtidSet | None:
        """All that `name` has got, if known."""
        facts = self.facts_of(name)
        return facts.position if facts else None

    def frozen_position_of(self, name: NodeName) -> GtidSet | None:
        """The final position of `name` in the record's term: receiver stopped, or its holder and read-only.

        A server that was started again receives again, whatever was stopped before.
        """
        record, facts = self.record, self.facts_of(name)
        if record is None or facts is None or facts.receives:
            return None
        if name == self.me.name:
            final = self.i_am_frozen() or (record.holder == name and not self.i_look_like_primary())
        else:
            report = self.fresh[name]
            final = report.frozen_term == record.term or (
                record.holder == name and facts.read_only and not report.serving
            )
        return facts.position if final else None

    def gone_astray(self, name: NodeName) -> bool:
        """`name` holds transactions beyond the term's beginning (or end), and none of the holder's heartbeats.

        A server that lost what nobody had acknowledged writes other transactions under the same numbers: whoever had
        received the former ones looks further than it is, and once the numbers have passed it, nothing in them tells.
        So a position counts as the term's own only with a heartbeat of that term, which is the first thing written.
        """
        record, facts = self.record, self.facts_of(name)
        if record is None or facts is None or name == record.holder or facts.heartbeat_term == record.term:
            return False
        replication = facts.replication
        if replication is not None and not facts.applied.covers(replication.received):
            return False  # the heartbeat may be among what is not applied yet
        return record.position is not None and not record.position.covers(facts.position)

    def missing_at_holder(self) -> GtidSet | None:
        """What this node's database holds and the present holder's lacks; None while that cannot be known."""
        record, mine = self.record, self.database
        if record is None or record.holder is None or mine is None:
            return None
        report = self.fresh.get(record.holder)
        if report is None or report.database is None or report.term != record.term:
            return None
        return mine.holdings.minus(report.database.holdings)

    def lag_ms(self, name: NodeName) -> int | None:
        """How far `name` is behind the holder, by heartbeat rows: free of clocks. None when not known."""
        holder = self.holder
        there, here = (self.facts_of(holder) if holder else None), self.facts_of(name)
        if there is None or here is None or there.heartbeat_term != here.heartbeat_term:
            return None
        return max(0, there.heartbeat_beat - here.heartbeat_beat) * self.policy.heartbeat_ms

    # ---- restarts and flapping --------------------------------------------------------------------------------

    def restart_of(self, service: str) -> Restart | None:
        """The newest restart of a service that is still remembered."""
        for restart in reversed(self.restarts):
            if restart.service == service and self.now_ms - restart.began_ms < self.policy.restart_memory_ms:
                return restart
        return None

    @property
    def takeovers_in_window(self) -> int:
        """How many terms began within the flap window, as this node saw them."""
        return sum(self.now_ms - at_ms < self.policy.window_ms for at_ms in self.takeovers_ms)

    def at(self, now_ms: int) -> View:
        """The same knowledge at another time: what `explain` and the tests' tables use."""
        return replace(self, now_ms=now_ms)
