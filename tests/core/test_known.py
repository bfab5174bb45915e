"""A view remembers what it was asked: never past a change, and never past the moment at which an answer turns."""

from __future__ import annotations

import ast
import inspect
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import pytest
from views import NODES, NOW, POLICY, RUN, TERM, at, lost, record, replica_facts, report, sighting, view

from failoverd.core import (
    act,
    candidates,
    known,
    migration,
    orders,
    plan,
    positions,
    rules,
    state,
    swaps,
    tenure,
    verdicts,
)
from failoverd.core import view as view_module
from failoverd.core.health import Sendings, Sightings
from failoverd.core.known import CatchUp, Stuck, Target, Waits
from failoverd.core.lag import Lag
from failoverd.core.lease import Held, Memory, Promise, Unanswered, Watch
from failoverd.core.machine import State
from failoverd.core.mail_store import StoreState
from failoverd.core.model import Floor, Heard, Maintenance, NodeName, Record, Rejoin, RequestEnded, Scheduled
from failoverd.core.view import GateState, Leaving, Restart, View

if TYPE_CHECKING:
    from collections.abc import Callable

EPOCH = 1_700_000_000_000
ORDERED = record(
    paused="anna: the rack",
    paused_until_ms=EPOCH + NOW + 700,
    maintenance=(Maintenance(NodeName("mail3"), "anna", "a disk", EPOCH + NOW + 900),),
    scheduled=Scheduled("s1", NodeName("mail2"), "anna", "a kernel", TERM, EPOCH + NOW + 1100),
)
CLAIMS = sorted({claim for rule in rules.RULES for claim in rule.when}, key=lambda claim: claim.__name__)
QUESTIONS: tuple[Callable[[View], object], ...] = (
    *CLAIMS,
    lambda v: (
        v.fresh,
        v.valid,
        v.ready,
        v.steady,
        v.failing_here,
        v.failing_disks,
        v.findings,
        v.vip,
        v.host,
        v.units,
    ),
    lambda v: (v.store_answers(), v.asking(), v.promised_to(), v.round_promised_ms(), v.takeovers_in_window),
    lambda v: [(v.verdict(name, node.name), v.sighting(name, node.name)) for node in NODES for name in ("imap", "vip")],
    lambda v: (migration.next_answers(v), migration.next_place(v), migration.rejections(v, "")),
    lambda v: (orders.without_run_out(v, ORDERED), orders.look_at_schedule(v, ORDERED), orders.may_look(v)),
    candidates.failover,
    candidates.planned,
    candidates.why_not,
    rules.decide,
)
MAIL1, MAIL2 = NodeName("mail1"), NodeName("mail2")
CHANGES: dict[str, Any] = {
    "me": NODES[1],
    "nodes": NODES[:3],
    "policy": replace(POLICY, fence_required=True, report_max_age_ms=10),
    "membership": "another",
    "now_ms": NOW + 3000,
    "sendings": Sendings("another run"),
    "highest_term": 6,
    "memory": Memory(6, MAIL1, 3000, 40),
    "catch_up": CatchUp("another", NOW),
    "record": record(revoked=True, successor=MAIL2),
    "watch": Watch(5, 30, NOW - 4000),
    "store_heard_ms": NOW - 4000,
    "held": Held(5, 40, NOW + 200),
    "leaving": Leaving(5, MAIL2, "switchover-asked", renew=True, began_ms=NOW, undo=True),
    "served_term": 3,
    "gate": GateState.UNKNOWN,
    "frozen_term": 5,
    "reports": (report("arbiter", "mail2", lease_over=True),),
    "sightings": (sighting("imap", "mail2", failures=9), sighting("imap", "mail1", failures=9)),
    "database": replica_facts(700, receiver_error="no"),
    "restarts": (Restart("imap", NOW - 100, NOW, worked=True),),
    "takeovers_ms": (NOW - 200, NOW - 100, NOW),
    "request_seen": ("r1", NOW - 90_000),
    "request_failed": RequestEnded("r1", succeeded=False),
    "takeover_sent": Unanswered(40, 6, NOW),
    "renewed_ms": NOW - 2000,
    "promise": Promise(5, Heard(MAIL1, "mail1#1", 7), NOW + 9000),
    "fenced_term": 5,
    "marked_term": TERM,
    "let_go": (TERM, 3),
    "waits": Waits(TERM, RUN, 3, None),
    "beat_seen_ms": NOW - 60_000,
    "samples": ((NOW - 100, at(500)),),
    "floor": Floor(NOW, at(900)),
    "beyond": (NOW - 9000, True),
    "lag": Lag(2),
    "stuck": Stuck("CODE", "why", NOW),
    "mail_store": StoreState.RELEASED,
    "mail_store_ms": NOW,
    "rejoin": Rejoin("r", MAIL2, NodeName("mail3"), "anna", 5),
    "rejoin_since_ms": NOW - 9000,
    "rejoin_starts": (NOW - 100,),
    "rejoin_ended": RequestEnded("r", succeeded=True),
    "rejoin_failed": (1, NOW - 100),
    "rejoin_due_since_ms": NOW - 90_000,
    "membership_next": "as it is to be",
    "target": Target(NOW - 29_000, Record()),
    "epoch_ms": EPOCH + 2000,
}


