"""What a drill counts in a journal: nothing twice, nothing between two questions, and what is not there any more."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from journal_stage import Written

from failoverd.drill.counters import JOURNAL, look
from failoverd.drill.counting import added

if TYPE_CHECKING:
    from pathlib import Path

    from failoverd.drill.model import CountersDone

pytestmark = pytest.mark.root  # for the program that writes a journal
ACCOUNT, DOMAIN = "drill1@example.test", "ID.drill.invalid"
LOGIN = f"imap-login: Login: user=<{ACCOUNT}>, method=PLAIN, TLS"


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def logins(journal: Written, *ago_s: float) -> None:
    for ago in ago_s:
        journal.write(("dovecot.service", "dovecot", LOGIN), ago_s=ago)


def asked(journal: Written, since_ms: int, late_ms: int = 0) -> CountersDone:
    source = (*JOURNAL, *journal.source)
    return look("mail1", {ACCOUNT}, DOMAIN, since_ms=since_ms, late_ms=late_ms, journal=source)


def test_questions_one_after_the_other_count_each_line_once(tmp_path: Path) -> None:
    journal, since_ms = Written(tmp_path), now_ms() - 60_000
    journal.write(("a.service", "a", "of long ago"), ago_s=900)
    logins(journal, *(float(ago) for ago in range(1, 40)))
    journal.write(("postfix@-.service", "postfix/cleanup", f"4F1B2: message-id=<1.a@{DOMAIN}>"), ago_s=30)
    journal.write(("postfix@-.service", "postfix/cleanup", f"4F1B3: message-id=<1.a@{DOMAIN}>"), ago_s=3)
    whole = asked(journal, since_ms)
    assert (whole.logins, whole.submitted, whole.missing) == (39, (f"<1.a@{DOMAIN}>",), "")
    parts = asked(journal, since_ms, late_ms=40_000)
    for late_ms in (33_333, 20_000, 20_000, 7_001, 7_000, 0):
        parts = added(parts, asked(journal, parts.until_ms, late_ms))
    assert (parts.logins, parts.submitted) == (whole.logins, whole.submitted)
    assert parts.until_ms >= whole.until_ms


def test_questions_in_the_midst_of_lines_lose_none(tmp_path: Path) -> None:
    journal, since_ms = Written(tmp_path), now_ms()
    for _ in range(20):
        journal.write(*[("dovecot.service", "dovecot", LOGIN)] * 20)
    span_ms = now_ms() - since_ms
    counted = asked(journal, since_ms, late_ms=now_ms() - since_ms)
    questions = 1
    while counted.until_ms < since_ms + span_ms:
        counted = added(counted, asked(journal, counted.until_ms, now_ms() - counted.until_ms - span_ms // 7))
        questions += 1
    assert questions > 3
    assert added(counted, asked(journal, counted.until_ms)).logins == 400


def test_a_journal_that_does_not_reach_back_is_said_to(tmp_path: Path) -> None:
    journal = Written(tmp_path)
    logins(journal, 10)
    found = asked(journal, now_ms() - 60_000)
    assert found.logins == 1
    assert found.missing.startswith("its journal begins at ")
    assert not asked(journal, now_ms() - 5_000).missing
    assert added(found, asked(journal, found.until_ms)).missing == found.missing, "once lost is lost"


def test_a_time_that_has_not_come_yet_is_left_to_the_next_question(tmp_path: Path) -> None:
    journal, since_ms = Written(tmp_path), now_ms() - 1000
    logins(journal, 0.5)
    found = asked(journal, since_ms, late_ms=2000)
    assert (found.logins, found.until_ms, found.missing) == (0, since_ms, "")
    assert added(found, asked(journal, found.until_ms)).logins == 1


def test_an_empty_one_has_lost_nothing(tmp_path: Path) -> None:
    found = asked(Written(tmp_path), now_ms() - 60_000)
    assert (found.logins, found.submitted, found.missing) == (0, (), "")
