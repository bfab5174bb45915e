"""Who may be primary next, in what order, and why each other may not.

Order: position (who has received more), then priority, then name. Three cases differ in what proves that nothing
acknowledged is lost:

    planned   the holder is alive, closes and gives its position: the candidate must reach that position
    failover  the holder is gone: positions must be *final* (receivers frozen in this term) on so many data nodes that
              at least one of them has acknowledged every commit: n - acknowledgements, or the ended holder itself.
              A replica whose server was started counts once it has caught up: it forgets what it has not applied.
              A holder whose server crashed has all that was acknowledged, and takes back what was not: a replica
              that it refuses for that may go on where it cannot
    bounded   the holder is gone, and its commits did not wait: one final position will do that has what the holder had
              so long before its lease's end (bounded.py)

Only positions in the ended holder's history can be compared: see `heirs`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from failoverd.core import bounded
from failoverd.core.findings import blocking
from failoverd.core.gtid import GtidSet
from failoverd.core.heirs import forgot_nothing, heirs_of, proof_missing, refused_by
from failoverd.core.known import remembered
from failoverd.core.model import DatabaseFacts, Node, NodeKind, NodeName, Rejected, Thread
from failoverd.core.view import View

# Codes of rejections and blockers; each has a page in runbooks/.
CODES = {
    "BLK_NO_SUCH_NODE": "the name is not in the configuration",
    "BLK_NOT_DATA": "the arbiter holds no mail and cannot be primary",
    "BLK_IS_PRIMARY": "the node is primary already",
    "BLK_UNREACHABLE": "no fresh report from the node",
    "BLK_MEMBERSHIP": "the node has another configuration of members or timings",
    "BLK_DATABASE": "the node's database does not answer",
    "BLK_NOT_READY": "a mail service of the node does not answer its own probes",
    "BLK_REPLICATION": "the node does not replicate from the primary",
    "BLK_APPLIER": "the node's replication applier stopped",
    "BLK_LAG": "the node is too far behind",
    "BLK_EXTRA": "the node holds transactions that the primary lacks",
    "BLK_ERRANT": "the node holds transactions that no primary wrote",
    "BLK_SETTINGS": "a setting of the node's database would lose data, or break its promotion",
    "BLK_REBUILDING": "the node's database is being made anew",
    "BLK_NO_DONOR": "no replica is fit to be copied",
    "BLK_LAST_REPLICA": "no other replica acknowledges",
    "BLK_BEHIND": "the node lacks transactions that another node has",
    "BLK_DIVERGED": "the node and another hold different transactions",
    "BLK_NOT_APPLIED": "the node has received transactions that it has not applied yet",
    "BLK_RPO_UNPROVEN": "too few data nodes were heard to prove that nothing acknowledged is lost",
    "BLK_RPO_BOUND": "nobody is known to lack no more than the bound allows",
    "BLK_LEASE": "the lease of the present holder still runs",
    "BLK_QUORUM": "no majority of observers agrees that the primary is lost",
    "BLK_FLAPPING": "too many changes of primary within the window",
    "BLK_HOLD_OFF": "the last change of primary is too recent",
    "BLK_STORE": "the store does not answer",
    "BLK_REQUEST": "another request is in flight",
    "BLK_NO_PRIMARY": "there is no primary that could hand over",
    "BLK_PAUSED": "an operator has paused the cluster",
    "BLK_MAINTENANCE": "the node is in maintenance",
    "BLK_NOTHING": "there is nothing that this would change",
    "BLK_TIME": "the moment named is past, or too far ahead",
    "BLK_FENCE": "the lost primary's power-off is required and not confirmed",
    "BLK_NOT_HOLDER": "the node is not the last primary",
    "BLK_ANSWERS": "the node answers: it has power",
}


@dataclass(frozen=True, slots=True)
class Election:
    """Candidates, best first, and why each other data node is none."""

    order: tuple[NodeName, ...]
    rejected: tuple[Rejected, ...]

    @property
    def best(self) -> NodeName | None:
        """Who should take over."""
        return self.order[0] if self.order else None


def _out_of_reach(view: View, name: NodeName) -> Rejected | None:
    """Whether the node would hear of its election, and could ask the store for the term."""
    store_answers = view.store_answers()
    if name != view.me.name:
        report = view.report_of(name)
        if report is None:
            return Rejected(name, "BLK_UNREACHABLE", f"no report from {name} within {view.policy.report_max_age_ms} ms")
        if not view.alike(report):
            return Rejected(name, "BLK_MEMBERSHIP", f"{name} has another configuration of members or timings")
        store_answers = report.store_answers
    if not store_answers:  # it would be waited for in vain
        return Rejected(name, "BLK_STORE", f"the store does not answer {name}")
    return None


def _worked_on(view: View, name: NodeName) -> Rejected | None:
    """Its word on positions counts all the same."""
    known = view.maintenance_of(name)
    if known is None:
        return None
    text = f"{name} is in maintenance, by {known.by}: {known.reason}; failoverctl maintenance {name} off ends it"
    return Rejected(name, "BLK_MAINTENANCE", text)


def _unfit(view: View, node: Node) -> Rejected | None:
    """What excludes a node in either case."""
    return _broken(view, node) or _errant(view, node.name)


def _errant(view: View, name: NodeName) -> Rejected | None:
    report = view.report_of(name)
    findings = report.findings if report else view.findings
    extra = view.errant(name) or dict(findings).get("ERRANT", "")  # whoever of both has the newer journal
    return Rejected(name, "BLK_ERRANT", f"{name} holds what no primary wrote: {extra}") if extra else None


def _broken(view: View, node: Node) -> Rejected | None:
    name = node.name
    why = _worked_on(view, name) or _out_of_reach(view, name)
    if why is not None:
        return why
    report = view.report_of(name)
    ready, findings = (report.ready, report.findings) if report else (view.ready, view.findings)
    if view.rebuilding(name) or view.facts_of(name) is None:
        return _no_database(view, name)
    if not ready:
        first = "; ".join(f"{code}: {reason}" for code, reason in findings[:2]) or "its probes have not finished"
        return Rejected(name, "BLK_NOT_READY", f"{name} is not ready: {first}")
    setting = blocking(findings)
    if setting is not None:
        return Rejected(name, "BLK_SETTINGS", f"{setting[0]}: {setting[1]}")
    return next((Rejected(name, code, reason) for code, reason in findings if code.startswith("DISK")), None)


def _no_database(view: View, name: NodeName) -> Rejected:
    if view.rebuilding(name):
        return Rejected(name, "BLK_REBUILDING", f"the database of {name} is being made anew")
    return Rejected(name, "BLK_DATABASE", f"the database of {name} does not answer")


def _not_replicating(view: View, node: Node, facts: DatabaseFacts) -> Rejected | None:
    holder = view.holder
    replication = facts.replication
    if holder is None:
        return None
    if replication is None or replication.source != view.node(holder).address:
        return Rejected(node.name, "BLK_REPLICATION", f"{node.name} does not replicate from {holder}")
    if replication.receiver is not Thread.RUNNING:
        why = replication.receiver_error or f"its receiver is {replication.receiver.value}"
        return Rejected(node.name, "BLK_REPLICATION", f"{node.name} does not receive from {holder}: {why}")
    if replication.applier is not Thread.RUNNING:
        why = replication.applier_error or f"its applier is {replication.applier.value}"
        return Rejected(node.name, "BLK_APPLIER", f"{node.name} does not apply: {why}")
    return None


def target_rejection(view: View, name: str) -> Rejected | None:
    """Why a switchover to `name` makes no sense, now or later, or None."""
    wanted = NodeName(name)
    node = next((known for known in view.nodes if known.name == wanted), None)
    if node is None:
        known = ", ".join(n.name for n in view.data_nodes)
        return Rejected(wanted, "BLK_NO_SUCH_NODE", f"{wanted} is not in the configuration; data nodes are {known}")
    if node.kind is not NodeKind.DATA:
        return Rejected(wanted, "BLK_NOT_DATA", f"{wanted} is an arbiter and holds no mail")
    if view.holder == wanted and not view.lease_is_over():
        return Rejected(wanted, "BLK_IS_PRIMARY", f"{wanted} is primary already, in term {view.highest_term}")
    if view.holder is None or view.lease_is_over():
        return Rejected(wanted, "BLK_NO_PRIMARY", "there is no primary that could hand over")
    return None


def confirm_rejection(view: View, name: str) -> Rejected | None:
    """Why an operator's word that `name` has no power is not taken, or None."""
    wanted, record = NodeName(name), view.record
    if all(node.name != wanted for node in view.nodes):
        known = ", ".join(node.name for node in view.data_nodes)
        return Rejected(wanted, "BLK_NO_SUCH_NODE", f"{wanted} is not in the configuration; data nodes are {known}")
    if not view.store_answers():
        return Rejected(wanted, "BLK_STORE", f"the store does not answer {view.me.name}")
    if record is None or record.holder != wanted or record.revoked:
        holder = record.holder if record is not None and not record.revoked else None
        return Rejected(wanted, "BLK_NOT_HOLDER", f"{wanted} is not the last primary, {holder or 'nobody'} is")
    if wanted == view.me.name or wanted in view.fresh:
        return Rejected(wanted, "BLK_ANSWERS", f"{wanted} answers: it has power")
    if not (view.lease_is_lapsing() or view.lease_is_over()):  # not heard here, perhaps, but its counter moves
        return Rejected(wanted, "BLK_ANSWERS", f"{wanted} renews its lease: it has power")
    return None


