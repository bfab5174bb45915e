"""Drills that should have been: what past ones on disk come to, and that the daemon looks without its loop waiting."""

from __future__ import annotations

import asyncio
import functools
import json
import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, ParamSpec

import pytest

from failoverd.config import load
from failoverd.config.drill import Drill, DrillSchedule
from failoverd.core.findings import Severity
from failoverd.drill import model, schedule
from failoverd.drill.book import Book
from failoverd.drill.model import Asked
from failoverd.drill_files import LAST, STATE, WANTED
from failoverd.runtime import drills_past
from failoverd.runtime.drills_due import DrillsDue, found
from failoverd.runtime.fitness import about

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    from failoverd.config import Config
    from failoverd.drill.model import Outcome
    from failoverd.runtime.host import Refused

NOW = datetime(2026, 11, 29, 1, 5, tzinfo=UTC)
EACH_QUARTER = DrillSchedule.model_validate({"node": "mail3", "scenario": "service-death"})


def codes(told: tuple[Refused, ...]) -> list[str]:
    return [one.code for one in told]


@pytest.fixture
def drills(tmp_path: Path) -> Callable[..., str]:
    """Leave a drill on disk as the coordinator does, so many days before NOW."""

    def leave(days: int, outcome: Outcome, *, scheduled: bool = True, code: str = "", reason: str = "") -> str:
        at = NOW - timedelta(days=days)
        name = f"{at:%Y%m%d-%H%M%S}-service-death"
        asked = Asked(id=name, scenario="service-death", by="failoverd", users=0, duration_s=1, scheduled=scheduled)
        book = Book.opened(tmp_path, asked, "lab", lambda _: None)
        if outcome != "under-way":
            book.conclude(outcome, code, reason)
            book.change(ended=at.isoformat().replace("+00:00", "Z"))
            book.close()
        return name

    return leave


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "drill"


# ---- overdue --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("days", "told"), [(1, []), (90, []), (100, []), (101, ["DRILL_OVERDUE"])])
def test_it_is_overdue_after_the_quarter_and_its_grace(
    drills: Callable[..., str], place: Path, days: int, told: list[str]
) -> None:
    drills(days, "passed")
    past = drills_past.read(place)
    assert past.passed == NOW - timedelta(days=days)
    assert codes(found(EACH_QUARTER, past, NOW, NOW)) == told
    if told:
        assert found(EACH_QUARTER, past, NOW, NOW)[0].reason == "no drill has passed for 101 days; allowed: 100"


@pytest.mark.parametrize("outcome", ["failed", "aborted", "skipped", "under-way"])
def test_only_one_that_passed_counts(drills: Callable[..., str], place: Path, outcome: Outcome) -> None:
    drills(101, "passed")
    drills(1, outcome, scheduled=False)
    assert codes(found(EACH_QUARTER, drills_past.read(place), NOW, NOW)) == ["DRILL_OVERDUE"]


def test_where_none_ever_passed_it_counts_from_when_they_were_wanted(place: Path) -> None:
    assert drills_past.read(place) == drills_past.Past()
    since = drills_past.wanted_since(place, NOW)
    assert drills_past.wanted_since(place, NOW + timedelta(days=200)) == since == NOW
    assert codes(found(EACH_QUARTER, drills_past.Past(), since, NOW + timedelta(days=100))) == []
    assert codes(found(EACH_QUARTER, drills_past.Past(), since, NOW + timedelta(days=101))) == ["DRILL_OVERDUE"]
    drills_past.not_wanted(place)
    later = NOW + timedelta(days=300)
    assert drills_past.wanted_since(place, later) == later


