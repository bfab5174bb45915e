"""A whole daemon, the arbiter's, with its controller: a store in memory, an audit on disk, and no network."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from failoverd.audit.file import AuditFile
from failoverd.config import load, membership_digest
from failoverd.core.health import Sendings
from failoverd.core.machine import State
from failoverd.core.model import (
    Heard,
    NodeName,
    Record,
    Report,
    Role,
)
from failoverd.core.view import View
from failoverd.runtime.clock import BootClock, epoch_ms
from failoverd.runtime.controller import NodeController
from failoverd.runtime.daemon import Daemon
from failoverd.runtime.document import Accepted, Event, Refused
from failoverd.runtime.executor import Executor, Worker
from failoverd.runtime.outbox import Outbox
from failoverd.runtime.thresholds import policy_of
from failoverd.stores.memory import MemoryCell, MemoryStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from failoverd.config import Config

MAIL1 = NodeName("mail1")
HELD = Record(version=41, term=7, holder=MAIL1, counter=30, ttl_ms=3000)


class Unused:
    """What an arbiter has no use for."""

    def __getattr__(self, name: str) -> object:
        raise AssertionError(name)


class NoLease:
    """An arbiter holds none."""

    def write(self, held: object, *, leaving: bool = False) -> None:
        """Never."""
        raise AssertionError(held, leaving)

    def clear(self) -> None:
        """Never."""
        raise AssertionError("there was one")


class Node:
    """The arbiter's daemon and its controller, a store in memory and an audit on disk."""

    def __init__(self, config: Config, place: Path, record: Record, epoch: Callable[[], int] = epoch_ms) -> None:
        self.missing = ""  # of the record being on most nodes
        self.copying = asyncio.Event()  # set: who has it is known
        self.copying.set()
        clock, unused = BootClock(), Unused()
        anything: Any = unused
        self.cell = MemoryCell()
        self.cell.record = record
        self.store = MemoryStore(self.cell)
        self.audit = place / "audit.jsonl"
        self.pushed: list[Report] = []
        view = View(
            me=config.this,
            nodes=tuple(config.nodes.values()),
            policy=policy_of(config),
            membership=membership_digest(config),
            now_ms=clock.now_ms(),
            sendings=Sendings("this-process"),
            highest_term=record.term,
        )
        self.daemon = Daemon(
            state=State(view=view, software="0.1.0"),
            clock=clock,
            store=self.store,
            lease=NoLease(),
            push=self.pushed.append,
            watch_primary=lambda _primary: None,
            alive=lambda: None,
            epoch_ms=epoch,
        )
        self.daemon.executor = Executor(
            node=config.this.name,
            clock=clock,
            gate=anything,
            database=anything,
            heart=anything,
            units=anything,
            store=anything,
            prove=anything,
            deliver=self.daemon.step_ended,
            broken=self.daemon.broken,
        )
        self.daemon.outbox = Outbox(
            worker=Worker("audit"),
            audit=AuditFile(self.audit, config.this.name, clock),
            remember=lambda _memory: None,
            perform=self.daemon.perform,
            refuse=self.daemon.refuse,
        )
        self.controller = NodeController(self.daemon, config, clock, copied=self._copied)

    async def _copied(self, node: NodeName) -> str:
        await self.copying.wait()
        return self.missing and f"{self.missing} ({node})"

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the daemon until the end of the block; it has read the store when the block begins."""
        stop = asyncio.Event()
        run = asyncio.ensure_future(self.daemon.run(stop))
        try:
            await self.until(lambda: self.daemon.state.view.record is not None)
            yield
        finally:
            stop.set()
            await run

    async def until(self, true: Callable[[], bool]) -> None:
        """Wait for a change of the daemon's state that makes it so."""
        changed = asyncio.Event()
        self.daemon.watchers.add(changed)
        async with asyncio.timeout(10):
            while not true():
                changed.clear()
                await changed.wait()
        self.daemon.watchers.discard(changed)

    async def lease_over(self) -> None:
        """Wait until this node has itself seen that the holder does not renew."""
        await self.until(lambda: self.daemon.state.view.at(BootClock().now_ms()).lease_is_over())

    def hears(self, sender: NodeName, **changes: Any) -> None:
        """Let a report of `sender` come that this node's newest has been heard by."""
        view = self.daemon.state.view
        heard = Heard(view.me.name, view.sendings.process, view.sendings.last)
        told = Report(
            sender=sender,
            process="another-process",
            number=1,
            heard=(heard,),
            membership=view.membership,
            software="0.1.0",
            term=view.highest_term,
            version=self.cell.record.version,
            lease_over=False,
            role=Role.PRIMARY,
            serving=True,
            ready=True,
            steady=True,
            frozen_term=None,
            caught_up=True,
            database=None,
            claims=(),
        )
        self.daemon.reported(replace(told, **changes))

    async def ended(self, answer: Accepted | Refused) -> list[Event]:
        """All events of an accepted request."""
        assert isinstance(answer, Accepted), answer
        events = await self.controller.events(answer.id)
        assert events is not None
        async with asyncio.timeout(20):
            return [event async for event in events]

    def audited(self, kind: str) -> list[str]:
        """The texts of all lines of a kind."""
        lines = [json.loads(line) for line in self.audit.read_text().splitlines()]
        return [line["text"] for line in lines if line.get("kind") == kind]


def story(
    config_file: Path,
    tmp_path: Path,
    tell: Callable[[Node], Awaitable[None]],
    record: Record = HELD,
    epoch: Callable[[], int] = epoch_ms,
) -> Node:
    """Run the daemon, and beside it what `tell` does."""

    async def told() -> Node:
        node = Node(load(config_file, "arbiter"), tmp_path, record, epoch)
        async with node.running():
            await tell(node)
        return node

    return asyncio.run(told())


def codes(answer: Accepted | Refused) -> list[str]:
    """Of a refusal."""
    assert isinstance(answer, Refused), answer
    return [reason.code for reason in answer.reasons]
