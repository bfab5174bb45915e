"""What becomes of a request to make this node's database anew: taken, begun, ended.

    asked ──> rejoin (on disk with what else must not be forgotten) ──> start-rebuild ──> the program's own word
                                                                                           home │ failed, untouched
    failed in the middle: it is started again, since only going on helps

What has touched nothing ends in every case: with the program's word, after STARTS of them without one, or BEGIN_MS
after the last start where none may follow.

The program is a process of its own; what it says comes as an observation, so that a daemon that was restarted meanwhile
knows as much as one that was not.
"""

from __future__ import annotations

from failoverd.core import rejoin
from failoverd.core.effects import StepKind
from failoverd.core.model import Health, Outcome, RebuildFacts, Rejoin, Report, RequestEnded
from failoverd.core.positions import REBUILD_PROBE
from failoverd.core.turn import Turn

ASK_MS = 10_000  # how long another node is asked before it counts as not having heard
BEGIN_MS = 60_000  # from taking it, or from a start that came to nothing, to the next start: then it is given up


def asked(turn: Turn, wanted: Rejoin) -> None:
    """An operator asks here; for another node it goes out with the reports."""
    text = f"{wanted.by} asked for {wanted.node} to be made anew from {wanted.donor}"
    turn.note("asked", text, by=wanted.by)
    if wanted.node == turn.view.me.name:
        take(turn, wanted)
    else:
        turn.keep(rejoin_asked=wanted, rejoin_asked_ms=turn.view.now_ms)


def heard(turn: Turn, report: Report) -> None:
    """Another node passes on that an operator asks this one; or it is the one that was asked, and has taken it."""
    wanted, mine, view = report.rejoin, turn.state.rejoin_asked, turn.view
    # One of a term that this node has not read yet comes again, with the next report.
    if wanted is not None and wanted.node == view.me.name and wanted.term <= view.highest_term:
        known = {view.rejoin.id if view.rejoin else "", view.rejoin_ended.id if view.rejoin_ended else ""}
        if wanted.id not in known:
            text = f"{wanted.by} asked on {report.sender} for {wanted.node} to be made anew"
            turn.note("asked", text, by=wanted.by)
            take(turn, wanted)
    if mine is not None and report.sender == mine.node:
        ended = report.rejoin_ended
        if report.rebuilding or (ended is not None and ended.id == mine.id):
            turn.keep(rejoin_asked=None)


def take(turn: Turn, wanted: Rejoin) -> None:
    """Keep it, unless this node sees what speaks against it."""
    why = rejoin.rejections(turn.view, wanted.node, wanted.donor)
    if wanted.term != turn.view.highest_term:
        text = f"it was asked for in term {wanted.term}, and this is term {turn.view.highest_term}"
        _ended(turn, wanted, RequestEnded(wanted.id, succeeded=False, refused=True, code="BLK_NO_PRIMARY", reason=text))
    elif why:
        code, text = why[0].code, why[0].reason
        _ended(turn, wanted, RequestEnded(wanted.id, succeeded=False, refused=True, code=code, reason=text))
    else:
        begin(turn, wanted)


def begin(turn: Turn, wanted: Rejoin) -> None:
    """From now on this node is no witness in an election."""
    turn.see(rejoin=wanted, rejoin_since_ms=turn.view.now_ms, rejoin_starts=())
    turn.note("rebuild", f"begins: from {wanted.donor}, by {wanted.by}", by=_asker(wanted), request=wanted.id)


def _asker(wanted: Rejoin) -> str:
    """The person who asked; "" where it was the rule."""
    return "" if wanted.by == rejoin.RULE else wanted.by


def look(turn: Turn) -> None:
    """Compare what is asked for with what the program says."""
    view = turn.view
    if turn.state.rejoin_asked is not None and view.reached(turn.state.rejoin_asked_ms + ASK_MS):
        turn.keep(rejoin_asked=None)
    needed = view.policy.rejoin_automatic and view.rejoin is None and bool(rejoin.need(view, view.me.name))
    if needed != (view.rejoin_due_since_ms is not None):
        turn.see(rejoin_due_since_ms=view.now_ms if needed else None)
    if view.rejoin is not None:
        if view.rejoin_since_ms is None:  # the daemon was started again
            turn.see(rejoin_since_ms=view.now_ms)
        _end(turn, view.rejoin)


