"""What is asked of the store, one swap at a time: the term, its renewals, its end, and an operator's word."""

from __future__ import annotations

from dataclasses import replace

from failoverd.core import bounded, candidates, forced, lease, orders, plan, rules, unproven
from failoverd.core.effects import Purpose, StepKind, Swap
from failoverd.core.events import Order
from failoverd.core.model import Record, Request, RequestEnded
from failoverd.core.rules import Decision, Rule
from failoverd.core.turn import Turn
from failoverd.core.view import GateState


def forget_old_request(turn: Turn) -> None:
    """What the store did not take in time is given up."""
    state, view = turn.state, turn.view
    if state.asked is None and state.confirmed is None and state.order is None:
        return
    if view.reached(state.asked_ms + view.policy.request_ms + 1):
        for given_up in (state.asked, state.confirmed, state.order):
            if given_up is not None:
                text = "the store did not take the request in time"
                turn.note("request-dropped", text, code="BLK_STORE", by=given_up.by)
        turn.keep(asked=None, confirmed=None, order=None)


def ask_store(turn: Turn, rule: Rule) -> None:
    """The swap that the decision asks for, or a renewal, or what an operator asked of this node."""
    if turn.state.swap is not None:
        return  # one at a time; its answer or its timeout comes
    view, record = turn.view, turn.view.record
    if record is None:
        return
    may_swap = view.reached(turn.state.swaps_from_ms)
    match rule.decision:
        case Decision.TAKE_OVER | Decision.ADOPT if may_swap:
            _take_over(turn, record, rule)
        case Decision.GIVE_BACK if may_swap and _may_give_back(turn, record):
            _give_back(turn, record)
        case Decision.DROP_REQUEST if may_swap:
            _drop_request(turn, record)
        case Decision.CONDEMN if may_swap:
            _condemn(turn, record)
        case Decision.FENCE if may_swap and view.fenced_term == record.term:
            _confirm(turn, record, f"the fence agents that {view.me.name} asked")
        case _ if _renewal_due(turn, record):
            turn.keep(renewed_ms=view.now_ms)
            renewed = replace(record, counter=record.counter + 1, ttl_ms=view.policy.ttl_ms)
            _look_at_the_bound(turn)
            _swap(turn, Purpose.RENEW, record, bounded.renewed(view, renewed))
        case _ if may_swap:
            _pass_on(turn, record)
        case _:
            pass


def _renewal_due(turn: Turn, record: Record) -> bool:
    view, sent_ms = turn.view, turn.state.renewed_ms
    if view.valid is None or record.term != view.valid.term or record.condemned_by is not None:
        return False  # of a condemned term nobody may see the counter move again
    return _may_renew(turn) and (sent_ms is None or view.reached(sent_ms + view.policy.renew_ms))


def _may_renew(turn: Turn) -> bool:
    """A leaving holder keeps the lease while it closes, for one ttl: others must not wait for one that is stuck."""
    leaving, view = turn.view.leaving, turn.view
    if leaving is None:
        return True
    longest_ms = view.policy.ttl_ms
    if leaving.undo and view.policy.store_moves:  # planned: what cannot be left by then is taken back
        longest_ms += plan.DEADLINES[StepKind.STOP_SERVICES] + view.policy.store_ms
    return leaving.renew and not view.reached(leaving.began_ms + longest_ms)


def _look_at_the_bound(turn: Turn) -> None:
    """An alarm where a failover would not be possible for a whole lease; a new primary's replicas come back first."""
    view, was = turn.view, turn.view.beyond
    if not bounded.out_of_bounds(view):
        if was is not None:
            turn.see(beyond=None)
            if was[1]:
                turn.note("alarm-over", "a replica is within the bound again", code="RPO_BEYOND_BOUND")
    elif was is None:
        turn.see(beyond=(view.now_ms, False))
    elif not was[1] and view.reached(was[0] + view.policy.ttl_ms):
        turn.see(beyond=(was[0], True))
        turn.note("alarm", bounded.in_words(view), code="RPO_BEYOND_BOUND")


def _mark(turn: Turn, record: Record) -> bool:
    """Have the store say that commits go unproven, before they do or as soon as they did."""
    why, facts = unproven.to_be_marked(turn.view), turn.view.database
    if not why or facts is None:
        return False
    turn.keep(marking=facts.unacknowledged)
    if turn.view.policy.bound_ms is not None:
        turn.note("rpo-bounded", f"telling the store: {why}")
        _swap(turn, Purpose.MARK, record, bounded.marked(turn.view, unproven.marked(record, why)))
        return True
    turn.note("rpo-unproven", f"telling the store: {why}", code="RPO_UNPROVEN")
    _swap(turn, Purpose.MARK, record, unproven.marked(record, record.unproven or why))
    return True


