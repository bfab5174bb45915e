"""Errant transactions: those that no primary of the cluster's history wrote.

The journal (failoverd.journal) has one row a term. It says which server wrote from then on, and what that server held
as its term began. Whatever a primary held then is the cluster's history; nothing else is, but for what the newest
primary goes on writing:

    term 6  own 0-1   held 0-1-900              a server that no row names           errant from its first number on
    term 7  own 0-2   held 0-1-1000, 0-2-5000   0-1 beyond 1000: after its term      errant from 1001 on
                                                0-2 beyond 5000: it writes now       never errant

What was there before the first row is in the first row, so that it is history as well. Numbers that a new primary
leaves out lie below its own, and nobody has them.

What this cannot see: an earlier primary's number that stands in the history for another transaction (a source that
crashed and lost it, and was primary again). `heirs` and the source's own refusal find that.
"""

from __future__ import annotations

from dataclasses import dataclass

from failoverd.core.gtid import GtidSet

ENDLESS = 2**63 - 1


@dataclass(frozen=True, slots=True)
class JournalRow:
    """One term: the source of which its primary writes, and what that server held as the term began.

    Both in the notation of `DatabaseFacts.holdings`.
    """

    term: int
    own: str
    held: GtidSet


@dataclass(frozen=True, slots=True)
class Journal:
    """All rows in one: the newest term, and for each source (name, last number, the term that began with it)."""

    term: int = 0
    own: str = ""
    ends: tuple[tuple[str, int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Errant:
    """What a server holds of one source beyond the history. `since_term` began without it; 0: never a primary's."""

    extra: GtidSet
    since_term: int


def fold(rows: tuple[JournalRow, ...]) -> Journal:
    """The journal as one value. `rows` by ascending term."""
    ends: dict[str, tuple[int, int]] = {}
    for row in rows:
        ends.setdefault(row.own, (0, row.term))
        for source, intervals in row.held.parts:
            last = intervals[-1][1]
            if last > ends.get(source, (0, 0))[0]:
                ends[source] = (last, row.term)
    found = tuple((source, last, term) for source, (last, term) in sorted(ends.items()))
    return Journal(rows[-1].term, rows[-1].own, found) if rows else Journal()


def errant(holdings: GtidSet, journal: Journal) -> tuple[Errant, ...]:
    """What of `holdings` no primary wrote. Nothing while there is no row: then nothing is known of the history.

    `holdings` must not be younger than the journal: the caller compares within one term (`View.errant`).
    """
    if not journal.term:
        return ()
    ends = {source: (last, term) for source, last, term in journal.ends}
    ends[journal.own] = (ENDLESS, journal.term)
    found = []
    for source, intervals in holdings.parts:
        last, term = ends.get(source, (0, 0))
        extra = GtidSet(((source, intervals),)).minus(GtidSet.upto({source: last}))
        if extra.parts:
            found.append(Errant(extra, term))
    return tuple(found)


def in_words(found: tuple[Errant, ...]) -> str:
    """Which transactions, and since which term they cannot be the cluster's."""
    said = []
    for one in found:
        since = f"term {one.since_term} began without them" if one.since_term else "of a server that was never primary"
        said.append(f"{one.extra} ({since})")
    return "; ".join(said)
