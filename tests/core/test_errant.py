"""Errant transactions: what no primary wrote, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from views import NOW, TERM, lost, primary_facts, replica_facts, view

from failoverd.core import candidates
from failoverd.core.errant import Journal, JournalRow, errant, fold, in_words
from failoverd.core.gtid import GtidSet
from failoverd.core.health import Sighting
from failoverd.core.model import Health, Identity, NodeName, Observation, Reading, SettingsFacts

if TYPE_CHECKING:
    from failoverd.core.view import View

upto = GtidSet.upto
M1, M2, M3 = NodeName("mail1"), NodeName("mail2"), NodeName("mail3")
NEW = 1_700_000_000_000_000  # a new primary's first number, see mariadb_promote.fresh_number

# mail3 was primary before failoverd came; mail1 was adopted, mail2 took over, mail1 again.
ROWS = (
    JournalRow(1, "0-1", upto({"0-3": 900, "0-1": 950})),
    JournalRow(4, "0-2", upto({"0-3": 900, "0-1": 1000, "0-2": NEW})),
    JournalRow(5, "0-1", upto({"0-3": 900, "0-2": NEW + 50, "0-1": NEW + 100_000})),
)


@pytest.mark.parametrize(
    ("rows", "holdings", "said"),
    [
        # nothing is known of the history before its first row
        (0, {"0-9": 5}, ""),
        # adopted: what was there before is history, and what the primary writes goes on
        (1, {"0-3": 900, "0-1": 950}, ""),
        (1, {"0-3": 900, "0-1": 7000}, ""),
        (1, {"0-3": 901, "0-1": 950}, "0-3:901 (term 1 began without them)"),
        (1, {"0-2": 1}, "0-2:1 (of a server that was never primary)"),
        # mail2's first transactions of term 4 are far beyond all before: the numbers left out are nobody's
        (2, {"0-3": 900, "0-1": 1000, "0-2": NEW + 1}, ""),
        (2, {"0-3": 900, "0-1": 1000}, ""),  # a replica that has nothing of the term yet
        (2, {"0-1": 1003, "0-2": NEW}, "0-1:1001-1003 (term 4 began without them)"),  # mail1's unacknowledged tail
        # the former primary's numbers are final, the newest one's are not
        (3, {"0-2": NEW + 50, "0-1": NEW + 200_000}, ""),
        (3, {"0-2": NEW + 51}, f"0-2:{NEW + 51} (term 5 began without them)"),
        # another domain is another source
        (3, {"0-1": 5, "7-1": 2}, "7-1:1-2 (of a server that was never primary)"),
        (3, {"0-9": 1, "0-3": 901}, "0-3:901 (term 1 began without them); 0-9:1 (of a server that was never primary)"),
    ],
)
def test_errant(rows: int, holdings: dict[str, int], said: str) -> None:
    assert in_words(errant(upto(holdings), fold(ROWS[:rows]))) == said


def test_mysql_s_sets_with_gaps() -> None:
    """There a set may begin anywhere; the history is all up to its last number."""
    journal = fold((JournalRow(1, "a", upto({"a": 10})), JournalRow(2, "b", upto({"a": 20, "b": 1}))))
    assert in_words(errant(GtidSet.of({"a": [(5, 7), (19, 22)]}), journal)) == "a:21-22 (term 2 began without them)"


def test_an_adopted_primary_that_had_written_nothing_is_known_by_its_row() -> None:
    journal = fold((JournalRow(1, "0-1", upto({"0-3": 900})),))
    assert errant(upto({"0-3": 900, "0-1": 3}), journal) == ()


def test_no_rows_fold_to_no_journal() -> None:
    assert fold(()) == Journal()


# ---- in a view --------------------------------------------------------------------------------------------------

JOURNAL = fold((JournalRow(TERM - 1, "0-3", upto({"0-3": 90})), JournalRow(TERM, "0-1", upto({"0-3": 95, "0-1": 99}))))


def told(known: View, journal: Journal = JOURNAL) -> View:
    """The same once this node has read its settings and the journal."""
    reading = Reading(Health.OK, facts=SettingsFacts((), Identity(), journal))
    seen = Sighting(Observation("settings", known.me.name, reading, NOW - 100, 5), 0, NOW - 100)
    return replace(known, sightings=(*known.sightings, seen))


STRAY = replica_facts(holdings=upto({"0-1": 500, "0-2": 7}))


def rejected(election: candidates.Election) -> dict[str, str]:
    return {why.node: why.code for why in election.rejected}


def test_whoever_holds_what_no_primary_wrote_is_not_elected() -> None:
    reports = {"mail3": {"database": replace(STRAY, replication=lost().database.replication)}}  # type: ignore[union-attr]
    assert candidates.failover(lost(reports=reports)).order == (M2, M3)
    election = candidates.failover(told(lost(reports=reports)))
    assert election.order == (M2,)
    assert rejected(election)["mail3"] == "BLK_ERRANT"


def test_who_has_the_newer_journal_speaks() -> None:
    """This node has read no journal; the other one has, and says so in its report."""
    reports = {"mail3": {"findings": (("ERRANT", "0-2:1-7"),)}}
    assert rejected(candidates.failover(lost(reports=reports)))["mail3"] == "BLK_ERRANT"


def test_it_is_this_node_s_finding_with_its_numbers() -> None:
    known = told(view(database=STRAY))
    assert ("ERRANT", "0-2:1-7 (of a server that was never primary)") in known.findings
    assert known.errant(M1) == ""


def test_the_present_primary_s_transactions_never_look_errant_in_flight() -> None:
    """Reports are of other moments than the journal."""
    ahead = primary_facts(100_000)
    assert told(view(reports={"mail1": {"database": ahead}})).errant(M1) == ""


@pytest.mark.parametrize("journal", [Journal(), fold((JournalRow(TERM - 1, "0-3", upto({"0-3": 90})),))])
def test_nothing_is_judged_before_the_row_of_the_term_was_read(journal: Journal) -> None:
    """A new primary writes before its row is there."""
    assert told(view(), journal).errant(M1) == ""
    assert told(view(database=STRAY), journal).errant(M2) == ""


def test_nothing_is_judged_that_is_of_a_later_term_already() -> None:
    later = replica_facts(holdings=upto({"0-1": 500, "0-2": 7}), heartbeat_term=TERM + 1)
    assert told(view(database=later)).errant(M2) == ""
