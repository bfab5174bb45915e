"""Who may write what into the store's record."""

from __future__ import annotations

from dataclasses import replace

import pytest
from views import TERM, record

from failoverd.core.entitled import improper, older
from failoverd.core.model import NodeName, Record

MAIL1, MAIL2, MAIL3, ARBITER = map(NodeName, ("mail1", "mail2", "mail3", "arbiter"))
STANDS = record()  # mail1's
NEXT = Record(version=40, term=TERM + 1, holder=MAIL2, ttl_ms=3000)
CONDEMNED = replace(STANDS, condemned_by=MAIL2)

PROPER = {
    "take over for oneself": (STANDS, NEXT, MAIL2),
    "renew one's own lease": (STANDS, replace(STANDS, counter=31), MAIL1),
    "give one's own back": (STANDS, replace(STANDS, revoked=True, successor=MAIL2), MAIL1),
    "pause": (STANDS, replace(STANDS, paused="anna: a move"), ARBITER),
    "condemn in one's own name": (STANDS, CONDEMNED, MAIL2),
    "confirm what another condemned": (CONDEMNED, replace(CONDEMNED, off="anna"), MAIL3),
    "name the first primary": (Record(), Record(revoked=True, successor=MAIL1), ARBITER),
    "adopt": (Record(), Record(term=1, holder=MAIL1), MAIL1),
}
IMPROPER = {
    "make another the primary": (STANDS, NEXT, MAIL3),
    "skip terms": (STANDS, replace(NEXT, term=TERM + 2), MAIL2),
    "change the holder of a term": (STANDS, replace(STANDS, holder=MAIL2), MAIL2),
    "renew another's lease": (STANDS, replace(STANDS, counter=31), MAIL2),
    "give another's back": (STANDS, replace(STANDS, revoked=True), MAIL2),
    "condemn in another's name": (STANDS, CONDEMNED, MAIL3),
    "take a condemnation back": (CONDEMNED, STANDS, MAIL1),
    "bring a lease that was given back to life": (replace(STANDS, revoked=True), STANDS, MAIL2),
}


@pytest.mark.parametrize(("standing", "wanted", "asker"), PROPER.values(), ids=PROPER)
def test_proper(standing: Record, wanted: Record, asker: NodeName) -> None:
    assert improper(standing, wanted, asker) == ""
    assert older(standing, wanted) == ""


@pytest.mark.parametrize(("standing", "wanted", "asker"), IMPROPER.values(), ids=IMPROPER)
def test_improper(standing: Record, wanted: Record, asker: NodeName) -> None:
    assert str(asker) in improper(standing, wanted, asker)


def test_what_goes_back_says_so() -> None:
    assert older(STANDS, replace(STANDS, term=TERM - 1)) == f"a record of term {TERM - 1}, and it is {TERM} now"
    assert older(STANDS, replace(STANDS, counter=29)) == f"renewal 29 of term {TERM}, and it is 30 now"
