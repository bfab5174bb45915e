"""What operators put into the record beside a switchover: a pause, maintenance, an acknowledgement, a schedule.

    asked ──> state.order ──swap──> the record, which every node goes by ──run out──> swapped away again
    scheduled ──due, the holder looks again──> request (as `promote` makes one) │ dropped, and why

An order is a change of the record: it is done when making it once more would change nothing. So it does not matter
whether an answer came, or who else changed what meanwhile.

**Wall clocks.** An end and a due time are moments that people name, milliseconds since 1970. The core reads no clock:
`View.epoch_ms` says what the wall clock was when this node's own clock began, and where that is not known nothing runs
out and nothing scheduled begins. The valid holder looks, or where there is none any data node, and what it finds it
puts into the record. All others go by the record alone.

**A wrong wall clock is harmless.** It ends a pause or a maintenance too early or too late, or begins a switchover too
early or too late that a person asked for and that is checked as any other. No lease, promise, fence, position or vote
depends on one of these moments: who may take over, and when, is counted as before.
"""

from __future__ import annotations

from dataclasses import replace

from failoverd.core import candidates, migration
from failoverd.core.events import AcknowledgeAsked, MaintenanceAsked, MoveAsked, Order, PauseAsked, ScheduleAsked
from failoverd.core.model import Maintenance, NodeName, Ordered, Record, Rejected, Request, RequestEnded, Scheduled
from failoverd.core.view import View

LATE_MS = 600_000  # a switchover of three o'clock is not begun at noon
AHEAD_MOST_MS = 366 * 86_400_000
# What an order may be on, for Record.ordered.
PAUSE, ACKNOWLEDGED, SCHEDULE, OFF, MOVE = "pause", "acknowledged", "schedule", "off", "store"

# How a scheduled switchover may end without a blocker's code; each has a page in runbooks/.
CODES = {
    "SCHEDULE_CANCELLED": "an operator has cancelled the scheduled switchover",
    "SCHEDULE_LATE": "nobody could begin the scheduled switchover within ten minutes",
    "SCHEDULE_MOVED": "the role has moved since the switchover was scheduled",
}


# ---- orders, as changes of the record ---------------------------------------------------------------------------


def applied(record: Record, order: Order) -> Record:
    """The record as the order wants it, with who gave it: the same object where it says so already."""
    wanted = _wanted(record, order)
    return record if wanted == record else named(wanted, _subject(order), order.by)


def maintenance_of(node: NodeName) -> str:
    """What an order on a node's maintenance is on."""
    return f"maintenance of {node}"


def named(record: Record, what: str, by: str) -> Record:
    """The record with who gave the newest order on `what`; "": it has become as it is by itself."""
    others = tuple(known for known in record.ordered if known.what != what)
    return replace(record, ordered=(*others, Ordered(what, by)) if by else others)


def by_whom(record: Record, what: str) -> str:
    """Who gave the newest order on `what`; "" where it became so by itself, or nobody knows."""
    return next((known.by for known in record.ordered if known.what == what), "")


def asked_by(record: Record, node: NodeName | None) -> str:
    """Who has asked for `node` as primary, of the request in flight; "": nobody."""
    request = record.request
    return request.by if request is not None and request.target == node else ""


def _subject(order: Order) -> str:
    match order:
        case PauseAsked():
            return PAUSE
        case MaintenanceAsked(node, _, _):
            return maintenance_of(node)
        case AcknowledgeAsked():
            return ACKNOWLEDGED
        case ScheduleAsked():
            return SCHEDULE
        case MoveAsked():
            return MOVE


def _wanted(record: Record, order: Order) -> Record:
    match order:
        case PauseAsked(paused, _, until_ms):
            return replace(record, paused=paused, paused_until_ms=until_ms if paused else 0)
        case MaintenanceAsked(node, _, wanted):
            others = tuple(known for known in record.maintenance if known.node != node)
            return replace(record, maintenance=others if wanted is None else (*others, wanted))
        case AcknowledgeAsked(term, by, reason):
            said = f"{by}: {reason}" if reason else by
            return replace(record, acknowledged=term, acknowledged_by=said) if term > record.acknowledged else record
        case ScheduleAsked():
            return _scheduled(record, order)
        case MoveAsked(_, place, moves):
            return replace(record, moves=moves, moved_to=place, sealed=True) if moves > record.moves else record


def _scheduled(record: Record, order: ScheduleAsked) -> Record:
    known = record.scheduled
    if order.scheduled is not None:
        return replace(record, scheduled=order.scheduled)
    if known is None or known.id != order.cancelled:
        return record
    return dropped(record, known, "SCHEDULE_CANCELLED", f"{order.by} has cancelled it")


