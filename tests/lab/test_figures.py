"""The figures themselves, from records made by hand."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import pytest
from referee import is_killed, overlap_ms
from trials import figures
from trials.figures import Attempt
from trials.watch import closed

if TYPE_CHECKING:
    from pathlib import Path


def attempt(start: float, end: float, *, ok: bool = True) -> Attempt:
    return Attempt(f"sql-{start}", "sql", start, end, late=0.0, ok=ok)


def steady(since: int, until: int) -> list[Attempt]:
    return [attempt(at, at + 10) for at in range(since, until, 50)]


def test_outage_runs_from_the_last_acknowledgement_to_the_next() -> None:
    failed = [attempt(at, at + 1000, ok=False) for at in range(1000, 4000, 50)]
    records = steady(0, 1000) + failed + steady(4000, 6000)
    assert figures.outage_ms(records, "sql", since=980, until=6000) == 4010 - 960


def test_without_a_fault_the_interval_of_the_attempts_is_what_is_left() -> None:
    assert figures.outage_ms(steady(0, 6000), "sql", since=1000, until=5000) == 50


def test_an_attempt_that_hung_through_the_outage_counts_at_its_end() -> None:
    records = [*steady(0, 1000), attempt(1000, 1900), *steady(1900, 3000)]
    assert figures.outage_ms(records, "sql", since=1000, until=3000) == 1900 - 960


def test_a_service_that_has_not_come_back_has_no_end() -> None:
    failed = [attempt(at, at + 1000, ok=False) for at in range(1000, 4000, 50)]
    assert figures.outage_ms(steady(0, 1000) + failed, "sql", since=1000, until=5000) == math.inf


def test_a_last_attempt_that_fails_is_no_outage_without_end() -> None:
    records = [*steady(0, 5000), attempt(4990, 5990, ok=False)]
    assert figures.outage_ms(records, "sql", since=1000, until=4995) == 50
    assert figures.outage_ms(records, "sql", since=1000, until=5400) == 5400 - 4960
    assert figures.outage_ms(records, "sql", since=1000, until=6100) == math.inf


def test_an_outage_outside_the_window_is_not_counted() -> None:
    records = steady(0, 1000) + steady(3000, 9000)
    assert figures.outage_ms(records, "sql", since=4000, until=9000) == 50


@pytest.mark.parametrize(
    ("moves", "expected"),
    [
        ([(0, "mail1", True), (10, "mail1", False), (10, "mail2", True)], 0),
        ([(0, "mail1", True), (10, "mail2", True), (30, "mail1", False)], 20),
        ([(0, "mail1", True), (90, "mail2", True)], 10),
        ([(-50, "mail1", True), (-40, "mail2", True)], 100),
        ([(0, "mail1", True), (120, "mail2", True)], 0),
    ],
)
def test_two_at_once_are_added_up_within_the_window(moves: list[tuple[float, str, bool]], expected: float) -> None:
    lines: list[dict[str, object]] = [
        {"at": at, "host": host, "what": "vip", "value": value} for at, host, value in moves
    ]
    assert overlap_ms(lines, "vip", since=0, until=100) == expected


def test_a_line_that_is_being_written_is_left_for_later(tmp_path: Path) -> None:
    path = tmp_path / "records"
    tail = figures.Tail(path)
    assert tail.new() == []
    path.write_text(json.dumps({"a": 1}) + '\n{"a"')
    assert tail.new() == [{"a": 1}]
    with path.open("a") as file:
        file.write(": 2}\n")
    assert tail.new() == [{"a": 2}]


def test_a_process_that_was_killed_runs_nothing_any_more() -> None:
    with subprocess.Popen(["/bin/sleep", "60"]) as process:
        assert not is_killed(process.pid)
        process.send_signal(signal.SIGSTOP)
        assert not is_killed(process.pid), "it may go on"
        process.kill()
        end = time.monotonic() + 10
        while not is_killed(process.pid):
            assert time.monotonic() < end
        process.wait()
    assert is_killed(process.pid)


def test_what_was_closed_for_more_than_a_blink_is_told() -> None:
    def line(at: float, what: str, value: object, host: str = "mail1") -> dict[str, object]:
        return {"at": at, "host": host, "what": what, "value": value}

    seen = [line(0, "vip", True), line(20, "reachable", [25, 993]), line(40, "reachable", [25, 993, 3306])]
    assert closed(seen, "mail1", since=100, until=9000) == []
    blink = [line(1000, "reachable", [993, 3306]), line(1100, "reachable", [25, 993, 3306])]
    assert closed([*seen, *blink], "mail1", since=100, until=9000) == []
    shut = [
        line(1000, "reachable", [993]),
        line(1200, "reachable", [25, 993]),
        line(1400, "reachable", [25, 993, 3306]),
    ]
    assert closed([*seen, *shut], "mail1", since=100, until=9000) == ["reachable: not as before for 400 ms at 900 ms"]
    assert closed([*seen, *shut], "mail1", since=1300, until=9000) == [], "it was before, but for a blink"
    assert closed([*seen, line(8000, "vip", False)], "mail1", since=0, until=9000) == [
        "vip: not as before for 1000 ms at 8000 ms"
    ]
    assert closed([*seen, line(8000, "vip", False, "mail2")], "mail1", since=0, until=9000) == []
