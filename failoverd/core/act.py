"""Deciding on what is known, and asking for the next thing: of this node, and of the others by a report.

    rules ──> decision ──┬──> swaps.ask_store   the record
                         └──> plan ──> step      this node

What is asked of the store has a file of its own.
"""

from __future__ import annotations

from dataclasses import replace

from failoverd.core import bounded, candidates, migration, plan, rejoin, rejoining, rules
from failoverd.core.effects import Beat, Cancel, KeepLease, Perform, Push, Remember, StepKind
from failoverd.core.known import NEVER_MS
from failoverd.core.lease import Memory
from failoverd.core.mail_store import LEAVING, StoreState
from failoverd.core.plan import Progress
from failoverd.core.rules import Decision, Rule
from failoverd.core.state import make_report, substance
from failoverd.core.swaps import ask_store, forget_old_request
from failoverd.core.turn import Turn
from failoverd.core.view import Leaving, Restart, View

SAY_MS = 1000  # how long a lease may be over before its end is worth an explanation


def act(turn: Turn) -> None:
    """Decide on what is, and ask for the next thing."""
    rejoining.look(turn)
    rule = _decide(turn)
    if rule.decision is Decision.REJOIN:
        wanted = rejoin.by_rule(turn.view)
        if wanted is None:
            raise AssertionError("due only where there is a donor")
        rejoining.begin(turn, wanted)
        rule = _decide(turn)
    if rule.decision is Decision.LET_GO:
        held = turn.view.held
        if held is None:
            raise AssertionError("only a holder lets go")
        successor = rules.successor_for(turn.view, rule)
        turn.see(
            leaving=Leaving(
                term=held.term,
                successor=successor,
                rule=rule.id,
                renew=rule.id not in ("lease-running-out", "condemned"),
                undo=rule.id == "switchover-asked",
                began_ms=turn.view.now_ms,
            )
        )
        # A daemon that is started in between must not find a lease that the store may have been told is over.
        turn.effects.append(KeepLease(held, leaving=True))
        rule = _decide(turn)
    forget_old_request(turn)
    _say_why_not(turn)
    ask_store(turn, rule)
    _follow_plan(turn, rule)


def keep_going(turn: Turn) -> int:
    """What is due again and again, whatever is decided: nothing else follows from it. Returns when it is next."""
    due_ms = min(_beat(turn), _report(turn))
    _remember(turn)
    return due_ms


def _remember(turn: Turn) -> None:
    """Have on disk what this node must not forget, before anything of this turn is begun."""
    view, record, memory = turn.view, turn.view.record, turn.view.memory
    if record is not None and record.term == view.highest_term:
        holder, ttl_ms = record.holder, record.ttl_ms
    elif memory.term == view.highest_term:
        holder, ttl_ms = memory.holder, memory.ttl_ms
    else:
        holder, ttl_ms = None, 0
    sent = view.takeover_sent
    caught_up = view.database.run if view.database is not None and view.catches_up() else memory.caught_up
    version = sent.version if sent is not None else None
    said = record if record is not None and record.marks >= memory.marks else memory
    moves, moved_to = migration.to_remember(view)
    kept = Memory(
        view.highest_term,
        holder,
        ttl_ms,
        version,
        caught_up,
        _let_go(view),
        unproven=said.unproven,
        marks=said.marks,
        rejoin=view.rejoin,
        rejoin_failures=view.rejoin_failed[0],
        rejoin_failed_ms=view.rejoin_failed[1],
        floor_ms=bounded.to_remember(view),
        moves=moves,
        moved_to=moved_to,
    )
    if kept != memory:
        turn.see(memory=kept)
        turn.effects.insert(0, Remember(kept))


def _let_go(view: View) -> int:
    """How many commits its server had let go when it began to serve, or when the store was last told of some."""
    facts, told = view.database, view.let_go
    if facts is not None and (view.memory.term != view.highest_term or (facts.read_only and view.i_hold())):
        return facts.unacknowledged
    if told is not None and told[0] == view.highest_term:
        return told[1]
    return view.memory.let_go if view.memory.term == view.highest_term else 0


def _decide(turn: Turn) -> Rule:
    rule, turn.decided_on = rules.decide(turn.view), turn.view
    if turn.state.rule is None or rule.id != turn.state.rule.id:
        turn.keep(rule=rule)
        turn.note("decision", f"{rule.decision.value}: {rule.why}", holder=str(turn.view.holder or ""))
    return rule


