"""The one loop: events in, `machine.step`, effects out.

    prober ─┐                                   ┌─> outbox ─> audit ─> executor, store
    peers ──┼─> feed ─> machine.step ─> reaction┤
    store ──┤                                   └─> state, for status and the next event
    timer ──┘

Nothing on this loop blocks: SQL, netlink, nftables, the audit's disk and the probes have threads of their own. What
the loop itself does in a tick is a fraction of a millisecond, so that a renewal is never late because of it.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Protocol, assert_never

import structlog

from failoverd.core import machine
from failoverd.core.effects import (
    Beat,
    Cancel,
    Effect,
    Entry,
    KeepLease,
    Perform,
    Push,
    Remember,
    RenewGate,
    StepKind,
    Swap,
)
from failoverd.core.lateness import Objection, ungiven, untaken
from failoverd.core.machine import (
    Asked,
    ClockSet,
    Event,
    Observed,
    Reaction,
    Reported,
    State,
    StepEnded,
    StoreSeen,
    Swapped,
    Ticked,
)
from failoverd.core.model import Health, NodeKind, Observation, Outcome, Reading
from failoverd.ports import StoreUnavailableError
from failoverd.runtime.clock import epoch_ms

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from failoverd.core.lease import Held
    from failoverd.core.model import NodeName, Record, Report, Request
    from failoverd.ports import Clock, Store
    from failoverd.runtime.executor import Executor
    from failoverd.runtime.outbox import Outbox

OPENING = {StepKind.OPEN_GATE, StepKind.MAKE_WRITABLE, StepKind.TAKE_STORE, StepKind.START_SERVICES}
GATE_LOOK_MS = 2000
HEALTH_OF = {
    Outcome.SUCCEEDED: Health.OK,
    Outcome.FAILED: Health.FAILED,
    Outcome.UNKNOWN: Health.UNKNOWN,
}
STORE_PAUSE_MS = 200  # between attempts at a store that does not answer
CLOCK_LOOK_MS = 3000
CLOCK_SET_MS = 100  # less is the clock being slewed
STORE_SILENT_MS = 150  # beyond a renewal: a watch that tells nothing for so long is asked about

_log = structlog.get_logger(__name__)


class LeaseKeeper(Protocol):
    """Where the lease is noted for a daemon that is started again."""

    def write(self, held: Held, *, leaving: bool = False) -> None:
        """Note it, or that it is being given back."""
        ...

    def clear(self) -> None:
        """Forget it."""
        ...


class Daemon:
    """One node's controller at work. All methods are called on the loop unless they say otherwise."""

    def __init__(
        self,
        *,
        state: State,
        clock: Clock,
        store: Store,
        lease: LeaseKeeper,
        push: Callable[[Report], None],
        watch_primary: Callable[[NodeName | None], None],
        alive: Callable[[], object],
        epoch_ms: Callable[[], int] = epoch_ms,
    ) -> None:
        self.state = state
        self._clock = clock
        self._store = store
        self._lease = lease
        self._push = push
        self._watch_primary = watch_primary
        self._alive = alive
        self._epoch_ms = epoch_ms
        self._watched: NodeName | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._failed: asyncio.Future[object] | None = None
        self.store_error = "not read yet"
        self.watchers: set[asyncio.Event] = set()  # set at each change of the state
        self._heard_ms: dict[NodeName, int] = {}
        self._ahead_ms: dict[NodeName, int] = {}  # since when each reports a term that was not read here
        self.executor: Executor | None = None
        self.outbox: Outbox | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set, or until a bug shows: then it raises, and the kernel's lease covers the gap."""
        assert self.executor is not None  # noqa: S101 - wired before it runs
        assert self.outbox is not None  # noqa: S101 - likewise
        self._loop = asyncio.get_running_loop()
        self._failed = self._loop.create_future()
        work = (
            self.outbox.run(),
            self._watch_store(),
            self._ask_silent_store(),
            self._look_at_gate(),
            self._look_at_clock(),
            stop.wait(),
        )
        jobs: list[asyncio.Future[object]] = [asyncio.ensure_future(job) for job in work]
        self.feed(Ticked())
        try:
            ended, _ = await asyncio.wait([*jobs, self._failed], return_when=asyncio.FIRST_COMPLETED)
            for finished in ended:
                finished.result()
        finally:
            if self._timer is not None:
                self._timer.cancel()
            for job in jobs:
                job.cancel()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*jobs, *self._tasks, return_exceptions=True)
            await self.outbox.close()

    async def renewed(self) -> None:
        """Wait until the lease, if one is held, has been renewed from now on: what a daemon that ends leaves behind.

        And in the kernel, too. Whoever is started again has then all of it to come up in. Not for long: a store that
        does not answer is no reason to stay.
        """
        held = self.state.view.valid
        changed = asyncio.Event()
        self.watchers.add(changed)
        try:
            async with asyncio.timeout(self.state.view.policy.renew_ms * 2 / 1000):
                while held is not None and (now := self.state.view.valid) is not None and now == held:
                    changed.clear()
                    await changed.wait()
                if self.executor is not None:
                    await self.executor.gate_renewed()
        except TimeoutError:
            _log.warning("the lease was not renewed before the end", code="BLK_STORE")
        finally:
            self.watchers.discard(changed)

    def held_until_ms(self) -> int:
        """The deadline of the lease as it stands, 0 while it is not held or is being given back."""
        view = self.state.view
        return view.held.deadline_ms if view.held is not None and view.leaving is None else 0

    # ---- events -----------------------------------------------------------------------------------------------

    def feed(self, event: Event) -> None:
        """Step the machine with one event and send its effects on their way."""
        if self.outbox is None or (self._failed is not None and self._failed.done()):
            return
        try:
            reaction = machine.step(self.state, event, self._clock.now_ms())
        except Exception as error:  # noqa: BLE001 - the core raises for bugs only
            self.broken(error)
            return
        self.state = reaction.state
        self._alive()  # not at ticks: where events come quicker than these, there are none
        for entry in reaction.entries:
            _log.info(entry.text, kind=entry.kind, term=entry.term, rule=entry.rule, code=entry.code or None)
        self.outbox.put(reaction)
        for watcher in self.watchers:
            watcher.set()
        self._schedule()

    def observed(self, observation: Observation) -> None:
        """A probe ended. Called from the prober's thread."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the daemon has ended
                self._loop.call_soon_threadsafe(self.feed, Observed(observation))

    def reported(self, report: Report) -> Objection | None:
        """A peer's report came. Returns what is wrong with it; one that is not taken changes nothing."""
        now_ms = self._clock.now_ms()
        why = untaken(self.state.view.at(now_ms), report)
        if why is not None:
            return why
        self._heard_ms[report.sender] = now_ms
        self.feed(Reported(report))
        if report.term <= self.state.view.highest_term:
            self._ahead_ms.pop(report.sender, None)
            return None
        return ungiven(self.state.view, report, self._ahead_ms.setdefault(report.sender, now_ms))

    def heard_ms(self, node: NodeName, now_ms: int) -> int | None:
        """How long ago a report of `node` arrived, whatever its age was then."""
        arrived_ms = self._heard_ms.get(node)
        return None if arrived_ms is None else now_ms - arrived_ms

    def step_ended(self, event: StepEnded) -> None:
        """A step was answered."""
        self.feed(event)

    def asked(self, request: Request) -> None:
        """An operator's request was accepted."""
        self.feed(Asked(request))

    def note(self, entry: Entry) -> None:
        """Put into the log and the audit what happened beside the machine: what people asked, and what came of it."""
        _log.info(entry.text, kind=entry.kind, term=entry.term, rule=entry.rule, code=entry.code or None)
        if self.outbox is not None:
            self.outbox.put(Reaction(self.state, (), (entry,)))

    def _schedule(self) -> None:
        if self._loop is None:
            return
        holder = self.state.view.holder
        if holder != self._watched:
            self._watched = holder
            self._watch_primary(holder)
        if self._timer is not None:
            self._timer.cancel()
        wait_ms = max(0, machine.next_wake_ms(self.state) - self._clock.now_ms())
        self._timer = self._loop.call_later(wait_ms / 1000, self._tick)

    def _tick(self) -> None:
        self.feed(Ticked())

    # ---- effects ----------------------------------------------------------------------------------------------

    def perform(self, effect: Effect) -> None:
        """Start one effect; the outbox calls this after its record."""
        executor = self.executor
        assert executor is not None  # noqa: S101 - wired before it runs
        match effect:
            case Swap():
                self._spawn(self._swap(effect))
            case Perform(step) if step.kind in OPENING and not self.state.view.i_hold():
                # Its record was long in coming, and the role is given back meanwhile: what closes went ahead of it.
                self.feed(StepEnded(step, Outcome.FAILED, "STEP_OF_OLD_TERM", "the role was given back meanwhile"))
            case Perform(step):
                held = self.state.view.valid
                executor.perform(step, until_ms=held.deadline_ms if held else 0)
            case Cancel(step):
                executor.cancel(step)
            case RenewGate():
                executor.renew_gate(effect)
            case Push(report):
                self._push(report)
            case KeepLease():
                self._keep(effect)
            case Beat():
                executor.beat(effect, deadline_ms=self.state.view.policy.heartbeat_ms)
            case Remember():
                raise AssertionError("the outbox sees to memory itself")
            case _:
                assert_never(effect)

    def refuse(self, effect: Effect, reason: str) -> None:
        """Answer an effect that was not begun, because its record could not be written."""
        match effect:
            case Swap():
                self.feed(Swapped(effect, Outcome.UNKNOWN, None))
            case Perform(step):
                self.feed(StepEnded(step, Outcome.FAILED, "AUDIT_FAILED", reason))
            case _:
                raise AssertionError(f"{effect} needs no record")

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self.broken(error)

    def broken(self, error: BaseException) -> None:
        """A bug showed: the daemon stops, systemd starts it again, and the kernel's lease covers the gap."""
        if self._failed is None:
            raise error
        if not self._failed.done():
            self._failed.set_exception(error)

    def _keep(self, effect: KeepLease) -> None:
        try:
            if effect.held is None:
                self._lease.clear()
            else:
                self._lease.write(effect.held, leaving=effect.leaving)
        except OSError as error:
            if effect.held is None or effect.leaving:
                # What stands there would bring the role back. Before the store is told: the daemon ends.
                self.broken(error)
                return
            _log.warning("the lease cannot be noted: a restart would drop the role", reason=str(error))

    async def _swap(self, swap: Swap) -> None:
        try:
            won, record = await self._store.compare_and_swap(swap.expected_version, swap.record)
        except StoreUnavailableError as error:
            self.store_error = str(error)
            self.feed(Swapped(swap, Outcome.UNKNOWN, None))
        else:
            self.store_error = ""
            self.feed(Swapped(swap, Outcome.SUCCEEDED if won else Outcome.FAILED, record))

    async def _look_at_gate(self) -> None:
        """Every two seconds, an event for what was found: a hand at the closed gate is put right, and audited."""
        executor, me = self.executor, self.state.view.me
        assert executor is not None  # noqa: S101 - wired before it runs
        while me.kind is NodeKind.DATA:
            await asyncio.sleep(GATE_LOOK_MS / 1000)
            began_ms = self._clock.now_ms()
            found = await executor.verify_gate()
            now_ms = self._clock.now_ms()
            reading = Reading(HEALTH_OF[found.outcome], found.code, found.reason)
            self.feed(Observed(Observation("gate", me.name, reading, now_ms, now_ms - began_ms)))
        await asyncio.Event().wait()  # an arbiter has no gate

    async def _look_at_clock(self) -> None:
        """Tell what the wall clock says, at the start and when somebody has set it."""
        while True:
            known, now = self.state.view.epoch_ms, self._epoch_ms()
            if known is None or abs(now - known) > CLOCK_SET_MS:
                self.feed(ClockSet(now))
            await asyncio.sleep(CLOCK_LOOK_MS / 1000)

    # ---- the store --------------------------------------------------------------------------------------------

    async def _watch_store(self) -> None:
        while True:
            try:
                record = await self._store.read()
                self._store_seen(record)
                async for newer in self._store.watch(record.version):
                    self._store_seen(newer)
            except StoreUnavailableError as error:
                self.store_error = str(error)
            await asyncio.sleep(STORE_PAUSE_MS / 1000)

    def _store_seen(self, record: Record) -> None:
        self.store_error = ""
        self.feed(StoreSeen(record))

    async def _ask_silent_store(self) -> None:
        """A watch tells only of changes. When none comes, ask, so that silence of the holder can be told from ours."""
        while True:
            silent_ms = self.state.view.policy.renew_ms + STORE_SILENT_MS
            await asyncio.sleep(silent_ms / 2000)
            heard = self.state.view.store_heard_ms
            if heard is not None and self._clock.now_ms() - heard < silent_ms:
                continue
            with contextlib.suppress(StoreUnavailableError):  # the watch, at the same store, tells of it
                self._store_seen(await self._store.read())
