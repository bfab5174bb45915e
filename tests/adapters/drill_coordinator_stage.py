"""A drill that is conducted for real: coordinator, control socket, agents over mutual TLS, jobs that are processes.

Scripted is what cannot be here: the cluster that the daemon tells of, systemd, and what jobs and load find on servers.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pickle
import shutil
import sys
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import control_stage
from control_stage import ARBITER, data_node
from drill_agent_stage import DRILL, NAMES, Cluster, until

from failoverd.drill import collecting, comparing, coordinator, holding, model, watching
from failoverd.drill.book import Book
from failoverd.drill.calls import Agents
from failoverd.drill.coordinator import Coordinator
from failoverd.drill.generator import Generator
from failoverd.drill.local import LocalDaemon
from failoverd.drill.model import Asked, PhaseName
from failoverd.drill.ourselves import Ourselves
from failoverd.drill_files import DIRECTORY, STATE
from failoverd.runtime.control import ControlServer
from failoverd.runtime.document_history import Change, HistoryDocument

if TYPE_CHECKING:
    import signal
    from collections.abc import AsyncIterator

    import pytest

    from failoverd.drill.model import Drill, PhaseResult
    from failoverd.runtime.document import Accepted, NodeStatus, Refused, StatusDocument

HERE = Path(__file__).parent
NOW = datetime.fromisoformat("2026-11-29T02:30:00+01:00")
ME, TARGET = "mail2", "mail1"
NUMBERS = {"mail1": 11, "mail2": 12, "mail3": 13}
# A coordinator as systemd starts it, but for how long it waits, and for members on loopback, which no file may have.
PROGRAM = """
import pickle, sys
from failoverd import config
config.load = lambda path, node: pickle.loads(path.read_bytes())
from failoverd.drill import coordinator, holding
coordinator.LOOK_S, coordinator.CALM_S, holding.RENEW_S = 0.05, 0.2, 0.3
from failoverd.__main__ import main
sys.exit(main())
"""


NFT = """#!/bin/sh
# nft(8) for as much as a fault asks of it: its one table is there, or not.
table=${0%/*}/../table
case "$*" in
    *"delete table"*) rm -f "$table" ;;
    "list table"*) test -e "$table" ;;
    *) touch "$table" ;;
esac
"""


class Daemon(control_stage.Stage):
    """A cluster that a fault hits: mail1 is primary; mail2 is once mail1 has a fault, and for ever after."""

    def __init__(self, cluster: Conducted) -> None:
        super().__init__()
        self._cluster = cluster
        self.moved = False
        self.blind = False  # it does not notice
        self.homeless = False  # who was hit does not come back
        self.astray = False  # the role moves whoever is hit
        self.changes: dict[str, Any] = {}  # of the status document
        self.of_nodes: dict[str, dict[str, Any]] = {}

    def status(self) -> StatusDocument:
        """As it is now."""
        broken = self._cluster.host(TARGET).drill() != ""
        self.moved = self.moved or (broken and not self.blind) or (self.astray and self._cluster.fault() != "")
        primary, term = ("mail2", 8) if self.moved else ("mail1", 7)
        nodes: list[NodeStatus] = []
        for name, number in NUMBERS.items():
            node = data_node(name, number, source=None if name == primary else f"10.89.1.{NUMBERS[primary]}")
            if name == TARGET and self.moved and (broken or self.homeless):
                node = replace(node, actual="fenced", fresh=False, database=None, services={}, vip=None)
            nodes.append(replace(node, **self.of_nodes.get(name, {})))
        whole = replace(control_stage.HEALTHY, nodes=(*nodes, ARBITER), holder=primary, term=term, node=ME)
        candidate = replace(whole.failover, candidate="mail3" if self.moved else "mail2")
        return replace(whole, failover=candidate, **self.changes)

    async def history(self) -> HistoryDocument:
        """The change that the drill brought about."""
        change = Change(
            id="term-8", term=8, kind="failover", previous="mail1", holder="mail2", by="failoverd", reason="hit",
            rule="primary-lost-by-quorum", began="2026-11-29T02:00:00.000Z", ended="2026-11-29T02:00:01.000Z",
            outcome="done", outage_ms=900,
        )  # fmt: skip
        return HistoryDocument(cluster="lab", node=ME, changes=(change,) if self.moved else (), events=(), unseen=())

    async def promote(self, target: str, by: str, reason: str, *, allow_loss: bool = False) -> Accepted | Refused:
        """It is done at once."""
        answer = await super().promote(target, by, reason, allow_loss=allow_loss)
        self.moved = self.refusal is None
        return answer


class Conducted(Cluster):
    """A cluster, and mail2's coordinator."""

    ASKED: ClassVar = Asked(id=DRILL, scenario="service-hang", by="anna", users=0, duration_s=10)

    def __init__(self, config_file: Path, place: Path, drill: dict[str, Any] | None = None) -> None:
        accounts = place / "accounts"
        accounts.write_text("a@x.test:secret\nb@x.test:secret\n")
        accounts.chmod(0o600)
        given = {"load": {"accounts_file": str(accounts), "ramp": "1s"}, "backup": {"limit": "1m"}, **(drill or {})}
        super().__init__(config_file, place, given)
        self.daemon = Daemon(self)
        self.told: list[str] = []
        shutil.copy(HERE / "drill_load_process.py", place / "bin" / "load")
        (place / "bin" / "load").chmod(0o755)
        (place / "bin" / "nft").write_text(NFT)
        (place / "bin" / "nft").chmod(0o755)
        self.load()
        self.conductor: Coordinator | None = None  # of the newest drill in this process
        self._agents: dict[str, contextlib.AsyncExitStack] = {}
        self.runtime = place / "run"
        self.runtime.mkdir()

    # ---- what a test sets and sees ----------------------------------------------------------------------------------

    def ourselves(self, name: str) -> Ourselves:
        """Jobs that know whose they are."""
        return Ourselves((sys.executable, "-SE", str(HERE / "drill_conducted_job_process.py")), (str(self.place), name))

    def jobs(self, **wanted: Any) -> None:
        """What jobs do from now on that is not right: by kind, or `kind_node`."""
        path = self.place / ".jobs.json"
        path.write_text(json.dumps({name.replace("_", " "): value for name, value in wanted.items()}))
        path.replace(self.place / "jobs.json")

    def load(self, **wanted: Any) -> None:
        """What the load does from now on."""
        path = self.place / ".load.json"
        path.write_text(json.dumps(wanted))
        path.replace(self.place / "load.json")

    def wait_for(self, words: str) -> None:
        """Have systemctl wait for what these words are found in; "" for nothing any more."""
        path = self.place / "waits"
        path.write_text(words) if words else path.unlink(missing_ok=True)

    def lines(self, name: str) -> list[str]:
        """What a stage's process wrote down: "jobs", "orders"."""
        path = self.place / name
        return path.read_text().splitlines() if path.exists() else []

    def fault(self) -> str:
        """Whose fault any node has, "" where none has."""
        return next(filter(None, (self.host(name).drill() for name in NAMES)), "")

    def drill(self) -> Drill:
        """The state on disk."""
        return model.load(model.Drill, (self.place_of() / STATE).read_bytes())

    def place_of(self, drill: str = DRILL) -> Path:
        """Where the coordinator keeps it."""
        return self.state(ME) / DIRECTORY / drill

    def phase(self) -> PhaseName | None:
        """The phase that is under way, by what lies on disk."""
        if not (self.place_of() / STATE).exists():
            return None
        phases = self.drill().phases
        return phases[-1].name if phases and phases[-1].outcome == "under-way" else None

    def result(self, name: PhaseName) -> PhaseResult:
        """How a phase went."""
        return next(phase for phase in self.drill().phases if phase.name is name)

    async def locks(self, agents: Agents) -> list[str]:
        """Which drill each node's agent says that it is in."""
        return [(await agents.facts(name)).drill for name in NAMES if name in self._agents]

    # ---- what runs --------------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def up(self, *, lease_s: float = 15.0) -> AsyncIterator[None]:
        """Run all agents and the daemon's control socket."""
        await self.daemon_up()
        try:
            for name in NAMES:
                await self.agent_up(name, lease_s=lease_s)
            yield
        finally:
            self.wait_for("")
            for name in list(self._agents):
                await self.agent_down(name)
            await self.daemon_down()

    async def daemon_up(self) -> None:
        """Start the daemon."""
        self._control = ControlServer(self.runtime / "control.sock", self.daemon)
        await self._control.start()

    async def daemon_down(self) -> None:
        """End it."""
        await self._control.stop()

    async def agent_up(self, name: str, *, lease_s: float = 15.0) -> None:
        """Start a node's agent."""
        stack = contextlib.AsyncExitStack()
        await stack.enter_async_context(self.agents(name, lease_s=lease_s, term_s=1.0))
        self._agents[name] = stack

    async def agent_down(self, name: str) -> None:
        """End it, as systemd does: with all that it has."""
        await self._agents.pop(name).aclose()

    @contextlib.asynccontextmanager
    async def conducting(self, asked: Asked | None = None) -> AsyncIterator[tuple[asyncio.Task[model.Outcome], Agents]]:
        """A coordinator in this process, as main.py makes it."""
        config = self.configs[ME]
        book = Book.opened(self.state(ME), asked or self.ASKED, config.cluster, self.told.append)
        async with Agents(config) as agents, LocalDaemon(self.runtime / "control.sock") as daemon:
            stage = coordinator.Stage(config, book, agents, daemon, lambda: NOW)
            self.conductor = Coordinator(stage)
            running = asyncio.ensure_future(self.conductor.run())
            try:
                yield running, agents
            finally:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)

    async def conduct(self, asked: Asked | None = None) -> model.Outcome:
        """Conduct one to its end."""
        async with self.conducting(asked) as (running, _):
            return await running

    async def until_phase(self, name: PhaseName, within_s: float = 20.0) -> None:
        """Wait until it is under way."""
        await until(lambda: self.phase() is name, name, within_s)

    async def process(self, *arguments: str) -> asyncio.subprocess.Process:
        """Start `failoverd drill` as mail2's."""
        path = self.place / "configuration"
        path.write_bytes(pickle.dumps(self.configs[ME]))
        places = ("--config", str(path), "--node", ME, "--state", str(self.state(ME)))
        return await asyncio.create_subprocess_exec(
            sys.executable, "-c", PROGRAM, "drill", *places, "--runtime", str(self.runtime), *arguments,
            stderr=asyncio.subprocess.PIPE, env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip

    def request(self, asked: Asked | None = None) -> None:
        """What the daemon leaves for a coordinator."""
        (self.runtime / "drill-request.json").write_bytes(model.dump(asked or self.ASKED))


def quick(monkeypatch: pytest.MonkeyPatch, cluster: Conducted, **limits_s: float) -> None:
    """Wait for as long as a machine without a cluster takes; `limits_s`: of phases, by name."""
    monkeypatch.setenv("PATH", cluster.path())
    load = cluster.place / "bin" / "load"
    for module, name, value in (
        (coordinator, "LOOK_S", 0.05),
        (coordinator, "CALM_S", 0.2),
        (coordinator, "UNWIND_S", 2.0),
        (collecting, "SETTLE_S", 0.5),
        (collecting, "SETTLE_EVERY_S", 0.1),
        (comparing, "ATTEMPTS", 3),
        (holding, "RENEW_S", 0.3),
        (watching, "LOOK_S", 0.1),
        (coordinator, "Generator", partial(Generator, program=(str(load),), silent_s=1.0, end_s=1.0)),
    ):
        monkeypatch.setattr(module, name, value)
    changed = {PhaseName(name): value for name, value in limits_s.items()}
    monkeypatch.setattr(coordinator, "LIMITS_S", {**coordinator.LIMITS_S, **changed})
    monkeypatch.setattr(Coordinator, "_baseline_s", 0.3)


async def end(process: asyncio.subprocess.Process, number: signal.Signals) -> str:
    """Signal it and wait for its end. Returns what it said."""
    process.send_signal(number)
    async with asyncio.timeout(20):
        _, said = await process.communicate()
    return said.decode()
