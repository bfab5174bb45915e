"""What others have put into the record by an operator's order, as every node's audit tells it, with whose it was."""

from __future__ import annotations

from failoverd.core import orders
from failoverd.core.model import Maintenance, Record
from failoverd.core.turn import Turn


def told(turn: Turn, before: Record, record: Record) -> None:
    """Note what differs. Whether something ended or ran out, this node judges by its own wall clock."""
    if (record.paused, record.paused_until_ms) != (before.paused, before.paused_until_ms):
        text = f"paused by {record.paused}" if record.paused else _goes_on(turn, before)
        turn.note("paused", text, by=orders.by_whom(record, orders.PAUSE))
    if record.maintenance != before.maintenance:
        _maintenance(turn, before, record)
    if record.acknowledged > before.acknowledged:
        text = f"changes of primary up to term {record.acknowledged} do not count any more"
        by = orders.by_whom(record, orders.ACKNOWLEDGED)
        turn.note("acknowledged", f"{text}, says {record.acknowledged_by}", by=by)
    if (record.moves, record.sealed) != (before.moves, before.sealed):
        _moved(turn, record)
    if record.scheduled != before.scheduled or record.schedule_ended != before.schedule_ended:
        _schedule(turn, before, record)


def _moved(turn: Turn, record: Record) -> None:
    by = orders.by_whom(record, orders.MOVE)
    where = f"move {record.moves}, to place {record.moved_to} in the next store"
    if record.sealed:
        turn.note("store-sealed", f"the record is sealed, and counts elsewhere from now on: {where}", by=by)
    else:
        turn.note("store-moved", f"the record stands where it was moved to: {where}", by=by)


def _goes_on(turn: Turn, before: Record) -> str:
    run_out = before.paused_until_ms and turn.view.past(before.paused_until_ms)
    return "the cluster goes on" + (f": the pause has run out, by {before.paused}" if run_out else "")


def _maintenance(turn: Turn, before: Record, record: Record) -> None:
    was = {known.node: known for known in before.maintenance}
    for known in record.maintenance:
        if was.pop(known.node, None) != known:
            turn.note("maintenance", f"{known.node} is in maintenance, by {known.by}: {known.reason}", by=known.by)
    for known in was.values():
        by = orders.by_whom(record, orders.maintenance_of(known.node))
        turn.note("maintenance", f"{known.node} {_back(turn, known, record)}", by=by)


def _back(turn: Turn, was: Maintenance, record: Record) -> str:
    if record.holder == was.node and not record.revoked:
        return "is primary, which ends its maintenance"
    run_out = was.until_ms and turn.view.past(was.until_ms)
    return f"is in maintenance no more{': it has run out' if run_out else ''}, as {was.by} wanted: {was.reason}"


def _schedule(turn: Turn, before: Record, record: Record) -> None:
    was, ended = before.scheduled, record.schedule_ended
    if record.scheduled is not None and record.scheduled != was:
        wanted = record.scheduled
        text = f"{wanted.target} as primary, by {wanted.by}"
        turn.note("scheduled", text, by=wanted.by, reason=wanted.reason, request=wanted.id)
    if ended is not None and ended != before.schedule_ended:
        by = orders.by_whom(record, orders.SCHEDULE)
        turn.note("scheduled", f"dropped: {ended.reason}", code=ended.code, by=by, request=ended.id)
    elif was is not None and record.scheduled is None:
        turn.note("scheduled", f"due: {was.target} as primary, by {was.by}", by=was.by, request=was.id)