def _say_why_not(turn: Turn) -> None:
    """A failover that does not come says why not, once for each set of reasons."""
    view = turn.view
    record, watch = view.record, view.watch
    due = (
        record is not None
        and watch is not None
        and view.reached(watch.first_seen_ms + record.ttl_ms + SAY_MS + 1)
        and not (view.i_am_arbiter() or view.valid is not None)
        and (view.lease_is_over() or view.told_of_newer())
    )
    blocked = candidates.why_not(view) if due else ()
    codes = tuple(rejected.code for rejected in blocked)
    if codes != turn.state.blocked:
        turn.keep(blocked=codes)
        for rejected in blocked:
            turn.note("blocked", rejected.reason, code=rejected.code)


def _follow_plan(turn: Turn, rule: Rule) -> None:
    decision, progress = rule.decision, turn.state.progress
    if decision in (Decision.DROP_REQUEST, Decision.RESTART_UNIT):
        decision = Decision.SERVE  # neither interrupts a promotion, nor makes it begin anew
    key = (decision.value, turn.view.highest_term)
    kinds = plan.PLANS.get(decision, ())
    if progress.key != key:
        progress = Progress(key=key, running=progress.running, number=progress.number)
        for running in progress.running:
            if running.kind not in kinds:
                turn.effects.append(Cancel(running))
    contradicted = {k for k in plan.undone(turn.view, decision, progress) if progress.done(k)}
    if contradicted:
        progress = progress.without(contradicted)
        turn.note("undone", "not as this node left it: " + ", ".join(sorted(k.value for k in contradicted)))
    if progress is not turn.state.progress:
        turn.keep(progress=progress)
    while (kind := plan.next_step(turn.view, decision, turn.state.progress)) is not None:
        if not _begin(turn, kind) or kind not in LEAVING:
            return


def _begin(turn: Turn, kind: StepKind) -> bool:
    """Begin a step, unless its lane has something else to do."""
    progress = turn.state.progress
    step = plan.make_step(turn.view, kind, progress.number + 1)
    if any(other.lane is step.lane for other in progress.running):
        return False
    progress = replace(progress, running=(*progress.running, step), number=step.number)
    turn.keep(progress=progress)
    if kind is StepKind.RESTART_UNIT:
        begun = Restart(step.service, turn.view.now_ms, None, worked=False)
        turn.see(restarts=(*turn.view.restarts[-15:], begun))
    if kind is StepKind.TAKE_STORE:  # it may be here from now on, whatever becomes of this
        turn.see(mail_store=StoreState.UNKNOWN, mail_store_ms=turn.view.now_ms)
    turn.note(
        "step",
        f"{kind.value}" + (f" {step.unit or step.address or step.target or ''}".rstrip()),
        step=str(step.number),
        name=kind.value,
    )
    turn.effects.append(Perform(step))
    return True


def _beat(turn: Turn) -> int:
    view, state = turn.view, turn.state
    # From before the gate opens: what a client writes in this term comes after a heartbeat of it.
    writable = view.i_hold() and view.served_term == view.highest_term
    if not writable or not view.reached(state.beat_ms + view.policy.heartbeat_ms):
        return NEVER_MS
    stands = view.database.heartbeat_beat if view.database else 0
    beat = max(state.beat, stands) + 1
    turn.keep(beat=beat, beat_ms=view.now_ms)
    turn.effects.append(Beat(view.highest_term, beat))
    return view.now_ms + view.policy.heartbeat_ms


def _report(turn: Turn) -> int:
    """Push at each interval, and at once when something changed that others decide on."""
    view, state = turn.view, turn.state
    told = substance(view, state.rule, state.progress)
    interval_ms = view.policy.renew_ms // 2 if view.asking() else view.policy.report_ms  # each asking is a round
    if state.pushed_ms is not None and not view.reached(state.pushed_ms + interval_ms) and told == state.pushed:
        return NEVER_MS
    turn.see(sendings=view.sendings.sent(view.now_ms))
    turn.keep(pushed_ms=view.now_ms, pushed=told)
    turn.effects.append(Push(make_report(turn.state.changed(view=turn.view))))
    return view.now_ms + interval_ms
