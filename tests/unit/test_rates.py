"""What one client may ask: at once after a rest, and for as long as it likes."""

from __future__ import annotations

from failoverd.runtime.http import RATE
from failoverd.runtime.peers import PACE
from failoverd.runtime.rates import Buckets, Rate


def test_a_burst_and_then_the_rate() -> None:
    buckets = Buckets(Rate(a_second=10, burst=5))
    assert [buckets.take("a", 0.0) for _ in range(7)] == [True] * 5 + [False] * 2
    assert [buckets.take("a", 0.2) for _ in range(3)] == [True, True, False]
    assert sum(buckets.take("a", 1 + number / 100) for number in range(1000)) in range(100, 106)


def test_one_client_takes_nothing_from_another() -> None:
    buckets = Buckets(Rate(a_second=1, burst=1))
    assert not all(buckets.take("a", 0.0) for _ in range(2))
    assert buckets.take("b", 0.0)


def test_names_are_bounded_and_who_keeps_asking_is_not_forgotten() -> None:
    buckets = Buckets(Rate(a_second=1, burst=2))
    assert buckets.take("flood", 0.0)
    assert buckets.take("flood", 0.0)
    for number in range(Buckets.KEPT * 2):
        buckets.take(f"other {number}", 0.0)
        assert not buckets.take("flood", 0.0)
    assert len(buckets._left) == Buckets.KEPT


def test_an_honest_node_stays_below_what_it_may_ask() -> None:
    """The sum of runtime/http.py, with the shortest renewal that the configuration takes."""
    renewals = 1000 / 50
    reports, swaps, watched, reads, others, copies = PACE.a_second, renewals * 2, renewals * 2, 10, 2, 50
    assert reports + swaps + watched + reads + others + copies < 200 < RATE.a_second
