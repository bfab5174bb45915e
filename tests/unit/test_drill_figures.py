"""From what a drill found to its report: tables of figures, and properties of histograms and gaps."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from drill_stage import (
    BEGAN_MS,
    CONSISTENCY,
    COUNTERS,
    DRILL,
    GENERATOR,
    PHASES,
    TABLES,
    WANTED,
    aborted,
    failed,
    passed,
)
from hypothesis import given
from hypothesis import strategies as st

from failoverd.drill import CODES
from failoverd.drill.model import Gap, PhaseName, Report, Second, Tally, dump, load
from failoverd.drill.report import objectives as made
from failoverd.drill.report.figures import Evidence, objectives, report
from failoverd.drill.report.measured import gaps, percentile, protocols

if TYPE_CHECKING:
    from failoverd.drill.model import Objective, Stage


def found(evidence: Evidence) -> dict[str, Objective]:
    return {one.name: one for one in objectives(evidence, WANTED)}


# ---- percentiles


@pytest.mark.parametrize(
    ("histogram", "percent", "expected"),
    [
        ({}, 95, None),
        ({"5": 0}, 95, None),
        ({"5": 1}, 50, 5.0),
        ({"5": 1}, 100, 5.0),
        ({"5": 50, "10": 50}, 50, 5.0),
        ({"5": 50, "10": 50}, 51, 10.0),
        ({"5": 94, "10": 1, "2000": 5}, 95, 10.0),
        ({"5": 94, "10": 1, "2000": 5}, 95.1, 2000.0),
        ({"100": 1, "20": 98, "3": 1}, 99, 20.0),  # by their numbers, not by their letters
        ({"2.5": 3}, 99, 2.5),
    ],
)
def test_percentiles(histogram: dict[str, int], percent: float, expected: float | None) -> None:
    assert percentile(histogram, percent) == expected


histograms = st.dictionaries(st.integers(1, 10**6).map(str), st.integers(0, 10**6), max_size=40)


@given(histograms, st.floats(0.1, 100), st.floats(0.1, 100))
def test_a_higher_percentile_is_no_lower_and_each_is_a_bucket_that_has_something(
    histogram: dict[str, int], one: float, other: float
) -> None:
    values = [percentile(histogram, percent) for percent in sorted((one, other))]
    if sum(histogram.values()) == 0:
        assert values == [None, None]
        return
    low, high = values
    assert low is not None
    assert high is not None
    assert low <= high
    kept = sum(count for bound, count in histogram.items() if float(bound) <= low)
    assert kept * 100 >= min(one, other) * sum(histogram.values())
    assert {low, high} <= {float(bound) for bound, count in histogram.items() if count}


# ---- gaps


def _beats(pattern: str) -> tuple[Second, ...]:
    """o: good beats; x: only bad ones; m: some of both; a dot: none at all."""
    tallies = {
        "o": Tally(beats_ok=10),
        "m": Tally(beats_ok=2, beats_failed=8),
        "x": Tally(beats_failed=10),
        ".": Tally(),
    }
    return tuple(
        Second(at_ms=1_000 * at, stage="load", sessions=1, users=1, imap=tallies[one], smtp=tallies["o"])
        for at, one in enumerate(pattern)
    )


def _without_generator(pattern: str) -> Evidence:
    return Evidence(drill=DRILL, seconds=_beats(pattern), software={}, config_digest="")


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("", []),
        ("ooo", []),
        ("oxxo", [(1_000, 3_000)]),
        ("xo", [(0, 1_000)]),
        ("ox", [(1_000, 2_000)]),  # it had not ended when the load did
        ("oxoxxo", [(1_000, 2_000), (3_000, 5_000)]),
        ("ox.xo", [(1_000, 4_000)]),  # no beat is no good beat
        ("o..o", []),  # and no bad one either
        ("o.xo", [(1_000, 3_000)]),
        ("omxmo", [(1_000, 4_000)]),  # it began in one second and ended in another: rather too long
        ("omxxo", [(1_000, 4_000)]),
        ("oxmmo", [(1_000, 3_000)]),
        ("oxmxo", [(1_000, 3_000), (3_000, 4_000)]),
        ("ommo", []),  # one slow beat is no outage
    ],
)
def test_where_the_generator_died_its_seconds_tell_of_the_gaps(pattern: str, expected: list[tuple[int, int]]) -> None:
    assert [(gap.from_ms, gap.until_ms) for gap in gaps(_without_generator(pattern))] == expected


@given(st.text("oxm.", max_size=60))
def test_gaps_hold_every_bad_second_and_no_good_one(pattern: str) -> None:
    told = gaps(_without_generator(pattern))
    for at, one in enumerate(pattern):
        inside = any(gap.from_ms <= at * 1_000 < gap.until_ms for gap in told)
        assert inside or one != "x"
        assert not inside or one != "o"
    assert all(before.until_ms <= after.from_ms for before, after in pairwise(told))


@pytest.mark.parametrize(
    ("from_ms", "until_ms", "stage"),
    [
        (2_900, 5_000, "fault"),  # the last good beat is always before the fault: its outage is no one of the baseline
        (3_100, 5_000, "fault"),
        (3_900, 9_000, "fault"),
        (4_400, 5_200, "fault"),
        (4_600, 5_200, "load"),
        (1_000, 1_800, "baseline"),
    ],
)
def test_an_outage_counts_for_the_stage_that_brought_it(from_ms: int, until_ms: int, stage: str) -> None:
    stages: tuple[Stage, ...] = ("baseline", "baseline", "baseline", "fault", "fault", *["load"] * 5)
    seconds = [Second(at_ms=1_000 * at, stage=one, sessions=1, users=1) for at, one in enumerate(stages)]
    gap = Gap(protocol="imap", from_ms=from_ms, until_ms=until_ms)
    evidence = replace(passed(), seconds=seconds, generator=replace(GENERATOR, gaps=(gap,)))
    told = {one.stage: one.outage_ms for one in protocols(evidence) if one.protocol == "imap"}
    assert told == {one: until_ms - from_ms if one == stage else 0 for one in set(stages)}


# ---- the report


def test_a_drill_that_passed_meets_everything() -> None:
    whole = report(passed(), WANTED)
    assert all(one.met for one in whole.objectives)
    assert whole.advice == ()
    assert [(gap.protocol, gap.from_ms, gap.until_ms) for gap in whole.gaps] == [
        ("imap", 412_330, 415_050),
        ("smtp", 412_370, 415_290),
    ]
    assert len(whole.points) == len(passed().seconds) > 1200
    assert whole.points[0].at_ms == 352_000
    outages = {(one.protocol, one.stage): one.outage_ms for one in whole.protocols}
    assert outages["imap", "fault"] == 2_720
    assert outages["smtp", "fault"] == 2_920
    assert {outages[key] for key in outages if key[1] != "fault"} == {0}


def test_figures_are_the_sums_of_the_seconds() -> None:
    evidence = passed()
    for one in report(evidence, WANTED).protocols:
        tallies = [getattr(second, one.protocol) for second in evidence.seconds if second.stage == one.stage]
        assert one.failed == sum(tally.failed for tally in tallies)
        assert one.operations == sum(tally.ok + tally.failed + tally.refused + tally.rejected for tally in tallies)


def test_what_was_never_answered_is_a_failure_of_the_protocol_s() -> None:
    evidence = passed()
    before = report(evidence, WANTED)
    first = evidence.seconds[0]
    more = replace(first, smtp=replace(first.smtp, unknown=3))
    whole = report(replace(evidence, seconds=(more, *evidence.seconds[1:])), WANTED)
    changed = [(old, new) for old, new in zip(before.protocols, whole.protocols, strict=True) if old != new]
    [(old, new)] = changed
    assert (new.protocol, new.stage) == ("smtp", first.stage)
    assert (new.failed - old.failed, new.operations - old.operations) == (3, 3)
    assert whole.points[0].smtp_bad == before.points[0].smtp_bad + 3


def test_a_report_is_the_same_after_json() -> None:
    for evidence in (passed(), failed(), aborted()):
        whole = report(evidence, WANTED)
        assert load(Report, dump(whole)) == whole


def test_an_outage_counts_wherever_it_comes_after_the_fault() -> None:
    evidence = passed()
    assert evidence.generator is not None
    late = Gap(protocol="imap", from_ms=BEGAN_MS + 1_645_000, until_ms=BEGAN_MS + 1_660_000)
    evidence = replace(evidence, generator=replace(evidence.generator, gaps=(*evidence.generator.gaps, late)))
    one = found(evidence)["IMAP: longest time without service"]
    assert (one.value, one.limit, one.met) == (15.0, 10.0, False)


@pytest.mark.parametrize(
    ("changed", "name", "value", "code"),
    [
        ({"consistency": replace(CONSISTENCY, lost=("<a@b>",), lost_count=1)}, made.LOST, 1, "DRILL_LOST"),
        ({"consistency": replace(CONSISTENCY, twice=("<a@b>",), twice_count=2)}, made.TWICE, 2, "DRILL_TWICE"),
        (
            {"consistency": replace(CONSISTENCY, tables=(replace(TABLES[0], same=False), *TABLES[1:]))},
            made.TABLES,
            1,
            "DRILL_DIFFERS",
        ),
        ({"consistency": replace(CONSISTENCY, mailboxes_differ=("a INBOX",))}, made.MAILBOXES, 1, "DRILL_DIFFERS"),
        (
            {"counters": (replace(COUNTERS[0], ours=90, servers=100),)},
            "logins: generator and servers apart",
            10,
            "DRILL_OBJECTIVE",
        ),
        ({"generator": replace(passed().generator, late_p99_ms=100.5)}, made.LATE, 100.5, "DRILL_OBJECTIVE"),  # type: ignore[type-var]
    ],
)
def test_each_objective_that_is_missed_is_told_with_its_code(
    changed: dict[str, object], name: str, value: float, code: str
) -> None:
    evidence = replace(passed(), **changed)
    one = found(evidence)[name]
    assert (one.value, one.met) == (value, False)
    told = report(evidence, WANTED).advice
    assert [(advice.code, advice.page) for advice in told] == [(code, f"codes/{code}.md")]
    assert name in told[0].reason


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"consistency": None}, made.LOST),
        ({"consistency": replace(CONSISTENCY, tables=())}, made.TABLES),  # nothing compared proves nothing
        ({"backup": None}, made.BACKUP),
        ({"generator": None}, made.LATE),
        ({"counters": ()}, "generator and servers apart"),
        ({"seconds": ()}, "IMAP: errors under load"),
        ({"seconds": ()}, "SMTP: longest time without service"),
    ],
)
def test_what_was_not_measured_is_not_met(changed: dict[str, object], name: str) -> None:
    evidence = replace(passed(), **changed)
    one = found(evidence)[name]
    assert (one.value, one.met) == (None, False)
    assert any(name in advice.reason for advice in report(evidence, WANTED).advice)


def test_without_a_backup_asked_for_none_is_missed() -> None:
    evidence = replace(passed(), backup=None, drill=replace(DRILL, asked=replace(DRILL.asked, backup="none")))
    assert made.BACKUP not in found(evidence)


def test_without_users_their_figures_are_not_missed_and_the_clusters_own_outage_counts() -> None:
    drill = replace(DRILL, asked=replace(DRILL.asked, users=0))
    evidence = replace(passed(), drill=drill, seconds=(), generator=None, counters=())
    told = found(evidence)
    assert all(one.met for one in told.values())
    assert told[made.NO_PRIMARY].value == 2.65
    assert not [name for name in told if "IMAP" in name or "generator" in name]


def test_what_was_not_measured_is_told_also_where_it_decided() -> None:
    drill = replace(DRILL, outcome="failed", code="DRILL_OBJECTIVE", reason="not met: it")
    told = report(replace(passed(), drill=drill, counters=()), WANTED).advice
    assert [one.reason for one in told] == ["not measured: generator and servers apart"]


@pytest.mark.parametrize(("outcome", "value"), [("passed", 0), ("failed", 1), ("under-way", None)])
def test_the_old_primary_has_to_come_home(outcome: str, value: int | None) -> None:
    phases = tuple(replace(one, outcome=outcome) if one.name == PhaseName.REJOIN else one for one in PHASES)
    assert found(replace(passed(), drill=replace(DRILL, phases=phases)))[made.HOME].value == value


def test_where_nobody_left_nobody_has_to_come_home() -> None:
    phases = tuple(replace(one, outcome="skipped") if one.name == PhaseName.REJOIN else one for one in PHASES)
    assert made.HOME not in found(replace(passed(), drill=replace(DRILL, phases=phases)))


def test_advice_begins_with_what_failed_first_and_names_the_node_that_differs() -> None:
    told = report(failed(), WANTED).advice
    assert told[0].code == "DRILL_NOT_HOME"
    assert told[0].reason.startswith("rejoin: mail1 is not a replica after 600 s")
    assert [advice.node for advice in told if "tables that differ" in advice.reason] == ["mail1"]
    assert {advice.code for advice in told} <= set(CODES)


def test_an_aborted_drill_has_one_piece_of_advice_and_nothing_met_that_nobody_saw() -> None:
    whole = report(aborted(), WANTED)
    assert [advice.code for advice in whole.advice] == ["DRILL_ABORTED"]
    assert not any(one.met for one in whole.objectives)
    assert {one.value for one in whole.objectives} == {None}