def _clear(turn: Turn, record: Record) -> bool:
    """Have the store say that it is proven again. From now on only a new MARK lets commits go."""
    view, waits = turn.view, turn.view.waits
    by = unproven.proven_by(view)
    stopping = any(step.kind is StepKind.STOP_WAITING for step in turn.state.progress.running)
    if by is None or waits is None or stopping:
        return False
    turn.note("rpo-proven", f"telling the store: {by} has all that was let go here, and commits wait again")
    turn.see(marked_term=0)
    turn.keep(marking=waits.count)
    _swap(turn, Purpose.CLEAR, record, unproven.marked(record, ""))
    return True


def _pass_on(turn: Turn, record: Record) -> None:
    """Put into the store what must stand there first, or what an operator asked of this node."""
    if _mark(turn, record) or _clear(turn, record):
        return
    asked, confirmed = turn.state.asked, turn.state.confirmed
    if forced.to_be_dropped(turn.view):
        _drop_request(turn, record)
    elif turn.state.order is not None and record.version > 0 and _order(turn, record, turn.state.order):
        pass
    elif confirmed is not None and (record.term, record.holder) == (confirmed.term, confirmed.node):
        _confirm(turn, record, f"{confirmed.by}: {confirmed.reason}", by=confirmed.by)
    elif asked is not None:
        _request(turn, record, asked)
    elif orders.may_look(turn.view):
        _look_at_the_time(turn, record)


def _order(turn: Turn, record: Record, order: Order) -> bool:
    """Put into the store what an operator ordered, unless it was overtaken."""
    why = orders.overtaken(turn.view, record, order)
    if why is not None:
        turn.note("request-dropped", why.reason, code=why.code, by=order.by)
        turn.keep(order=None)
        return False
    _swap(turn, Purpose.ORDER, record, orders.applied(record, order))
    return True


def _look_at_the_time(turn: Turn, record: Record) -> None:
    """What has run out, and what is due."""
    left = orders.without_run_out(turn.view, record)
    if left is not record:
        _swap(turn, Purpose.RUN_OUT, record, left)
    elif turn.view.i_hold():
        begun = orders.look_at_schedule(turn.view, record)
        if begun is not record:
            _swap(turn, Purpose.SCHEDULE, record, begun)


def _condemn(turn: Turn, record: Record) -> None:
    """Revoke the holder's term, so that it cannot renew while its power is being cut."""
    view = turn.view
    turn.see(takeover_sent=lease.Unanswered(record.version, term=0, sent_ms=view.now_ms))
    turn.note("condemn", f"asking the store to revoke term {record.term} of {record.holder}")
    _swap(turn, Purpose.CONDEMN, record, replace(record, condemned_by=view.me.name))


def _confirm(turn: Turn, record: Record, who: str, *, by: str = "") -> None:
    turn.note("confirm", f"telling the store that {record.holder} has no power: {who}", by=by)
    condemner = record.condemned_by or turn.view.me.name
    off = replace(record, condemned_by=condemner, off=who)
    _swap(turn, Purpose.CONFIRM, record, orders.named(off, orders.OFF, by))


def _swap(turn: Turn, purpose: Purpose, expected: Record, record: Record) -> None:
    if expected.sealed:  # whatever comes next stands where it counts
        record = replace(record, sealed=False)
    swap = Swap(purpose, expected.version, record, turn.view.now_ms)
    turn.keep(swap=swap)
    turn.effects.append(swap)


