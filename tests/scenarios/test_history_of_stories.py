"""What history tells of the stories is what happened in them: who, why, how long clients had no primary."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from story import Story

from failoverd.core.changes import Told, told
from failoverd.core.history import Line, Shares, noted

if TYPE_CHECKING:
    from failoverd.core.effects import Entry

EVERYBODY = frozenset({"mail1", "mail2", "mail3", "arbiter"})


class Noting(Story):
    """A story whose nodes keep their shares of each change, by the one true clock."""

    def __post_init__(self) -> None:
        """Begin with nothing noted."""
        super().__post_init__()
        self.shares: dict[str, Shares] = {}

    def _told(self, now: int, name: str, entry: Entry) -> None:
        super()._told(now, name, entry)
        line = Line(now, name, entry.term, entry.kind, entry.rule, entry.text, entry.code, dict(entry.detail))
        self.shares[name] = noted(self.shares.get(name, ()), line)


@cache
def shares_of(name: str) -> dict[str, Shares]:
    story = Noting()
    story.tell((Path(__file__).parent / f"{name}.txt").read_text())
    return story.shares


def changes(name: str, answered: frozenset[str] = EVERYBODY) -> list[Told]:
    """All but the adoption, newest first."""
    told_by = [share for node, shares in shares_of(name).items() if node in answered for share in shares]
    *later, first = told(told_by, answered)
    assert (first.kind, first.holder, first.outage_ms) == ("adoption", "mail1", None)
    return later


def names(change: Told, node: str) -> list[str]:
    return [part.name for by, part in change.phases if by == node]


def test_a_switchover_is_its_askers_and_as_long_as_both_gates_were_closed() -> None:
    back, there = changes("switchover")
    assert (there.id, there.kind, there.previous, there.holder) == ("term-2", "switchover", "mail1", "mail2")
    assert (there.by, there.reason, there.rule, there.outcome) == ("anna", "maintenance", "take-over-given", "done")
    parts = {(node, part.name): part for node, part in there.phases}
    closed, opened = parts["mail1", "close-gate"], parts["mail2", "open-gate"]
    assert closed.ended_ms is not None
    assert opened.ended_ms is not None
    assert there.outage_ms == opened.ended_ms - closed.ended_ms > 0
    assert names(there, "mail1") == ["close-gate", "make-read-only", "follow"]
    assert names(there, "mail2")[:3] == ["await-position", "freeze", "take-term"]
    assert names(there, "mail2")[-2:] == ["break-locks", "prove"]
    assert (back.id, back.previous, back.holder) == ("term-3", "mail2", "mail1")


def test_where_the_old_primary_died_the_outage_is_from_its_last_renewal_seen() -> None:
    (change,) = changes("power-cut")
    assert (change.kind, change.by, change.rule) == ("failover", "failoverd", "primary-lost-by-quorum")
    assert change.outage_ms is not None
    assert 3000 < change.outage_ms < 4000  # a whole lease, and the steps
    assert change.began_ms + change.outage_ms == change.ended_ms
    node, waited = change.phases[0]
    assert (node, waited.name, waited.began_ms) == ("mail1", "lease-runs-out", change.began_ms)
    assert "follow" not in names(change, "mail1")  # it was not there; what it did when it came back is no part of this


def test_a_lost_service_is_the_reason_though_the_term_was_given() -> None:
    (change,) = changes("service-ruined")
    assert change.kind == "failover"
    assert change.reason == "a service of the primary stays down after its restart, and a replica can serve"
    assert change.rule == "take-over-given"


def test_a_switchover_that_was_taken_back_failed_and_cost_an_outage() -> None:
    (change,) = changes("switchover-undone")
    assert (change.id, change.outcome, change.holder, change.by) == ("term-2-undone-1", "failed", "", "anna")
    assert change.phases[-1][1].name == "open-gate"
    assert change.outage_ms is not None
    assert change.outage_ms > 1000


def test_what_was_forced_says_who_and_what_was_given_up() -> None:
    (change,) = changes("forced")
    assert (change.kind, change.by, change.outcome) == ("forced", "anna", "done")
    assert change.reason.startswith("anna: they are gone; given up: 34 transactions")
    assert ("mail2", "BLK_RPO_UNPROVEN") in {(node, part.code) for node, part in change.phases}


def test_each_of_many_changes_is_told_once_with_what_held_it_up() -> None:
    found = changes("flapping")
    assert [change.id for change in found] == ["term-4", "term-3", "term-2"]
    assert "BLK_FLAPPING" in {part.code for _, part in found[0].phases}
    assert found[0].outage_ms is not None
    assert found[0].outage_ms > 20_000


def test_a_primary_that_was_fenced() -> None:
    (change,) = changes("fenced")
    assert "fence" in names(change, "mail2")
    assert change.outcome == "done"


def test_who_does_not_answer_leaves_a_gap_that_is_said() -> None:
    (_, there) = changes("switchover", EVERYBODY - {"mail2"})
    assert (there.outcome, there.outage_ms, there.ended_ms) == ("unknown", None, None)
    assert names(there, "mail1") == ["close-gate", "make-read-only", "follow"]


def test_when_the_old_primary_closed_is_not_guessed_where_it_gave_the_term_away() -> None:
    (_, there) = changes("switchover", EVERYBODY - {"mail1"})
    assert (there.outcome, there.outage_ms, there.previous) == ("done", None, "mail1")
    assert "lease-runs-out" not in {part.name for _, part in there.phases}


def test_one_node_that_prepares_for_a_change_that_is_none_tells_of_none() -> None:
    line = Line(1000, "mail3", 5, "decision", "primary-lapsing", "prepare: the holder has begun to let go")
    cut_off = noted((), line)
    assert told(cut_off, EVERYBODY) == []
    again = noted(cut_off, Line(2000, "mail3", 5, "decision", "replica-follows", "follow: the primary is another node"))
    assert again == ()


def test_a_change_that_nobody_can_take_is_under_way_and_says_what_is_in_the_way() -> None:
    lapsing = Line(
        1000, "mail2", 5, "decision", "primary-lapsing", "prepare: it has begun to let go", detail={"holder": "mail1"}
    )
    shares = noted(noted((), lapsing), Line(4000, "mail2", 5, "blocked", "primary-unknown", "…", "BLK_RPO_UNPROVEN"))
    (change,) = told(shares, frozenset({"mail2"}))
    assert (change.id, change.outcome, change.previous, change.holder) == ("term-6", "under-way", "mail1", "")
    assert [part.code for _, part in change.phases] == ["BLK_RPO_UNPROVEN"]


def test_clocks_that_do_not_agree_leave_the_outage_unknown() -> None:
    late = [share for node, shares in shares_of("switchover").items() for share in shares if node != "mail2"]
    early = [replace(share, opened_ms=1) if share.opened_ms else share for share in shares_of("switchover")["mail2"]]
    there = next(change for change in told([*late, *early], EVERYBODY) if change.id == "term-2")
    assert (there.outcome, there.outage_ms) == ("done", None)


@pytest.mark.parametrize("name", ["switchover", "power-cut", "flapping"])
def test_no_phase_is_told_twice_or_ends_before_it_began(name: str) -> None:
    for change in changes(name):
        seen = [(node, part.name, part.began_ms) for node, part in change.phases]
        assert len(seen) == len(set(seen))
        assert all(part.ended_ms is None or part.ended_ms >= part.began_ms for _, part in change.phases)
        assert seen == sorted(seen, key=lambda phase: phase[2])
