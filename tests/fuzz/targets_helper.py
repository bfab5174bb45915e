"""Asks of the daemon, which listens to the network, to the helper, which may do what the daemon may not."""

from __future__ import annotations

import asyncio
import functools
import json
import socket
from typing import TYPE_CHECKING, Any, cast

from places import config_file, place, run
from target import Target

from failoverd.config import load
from failoverd.core.model import Health, Outcome, QueueFacts, Reading
from failoverd.ports import Result
from failoverd.runtime.helped import ASK_BYTES
from failoverd.runtime.helper import LONGEST_MS, Ask, AskError, Helper, Means

if TYPE_CHECKING:
    from failoverd.actions.handon import HandOn
    from failoverd.actions.queue import PostfixQueue
    from failoverd.ports import Fence, MovedStore

DONE = Result(Outcome.SUCCEEDED)


class _Nothing:
    """Each of the adapters, as far as it is asked: nothing is done to this machine."""

    async def power_off(self, _node: str, *, deadline_ms: int) -> Result:
        """As a fence's."""
        assert 0 < deadline_ms <= LONGEST_MS
        return DONE

    async def status(self, _node: str, *, own: bool, deadline_ms: int) -> Result:
        """Likewise."""
        assert isinstance(own, bool)
        return await self.power_off("", deadline_ms=deadline_ms)

    async def take(self, *, term: int, previous: str | None, deadline_ms: int) -> Result:
        """As a mail store's."""
        assert isinstance(term, int)
        assert previous is None or previous.startswith(("mail", "arbiter"))
        return await self.power_off("", deadline_ms=deadline_ms)

    async def release(self, *, term: int, deadline_ms: int) -> Result:
        """Likewise."""
        return await self.take(term=term, previous=None, deadline_ms=deadline_ms)

    async def look(self, *, deadline_ms: int) -> Reading:
        """Likewise."""
        await self.power_off("", deadline_ms=deadline_ms)
        return Reading(Health.OK)

    def break_locks(self, **_: object) -> Result:
        """As a walk through it."""
        return DONE

    def waiting(self) -> QueueFacts:
        """As a mail queue's."""
        return QueueFacts(0, 0, 0, 0)

    def drain(self, *, deadline_ms: int) -> Result:
        """Likewise."""
        assert 0 < deadline_ms <= LONGEST_MS
        return DONE

    async def run(self, _to: str, address: str, *, own: bool, deadline_ms: int) -> Result:
        """As handing mail on: to a node's address."""
        assert address.count(".") == 3
        return await self.status("", own=own, deadline_ms=deadline_ms)


class _Means(Means):
    """Of the shipped configuration, on nothing."""

    def __init__(self) -> None:
        super().__init__(load(config_file(), "mail1"), place("helper-state"), place("helper-runtime"))
        nothing: Any = _Nothing()
        self.fence, self.moved, self._locks = cast("Fence", nothing), cast("MovedStore", nothing), nothing
        self._queue = (cast("PostfixQueue", nothing), cast("HandOn", nothing))

    def writer_of(self, ask: Ask) -> list[str]:
        """One of the configured disks, and nobody is started."""
        super().writer_of(ask)
        raise AskError("no writer here")


@functools.cache
def _helper() -> Helper:
    return Helper(_Means(), lambda _: _Means())


def _asked(data: bytes) -> object:
    """One connection. It answers, or says why not, and is free for the next one."""

    async def conversation() -> bytes:
        ours, theirs = socket.socketpair()
        reader, sender = await asyncio.open_connection(sock=theirs, limit=ASK_BYTES)
        ours.setblocking(False)
        answering = asyncio.ensure_future(_helper().connected(reader, sender))
        loop = asyncio.get_running_loop()
        with ours:
            try:
                await loop.sock_sendall(ours, data.replace(b"\n", b" ") + b"\n")
                answer = await loop.sock_recv(ours, 65536)
            except ConnectionError:
                answer = b""
        await answering
        return answer

    async def bounded() -> bytes:
        async with asyncio.timeout(20):
            return await conversation()

    answer = run(bounded())
    assert _helper()._open == 0
    assert isinstance(json.loads(answer), dict)
    return answer


def _line(verb: str, **given: object) -> bytes:
    return json.dumps({"verb": verb, "deadline_ms": 1000, **given}).encode()


TARGETS = [
    Target(
        "helper-ask",
        "what the daemon asks of the helper",
        _asked,
        lambda: [
            _line("fence-off", node="mail2"),
            _line("fence-status", node="mail1"),
            _line("store-take", term=7, previous="mail2"),
            _line("store-release", term=7, until_ms=1 << 60),
            _line("release"),
            _line("store-look"),
            _line("locks", given=True),
            _line("space", path="/"),
            _line("queue-drain"),
            _line("queue-hand-on", to="mail2", own=False),
            _line("disk", path="/var/lib/mysql"),
        ],
    ),
]