def _lagging(view: View, name: NodeName) -> Rejected | None:
    lag_ms = view.lag_ms(name)
    if lag_ms is None:
        return Rejected(name, "BLK_LAG", f"how far {name} is behind {view.holder} is not known")
    limit_ms = min(view.policy.max_lag_ms, view.policy.switchover_lag_ms)
    if lag_ms > limit_ms:
        return Rejected(name, "BLK_LAG", f"{name} is {lag_ms} ms behind, the limit is {limit_ms} ms")
    return None


def _holds_extra(view: View, name: NodeName, facts: DatabaseFacts) -> Rejected | None:
    # The two readings are not of the same moment, so only servers of which the holder has nothing at all count as
    # extra here, and what the node wrote itself since the term began. The rejoin check repeats this once both stand
    # still.
    theirs = view.facts_of(view.holder) if view.holder else None
    if theirs is None:
        return None
    sources = {source for source, _ in theirs.holdings.parts}
    extra = [source for source, _ in facts.holdings.parts if source not in sources]
    if not extra and view.wrote_itself(name):
        text = f"{name} has written transactions of its own in a term of {view.holder}"
        return Rejected(name, "BLK_EXTRA", text)
    if not extra:
        return None
    return Rejected(name, "BLK_EXTRA", f"{name} holds transactions of {', '.join(extra)}, {view.holder} none")


