"""Who may write what into the store's record."""

from __future__ import annotations

from dataclasses import replace

import pytest
from views import TERM, record

from failoverd.core.entitled import improper, older, reserves
from failoverd.core.model import NodeName, Record

MAIL1, MAIL2, MAIL3, ARBITER = map(NodeName, ("mail1", "mail2", "mail3", "arbiter"))
STANDS = record()  # mail1's
NEXT = Record(version=40, term=TERM + 1, holder=MAIL2, ttl_ms=3000)
CONDEMNED = replace(STANDS, condemned_by=MAIL2)
SEALED = replace(STANDS, moves=1, moved_to="there", sealed=True)
PLACE = Record(version=3, moves=1, moved_to="there", sealed=True)

PROPER = {
    "take over for oneself": (STANDS, NEXT, MAIL2),
    "renew one's own lease": (STANDS, replace(STANDS, counter=31), MAIL1),
    "give one's own back": (STANDS, replace(STANDS, revoked=True, successor=MAIL2), MAIL1),
    "pause": (STANDS, replace(STANDS, paused="anna: a move"), ARBITER),
    "condemn in one's own name": (STANDS, CONDEMNED, MAIL2),
    "confirm what another condemned": (CONDEMNED, replace(CONDEMNED, off="anna"), MAIL3),
    "name the first primary": (Record(), Record(revoked=True, successor=MAIL1), ARBITER),
    "adopt": (Record(), Record(term=1, holder=MAIL1), MAIL1),
    "seal": (STANDS, SEALED, ARBITER),
}
IMPROPER = {
    "make another the primary": (STANDS, NEXT, MAIL3),
    "skip terms": (STANDS, replace(NEXT, term=TERM + 2), MAIL2),
    "change the holder of a term": (STANDS, replace(STANDS, holder=MAIL2), MAIL2),
    "renew another's lease": (STANDS, replace(STANDS, counter=31), MAIL2),
    "give another's back": (STANDS, replace(STANDS, revoked=True), MAIL2),
    "condemn in another's name": (STANDS, CONDEMNED, MAIL3),
    "take a condemnation back": (CONDEMNED, STANDS, MAIL1),
    "write what is sealed": (SEALED, replace(SEALED, counter=31, sealed=False), MAIL1),
    "seal again": (SEALED, replace(SEALED, moves=2, moved_to="elsewhere"), MAIL1),
    "move without a seal": (STANDS, replace(STANDS, moves=1, moved_to="there"), MAIL1),
    "seal for no place": (STANDS, replace(SEALED, moved_to=""), MAIL1),
    "seal and renew another's": (STANDS, replace(SEALED, counter=31), MAIL2),
    "seal and take over": (STANDS, replace(NEXT, moves=1, moved_to="there", sealed=True), MAIL2),
    "leave moves out": (STANDS, replace(SEALED, moves=2), MAIL1),
    "bring a lease that was given back to life": (replace(STANDS, revoked=True), STANDS, MAIL2),
}


@pytest.mark.parametrize(("standing", "wanted", "asker"), PROPER.values(), ids=PROPER)
def test_proper(standing: Record, wanted: Record, asker: NodeName) -> None:
    assert improper(standing, wanted, asker) == ""
    assert older(standing, wanted) == ""


@pytest.mark.parametrize(("standing", "wanted", "asker"), IMPROPER.values(), ids=IMPROPER)
def test_improper(standing: Record, wanted: Record, asker: NodeName) -> None:
    assert str(asker) in improper(standing, wanted, asker)


@pytest.mark.parametrize(
    ("standing", "moves", "may"),
    [
        (Record(), 1, True),
        (PLACE, 1, False),
        (PLACE, 2, True),
        (SEALED, 1, False),
        (SEALED, 2, True),
        (STANDS, 1, False),
        (replace(STANDS, moves=1, moved_to="there"), 2, False),
    ],
)
def test_a_place_is_reserved_where_nothing_counts(standing: Record, moves: int, may: bool) -> None:
    assert reserves(standing, replace(PLACE, moves=moves, moved_to="anew")) is may
    assert not reserves(standing, replace(standing, moves=moves, sealed=True, term=1)), "a record is no place"


def test_what_goes_back_says_so() -> None:
    assert older(replace(STANDS, moves=1), STANDS) == "a record that was moved 0 times, and it is 1 now"
    assert older(STANDS, replace(STANDS, term=TERM - 1)) == f"a record of term {TERM - 1}, and it is {TERM} now"
    assert older(STANDS, replace(STANDS, counter=29)) == f"renewal 29 of term {TERM}, and it is 30 now"