def stands(record: Record, order: Order) -> bool:
    """Whether the record says so already; of a schedule also whether it did, and has come to something."""
    if isinstance(order, ScheduleAsked) and order.scheduled is not None:
        told = (record.request, record.request_ended, record.schedule_ended)
        if any(known is not None and known.id == order.scheduled.id for known in told):
            return True
    return applied(record, order) == record


def overtaken(view: View, record: Record, order: Order) -> Rejected | None:
    """Why an order that was taken cannot be put into the record any more, or None."""
    match order:
        case MaintenanceAsked(node, _, wanted) if wanted is not None and node == record.holder:
            return None if view.lease_is_over() else _is_primary(view, node)
        case ScheduleAsked(_, wanted, _) if wanted is not None and wanted.term != record.term:
            return Rejected(wanted.target, "SCHEDULE_MOVED", _moved(record))
        case ScheduleAsked(_, wanted, _) if wanted is not None and record.scheduled is not None:
            return _already(view, record.scheduled)
        case MoveAsked(_, place, moves) if record.moves < moves:
            return next(iter(migration.sealing_rejections(view, place)), None)
        case _:
            return None


def in_words(order: Order) -> str:
    """Who asks for what, for the audit."""
    match order:
        case PauseAsked(paused, by, _):
            return f"{by} {'pauses' if paused else 'resumes'}"
        case MaintenanceAsked(node, by, wanted):
            return f"{by} {'begins' if wanted is not None else 'ends'} maintenance of {node}"
        case AcknowledgeAsked(term, by, _):
            return f"{by} acknowledges the changes of primary up to term {term}"
        case ScheduleAsked(by, wanted, cancelled):
            return f"{by} schedules {wanted.target} as primary" if wanted is not None else f"{by} cancels {cancelled}"
        case MoveAsked(by, _, moves):
            return f"{by} has the record move to the next store, move {moves}"


def reason_of(order: Order) -> str:
    """The words that came with it."""
    match order:
        case PauseAsked(paused, _, _):
            return paused
        case MaintenanceAsked(_, _, wanted) | ScheduleAsked(_, wanted, _):
            return wanted.reason if wanted is not None else ""
        case AcknowledgeAsked(_, _, reason):
            return reason
        case MoveAsked():
            return ""


# ---- what may not be asked --------------------------------------------------------------------------------------


def store_rejection(view: View) -> Rejected | None:
    """Why nothing at all can be put into the record now, or None."""
    if not view.store_answers():
        return Rejected(view.me.name, "BLK_STORE", f"the store does not answer {view.me.name}")
    if view.record is None or view.record.version == 0:
        text = "no primary was adopted yet: there is nothing to pause, to work on or to schedule"
        return Rejected(view.me.name, "BLK_NO_PRIMARY", text)
    if (doubt := candidates.doubt(view, view.me.name)) is not None:
        return doubt
    if view.store_is_behind():
        text = f"the store says term {view.record.term}, and this node has seen {view.highest_term}: an old copy"
        return Rejected(view.me.name, "BLK_STORE_OLD", text)
    return None


def moment_rejection(view: View, moment_ms: int) -> Rejected | None:
    """Why `moment_ms` cannot be a due time or an end (0: none), or None."""
    if not moment_ms:
        return None
    if view.epoch_ms is None:
        return Rejected(view.me.name, "BLK_TIME", f"{view.me.name} does not know yet what time it is")
    if view.past(moment_ms):
        return Rejected(view.me.name, "BLK_TIME", f"that is past by the clock of {view.me.name}")
    if not view.past(moment_ms - AHEAD_MOST_MS):
        return Rejected(view.me.name, "BLK_TIME", "that is more than a year ahead")
    return None


def maintenance_rejection(view: View, name: str, wanted: Maintenance | None) -> Rejected | None:
    """Why maintenance of `name` may not begin as `wanted`, or end (None), or None."""
    node, record = NodeName(name), view.record
    if all(known.name != node for known in view.nodes):
        names = ", ".join(known.name for known in view.nodes)
        return Rejected(node, "BLK_NO_SUCH_NODE", f"{node} is not in the configuration; nodes are {names}")
    if record is None:
        return None
    known = view.maintenance_of(node)
    if wanted is None:
        return None if known is not None else Rejected(node, "BLK_NOTHING", f"{node} is not in maintenance")
    if record.holder == node and not view.lease_is_over():
        return _is_primary(view, node)
    if known == wanted:
        return Rejected(node, "BLK_NOTHING", f"{node} is in maintenance already, by {wanted.by}: {wanted.reason}")
    return None


def _is_primary(view: View, node: NodeName) -> Rejected:
    other = next((known.name for known in view.data_nodes if known.name != node), node)
    best = candidates.planned(view).best or other
    text = f"{node} is the primary: move the role first, failoverctl promote --node {best}"
    return Rejected(node, "BLK_IS_PRIMARY", text)