def planned_rejection(view: View, name: str) -> Rejected | None:
    """Why the living primary may not hand over to `name`, or None."""
    why, wanted = target_rejection(view, name), NodeName(name)
    if why is not None:
        return why
    if view.paused():
        return Rejected(wanted, "BLK_PAUSED", "the cluster is paused: resume it first")
    node = view.node(wanted)
    why, facts = doubt(view, wanted) or _unfit(view, node), view.facts_of(wanted)
    if why is not None or facts is None:
        return why
    return _not_replicating(view, node, facts) or _lagging(view, wanted) or _holds_extra(view, wanted, facts)


def planned(view: View) -> Election:
    """Who could take over from the living holder, by lag in received position, priority, name."""
    order: list[Node] = []
    rejected: list[Rejected] = []
    for node in view.data_nodes:
        if node.name == view.holder:
            continue
        why = planned_rejection(view, node.name)
        if why is None:
            order.append(node)
        else:
            rejected.append(why)
    order.sort(key=lambda node: (-_received(view, node.name).count, -node.priority, node.name))
    return Election(tuple(node.name for node in order), tuple(rejected))


def doubt(view: View, name: NodeName) -> Rejected | None:
    """Another node says that the store's word here is an old one: nobody takes a term over on that."""
    told = view.newer_term()
    if told is None:
        return _moved_on(view, name)
    known = view.record.term if view.record is not None else 0
    text = f"{told.sender} has seen term {told.term}, and the store says {known} here: one of them is wrong"
    return Rejected(name, "BLK_STORE_OLD", text)


