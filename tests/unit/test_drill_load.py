"""The pure parts of the load: when who does what, what an answer means, and what a second is told to have held."""

from __future__ import annotations

import contextlib
import random
import re
from collections import Counter
from email import message_from_bytes
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from failoverd.drill.comparing import counters
from failoverd.drill.load.answers import (
    DONE,
    GO_ON,
    AnswerError,
    imap_literal,
    imap_messages,
    imap_outcome,
    smtp_line,
    smtp_outcome,
)
from failoverd.drill.load.beats import GAP_S, Gaps
from failoverd.drill.load.histogram import BOUNDS, LEAST_MS, MOST_MS, add, bucket
from failoverd.drill.load.imap import quoted
from failoverd.drill.load.messages import MOST, Messages
from failoverd.drill.load.pacing import Pacer, Ramp
from failoverd.drill.load.seconds import Seconds
from failoverd.drill.load.users import FIRST_PAUSE_S, MOST_PAUSE_S, pause_s
from failoverd.drill.model import CountersDone, LoadDone, dump
from failoverd.drill.report.measured import percentile

if TYPE_CHECKING:
    from failoverd.drill.load.answers import Outcome
    from failoverd.drill.load.pacing import Kind
    from failoverd.drill.load.seconds import Operation
    from failoverd.drill.model import Second

MIB = 1 << 20
GAP_MS = round(GAP_S * 1000)
RATES: dict[Kind, float] = {"fetch": 6.0, "append": 1.0, "submit": 1.0}


def seeded(number: int) -> random.Random:
    return random.Random(number)  # noqa: S311 - people, not keys


# ---- who does what when


def planned(seed: int, looks: list[float], until_s: float) -> list[tuple[str, Kind, float]]:
    """All that three people are told to do, by somebody who looks at these times and at the end."""
    pacer: Pacer[str] = Pacer(RATES, seeded(seed))
    for who in ("anna", "bert", "cleo"):
        pacer.join(who, 0.0)
    return [one for at in (*sorted(looks), until_s) for one in pacer.due(at)]


@given(st.integers(0, 1 << 32), st.lists(st.floats(0, 120), max_size=30))
def test_when_something_is_meant_to_be_done_does_not_depend_on_how_late_anybody_is(
    seed: int, looks: list[float]
) -> None:
    found = planned(seed, looks, 120.0)
    assert found == planned(seed, [], 120.0)  # a generator that slept for two minutes owes the same, at the same times
    times = [at for _, _, at in found]
    assert times == sorted(times)
    assert all(0 < at <= 120 for at in times)


def test_rates_are_what_was_asked_for() -> None:
    pacer: Pacer[int] = Pacer(RATES, seeded(1))
    for who in range(500):
        pacer.join(who, 0.0)
    done = Counter(kind for _, kind, _ in pacer.due(600.0))
    for kind, rate in RATES.items():
        assert done[kind] == pytest.approx(rate * 10 * 500, rel=0.05)  # seven sigmas of the rarer ones


def test_who_has_left_does_nothing_and_who_comes_later_begins_then() -> None:
    pacer: Pacer[str] = Pacer({"fetch": 60.0}, seeded(2))
    pacer.join("anna", 0.0)
    pacer.join("bert", 100.0)
    early = [(who, at) for who, _, at in pacer.due(200.0)]
    assert min(at for who, at in early if who == "bert") > 100
    pacer.leave("anna")
    assert {who for who, _, _ in pacer.due(400.0)} == {"bert"}
    pacer.leave("bert")
    assert pacer.next_s() is None


def test_what_has_no_rate_is_never_done() -> None:
    pacer: Pacer[str] = Pacer({"fetch": 0.0, "append": 0.0}, seeded(3))
    pacer.join("anna", 0.0)
    assert pacer.next_s() is None


@given(st.lists(st.tuples(st.integers(0, 500), st.floats(0, 30)), max_size=20), st.floats(0.1, 50))
def test_people_come_no_faster_than_the_ramp_and_go_at_once(steps: list[tuple[int, float]], per_s: float) -> None:
    ramp, now, before = Ramp(per_s), 0.0, 0
    for target, pause in steps:
        ramp.aim(target, now)
        assert ramp.at(now) == min(before, target)
        now += pause
        here = ramp.at(now)
        assert here <= target
        assert here <= min(before, target) + pause * per_s + 1
        before = here
    if steps:
        assert ramp.at(now + 500 / per_s + 1) == steps[-1][0]


