"""One record against what other nodes, and the store, know of it: the same, cut off, or another one, and from where on.

Lines hold the hash of the one before them. So where two records have the same line of some number, they have the same
lines up to it, and where they do not, halving finds the first that differs with a few questions.

    copies elsewhere   of this node's record: each is compared with the record here
    copies here        of the other nodes' records: each against what that node says of its own, and in itself
    anchors            in the store: the line of each number, as the holder of a term knew it
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from failoverd.audit.branch import lines_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    Ask = Callable[[list[int]], dict[int, str]]  # the hashes of lines, as far as they are there; raises AskError
    AskOf = Callable[[str, str, int, list[int]], dict[int, str]]  # on which node, of whose record, which version

AT_ONCE = 60  # numbers in one question


class AskError(Exception):
    """A node could not be asked; the text says why."""


@dataclass(frozen=True, slots=True)
class Ends:
    """What node `on` has of the record of `of`: from `first` to `seq`, whose line has that hash. Version 0: its own."""

    on: str
    of: str
    version: int
    first: int
    seq: int
    hash: str


@dataclass(frozen=True, slots=True)
class Anchor:
    """In the store: record `seq` of node `of`, as `by` knew it as its term began or ended."""

    term: int
    by: str
    moment: str
    of: str
    seq: int
    hash: str


@dataclass(frozen=True, slots=True)
class Said:
    """One thing to tell. `broken`: a record is not what it was."""

    what: str
    broken: bool


def of_own(own: Ends, here: Ask, copies: Sequence[Ends], ask: AskOf) -> Iterator[Said]:
    """This node's record against its copies on other nodes."""
    same: list[str] = []
    for copy in copies:
        whose = copy.on if copy.version <= 1 else f"{copy.on} (version {copy.version})"

        def there(at: list[int], copy: Ends = copy) -> dict[int, str]:
            return ask(copy.on, copy.of, copy.version, at)

        try:
            differs, unasked = _differs(own, here, copy, there)
        except AskError as error:
            yield Said(f"{whose} could not be asked for all of it: {error}", broken=False)
            differs, unasked = 0, "all"
        if differs:
            exact = f", or earlier: {unasked}" if unasked else ": they differ from there on"
            yield Said(f"{whose} has another record {differs} than this node{exact}", broken=True)
        elif copy.seq > own.seq:
            text = f"{whose} has it up to record {copy.seq}, and here it ends with {own.seq}: its end was cut off"
            yield Said(f"{text}, or this node was put back", broken=True)
        elif unasked:
            continue
        elif copy.seq < own.first:
            yield Said(f"{whose} has it up to record {copy.seq}, from before the first that is here", broken=False)
        else:
            same.append(f"{whose} up to {copy.seq}")
    if same:
        yield Said(f"the same on {', '.join(same)}", broken=False)


def of_anchors(own: Ends, here: Ask, anchors: Iterable[Anchor]) -> Iterator[Said]:
    """This node's record against the anchors in the store."""
    told = [anchor for anchor in anchors if anchor.of == own.of]
    found = here(sorted({anchor.seq for anchor in told}))
    agree = []
    for anchor in told:
        name = f"the anchor of term {anchor.term} ({anchor.moment}, put by {anchor.by})"
        if anchor.seq > own.seq:
            text = f"{name} knows it up to record {anchor.seq}, and here it ends with {own.seq}: its end was cut off"
            yield Said(f"{text}, or this node was put back", broken=True)
        elif found.get(anchor.seq, anchor.hash) != anchor.hash:
            yield Said(f"{name} has another record {anchor.seq} than this node", broken=True)
        elif anchor.seq in found:
            agree.append(anchor.term)
    if agree:
        yield Said(f"{len(agree)} anchors in the store agree, of terms {min(agree)} to {max(agree)}", broken=False)


def of_others(here: str, copies: Sequence[Ends], ask: AskOf) -> Iterator[Said]:
    """The newest copies on this node against what their origins say of their own records now."""
    same: list[str] = []
    for copy in copies:
        try:
            found = ask(copy.of, copy.of, 0, [copy.seq])
        except AskError as error:
            yield Said(f"{copy.of} could not be asked for its own record: {error}", broken=False)
            continue
        if copy.seq not in found:
            text = f"{copy.of} does not have its record {copy.seq}, up to which the copy on {here} goes"
            yield Said(f"{text}: it was cut off, or that node was put back", broken=True)
        elif found[copy.seq] != copy.hash:
            text = f"{copy.of} has another record {copy.seq} than the copy of it on {here}"
            yield Said(f"{text}: failoverctl audit verify on {copy.of} says from where on", broken=True)
        else:
            same.append(f"{copy.of} up to {copy.seq}")
    if same:
        yield Said(f"the copies here are what their nodes have: {', '.join(same)}", broken=False)


def of_copy(directory: Path, of: str) -> Said:
    """Whether one copy on this node is whole in itself. Raises OSError."""
    before, name = None, f"the copy of {of}'s record in {directory}"
    for line in lines_of(directory, 0):
        if line.node != of:
            return Said(f"{name}: record {line.seq} is of {line.node}", broken=True)
        if before is not None and (line.seq != before.seq + 1 or line.prev not in {"", before.hash}):
            return Said(f"{name}: record {line.seq} does not go on from {before.seq}: one was changed", broken=True)
        before = line
    if before is None:
        return Said(f"{name}: no record can be read in it", broken=True)
    return Said(f"{name} is whole, up to {before.seq}", broken=False)


def _differs(own: Ends, here: Ask, copy: Ends, there: Ask) -> tuple[int, str]:
    """The first record that both have and that is not the same (0: none), and why it may be an earlier one.

    Raises AskError where not even the newest could be compared.
    """
    newest, oldest = min(own.seq, copy.seq), max(own.first, copy.first)
    if newest < oldest:
        return 0, ""
    theirs = copy.hash if newest == copy.seq else there([newest]).get(newest, "")
    if here([newest]).get(newest) == theirs:
        return 0, ""
    low, high = oldest - 1, newest  # the line of `high` differs
    while high - low > 1:
        step = max((high - low) // AT_ONCE, 1)
        at = list(range(low + step, high, step))[:AT_ONCE]
        try:
            ours, others = here(at), there(at)
        except AskError as error:
            return high, str(error)
        for seq in at:
            if ours.get(seq) == others.get(seq):
                low = seq
            else:
                high = seq
                break
    return high, ""
