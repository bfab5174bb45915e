"""What the store says: its record, whoever changed it, and the answers to this node's own swaps.

Rules 1 to 3, 5 and 6 of the lease are kept here (lease.py): what a swap that succeeded grants, what a late answer does
not, when a takeover that nobody answered is settled.
"""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from failoverd.core import absorb_orders, bounded, lease, orders, unproven
from failoverd.core.effects import KeepLease, Purpose, Swap
from failoverd.core.events import Swapped
from failoverd.core.model import Floor, Outcome, Record
from failoverd.core.turn import Turn
from failoverd.core.view import View


def record_seen(turn: Turn, record: Record) -> None:
    """The store's record, read, watched or answered."""
    view = turn.view
    stored, record = record, unproven.remembered(view, record)
    if not lease.acceptable(record, view.highest_term, view.memory.moves):
        if turn.state.refused != record:
            turn.keep(refused=record)
            turn.note("store-refused", _goes_back(view, record), code="BLK_STORE_OLD")
            turn.see(record=record if view.record is None else view.record)
        return
    before = view.record
    if before is not None and _newness(record) < _newness(before) and record.term == before.term:
        turn.see(store_heard_ms=view.now_ms)
        return  # an older answer that came late
    if stored.marks < record.marks:
        turn.see(marked_term=0)  # an old copy: what this node had put into the store is not there
    watch = lease.watched(view.watch, record, view.now_ms)
    turn.see(store_heard_ms=view.now_ms, record=record, watch=watch)
    if record.term > view.highest_term:
        turn.new_term(record.term)
    floor_told(turn, record.floor)
    if before is not None and record.acknowledged > before.acknowledged:
        turn.see(takeovers_ms=())  # all that was seen before is of that term or an earlier one
        view = turn.view
    if before is not None and record.term > before.term:
        asked_for = record.request is not None and record.request.target == record.holder
        if asked_for:  # a person moved the role and has seen the state it was in: the count starts anew
            turn.see(takeovers_ms=())
        elif before.term > 0:
            turn.see(takeovers_ms=(*view.takeovers_ms[-31:], view.now_ms))
        text = f"{record.holder} is primary in term {record.term}"
        asked = record.request if asked_for else None
        who = {} if asked is None else {"by": asked.by, "request": asked.id, "asked": asked.reason}
        turn.note(
            "term", text, holder=str(record.holder), previous=str(record.previous or ""), reason=record.reason, **who
        )
    _told_of_record(turn, before, record)
    _answer_of_record(turn, record)
    _request_of_record(turn, record)


def _goes_back(view: View, record: Record) -> str:
    if record.term < view.highest_term:
        return f"the store says term {record.term}, this node has seen {view.highest_term}: refused"
    return f"the store's record has moved {record.moves} times, this node has seen {view.memory.moves}: refused"


def _newness(record: Record) -> tuple[int, bool, int]:
    """Of two records, the one that was moved more often; then the one where it counts; then the later version."""
    return record.moves, not record.sealed, record.version


def _told_of_record(turn: Turn, before: Record | None, record: Record) -> None:
    """Keep in the audit what others have put into the record."""
    former = before if before is not None and before.term == record.term else replace(record, condemned_by=None)
    by = orders.by_whom(record, orders.OFF)
    if record.condemned_by is not None and former.condemned_by is None:
        text = f"{record.condemned_by} has revoked term {record.term} to cut {record.holder}'s power"
        turn.note("condemned", text, by=by)
    if record.off and record.off != former.off:
        turn.note("off", f"{record.holder} has no power: {record.off}", by=by)
    if before is not None:
        absorb_orders.told(turn, before, record)
    _told_of_proof(turn, before, record)
    confirmed, order = turn.state.confirmed, turn.state.order
    if confirmed is not None and (record.term > confirmed.term or record.off):
        turn.keep(confirmed=None)
    if order is not None and orders.stands(record, order):
        turn.keep(order=None)


def _told_of_proof(turn: Turn, before: Record | None, record: Record) -> None:
    if before is not None and record.unproven != before.unproven:
        text = record.unproven or f"proven again: a replica has all that {record.holder} had let go without one"
        kind = "rpo-bounded" if bounded.standing(record) else "rpo-unproven" if record.unproven else "rpo-proven"
        turn.note(kind, text)


def told_unproven(turn: Turn) -> None:
    """Another node knows of a newer mark than the record that this node has read."""
    record = turn.view.record
    if record is not None:
        newest = unproven.remembered(turn.view, record)
        if newest is not record:
            turn.see(record=newest)
            _told_of_proof(turn, record, newest)


def floor_told(turn: Turn, floor: Floor | None) -> None:
    """The store, or a report of this term, says what whoever takes over must have."""
    newest = bounded.newest(turn.view, floor)
    if newest != turn.view.floor:
        turn.see(floor=newest)