def test_whoever_aims_again_each_second_does_not_keep_people_from_coming() -> None:
    ramp = Ramp(0.25)
    for second in range(40):
        ramp.aim(10 + second % 2, float(second))
    assert ramp.at(40.0) == 10


@given(st.integers(0, 1000), st.integers(0, 1 << 32))
def test_a_new_attempt_waits_a_little_and_never_long(attempts: int, seed: int) -> None:
    assert FIRST_PAUSE_S <= pause_s(attempts, seeded(seed)) <= MOST_PAUSE_S


def test_pauses_grow_and_are_not_the_same_for_all() -> None:
    rng = seeded(4)
    means = [sum(pause_s(attempts, rng) for _ in range(2000)) / 2000 for attempts in range(1, 7)]
    assert means == sorted(means)
    assert len({pause_s(6, rng) for _ in range(100)}) == 100


# ---- latencies


@given(st.floats(0, MOST_MS))
def test_a_bucket_is_never_too_low_and_less_than_five_percent_too_high(latency_ms: float) -> None:
    told = float(bucket(latency_ms))
    assert told >= latency_ms
    assert told <= max(LEAST_MS, latency_ms * 1.05)


def test_buckets_rise_and_what_is_beyond_them_lies_in_the_last() -> None:
    assert all(low < high <= low * 1.05 for low, high in pairwise(BOUNDS))
    assert float(bucket(1e12)) == BOUNDS[-1] >= MOST_MS


@given(st.lists(st.floats(0, MOST_MS), min_size=1, max_size=200), st.sampled_from([50, 95, 99, 100]))
def test_a_percentile_of_buckets_is_that_of_the_latencies(latencies: list[float], percent: int) -> None:
    histogram: dict[str, int] = {}
    for one in latencies:
        add(histogram, one)
    exact = sorted(latencies)[-(-percent * len(latencies) // 100) - 1]
    told = percentile(histogram, percent)
    assert told is not None
    assert exact <= told <= max(LEAST_MS, exact * 1.05)


# ---- answers


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (b"OK done", "ok"),
        (b"OK", "ok"),
        (b"ok [READ-WRITE] Select completed.", "ok"),
        (b"PREAUTH welcome", "ok"),
        (b"NO [UNAVAILABLE] Temporary authentication failure.", "refused"),
        (b"NO [INUSE] try again", "refused"),
        (b"NO [LIMIT] too many", "refused"),
        (b"NO [SERVERBUG] Internal error occurred.", "failed"),
        (b"NO [CORRUPTION] oh", "failed"),
        (b"NO [OVERQUOTA] full", "rejected"),
        (b"NO [AUTHENTICATIONFAILED] who?", "rejected"),
        (b"NO no", "rejected"),
        (b"BAD what?", "rejected"),
        (b"BYE [UNAVAILABLE] later", "refused"),
        (b"BYE Disconnected: Shutting down", "failed"),
    ],
)
def test_what_an_imap_status_means(status: bytes, outcome: Outcome) -> None:
    assert imap_outcome(status) == outcome


@pytest.mark.parametrize("line", [b"", b"OKAY", b"* OK", b"NO[UNAVAILABLE]", b"\xff\xfe", b"220 mail ESMTP"])
def test_what_is_no_imap_status(line: bytes) -> None:
    with pytest.raises(AnswerError) as raised:
        imap_outcome(line)
    assert raised.value.outcome == "failed"


@pytest.mark.parametrize(
    ("code", "wanted", "outcome"),
    [
        (250, DONE, "ok"),
        (235, DONE, "ok"),
        (354, GO_ON, "ok"),
        (354, DONE, "failed"),  # a server that says so has not taken a message
        (334, DONE, "failed"),
        (250, GO_ON, "failed"),
        (421, DONE, "refused"),
        (450, GO_ON, "refused"),
        (451, DONE, "refused"),
        (550, DONE, "rejected"),
        (554, GO_ON, "rejected"),
    ],
)
def test_what_an_smtp_code_means(code: int, wanted: int, outcome: Outcome) -> None:
    assert smtp_outcome(code, wanted) == outcome


