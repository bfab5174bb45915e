"""The majority is of all configured observers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from failoverd.core.quorum import Tally, Vote, majority, tally

Y, N, U = Vote.YES, Vote.NO, Vote.UNKNOWN


@pytest.mark.parametrize(
    ("votes", "configured", "said"),
    [
        ((), 3, Tally.PENDING),
        ((Y,), 3, Tally.PENDING),  # all that answered are no majority
        ((Y, U, U), 3, Tally.PENDING),
        ((Y, Y), 3, Tally.WON),
        ((Y, Y, N), 3, Tally.WON),
        ((Y, N), 3, Tally.PENDING),
        ((N, N), 3, Tally.LOST),
        ((Y, Y), 4, Tally.PENDING),
        ((N, N), 4, Tally.LOST),
        ((Y,), 1, Tally.WON),
    ],
)
def test_tally(votes: tuple[Vote, ...], configured: int, said: Tally) -> None:
    assert tally(votes, configured) is said


@given(st.lists(st.sampled_from(Vote), min_size=1, max_size=9))
def test_never_both_and_final(votes: list[Vote]) -> None:
    said = tally(votes, len(votes))
    hopeful, hopeless = ([Y if v is U else v for v in votes], [N if v is U else v for v in votes])
    if said is Tally.WON:
        assert tally(hopeless, len(votes)) is Tally.WON
    elif said is Tally.LOST:
        assert tally(hopeful, len(votes)) is Tally.LOST
    else:
        assert tally(hopeful, len(votes)) is Tally.WON
        assert tally(hopeless, len(votes)) is Tally.LOST


def test_majorities() -> None:
    assert [majority(n) for n in range(1, 8)] == [1, 2, 2, 3, 3, 4, 4]