def _moved_on(view: View, name: NodeName) -> Rejected | None:
    told = view.newer_move()
    if told is None:
        return None
    text = f"{told.sender} has seen the record move to another store, which {view.me.name} has not"
    return Rejected(name, "BLK_STORE_OLD", text)


def _received(view: View, name: NodeName) -> GtidSet:
    return view.position_of(name) or GtidSet()


@remembered
def failover(view: View) -> Election:
    """Who should take over a lease that is over. Only final positions count; see the module's docstring."""
    record = view.record
    if record is None:
        return Election(
            (), tuple(Rejected(n.name, "BLK_STORE", "the store has not been read") for n in view.data_nodes)
        )
    positions: dict[NodeName, GtidSet] = {}
    rejected: list[Rejected] = []
    for node in view.data_nodes:
        position = view.frozen_position_of(node.name)
        if position is not None:
            positions[node.name] = position
    handed = record.position if record.revoked else None
    least = record.began if handed is None else handed
    proof = proof_missing(view, positions, handed)
    by_floor = bounded.uses(view, positions)
    heirs = heirs_of(view, record, positions)
    # Whoever has gone astray, or was refused by the holder, is compared with all the same, unless the holder itself
    # says what it had: if heartbeats failed, or the holder's server crashed and came back with less, it may be what was
    # acknowledged.
    told = handed is not None or record.holder in positions
    compared = heirs if told else heirs | {name for name in positions if refused_by(view, name, record.holder)}
    final = {name: positions[name] for name in positions if name in compared and not (told and view.gone_astray(name))}
    order: list[Node] = []
    for node in view.data_nodes:
        why = _unfit(view, node)
        if why is None and node.name not in positions:
            why = Rejected(
                node.name, "BLK_RPO_UNPROVEN", f"{node.name} has not stopped receiving in term {record.term}"
            )
        if why is None and node.name not in heirs:
            why = Rejected(node.name, "BLK_REPLICATION", f"{node.name} has not followed {record.holder}")
        if why is None and view.gone_astray(node.name):
            text = f"what {node.name} holds beyond the beginning of term {record.term} is not of that term"
            why = Rejected(node.name, "BLK_DIVERGED", text)
        if why is None:
            why = (
                (replace(proof, node=node.name) if proof else None)
                or _not_best(node.name, final, least)
                or (bounded.beyond(view, node.name, positions) if by_floor else None)
                or _cannot_apply(view, node.name)
            )
        if why is None:
            order.append(node)
        else:
            rejected.append(why)
    asked = record.request.target if record.request else None
    order.sort(key=lambda node: (node.name != asked, -node.priority, node.name))  # positions are equal by now
    return Election(tuple(node.name for node in order), tuple(rejected))


def _not_best(name: NodeName, positions: dict[NodeName, GtidSet], least: GtidSet | None) -> Rejected | None:
    """A candidate must cover every heir's final position, and the one that the holder gave or began with."""
    mine = positions[name]
    if least is not None and not mine.covers(least):
        lacking = least.minus(mine).count
        return Rejected(name, "BLK_BEHIND", f"{name} lacks {lacking} transactions that the last primary had")
    for other, position in positions.items():
        if other == name or mine.covers(position):
            continue
        if position.covers(mine):
            return Rejected(
                name, "BLK_BEHIND", f"{name} lacks {position.minus(mine).count} transactions that {other} has"
            )
        return Rejected(name, "BLK_DIVERGED", f"{name} and {other} hold different transactions")
    return None


def _cannot_apply(view: View, name: NodeName) -> Rejected | None:
    facts = view.facts_of(name)
    replication = facts.replication if facts else None
    if replication is not None and replication.applier is Thread.STOPPED and replication.applier_error:
        return Rejected(name, "BLK_APPLIER", f"{name} does not apply: {replication.applier_error}")
    return None


def cannot_serve(view: View, node: Node) -> Rejected | None:
    """What excludes a node whatever may be lost: it would be a primary that does not work.

    Transactions that no primary wrote do not: where the others are gone for good, nobody is left to save them on.
    """
    return _broken(view, node) or _cannot_apply(view, node.name)


