"""A drill's lock on all nodes: all of them, or none."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from drill_agent_stage import DRILL, OTHER, Cluster

from failoverd.drill import DrillError
from failoverd.drill.calls import Agents
from failoverd.drill.holding import Holding

if TYPE_CHECKING:
    from pathlib import Path

NODES = ("mail1", "mail2")


@pytest.fixture
def cluster(config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    made = Cluster(config_file, tmp_path)
    monkeypatch.setenv("PATH", made.path())
    return made


async def held(agents: Agents) -> list[str]:
    return [(await agents.facts(node)).drill for node in NODES]


def test_a_drill_that_finds_another_one_on_a_node_holds_none(cluster: Cluster) -> None:
    async def story() -> None:
        async with cluster.agents(*NODES), Agents(cluster.configs["mail2"]) as agents, asyncio.timeout(30):
            await agents.lock("mail2", OTHER, "bert", "mail3")
            with pytest.raises(DrillError) as error:
                await Holding(agents, NODES, DRILL, "anna", "mail2").take()
            assert error.value.code == "DRILL_RUNNING"
            assert await held(agents) == ["", OTHER]

    asyncio.run(story())


def test_a_drill_that_is_ended_while_it_takes_its_locks_holds_none(cluster: Cluster) -> None:
    class Slow(Agents):
        async def lock(self, node: str, drill: str, by: str, coordinator: str) -> None:
            await super().lock(node, drill, by, coordinator)
            if node == "mail2":
                taken.set()
                await asyncio.Event().wait()

    taken = asyncio.Event()

    async def story() -> None:
        async with cluster.agents(*NODES), Slow(cluster.configs["mail2"]) as agents, asyncio.timeout(30):
            taking = asyncio.ensure_future(Holding(agents, NODES, DRILL, "anna", "mail2").take())
            await taken.wait()
            assert await held(agents) == [DRILL, DRILL]
            taking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await taking
            assert await held(agents) == ["", ""]

    asyncio.run(story())
