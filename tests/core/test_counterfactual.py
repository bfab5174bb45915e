"""What would have changed a decision: the fact that stands in the way is named, and only what was evaluated is said."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from views import NOW, claim, lost, record, replica_facts, report, sighting, view

from failoverd.core import counterfactual, explained, facts, rules
from failoverd.core.model import NodeName, Request, Thread

if TYPE_CHECKING:
    from failoverd.core.view import View


def changes(known: View) -> dict[str, str]:
    found, tried = counterfactual.otherwise(known)
    assert len(found) <= tried
    return {each.words: each.rule.id for each in found}


@pytest.mark.parametrize(
    ("known", "words", "rule"),
    [
        (lost("mail2", record=record(paused="anna: x")), "the cluster were not paused", "primary-lost-by-quorum"),
        (lost("mail2"), "the cluster were paused", "paused"),
        (lost("mail2"), "mail1 had renewed its lease just now", "replica-follows"),
        (
            lost("mail2", takeovers_ms=(NOW, NOW, NOW)),
            "there had been no change of primary lately",
            "primary-lost-by-quorum",
        ),
        (
            lost("mail2", {"mail3": {"lease_over": False}, "arbiter": {"lease_over": False}}),
            "every node heard had seen the lease of mail1 run out",
            "primary-lost-by-quorum",
        ),
        (
            lost("mail2", database=replica_facts(500, 480, receiver=Thread.STOPPED)),
            "mail2 had applied all that it received",
            "primary-lost-by-quorum",
        ),
        (
            lost("mail2", database=replica_facts(480, receiver=Thread.STOPPED)),
            "mail2 had received all that is known to exist",
            "primary-lost-by-quorum",
        ),
        (lost("mail2", frozen_term=None), "mail2 had stopped receiving for good", "primary-lost-by-quorum"),
        (view("mail1"), "somebody had asked for mail2 as primary", "switchover-asked"),
        (view("mail1"), "the lease of this node had run out", "lease-lost"),
        (view("mail2", store_heard_ms=NOW - 60_000), "the database of mail2 did not answer", "primary-unknown"),
    ],
)
def test_the_fact_that_decides_is_named(known: View, words: str, rule: str) -> None:
    assert changes(known)[words] == rule


def test_a_report_that_came_too_late_is_supposed_to_be_fresh_and_the_others_stay_so() -> None:
    known = lost("mail2", {"mail3": {"heard": ()}})
    assert "mail3" not in known.fresh
    fact = next(f for f in facts.facts(known) if f.words == "the last report of mail3 were fresh")
    assert set(fact.view.fresh) == {*known.fresh, "mail3"}
    assert changes(known)["the last report of mail3 were fresh"] == "primary-lost-by-quorum"


def test_a_service_that_fails_is_supposed_to_work() -> None:
    observers = {name: {"claims": (claim("imap", "mail1", 3),)} for name in ("mail2", "mail3", "arbiter")}
    known = view("mail1", observers, sightings=(sighting("imap", "mail1"), sighting("smtp", "mail1")))
    assert rules.decide(known).id == "own-service-restart"
    assert changes(known)["imap worked on mail1 (imap fails for mail2, mail3, arbiter)"] == "primary-serves"


def test_each_fact_is_turned_alone_and_the_view_stays_as_it_was() -> None:
    known = lost("mail2")
    before = rules.decide(known).id
    for fact in facts.facts(known):
        assert fact.view != known
        differing = {name for name, value in vars(fact.view).items() if value != vars(known)[name]} - {"_answers"}
        assert len(differing) <= 4, (fact.words, differing)
    assert rules.decide(known).id == before
    assert known == lost("mail2")


def test_what_no_single_fact_changes_says_so() -> None:
    known = view("arbiter")
    found, tried = counterfactual.otherwise(known)
    assert found == ()
    assert tried > 5


def test_what_is_explained_is_what_was_evaluated() -> None:
    known = lost("mail2")
    told = explained.explained(known)
    assert told.rule is rules.decide(known)
    assert [each.rule for each in told.earlier] == list(rules.RULES[: rules.RULES.index(told.rule)])
    for each in told.earlier:
        false = [predicate for predicate in each.rule.when if not predicate(known)]
        assert len(false) == len(each.lacks) > 0
    for other in told.otherwise:
        fact = next(f for f in facts.facts(known) if f.words == other.words)
        assert rules.decide(fact.view) is other.rule is not told.rule


@pytest.mark.parametrize(
    ("known", "name", "codes"),
    [
        (view("mail2"), "mail3", []),
        (view("mail2", {"mail3": None}), "mail3", ["BLK_UNREACHABLE"]),
        (view("mail2"), "arbiter", ["BLK_NOT_DATA"]),
        (view("mail2"), "mail9", ["BLK_NO_SUCH_NODE"]),
        (lost("mail2", {"mail3": None}), "mail2", ["BLK_RPO_UNPROVEN"]),
        (lost("mail2", takeovers_ms=(NOW, NOW, NOW)), "mail2", ["BLK_FLAPPING", "BLK_HOLD_OFF"]),
        (lost("mail2", takeovers_ms=(NOW, NOW, NOW)), "mail3", ["BLK_FLAPPING", "BLK_HOLD_OFF"]),
    ],
)
def test_why_not_names_every_blocker(known: View, name: str, codes: list[str]) -> None:
    assert [reason.code for reason in explained.why_not(known, name).reasons] == codes


def test_why_not_of_the_primary_and_of_who_comes_second() -> None:
    assert explained.why_not(view("mail2"), "mail1").primary
    assert explained.why_not(lost("mail2"), "mail3").said == "mail3 could take over: mail2 comes first"
    assert "nobody asked for that" in explained.why_not(view("mail2"), "mail3").said


def test_why_not_says_what_would_make_it_a_candidate() -> None:
    behind = report("mail3", "mail2").database
    assert behind is not None
    assert behind.replication is not None
    stopped = replace(behind, replication=replace(behind.replication, applier=Thread.STOPPED, applier_error="1062"))
    told = explained.why_not(view("mail2", {"mail3": {"database": stopped}}), "mail3")
    assert [reason.code for reason in told.reasons] == ["BLK_APPLIER"]
    assert told.would_do == ("the replication of mail3 ran",)
    assert told.tried > len(told.would_do)


def test_a_request_that_there_is_is_supposed_away() -> None:
    asked = record(request=Request("r", NodeName("mail2"), "anna", "", 5))
    words = "nobody had asked for mail2"
    known = view("mail1", {"mail2": {"request": "r"}}, record=asked)
    assert rules.decide(known).id == "switchover-asked"
    assert changes(known)[words] == "primary-serves"
