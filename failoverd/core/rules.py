"""THE decision table: first match wins.

Each row is an id, conditions that must all hold, a decision and a why. Every id has a scenario that fires it and a
page in runbooks/. The order is the safety argument: first what a node must stop being, then what it may go on being,
then what it may become.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from failoverd.core import bounded, candidates, forced, rejoin, restarts
from failoverd.core.forced import FORCED, forced_to_me, i_could_serve
from failoverd.core.heirs import ahead_of_me
from failoverd.core.model import NodeName, Thread
from failoverd.core.view import GateState, Verdict, View

LOST = "primary-lost-by-quorum"  # takes over what was not given, as does a person who forces it


class Decision(Enum):
    """What this node should do next; `plan` has the steps."""

    __hash__ = object.__hash__  # a member is one object, and tables are asked at each event: Enum's own is slow

    OBSERVE = "observe"  # touch nothing
    ARBITRATE = "arbitrate"
    ADOPT = "adopt"
    SERVE = "serve"
    RESTART_UNIT = "restart-unit"
    LET_GO = "let-go"
    GIVE_BACK = "give-back"
    DEMOTE = "demote"
    DROP_REQUEST = "drop-request"
    TAKE_OVER = "take-over"
    PREPARE = "prepare"
    RECEIVE = "receive"
    FOLLOW = "follow"
    STAY_FENCED = "stay-fenced"
    CONDEMN = "condemn"
    FENCE = "fence"
    REJOIN = "rejoin"
    REBUILD = "rebuild"


Predicate = Callable[[View], bool]


@dataclass(frozen=True, slots=True)
class Rule:
    """One row."""

    id: str
    when: tuple[Predicate, ...]
    decision: Decision
    why: str


def not_(predicate: Predicate) -> Predicate:
    """The opposite claim, with a name that reads aloud."""

    def negated(view: View) -> bool:
        return not predicate(view)

    negated.__name__ = f"not {predicate.__name__}"
    negated.__doc__ = f"The opposite of: {predicate.__doc__}"
    return negated


# ---- claims that need more than the view's own predicates --------------------------------------------------------


def request_for_another(view: View) -> bool:
    """An operator asked for a switchover to another node."""
    return view.record is not None and view.record.request is not None and view.record.request.target != view.me.name


def request_unfit(view: View) -> bool:
    """The node asked for cannot take over."""
    request = view.record.request if view.record else None
    return request is not None and candidates.planned_rejection(view, request.target) is not None


def request_expired(view: View) -> bool:
    """The request could not be begun in time."""
    return forced.expired(view)


def request_pointless(view: View) -> bool:
    """The node asked for serves, or the request is too old, was taken back, or was tried: the role has moved since."""
    request = view.record.request if view.record else None
    if request is None:
        return False
    failed = view.request_failed is not None and request.id == view.request_failed.id
    served = request.target == view.me.name and view.gate is GateState.OPEN
    # What was to be forced is not needed: this node, which holds the lease, is not lost.
    tried = request.target != view.me.name and (request.term != view.highest_term or request.allow_loss)
    return served or failed or tried or request_expired(view)


def service_failing(view: View) -> bool:
    """Something that clients use is down on this node."""
    return bool(view.failing_here)


def restart_not_tried(view: View) -> bool:
    """The first failing service has not been restarted lately, and has a unit that could be."""
    if not view.failing_here or view.paused() or not view.store_is_known():  # paused it may be, until that is known
        return False
    service, unit, _ = view.failing_here[0]
    return bool(unit) and view.restart_of(service) is None and not restarts.database_too_fresh(view, service)


def restart_under_way(view: View) -> bool:
    """A restart of the first failing service, or of the database that it asks, goes on or is too fresh to be judged."""
    service, unit, _ = view.failing_here[0] if view.failing_here else ("", "", "")
    restart = view.restart_of(service)
    if restart is None:
        return restarts.database_too_fresh(view, service)
    return restarts.too_fresh(view, restart, unit)


def another_could_serve(view: View) -> bool:
    """A replica is fit to take over, and a change is allowed now. A dead database has no lag to compare with.

    It has been ready for a while: where all suffer from the same (the shared mail store hangs), the first that is well
    again is no better than the others a moment later.
    """
    steady = {name for name, report in view.fresh.items() if report.steady}
    if view.database is None or view.database_disk_failing:
        fit = candidates.could_elect(view) and bool(steady)
    else:
        fit = candidates.planned(view).best in steady
    return fit and not candidates.change_blockers(view)


def another_has_more(view: View) -> bool:
    """This primary's server crashed and took back what a replica has: that one would be refused, and could go on."""
    if view.served_term != view.highest_term or view.database is None or not view.database.read_only:
        return False
    ahead = not view.caught_up() and bool(ahead_of_me(view))
    return ahead and candidates.could_elect(view, told=True) and not candidates.change_blockers(view)