def _answer_of_record(turn: Turn, record: Record) -> None:
    """What the record says of this node's own lease and of a takeover whose answer did not come."""
    view = turn.view
    mine = record.holder == view.me.name and not record.revoked
    if view.leaving is not None and record.revoked and record.term == view.leaving.term:
        turn.see(leaving=None)
        turn.lose()  # also where somebody else has revoked it, before the gate was seen to be closed
        by = orders.asked_by(record, record.successor)
        turn.note("given-back", f"term {record.term} is given back", by=by, successor=str(record.successor or ""))
        return
    held = view.held
    if held is not None:
        if mine and held.term == record.term:
            if held.version != record.version:
                turn.see(held=replace(held, version=record.version))
        elif record.term >= held.term:
            turn.note("lease-gone", f"the store gives term {record.term} to {record.holder}: the lease is gone")
            turn.lose()
    waiting = view.takeover_sent
    if waiting is None:
        return
    won = mine and record.term == waiting.term  # and not this node's own, ended term, read once more
    if won and turn.view.held is None:  # the watch may be quicker than the answer
        granted = lease.still_held(lease.granted(record, waiting.sent_ms, view.policy.margin_ms), view.now_ms)
        turn.see(held=granted, renewed_ms=waiting.sent_ms)
        turn.effects.append(KeepLease(granted))
    swap = turn.state.swap
    in_flight = swap is not None and swap.purpose in (Purpose.TAKE_OVER, Purpose.ADOPT, Purpose.CONDEMN)
    if not in_flight and record.version > waiting.version:  # rule 5: before that it may still come to pass
        turn.see(takeover_sent=None)


def _request_of_record(turn: Turn, record: Record) -> None:
    view = turn.view
    if record.request is None:
        if view.request_seen is not None:
            turn.see(request_seen=None)
    elif view.request_seen is None or view.request_seen[0] != record.request.id:
        turn.see(request_seen=(record.request.id, view.now_ms))
    asked = turn.state.asked
    if asked is None:
        return
    told = (record.request, record.request_ended)  # a watch may skip the moments between the two
    if any(known is not None and known.id == asked.id for known in told):
        turn.keep(asked=None)
    elif record.term > asked.term:
        text = f"asked in term {asked.term}, it is {record.term} now"
        turn.note("request-dropped", text, code="BLK_REQUEST", by=asked.by, request=asked.id)
        turn.keep(asked=None)


def swapped(turn: Turn, event: Swapped) -> None:
    """A swap was answered, or not."""
    swap = event.swap
    if turn.state.swap == swap:
        turn.keep(swap=None)
    if event.outcome is Outcome.UNKNOWN or event.record is None:
        _pause_swaps(turn)
        if swap.purpose is Purpose.TAKE_OVER:
            turn.note("takeover-unanswered", "the store did not answer the takeover", code="BLK_STORE")
        return
    record = event.record
    if event.outcome is Outcome.FAILED:
        record_seen(turn, record)
        stands = turn.view.record
        if stands is None or stands.version == swap.expected_version:
            _pause_swaps(turn)  # the store has a record that this node refuses
        elif swap.purpose is Purpose.RENEW:
            turn.keep(renewed_ms=None)  # again at once, on the version that stands
        if swap.purpose is Purpose.TAKE_OVER and record.holder != turn.view.me.name:
            turn.note("takeover-lost", f"{record.holder} was first in term {record.term}", code="BLK_LEASE")
        return
    _swap_won(turn, swap, record)


def _pause_swaps(turn: Turn) -> None:
    """Whatever is asked of the store next waits a little; renewals have a pace of their own."""
    turn.keep(swaps_from_ms=turn.view.now_ms + turn.view.policy.renew_ms // 2)


def _swap_won(turn: Turn, swap: Swap, record: Record) -> None:
    policy = turn.view.policy
    match swap.purpose:
        case Purpose.TAKE_OVER | Purpose.ADOPT:
            first = turn.view.takeover_sent
            sent_ms = swap.sent_ms if first is None else min(first.sent_ms, swap.sent_ms)
            record_seen(turn, record)
            turn.see(takeover_sent=None)
            granted = lease.still_held(lease.granted(record, sent_ms, policy.margin_ms), turn.view.now_ms)
            turn.keep(renewed_ms=swap.sent_ms)
            turn.see(held=granted, renewed_ms=swap.sent_ms, stuck=None)
            if turn.view.policy.bound_ms is not None and bounded.standing(record) and record.began is not None:
                # The store has this daemon's word, and what this node had then is its first sample.
                turn.see(marked_term=record.term, samples=((swap.sent_ms, record.began),))
            turn.effects.append(KeepLease(granted))
        case Purpose.RENEW:
            held = turn.view.held
            record_seen(turn, record)
            if held is not None and held.term == record.term:  # rule 2: a lease that ended is not revived
                turn.see(renewed_ms=swap.sent_ms)
                # A round of promises may reach further than a renewal that was long on its way.
                granted = lease.granted(record, swap.sent_ms, policy.margin_ms)
                turn.hold(replace(granted, deadline_ms=max(granted.deadline_ms, held.deadline_ms)))
        case Purpose.MARK | Purpose.CLEAR:
            record_seen(turn, record)
            if record.term == turn.view.highest_term:
                turn.see(let_go=(record.term, turn.state.marking))
                turn.see(marked_term=record.term if swap.purpose is Purpose.MARK else 0)
        case Purpose.CONDEMN:
            record_seen(turn, record)
            turn.see(takeover_sent=None)
        case Purpose.GIVE_BACK | Purpose.REQUEST | Purpose.DROP_REQUEST | Purpose.CONFIRM:
            record_seen(turn, record)
        case Purpose.ORDER | Purpose.RUN_OUT | Purpose.SCHEDULE:
            record_seen(turn, record)
        case _:
            assert_never(swap.purpose)
