"""A report that comes late, twice, out of order or of a term that is over changes nothing, whatever it says."""

from __future__ import annotations

from dataclasses import replace

import pytest
from views import NOW, TERM, report, view

from failoverd.core.events import Reported
from failoverd.core.lateness import REPLAY, Objection, untaken
from failoverd.core.machine import State, step
from failoverd.core.model import Heard, NodeName, Rejoin, Report

MAIL1, MAIL2 = NodeName("mail1"), NodeName("mail2")
KNOWN = view("mail2")
# What a report could ask for, or bring about.
LOUD = report(
    "mail1",
    "mail2",
    asks_ms=2000,
    unproven="nobody acknowledges",
    marks=9,
    beat=999,
    serving=False,
    rejoin=Rejoin("r1", MAIL2, NodeName("mail3"), "anna", TERM),
)
LATE = {
    "the same again": replace(LOUD, number=7),
    "one before it": replace(LOUD, number=6),
    "of a former term": replace(LOUD, number=8, term=TERM - 1),
    "of a former term and another run": replace(LOUD, number=8, term=TERM - 1, process="mail1#2"),
    "of another run that heard nothing": replace(LOUD, process="mail1#0", number=900, heard=()),
    "of another run that heard nobody's number": replace(
        LOUD, process="mail1#0", number=900, heard=(Heard(MAIL2, "mail2#1", 5),)
    ),
}


@pytest.mark.parametrize("told", LATE.values(), ids=LATE)
def test_it_changes_nothing_and_says_why(told: Report) -> None:
    why = untaken(KNOWN, told)
    assert why is not None
    assert why.reason
    before = State(view=KNOWN, software="0.1.0")
    seen = step(before, Reported(told), NOW).state.view
    assert step(before, Reported(told), NOW).state.view.reports == KNOWN.reports
    for name in ("highest_term", "promise", "record", "floor", "rejoin", "catch_up", "held", "unproven"):
        assert getattr(seen, name, None) == getattr(KNOWN, name, None), name


@pytest.mark.parametrize(
    "told",
    [
        replace(LOUD, number=8),
        replace(LOUD, number=8, term=TERM + 1),
        replace(LOUD, process="mail1#2", number=1),  # has heard this run's newest
    ],
    ids=["the next", "of a new term", "of a new run"],
)
def test_what_is_in_turn_is_taken(told: Report) -> None:
    assert untaken(KNOWN, told) is None


def test_a_restarted_daemon_is_no_replay() -> None:
    """Its first report has heard nothing yet: it waits for the next one, and nobody is alarmed."""
    why = untaken(KNOWN, replace(LOUD, process="mail1#2", number=1, heard=()))
    assert why is not None
    assert not why.code
    assert untaken(KNOWN, replace(LOUD, number=6)) == Objection("report 6 came after report 7", REPLAY)
