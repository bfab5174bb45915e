"""What an event changes in what is known. Nothing is decided here.

Observed · Reported   what this node sees, what others say          here
StoreSeen · Swapped   the record, the lease, the answers to swaps   absorb_store
StepEnded             what became of this node's own steps          absorb_steps
Asked · Confirmed · orders       kept until the store has them      here
RejoinAsked           kept on disk until it is done                 rejoining
Reconfigured          kept until nothing is under way               reconfigure
"""

from __future__ import annotations

from dataclasses import replace

from failoverd.core import bounded, lag, lease, mail_store, orders, reconfigure, rejoining
from failoverd.core.absorb_steps import step_ended
from failoverd.core.absorb_store import floor_told, record_seen, swapped, told_unproven
from failoverd.core.events import (
    Asked,
    ClockSet,
    Confirmed,
    Event,
    Observed,
    Order,
    Reconfigured,
    RejoinAsked,
    Reported,
    StepEnded,
    StoreSeen,
    Swapped,
    TargetSeen,
    Ticked,
)
from failoverd.core.health import born_after_ms, sighted
from failoverd.core.hearsay import says_the_same
from failoverd.core.known import Target
from failoverd.core.lateness import untaken
from failoverd.core.mail_store import StoreState
from failoverd.core.model import DatabaseFacts, Health, Heard, Observation, Report, StoreFacts
from failoverd.core.state import State
from failoverd.core.turn import Turn
from failoverd.core.view import View

FACTS_IN_RULES = ("database", "vip", "queue", "rebuild")  # the facts of other probes are only told on


def absorb(turn: Turn, event: Event) -> None:
    """Fold one event into what is known."""
    match event:
        case Ticked():
            pass
        case ClockSet(epoch_ms):
            turn.see(epoch_ms=epoch_ms)
        case Observed(observation):
            observed(turn, observation)
        case Reported(report):
            reported(turn, report)
        case StoreSeen(record):
            record_seen(turn, record)
        case TargetSeen(target, reason):
            turn.see(target=Target(turn.view.now_ms, target, reason))
        case Swapped():
            swapped(turn, event)
        case StepEnded():
            step_ended(turn, event)
        case _:
            _asked(turn, event)
    if turn.state.policy is not None:
        reconfigure.take(turn)


def _asked(turn: Turn, event: Asked | Confirmed | Order | RejoinAsked | Reconfigured) -> None:
    """An operator asks for something."""
    match event:
        case Asked(request):
            turn.keep(asked=request, asked_ms=turn.view.now_ms)
            at_any_price = ", whatever may be lost" if request.allow_loss else ""
            text = f"{request.by} asked for {request.target} as primary{at_any_price}"
            turn.note("asked", text, by=request.by, reason=request.reason, request=request.id)
        case Confirmed():
            turn.keep(confirmed=event, asked_ms=turn.view.now_ms)
            text = f"{event.by} says that {event.node} has no power"
            turn.note("confirmed", text, by=event.by, reason=event.reason)
        case RejoinAsked(wanted):
            rejoining.asked(turn, wanted)
        case Reconfigured():
            reconfigure.asked(turn, event)
        case _:
            turn.keep(order=event, asked_ms=turn.view.now_ms)
            turn.note("asked", orders.in_words(event), by=event.by, reason=orders.reason_of(event))


def nothing_new(before: State, turn: Turn, event: Event) -> bool:
    """Whether acting on what is known now, within a quiet, would be acting on the same as before.

    What absorbing changed is looked at, not what the event was thought to change. Another look that found the same is
    nothing new: when it was is asked of the virtual IP only (`plan.undone`), and failures that go on are counted, so
    that they differ. Nor is another report, where no report was asked for anything, or where it says the same.
    """
    if turn.effects or turn.entries or turn.state is not before:
        return False
    changed = _changed(before.view, turn.view)
    if not changed:
        return True
    if changed == {"reports"}:
        return not before.heeds or (isinstance(event, Reported) and _says_the_same(before, event.report))
    if changed != {"sightings"} or not isinstance(event, Observed) or event.observation.probe in FACTS_IN_RULES:
        return False
    seen = before.view.sighting(event.observation.probe, event.observation.target)
    return seen is not None and not seen.failures and _found_the_same(seen.observation, event.observation)


def _says_the_same(before: State, report: Report) -> bool:
    """The former report of that node counted when it was last decided, and said the same."""
    former = before.view.fresh.get(report.sender)
    return former is not None and says_the_same(former, report, before.heeds)


def _changed(before: View, after: View) -> set[str]:
    """The fields in which two views differ, apart from the time. Equal ones count when they are not the same object."""
    former = vars(before)
    different = {name for name, value in vars(after).items() if value is not former[name]}
    return different - {"now_ms", "_answers"}


def _found_the_same(was: Observation, now: Observation) -> bool:
    before, after = was.reading, now.reading
    alike = (before.health, before.code, before.reason) == (after.health, after.code, after.reason)
    return alike and after.health is not Health.FAILED


