"""One record against what others know of it: the first record that differs is named, and a cut end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from failoverd.audit import across
from failoverd.audit.across import Anchor, AskError, Ends, Said

if TYPE_CHECKING:
    from collections.abc import Sequence

    Lines = dict[int, str]


def chain(upto: int, first: int = 1, forked: int = 0) -> Lines:
    """Lines whose hashes are the same in two of them up to where one is forked."""
    return {n: f"{n}{'x' if forked and n >= forked else ''}" for n in range(first, upto + 1)}


def ends(on: str, lines: Lines, version: int = 1, of: str = "mail1") -> Ends:
    return Ends(on, of, version, min(lines), max(lines), lines[max(lines)])


class Nodes:
    """Who has what; counts what it is asked."""

    def __init__(self, **lines: Lines) -> None:
        self._lines = lines
        self.asked = 0

    def hashes(self, on: str, _of: str, _version: int, at: list[int]) -> Lines:
        """Answer as a node does."""
        assert 0 < len(at) <= across.AT_ONCE
        self.asked += 1
        if on not in self._lines:
            raise AskError("no answer within 2000 ms")
        return {n: self._lines[on][n] for n in at if n in self._lines[on]}


def told(own: Lines, **copies: Lines) -> list[Said]:
    nodes = Nodes(**copies)
    found = [ends(name, lines) for name, lines in copies.items()]
    return list(
        across.of_own(ends("mail1", own, 0), lambda at: {n: own[n] for n in at if n in own}, found, nodes.hashes)
    )


def broken(said: Sequence[Said]) -> list[str]:
    return [each.what for each in said if each.broken]


def test_copies_that_are_the_same_are_told_in_one_line() -> None:
    assert told(chain(50), mail2=chain(50), mail3=chain(48)) == [
        Said("the same on mail2 up to 50, mail3 up to 48", broken=False)
    ]


def test_an_end_that_was_cut_off_is_found_by_who_has_more() -> None:
    (said,) = broken(told(chain(45), mail2=chain(48)))
    assert said.startswith("mail2 has it up to record 48, and here it ends with 45: its end was cut off")


@pytest.mark.parametrize("forked", [1, 2, 3, 59, 60, 61, 62, 120, 1799, 4000, 4999, 5000])
def test_the_first_record_that_differs_is_named(forked: int) -> None:
    own = chain(5000)
    nodes = Nodes(mail2=chain(5000, forked=forked))
    copies = [ends("mail2", chain(5000, forked=forked))]
    said = across.of_own(ends("mail1", own, 0), lambda at: {n: own[n] for n in at}, copies, nodes.hashes)
    (what,) = broken(list(said))
    assert what == f"mail2 has another record {forked} than this node: they differ from there on"
    assert nodes.asked <= 4, "not once a record"


def test_a_fork_and_a_longer_copy_at_once() -> None:
    (said,) = broken(told(chain(30), mail3=chain(40, forked=28)))
    assert "another record 28" in said


def test_another_version_is_named() -> None:
    own = chain(30)
    copies = [ends("mail2", chain(35, first=20, forked=25), version=2)]
    nodes = Nodes(mail2=chain(35, first=20, forked=25))
    said = across.of_own(ends("mail1", own, 0), lambda at: {n: own[n] for n in at if n in own}, copies, nodes.hashes)
    assert broken(list(said)) == ["mail2 (version 2) has another record 25 than this node: they differ from there on"]


@pytest.mark.parametrize(
    ("copy", "first", "rest"),
    [
        (chain(20), "the same on mail2 up to 20", []),
        (chain(20, forked=7), "mail2 has another record 20 than this node, or earlier: no answer within 2000 ms", []),
        (
            chain(40),
            "mail2 could not be asked for all of it: no answer within 2000 ms",
            ["mail2 has it up to record 40"],
        ),
    ],
)
def test_of_a_node_that_does_not_answer_any_more_its_head_still_counts(
    copy: Lines, first: str, rest: list[str]
) -> None:
    own, nodes = chain(30), Nodes()
    said = across.of_own(ends("mail1", own, 0), lambda at: {n: own[n] for n in at}, [ends("mail2", copy)], nodes.hashes)
    texts = [each.what for each in said]
    assert texts[0] == first
    assert [text[: len(start)] for text, start in zip(texts[1:], rest, strict=True)] == rest


def anchor(seq: int, hash_: str, term: int = 5) -> Anchor:
    return Anchor(term, "mail1", "begin", "mail1", seq, hash_)


def test_anchors_that_agree_are_counted_and_those_that_do_not_are_named() -> None:
    own = chain(30)
    anchors = [anchor(10, "10", 4), anchor(20, "20"), anchor(25, "other", 6), anchor(31, "31", 7)]
    said = list(across.of_anchors(ends("mail1", own, 0), lambda at: {n: own[n] for n in at if n in own}, anchors))
    first, second = broken(said)
    assert first == "the anchor of term 6 (begin, put by mail1) has another record 25 than this node"
    assert second.startswith("the anchor of term 7 (begin, put by mail1) knows it up to record 31, and here it ends")
    assert said[-1] == Said("2 anchors in the store agree, of terms 4 to 5", broken=False)


def test_an_anchor_of_a_record_that_was_too_old_says_nothing() -> None:
    own = chain(30, first=12)
    said = across.of_anchors(ends("mail1", own, 0), lambda at: {n: own[n] for n in at if n in own}, [anchor(3, "3")])
    assert list(said) == []


def test_other_nodes_are_held_against_the_copies_here() -> None:
    nodes = Nodes(mail2=chain(50), mail3=chain(20), mail4=chain(50, forked=7))
    copies = [ends("mail1", chain(45), of=name) for name in ("mail2", "mail3", "mail4", "mail5")]
    said = list(across.of_others("mail1", copies, nodes.hashes))
    cut, forked = broken(said)
    assert cut.startswith("mail3 does not have its record 45, up to which the copy on mail1 goes: it was cut off")
    assert forked.startswith("mail4 has another record 45 than the copy of it on mail1")
    assert [each.what for each in said if not each.broken] == [
        "mail5 could not be asked for its own record: no answer within 2000 ms",
        "the copies here are what their nodes have: mail2 up to 45",
    ]
