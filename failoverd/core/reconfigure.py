"""Other thresholds while the node runs: taken between changes of primary, never within one.

A plan that has begun is ended by the thresholds that it was begun with: what is compared with one limit at its first
step and with another at its last could be refused half-way. So a new policy waits until nothing of a change is under
way here, and then takes the place of the old one whole. Role, lease, gate and what runs are not touched by it.

What a change would have to be agreed on with the other nodes, or with a lease that is running, is refused: the timings
of a lease are what the other nodes count with.
"""

from __future__ import annotations

from dataclasses import fields

from failoverd.core.effects import Purpose
from failoverd.core.events import Reconfigured
from failoverd.core.model import NodeKind
from failoverd.core.policy import Policy
from failoverd.core.turn import Turn
from failoverd.core.view import GateState

# What the nodes count with together, and what of a running server, unit or plan was made by it: for the next start.
FIXED = frozenset(
    {
        "database_unit",
        "ttl_ms",
        "renew_ms",
        "margin_ms",
        "demote_budget_ms",
        "heartbeat_ms",
        "report_ms",
        "report_max_age_ms",
        "acknowledgements",
        "bound_ms",
        "fenced",
        "fence_required",
        "fence_ms",
        "store_moves",
        "store_ms",
        "store_unfenced",
        "shared_disk",
    }
)


def differences(old: Policy, new: Policy) -> tuple[str, ...]:
    """The names of what differs."""
    return tuple(field.name for field in fields(Policy) if getattr(old, field.name) != getattr(new, field.name))


def refusal(old: Policy, new: Policy) -> str:
    """Why `new` cannot take the place of `old` without a restart; "" where it can."""
    fixed = [name for name in differences(old, new) if name in FIXED]
    if fixed:
        return f"{', '.join(fixed)}: only at a start"
    if [(name, unit) for name, unit, _ in old.services] != [(name, unit) for name, unit, _ in new.services]:
        return "services: only at a start"
    return ""


def asked(turn: Turn, event: Reconfigured) -> None:
    """Keep it until nothing is under way. A wrong one is a bug of who asked."""
    assert not refusal(turn.view.policy, event.policy), refusal(turn.view.policy, event.policy)  # noqa: S101
    turn.keep(policy=event.policy, policy_by=event.by)
    if _under_way(turn):
        text = f"{event.by} asked for other thresholds: they wait for the change that is under way"
        turn.note("reconfigured", text, by=event.by)


def take(turn: Turn) -> None:
    """Put what is kept in force, as soon as nothing is under way."""
    policy = turn.state.policy
    if policy is None or _under_way(turn):
        return
    old = turn.view.policy
    changed = [(name, getattr(old, name), getattr(policy, name)) for name in differences(old, policy)]
    by = turn.state.policy_by
    turn.see(policy=policy)
    turn.keep(policy=None, policy_by="")
    if changed:
        words = ", ".join(f"{name} {before} -> {after}" for name, before, after in changed)
        turn.note("reconfigured", f"other thresholds are in force: {words}", by=by)


def _under_way(turn: Turn) -> bool:
    state, view = turn.state, turn.view
    if state.progress.running or state.asked is not None or view.leaving is not None:
        return True
    if view.record is not None and view.record.request is not None:
        return True
    if state.swap is not None and state.swap.purpose not in (Purpose.RENEW, Purpose.MARK):
        return True
    return view.me.kind is NodeKind.DATA and view.i_hold() and view.gate is not GateState.OPEN