def could_elect(view: View, *, told: bool = False) -> bool:
    """Whether the others could elect one of them without a word of the holder's database (this node's, if it holds).

    `told`: that database will say what it has, so that nobody else has to prove it.
    """
    if view.record is not None and view.record.unproven and not told:
        near = [view.node(name) for name in bounded.within(view)]
        return any(_unfit(view, node) is None and _cannot_apply(view, node.name) is None for node in near)
    gone = view.holder or view.me.name
    answer = [
        node
        for node in view.data_nodes
        if node.name != gone and view.facts_of(node.name) is not None and not view.rebuilding(node.name)
    ]
    others = [node for node in answer if told or forgot_nothing(view, node.name, gone)]
    enough = len(others) >= len(view.data_nodes) - view.policy.acknowledgements
    return enough and any(_unfit(view, node) is None and _cannot_apply(view, node.name) is None for node in others)


def rests_on_a_floor(view: View) -> bool:
    """A takeover now would be within a bound, and not proven to lose nothing."""
    positions = {node.name: view.frozen_position_of(node.name) for node in view.data_nodes}
    return bounded.uses(view, {name: position for name, position in positions.items() if position is not None})


def replicas_are_there(view: View) -> bool:
    """Whether enough data nodes live to elect one of them, this node's ears or those of others being the witness."""
    needed = len(view.data_nodes) - view.policy.acknowledgements
    others = [node.name for node in view.data_nodes if node.name != view.me.name]
    there = [name for name in others if name in view.fresh or name in view.heard_elsewhere]
    there = [name for name in there if not view.rebuilding(name)]
    return len(there) >= needed and any(view.maintenance_of(name) is None for name in there)


def why_not(view: View) -> tuple[Rejected, ...]:
    """Why this node does not take over a lease that is over; empty where it may, or where another comes first."""
    me, election = view.me.name, failover(view)
    found = [rejected for rejected in election.rejected if rejected.node == me]
    if election.best not in (None, me):
        return tuple(found)
    if view.membership_differs():
        found.append(Rejected(me, "BLK_MEMBERSHIP", f"{me} has another configuration of members or timings than most"))
    record = view.record
    if view.paused():
        found.append(Rejected(me, "BLK_PAUSED", f"paused by {record.paused if record else ''}"))
    if view.policy.fence_required and record is not None and not (record.revoked or record.off):
        found.append(Rejected(me, "BLK_FENCE", f"nobody has confirmed that {record.holder} has no power"))
    if not view.lease_over_by_quorum():
        found.append(Rejected(me, "BLK_QUORUM", "no majority of observers has seen the lease run out"))
    if election.best == me and not view.relay_log_applied():
        found.append(Rejected(me, "BLK_NOT_APPLIED", f"{me} has received what it has not applied yet"))
    return (*found, *change_blockers(view))


def change_blockers(view: View) -> tuple[Rejected, ...]:
    """Why no automatic change of primary may be made now, whoever the candidate is."""
    found: list[Rejected] = []
    policy = view.policy
    if view.store_unread() or (view.store_is_behind() and not view.told_of_newer()):
        text = "the store's newest word is not known: the cluster may be paused"
        found.append(Rejected(view.me.name, "BLK_STORE", text))
    if (doubted := doubt(view, view.me.name)) is not None:
        found.append(doubted)
    if view.takeovers_in_window >= policy.failovers:
        found.append(
            Rejected(
                view.me.name,
                "BLK_FLAPPING",
                f"{view.takeovers_in_window} changes of primary within {policy.window_ms // 1000} s, "
                f"the limit is {policy.failovers}",
            )
        )
    if view.takeovers_ms and not view.reached(view.takeovers_ms[-1] + policy.hold_off_ms):
        rest_ms = policy.hold_off_ms - (view.now_ms - view.takeovers_ms[-1])
        found.append(
            Rejected(view.me.name, "BLK_HOLD_OFF", f"the last change of primary was too recent: {rest_ms} ms to go")
        )
    return tuple(found)