def acknowledge_rejection(view: View) -> Rejected | None:
    """Why there is nothing to acknowledge, or None."""
    recent = view.takeovers_ms and not view.reached(view.takeovers_ms[-1] + view.policy.hold_off_ms)
    if view.takeovers_in_window or recent:
        return None
    text = f"{view.me.name} has seen no change of primary in the last {view.policy.window_ms // 1000} s that counts"
    return Rejected(view.me.name, "BLK_NOTHING", text)


def schedule_rejection(view: View, target: str) -> Rejected | None:
    """Why no switchover to `target` can be scheduled, as far as that can be known so early, or None."""
    if view.record is not None and view.record.scheduled is not None:
        return _already(view, view.record.scheduled)
    return candidates.target_rejection(view, target)


def cancel_rejection(view: View) -> Rejected | None:
    """Why there is nothing to cancel, or None."""
    if view.record is not None and view.record.scheduled is not None:
        return None
    return Rejected(view.me.name, "BLK_NOTHING", "no switchover is scheduled")


def _already(view: View, scheduled: Scheduled) -> Rejected:
    text = f"{scheduled.by} has scheduled {scheduled.target}: failoverctl promote --cancel first"
    return Rejected(view.me.name, "BLK_REQUEST", text)


# ---- what the time does -----------------------------------------------------------------------------------------


def may_look(view: View) -> bool:
    """Whether this node sees to what runs out: the valid holder, or any data node where there is none."""
    if view.i_hold():
        return True
    return not view.i_am_arbiter() and view.store_is_known() and view.lease_is_over()


def without_run_out(view: View, record: Record) -> Record:
    """The record without a pause or a maintenance whose end is reached; the same object where there is none."""
    if record.paused and record.paused_until_ms and view.past(record.paused_until_ms):
        record = named(replace(record, paused="", paused_until_ms=0), PAUSE, "")
    run_out = [known for known in record.maintenance if known.until_ms and view.past(known.until_ms)]
    if run_out:
        left = tuple(known for known in record.maintenance if known not in run_out)
        record = replace(record, maintenance=left)
        for known in run_out:
            record = named(record, maintenance_of(known.node), "")
    return record


def look_at_schedule(view: View, record: Record) -> Record:
    """What the holder makes of a scheduled switchover now; the same object where there is nothing to be done.

    One that is not fit at that very moment has as long to become so as a request has to be begun.
    """
    scheduled = record.scheduled
    if scheduled is None:
        return record
    if scheduled.term != record.term:
        return dropped(record, scheduled, "SCHEDULE_MOVED", _moved(record))
    if not view.past(scheduled.at_ms):
        return record
    return _due(view, record, scheduled)


def _due(view: View, record: Record, scheduled: Scheduled) -> Record:
    if view.past(scheduled.at_ms + LATE_MS + 1):
        return dropped(record, scheduled, "SCHEDULE_LATE", f"it was due more than {LATE_MS // 60_000} minutes ago")
    if record.request is not None:
        return record  # another one goes on, not for long
    why = candidates.planned_rejection(view, scheduled.target)
    if why is None:
        request = Request(scheduled.id, scheduled.target, scheduled.by, scheduled.reason, record.term)
        return replace(record, scheduled=None, request=request)
    if view.past(scheduled.at_ms + view.policy.request_ms):
        return dropped(record, scheduled, why.code, why.reason)
    return record


def dropped(record: Record, scheduled: Scheduled, code: str, reason: str) -> Record:
    """The record without a scheduled switchover that comes to nothing."""
    ended = RequestEnded(scheduled.id, succeeded=False, refused=True, code=code, reason=reason)
    return named(replace(record, scheduled=None, schedule_ended=ended), SCHEDULE, "")


def after_takeover(record: Record, taken: Record) -> Record:
    """What of `record` goes on in the term that `taken` begins. Its holder is not worked on any more."""
    kept = replace(
        taken,
        paused=record.paused,
        paused_until_ms=record.paused_until_ms,
        maintenance=tuple(known for known in record.maintenance if known.node != taken.holder),
        acknowledged=record.acknowledged,
        acknowledged_by=record.acknowledged_by,
        schedule_ended=record.schedule_ended,
        ordered=record.ordered,
    )
    kept = named(named(kept, OFF, ""), maintenance_of(taken.holder), "") if taken.holder is not None else kept
    return kept if record.scheduled is None else dropped(kept, record.scheduled, "SCHEDULE_MOVED", _moved(taken))


def _moved(record: Record) -> str:
    return f"it was for another term: {record.holder} is primary in term {record.term}"