@pytest.mark.parametrize(
    ("line", "expected"),
    [(b"250-mail", (250, False)), (b"250 mail", (250, True)), (b"250", (250, True)), (b"421 4.3.2 x", (421, True))],
)
def test_lines_of_a_reply(line: bytes, expected: tuple[int, bool]) -> None:
    assert smtp_line(line) == expected


@given(st.binary(max_size=200))
def test_whatever_a_server_says_is_understood_or_said_not_to_be(line: bytes) -> None:
    for read in (smtp_line, imap_outcome):
        with contextlib.suppress(AnswerError):  # and nothing else
            read(line)
    assert (imap_literal(line) or 0) >= 0
    assert imap_messages(line, 3) >= 0


def test_literals_and_counts() -> None:
    assert imap_literal(b"* 1 FETCH (BODY[]<0> {4096}") == 4096
    assert imap_literal(b"* OK {12} of them") is None
    assert imap_messages(b"* 23 EXISTS", 3) == 23
    assert imap_messages(b"* 2 EXPUNGE", 3) == 2
    assert imap_messages(b"* 1 EXPUNGE", 0) == 0
    assert imap_messages(b"* 1 RECENT", 3) == 3


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40))
def test_what_is_quoted_is_read_as_it_was(text: str) -> None:
    told = quoted(text)
    assert re.fullmatch(rb'"(?:[^"\\]|\\["\\])*"', told)
    assert re.sub(rb"\\(.)", rb"\1", told[1:-1]) == text.encode()


@pytest.mark.parametrize("text", ["pass\r\nd1 LOGOUT", "schl\u00fcssel", "\0"])
def test_what_cannot_be_quoted_is_not_sent(text: str) -> None:
    with pytest.raises(AnswerError, match="quotes cannot hold"):
        quoted(text)


# ---- our counts beside the servers'


def done(**counts: int) -> LoadDone:
    none = dict.fromkeys(("late_p50_ms", "late_p99_ms", "late_max_ms", "cpu_s"), 0.0)
    return LoadDone(**{"logins": 7, "gaps": (), "rss_max_bytes": 0, "most_sessions": 0, **none, **counts})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("taken", "ours"),
    [(99, 100), (100, 100), (102, 102), (103, 103), (104, 103)],
    ids=["one is missing", "none was taken", "two were", "all were", "and one of nobody's"],
)
def test_what_was_never_answered_counts_as_the_servers_say(taken: int, ours: int) -> None:
    told = done(logins=5, logins_unknown=4, submitted=100, submits_unknown=3, appended=50, appends_unknown=0)
    nodes = [
        CountersDone(node="mail1", logins=4, submitted=tuple(map(str, range(60)))),
        CountersDone(node="mail2", logins=3, submitted=tuple(map(str, range(55, taken)))),  # some were handed on
    ]
    found = dict.fromkeys(map(str, range(taken + 50)), 1)
    assert [(one.name, one.ours, one.servers) for one in counters(told, nodes, found, 50)] == [
        ("IMAP logins", 7, 7),
        ("messages submitted", ours, taken),
        ("messages in the mailboxes", ours + 50, taken + 50),
        ("messages appended", 50, 50),
    ]


# ---- messages


def test_messages_are_of_the_drill_and_none_is_another() -> None:
    made = Messages("20260101-010203-switchover", seeded(5))
    some = [made.make("a@example.org", "b@example.org", 1_700_000_000.0) for _ in range(300)]
    assert len({one.id for one in some}) == 300
    for one in some:
        assert len(one.data) < MOST + 1024
        assert one.data.endswith(b"\r\n")
        assert b"\n." not in one.data
        assert b"\n" not in one.data.replace(b"\r\n", b"")
        read = message_from_bytes(one.data)
        assert read["Message-ID"] == one.id
        assert one.id.endswith("@20260101-010203-switchover.drill.invalid>")
        assert (read["From"], read["To"]) == ("<a@example.org>", "<b@example.org>")
        assert read["X-Failoverd-Drill"] == "20260101-010203-switchover"


# ---- gaps


