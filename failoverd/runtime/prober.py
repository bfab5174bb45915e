"""The prober: a thread with a loop of its own, so that nothing a probe does can delay the lease.

    set_schedule ──(any thread)──> entries, a task each ──observe──> deliver(Observation), called from this thread

Each entry keeps a rhythm of its own: a reading every `interval_ms`, counted from start to start. The first readings are
spread by the entry's number, so that not all fire at once. A failed reading is looked at again promptly, for one
interval: what is broken is then known in a fraction of the time, and what stays broken is not hammered.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import structlog

from failoverd.core.model import Health
from failoverd.probes.deadline import observe

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from failoverd.core.model import Observation
    from failoverd.ports import Clock, Probe, Target

log = structlog.get_logger(__name__)

PROMPT_MS = 200  # how soon a failed reading is repeated
SPREAD_MS = 500  # the first readings of all entries fall into this time, or into their interval
STOP_MS = 2000  # how long `stop` waits for the thread
_GOLDEN = 0.6180339887  # multiples of it, modulo 1, are spread evenly, however many there are


@dataclass(frozen=True, slots=True)
class Scheduled:
    """One probe of one target, as `observe` takes it, and how often. `prompt`: look again soon when it failed."""

    name: str
    probe: Probe
    target: Target
    interval_ms: int
    deadline_ms: int
    prompt: bool = True
    patience_ms: int = 0


@runtime_checkable
class _Closeable(Protocol):
    """A probe that keeps something open between readings."""

    async def close(self) -> None: ...


@dataclass(slots=True)
class _Entry:
    scheduled: Scheduled
    task: asyncio.Task[None]


class Prober:
    """Runs the schedule until it is stopped. All methods may be called from any thread."""

    def __init__(self, clock: Clock, deliver: Callable[[Observation], None]) -> None:
        self._clock = clock
        self._deliver = deliver
        self._lock = threading.Lock()
        self._wanted: tuple[Scheduled, ...] = ()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._changed: asyncio.Event | None = None
        self._stopping = False
        self._thread = threading.Thread(target=self._main, name="prober", daemon=True)
        # Only the prober's thread touches these.
        self._entries: dict[tuple[str, Target], _Entry] = {}
        self._numbered = 0

    @property
    def alive(self) -> bool:
        """Whether the thread runs. One that does not, without having been stopped, is a bug: nothing is observed."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Start the thread, once."""
        self._thread.start()

    def set_schedule(self, schedule: Sequence[Scheduled]) -> None:
        """Replace the schedule. Entries with the same name and target go on in their rhythm; others end at once."""
        keys = [(entry.name, entry.target) for entry in schedule]
        if len(set(keys)) != len(keys):
            raise AssertionError("an entry is in the schedule twice")
        with self._lock:
            self._wanted = tuple(schedule)
        self._wake()

    def stop(self) -> None:
        """End all readings, without delivering them, and the thread; wait for it, but not for ever."""
        with self._lock:
            self._stopping = True
        self._wake()
        if self._thread.ident is not None:
            self._thread.join(STOP_MS / 1000)

    def _wake(self) -> None:
        with self._lock:
            loop, changed = self._loop, self._changed
        if loop is not None and changed is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the thread has ended
                loop.call_soon_threadsafe(changed.set)

    # ---- in the thread ----------------------------------------------------------------------------------------

    def _main(self) -> None:
        try:
            # Not asyncio.run: it would wait for the default executor's threads, should a library have used it.
            loop = asyncio.new_event_loop()
            try:
                loop.run_until_complete(self._run())
            finally:
                loop.close()
        except BaseException:
            log.critical("the prober has ended", exc_info=True)
            raise

    async def _run(self) -> None:
        changed = asyncio.Event()
        with self._lock:
            self._loop, self._changed = asyncio.get_running_loop(), changed
        try:
            while True:
                changed.clear()
                with self._lock:
                    wanted, stopping = self._wanted, self._stopping
                if stopping:
                    return
                for entry in self._entries.values():
                    if entry.task.done():
                        entry.task.result()  # it never ends by itself: raises what is wrong in here
                await self._apply(wanted, changed)
                await changed.wait()
        finally:
            await self._apply((), changed)

    async def _apply(self, wanted: tuple[Scheduled, ...], changed: asyncio.Event) -> None:
        keys = {(scheduled.name, scheduled.target): scheduled for scheduled in wanted}
        gone = [self._entries.pop(key) for key in list(self._entries) if key not in keys]
        for entry in gone:
            entry.task.cancel()
        if gone:
            await asyncio.wait({entry.task for entry in gone})
        unused = {id(entry.scheduled.probe): entry.scheduled.probe for entry in gone}
        for key, scheduled in keys.items():
            unused.pop(id(scheduled.probe), None)
            known = self._entries.get(key)
            if known is not None:
                if known.scheduled.probe is not scheduled.probe:
                    unused[id(known.scheduled.probe)] = known.scheduled.probe
                known.scheduled = scheduled
            else:
                task = asyncio.get_running_loop().create_task(self._keep(key, self._numbered))
                task.add_done_callback(lambda _: changed.set())
                self._entries[key] = _Entry(scheduled, task)
                self._numbered += 1
        for probe in unused.values():
            if isinstance(probe, _Closeable):
                await probe.close()

    async def _keep(self, key: tuple[str, Target], number: int) -> None:
        """Observe one entry for ever."""
        loop = asyncio.get_running_loop()
        scheduled = self._entries[key].scheduled
        spread_ms = min(scheduled.interval_ms, SPREAD_MS)
        due = loop.time() + spread_ms * (number * _GOLDEN % 1) / 1000
        failing_since: float | None = None
        while True:
            await asyncio.sleep(due - loop.time())
            scheduled = self._entries[key].scheduled
            observation = await observe(
                scheduled.name,
                scheduled.probe,
                scheduled.target,
                scheduled.deadline_ms,
                self._clock,
                patience_ms=scheduled.patience_ms,
            )
            self._tell(observation)
            ended, interval = loop.time(), scheduled.interval_ms / 1000
            if observation.reading.health is not Health.FAILED:
                failing_since = None
            elif failing_since is None:
                failing_since = ended
            due = max(due + interval, ended)  # late is late: what was missed is not made up for
            if scheduled.prompt and failing_since is not None and ended - failing_since < interval:
                due = min(due, ended + min(interval, PROMPT_MS / 1000))

    def _tell(self, observation: Observation) -> None:
        try:
            self._deliver(observation)
        except Exception:
            log.exception("an observation could not be delivered", probe=observation.probe, target=observation.target)
