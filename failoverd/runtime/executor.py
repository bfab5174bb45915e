"""Runs steps and always answers: SUCCEEDED, FAILED, or UNKNOWN at the deadline.

Steps run in lanes. A lane is one worker thread, so that its steps keep their order, and a lane that hangs holds up no
other: the gate closes while SQL waits. A worker that outlives its deadline is abandoned with its thread, and a new
one takes the lane.

    kernel  gate and VIP, renewals too     database    SQL     beat   the heartbeat row
    units   systemd, on the loop           mail-store  a walk through it, as slow as its disk
    fence   a fence agent, a program with a thread of its own (process.py)
    queue   the program that hands mail on: likewise          drain   a look into the mail queue, again and again
    mount   the mail store is taken or left: likewise          services   systemd, on the loop, as slow as they stop
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

import structlog

from failoverd.core.effects import Lane, StepKind
from failoverd.core.forced import was_forced
from failoverd.core.machine import StepEnded
from failoverd.core.model import Outcome
from failoverd.core.rules import LOST
from failoverd.ports import Result
from failoverd.rebuild_files import ask
from failoverd.runtime import host

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence

    from failoverd.core.effects import Beat, RenewGate, Step
    from failoverd.core.model import NodeName
    from failoverd.ports import Clock, Database, Fence, Gate, MovedStore

REBUILD_UNIT = "failoverd-rebuild.service"
DRAIN_MS = 500  # how long a restart waits for mails that are being delivered
GRACE_MS = 150  # an adapter keeps its own deadline; this is how much later the executor stops believing it
ANNOUNCE_AGAIN_MS = 5_000  # a switch that missed the first burst
ANNOUNCE_EVERY_MS = 30_000  # and a router that was told otherwise meanwhile

T = TypeVar("T")
_log = structlog.get_logger(__name__)


class UnitActions(Protocol):
    """What the executor needs of systemd."""

    async def restart(self, unit: str, *, deadline_ms: int) -> Result:
        """Restart and wait for the job."""
        ...

    async def kill(self, unit: str, *, deadline_ms: int) -> Result:
        """SIGKILL to all of the unit's processes; success also when none was left."""
        ...

    async def start(self, units: Sequence[str], *, deadline_ms: int) -> Result:
        """Start what does not run, and wait for the jobs."""
        ...

    async def stop(self, units: Sequence[str], *, deadline_ms: int) -> Result:
        """Stop what runs, and wait for the jobs."""
        ...

    async def launch(self, unit: str, *, deadline_ms: int) -> Result:
        """Start it, and do not wait for more than that systemd has taken the job."""
        ...


class MailStore(Protocol):
    """What the executor needs of the mail store."""

    def break_locks(self, *, given: bool, deadline_ms: int, stopped: threading.Event | None = None) -> Result:
        """Remove the locks that nodes left which are no primary any more; blocking. `given`: the last one gave back."""
        ...


class MailQueue(Protocol):
    """What the executor needs of this node's mail queue."""

    def drain(self, *, deadline_ms: int) -> Result:
        """Wait until nothing is being delivered; blocking."""
        ...


class HandsOn(Protocol):
    """What the executor needs of the program that hands mail on."""

    async def run(self, to: NodeName, address: str, *, own: bool, deadline_ms: int) -> Result:
        """Hand all on to node `to`; `own`: take back what was held. When cancelled, it is told to end."""
        ...


