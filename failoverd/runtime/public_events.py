"""`/v1/events`: the status as it changes, as server-sent events.

    event: status       data: StatusDocument, in one line of JSON
    event: history      data: HistoryDocument, likewise, where it is another than the last one
    retry: 2000         when to come back after the connection was lost; the first event tells everything again

A status comes at once, at each change and each second, since lease and lag move; never more than four a second. The
history is looked at every two seconds. One document is made for everybody, and none while nobody listens. Who does not
read is told only the newest once it does: there is one pending event of a kind for each client, and none of the older.
Who reads nothing for long is dropped by the listener (public.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog
from starlette.responses import PlainTextResponse

from failoverd.runtime.public_shown import HEADERS, Shown

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

CLIENTS = 32
LEAST_S, MOST_S = 0.25, 1.0
RETRY_MS = 2000
HISTORY_S = 2.0
_log = structlog.get_logger(__name__)
_MOVING = re.compile(rb'"\w+_ms":\d+')  # what time alone changes is no news before its second is over


@dataclass(eq=False, slots=True)
class _Client:
    """One listener's pending events, by their kind, and a bell."""

    pending: dict[str, bytes] = field(default_factory=dict)
    bell: asyncio.Event = field(default_factory=asyncio.Event)
    over: bool = False

    def end(self) -> None:
        self.over = True
        self.bell.set()

    def tell(self, kind: str, frame: bytes) -> None:
        self.pending[kind] = frame
        self.bell.set()

    def take(self) -> bytes:
        self.bell.clear()
        frames, self.pending = b"".join(self.pending.values()), {}
        return frames


class Events:
    """An ASGI application; `close` ends every stream."""

    def __init__(self, shown: Shown) -> None:
        self._shown = shown
        self._clients: set[_Client] = set()
        self._ticking: tuple[asyncio.Task[None], ...] = ()
        self._history = b""  # the newest frame
        self._closed = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream to one client until it goes or the daemon ends."""
        if self._closed or len(self._clients) >= CLIENTS:
            full = PlainTextResponse(f"{CLIENTS} clients listen already, or the daemon ends", 503, {"retry-after": "5"})
            await full(scope, receive, send)
            return
        headers = {**HEADERS, "content-type": "text/event-stream", "x-accel-buffering": "no"}
        encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": 200, "headers": encoded})
        if scope["method"] == "HEAD":
            await send({"type": "http.response.body"})
            return
        client = _Client()
        gone = asyncio.ensure_future(_gone(receive))
        gone.add_done_callback(lambda _: client.end())
        self._clients.add(client)
        client.tell("status", f"retry: {RETRY_MS}\n\n".encode() + self._frame()[0])
        if self._history:
            client.tell("history", self._history)
        if not self._ticking:
            self._ticking = tuple(asyncio.ensure_future(tick) for tick in (self._tick(), self._tick_history()))
            for task in self._ticking:
                task.add_done_callback(self._ticked)
        try:
            while not client.over:
                await client.bell.wait()
                await send({"type": "http.response.body", "body": client.take(), "more_body": True})
            await send({"type": "http.response.body"})
        finally:
            gone.cancel()
            self._clients.discard(client)
            if not self._clients:
                self._stop_ticking()

    def _stop_ticking(self) -> None:
        ticking, self._ticking, self._history = self._ticking, (), b""
        for task in ticking:
            task.cancel()

    def close(self) -> None:
        """End every stream; nobody is let in any more."""
        self._closed = True
        for client in self._clients:
            client.end()
        self._stop_ticking()

    def _ticked(self, task: asyncio.Task[None]) -> None:
        """The last client has gone; or a bug showed, and the streams end: whoever listens comes back."""
        error = None if task.cancelled() else task.exception()
        if error is not None:
            _log.error("no event could be made", exc_info=error)
            self._stop_ticking()
            for client in self._clients:
                client.end()

    def _frame(self) -> tuple[bytes, bytes]:
        """The event, and what of it is no mere moving on of time."""
        document = self._shown.status()
        return b"event: status\ndata: " + document + b"\n\n", _MOVING.sub(b"", document)

    async def _tick(self) -> None:
        """Make one event for everybody as often as there is news, and each second."""
        loop, watchers, changed = asyncio.get_running_loop(), self._shown.daemon.watchers, asyncio.Event()
        told, told_at = b"", loop.time()
        watchers.add(changed)
        try:
            while True:
                await asyncio.sleep(LEAST_S)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(told_at + MOST_S):
                        await changed.wait()
                changed.clear()
                frame, substance = self._frame()
                if substance != told or loop.time() >= told_at + MOST_S:
                    told, told_at = substance, loop.time()
                    self._tell("status", frame)
        finally:
            watchers.discard(changed)

    async def _tick_history(self) -> None:
        """Tell everybody of another past. The nodes are asked, so it has a time of its own."""
        while True:
            frame = b"event: history\ndata: " + await self._shown.history() + b"\n\n"
            if frame != self._history:
                self._history = frame
                self._tell("history", frame)
            await asyncio.sleep(HISTORY_S)

    def _tell(self, kind: str, frame: bytes) -> None:
        for client in self._clients:
            client.tell(kind, frame)


async def _gone(receive: Receive) -> None:
    """Wait until the client has closed its end."""
    while (await receive())["type"] != "http.disconnect":
        pass
