"""Slow statements of this node's database, over a connection of its own: MON_SLOW_QUERIES.

    in the window   those that the server counted (only where it counts from the limit or less on: long_query_time)
                    or, where it does not, those that were seen running, each once
    now             those that run for longer than the limit

A server that was started counts anew, and so does the probe. Whether the server answers at all is the database
probe's word: no answer is UNKNOWN here.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from failoverd.core.model import Health, Reading
from failoverd.core.monitoring import StatementFacts
from failoverd.probes.aside import Aside, ThreadRefusedError
from failoverd.probes.deadline import current
from failoverd.probes.window import Window

if TYPE_CHECKING:
    from collections.abc import Callable

    from failoverd.config import SlowQueries
    from failoverd.ports import Database, Target

JITTER_MS = 500  # of a session's time between two looks


class StatementsProbe:
    """Reads `StatementFacts`. Needs a Database object of its own: at the deadline it cancels what that one does."""

    def __init__(
        self,
        database: Database,
        limit: SlowQueries,
        *,
        deadline_ms: int,
        clock: Callable[[], int] = lambda: time.monotonic_ns() // 1_000_000,
    ) -> None:
        self._database = database
        self._limit = limit
        self._deadline_ms = deadline_ms * 9 // 10
        self._clock = clock
        self._aside = Aside("probe statements")
        self._window = Window(limit.window_ms)
        self._before: StatementFacts | None = None
        self._seen: dict[int, int] = {}  # of a session that runs one: when that began

    async def read(self, target: Target) -> Reading:  # noqa: ARG002 - it only ever looks at this node
        """Look once; see `ports.Probe`."""
        if self._aside.busy:
            return Reading(Health.UNKNOWN, "DB_HUNG", "an earlier question to the database has not come back")
        attempt = current()
        attempt.stage("DB_HUNG", "the database did not answer", Health.UNKNOWN)
        attempt.owns(self._database.cancel)
        look = lambda: self._database.statements(limit_ms=self._limit.above_ms, deadline_ms=self._deadline_ms)  # noqa: E731 - named for what it does
        try:
            reading = await self._aside.run(look)
        except ThreadRefusedError as error:
            return Reading(Health.UNKNOWN, "PROBE_EXHAUSTED", f"this node: {error}")
        if not isinstance(reading.facts, StatementFacts):
            return reading
        return self._judge(reading.facts)

    def _judge(self, facts: StatementFacts) -> Reading:
        now_ms, limit = self._clock(), self._limit
        counted = facts.counts_ms <= limit.above_ms
        before, self._before = self._before, facts
        if counted and before is not None and facts.slow > before.slow:
            self._window.add(now_ms, "", facts.slow - before.slow)
        began = {session: now_ms - ms for session, _, ms in facts.running}
        if not counted:
            fresh = sum(abs(began[one] - self._seen.get(one, -JITTER_MS)) >= JITTER_MS for one in began)
            if fresh:
                self._window.add(now_ms, "", fresh)
        self._seen = began
        ended = self._window.totals(now_ms)[""]
        count = ended + len(facts.running) if counted else ended
        if count < limit.least:
            return Reading(Health.OK, facts=facts)
        return self._failed(facts, count, counted=counted)

    def _failed(self, facts: StatementFacts, count: int, *, counted: bool) -> Reading:
        limit = self._limit
        words = f"{count} statements took longer than {limit.above_ms} ms within {limit.window_ms // 1000} s"
        if not counted:
            words = f"{words}, at least: long_query_time is {facts.counts_ms} ms, and only what runs is seen"
        if facts.running:
            session, user, ms = facts.running[0]
            words = f"{words}; {len(facts.running)} run now, the longest for {ms} ms: session {session} of {user}"
        found = (("MON_SLOW_QUERIES", words),)
        return Reading(Health.FAILED, found[0][0], words, replace(facts, found=found))
