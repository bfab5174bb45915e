"""Record before effect, with the real outbox, its real worker and a daemon that performs on nothing."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from failoverd.core.effects import Entry, Perform, Remember, Step, StepKind
from failoverd.core.health import Sendings
from failoverd.core.lease import Held, Memory
from failoverd.core.machine import Observed, Reaction, State
from failoverd.core.model import Health, Node, NodeKind, NodeName, Observation, Reading
from failoverd.core.policy import Policy
from failoverd.core.view import Leaving, View
from failoverd.runtime.clock import BootClock
from failoverd.runtime.daemon import Daemon
from failoverd.runtime.executor import Worker
from failoverd.runtime.outbox import Outbox

if TYPE_CHECKING:
    from collections.abc import Callable

    from failoverd.core.effects import Effect

CLOCK = BootClock()
ME = Node(NodeName("mail1"), NodeKind.DATA, "10.89.1.11")
POLICY = Policy(services=(), database_unit="mariadb.service", database_failures=3)
VIEW = View(ME, (ME,), POLICY, "", CLOCK.now_ms(), Sendings("p"))
STATE = State(VIEW, "0")
OPEN = Perform(Step(StepKind.OPEN_GATE, 7, 1, 300))
CLOSE = Perform(Step(StepKind.CLOSE_GATE, 7, 2, 300))
ENTRY = Entry("step", 7, "primary-serves", "open-gate")


class Journal:
    """An audit that notes the order of things, waits for its disk, or has none."""

    def __init__(self, *, disk: threading.Event | None = None, broken: bool = False) -> None:
        self.happened: list[str] = []
        self._disk = disk
        self._broken = broken

    def append(self, lines: list[dict[str, object]]) -> None:
        """See ports.AuditSink."""
        if self._disk is not None:
            self._disk.wait(5)
        if self._broken:
            raise OSError(28, "No space left on device")
        self.happened += [f"recorded {line['text']}" for line in lines]

    def perform(self, effect: Effect) -> None:
        """Note it."""
        assert isinstance(effect, Perform)
        self.happened.append(f"performed {effect.step.kind.value}")

    def refuse(self, effect: Effect, reason: str) -> None:
        """Note it and why."""
        assert isinstance(effect, Perform)
        self.happened.append(f"refused {effect.step.kind.value}: {reason}")


def outcome(
    journal: Journal, effects: tuple[Effect, ...], done: Callable[[], bool], between: Callable[[], None]
) -> None:
    """Put one reaction, do `between` once something happened or can happen, wait until `done`."""

    async def scene() -> None:
        outbox = Outbox(
            worker=Worker("audit"),
            audit=journal,
            remember=lambda _memory: None,
            perform=journal.perform,
            refuse=journal.refuse,
        )
        running = asyncio.ensure_future(outbox.run())
        outbox.put(Reaction(STATE, effects, (ENTRY,)))
        async with asyncio.timeout(5):
            while not done():
                await asyncio.sleep(0.01)
                between()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(scene())


def test_the_record_comes_first() -> None:
    journal = Journal()
    outcome(journal, (OPEN,), lambda: len(journal.happened) == 2, lambda: None)
    assert journal.happened == ["recorded open-gate", "performed open-gate"]


def test_what_was_noted_is_on_disk_when_the_daemon_ends_and_nothing_more_is_begun() -> None:
    journal = Journal()

    async def scene() -> None:
        outbox = Outbox(
            worker=Worker("audit"),
            audit=journal,
            remember=lambda memory: journal.happened.append(f"remembered {memory.term}"),
            perform=journal.perform,
            refuse=journal.refuse,
        )
        outbox.put(Reaction(STATE, (Remember(Memory(7)), OPEN), (ENTRY,)))
        await outbox.close()

    asyncio.run(scene())
    assert journal.happened == ["remembered 7", "recorded open-gate"]


@pytest.mark.parametrize("broken", [False, True])
def test_who_waits_for_a_record_is_told_when_it_is_on_disk_or_why_not(broken: bool) -> None:
    journal = Journal(broken=broken)

    async def scene() -> str:
        outbox = Outbox(
            worker=Worker("audit"),
            audit=journal,
            remember=lambda _memory: None,
            perform=journal.perform,
            refuse=journal.refuse,
        )
        running = asyncio.ensure_future(outbox.run())
        outbox.put(Reaction(STATE, (), (ENTRY,)))
        async with asyncio.timeout(5):
            said = await outbox.written()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return said

    said = asyncio.run(scene())
    assert said.startswith("the audit cannot be written") == broken
    assert journal.happened == ([] if broken else ["recorded open-gate"])


def test_what_closes_does_not_wait_for_a_slow_disk_and_what_opens_does() -> None:
    disk = threading.Event()
    journal = Journal(disk=disk)

    def after_the_close() -> None:
        if journal.happened:
            assert journal.happened[0] == "performed close-gate"
            disk.set()

    outcome(journal, (OPEN, CLOSE), lambda: len(journal.happened) == 3, after_the_close)
    assert journal.happened == ["performed close-gate", "recorded open-gate", "performed open-gate"]


def test_without_a_record_only_what_closes_is_done() -> None:
    journal = Journal(broken=True)
    outcome(journal, (OPEN, CLOSE), lambda: len(journal.happened) == 2, lambda: None)
    assert journal.happened[0].startswith("refused open-gate: the audit cannot be written")
    assert journal.happened[1] == "performed close-gate"


class Performed:
    """An executor that notes what it was given."""

    def __init__(self) -> None:
        self.steps: list[tuple[StepKind, int]] = []

    def perform(self, step: Step, *, until_ms: int) -> None:
        """Note the step and the bound of the gate."""
        self.steps.append((step.kind, until_ms))


@pytest.mark.parametrize("kind", [StepKind.OPEN_GATE, StepKind.MAKE_WRITABLE])
def test_a_step_that_opens_is_not_begun_once_the_role_is_given_back(kind: StepKind) -> None:
    until_ms = CLOCK.now_ms() + 60_000
    holds = replace(VIEW, highest_term=7, held=Held(7, 1, until_ms))
    leaves = replace(holds, leaving=Leaving(7, None, "switchover-asked", renew=True, began_ms=VIEW.now_ms, undo=True))
    for known, begun in ((holds, [(kind, until_ms)]), (leaves, [])):
        executor = Performed()
        daemon = Daemon(
            state=State(known, "0"),
            clock=CLOCK,
            store=None,  # type: ignore[arg-type] # never asked: the daemon does not run
            lease=None,  # type: ignore[arg-type] # likewise
            push=lambda _report: None,
            watch_primary=lambda _primary: None,
            alive=lambda: None,
        )
        daemon.executor = executor  # type: ignore[assignment] # it only takes steps
        daemon.perform(Perform(Step(kind, 7, 1, 300)))
        assert executor.steps == begun
        daemon.perform(Perform(Step(StepKind.CLOSE_GATE, 7, 2, 300)))
        assert executor.steps[-1][0] is StepKind.CLOSE_GATE


def test_a_daemon_that_heeds_events_is_alive_though_no_tick_comes() -> None:
    beats: list[int] = []
    daemon = Daemon(
        state=STATE,
        clock=CLOCK,
        store=None,  # type: ignore[arg-type] # never asked: the daemon does not run, so that no tick comes
        lease=None,  # type: ignore[arg-type] # likewise
        push=lambda _report: None,
        watch_primary=lambda _primary: None,
        alive=lambda: beats.append(1),
    )
    journal = Journal()
    daemon.outbox = Outbox(
        worker=Worker("audit"),
        audit=journal,
        remember=lambda _memory: None,
        perform=lambda _effect: None,
        refuse=journal.refuse,
    )
    reading = Reading(Health.OK)
    for number in range(3):
        daemon.feed(Observed(Observation("imap", ME.name, reading, CLOCK.now_ms(), 10)))
        assert len(beats) == number + 1
