"""The harness: an observation in time, whatever a probe does."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from structlog.testing import capture_logs

from failoverd.core.model import Health, NodeName, Observation, Reading
from failoverd.ports import Target
from failoverd.probes.deadline import GRACE_MS, current, observe
from failoverd.runtime.clock import BootClock

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

TARGET = Target(NodeName("mail1"), "127.0.0.1")


class Doing:
    """A probe that does what it is told."""

    def __init__(self, what: Callable[[], Awaitable[Reading]]) -> None:
        self._what = what

    async def read(self, target: Target) -> Reading:
        """Do it."""
        del target
        return await self._what()


def seen(probe: Doing, deadline_ms: int = 100, patience_ms: int = 0) -> Observation:
    async def scene() -> Observation:
        observation = await observe("it", probe, TARGET, deadline_ms, BootClock(), patience_ms=patience_ms)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return observation

    return asyncio.run(scene())


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


def test_the_reading_is_handed_on() -> None:
    async def well() -> Reading:
        return Reading(Health.OK)

    observation = seen(Doing(well))
    assert (observation.probe, observation.target, observation.reading) == ("it", "mail1", Reading(Health.OK))
    assert observation.took_ms < 100


def test_the_deadline_means_what_the_stage_says() -> None:
    aborted = []

    async def hangs() -> Reading:
        current().stage("IT_FIRST", "did the first, not the second,")
        current().owns(lambda: aborted.append("it"))
        await forever()
        raise AssertionError

    observation = seen(Doing(hangs))
    assert observation.reading == Reading(Health.FAILED, "IT_FIRST", "did the first, not the second, within 100 ms")
    assert observation.took_ms <= 100 + GRACE_MS
    assert aborted == ["it"]


def test_who_has_begun_to_answer_is_given_its_patience() -> None:
    async def slow() -> Reading:
        current().alive()
        await asyncio.sleep(0.2)
        return Reading(Health.OK)

    assert seen(Doing(slow), 50, patience_ms=60_000).reading == Reading(Health.OK)
    assert seen(Doing(slow), 50).reading.health is not Health.OK, "none without it"


def test_patience_ends_too_and_a_silent_one_has_none() -> None:
    async def begins() -> Reading:
        current().alive()
        current().stage("IT_SECOND", "did not do the second")
        await forever()
        raise AssertionError

    async def silent() -> Reading:
        current().stage("IT_FIRST", "did not do the first")
        await forever()
        raise AssertionError

    late = seen(Doing(begins), 50, patience_ms=300).reading
    assert late == Reading(Health.FAILED, "IT_SECOND", "did not do the second within 300 ms")
    at_once = seen(Doing(silent), 50, patience_ms=60_000).reading
    assert at_once == Reading(Health.FAILED, "IT_FIRST", "did not do the first within 50 ms")


def test_what_is_settled_stays() -> None:
    async def polite() -> Reading:
        current().settle(Reading(Health.OK))
        await forever()
        raise AssertionError

    assert seen(Doing(polite)).reading == Reading(Health.OK)


def test_what_a_probe_says_after_its_abortion_does_not_count() -> None:
    async def hangs() -> Reading:
        current().stage("IT_HUNG", "hung")
        try:
            await forever()
        except asyncio.CancelledError:
            return Reading(Health.FAILED, "IT_CLOSED", "closed the connection")
        raise AssertionError

    assert seen(Doing(hangs)).reading.code == "IT_HUNG"


def test_a_probe_that_raises_is_a_bug_and_no_word_about_the_target() -> None:
    async def raises() -> Reading:
        raise ValueError("LOGIN canary secret")

    with capture_logs() as logs:
        reading = seen(Doing(raises)).reading
    assert reading == Reading(Health.UNKNOWN, "PROBE_BUG", "the probe raised ValueError")
    assert logs[0]["error"] == "ValueError"
    assert __file__ in logs[0]["at"]
    assert "secret" not in str(logs)


def test_a_probe_without_a_reading_or_cancelled_by_itself_is_a_bug() -> None:
    async def nothing() -> Reading:
        return None  # type: ignore[return-value]

    async def gives_up() -> Reading:
        raise asyncio.CancelledError

    with capture_logs():
        assert seen(Doing(nothing)).reading.reason == "the probe raised TypeError"
        assert seen(Doing(gives_up)).reading.reason == "the probe raised CancelledError"


def test_a_probe_that_ignores_its_cancellation_is_left_alone_and_not_started_again() -> None:
    async def scene() -> None:
        release = asyncio.Event()

        async def stubborn() -> Reading:
            current().stage("IT_HUNG", "hung")
            while not release.is_set():
                try:
                    await release.wait()
                except asyncio.CancelledError:
                    continue
            return Reading(Health.OK)

        probe = Doing(stubborn)
        with capture_logs() as logs:
            first = await observe("it", probe, TARGET, 50, BootClock())
            second = await observe("it", probe, TARGET, 50, BootClock())
        release.set()
        await asyncio.wait(asyncio.all_tasks() - {asyncio.current_task()})
        assert first.took_ms < 1000
        assert first.reading.code == "IT_HUNG"
        assert second.reading.code == "PROBE_BUG"
        assert [line["event"] for line in logs] == ["probe does not end when cancelled"]
        third = await observe("it", probe, TARGET, 50, BootClock())
        assert third.reading == Reading(Health.OK)

    asyncio.run(scene())


def test_a_deadline_that_this_process_slept_through_proves_nothing() -> None:
    async def freezes() -> Reading:
        current().stage("IT_HUNG", "hung")
        await asyncio.sleep(0)
        time.sleep(0.35)  # noqa: ASYNC251 - the whole loop stands still, as when the host is frozen
        await forever()
        raise AssertionError

    reading = seen(Doing(freezes)).reading
    assert (reading.health, reading.code) == (Health.UNKNOWN, "PROBE_STARVED")


def test_ending_the_observation_ends_the_probe() -> None:
    ended = []

    async def hangs() -> Reading:
        try:
            await forever()
        finally:
            ended.append("it")
        raise AssertionError

    async def scene() -> None:
        task = asyncio.create_task(observe("it", Doing(hangs), TARGET, 10_000, BootClock()))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()
        assert ended == ["it"]
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(scene())