def test_one_that_another_node_conducted_counts_and_so_does_one_whose_evidence_was_moved_away(place: Path) -> None:
    """Of another node's there is no last.json; of one's own there may be nothing else."""
    name = "20261120-010500-switchover"
    (place / name).mkdir(parents=True)
    asked = Asked(id=name, scenario="switchover", by="anna", users=0, duration_s=1)
    theirs = model.Drill(asked=asked, cluster="lab", began="x", outcome="passed", ended="2026-11-20T01:15:00.000Z")
    (place / name / STATE).write_bytes(model.dump(theirs))
    assert drills_past.read(place).passed == datetime(2026, 11, 20, 1, 15, tzinfo=UTC)
    (place / LAST).write_text(json.dumps({"id": "x", "ended": "2026-11-25T01:15:00.000Z", "scenario": "switchover"}))
    assert drills_past.read(place).passed == datetime(2026, 11, 25, 1, 15, tzinfo=UTC)


@pytest.mark.parametrize("text", ["", "{", "[]", "7", '{"ended": 7}', '{"outcome": "passed", "ended": "2026-11-20"}'])
def test_what_cannot_be_read_is_no_evidence(drills: Callable[..., str], place: Path, text: str) -> None:
    drills(30, "passed")
    (place / LAST).write_text(text)
    (place / "20261128-010500-switchover").mkdir()
    (place / "20261128-010500-switchover" / STATE).write_text(text)
    (place / "lost+found").mkdir()
    assert drills_past.read(place).passed == NOW - timedelta(days=30)


# ---- skipped --------------------------------------------------------------------------------------------------------


def test_a_due_one_that_did_not_begin_is_told_with_its_reason(drills: Callable[..., str], place: Path) -> None:
    drills(95, "passed")
    drills(2, "skipped", code="DRILL_NOT_FIT", reason="mail2 is silent")
    name = drills(1, "skipped", code="DRILL_LAG", reason="mail3 is 812 ms behind; allowed: 500")
    (told,) = found(EACH_QUARTER, drills_past.read(place), NOW, NOW)
    assert (told.code, told.reason) == ("DRILL_SKIPPED", f"{name}: DRILL_LAG: mail3 is 812 ms behind; allowed: 500")


@pytest.mark.parametrize("outcome", ["passed", "failed", "aborted", "under-way"])
def test_it_is_over_when_one_begins(drills: Callable[..., str], place: Path, outcome: Outcome) -> None:
    drills(2, "skipped", code="DRILL_LAG", reason="mail3 is 812 ms behind; allowed: 500")
    assert drills_past.read(place).skipped
    drills(1, outcome, scheduled=False)
    assert not drills_past.read(place).skipped


def test_one_that_somebody_typed_and_was_refused_is_no_due_one(drills: Callable[..., str], place: Path) -> None:
    drills(1, "skipped", scheduled=False, code="DRILL_WINDOW", reason="it is 14:02; drills are allowed 01:00-05:00")
    assert not drills_past.read(place).skipped
    due = drills(2, "skipped", code="DRILL_LAG", reason="far")
    assert drills_past.read(place).skipped.startswith(due)


def test_both_warn_and_have_their_words() -> None:
    for code in ("DRILL_OVERDUE", "DRILL_SKIPPED"):
        assert about(code).severity is Severity.WARNS


# ---- whose turn it is -----------------------------------------------------------------------------------------------


def test_only_the_node_that_is_named_begins_and_only_after_its_days() -> None:
    assert schedule.due(EACH_QUARTER, "mail3", None, NOW)
    assert schedule.due(EACH_QUARTER, "mail3", NOW - timedelta(days=90), NOW)
    # To the nearest day: the former one ended some time after the night's hour at which it is asked.
    assert schedule.due(EACH_QUARTER, "mail3", NOW - timedelta(days=90) + timedelta(hours=3), NOW)
    assert not schedule.due(EACH_QUARTER, "mail3", NOW - timedelta(days=89) + timedelta(hours=3), NOW)
    assert not schedule.due(EACH_QUARTER, "mail3", NOW - timedelta(days=89), NOW)
    each_night = EACH_QUARTER.model_copy(update={"days": 1})
    assert schedule.due(each_night, "mail3", NOW - timedelta(hours=22), NOW)
    assert not schedule.due(each_night, "mail3", NOW - timedelta(hours=2), NOW)
    assert not schedule.due(EACH_QUARTER, "mail2", None, NOW)
    assert not schedule.due(None, "mail3", None, NOW)


