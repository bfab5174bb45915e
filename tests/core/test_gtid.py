"""The algebra of transaction sets, against Python's own sets."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from failoverd.core.gtid import GtidSet

NUMBERS = st.dictionaries(st.sampled_from(["0", "1", "0-2"]), st.sets(st.integers(1, 12), max_size=9), max_size=3)


def made(numbers: dict[str, set[int]]) -> GtidSet:
    return GtidSet.of({source: [(n, n) for n in members] for source, members in numbers.items()})


def members(gtids: GtidSet) -> set[tuple[str, int]]:
    return {(source, n) for source, parts in gtids.parts for low, high in parts for n in range(low, high + 1)}


@given(NUMBERS, NUMBERS)
def test_it_is_set_algebra(left: dict[str, set[int]], right: dict[str, set[int]]) -> None:
    a, b = made(left), made(right)
    assert members(a.union(b)) == members(a) | members(b)
    assert members(a.minus(b)) == members(a) - members(b)
    assert a.covers(b) == (members(a) >= members(b))
    assert a.count == len(members(a))


@given(NUMBERS, NUMBERS)
def test_equal_sets_are_equal_values(left: dict[str, set[int]], right: dict[str, set[int]]) -> None:
    assert made(left).union(made(right)) == made(right).union(made(left))
    assert made(left).minus(GtidSet()) == made(left)


@given(NUMBERS)
def test_intervals_are_merged_and_ascending(numbers: dict[str, set[int]]) -> None:
    for _, parts in made(numbers).parts:
        assert all(low <= high for low, high in parts)
        assert all(first[1] + 1 < then[0] for first, then in itertools.pairwise(parts))


def test_upto() -> None:
    assert str(GtidSet.upto({"0-2": 510, "0-1": 500, "0-3": 0})) == "0-1:1-500,0-2:1-510"


@pytest.mark.parametrize("interval", [(0, 3), (5, 4), (-1, -1)])
def test_what_is_no_interval_is_refused(interval: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="interval"):
        GtidSet.of({"0": [interval]})


UUIDS = st.dictionaries(
    st.sampled_from(["3e11fa47-71ca-11e1-9e33-c80aa9429562", "5e11fa47-71ca-11e1-9e33-c80aa9429562"]),
    st.sets(st.integers(1, 12), max_size=9),
    max_size=2,
)


@given(UUIDS, UUIDS)
def test_sets_by_uuid_with_gaps(left: dict[str, set[int]], right: dict[str, set[int]]) -> None:
    """MySQL's numbers have gaps: an applier with several workers, and what somebody wrote by hand."""
    a, b = made(left), made(right)
    assert a.minus(b).union(b).covers(a)
    assert not members(a.minus(b)) & members(b)
    assert a.covers(b) == (a.union(b) == a)
    assert (a.covers(b) and b.covers(a)) == (a == b)


def test_the_text_is_mysqls() -> None:
    assert str(GtidSet.of({"uuid": [(1, 5), (7, 7)], "other": [(2, 3)]})) == "other:2-3,uuid:1-5:7"