def promotion_stuck(view: View) -> bool:
    """A step of this node's promotion fails again and again, and the others could elect one of themselves."""
    told = view.database is not None  # it is read-only, and gives the term back with its position
    return view.stuck_lately() and candidates.could_elect(view, told=told) and not candidates.change_blockers(view)


def primary_down_by_quorum(view: View) -> bool:
    """A majority of the primary's observers cannot use one of its services."""
    holder = view.holder
    if holder is None:
        return False
    return any(view.verdict(name, holder) is Verdict.DOWN for name, _, _ in view.policy.services)


def to_be_fenced(view: View) -> bool:
    """A primary that does not renew can be switched off, and that would help: somebody could take its place.

    Not while this node has promised anything to it, and not for one service that fails: a holder that renews decides
    about those itself.
    """
    record = view.record
    if record is None or record.holder in (None, view.me.name) or record.holder not in view.policy.fenced:
        return False
    if record.revoked or record.condemned_by is not None or not view.store_answers():
        return False
    if view.promise is not None and not view.reached(view.promise.bound_until_ms(record)):
        return False
    lost = view.lease_over_by_quorum() if view.policy.fence_required else False
    down = lost or (view.lease_is_lapsing() and primary_down_by_quorum(view))
    return down and view.ready and candidates.could_elect(view) and not candidates.change_blockers(view)


def fencing(view: View) -> bool:
    """This node revoked the term, or stands in for one that did and is silent: the former holder is not off yet."""
    record = view.record
    if record is None or record.condemned_by is None or record.revoked or record.off:
        return False
    if record.holder == view.me.name or record.holder not in view.policy.fenced:
        return False
    return record.condemned_by == view.me.name or record.condemned_by not in view.fresh


def fence_settled(view: View) -> bool:
    """The old primary gave back, is confirmed to be off, or the lease's end is enough."""
    record = view.record
    return record is not None and (record.revoked or bool(record.off) or not view.policy.fence_required)


def replicas_are_there(view: View) -> bool:
    """Enough data nodes live, as this node or another hears, to elect one of them, and a change is allowed now."""
    if view.record is not None and view.record.unproven:
        # Without this node's own word nobody could who is not within its bound.
        near = [name for name in bounded.within(view) if view.maintenance_of(name) is None]
        return bool(near) and not candidates.change_blockers(view)
    there = candidates.replicas_are_there(view) and not forced.nobody_has_come_home(view)
    return there and not candidates.change_blockers(view)


def lease_ends(view: View) -> bool:
    """The holder's lease is over, or about to be."""
    return view.lease_is_over() or view.lease_is_lapsing()


def given_to_me(view: View) -> bool:
    """The holder gave its term back to this node."""
    record = view.record
    return record is not None and record.revoked and record.successor == view.me.name


def i_have_all_that_was_given(view: View) -> bool:
    """This node's final position covers what the holder had when it gave back."""
    record = view.record
    mine = view.frozen_position_of(view.me.name)
    if record is None or mine is None:
        return False
    if record.position is None:
        return candidates.failover(view).best == view.me.name
    return follows_holder(view) and mine.covers(record.position)


def given_to_another(view: View) -> bool:
    """Given back to a node that is not this one, which still has its time to take it.

    Where the holder's position could not be read, the successor is proven by final positions, this node's too: then
    there is no time to wait for.
    """
    record, watch = view.record, view.watch
    if record is None or watch is None or not record.revoked or record.successor in (None, view.me.name):
        return False
    if record.holder is not None and record.position is None:
        return False
    return not view.reached(watch.first_seen_ms + record.ttl_ms)


def i_am_best_candidate(view: View) -> bool:
    """Among all that are fit, by final positions, this node comes first."""
    return candidates.failover(view).best == view.me.name


def change_allowed(view: View) -> bool:
    """Neither flapping nor within the hold-off after the last change; or a person asked for this node."""
    request = view.record.request if view.record else None
    return (request is not None and request.target == view.me.name) or not candidates.change_blockers(view)


def holder_is_another(view: View) -> bool:
    """The store names another node, whose term is not over."""
    return view.holder is not None and view.holder != view.me.name and not view.lease_is_over()


def follows_holder(view: View) -> bool:
    """This node replicates from the present holder already."""
    facts, holder = view.database, view.holder
    replication = facts.replication if facts else None
    return replication is not None and holder is not None and replication.source == view.node(holder).address


def refused_by_holder(view: View) -> bool:
    """The primary's server has told this node's receiver that it does not know what this node holds last.

    Asking again would succeed as soon as the primary has used the same numbers for other transactions.
    """
    replication = view.database.replication if view.database else None
    if replication is None or replication.receiver is not Thread.STOPPED or not follows_holder(view):
        return False
    return replication.refused


