"""How far each database has got, and whose history it has."""

from __future__ import annotations

from failoverd.core.gtid import GtidSet
from failoverd.core.known import GateState
from failoverd.core.model import NodeName, RebuildFacts, Thread
from failoverd.core.tenure import Tenure

REBUILD_PROBE = "rebuild"


class Positions(Tenure):
    """A view's predicates on databases."""

    @property
    def rebuild(self) -> RebuildFacts | None:
        """The newest rebuild of this node's database, as last seen."""
        seen = self.sighting(REBUILD_PROBE, self.me.name)
        facts = seen.observation.reading.facts if seen else None
        return facts if isinstance(facts, RebuildFacts) else None

    def rebuilding(self, name: NodeName) -> bool:
        """The database of `name` is being made anew, or is to be: it proves nothing in an election."""
        if name == self.me.name:
            return self.rejoin is not None or (self.rebuild is not None and self.rebuild.at_work)
        report = self.fresh.get(name)
        return report is not None and report.rebuilding

    def i_am_rebuilding(self) -> bool:
        """This node's database is being made anew, or is to be."""
        return self.rebuilding(self.me.name)

    def writable(self) -> bool:
        """The local database takes writes."""
        return self.database is not None and not self.database.read_only

    def writes_stuck(self) -> bool:
        """This node serves, and none of its commits has been acknowledged for seconds: no replica does."""
        seen_ms = self.beat_seen_ms
        serves = self.gate is GateState.OPEN and self.served_term == self.highest_term and self.database is not None
        return serves and seen_ms is not None and self.reached(seen_ms + self.policy.writes_stuck_ms)

    def i_look_like_primary(self) -> bool:
        """Gate not closed or database not read-only: not something to be without the lease."""
        return self.gate is not GateState.CLOSED or self.writable()

    def relay_log_applied(self) -> bool:
        """All that this node has received is applied."""
        facts = self.database
        return facts is not None and (facts.replication is None or facts.applied.covers(facts.replication.received))

    def caught_up(self) -> bool:
        """This node's database has, since its run began, all that it may have acknowledged before.

        With a run ends its relay log (MariaDB with GTID throws it away in START SLAVE, where both threads were
        stopped), and with it what was acknowledged and not applied yet; it gets that again only while the source lives.
        Until then its position is no proof of where every acknowledged transaction is.
        """
        return self.database is not None and self.database.run == self.memory.caught_up != ""

    def catches_up(self) -> bool:
        """Now it has: it applied a heartbeat that was begun after its start was seen here, or it is the primary.

        What it acknowledged before that start stands before that heartbeat in the primary's binary log, and a replica
        receives in that order.
        """
        facts, since = self.database, self.catch_up
        if facts is None or since is None or facts.run != since.run:
            return False
        if self.i_hold() and self.served_term == self.highest_term:
            return not facts.read_only
        return bool(since.beat) and facts.heartbeat_term == since.term and facts.heartbeat_beat > since.beat

    def i_am_frozen(self) -> bool:
        """This node's receiver was stopped in the record's term, and still is, so its position is final."""
        stopped = self.database is not None and not self.database.receives
        return stopped and self.record is not None and self.frozen_term == self.record.term

    def receives_from_another(self) -> bool:
        """This node receives, and not from the holder: its server was started, or its source has lost the role."""
        replication = self.database.replication if self.database is not None else None
        if replication is None or replication.receiver is Thread.STOPPED or self.holder in (None, self.me.name):
            return False
        return replication.source != self.node(NodeName(str(self.holder))).address

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
        return facts.position if final and not self.rebuilding(name) else None

    def gone_astray(self, name: NodeName) -> bool:
        """`name` holds transactions beyond the term's beginning that are not of that term.

        They are its own (its server's id), or none of the holder's heartbeats is among them: that is the first thing
        written in a term. A server that lost what nobody had acknowledged writes other transactions instead: whoever
        had received the former ones looks further than it is.
        """
        record, facts = self.record, self.facts_of(name)
        if record is None or facts is None or name == record.holder:
            return False
        if self.wrote_itself(name):
            return True
        if facts.heartbeat_term >= self.written_term():
            return False
        replication = facts.replication
        if replication is not None and not facts.applied.covers(replication.received):
            return False  # the heartbeat may be among what is not applied yet
        return record.began is not None and not record.began.covers(facts.position)

    def written_term(self) -> int:
        """The newest term in which anything was acknowledged: the record's, unless its holder itself shows otherwise.

        Its server keeps what was acknowledged, and a heartbeat stands before all else of a term. Without one the term
        has left nothing behind, and what counts is the term of which it has one.
        """
        record = self.record
        if record is None or record.holder is None:
            return self.highest_term
        facts = self.facts_of(record.holder)
        if facts is None or self.frozen_position_of(record.holder) is None or not facts.heartbeat_term:
            return record.term
        replication = facts.replication
        whole = replication is None or facts.applied.covers(replication.received)
        return min(facts.heartbeat_term, record.term) if whole else record.term

    def wrote_itself(self, name: NodeName) -> bool:
        """`name` holds a transaction of its own beyond the beginning of a term that another wrote."""
        record, facts = self.record, self.facts_of(name)
        if record is None or facts is None or record.began is None or name == record.holder:
            return False
        return not record.began.covers(facts.own)

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
