"""The prober: a rhythm for each entry, prompt repetition of what failed, a schedule that changes at any time."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psutil
from structlog.testing import capture_logs

from failoverd.core.model import Health, NodeName, Observation, Reading
from failoverd.ports import Target
from failoverd.runtime.clock import BootClock
from failoverd.runtime.prober import Prober, Scheduled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MAIL1 = Target(NodeName("mail1"), "127.0.0.1")
MAIL2 = Target(NodeName("mail2"), "127.0.0.2")
OK = Reading(Health.OK)
BAD = Reading(Health.FAILED, "IT_FAILED", "failed")


class Steady:
    """A probe that finds what it is told, until told otherwise."""

    def __init__(self, reading: Reading = OK, *, hangs: bool = False) -> None:
        self.reading = reading
        self.hangs = hangs
        self.closed = 0
        self.ended = 0

    async def read(self, target: Target) -> Reading:
        """Do it."""
        del target
        if self.hangs:
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                self.ended += 1
        return self.reading

    async def close(self) -> None:
        """Count it."""
        self.closed += 1


class Seen:
    """What was delivered, to wait for."""

    def __init__(self) -> None:
        self.all: list[Observation] = []
        self.threads: set[int] = set()
        self._changed = threading.Condition()

    def __call__(self, observation: Observation) -> None:
        """Receive one."""
        with self._changed:
            self.all.append(observation)
            self.threads.add(threading.get_ident())
            self._changed.notify_all()

    def until(self, enough: Callable[[list[Observation]], bool]) -> list[Observation]:
        """Wait until `enough`; with a deadline."""
        with self._changed:
            assert self._changed.wait_for(lambda: enough(self.all), 10), self.all
            return list(self.all)

    def of(self, name: str) -> list[int]:
        """When the readings of `name` began."""
        return [seen.ended_ms - seen.took_ms for seen in self.all if seen.probe == name]


def entry(name: str, probe: Steady, *, interval_ms: int = 100, target: Target = MAIL1) -> Scheduled:
    return Scheduled(name, probe, target, interval_ms, deadline_ms=80)


def gaps_of(starts: list[int]) -> list[int]:
    return [later - sooner for sooner, later in itertools.pairwise(starts)]


@contextmanager
def running(schedule: list[Scheduled]) -> Iterator[tuple[Prober, Seen]]:
    threads, files = threading.active_count(), psutil.Process().num_fds()
    seen = Seen()
    prober = Prober(BootClock(), seen)
    prober.set_schedule(schedule)
    prober.start()
    try:
        yield prober, seen
    finally:
        prober.stop()
    assert not prober.alive
    assert threading.active_count() <= threads  # one of an earlier test may have ended meanwhile
    assert psutil.Process().num_fds() == files


def test_each_entry_keeps_its_rhythm_and_not_all_fire_at_once() -> None:
    names = [f"it{number}" for number in range(4)]
    with running([entry(name, Steady()) for name in names]) as (_, seen):
        seen.until(lambda found: len(found) >= 24)
    assert seen.threads.isdisjoint({threading.get_ident()})
    firsts = [seen.of(name)[0] for name in names]
    assert max(firsts) - min(firsts) >= 40  # spread over the interval of 100 ms
    for name in names:
        starts = seen.of(name)
        assert starts[-1] - starts[0] >= 90 * (len(starts) - 1)


def test_what_fails_is_looked_at_again_promptly_but_not_for_ever() -> None:
    probe = Steady(BAD)
    with running([entry("it", probe, interval_ms=800)]) as (_, seen):
        seen.until(lambda found: len(found) >= 7)
        gaps = gaps_of(seen.of("it"))
        assert all(150 <= gap < 750 for gap in gaps[:2]), gaps  # 200 ms after it ended, for one interval
        assert all(gap >= 700 for gap in gaps[5:]), gaps
        probe.reading = OK
        before = len(seen.until(lambda found: found[-1].reading is OK))
        seen.until(lambda found: len(found) > before)
    assert seen.of("it")[-1] - seen.of("it")[-2] >= 700


def test_a_hung_probe_delays_no_other() -> None:
    hung = Steady(hangs=True)
    with running([Scheduled("hung", hung, MAIL1, 100, 60_000), entry("well", Steady())]) as (_, seen):
        found = seen.until(lambda found: len(found) >= 10)
    assert all(one.probe == "well" for one in found)


def test_the_schedule_changes_at_any_time() -> None:
    gone, kept, new = Steady(hangs=True), Steady(), Steady()
    with running([entry("gone", gone), entry("kept", kept)]) as (prober, seen):
        seen.until(lambda found: {one.probe for one in found} == {"gone", "kept"})
        prober.set_schedule([entry("kept", kept), entry("kept", new, target=MAIL2)])
        found = seen.until(lambda found: any(one.target == "mail2" for one in found))
        count = len(found)
        seen.until(lambda found: len(found) >= count + 4)
        assert all(one.probe == "kept" for one in seen.all[count:])
        assert gone.closed == 1
        assert kept.closed == 0
        replaced = Steady(BAD)  # the same entry, with other settings
        prober.set_schedule([entry("kept", replaced)])
        seen.until(lambda found: found[-1].reading is BAD)
        assert (kept.closed, new.closed) == (1, 1)
    assert replaced.closed == 1
    starts = [one.ended_ms - one.took_ms for one in seen.all if one.probe == "kept" and one.target == "mail1"]
    assert min(gaps_of(starts)) >= 90  # neither change made it start anew


def test_it_stops_in_the_middle_of_a_reading_and_before_it_has_started() -> None:
    hung = Steady(hangs=True)
    with running([Scheduled("hung", hung, MAIL1, 100, 60_000)]) as (prober, seen):
        prober.set_schedule([Scheduled("hung", hung, MAIL1, 100, 60_000), entry("well", Steady())])
        seen.until(lambda found: len(found) >= 8)  # by then the other one hangs
    assert hung.ended == 1
    assert all(one.probe == "well" for one in seen.all)
    Prober(BootClock(), seen).stop()


def test_a_receiver_that_raises_does_not_end_it() -> None:
    seen = Seen()

    def deliver(observation: Observation) -> None:
        seen(observation)
        raise RuntimeError("closed")

    prober = Prober(BootClock(), deliver)
    with capture_logs() as logs:
        prober.start()
        prober.set_schedule([entry("it", Steady())])
        seen.until(lambda found: len(found) >= 3)
        assert prober.alive
        prober.stop()
    assert logs[0]["event"] == "an observation could not be delivered"


def test_a_burning_main_thread_does_not_keep_it_from_its_rhythm() -> None:
    with running([entry("it", Steady())]) as (_, seen):
        seen.until(lambda found: len(found) > 0)
        until = time.monotonic() + 0.5
        while time.monotonic() < until:
            pass
        count = len(seen.all)
    assert count >= 4