def _take_over(turn: Turn, record: Record, rule: Rule) -> None:
    view, request = turn.view, record.request
    reason = rule.id
    if rule.id == forced.FORCED and request is not None:
        reason = forced.reason_of(view, request)
        turn.note("forced", reason, by=request.by, reason=request.reason, request=request.id)
    by_floor = rule.id != forced.FORCED and candidates.rests_on_a_floor(view)
    if by_floor:
        reason = f"{rule.id}: {bounded.given_up(record)}"
        turn.note("rpo-bounded", f"{view.me.name} {bounded.given_up(record)}")
    taken = Record(
        version=record.version,
        term=record.term + 1,
        holder=view.me.name,
        ttl_ms=view.policy.ttl_ms,
        began=view.position_of(view.me.name),
        previous=record.holder,
        reason=reason,
        request=request,
        unproven=record.unproven,
        marks=record.marks,
        forced=record.term + 1 if rule.id == forced.FORCED else record.forced,
        bounded=record.term + 1 if by_floor else record.bounded,
        moves=record.moves,
        moved_to=record.moved_to,
    )
    taken = orders.after_takeover(record, taken)
    if rule.decision is Decision.TAKE_OVER:
        taken = bounded.taken(view, taken)
    # One that names this version already stands for both, also if an earlier run of this daemon sent it: it may be
    # the one that arrives, and long ago.
    if view.takeover_sent is None or view.takeover_sent.version != record.version:
        turn.see(takeover_sent=lease.Unanswered(record.version, taken.term, view.now_ms))
    # For whoever asks how long clients had no primary: where the old one died, nobody else knows.
    silent = {"silent_ms": str(view.now_ms - view.watch.first_seen_ms)} if view.watch is not None else {}
    by = orders.asked_by(record, view.me.name)
    text = f"asking the store for term {taken.term}"
    turn.note("take-over", text, by=by, previous=str(record.holder or ""), **silent)
    _swap(turn, Purpose.ADOPT if rule.decision is Decision.ADOPT else Purpose.TAKE_OVER, record, taken)


def _may_give_back(turn: Turn, record: Record) -> bool:
    view, leaving = turn.view, turn.view.leaving
    if not view.mail_store_left():
        return False  # whoever is told that the term is over takes it at once
    if leaving is None:
        return True  # a lease that ended by itself: the rule has looked at the rest
    if record.term != leaving.term or record.holder != view.me.name or record.revoked:
        return False
    killed = turn.state.progress.done(StepKind.KILL_DATABASE)
    return view.gate is GateState.CLOSED and (rules.demoted(view) or (killed and view.database is None))


def _give_back(turn: Turn, record: Record) -> None:
    view, leaving = turn.view, turn.view.leaving
    successor = leaving.successor if leaving is not None else None
    position = view.database.position if view.database else None
    by, text = orders.asked_by(record, successor), f"telling the store that term {record.term} is over"
    turn.note("give-back", text, by=by, successor=str(successor or ""))
    given = replace(record, revoked=True, successor=successor, position=position)
    withdrawn = forced.withdrawn(view, record.request)
    if withdrawn is not None and record.request is not None:
        words, code, by = withdrawn.reason, withdrawn.code, record.request.by
        turn.note("request-ended", words, code=code, by=by, request=withdrawn.id, succeeded="false")
        given = replace(given, request=None, request_ended=withdrawn)
    _swap(turn, Purpose.GIVE_BACK, record, bounded.given_back(view, given))


def _request(turn: Turn, record: Record, asked: Request) -> None:
    if asked.allow_loss and (record.version == 0 or not turn.view.lease_is_over()):
        text = "no primary is lost: there is nothing to force"
        turn.note("request-dropped", text, code="BLK_LEASE", by=asked.by, request=asked.id)
        turn.keep(asked=None)
    elif record.version == 0:  # no primary yet: the operator names the first
        given = Record(revoked=True, successor=asked.target, ttl_ms=turn.view.policy.ttl_ms, request=asked)
        _swap(turn, Purpose.REQUEST, record, given)
    else:
        _swap(turn, Purpose.REQUEST, record, replace(record, request=asked))


def _drop_request(turn: Turn, record: Record) -> None:
    request = record.request
    if request is None:
        return
    ended = _why_ended(turn, request)
    told = str(ended.succeeded).lower()
    turn.note("request-ended", ended.reason, code=ended.code, by=request.by, request=request.id, succeeded=told)
    _swap(turn, Purpose.DROP_REQUEST, record, replace(record, request=None, request_ended=ended))


def _why_ended(turn: Turn, request: Request) -> RequestEnded:
    view = turn.view
    if request.target == view.me.name and (view.i_hold() or not request.allow_loss):
        how = f": {view.record.reason}" if view.record and forced.was_forced(view.record.reason) else ""
        return RequestEnded(request.id, succeeded=True, reason=f"{view.me.name} is primary as asked{how}")
    if view.request_failed is not None and view.request_failed.id == request.id:
        return view.request_failed
    if request.allow_loss:
        return forced.ended(view, request)
    why = candidates.planned_rejection(view, request.target)
    code = why.code if why else "BLK_REQUEST"
    reason = why.reason if why else f"it could not be begun within {view.policy.request_ms} ms"
    if request.term != view.highest_term:
        reason = f"{request.target} did not take the term that it was given, {view.me.name} is primary: {reason}"
        return RequestEnded(request.id, succeeded=False, code="SWITCHOVER_FAILED", reason=reason)
    return RequestEnded(request.id, succeeded=False, refused=True, code=code, reason=reason)