def _end(turn: Turn, wanted: Rejoin) -> None:
    """End it, if it has come to an end."""
    view, facts = turn.view, turn.view.rebuild
    own = facts if facts is not None and facts.request == wanted.id else None
    if own is not None and own.home:
        _ended(turn, wanted, RequestEnded(wanted.id, succeeded=True, reason=own.saved))
    elif own is not None and own.stage == "failed" and not own.touched:
        _ended(turn, wanted, RequestEnded(wanted.id, succeeded=False, code=own.code, reason=own.reason))
    elif (facts is not None and facts.at_work) or _unseen(turn):
        return  # it goes on, or has to, or nobody can tell
    elif len(view.rejoin_starts) >= rejoin.STARTS and view.reached(view.rejoin_starts[-1] + rejoin.SILENT_MS):
        _ended(turn, wanted, RequestEnded(wanted.id, succeeded=False, code="REBUILD_UNIT", reason=_silence(turn, own)))
    elif _needed_as_witness(turn, wanted):
        text = f"the primary of term {wanted.term} was lost, or handed over, before the rebuild began"
        _ended(turn, wanted, RequestEnded(wanted.id, succeeded=False, code="REBUILD_NO_PRIMARY", reason=text))
    elif view.reached((view.rejoin_starts[-1] if view.rejoin_starts else view.rejoin_since_ms or 0) + BEGIN_MS):
        _ended(turn, wanted, _not_begun(turn, wanted))


def _unseen(turn: Turn) -> bool:
    """The look at the program fails: whether it works is not known."""
    seen = turn.view.sighting(REBUILD_PROBE, turn.view.me.name)
    return seen is not None and seen.health is Health.UNKNOWN


def _silence(turn: Turn, own: RebuildFacts | None) -> str:
    """What is known of a unit that was started again and again and says neither that it is done nor why not."""
    step = turn.state.progress.of(StepKind.START_REBUILD)
    if step is not None and step.reason:
        return f"the unit does not start: {step.reason}"
    told = f"ended without a word at {own.stage}" if own is not None and own.stage else "told nothing"
    return f"the unit was started {len(turn.view.rejoin_starts)} times and {told}: look at its journal"


def _not_begun(turn: Turn, wanted: Rejoin) -> RequestEnded:
    """Nothing of this node was touched, and what keeps it from being started does not pass."""
    view = turn.view
    first = [name for name, report in view.fresh.items() if report.rebuilding and name < view.me.name]
    if first:
        code, text = "BLK_REBUILDING", f"{first[0]} is being rebuilt: one node at a time"
    elif wanted.term != view.highest_term or not rejoin.primary_is_there(view):
        code, text = "REBUILD_NO_PRIMARY", f"the primary of term {wanted.term} is not there any more"
    elif view.paused() and wanted.by == rejoin.RULE:
        code, text = "BLK_PAUSED", "the cluster is paused"
    elif rejoin.left_alone(view) and wanted.by == rejoin.RULE:
        code, text = "BLK_MAINTENANCE", f"{view.me.name} is in maintenance"
    else:
        ended = [e for e in turn.state.progress.ended if e.reason and e.outcome is not Outcome.SUCCEEDED]
        code, text = "REBUILD_UNIT", "; ".join(f"{e.kind.value}: {e.reason}" for e in ended) or "no step of it ended"
    return RequestEnded(wanted.id, succeeded=False, code=code, reason=f"not begun within {BEGIN_MS // 1000} s: {text}")


def _needed_as_witness(turn: Turn, wanted: Rejoin) -> bool:
    """There is no primary, or another: this node's data are as they were, and no rebuild works on them."""
    view, facts = turn.view, turn.view.rebuild
    if view.database is None or (facts is not None and facts.at_work) or not view.store_is_known():
        return False
    return view.lease_is_over() or view.lease_is_lapsing() or wanted.term != view.highest_term


def _ended(turn: Turn, wanted: Rejoin, ended: RequestEnded) -> None:
    view = turn.view
    if view.rejoin is not None and view.rejoin.id == ended.id:
        failures = min(view.rejoin_failed[0] + 1, rejoin.COUNTED)
        failed = (0, 0) if ended.succeeded else (failures, view.now_ms)
        turn.see(rejoin=None, rejoin_since_ms=None, rejoin_starts=(), rejoin_failed=failed)
    turn.see(rejoin_ended=ended)
    words = "is home" if ended.succeeded else "refused" if ended.refused else "failed"
    text = f"{words}: {ended.reason}" if ended.reason else words
    turn.note("rebuild", text, code=ended.code, by=_asker(wanted), request=ended.id)
