"""Rules 4 and 5: how a holder goes on while the store is away, and whom a node gives its word to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from views import MEMBERSHIP, NOW, POLICY, RUN, TERM, lost, record, report, view

from failoverd.core.effects import KeepLease, Purpose, Push, Remember, RenewGate, Swap
from failoverd.core.health import Sendings
from failoverd.core.lease import Held, Memory, Promise, Unanswered, Watch, unanswered
from failoverd.core.machine import Reaction, Reported, State, StoreSeen, Swapped, Ticked, step
from failoverd.core.model import Heard, NodeName, Outcome, Report
from failoverd.core.view import Leaving, View

M1, M2, M3 = NodeName("mail1"), NodeName("mail2"), NodeName("mail3")
SENT = NOW - 1300  # when the newest renewal was sent that was answered
DEADLINE = SENT + POLICY.ttl_ms - POLICY.margin_ms
ASKS = {"asks_ms": POLICY.ttl_ms, "number": 8}


def holder(**changes: Any) -> View:
    """mail1, whose last two renewals were not answered; its reports 5 and 6 asked."""
    lonely: dict[str, Any] = {
        "held": Held(TERM, 40, DEADLINE),
        "renewed_ms": SENT,
        "sendings": Sendings("mail1#1", ((5, NOW - 300), (6, NOW - 50))),
    }
    return view("mail1", **(lonely | changes))


def state(known: View, **changes: Any) -> State:
    return State(view=known, software="0.1.0", **changes)


def promise_of(name: str, number: int, **changes: Any) -> Report:
    heard = (Heard(M1, "mail1#1", number),)
    given = {"number": 8, "heard": heard, "promised": Heard(M1, "mail1#1", number)}
    return report(name, "mail1", **(given | changes))


def told(known: View, *reports: Report) -> Reaction:
    at, reaction = state(known), None
    for one in reports:
        reaction = step(at, Reported(one), NOW)
        at = reaction.state
    assert reaction is not None
    return reaction


def pushed(reaction: Reaction) -> Report | None:
    return next((effect.report for effect in reaction.effects if isinstance(effect, Push)), None)


# ---- rule 4: the holder ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("silent_ms", "asks"), [(2 * POLICY.renew_ms - 1, False), (2 * POLICY.renew_ms, True), (1700, True)]
)
def test_a_holder_asks_once_two_renewals_were_not_answered(silent_ms: int, asks: bool) -> None:
    sent = NOW - silent_ms
    held = Held(TERM, 40, sent + POLICY.ttl_ms - POLICY.margin_ms)
    assert holder(held=held, renewed_ms=sent).asking() is asks


def test_it_goes_on_asking_while_promises_prolong_its_lease() -> None:
    assert holder(held=Held(TERM, 40, NOW + 2600), renewed_ms=NOW - 9000).asking()


def test_one_that_lets_go_does_not_ask() -> None:
    leaving = Leaving(TERM, None, "lease-running-out", renew=False, began_ms=NOW, undo=False)
    assert not holder(leaving=leaving).asking()


def test_the_first_tick_of_silence_sends_a_report_that_asks() -> None:
    reaction = step(state(holder(), pushed_ms=NOW - 10), Ticked(), NOW)
    sent = pushed(reaction)
    assert sent is not None
    assert sent.asks_ms == POLICY.ttl_ms
    assert reaction.state.view.sendings.sent_ms(sent.number) == NOW


def test_the_lease_counts_from_the_sending_of_a_round_that_every_other_data_node_promised() -> None:
    reaction = told(holder(), promise_of("mail2", 6), promise_of("mail3", 5))
    wanted = Held(TERM, 40, NOW - 300 + POLICY.ttl_ms - POLICY.margin_ms)
    assert reaction.state.view.held == wanted
    assert KeepLease(wanted) in reaction.effects
    assert RenewGate(TERM, wanted.deadline_ms) in reaction.effects


NO_PROMISE: list[tuple[str, tuple[Report, ...]]] = [
    ("one is silent", (promise_of("mail2", 6),)),
    ("an arbiter's word is no data node's", (promise_of("mail2", 6), promise_of("arbiter", 6))),
    ("it is for an earlier run", (promise_of("mail2", 6), promise_of("mail3", 6, promised=Heard(M1, "mail1#0", 6)))),
    ("it is for another", (promise_of("mail2", 6), promise_of("mail3", 6, promised=Heard(M2, "mail1#1", 6)))),
    ("it is of another term", (promise_of("mail2", 6), promise_of("mail3", 6, term=TERM - 1))),
    ("nobody remembers when it was sent", (promise_of("mail2", 6), promise_of("mail3", 4))),
]


@pytest.mark.parametrize("reports", [reports for _, reports in NO_PROMISE], ids=[name for name, _ in NO_PROMISE])
def test_anything_less_prolongs_nothing(reports: tuple[Report, ...]) -> None:
    assert told(holder(), *reports).state.view.held == Held(TERM, 40, DEADLINE)


def test_a_lease_that_ended_is_not_prolonged() -> None:
    known = holder(held=Held(TERM, 40, NOW))
    assert told(known, promise_of("mail2", 6), promise_of("mail3", 6)).state.view.held is None


def test_nor_one_that_is_being_given_back() -> None:
    leaving = Leaving(TERM, None, "lease-running-out", renew=False, began_ms=NOW, undo=False)
    known = holder(leaving=leaving)
    reaction = told(known, promise_of("mail2", 6), promise_of("mail3", 6))
    assert reaction.state.view.held == Held(TERM, 40, DEADLINE)


def test_a_renewal_that_was_long_on_its_way_does_not_shorten_what_was_promised() -> None:
    prolonged = told(holder(), promise_of("mail2", 6), promise_of("mail3", 6)).state
    swap = Swap(Purpose.RENEW, 40, record(counter=31, version=41), SENT + 500)
    after = step(prolonged, Swapped(swap, Outcome.SUCCEEDED, record(counter=31, version=41)), NOW)
    assert after.state.view.held == Held(TERM, 41, NOW - 50 + POLICY.ttl_ms - POLICY.margin_ms)


# ---- rules 4 and 5: who promises ------------------------------------------------------------------------------------


def asked(known: View, **changes: Any) -> Reaction:
    return step(state(known), Reported(report("mail1", known.me.name, **(ASKS | changes))), NOW)


def test_a_promise_is_told_at_once_and_lasts_a_whole_ttl() -> None:
    reaction = asked(view("mail2"))
    assert reaction.state.view.promise == Promise(TERM, Heard(M1, "mail1#1", 8), NOW + POLICY.ttl_ms)
    sent = pushed(reaction)
    assert sent is not None
    assert sent.promised == Heard(M1, "mail1#1", 8)


def test_it_forbids_a_takeover_until_then_even_if_the_store_says_that_the_lease_is_over() -> None:
    promise = Promise(TERM, Heard(M1, "mail1#1", 8), NOW + 1)
    known = view("mail2", watch=Watch(TERM, 30, NOW - 60_000), promise=promise)
    assert not known.lease_is_over()
    assert known.at(NOW + 1).lease_is_over()


def test_a_holder_that_asked_lately_is_not_lapsing() -> None:
    for since_ms, lapsing in ((POLICY.lapse_ms - 1, False), (POLICY.lapse_ms, True)):
        promise = Promise(TERM, Heard(M1, "mail1#1", 8), NOW - since_ms + POLICY.ttl_ms)
        known = view("mail2", watch=Watch(TERM, 30, NOW - 60_000), promise=promise)
        assert known.lease_is_lapsing() is lapsing


def test_not_where_the_holder_itself_gave_back_or_has_no_power() -> None:
    promise = Promise(TERM, Heard(M1, "mail1#1", 8), NOW + 1000)
    assert view("mail2", record=record(revoked=True), promise=promise).lease_is_over()
    assert view("mail2", record=record(condemned_by=M3, off="anna"), promise=promise).lease_is_over()


def test_a_promise_of_an_earlier_term_is_not_told_in_a_later_one() -> None:
    promise = Promise(TERM, Heard(M1, "mail1#1", 8), NOW + 1000)
    assert view("mail2", promise=promise).promised_to() == promise.heard
    assert view("mail2", promise=promise, highest_term=TERM + 1).promised_to() is None


REFUSES: list[tuple[str, View, dict[str, Any]]] = [
    ("the arbiter", view("arbiter"), {}),
    ("one that holds a lease", view("mail2", held=Held(TERM, 40, NOW + 900)), {}),
    ("one whose takeover is unanswered", view("mail2", takeover_sent=Unanswered(39, TERM, NOW - 60_000)), {}),
    ("one that knows a newer term", view("mail2", highest_term=TERM + 1), {}),
    ("one that has not read the store", view("mail2", record=None), {}),
    ("to another than the holder", view("mail2", record=record(holder=M3)), {}),
    ("to one that gave back", view("mail2", record=record(revoked=True)), {}),
    ("to one that is to be fenced", view("mail2", record=record(condemned_by=M3)), {}),
    ("to one with another configuration", view("mail2"), {"membership": MEMBERSHIP + "x"}),
    ("for longer than whoever starts anew would wait", view("mail2"), {"asks_ms": POLICY.ttl_ms + 1}),
]


@pytest.mark.parametrize(("known", "changes"), [row[1:] for row in REFUSES], ids=[row[0] for row in REFUSES])
def test_no_promise(known: View, changes: dict[str, Any]) -> None:
    assert asked(known, **changes).state.view.promise is None


def test_a_takeover_that_was_sent_stands_in_the_way_until_a_later_version_is_read() -> None:
    known = view("mail2", takeover_sent=Unanswered(40, TERM + 1, NOW - 2000))
    same = step(state(known), StoreSeen(record(counter=31)), NOW).state
    assert asked(same.view).state.view.promise is None
    later = step(state(known), StoreSeen(record(version=41, counter=31)), NOW).state
    assert asked(later.view).state.view.promise is not None


def test_a_node_that_was_started_while_the_store_is_away_promises_to_whom_it_remembers() -> None:
    remembered = Memory(TERM, M1, POLICY.ttl_ms)
    known = view("mail2", record=None, watch=None, store_heard_ms=None)
    for memory, promises in (
        (remembered, True),
        (replace(remembered, holder=M3), False),
        (replace(remembered, ttl_ms=POLICY.ttl_ms - 1), False),
        (replace(remembered, term=TERM - 1), False),
        (Memory(TERM), False),
    ):
        assert (asked(replace(known, memory=memory)).state.view.promise is not None) is promises


def test_a_takeover_is_on_disk_before_it_is_sent_and_stands_in_the_way_after_a_restart() -> None:
    reaction = step(state(lost()), Ticked(), NOW)
    first, swap = reaction.effects[0], reaction.effects[1]
    assert isinstance(first, Remember)
    assert isinstance(swap, Swap)
    assert swap.purpose is Purpose.TAKE_OVER
    assert first.memory == Memory(TERM, M1, POLICY.ttl_ms, 40, RUN)
    started = view("mail2", record=None, memory=first.memory, takeover_sent=unanswered(first.memory))
    assert asked(started).state.view.promise is None
    read = step(state(started), StoreSeen(record(version=41, counter=31)), NOW).state
    assert asked(read.view).state.view.promise is not None


def test_what_came_of_an_earlier_runs_takeover_is_no_lease() -> None:
    known = view("mail2", record=record(), takeover_sent=unanswered(Memory(TERM, M1, POLICY.ttl_ms, takeover=40)))
    won = record(version=41, term=TERM + 1, holder=M2, previous=M1)
    assert step(state(known), StoreSeen(won), NOW).state.view.held is None


def test_a_lease_is_marked_before_the_role_is_given_back() -> None:
    before = state(view("mail1", held=Held(TERM, 40, NOW + 1000), renewed_ms=NOW - 1700))
    reaction = step(before, Ticked(), NOW)
    assert KeepLease(Held(TERM, 40, NOW + 1000), leaving=True) in reaction.effects
    swap = Swap(Purpose.RENEW, 40, record(counter=31), NOW - 100)
    later = step(reaction.state, Swapped(swap, Outcome.SUCCEEDED, record(counter=31, version=41)), NOW)
    assert all(effect.leaving for effect in later.effects if isinstance(effect, KeepLease))


def test_a_report_that_does_not_ask_gets_no_promise() -> None:
    assert asked(view("mail2"), asks_ms=0).state.view.promise is None


def test_a_promise_moves_on_with_each_round() -> None:
    first = asked(view("mail2")).state
    again = step(first, Reported(report("mail1", "mail2", **(ASKS | {"number": 9}))), NOW + 250).state
    assert again.view.promise == Promise(TERM, Heard(M1, "mail1#1", 9), NOW + 250 + POLICY.ttl_ms)


# ---- a condemned term -----------------------------------------------------------------------------------------------


def test_a_condemned_term_is_not_renewed() -> None:
    known = view("mail1", record=record(condemned_by=M2))
    reaction = step(state(known), Ticked(), NOW)
    assert not [effect for effect in reaction.effects if isinstance(effect, Swap)]
    assert reaction.state.rule is not None
    assert reaction.state.rule.id == "giving-back"


def test_only_a_fence_of_this_very_term_is_told_to_the_store() -> None:
    policy = replace(POLICY, fenced=("mail1",))
    for fenced, swaps in ((None, []), (TERM - 1, []), (TERM, [Purpose.CONFIRM])):
        known = view("mail2", policy=policy, record=record(condemned_by=M2), fenced_term=fenced)
        reaction = step(state(known), Ticked(), NOW)
        assert [effect.purpose for effect in reaction.effects if isinstance(effect, Swap)] == swaps
