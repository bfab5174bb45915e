"""Durations and moments as people write them on a command line."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import click
import pytest

from failoverd.ctl import when

BERLIN = "CET-1CEST,M3.5.0,M10.5.0/3"  # as POSIX writes the zone: needs no database of zones


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.setenv("TZ", BERLIN)
    time.tzset()
    yield None
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("90s", 90_000),
        ("30m", 1_800_000),
        ("2h", 7_200_000),
        ("1d", 86_400_000),
        ("1d12h", 129_600_000),
        ("1d2h3m4s", 93_784_000),
        (" 2h ", 7_200_000),
        ("", None),
        ("0s", None),
        ("2", None),
        ("2 h", None),
        ("2h30", None),
        ("3m2h", None),
        ("-2h", None),
        ("1.5h", None),
        ("²h", None),
        ("99999d", None),
    ],
)
def test_durations(text: str, ms: int | None) -> None:
    assert when.duration_ms(text) == ms


@pytest.mark.usefixtures("berlin")
@pytest.mark.parametrize(
    ("text", "due"),
    [
        ("+2h", "2026-03-01T16:30:00+01:00"),
        ("15:00", "2026-03-01T15:00:00+01:00"),
        ("14:30", "2026-03-02T14:30:00+01:00"),  # now is no time to come
        ("03:00", "2026-03-02T03:00:00+01:00"),
        ("3:00", "2026-03-02T03:00:00+01:00"),
        ("23:59:59", "2026-03-01T23:59:59+01:00"),
        ("2026-03-05T03:00", "2026-03-05T03:00:00+01:00"),
        ("2026-07-05 03:00", "2026-07-05T03:00:00+02:00"),
        ("2026-03-05T03:00Z", "2026-03-05T03:00:00+00:00"),
        ("2026-03-05T03:00:00-05:00", "2026-03-05T03:00:00-05:00"),
        ("24:00", None),
        ("12:60", None),
        ("+", None),
        ("+0s", None),
        ("tomorrow", None),
        ("", None),
    ],
)
def test_moments(text: str, due: str | None) -> None:
    now = datetime.fromisoformat("2026-03-01T14:30:00+01:00")
    assert when.moment(text, now) == (datetime.fromisoformat(due) if due else None)


@pytest.mark.usefixtures("berlin")
def test_a_time_of_the_night_in_which_the_clocks_change_is_that_of_the_wall() -> None:
    before = datetime.fromisoformat("2026-03-28T22:00:00+01:00")
    assert when.moment("04:00", before) == datetime.fromisoformat("2026-03-29T04:00:00+02:00")
    assert when.moment("+6h", before) == datetime.fromisoformat("2026-03-29T05:00:00+02:00")
    autumn = datetime.fromisoformat("2026-10-24T22:00:00+02:00")
    assert when.moment("04:00", autumn) == datetime.fromisoformat("2026-10-25T04:00:00+01:00")


def test_what_is_past_is_told_apart_from_what_is_no_time() -> None:
    with pytest.raises(click.BadParameter, match=r"'2020-01-01T00:00Z' is past: 20"):
        when.MOMENT.convert("2020-01-01T00:00Z", None, None)
    with pytest.raises(click.BadParameter, match=r"'soon' is no time; allowed: \+2h, 03:00"):
        when.MOMENT.convert("soon", None, None)
    with pytest.raises(click.BadParameter, match=r"'soon' is no duration; allowed: 90s, 30m"):
        when.DURATION.convert("soon", None, None)


def test_a_moment_is_after_now_and_within_a_day_when_only_its_time_is_said() -> None:
    now = datetime.now(UTC).astimezone()
    due = when.MOMENT.convert(now.strftime("%H:%M"), None, None)
    assert now - timedelta(minutes=1) < due <= now + timedelta(days=1, hours=1)


@pytest.mark.usefixtures("berlin")
def test_a_moment_is_shown_in_the_zone_of_who_reads_it() -> None:
    assert when.shown_iso("2026-07-05T01:00:00Z") == "2026-07-05 03:00:00 +0200"
    assert when.shown_iso("not a time") == "not a time"
