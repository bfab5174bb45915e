"""What the end of a step says: how the plan stands, and what this node is now."""

from __future__ import annotations

from dataclasses import replace

from failoverd.core import mail_store, plan
from failoverd.core.effects import KeepLease, StepKind
from failoverd.core.events import StepEnded
from failoverd.core.known import Stuck
from failoverd.core.model import Outcome, RequestEnded
from failoverd.core.plan import Ended
from failoverd.core.restarts import failures_told
from failoverd.core.rules import Decision
from failoverd.core.turn import Turn
from failoverd.core.view import GateState

NOBODY_LISTENS = "DB_REFUSED"  # databases.CODES
STUCK_FAILURES = 5  # attempts at one step of a promotion, some seconds, before another node may do better


def step_ended(turn: Turn, event: StepEnded) -> None:
    """A step of this node's own plan ended."""
    done, progress = event.step, turn.state.progress
    was = progress.of(done.kind)
    succeeded = event.outcome is Outcome.SUCCEEDED
    failures = 0 if succeeded else (was.failures if was else 0) + 1
    running = tuple(step for step in progress.running if step.number != done.number)
    progress = replace(progress, running=running)
    # One that outlived its term says nothing of the plan of this one: its receiver was stopped for another.
    decision, term = progress.key
    if decision and done.term == term and done.kind in plan.PLANS.get(Decision(decision), ()):
        ended = Ended(done.kind, event.outcome, turn.view.now_ms, failures, event.code, event.reason)
        progress = progress.with_ended(ended)
    turn.keep(progress=progress)
    turn.note(
        "step-ended",
        f"{done.kind.value}: {event.outcome.value}" + (f", {event.reason}" if event.reason else ""),
        code=event.code,
        step=str(done.number),
        name=done.kind.value,
        outcome=event.outcome.value,
    )
    if event.facts is not None:
        turn.read(event.facts)
        turn.keep(facts_from_ms=turn.view.now_ms)
    if done.kind is StepKind.STOP_WAITING:
        turn.see(waits=None)  # also when it failed: it may have happened
    if done.kind in plan.PLANS[Decision.SERVE] and done.kind not in plan.OPTIONAL | plan.AT_LEISURE:
        enough = failures >= STUCK_FAILURES or event.code == mail_store.REFUSED
        worn = not succeeded and enough and turn.view.i_hold()
        text = f"{done.kind.value}: {event.reason}"
        turn.see(stuck=Stuck(event.code, text, turn.view.now_ms) if worn else None)
    if done.kind is StepKind.START_REBUILD:
        turn.see(rejoin_starts=(*turn.view.rejoin_starts[-15:], turn.view.now_ms))
    _step_means(turn, event, succeeded=succeeded)


def _step_means(turn: Turn, event: StepEnded, *, succeeded: bool) -> None:  # noqa: C901 - one case a step
    """What the end of a step says of this node, beyond its facts."""
    view, done = turn.view, event.step
    match done.kind:
        case StepKind.CLOSE_GATE:
            turn.see(gate=GateState.CLOSED if succeeded else GateState.UNKNOWN)
        case StepKind.OPEN_GATE:
            open_now = succeeded and view.i_hold() and done.term == view.highest_term
            turn.see(gate=GateState.OPEN if open_now else GateState.UNKNOWN)
        case StepKind.FREEZE if succeeded:
            turn.see(frozen_term=done.term)
        case StepKind.MAKE_WRITABLE if succeeded:
            turn.see(served_term=done.term, frozen_term=None, beat_seen_ms=view.now_ms)
        case StepKind.FOLLOW:
            turn.see(frozen_term=None)  # also when it failed: the receiver may run
        case StepKind.KILL_DATABASE if succeeded:
            turn.see(database=None)
            turn.keep(facts_from_ms=view.now_ms)
        case StepKind.FENCE if succeeded:
            turn.see(fenced_term=done.term)
        case StepKind.RESTART_UNIT:
            restarts = tuple(
                replace(r, ended_ms=view.now_ms, worked=succeeded, failures_told=failures_told(view, r.service))
                if r.service == done.service and r.ended_ms is None
                else r
                for r in view.restarts
            )
            turn.see(restarts=restarts)
        case StepKind.MAKE_READ_ONLY if not succeeded:
            _not_read_only(turn, event)
        case kind if kind in mail_store.STEPS:
            _mail_store_step(turn, event, succeeded=succeeded)
        case _:
            pass


def _not_read_only(turn: Turn, event: StepEnded) -> None:
    if event.code == NOBODY_LISTENS:  # there is no server to be killed: what was known is of one that has ended
        turn.see(database=None)
        turn.keep(facts_from_ms=turn.view.now_ms)
    _take_back(turn, event)


def _mail_store_step(turn: Turn, event: StepEnded, *, succeeded: bool) -> None:
    view, done = turn.view, event.step
    mine = view.i_hold() and done.term == view.highest_term
    state = mail_store.after(view.mail_store, done.kind, succeeded=succeeded, mine=mine)
    turn.see(mail_store=state, mail_store_ms=view.now_ms)
    if done.kind in mail_store.LEAVING and not succeeded:
        _take_back(turn, event)


def _take_back(turn: Turn, event: StepEnded) -> None:
    """A planned switchover whose holder cannot let go of something is undone: it goes on as the primary."""
    view = turn.view
    if view.leaving is None or not view.leaving.undo or event.step.term != view.leaving.term:
        return
    request = view.record.request if view.record else None
    turn.see(leaving=None)
    if view.valid is not None:
        turn.effects.append(KeepLease(view.valid))
    if request is not None:
        failed = RequestEnded(request.id, succeeded=False, code=event.code, reason=event.reason)
        turn.see(request_failed=failed)
    who = {"request": request.id, "by": request.by} if request is not None else {}
    turn.note("switchover-undone", f"taken back before the point of no return: {event.reason}", code=event.code, **who)
