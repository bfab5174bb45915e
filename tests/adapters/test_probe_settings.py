"""The settings probe: what was found stays until it is known to be gone."""

from __future__ import annotations

import asyncio
import threading

from failoverd.core.errant import Journal
from failoverd.core.model import Health, Identity, NodeName, Reading, SettingsFacts
from failoverd.ports import Target
from failoverd.probes.deadline import observe
from failoverd.probes.settings import SettingsProbe
from failoverd.runtime.clock import BootClock

FOUND = Reading(
    Health.FAILED,
    "SET_FILTER",
    "SET_FILTER: x",
    SettingsFacts((("SET_FILTER", "x"),), Identity(), Journal()),
)
GONE = Reading(Health.OK, facts=SettingsFacts((), Identity(), Journal()))
ME = Target(NodeName("mail2"), "127.0.0.1")


class Script:
    """A database that answers what it is told to; None hangs until it is cancelled."""

    def __init__(self, *answers: Reading | None) -> None:
        self.answers = list(answers)
        self.cancelled = threading.Event()

    def settings(self, *, deadline_ms: int) -> Reading:
        """Answer, or hang."""
        assert deadline_ms < 1000
        answer = self.answers.pop(0)
        if answer is None:
            assert self.cancelled.wait(10)
            return Reading(Health.UNKNOWN, "DB_CANCELLED", "ended by failoverd itself")
        return answer

    def cancel(self) -> None:
        """End what hangs."""
        self.cancelled.set()


def readings(database: Script, count: int, deadline_ms: int = 1000) -> list[Reading]:
    probe = SettingsProbe(database, deadline_ms=deadline_ms)  # type: ignore[arg-type]  # it has what the probe uses

    async def look() -> list[Reading]:
        return [(await observe("settings", probe, ME, deadline_ms, BootClock())).reading for _ in range(count)]

    return asyncio.run(look())


def test_what_was_found_stays_while_the_server_does_not_answer_and_goes_when_it_is_gone() -> None:
    refused = Reading(Health.UNKNOWN, "DB_REFUSED", "no server")
    before, first, second, last = readings(Script(refused, FOUND, refused, GONE), 4)
    assert (before.health, before.facts) == (Health.UNKNOWN, None)
    assert first == FOUND
    assert (second.health, second.code, second.facts) == (Health.UNKNOWN, "DB_REFUSED", FOUND.facts)
    assert last == GONE


def test_at_the_deadline_as_well() -> None:
    database = Script(FOUND, None)
    _, late = readings(database, 2, deadline_ms=150)
    assert (late.health, late.code, late.facts) == (Health.UNKNOWN, "DB_HUNG", FOUND.facts)
    assert database.cancelled.is_set()