@given(st.lists(st.integers(0, 3000), max_size=40), st.integers(0, 3000))
def test_gaps_are_all_times_of_more_than_half_a_second_between_good_beats(pauses_ms: list[int], rest_ms: int) -> None:
    gaps, now_ms = Gaps("imap", 1000.0, 50.0), 50_000
    expected = []
    for pause_ms in pauses_ms:
        expected.append((now_ms, now_ms + pause_ms))
        now_ms += pause_ms
        gaps.good(now_ms / 1000)
    expected.append((now_ms, now_ms + rest_ms))
    found = [(gap.from_ms - 1_000_000, gap.until_ms - 1_000_000) for gap in gaps.until((now_ms + rest_ms) / 1000)]
    # Which of the two a pause of half a second to the microsecond is, is nobody's business.
    assert [gap for gap in found if gap[1] - gap[0] != GAP_MS] == [gap for gap in expected if gap[1] - gap[0] > GAP_MS]
    assert all(until_ms - from_ms >= GAP_MS for from_ms, until_ms in found)


def test_a_handover_shorter_than_half_a_second_is_a_gap_where_a_login_failed() -> None:
    """A role that was handed over in 130 ms, as in a drill whose report said that there was no outage."""
    gaps = Gaps("smtp", 1000.0, 50.0)
    for now_s in (50.1, 50.2, 50.5, 50.6, 50.8, 50.9):
        gaps.good(now_s)
    for intended_s in (50.4, 50.3):  # never answered: they fail long after others went well again
        gaps.bad(intended_s)
    gaps.bad(50.85)  # alone among good ones: nobody who came just before or after it was without service
    assert [(gap.from_ms, gap.until_ms) for gap in gaps.until(50.95)] == [(1_050_200, 1_050_500)]


# ---- seconds

EPOCH_S = 1_700_000_000.0
DEADLINE_S = 5.0


def told(seconds: Seconds, now_s: float, sessions: int = 1, users: int = 1) -> list[Second]:
    return list(seconds.tell(now_s, sessions, users))


def begun() -> Seconds:
    return Seconds(EPOCH_S, DEADLINE_S, 100.0)


def at(second: Second) -> int:
    return second.at_ms // 1000 - int(EPOCH_S)


def test_a_second_is_told_when_it_is_over_and_nothing_in_it_is_open() -> None:
    seconds = begun()
    quick, slow = seconds.begin("imap", 100.1), seconds.begin("smtp", 100.2)
    quick.end("ok", 100.15)
    assert told(seconds, 100.9) == []
    assert told(seconds, 103.0) == []  # and those after it wait for their turn
    slow.end("ok", 103.2)
    first, *more = told(seconds, 103.3)
    assert (first.imap.ok, first.smtp.ok) == (1, 1)
    assert percentile(first.imap.latency, 100) == pytest.approx(50, rel=0.05)
    assert percentile(first.smtp.latency, 100) == pytest.approx(3000, rel=0.05)  # from when it was meant to be
    assert [at(second) for second in (first, *more)] == [100, 101, 102]


def test_what_is_open_for_longer_than_its_deadline_has_failed_whatever_comes_of_it() -> None:
    seconds = begun()
    operation = seconds.begin("imap", 100.9)
    assert told(seconds, 105.9) == []
    assert not operation.over
    [first, *_] = told(seconds, 106.0)
    assert (first.imap.ok, first.imap.failed) == (0, 1)
    assert operation.over
    operation.end("ok", 106.1)
    assert first.imap.latency == {}
    assert sum(second.imap.ok for second in seconds.rest()) == 0


def test_the_first_word_about_an_operation_counts() -> None:
    seconds = begun()
    operation = seconds.begin("smtp", 100.5)
    operation.end("refused", 100.6)
    operation.end("ok", 100.7)
    [first] = seconds.rest()
    assert (first.smtp.ok, first.smtp.refused, first.smtp.failed) == (0, 1, 0)


def test_beats_are_counted_apart() -> None:
    seconds = begun()
    good, bad, open_ = (seconds.begin("imap", 100.0 + n / 10, beat=True) for n in range(3))
    good.end("ok", 100.2)
    bad.end("refused", 100.3)
    [first] = seconds.rest()
    assert (first.imap.beats_ok, first.imap.beats_failed) == (1, 2)
    assert (first.imap.ok, first.imap.failed, first.imap.latency) == (0, 0, {})
    assert open_.over