def holds_extra(view: View) -> bool:
    """This node's database holds what the present primary's lacks."""
    missing = view.missing_at_holder()
    return refused_by_holder(view) or (missing is not None and bool(missing.parts))


def known_to_hold_nothing_extra(view: View) -> bool:
    """This node's database was compared with the primary's and has nothing of its own."""
    missing = view.missing_at_holder()
    return missing is not None and not missing.parts and not refused_by_holder(view)


def demoted(view: View) -> bool:
    """Gate closed and database read-only."""
    return view.gate is GateState.CLOSED and view.database is not None and view.database.read_only


V = View
RULES: tuple[Rule, ...] = (
    Rule("arbiter-arbitrates", (V.i_am_arbiter,), Decision.ARBITRATE, "an arbiter observes, votes and never serves"),
    # -- what must stop
    Rule(
        "giving-back",
        (V.i_am_leaving,),
        Decision.GIVE_BACK,
        "the role is being given back: close, read-only, then the store is told",
    ),
    Rule(
        "lease-running-out",
        (V.i_hold, V.lease_running_out),
        Decision.LET_GO,
        "the lease could not be renewed and the role must be gone before its end",
    ),
    Rule(
        "lease-lost",
        (not_(V.i_hold), V.i_hold_the_ended_term, V.i_look_like_primary),
        Decision.DEMOTE,
        "the lease has ended: gate closed, database read-only, before anything else is looked at",
    ),
    Rule(
        "ended-term-told",
        (V.i_hold_the_ended_term, not_(V.store_is_behind), demoted, V.store_answers),
        Decision.GIVE_BACK,
        "this node's lease ended and it is closed and read-only: nobody has to wait for it, or to fence it",
    ),
    Rule(
        "condemned",
        (V.i_hold, V.i_am_condemned),
        Decision.LET_GO,
        "the others have revoked this term and are having the power cut: nothing is to be gained by staying",
    ),
    # -- what may go on
    Rule(
        "request-dropped",
        (V.i_hold, request_pointless),
        Decision.DROP_REQUEST,
        "the switchover asked for is done, or could not be begun in time",
    ),
    Rule(
        "request-refused",
        (V.i_hold, request_for_another, request_unfit),
        Decision.DROP_REQUEST,
        "the node asked for cannot take over",
    ),
    Rule(
        "paused-primary-serves", (V.i_hold, V.paused), Decision.SERVE, "paused: the lease is kept, nothing else is done"
    ),
    Rule(
        "switchover-asked",
        (V.i_hold, request_for_another, V.asked_node_answers),
        Decision.LET_GO,
        "an operator asked for it, and the node asked for is fit and has answered",
    ),
    Rule(
        "own-service-restart",
        (V.i_hold, service_failing, restart_not_tried),
        Decision.RESTART_UNIT,
        "a service of the primary is down; one restart is quicker than moving the role",
    ),
    Rule(
        "own-service-step-down",
        (V.i_hold, service_failing, not_(restart_under_way), another_could_serve),
        Decision.LET_GO,
        "a service of the primary stays down after its restart, and a replica can serve",
    ),
    Rule(
        "promotion-stuck",
        (V.i_hold, promotion_stuck),
        Decision.LET_GO,
        "a step of the promotion fails again and again here, and another node could serve",
    ),
    Rule(
        "replica-has-more",
        (V.i_hold, another_has_more),
        Decision.LET_GO,
        "the database crashed and took back what no client was told of; a replica has it and would be refused here",
    ),
    Rule(
        "writes-stuck",
        (V.i_hold, V.writes_stuck, replicas_are_there),
        Decision.LET_GO,
        "no replica acknowledges a commit, so that clients wait for ever, and replicas are there that could do better",
    ),
    Rule("primary-serves", (V.i_hold,), Decision.SERVE, "this node holds the lease"),
    # -- what must not be
    Rule(
        "store-unread", (V.store_unread, not_(V.i_was_here_before)), Decision.OBSERVE, "the store has not been read yet"
    ),
    Rule(
        "store-unread-fenced",
        (V.store_unread,),
        Decision.STAY_FENCED,
        "the store has not been read since the start: who is primary is not known",
    ),
    Rule(
        "store-behind",
        (V.store_is_behind,),
        Decision.STAY_FENCED,
        "the store's term is lower than one seen before: an old copy of it must not take the cluster back",
    ),
    Rule("adopt-running-primary", (V.adoptable,), Decision.ADOPT, "it runs as the primary, and all replicas agree"),
    Rule(
        "wait-for-adoption", (V.never_claimed,), Decision.OBSERVE, "no primary has been adopted yet: nothing is touched"
    ),
    Rule(
        "serving-without-lease",
        (V.i_look_like_primary,),
        Decision.DEMOTE,
        "without the lease a data node is closed and read-only",
    ),
    Rule(
        "rebuilding",
        (V.i_am_rebuilding,),
        Decision.REBUILD,
        "its database is being made anew: it neither follows nor stands for election until that is done",
    ),
    # -- what may become
    Rule(
        "membership-differs",
        (V.lease_is_over, V.membership_differs),
        Decision.STAY_FENCED,
        "nodes with different configurations must not elect",
    ),
    Rule(
        "take-over-given",
        (given_to_me, V.lease_over_by_quorum, V.i_am_frozen, i_have_all_that_was_given, V.relay_log_applied),
        Decision.TAKE_OVER,
        "the holder gave its term to this node, which has all that the holder had; a majority of observers has seen it",
    ),
    Rule(
        FORCED,
        (
            forced_to_me,
            not_(V.paused),
            V.lease_over_by_quorum,
            fence_settled,
            V.i_am_frozen,
            V.relay_log_applied,
            i_could_serve,
            not_(i_am_best_candidate),  # what can be proven is not forced
        ),
        Decision.TAKE_OVER,
        "a named person gives up what this node lacks; a majority of observers has seen the lease run out",
    ),
    Rule(
        "receive-given",
        (given_to_me, not_(forced_to_me)),
        Decision.RECEIVE,
        "the term was given to this node: get and apply the rest",
    ),
    Rule(
        "given-to-another",
        (given_to_another,),
        Decision.OBSERVE,
        "the term was given to another node, which has its time",
    ),
    Rule(
        "paused",
        (V.paused, lease_ends),
        Decision.OBSERVE,
        "paused: nobody takes over a lost primary before somebody resumes",
    ),
    Rule(
        LOST,
        (V.lease_over_by_quorum, fence_settled, i_am_best_candidate, V.relay_log_applied, change_allowed),
        Decision.TAKE_OVER,
        "a majority of observers has seen the lease run out, and this node has all that was acknowledged",
    ),
    Rule(
        "primary-condemned",
        (not_(V.paused), to_be_fenced),
        Decision.CONDEMN,
        "it does not renew and cannot be used: its term is revoked, so that it cannot come back while it is fenced",
    ),
    Rule(
        "fencing-primary",
        (not_(V.paused), fencing),
        Decision.FENCE,
        "this node revoked the term: the old primary's power is cut, and only a confirmed end opens promotion",
    ),
    Rule(
        "primary-lapsing",
        (V.lease_is_lapsing,),
        Decision.PREPARE,
        "the holder has begun to let go: stop receiving and apply, so that positions are final at the lease's end",
    ),
    Rule(
        rejoin.RULE,
        (holder_is_another, rejoin.due),
        Decision.REJOIN,
        "its database cannot come home as it is: what it has extra is saved, then it is made anew from a replica",
    ),
    Rule(
        "replica-follows",
        (holder_is_another, follows_holder, not_(refused_by_holder)),
        Decision.FOLLOW,
        "the primary is another node",
    ),
    Rule(
        "needs-rejoin",
        (holder_is_another, holds_extra),
        Decision.STAY_FENCED,
        "its database holds transactions that the primary lacks: fenced until that is settled",
    ),
    Rule(
        "replica-rejoins",
        (holder_is_another, known_to_hold_nothing_extra),
        Decision.FOLLOW,
        "another node is primary and this one holds nothing that it lacks",
    ),
    Rule("primary-unknown", (), Decision.STAY_FENCED, "nothing proves yet whom to follow, or that it is safe"),
)


