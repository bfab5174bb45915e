"""step(state, event) -> (state, effects, entries): the controller as a pure function.

    event ──absorb──> view ──rules──> decision ──plan──> next step ──> effects
                                  └──────────────────────────────────> entries (audit), written before the effects

Production, the simulator, `--dry-run` and `explain` differ only in who feeds events and who runs effects. Rules are
evaluated on what is, at each event: a lost event costs a tick, never the outcome.

**Quiet.** Where acting on a state changed nothing and asked for nothing, it would go on so until something is heard
or until the earliest moment that any of the questions asked on the way still waits for (`View.waits_for_ms`). Up to
there a tick, another look that found the same, or a report where no report was asked for anything need not be acted
on, and the node may sleep.
"""

from __future__ import annotations

from failoverd.core.absorb import absorb, nothing_new
from failoverd.core.act import act, keep_going
from failoverd.core.events import (
    AcknowledgeAsked,
    Asked,
    ClockSet,
    Confirmed,
    Event,
    MaintenanceAsked,
    MoveAsked,
    Observed,
    Order,
    PauseAsked,
    Reconfigured,
    RejoinAsked,
    Reported,
    ScheduleAsked,
    StepEnded,
    StoreSeen,
    Swapped,
    TargetSeen,
    Ticked,
)
from failoverd.core.state import Reaction, State, make_report, role_of
from failoverd.core.turn import Turn
from failoverd.core.view import View

__all__ = [
    "AcknowledgeAsked",
    "Asked",
    "ClockSet",
    "Confirmed",
    "Event",
    "MaintenanceAsked",
    "MoveAsked",
    "Observed",
    "Order",
    "PauseAsked",
    "Reaction",
    "Reconfigured",
    "RejoinAsked",
    "Reported",
    "ScheduleAsked",
    "State",
    "StepEnded",
    "StoreSeen",
    "Swapped",
    "TargetSeen",
    "Ticked",
    "make_report",
    "next_wake_ms",
    "role_of",
    "step",
]

TICK_MS = 100  # after something was done: what follows from it is decided then at the latest


def step(state: State, event: Event, now_ms: int) -> Reaction:
    """Absorb one event at `now_ms` (this node's clock, never going back) and say what to do next."""
    turn = Turn(state, now_ms)
    absorb(turn, event)
    view = turn.view
    if view.now_ms < state.quiet_until_ms and nothing_new(state, turn, event):
        still = state.changed(view=view, quiet_until_ms=state.quiet_until_ms, heeds=state.heeds)
        return Reaction(still, (), ())
    kept, asked = turn.state, len(turn.effects) + len(turn.entries)
    act(turn)
    settled = turn.view is view and turn.state is kept and len(turn.effects) + len(turn.entries) == asked
    due_ms = keep_going(turn)
    after = turn.state.changed(view=turn.view)
    if settled and turn.view.memory is view.memory:
        quiet_until_ms = min(due_ms, _quiet_until_ms(view))
        after = turn.state.changed(view=turn.view, quiet_until_ms=quiet_until_ms, heeds=view.asked_of_reports)
    return Reaction(after, tuple(turn.effects), tuple(turn.entries))


def _quiet_until_ms(view: View) -> int:
    """Until when nothing is to be done, where nothing was to be done with this view just now.

    No longer than a renewal takes to be due, so that what nobody has thought of is looked at all the same.
    """
    deadline_ms = view.held.deadline_ms if view.held is not None else view.waits_for_ms
    return min(view.waits_for_ms, deadline_ms, view.now_ms + view.policy.renew_ms)


def next_wake_ms(state: State) -> int:
    """When `Ticked` is due at the latest: when the quiet ends, or soon after something was done."""
    view, policy = state.view, state.view.policy
    if state.quiet_until_ms > view.now_ms:
        return state.quiet_until_ms
    moments = [view.now_ms + TICK_MS]
    if view.watch is not None and view.record is not None:
        moments += [view.watch.first_seen_ms + policy.lapse_ms, view.watch.first_seen_ms + view.record.ttl_ms]
    if view.held is not None:
        moments += [view.held.deadline_ms - policy.step_down_before_ms, view.held.deadline_ms]
        if state.renewed_ms is not None:
            moments.append(state.renewed_ms + policy.renew_ms)
    return min(moment for moment in moments if moment > view.now_ms)
