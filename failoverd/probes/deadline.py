"""One look under a hard deadline: whatever the library underneath does, there is an observation in time.

A library can wait for ever, swallow its cancellation, or answer it with an error of its own making. So the harness
trusts none: it runs the probe in a task, and at the deadline it first aborts what the probe has opened, then cancels
the task, then says what the deadline means *at the stage that was reached*. The probe keeps that up to date:

    attempt = current()
    attempt.stage("IMAP_NO_GREETING", "accepted the connection, sent no greeting")   # ... within 1000 ms
    attempt.alive()                                                                  # from here on: patience
    attempt.settle(Reading(Health.OK))                                               # the rest is only politeness

Who is silent from the beginning is down. Who has begun to answer is alive, and slow: on an overloaded node a restart or
another primary makes it worse, so it is given its patience, where it has one, before it counts as failed.

A deadline that this process itself has slept through proves nothing about anybody else: PROBE_STARVED, UNKNOWN.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from typing import TYPE_CHECKING

import structlog

from failoverd.core.model import Health, Observation, Reading

if TYPE_CHECKING:
    from collections.abc import Callable

    from failoverd.ports import Clock, Probe, Target

log = structlog.get_logger(__name__)

TIDY_MS = 10  # the end of the deadline is kept for aborting and closing, so that the whole keeps the deadline
GRACE_MS = 100  # how long a cancelled probe may take to end before it counts as stuck
NO_DEADLINE_MS = 1000  # what a probe read outside the harness (by hand, in a test) takes as its deadline


class Attempt:
    """What the deadline would mean now, and what must be aborted then."""

    def __init__(self, deadline_ms: int, patience_ms: int = 0) -> None:
        self.deadline_ms = deadline_ms
        self._patience_ms = patience_ms
        self._late = Reading(Health.UNKNOWN, "PROBE_BUG", "named no stage before its deadline")
        self._aborts: list[Callable[[], object]] = []

    @property
    def late(self) -> Reading:
        """The reading if the deadline were now."""
        return self._late

    def stage(self, code: str, words: str, health: Health = Health.FAILED) -> None:
        """From here on the deadline means `code`; `words` say what came and what did not."""
        self._late = Reading(health, code, f"{words} within {self.deadline_ms} ms")

    def alive(self) -> None:
        """From here on the deadline is the patience, where that is longer. Both count from the start."""
        self.deadline_ms = max(self.deadline_ms, self._patience_ms)

    def settle(self, reading: Reading) -> None:
        """From here on the deadline changes nothing: this is the reading."""
        self._late = reading

    def owns(self, abort: Callable[[], object]) -> None:
        """At the deadline call this, before the task is cancelled. It must neither block nor mind a second call."""
        self._aborts.append(abort)

    def abort(self) -> None:
        """Abort all that the probe has opened."""
        for abort in self._aborts:
            abort()


_ATTEMPT: contextvars.ContextVar[Attempt] = contextvars.ContextVar("failoverd_attempt")

# Probes that go on in spite of their cancellation, so that they are not started again and again beside themselves.
_STUCK: dict[tuple[int, Target], asyncio.Task[Reading]] = {}


def current() -> Attempt:
    """Return the attempt that this code runs in; one without consequences outside the harness."""
    return _ATTEMPT.get(None) or Attempt(NO_DEADLINE_MS)


async def observe(
    name: str, probe: Probe, target: Target, deadline_ms: int, clock: Clock, *, patience_ms: int = 0
) -> Observation:
    """Look once with `probe`. Never raises (but for its own cancellation), never later than the deadline.

    `patience_ms` is the deadline of a target that has begun to answer, where that is the longer of the two.

    A probe that raises, returns no reading or does not end is a bug in it, and no word about the target:
    UNKNOWN with PROBE_BUG.
    """
    started_ms = clock.now_ms()
    attempt = Attempt(deadline_ms, patience_ms)
    reading = await _read(name, probe, target, attempt)
    ended_ms = clock.now_ms()
    took_ms = ended_ms - started_ms
    slept_ms = took_ms - attempt.deadline_ms
    if reading.health is Health.FAILED and slept_ms > max(GRACE_MS, attempt.deadline_ms // 4):
        words = f"this node itself was not running for {slept_ms} ms: {reading.reason}"
        reading = Reading(Health.UNKNOWN, "PROBE_STARVED", words, reading.facts)
    return Observation(name, target.node, reading, ended_ms, took_ms)


async def _read(name: str, probe: Probe, target: Target, attempt: Attempt) -> Reading:
    stuck = (id(probe), target)  # the stuck task holds its probe: the id is not used again meanwhile
    if stuck in _STUCK:
        return Reading(Health.UNKNOWN, "PROBE_BUG", "an earlier reading goes on in spite of its cancellation")

    context = contextvars.copy_context()
    context.run(_ATTEMPT.set, attempt)
    loop = asyncio.get_running_loop()
    began = loop.time()
    task = loop.create_task(_run(probe, target), name=f"probe {name}", context=context)
    late = False
    try:
        waited = 0.0
        while not task.done() and (left := max(attempt.deadline_ms - TIDY_MS, 1) / 1000 - waited) > 0:
            await asyncio.wait({task}, timeout=left)
            waited = loop.time() - began  # the patience may have begun meanwhile
    finally:
        if not task.done():
            late = True
            attempt.abort()
            task.cancel()
            await asyncio.wait({task}, timeout=GRACE_MS / 1000)
        if not task.done():
            log.error("probe does not end when cancelled", probe=name, target=target.node)
            _STUCK[stuck] = task
            task.add_done_callback(lambda done: _forget(stuck, done))

    if late:  # what the probe says after its abortion is our own doing
        return attempt.late
    return _outcome(name, target, task)


async def _run(probe: Probe, target: Target) -> Reading:
    reading: object = await probe.read(target)
    if not isinstance(reading, Reading):
        raise TypeError("a probe must return a Reading")
    return reading


def _outcome(name: str, target: Target, task: asyncio.Task[Reading]) -> Reading:
    error = asyncio.CancelledError() if task.cancelled() else task.exception()
    if error is not None:
        # The type and the place only: the text may hold what was sent, a password included.
        kind = type(error).__name__
        log.error("probe raised", probe=name, target=target.node, error=kind, at=_place(error))
        return Reading(Health.UNKNOWN, "PROBE_BUG", f"the probe raised {kind}")
    return task.result()


def _place(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "" if trace is None else f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"


def _forget(stuck: tuple[int, Target], task: asyncio.Task[Reading]) -> None:
    _STUCK.pop(stuck, None)
    with contextlib.suppress(asyncio.CancelledError):
        task.exception()  # looked at: nobody else will
