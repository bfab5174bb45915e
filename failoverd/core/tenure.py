"""Who holds the lease, whether it is over, and what was promised: the six rules of lease.py asked of a view."""

from __future__ import annotations

from failoverd.core.known import Known, remembered
from failoverd.core.lease import Held, acceptable, over_from_ms
from failoverd.core.model import Heard, Maintenance, NodeKind, NodeName, Record, Report
from failoverd.core.quorum import Tally, Vote, majority, tally


class Tenure(Known):
    """A view's predicates on the lease."""

    @property
    def holder(self) -> NodeName | None:
        """Who the store says is, or last was, primary."""
        return self.record.holder if self.record else None

    @property
    def valid(self) -> Held | None:
        """This node's own lease while it runs."""
        held = self.held  # rule 2
        return held if held is not None and not self.reached(held.deadline_ms) else None

    def asking(self) -> bool:
        """Rule 4: this node holds the lease and two renewals were not answered, so that it asks for promises."""
        valid = self.valid if self.i_hold() else None
        if valid is None:
            return False
        counted_ms = valid.deadline_ms - self.policy.ttl_ms + self.policy.margin_ms
        answered_ms = counted_ms if self.renewed_ms is None else min(counted_ms, self.renewed_ms)
        return self.reached(answered_ms + 2 * self.policy.renew_ms)

    def may_promise(self, report: Report) -> bool:
        """Rule 5: only to the holder of the newest term that this node knows, and with no claim of its own."""
        known = self.record if self.record is not None and self.record.term == self.highest_term else self.memory
        if self.me.kind is not NodeKind.DATA or not self.alike(report):
            return False
        if report.term != self.highest_term or known.term != self.highest_term or known.holder != report.sender:
            return False
        if isinstance(known, Record) and (known.revoked or known.condemned_by is not None):
            return False
        if report.asks_ms > known.ttl_ms:  # longer than this node would wait if it were started anew
            return False
        if self.newer_term() is not None:
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

    def maintenance_of(self, name: NodeName) -> Maintenance | None:
        """Who works on a node, and why."""
        working = self.record.maintenance if self.record else ()
        return next((known for known in working if known.node == name), None) if working else None

    def i_hold(self) -> bool:
        """This node holds the lease of the newest term that it knows, and is not giving it back."""
        held = self.held
        return (
            held is not None
            and self.leaving is None
            and held.term == self.highest_term
            and not self.reached(held.deadline_ms)
        )

    def asked_node_answers(self) -> bool:
        """The node asked for has said, since, that it knows of the request: it is there to take the role."""
        request = self.record.request if self.record else None
        report = self.fresh.get(request.target) if request else None
        return request is not None and report is not None and report.request == request.id

    def i_am_leaving(self) -> bool:
        """This node is giving back the term that it holds or held."""
        return self.leaving is not None

    def lease_running_out(self) -> bool:
        """Held, but so long without a renewal that the role must be gone by the deadline.

        A daemon that has just been started on a busy host asks the store first: that takes some milliseconds, and the
        guard sees to the database meanwhile.
        """
        valid, before_ms = self.valid, self.policy.step_down_before_ms
        if self.store_unread():
            before_ms //= 2
        return valid is not None and self.reached(valid.deadline_ms - before_ms)

    def store_unread(self) -> bool:
        """The store has not been read since the daemon started."""
        return self.record is None

    @remembered
    def store_answers(self) -> bool:
        """The store was heard lately, so that a swap of this node would arrive."""
        heard = self.store_heard_ms
        return heard is not None and not self.reached(heard + self.policy.report_max_age_ms + 1)

    def store_is_behind(self) -> bool:
        """The store's record is of a lower term than one that this node has read: an old copy, or not read since.

        Or than one that it hears of, and the lease in the record is over: what it would act on is no more than that.
        """
        if self.record is None:
            return False
        old = not acceptable(self.record, self.highest_term, self.memory.moves)
        return old or (self._counted_out() and self.told_of_newer())

    def store_is_known(self) -> bool:
        """A record of the newest term that this node has seen was read: what it says, as of a pause, is so."""
        return not self.store_unread() and not self.store_is_behind()

    @remembered
    def newer_term(self) -> Report | None:
        """A fresh report of a newer term than this node has read: it is late itself, the store old, or that node wrong.

        No term comes of a report (lateness.py); but whoever hears of one does not say that the lease it knows is over.
        """
        return next((report for report in self.fresh.values() if report.term > self.highest_term), None)

    @remembered
    def newer_move(self) -> Report | None:
        """A fresh report of a record that was moved to another store since the one that this node has read.

        Its sender has read the seal, or what came after it; what this node has is a copy of the store that was left.
        """
        moves = max(self.memory.moves, self.record.moves if self.record is not None else 0)
        return next((report for report in self.fresh.values() if report.moves > moves), None)

    def told_of_newer(self) -> bool:
        """Somebody has read what this node has not: no lease that it knows is known to be over."""
        return self.newer_term() is not None or self.newer_move() is not None

    def never_claimed(self) -> bool:
        """The store answers and holds no record: nobody has ever been primary under failoverd."""
        return self.record is not None and self.record.version == 0

    @remembered
    def lease_is_over(self) -> bool:
        """This node has itself seen that the holder's lease ran out, or was given back, and knows of no newer term."""
        return self._counted_out() and not self.told_of_newer()

    @remembered
    def _counted_out(self) -> bool:
        record, watch = self.record, self.watch
        if record is None or record.version == 0 or watch is None:
            return False
        return self.reached(over_from_ms(record, watch, self.promise))

    @remembered
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
            if promise is not None and not self.reached(promise.bound_until_ms(record)):
                return False
            others = [report for report in self.fresh.values() if report.sender != record.holder]
            told = [report for report in others if report.lease_over and report.term == record.term]
            return len(told) + self.lease_is_over() >= majority(len(self.nodes) - 1)
        return self.reached(since_ms + self.policy.lapse_ms) and heard >= watch.first_seen_ms + self.policy.renew_ms

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
            if report is None or not self.alike(report):
                votes.append(Vote.UNKNOWN)
            elif self.versions[observer.name] == (record.moves, record.version):
                votes.append(Vote.YES if report.lease_over else Vote.NO)
            else:
                newer = self.versions[observer.name] > (record.moves, record.version)
                votes.append(Vote.NO if newer else Vote.UNKNOWN)
        return tally(votes, len(self.nodes) - 1) is Tally.WON

    def i_hold_the_ended_term(self) -> bool:
        """The store names this node as holder of a lease that it no longer has, and it has given nothing back yet."""
        record = self.record
        return record is not None and record.holder == self.me.name and not record.revoked and self.valid is None
