"""What an operator asks of a daemon reaches the store, or is refused: a whole daemon, the arbiter's, and no network."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from failoverd.audit.file import AuditFile
from failoverd.config import load, membership_digest
from failoverd.core.health import Sendings
from failoverd.core.machine import State
from failoverd.core.model import Heard, NodeName, Record, Report, Role
from failoverd.core.view import View
from failoverd.runtime.assembly import policy_of
from failoverd.runtime.clock import BootClock
from failoverd.runtime.controller import NodeController
from failoverd.runtime.daemon import Daemon
from failoverd.runtime.document import Accepted, Event, Reason, Refused
from failoverd.runtime.executor import Executor, Worker
from failoverd.runtime.outbox import Outbox
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

    def __init__(self, config: Config, place: Path, record: Record) -> None:
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
        self.controller = NodeController(self.daemon, config, clock)

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

    def hears(self, sender: NodeName) -> None:
        """Let a report of `sender` come that this node's newest has been heard by."""
        view = self.daemon.state.view
        heard = Heard(view.me.name, view.sendings.process, view.sendings.last)
        self.daemon.reported(
            Report(
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
        )

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


def story(config_file: Path, tmp_path: Path, tell: Callable[[Node], Awaitable[None]], record: Record = HELD) -> Node:
    async def told() -> Node:
        node = Node(load(config_file, "arbiter"), tmp_path, record)
        async with node.running():
            await tell(node)
        return node

    return asyncio.run(told())


def codes(answer: Accepted | Refused) -> list[str]:
    assert isinstance(answer, Refused), answer
    return [reason.code for reason in answer.reasons]


def test_an_operator_s_word_reaches_the_store_and_the_audit_names_who(config_file: Path, tmp_path: Path) -> None:
    async def tell(node: Node) -> None:
        await node.lease_over()
        events = await node.ended(await node.controller.confirm_fenced("mail1", "anna", "pulled both plugs"))
        assert events[0].text == "accepted: mail1 has no power, says anna"
        assert (events[-1].final, events[-1].succeeded) == (True, True)
        assert events[-1].text == "mail1 has no power: anna: pulled both plugs"
        status = node.controller.status()
        assert (status.lease.state, status.lease.by) == ("off", "anna: pulled both plugs")

    node = story(config_file, tmp_path, tell)
    record = node.cell.record
    assert (record.term, record.holder, record.off) == (7, "mail1", "anna: pulled both plugs")
    assert record.condemned_by is not None, "or the holder could renew"
    assert node.audited("confirmed") == ["anna says that mail1 has no power"]


def test_a_node_that_answers_has_power(config_file: Path, tmp_path: Path) -> None:
    async def tell(node: Node) -> None:
        await node.until(lambda: bool(node.pushed))
        node.hears(MAIL1)
        assert codes(await node.controller.confirm_fenced("mail1", "anna", "it hangs")) == ["BLK_ANSWERS"]

    assert story(config_file, tmp_path, tell).cell.record.off == ""


@pytest.mark.parametrize(("named", "code"), [("mail9", "BLK_NO_SUCH_NODE"), ("mail2", "BLK_NOT_HOLDER")])
def test_only_the_last_primary_can_be_confirmed(config_file: Path, tmp_path: Path, named: str, code: str) -> None:
    async def tell(node: Node) -> None:
        assert codes(await node.controller.confirm_fenced(named, "anna", "it is off")) == [code]

    assert story(config_file, tmp_path, tell).cell.record.off == ""


def test_without_the_store_nothing_is_taken(config_file: Path, tmp_path: Path) -> None:
    async def tell(node: Node) -> None:
        await node.store.set_reachable(reachable=False)
        async with asyncio.timeout(10):
            while not node.daemon.store_error:  # noqa: ASYNC110 - no state changes with it that could be waited for
                await asyncio.sleep(0.01)
        assert "BLK_STORE" in codes(await node.controller.confirm_fenced("mail1", "anna", "it is off"))
        assert "BLK_STORE" in codes(await node.controller.pause("anna", "it is off"))
        assert "BLK_STORE" in codes(await node.controller.pause("anna", ""))

    node = story(config_file, tmp_path, tell)
    assert (node.cell.record.off, node.cell.record.paused) == ("", "")


def test_a_pause_is_the_whole_cluster_s_until_somebody_ends_it(config_file: Path, tmp_path: Path) -> None:
    async def tell(node: Node) -> None:
        events = await node.ended(await node.controller.pause("anna", "moving the rack"))
        assert (events[0].text, events[-1].text) == ("accepted: anna pauses", "paused by anna: moving the rack")
        assert events[-1].succeeded
        assert node.cell.record.paused == "anna: moving the rack"
        status = node.controller.status()
        assert status.paused == "anna: moving the rack"
        assert not status.failover.possible
        assert Reason(code="BLK_PAUSED", reason="paused by anna: moving the rack") in status.failover.blockers
        events = await node.ended(await node.controller.pause("bert", ""))
        assert (events[0].text, events[-1].text) == ("accepted: bert resumes", "the cluster goes on")
        assert node.cell.record.paused == ""
        assert node.controller.status().paused == ""
        version = node.cell.record.version
        events = await node.ended(await node.controller.pause("bert", ""))  # once more
        assert events[-1].succeeded
        assert node.cell.record.version == version

    node = story(config_file, tmp_path, tell)
    assert node.audited("asked") == ["anna pauses", "bert resumes"]
    assert node.audited("paused") == ["paused by anna: moving the rack", "the cluster goes on"]


def test_there_is_nothing_to_pause_before_the_first_primary(config_file: Path, tmp_path: Path) -> None:
    async def tell(node: Node) -> None:
        assert codes(await node.controller.pause("anna", "moving the rack")) == ["BLK_NO_PRIMARY"]

    story(config_file, tmp_path, tell, Record())


def test_where_a_fence_is_required_the_status_says_what_a_failover_would_wait_for(
    config_file: Path, tmp_path: Path
) -> None:
    async def tell(node: Node) -> None:
        blockers = [blocker for blocker in node.controller.status().failover.blockers if blocker.code == "BLK_FENCE"]
        assert [blocker.reason for blocker in blockers] == [
            "mail1 has no fence agent: an operator would have to confirm"
        ]
        await node.lease_over()
        blockers = [blocker for blocker in node.controller.status().failover.blockers if blocker.code == "BLK_FENCE"]
        assert [blocker.reason for blocker in blockers] == ["nobody has confirmed that mail1 has no power"]

    config_file.write_text(config_file.read_text() + "\nfencing: {required: true}\n")
    story(config_file, tmp_path, tell)