def test_what_has_had_no_answer_for_two_seconds_is_overdue_until_it_ends_or_its_second_is_told() -> None:
    seconds = begun()
    answered, hung = seconds.begin("imap", 100.1), seconds.begin("smtp", 100.2)
    seconds.begin("imap", 100.3, beat=True)  # has a deadline of its own, and nobody waits for it
    assert seconds.overdue(101.9) == 0
    assert seconds.overdue(103.1) == 2
    answered.end("ok", 103.2)
    assert seconds.overdue(103.3) == 1
    told(seconds, 101.1 + DEADLINE_S)
    assert seconds.overdue(101.1 + DEADLINE_S) == 0
    assert hung.over


def test_the_fault_s_stage_has_the_second_in_which_it_begins_and_the_one_in_which_it_ends() -> None:
    seconds = begun()
    seconds.stage("fault", 102.7)
    seconds.stage("load", 104.2)
    stages = {at(second): second.stage for second in told(seconds, 107.0)}
    assert stages == {
        100: "baseline",
        101: "baseline",
        102: "fault",
        103: "fault",
        104: "fault",
        105: "load",
        106: "load",
    }


def test_a_generator_that_slept_tells_of_each_second_and_of_its_lateness() -> None:
    seconds = begun()
    told(seconds, 100.5, sessions=7, users=9)
    seconds.late(3.0, 103.5)
    late = seconds.begin("imap", 100.2)  # meant for when it slept
    assert told(seconds, 103.6, sessions=3, users=9) == []
    late.end("ok", 104.0)
    found = told(seconds, 104.1, sessions=3, users=9)
    assert [at(second) for second in found] == [100, 101, 102, 103]
    assert [second.sessions for second in found] == [7, 7, 7, 3]
    assert [second.late_ms for second in found] == [0, 0, 0, 3000]
    assert percentile(found[0].imap.latency, 100) == pytest.approx(3800, rel=0.05)


def test_what_was_meant_for_a_second_that_is_told_counts_in_the_oldest_that_is_not() -> None:
    seconds = begun()
    assert [at(second) for second in told(seconds, 102.5)] == [100, 101]
    seconds.begin("imap", 100.9).end("ok", 102.6)
    [second] = seconds.rest()
    assert (at(second), second.imap.ok) == (102, 1)
    assert percentile(second.imap.latency, 100) == pytest.approx(1700, rel=0.05)


Event = tuple[float, str, float, str]


@given(
    st.lists(
        st.tuples(
            st.floats(0, 1.5),
            st.sampled_from(["imap", "smtp", "imap beat", "smtp beat", "tell"]),
            st.floats(0, 9),
            st.sampled_from(["ok", "failed", "refused", "rejected", "never"]),
        ),
        max_size=60,
    )
)
def test_every_operation_is_told_of_exactly_once(events: list[Event]) -> None:
    seconds, now = begun(), 100.0
    ends: list[tuple[float, Operation, str]] = []
    all_told: list[Second] = []
    meant: Counter[str] = Counter()
    for pause, what, takes, outcome in events:
        now += pause
        for at_s, operation, how in sorted(ends, key=lambda end: end[0]):
            if at_s <= now:
                operation.end(how, at_s)  # type: ignore[arg-type] # one of them: drawn
        ends = [end for end in ends if end[0] > now]
        if what == "tell":
            all_told += told(seconds, now)
            continue
        protocol, _, beat = what.partition(" ")
        operation = seconds.begin(protocol, now, beat=bool(beat))  # type: ignore[arg-type] # likewise
        meant[what] += 1
        if outcome != "never":
            ends.append((now + takes, operation, outcome))
    all_told += seconds.rest()
    for protocol in ("imap", "smtp"):
        tallies = [getattr(second, protocol) for second in all_told]
        assert sum(one.ok + one.failed + one.refused + one.rejected for one in tallies) == meant[protocol]
        assert sum(one.beats_ok + one.beats_failed for one in tallies) == meant[f"{protocol} beat"]
        assert all(sum(one.latency.values()) == one.ok for one in tallies)
    assert [at(second) for second in all_told] == list(range(100, int(now) + 1))
    assert all(len(dump(second)) < MIB / 8 for second in all_told)
