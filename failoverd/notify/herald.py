"""The telling as a whole, in a thread with a loop of its own: nothing here can hold up the daemon, whatever hangs.

    daemon's loop                 │  this thread
      look(...)  ── hands over ──>│  tell ── disk ── exchange ── wake the senders
      await answer(peer, body)  <─┤  (a second at most; the peer goes without)
      await state(), test(...)  <─┤
                                  │  a finding about a receiver ──> observed(...), as a probe's

What blocks here (a disk, a slow receiver) delays alerts, nothing else. A name that is not looked up in time keeps a
thread of its own for as long as the system's resolver takes; see lookups.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import structlog

from failoverd.core.alerts import Alert, Course, Look, follow, standing
from failoverd.core.findings import Severity
from failoverd.core.model import Health, NodeKind, Observation, Reading
from failoverd.core.telling import Entry, Kind, Message, Receiving, Rules, Voice
from failoverd.notify import CODES, FORMS, circle
from failoverd.notify.delivery import Attempt, End, context, quiet
from failoverd.notify.lookups import Lookups
from failoverd.notify.sender import Last, Sender
from failoverd.notify.shelf import ShelfError, SqliteShelf
from failoverd.notify.teller import Teller

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Coroutine
    from concurrent.futures import Future

    from failoverd.config import Config
    from failoverd.ports import Clock

TICK_S = 0.5
# How often a node exchanges books with the others, by what it is in the telling.
ROUNDS_MS = {Voice.CLAIMING: 500, Voice.SPEAKING: 1_000, Voice.SILENT: 2_000, Voice.MUTE: 2_000}
AGAIN_S = 10.0  # after a bug, or a disk that does not take the queue
DROPPED_SHOWN_MS = 3_600_000
CALL_S = 1.0  # how long who asks on the daemon's loop waits for an answer of this thread
TEST_S = 4.0  # likewise for the end of a test: less than failoverctl waits

T = TypeVar("T")
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ReceiverState:
    """How one receiver stands."""

    name: str
    kind: str
    queued: int
    last: Last | None
    trouble: str


@dataclass(frozen=True, slots=True)
class State:
    """What `failoverctl alerts` shows of this node."""

    voice: Voice
    speaker: str | None
    open: tuple[tuple[str, Entry, tuple[str, ...]], ...]  # key, entry, receivers that were told
    receivers: tuple[ReceiverState, ...]
    dropped: int
    problem: str


class Herald:
    """Made, started and stopped by the daemon; its methods are called on the daemon's loop and do not block it."""

    def __init__(
        self,
        config: Config,
        ssl_context: ssl.SSLContext,
        clock: Clock,
        observed: Callable[[Observation], None],
        *,
        pause_s: float = 1.0,
    ) -> None:
        quiet()
        self._config, self._clock, self._observed = config, clock, observed
        self._ssl_context, self._pause_s = ssl_context, pause_s
        self._verify = {
            receiver.name: context(receiver.url.get_secret_value(), str(receiver.ca) if receiver.ca else None)
            for receiver in config.alerts.receivers
        }
        self._me = config.this.name
        self._rules = rules_of(config)
        self._order = order_of(config)
        self._look: Look | None = None
        self._heard: frozenset[str] = frozenset()
        self._course = Course()
        self._teller: Teller | None = None
        self._shelf: SqliteShelf | None = None
        self._senders: dict[str, Sender] = {}
        self._told: dict[str, tuple[str, str] | None] = {}  # findings as observed last
        self._problem = ""
        self._beat_ms: int | None = None
        self._rounded_ms: int | None = None
        self._news: asyncio.Event | None = None
        self._loop = asyncio.new_event_loop()
        self._loop.set_default_executor(Lookups())
        self._main: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._run, name="alerts", daemon=True)

    # ---- from the daemon's loop ---------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    async def stop(self) -> None:
        """End; what has not been told is on disk."""
        with contextlib.suppress(RuntimeError):  # it has ended by itself
            self._loop.call_soon_threadsafe(self._end)
        await asyncio.to_thread(self._thread.join, CALL_S)

    def look(self, look: Look, heard: frozenset[str]) -> None:
        """What the documents say now, and whose reports are fresh."""
        with contextlib.suppress(RuntimeError):  # the thread's loop is closed
            self._loop.call_soon_threadsafe(self._take, look, heard)

    async def answer(self, sender: str, body: bytes) -> bytes | None:
        """What another node's hello is answered with. Raises TimeoutError; None: this node cannot tell."""
        return await self._over_there(self._answer(sender, body))

    async def state(self) -> State:
        """How the telling stands here. Raises TimeoutError."""
        return await self._over_there(self._state())

    async def test(self, receiver: str) -> Attempt:
        """Send a test through the queue and say what became of it. Raises TimeoutError: not known yet."""
        return await self._over_there(self._test(receiver), within_s=TEST_S)

    @property
    def queued(self) -> int:
        """How many messages wait; for metrics."""
        return len(self._shelf.rows) if self._shelf is not None else 0

    @property
    def dropped(self) -> int:
        """How many were left out since the queue was made; for metrics."""
        return self._shelf.dropped if self._shelf is not None else 0

    async def _over_there(self, work: Coroutine[Any, Any, T], within_s: float = CALL_S) -> T:
        here = asyncio.get_running_loop()
        ended = asyncio.Event()

        def tell(_: Future[T]) -> None:
            with contextlib.suppress(RuntimeError):  # the daemon's loop has ended: nobody waits
                here.call_soon_threadsafe(ended.set)

        try:
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError:
            work.close()
            raise TimeoutError("the telling of alerts has ended") from None
        future.add_done_callback(tell)
        # At the deadline it is left to end by itself: to cancel it would ask something of the other loop again.
        async with asyncio.timeout(within_s):
            await ended.wait()
        if future.cancelled():
            raise TimeoutError("the telling of alerts has ended")
        return future.result()

    # ---- in the thread ------------------------------------------------------------------------------------------

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._main = self._loop.create_task(self._for_ever())
        try:
            self._loop.run_until_complete(self._main)
        except asyncio.CancelledError:
            pass  # told to stop
        finally:
            left = asyncio.all_tasks(self._loop)
            for task in left:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
            self._loop.close()

    def _end(self) -> None:
        if self._main is not None:
            self._main.cancel()

    async def _for_ever(self) -> None:
        while True:
            problem = ("", "")
            try:
                await self._work()
            except ShelfError as error:
                problem = "ALERTS_DISK", str(error)
            except Exception as error:  # noqa: BLE001 - a bug here is logged and shown, and must not end the daemon
                problem = "ALERTS_BUG", f"{type(error).__name__} in the telling of alerts, see the journal"
                _log.error("the telling of alerts failed", code="ALERTS_BUG", exc_info=error)
            self._teller = None  # the others are told so, and one of them speaks; what it knew is on the disk
            self._problem = ": ".join(problem)
            self._find("alerts", problem)
            await asyncio.sleep(AGAIN_S)

    async def _work(self) -> None:
        """From opening the queue to an error."""
        config = self._config
        self._news = asyncio.Event()
        async with contextlib.AsyncExitStack() as stack:
            shelf = SqliteShelf(config.alerts.queue.directory)
            stack.callback(shelf.close)
            shelf.meet([receiver.name for receiver in config.alerts.receivers], _wall_ms())
            self._shelf = shelf
            now_ms = self._clock.now_ms()
            limit = config.alerts.queue.limit
            teller = Teller(self._rules, self._order, shelf, limit=limit, now_ms=now_ms)
            others = {str(name): node.address for name, node in config.nodes.items() if name != self._me}
            ring = circle.Circle(others, config.peer.port, self._ssl_context)
            stack.callback(ring.close)
            self._senders = {}
            for receiver in config.alerts.receivers:
                sender = Sender(
                    receiver,
                    FORMS[receiver.kind],
                    config.cluster,
                    self._me,
                    now_ms=self._clock.now_ms,
                    wall_ms=_wall_ms,
                    pause_s=self._pause_s,
                    verify=self._verify[receiver.name],
                    taken=self._taken,
                )
                stack.push_async_callback(sender.close)
                self._senders[receiver.name] = sender
            self._teller, self._problem = teller, ""
            works = [self._tell_on(teller, ring), *(sender.run(teller) for sender in self._senders.values())]
            tasks = [asyncio.ensure_future(work) for work in works]
            try:
                await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _tell_on(self, teller: Teller, ring: circle.Circle) -> None:
        assert self._news is not None  # noqa: S101 - made right before
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_S):
                    await self._news.wait()
            self._news.clear()
            now_ms = self._clock.now_ms()
            if self._rounded_ms is None or now_ms - self._rounded_ms >= ROUNDS_MS[teller.voice]:
                await self._round(teller, ring)
            look = self._look
            if look is None:
                continue
            teller.own = look.own
            new = teller.tell(
                standing(look, teller.of_others),
                self._course.happened,
                heard=self._heard,
                unknown=look.unknown,
                now_ms=self._clock.now_ms(),
                wall_ms=_wall_ms(),
            )
            if new:
                await self._round(teller, ring)
            self._beat(teller, look)
            self._show(teller)
            for sender in self._senders.values():
                sender.wake()

    async def _round(self, teller: Teller, ring: circle.Circle) -> None:
        newest = teller.newest
        self._rounded_ms = self._clock.now_ms()
        await ring.round(teller, self._clock.now_ms, _wall_ms)
        teller.shown(newest)

    def _taken(self) -> None:
        """A receiver has a message: the others are told at once, so that none tells it again should this node die."""
        self._rounded_ms = None
        if self._news is not None:
            self._news.set()

    def _take(self, look: Look, heard: frozenset[str]) -> None:
        self._look, self._heard = look, heard
        self._course = follow(self._course, look, self._clock.now_ms())
        if self._news is not None:
            self._news.set()

    def _beat(self, teller: Teller, look: Look) -> None:
        heartbeat, now_ms = self._config.alerts.heartbeat, self._clock.now_ms()
        if heartbeat is None or teller.voice is not Voice.SPEAKING:
            return
        if self._beat_ms is not None and now_ms - self._beat_ms < heartbeat.interval_ms:
            return
        self._beat_ms = now_ms
        primary = f"{look.holder} is primary in term {look.term}" if look.holder else "there is no primary"
        reason = f"failoverd watches {self._config.cluster}: {primary}, {len(teller.shelf.book.open)} alerts are open"
        teller.say(heartbeat.receiver, self._own(Kind.HEARTBEAT, "ALERTS_ALIVE", reason), _wall_ms())
        teller.shown(teller.newest)

    def _own(self, kind: Kind, code: str, reason: str) -> Message:
        alert = Alert(code, "", Severity.WARNS, reason, CODES[code], "nothing", f"runbooks/codes/{code}.md")
        now_ms = _wall_ms()
        return Message(f"{self._config.cluster}/{code}/{self._me}/{now_ms}", kind, alert.key, now_ms, alert, now_ms)

    def _show(self, teller: Teller) -> None:
        """Tell the daemon what is in the way of telling: a finding of this node's, as if a probe had found it."""
        speaks = teller.voice is Voice.SPEAKING
        for sender in self._senders.values():
            self._find(f"alerts:{sender.name}", (speaks and sender.trouble) or ("", ""))
        found = ("", "")
        if self._shelf is not None and _wall_ms() - self._shelf.dropped_ms < DROPPED_SHOWN_MS:
            found = "ALERTS_DROPPED", f"{self._shelf.dropped} messages were left out since the queue was made"
        self._find("alerts", found)

    def _find(self, probe: str, found: tuple[str, str]) -> None:
        if self._told.get(probe, ("", "")) == found:
            return
        self._told[probe] = found
        code, reason = found
        reading = Reading(Health.FAILED if code else Health.OK, code, reason)
        self._observed(Observation(probe, self._me, reading, self._clock.now_ms(), 0))
        if code:
            _log.warning("alerts", code=code, reason=reason)

    # ---- what the daemon's loop asked for -----------------------------------------------------------------------

    async def _answer(self, sender: str, body: bytes) -> bytes | None:
        if self._teller is None:
            return None
        try:
            return circle.answer(self._teller, body, sender, self._clock.now_ms(), _wall_ms())
        except ShelfError:
            return None  # the next thing that this node has to note itself says so

    async def _state(self) -> State:
        teller = self._teller
        book = teller.shelf.book if teller is not None else None
        opened = []
        for key, entry in sorted((book.open if book is not None else {}).items()):
            told = tuple(name for name in self._senders if book and book.told.get((key, name), 0) >= entry.level)
            opened.append((key, entry, told))
        rows = teller.shelf.rows if teller is not None else ()
        return State(
            voice=teller.voice if teller is not None else Voice.MUTE,
            speaker=teller.speaker if teller is not None else None,
            open=tuple(opened),
            receivers=tuple(
                ReceiverState(
                    name=receiver.name,
                    kind=receiver.kind,
                    queued=sum(row.receiver == receiver.name for row in rows),
                    last=self._senders[receiver.name].last if receiver.name in self._senders else None,
                    trouble=": ".join((receiver.name in self._senders and self._senders[receiver.name].trouble) or ()),
                )
                for receiver in self._config.alerts.receivers
            ),
            dropped=self.dropped,
            problem=self._problem,
        )

    async def _test(self, receiver: str) -> Attempt:
        teller, sender = self._teller, self._senders.get(receiver)
        if teller is None or sender is None:
            return Attempt(End.AGAIN, "ALERTS_DISK", self._problem or "the queue is not open yet")
        reason = "somebody asked for it; nothing is wrong"
        message = self._own(Kind.TEST, "ALERTS_TEST", reason)
        future: asyncio.Future[Attempt] = asyncio.get_running_loop().create_future()
        sender.tests[message.id] = future
        teller.say(receiver, message, _wall_ms())
        sender.wake(first=True)
        return await future


def rules_of(config: Config) -> Rules:
    """The telling's rules, by the configuration."""
    alerts = config.alerts
    return Rules(
        cluster=config.cluster,
        me=config.this.name,
        receivers=tuple(
            Receiving(receiver.name, Severity(receiver.min_severity), repeats=FORMS[receiver.kind].repeats)
            for receiver in alerts.receivers
        ),
        settle_ms=alerts.settle_ms,
        repeat_ms=alerts.repeat_ms,
    )


def order_of(config: Config) -> tuple[str, ...]:
    """Who speaks before whom: the arbiter, which has the least else to do, then the data nodes by name."""
    return tuple(sorted(config.nodes, key=lambda name: (config.nodes[name].kind is not NodeKind.ARBITER, name)))


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000
