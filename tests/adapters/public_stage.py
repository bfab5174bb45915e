"""The public listener of a real daemon that stands still: what it knows and what time it is, a test says."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import httpx
import views

from failoverd.config import load
from failoverd.core.machine import State
from failoverd.core.rules import RULES
from failoverd.runtime.controller import NodeController
from failoverd.runtime.daemon import Daemon
from failoverd.runtime.public import PublicServer
from failoverd.runtime.public_shown import Shown

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from failoverd.core.view import View

HERE = "127.0.0.1"
DEADLINE_S = 30


async def until(true: Callable[[], object]) -> None:
    """Wait for what the loop's other tasks bring about."""
    async with asyncio.timeout(DEADLINE_S):
        while not true():  # noqa: ASYNC110 - nothing is set that could be waited for
            await asyncio.sleep(0)


class StillClock:
    """Time goes on when a test says so."""

    def __init__(self) -> None:
        self.at_ms = views.NOW

    def now_ms(self) -> int:
        """As set."""
        return self.at_ms


class Unused:
    """What a daemon that stands still does not touch."""

    def __getattr__(self, name: str) -> object:
        raise AssertionError(name)


class Stage:
    """One node as `view` has it, and its listener on a free port of loopback."""

    def __init__(self, config_file: Path, view: View, trust: Any = None) -> None:
        unused: Any = Unused()
        self.clock = StillClock()
        self.daemon = Daemon(
            state=State(view=view, software="0.1.0", rule=RULES[-1]),
            clock=self.clock,
            store=unused,
            lease=unused,
            push=unused,
            watch_primary=unused,
            alive=unused,
        )
        self.daemon.store_error = ""
        config = load(config_file, view.me.name)
        self.controller = NodeController(self.daemon, config, self.clock)
        self.shown = Shown(config, self.clock, self.daemon, self.controller, trust=trust)
        self.server = PublicServer(self.shown, addresses=(HERE,), port=0)

    def knows(self, **changes: object) -> None:
        """Change the daemon's view, as an event would."""
        self.daemon.state = self.daemon.state.changed(view=self.daemon.state.view.changed(**changes))
        for watcher in self.daemon.watchers:
            watcher.set()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{HERE}:{self.server.ports[HERE]}"

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[httpx.AsyncClient]:
        """Listen, and give a client of it."""
        await self.server.start()
        try:
            async with httpx.AsyncClient(base_url=self.url, timeout=10) as client:
                yield client
        finally:
            await self.server.stop()

    def tell(self, story: Callable[[httpx.AsyncClient], Awaitable[None]]) -> None:
        """Run a story with a client."""

        async def told() -> None:
            async with self.running() as client:
                await story(client)

        asyncio.run(told())