def answers(asked: View) -> list[object]:
    return [question(asked) for question in QUESTIONS]


def test_every_field_has_a_change_to_test_with() -> None:
    assert set(CHANGES) == {field.name for field in fields(View) if field.init}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("before", [view("mail1"), view("mail2"), lost("mail2")], ids=["primary", "replica", "lost"])
def test_nothing_remembered_outlives_a_change(before: View, name: str) -> None:
    change = {name: CHANGES[name]}
    untouched = answers(replace(before, **change))  # before anything was asked
    asked = replace(before)
    answers(asked)
    assert answers(asked.changed(**change)) == untouched
    assert answers(replace(asked, **change)) == untouched
    assert asked.changed(**change) == replace(before, **change)
    assert answers(asked) == answers(replace(before))


@pytest.mark.parametrize(
    "before",
    [view("mail1"), view("mail2"), lost("mail2"), view("mail1", epoch_ms=EPOCH), lost("mail2", epoch_ms=EPOCH)],
    ids=["primary", "replica", "lost", "primary with a wall clock", "lost with a wall clock"],
)
def test_no_answer_turns_before_the_moment_that_it_waits_for(before: View) -> None:
    asked, seen = before, 0
    while asked.now_ms < NOW + 20_000 and seen < 40:
        told = answers(asked)
        until_ms = asked.waits_for_ms
        if until_ms == known.NEVER_MS:
            break
        # The texts of a hold-off count the milliseconds that are left; there is none in these views.
        assert answers(asked.at(until_ms - 1)) == told
        asked, seen = asked.at(until_ms), seen + 1
    assert seen > 1  # reports age, at the least


def test_what_is_quiet_is_known_of_one_state_only() -> None:
    quiet = State(view("mail2"), "0").changed(quiet_until_ms=NOW + 400)
    assert quiet.quiet_until_ms == NOW + 400
    assert quiet.changed(beat=7).quiet_until_ms == 0
    assert replace(quiet).quiet_until_ms == 0
    assert quiet == replace(quiet)


def test_sightings_with_a_newer_look_are_as_if_built_anew() -> None:
    before = Sightings((sighting("imap", "mail1"), sighting("vip", "mail2"), sighting("smtp", "mail1", failures=2)))
    assert [seen.observation.probe for seen in before.failing] == ["smtp"]
    for newer in (sighting("imap", "mail1", failures=1), sighting("smtp", "mail1"), sighting("vip", "mail2")):
        after = before.and_now(newer)
        anew = Sightings(after)
        assert after[-1] is newer
        assert len(after) == 3
        assert (after.failing, list(after.by_name.items())) == (anew.failing, list(anew.by_name.items()))
    assert len(before.and_now(sighting("host", "mail1"))) == 4


def _compares_with_now(module: object) -> list[str]:
    found = []
    for function in ast.walk(ast.parse(inspect.getsource(module))):  # type: ignore[arg-type] # a module
        if not isinstance(function, ast.FunctionDef):
            continue
        for node in ast.walk(function):
            names = {n.attr for n in ast.walk(node) if isinstance(n, ast.Attribute)}
            names |= {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
            if (isinstance(node, ast.Compare) and "now_ms" in names) or names & {"still_held", "is_over"}:
                found.append(function.name)
    return sorted(set(found))


@pytest.mark.parametrize(
    "module",
    [known, verdicts, tenure, positions, view_module, candidates, rules, plan, state, act, swaps, orders],
    ids=lambda module: module.__name__.rpartition(".")[2],
)
def test_the_time_is_compared_with_at_one_door_only(module: object) -> None:
    assert _compares_with_now(module) == (["reached"] if module is known else [])


def test_reports_are_asked_through_what_is_fresh_only() -> None:
    readers = set()
    for module in (known, verdicts, tenure, positions, view_module, candidates, rules, plan, state, act, swaps, orders):
        for function in ast.walk(ast.parse(inspect.getsource(module))):
            if isinstance(function, ast.FunctionDef):
                names = {n.attr for n in ast.walk(function) if isinstance(n, ast.Attribute)}
                if names & {"reports", "round_promised_ms"}:
                    readers.add(function.name)
    # The two others: what a report that came means for promises, and which reports an own one has heard.
    assert readers == {"fresh", "round_promised_ms", "make_report"}
