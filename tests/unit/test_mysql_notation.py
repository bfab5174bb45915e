"""What MySQL writes as a set of transactions, read and written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from failoverd.core.gtid import GtidSet
from failoverd.databases.mysql_facts import parse, written_by

A, B = "3e11fa47-71ca-11e1-9e33-c80aa9429562", "5e11fa47-71ca-11e1-9e33-c80aa9429562"
SOURCES = st.sampled_from([A, B, f"{A}:tag", f"{B}:other"])
SETS = st.dictionaries(SOURCES, st.sets(st.integers(1, 30), min_size=1, max_size=9), max_size=4)


def made(numbers: dict[str, set[int]]) -> GtidSet:
    return GtidSet.of({source: [(n, n) for n in members] for source, members in numbers.items()})


@given(SETS)
def test_what_is_written_is_read_again(numbers: dict[str, set[int]]) -> None:
    assert parse(str(made(numbers))) == made(numbers)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        (f"{A}:1-5:7", {A: [(1, 5), (7, 7)]}),
        (f"{A}:1-5,\n{B}:3", {A: [(1, 5)], B: [(3, 3)]}),  # as SELECT @@GLOBAL.gtid_executed prints it
        (f"{A.upper()}:1", {A: [(1, 1)]}),
        (f"{A}:1-5:tag:1-3:9:other:2", {A: [(1, 5)], f"{A}:tag": [(1, 3), (9, 9)], f"{A}:other": [(2, 2)]}),
    ],
)
def test_as_the_manual_has_it(text: str, expected: dict[str, list[tuple[int, int]]]) -> None:
    assert parse(text) == GtidSet.of(expected)


@pytest.mark.parametrize("text", [A, f"{A}:0", f"{A}:5-3", f"{A}:1-x"])
def test_what_is_no_set_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"interval|numbers|literal"):
        parse(text)


def test_what_one_server_wrote_has_its_uuid_with_a_tag_or_without() -> None:
    held = parse(f"{A}:1-5:tag:1,{B}:1-9")
    assert written_by(A.upper(), held) == parse(f"{A}:1-5:tag:1")
    assert written_by("6e11fa47-71ca-11e1-9e33-c80aa9429562", held) == GtidSet()