def observed(turn: Turn, observation: Observation) -> None:
    """One more look at one probe of one node."""
    view = turn.view
    before = view.sighting(observation.probe, observation.target)
    after = sighted(before, observation)
    turn.see(sightings=view.looks.and_now(after))
    was, now = before.failures if before else 0, after.failures
    if (was > 0) != (now > 0):
        reading = observation.reading
        text = f"{observation.probe} of {observation.target}: {reading.reason or 'answers again'}"
        turn.note("observed", text, code=reading.code)
    if observation.probe == "database" and observation.target == view.me.name:
        facts = observation.reading.facts
        if observation.reading.health is Health.OK and isinstance(facts, DatabaseFacts):
            if observation.ended_ms - observation.took_ms >= turn.state.facts_from_ms:
                _database_read(turn, facts)
                _sampled(turn, facts, observation.ended_ms - observation.took_ms)
        elif turn.view.database_failing:
            turn.see(database=None)
    if view.policy.store_moves and observation.target == view.me.name:
        _mail_store_looked_at(turn, observation)


def _mail_store_looked_at(turn: Turn, observation: Observation) -> None:
    """Somebody mounted or unmounted it, or started what works on it: the plan in force does its steps again."""
    facts, view = observation.reading.facts, turn.view
    here = facts.here if isinstance(facts, StoreFacts) else None
    units = {f"unit:{unit}" for _, unit, _ in view.policy.services}
    runs = observation.probe in units and observation.reading.health is Health.OK
    began_ms = observation.ended_ms - observation.took_ms
    if mail_store.contradicted(view, here=here, service_runs=runs, began_ms=began_ms):
        what = observation.probe if runs else "the mail store"
        turn.note("undone", f"not as this node left it: {what}")
        turn.see(mail_store=StoreState.UNKNOWN, mail_store_ms=view.now_ms)


def _database_read(turn: Turn, facts: DatabaseFacts) -> None:
    turn.read(facts)
    _lag_measured(turn)


def _sampled(turn: Turn, facts: DatabaseFacts, asked_ms: int) -> None:
    view = turn.view
    if bounded.takes_sample(view, facts):
        samples = bounded.sampled(view.samples, asked_ms, facts.position, view.policy)
        if samples is not view.samples:
            turn.see(samples=samples)


def _lag_measured(turn: Turn) -> None:
    """A finding, one record when it comes and one when it goes: never a reason to move anything."""
    view, before = turn.view, turn.view.lag
    after = lag.after(before, view.lag_ms(view.me.name), view.policy)
    if after is before:
        return
    turn.see(lag=after)
    if after.code and after.level > before.level:
        turn.note("alarm", f"{view.lag_ms(view.me.name)} ms behind {view.holder}", code=after.code)
    elif after.level < before.level:
        turn.note("alarm-over", f"the lag is {after.code or 'small'} again", code=before.code)


def reported(turn: Turn, report: Report) -> None:
    """What another node says, unless it is late, a stranger's, or of a former run or term (lateness.py).

    A newer term than this node has read is no news here: only the store gives terms.
    """
    view = turn.view
    if untaken(view, report) is not None:
        return
    others = [known for known in view.reports if known.sender != report.sender]
    turn.see(reports=(*others, report))
    _told_beat(turn, report)
    if report.unproven:
        told_unproven(turn)
    if report.floor is not None and report.term == turn.view.highest_term:
        floor_told(turn, report.floor)
    rejoining.heard(turn, report)
    if report.asks_ms and turn.view.may_promise(report):
        heard = Heard(report.sender, report.process, report.number)
        if view.promise is None or view.promise.term != report.term:
            turn.note("promised", f"no takeover of {report.sender} while the store does not answer it")
        floor_ms = report.floor.at_ms if report.floor is not None else 0
        turn.see(promise=lease.Promise(report.term, heard, turn.view.now_ms + report.asks_ms, floor_ms))
    _prolong(turn)


def _told_beat(turn: Turn, report: Report) -> None:
    """The primary tells how far its heartbeats are, after this node's database was seen to have started."""
    view = turn.view
    since, record = view.catch_up, view.record
    if since is None or (since.beat and since.term == report.term) or not report.beat:
        return
    if record is None or record.holder != report.sender or not record.term == report.term == view.highest_term:
        return
    born = born_after_ms(report, view.me.name, view.sendings)
    if born is not None and born >= since.seen_ms:
        turn.see(catch_up=replace(since, term=report.term, beat=report.beat))


def _prolong(turn: Turn) -> None:
    """Rule 4: while the store is away, a lease lasts from the sending of a round that all others promised."""
    view = turn.view
    held = view.held
    if held is None or not view.i_hold():
        return
    sent_ms = view.round_promised_ms()
    if sent_ms is None:
        return
    longer = lease.prolonged(held, sent_ms, view.policy.ttl_ms, view.policy.margin_ms)
    if longer != held:
        turn.hold(longer)