def _row_without(claim: Predicate, after: int) -> int:
    """The next row that does not need `claim`."""
    return next(number for number in range(after + 1, len(RULES)) if claim not in RULES[number].when)


# Each row with its conditions, and where to go on when one of them does not hold: all rows in between need it too.
_ROWS = tuple(
    (rule, tuple((claim, _row_without(claim, number)) for claim in rule.when)) for number, rule in enumerate(RULES)
)


def decide(view: View) -> Rule:
    """The first row all of whose conditions hold; the last row has none, so that there always is one.

    No condition is asked twice: this is what every event waits for.
    """
    holding: set[Predicate] = set()
    number = 0
    while True:
        rule, conditions = _ROWS[number]
        for claim, otherwise in conditions:
            if claim in holding:
                continue
            if not claim(view):
                number = otherwise
                break
            holding.add(claim)
        else:
            return rule


def successor_for(view: View, rule: Rule) -> NodeName | None:
    """To whom a LET_GO of this rule gives the term; None when it just ends.

    From a disk that cannot be written to nobody gets the rest: the others elect by what they have.
    """
    if rule.id == "switchover-asked":
        request = view.record.request if view.record else None
        return request.target if request else None
    if rule.id != "own-service-step-down" or view.database_disk_failing:
        return None
    return candidates.planned(view).best