class Worker:
    """One daemon thread that runs calls one after the other."""

    def __init__(self, name: str) -> None:
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._ended = False
        self._realtime = name == Lane.KERNEL.value  # what renews the gate is not to wait for a busy host
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def _run(self) -> None:
        if self._realtime:
            host.schedule_realtime()  # where it is refused, the loop's thread has said so
        while (call := self._calls.get()) is not None and not self._ended:
            call()

    async def call(self, function: Callable[[], T], *, within_ms: int) -> T:
        """Run `function` in the thread. Raises TimeoutError when it has not ended by then; it may still end later."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def settle(result: T | None, error: BaseException | None) -> None:
            if future.done():
                return  # nobody waits any more
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)  # type: ignore[arg-type] # without an error it is a T

        def run() -> None:
            result, failure = None, None
            try:
                result = function()
            except BaseException as error:  # noqa: BLE001 - raised where it is awaited
                failure = error
            with contextlib.suppress(RuntimeError):  # the loop is closed: the daemon has ended
                loop.call_soon_threadsafe(settle, result, failure)

        self._calls.put(run)
        async with asyncio.timeout(within_ms / 1000):
            return await future

    def end(self) -> None:
        """Let the thread end after what it does now: what still waits in it is not begun."""
        self._ended = True
        self._calls.put(None)


class Executor:
    """Performs steps on this node. `deliver` gets each answer, on the loop; `broken` what no adapter should raise.

    `heart` is a second connection to the same server as `database`, so that a cancelled step does not end a heartbeat.
    """

    def __init__(
        self,
        *,
        node: NodeName,
        clock: Clock,
        gate: Gate,
        database: Database,
        heart: Database,
        units: UnitActions,
        store: MailStore,
        prove: Callable[[int], Awaitable[Result]],
        deliver: Callable[[StepEnded], None],
        broken: Callable[[BaseException], None],
        fence: Fence | None = None,  # None: no node has an agent, and the core asks for none
        queue: tuple[MailQueue, HandsOn] | None = None,  # None: the core asks for nothing of it
        moved: MovedStore | None = None,  # None: the mail store does not move, and the core asks for nothing of it
        held_until_ms: Callable[[], int] = lambda: 0,  # the newest deadline of the lease; 0: it is not held
        runtime: Path = Path("/run/failoverd"),  # where a rebuild finds what is asked of it
    ) -> None:
        self._node = node
        self._clock = clock
        self._gate = gate
        self._database = database
        self._units = units
        self._store = store
        self._prove = prove
        self._deliver = deliver
        self._broken = broken
        self._heart = heart
        self._fence = fence
        self._queue = queue
        self._moved = moved
        self._held_until_ms = held_until_ms
        self._walk_stopped = threading.Event()
        self._programs: dict[int, asyncio.Future[Result]] = {}  # by the step's number
        self._workers = {name: Worker(name) for name in ("kernel", "database", "beat", "mail-store", "drain")}
        self._runtime = runtime
        self._tasks: set[asyncio.Task[None]] = set()
        self._term = 0
        self._until_ms = 0  # the newest bound of the lease: what OPEN_GATE opens to
        self._gate_set = asyncio.Event()  # no bound of the gate is on its way to the kernel
        self._gate_set.set()
        self._announced_ms = 0
        self._announce_due_ms: int | None = None
        self._beating = False

    # ---- steps ------------------------------------------------------------------------------------------------

    def perform(self, step: Step, *, until_ms: int) -> None:
        """Start `step`; its answer is delivered later. `until_ms` is the lease's deadline for a gate that opens."""
        if step.term < self._term:
            reason = f"a step of term {step.term} in term {self._term}"
            self._deliver(StepEnded(step, Outcome.FAILED, "STEP_OF_OLD_TERM", reason))
            return
        self._term = step.term
        self._until_ms = until_ms
        self._spawn(self._run(step))

    def cancel(self, step: Step) -> None:
        """End what `step` waits for, where that is long enough to be worth it: SQL, a walk, and a program."""
        if step.lane is Lane.DATABASE:
            self._database.cancel()
        elif step.lane is Lane.STORE:
            self._walk_stopped.set()
        elif step.number in self._programs:
            self._programs[step.number].cancel()

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._broken(error)

    async def _run(self, step: Step) -> None:
        try:
            result = await self._attempt(step)
        except TimeoutError:
            self._abandon(step)
            result = Result(Outcome.UNKNOWN, "STEP_TIMEOUT", f"not ended within {step.deadline_ms} ms")
        self._deliver(StepEnded(step, result.outcome, result.code, result.reason, result.facts))

    def _abandon(self, step: Step) -> None:
        if step.lane is Lane.DATABASE:
            self._database.cancel()
        name = step.lane.value
        if name in self._workers:
            self._workers[name].end()
            self._workers[name] = Worker(name)
            _log.error("worker abandoned", lane=name, step=step.kind.value)

    async def _attempt(self, step: Step) -> Result:  # noqa: PLR0911 - one case a lane
        within_ms = step.deadline_ms + GRACE_MS
        match step.lane:
            case Lane.UNITS:
                async with asyncio.timeout(within_ms / 1000):
                    return await self._unit_step(step)
            case Lane.KERNEL:
                closings = self._gate.closings  # as of now: the lane's thread may stand still before it begins
                return await self._workers["kernel"].call(
                    lambda: self._kernel_step(step, closings), within_ms=within_ms
                )
            case Lane.STORE:
                given = not step.reason.startswith(LOST) and not was_forced(step.reason)
                self._walk_stopped = stopped = threading.Event()
                break_locks = partial(
                    self._store.break_locks, given=given, deadline_ms=step.deadline_ms, stopped=stopped
                )
                return await self._workers["mail-store"].call(break_locks, within_ms=within_ms)
            case Lane.DATABASE:
                return await self._workers["database"].call(lambda: self._database_step(step), within_ms=within_ms)
            case Lane.FENCE:
                return await self._fence_step(step, within_ms=within_ms)
            case Lane.DRAIN | Lane.QUEUE:
                return await self._queue_step(step, within_ms=within_ms)
            case Lane.MOUNT | Lane.SERVICES:
                return await self._mail_store_step(step, within_ms=within_ms)

    async def _fence_step(self, step: Step, *, within_ms: int) -> Result:
        """Cut the target's power. What is cancelled or late is UNKNOWN, which opens nothing, and its agent is ended."""
        if self._fence is None or step.target is None:
            raise AssertionError("a node without agents is not fenced")
        cutting = self._fence.power_off(step.target, deadline_ms=step.deadline_ms)
        result = await self._program(step, cutting, within_ms)
        reason = f"not needed any more: {step.target} was not waited for"
        return result or Result(Outcome.UNKNOWN, "FENCE_CANCELLED", reason)

    async def _queue_step(self, step: Step, *, within_ms: int) -> Result:
        if self._queue is None or (step.kind is not StepKind.DRAIN and step.target is None):
            raise AssertionError("nothing is asked of a mail queue that failoverd does not know")
        queue, hands_on = self._queue
        if step.kind is StepKind.DRAIN:
            drain = partial(queue.drain, deadline_ms=step.deadline_ms)
            return await self._workers["drain"].call(drain, within_ms=within_ms)
        own = step.kind is StepKind.RELEASE
        to = self._node if step.target is None else step.target
        running = hands_on.run(to, step.address, own=own, deadline_ms=step.deadline_ms)
        result = await self._program(step, running, within_ms)
        return result or Result(Outcome.UNKNOWN, "QUEUE_CANCELLED", "this node has something else to do now")

    async def _mail_store_step(self, step: Step, *, within_ms: int) -> Result:
        """Take or leave the mail store, start or stop what works on it. What is cancelled or late is UNKNOWN."""
        if self._moved is None:
            raise AssertionError("a mail store that does not move is neither taken nor left")
        cancelled = Result(Outcome.UNKNOWN, "STORE_CANCELLED", "this node has something else to do now")
        deadline_ms = step.deadline_ms
        match step.kind:
            case StepKind.TAKE_STORE:
                return await self._take(self._moved, step) or cancelled
            case StepKind.RELEASE_STORE:
                work = self._moved.release(term=step.term, deadline_ms=deadline_ms)
            case StepKind.START_SERVICES:
                work = self._units.start(step.units, deadline_ms=deadline_ms)
            case StepKind.STOP_SERVICES:
                work = self._units.stop(step.units, deadline_ms=deadline_ms)
            case _:
                raise AssertionError(f"{step.kind} is no step of the mail store")
        return await self._program(step, work, within_ms) or cancelled

    async def _take(self, moved: MovedStore, step: Step) -> Result | None:
        """Take the mail store while the lease lasts, as it is renewed; what is late is ended and left again.

        Who leaves it is the plan of a node without the lease: what this says of it is only that it may be here.
        """
        late = Result(Outcome.UNKNOWN, "STORE_LATE", f"the lease of term {step.term} was over before it was taken")
        if self._lease_rest_ms() <= 0:
            return late
        taking = moved.take(term=step.term, previous=step.previous, deadline_ms=step.deadline_ms)
        running = asyncio.ensure_future(self._program(step, taking, step.deadline_ms + GRACE_MS))
        while not running.done() and (rest_ms := self._lease_rest_ms()) > 0:
            await asyncio.wait({running}, timeout=rest_ms / 1000)
        if self._lease_rest_ms() > 0:
            return await running
        self.cancel(step)
        ended = await running
        if ended is not None and ended.outcome is not Outcome.SUCCEEDED:
            return ended
        return late

    def _lease_rest_ms(self) -> int:
        return self._held_until_ms() - self._clock.now_ms()

    async def _program(self, step: Step, work: Coroutine[None, None, Result], within_ms: int) -> Result | None:
        """What `work` returns, None when it was cancelled. Raises TimeoutError; what is late is cancelled."""
        running = asyncio.ensure_future(work)
        self._programs[step.number] = running
        try:
            await asyncio.wait({running}, timeout=within_ms / 1000)
            if not running.done():
                raise TimeoutError
            return None if running.cancelled() else running.result()
        finally:
            del self._programs[step.number]
            running.cancel()

    async def _unit_step(self, step: Step) -> Result:
        match step.kind:
            case StepKind.RESTART_UNIT:
                return await self._restart(step)
            case StepKind.KILL_DATABASE:
                return await self._units.kill(step.unit, deadline_ms=step.deadline_ms)
            case StepKind.PROVE:
                return await self._prove(step.deadline_ms)
            case StepKind.START_REBUILD:
                return await self._start_rebuild(step)
            case _:
                raise AssertionError(f"{step.kind} is no step of the units lane")

    async def _restart(self, step: Step) -> Result:
        """Of a mail service, what is being delivered is waited for: ended in the middle, it would come twice."""
        if self._queue is None or step.service == "database":
            return await self._units.restart(step.unit, deadline_ms=step.deadline_ms)
        drain = partial(self._queue[0].drain, deadline_ms=DRAIN_MS)
        with contextlib.suppress(TimeoutError):  # the disk stands still: then nothing is delivered either
            await self._workers["drain"].call(drain, within_ms=DRAIN_MS + GRACE_MS)
        return await self._units.restart(step.unit, deadline_ms=step.deadline_ms - DRAIN_MS)

    async def _start_rebuild(self, step: Step) -> Result:
        """A unit of its own: a daemon that is started again must not end it."""
        try:
            ask(self._runtime, request=step.request, donor=step.target or "", from_primary=step.from_primary)
        except OSError as error:
            return Result(Outcome.FAILED, "REBUILD_UNIT", f"{self._runtime}: {error.strerror}")
        return await self._units.launch(REBUILD_UNIT, deadline_ms=step.deadline_ms)

    def _kernel_step(self, step: Step, closings: int) -> Result:
        if step.kind is StepKind.CLOSE_GATE:
            self._announce_due_ms = None
            return self._gate.close()
        result = self._gate.open(until_ms=self._until_ms, announce=True, closings=closings)
        self._announced_ms = self._clock.now_ms()
        self._announce_due_ms = self._announced_ms + ANNOUNCE_AGAIN_MS
        return result

    def _database_step(self, step: Step) -> Result:  # noqa: C901 - one case a step
        database = self._database
        call: Callable[..., Result]
        match step.kind:
            case StepKind.FREEZE:
                call = database.freeze
            case StepKind.APPLY:
                call = database.apply_relay_log
            case StepKind.AWAIT_POSITION if step.position is not None:
                call = partial(database.await_position, position=step.position)
            case StepKind.BECOME_SOURCE:
                call = database.become_source
            case StepKind.STOP_WAITING:
                call = database.stop_waiting
            case StepKind.AWAIT_REPLICA:
                call = database.await_replica
            case StepKind.MAKE_WRITABLE:
                call = partial(database.make_writable, term=step.term)
            case StepKind.WRITE_JOURNAL:
                call = partial(
                    database.write_journal,
                    term=step.term,
                    holder=self._node,
                    previous=step.previous,
                    reason=step.reason,
                )
            case StepKind.MAKE_READ_ONLY:
                call = database.make_read_only
            case StepKind.FOLLOW:
                call = partial(database.follow, address=step.address)
            case _:
                raise AssertionError(f"{step.kind} is no step of the database lane")
        return call(deadline_ms=step.deadline_ms)

    # ---- what goes on beside the steps ------------------------------------------------------------------------

    async def verify_gate(self) -> Result:
        """Look whether a closed gate still is, in the lane in which it is opened and closed."""
        try:
            return await self._workers["kernel"].call(self._gate.verify, within_ms=1000)
        except TimeoutError:
            return Result(Outcome.UNKNOWN, "STEP_TIMEOUT", "the kernel did not answer within 1000 ms")

    def renew_gate(self, effect: RenewGate) -> None:
        """Move the open gate's bound. The newest wins; one that comes while another is set waits for it."""
        self._until_ms = max(self._until_ms, effect.until_ms)
        if self._gate_set.is_set():
            self._gate_set.clear()
            self._spawn(self._renew(effect.term, self._gate.closings))

    async def gate_renewed(self) -> None:
        """Wait until the bound that was asked for last is the kernel's, or could not be set."""
        await self._gate_set.wait()

    async def _renew(self, term: int, closings: int) -> None:
        try:
            done_ms = 0
            while done_ms < self._until_ms and term >= self._term:
                done_ms = self._until_ms
                result = await self._workers["kernel"].call(lambda: self._reopen(closings), within_ms=1000)
                if result.outcome is not Outcome.SUCCEEDED:
                    _log.error("gate not renewed", code=result.code, reason=result.reason)
        except TimeoutError:
            _log.error("gate not renewed", code="STEP_TIMEOUT", reason="the kernel did not answer within 1000 ms")
        finally:
            self._gate_set.set()

    def _reopen(self, closings: int) -> Result:
        """In the kernel lane. A gate that was closed meanwhile, in the same lane, stays closed."""
        due_ms, now_ms = self._announce_due_ms, self._clock.now_ms()
        if due_ms is None:
            return Result(Outcome.SUCCEEDED)
        announce = now_ms >= due_ms
        if announce:
            self._announce_due_ms = now_ms + ANNOUNCE_EVERY_MS
        return self._gate.open(until_ms=self._until_ms, announce=announce, closings=closings)

    def beat(self, effect: Beat, *, deadline_ms: int) -> None:
        """Write the heartbeat row, unless the last one still waits."""
        if not self._beating:
            self._beating = True
            self._spawn(self._beat(effect, deadline_ms))

    async def _beat(self, effect: Beat, deadline_ms: int) -> None:
        try:
            await self._workers["beat"].call(
                lambda: self._heart.beat(term=effect.term, beat=effect.beat, deadline_ms=deadline_ms),
                within_ms=deadline_ms + GRACE_MS,
            )
        except TimeoutError:
            _log.warning("heartbeat waits", beat=effect.beat)
        finally:
            self._beating = False
