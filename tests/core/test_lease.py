"""The six rules as numbers, and the one inequality that all rests on."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from views import record

from failoverd.core import lease
from failoverd.core.lease import Held, Promise, Watch
from failoverd.core.model import Heard, NodeName

TIMES = st.integers(0, 10**6)


def test_a_lease_counts_from_before_it_was_sent() -> None:
    assert lease.granted(record(ttl_ms=3000), 1000, 300).deadline_ms == 1000 + 3000 - 300


@given(TIMES, TIMES)
def test_a_holder_whose_deadline_has_passed_is_no_holder(deadline: int, now: int) -> None:
    held = Held(1, 1, deadline)
    assert lease.still_held(held, now) == (held if now < deadline else None)


def test_the_wait_starts_anew_with_a_renewal_and_with_nothing_else() -> None:
    first = lease.watched(None, record(), 1000)
    assert lease.watched(first, record(version=41, request=None, revoked=True), 2000) is first
    assert lease.watched(first, record(counter=31), 2000).first_seen_ms == 2000
    assert lease.watched(first, record(term=6), 2000).first_seen_ms == 2000


def test_over_when_seen_for_a_whole_ttl_or_given_back() -> None:
    watch = Watch(5, 30, 1000)
    assert lease.over_from_ms(record(), watch, None) == 4000
    assert lease.over_from_ms(record(revoked=True), watch, None) == 0
    assert lease.over_from_ms(replace(record(), holder=None), watch, None) == 0
    assert lease.over_from_ms(record(off="anna: pulled the plug"), watch, None) == 0


def test_a_promise_of_this_term_prolongs_the_wait_and_never_shortens_it() -> None:
    watch, heard = Watch(5, 30, 1000), Heard(NodeName("mail1"), "mail1#1", 7)
    for term, until, over in ((5, 4500, 4500), (5, 3500, 4000), (4, 4500, 4000)):
        assert lease.over_from_ms(record(), watch, Promise(term, heard, until)) == over


def test_a_lower_term_is_refused() -> None:
    assert [lease.acceptable(record(term=term), 5, 0) for term in (4, 5, 6)] == [False, True, True]


@given(
    sent=TIMES,
    to_store=st.integers(0, 5000),
    to_candidate=st.integers(0, 5000),
    ttl=st.integers(1000, 60_000),
    drift=st.integers(-300, 300),
    offset=st.integers(-(10**6), 10**6),
)
def test_the_holder_ends_before_a_candidate_begins(  # noqa: PLR0917 - hypothesis names them; # whatever the delays, with clocks that differ by the margin
    sent: int, to_store: int, to_candidate: int, ttl: int, drift: int, offset: int
) -> None:
    margin = 300
    held = lease.granted(record(ttl_ms=ttl), sent, margin)
    seen = sent + to_store + to_candidate + offset  # by the candidate's clock, `offset` ahead
    watch = lease.watched(None, record(ttl_ms=ttl), seen)
    over = lease.over_from_ms(record(ttl_ms=ttl), watch, None)
    assert held.deadline_ms <= over - offset + drift
