"""How often a refusal is told, and how it reaches the daemon from a process that has no audit."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from failoverd.refusals import SOURCES, STANDS_S, WINDOW_S, Refusals
from failoverd.refusals_spool import Spool, Told

if TYPE_CHECKING:
    from pathlib import Path


class Clock:
    """Goes on when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """As set."""
        return self.now


def test_it_is_told_at_once_and_then_once_a_minute_with_how_often() -> None:
    clock = Clock()
    refusals = Refusals({"192.0.2.12": "mail2"}, clock)
    told = []
    for second in range(int(3 * WINDOW_S)):
        refusals.note("PEER_EXPIRED", "peer", "192.0.2.12", "its certificate: expired")
        told += [(second, refusal.node, count) for refusal, count in refusals.due()]
        clock.now += 1
    assert told == [(0, "mail2", 1), (60, "mail2", 60), (120, "mail2", 60)]
    assert refusals.counts == {("peer", "PEER_EXPIRED"): 180}


def test_a_finding_is_a_members_and_passes() -> None:
    clock = Clock()
    refusals = Refusals({"192.0.2.12": "mail2"}, clock)
    refusals.note("PEER_EXPIRED", "peer", "198.51.100.7", "its certificate: expired")
    assert refusals.standing() == ()
    refusals.note("PEER_EXPIRED", "peer", "192.0.2.12", "its certificate: expired")
    for _ in range(2):
        refusals.note("PEER_REPLAY", "peer", "192.0.2.12", "again")
    said = "mail2 (192.0.2.12), port peer: its certificate: expired"
    assert refusals.standing() == (("PEER_EXPIRED", said),)  # two replays are a daemon that was restarted
    refusals.note("PEER_REPLAY", "peer", "192.0.2.12", "again")
    assert [code for code, _ in refusals.standing()] == ["PEER_EXPIRED", "PEER_REPLAY"]
    clock.now += STANDS_S
    assert refusals.standing() == ()


def test_however_many_addresses_there_are_the_records_are_few_and_the_count_is_right() -> None:
    clock = Clock()
    refusals = Refusals({}, clock)
    records, told = 0, 0
    for minute in range(10):
        for number in range(1000):
            refusals.note("PEER_UNTRUSTED", "peer", f"2001:db8::{minute}:{number}", "x" * 1000)
        due = refusals.due()
        records += len(due)
        told += sum(count for _, count in due)
        clock.now += WINDOW_S
    assert records <= 10 * (SOURCES + 1)
    assert told == refusals.counts["peer", "PEER_UNTRUSTED"] == 10_000
    assert len(refusals._windows) <= SOURCES + 1
    assert all(len(refusal.reason) <= 200 for refusal, _ in refusals.totals())


def test_another_process_tells_by_a_file_that_may_be_read_often_or_seldom(tmp_path: Path) -> None:
    path, donors, mine = tmp_path / "refused.json", Refusals({"192.0.2.13": "mail3"}), Refusals()
    spool, told = Spool(path, donors, print, write_s=3600), Told(path, mine)
    told.read()  # there is none yet
    donors.note("PEER_STRANGER", "rebuild", "192.0.2.13", "no data node")
    spool.write()
    for _ in range(3):
        told.read()
    assert mine.counts == {("rebuild", "PEER_STRANGER"): 1}
    for _ in range(4):
        donors.note("PEER_STRANGER", "rebuild", "192.0.2.13", "no data node")
    spool.write()
    told.read()
    assert mine.counts == {("rebuild", "PEER_STRANGER"): 5}
    ((refusal, _),) = mine.due()
    assert (refusal.node, refusal.source) == ("mail3", "192.0.2.13")
    # That process was started again, and counts from the beginning.
    anew = Refusals({"192.0.2.13": "mail3"})
    anew.note("PEER_STRANGER", "rebuild", "192.0.2.13", "no data node")
    Spool(path, anew, print, write_s=3600).write()
    told.read()
    assert mine.counts == {("rebuild", "PEER_STRANGER"): 6}


def test_what_is_no_such_file_is_no_news(tmp_path: Path) -> None:
    path, mine = tmp_path / "refused.json", Refusals()
    told = Told(path, mine)
    kind = {"port": "rebuild", "code": "NO_CODE", "source": "x", "reason": "y", "node": "", "total": 3}
    for text in ("", "{", "[]", "null", '{"run": 1}', json.dumps({"run": "a", "kinds": [kind]}), "x" * 1_000_000):
        path.write_text(text)
        told.read()
    assert mine.counts == {}