# ---- the daemon's look ----------------------------------------------------------------------------------------------


def configured(path: Path, node: str, *, enabled: bool = True, wanted: DrillSchedule | None = EACH_QUARTER) -> Config:
    drill = Drill.model_validate({"enabled": enabled}).model_copy(update={"schedule": wanted})
    return load(path, node).model_copy(update={"drill": drill})


P = ParamSpec("P")


def on_a_loop(test: Callable[P, Coroutine[None, None, None]]) -> Callable[P, None]:
    """Run a test on an event loop of its own."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


async def until(what: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not what():  # noqa: ASYNC110 - what is waited for is a thread's
            await asyncio.sleep(0.005)


@on_a_loop
async def test_the_daemon_looks_again_and_again(
    config_file: Path, tmp_path: Path, drills: Callable[..., str], place: Path
) -> None:
    drills(101, "passed")
    due = DrillsDue(configured(config_file, "mail3"), tmp_path, lambda: NOW, look_s=0.01)
    assert due.refused() == ()
    await due.start()
    try:
        await until(lambda: codes(due.refused()) == ["DRILL_OVERDUE"])
        drills(1, "skipped", code="DRILL_LAG", reason="far")
        await until(lambda: codes(due.refused()) == ["DRILL_OVERDUE", "DRILL_SKIPPED"])
        drills(0, "passed")
        await until(lambda: due.refused() == ())
        assert (place / WANTED).exists()
    finally:
        await due.stop()


@pytest.mark.parametrize("change", [{"node": "mail2"}, {"enabled": False}, {"wanted": None}])
@on_a_loop
async def test_only_where_one_is_wanted_of_this_node(
    config_file: Path, tmp_path: Path, drills: Callable[..., str], place: Path, change: dict[str, object]
) -> None:
    """A reload that takes the schedule away ends what was told of it."""
    drills(101, "passed")
    due = DrillsDue(configured(config_file, "mail3"), tmp_path, lambda: NOW, look_s=3600)
    await due.start()
    try:
        await until(lambda: bool(due.refused()))
        without = configured(config_file, **{"node": "mail3", **change})  # type: ignore[arg-type]  # as parametrised
        due.reload(without)()
        await until(lambda: due.refused() == ())
        await until(lambda: not (place / WANTED).exists())
    finally:
        await due.stop()


@on_a_loop
async def test_a_disk_that_hangs_holds_up_nothing(
    config_file: Path, tmp_path: Path, drills: Callable[..., str], place: Path
) -> None:
    """A pipe without a writer stands for it: whoever opens it waits."""
    drills(101, "passed")
    os.mkfifo(place / "hung")
    os.replace(place / "hung", place / LAST)  # noqa: PTH105 - it replaces what may be there
    due = DrillsDue(configured(config_file, "mail3"), tmp_path, lambda: NOW, look_s=0.01)
    await due.start()
    for _ in range(10):
        await asyncio.sleep(0)  # the loop goes on
    async with asyncio.timeout(5):
        await due.stop()
    assert due.refused() == ()
    descriptor = os.open(place / LAST, os.O_RDWR | os.O_NONBLOCK)  # let the thread go
    os.close(descriptor)


@on_a_loop
async def test_a_directory_that_cannot_be_written_ends_no_look(config_file: Path, tmp_path: Path) -> None:
    """Also for root, whom permissions do not stop: a file lies where the directory belongs."""
    (tmp_path / "drill").write_text("")
    due = DrillsDue(configured(config_file, "mail3"), tmp_path, lambda: NOW, look_s=0.01)
    await due.start()
    for _ in range(5):
        await asyncio.sleep(0.01)
    (tmp_path / "drill").unlink()
    try:
        await until((tmp_path / "drill" / WANTED).exists)
    finally:
        await due.stop()
