"""The load beside a drill's phases: it fails, real clients suffer, it takes too much of them."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from drill_agent_stage import runs, until
from drill_coordinator_stage import Conducted, quick

from failoverd.drill.model import PhaseName
from failoverd.drill_files import LOAD
from failoverd.runtime.document import LatencyStatus, MonitoringStatus, ServiceStatus

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    Make = Callable[..., Conducted]

LOADED = replace(Conducted.ASKED, users=2, duration_s=60, backup="none")
BRIEF = replace(LOADED, duration_s=1)
DOWN = ServiceStatus(verdict="down", votes={"mail3": "IMAP_REFUSED connection refused"})


@pytest.fixture
def make(config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    def made(load: dict[str, Any] | None = None) -> Conducted:
        """A cluster; `load`: of its section `drill.load`."""
        accounts = str(tmp_path / "accounts")
        section = {"accounts_file": accounts, "ramp": "1s", **(load or {})}
        cluster = Conducted(config_file, tmp_path, {"load": section, "abort": {"down": "1s", "latency": "500ms"}})
        quick(monkeypatch, cluster)
        return cluster

    return made


def story(cluster: Conducted, tell: Callable[[], Awaitable[None]]) -> None:
    async def told() -> None:
        async with cluster.up(), asyncio.timeout(40):
            await tell()

    asyncio.run(told())


def gone(cluster: Conducted) -> bool:
    """Nothing of the drill is left, its generator among it."""
    return cluster.drill().clean and cluster.fault() == "" and not runs(int((cluster.place / "load.pid").read_text()))


def seconds(cluster: Conducted, stage: str) -> list[dict[str, Any]]:
    """What the load has told of a stage, as it lies on disk."""
    path = cluster.place_of() / LOAD
    lines = path.read_text().splitlines() if path.exists() else []
    return [second for second in map(json.loads, lines) if second["stage"] == stage]


# ---- the generator ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("does", "words"),
    [
        ("end", "the generator has ended by itself, with 7"),
        ("silence", "the generator is silent for 1 s"),
        ("garbage", "the generator says what is not understood: Expecting value"),
    ],
)
def test_a_generator_that_fails_under_load_ends_the_drill(does: str, words: str, make: Make) -> None:
    cluster = make()

    async def tell() -> None:
        async with cluster.conducting(LOADED) as (running, _):
            await cluster.until_phase(PhaseName.LOAD)
            cluster.load(do=does)
            assert await running == "failed"
        assert gone(cluster)

    story(cluster, tell)
    assert cluster.result(PhaseName.LOAD).code == cluster.drill().code == "DRILL_LOAD_FAILED"
    assert words in cluster.drill().reason
    assert "clean mail2" in cluster.lines("jobs")  # what it had sent is removed all the same


def test_a_generator_that_does_not_end_is_ended(make: Make) -> None:
    cluster = make()

    async def tell() -> None:
        async with cluster.conducting(BRIEF) as (running, _):
            await cluster.until_phase(PhaseName.LOAD)
            cluster.load(do="stay")
            assert await running == "failed"
        assert gone(cluster)

    story(cluster, tell)
    assert cluster.result(PhaseName.CONSISTENCY).code == "DRILL_LOAD_FAILED"
    assert cluster.drill().reason == "the generator did not end within 1 s"


# ---- real clients ----------------------------------------------------------------------------------------------------


def suffering(cluster: Conducted, how: str) -> None:
    """Have real clients, or those of the load, suffer from now on."""
    if how == "down":
        cluster.daemon.of_nodes["mail2"] = {"services": {"imap": DOWN}}
    elif how == "slow":
        mean = LatencyStatus(service="imap", node="mail2", mean_ms=900)
        cluster.daemon.of_nodes["mail3"] = {"monitoring": MonitoringStatus(latency=(mean,))}
    else:
        cluster.load(failed=20)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("down", "for 1 s: imap is down on mail2"),
        ("slow", "imap takes 900 ms on average; allowed: 500"),
        ("errors", "% of the load's operations failed lately; allowed: 20 %"),
    ],
)
def test_a_drill_of_which_clients_suffer_is_ended(how: str, words: str, make: Make) -> None:
    cluster = make()

    async def tell() -> None:
        async with cluster.conducting(LOADED) as (running, _):
            await cluster.until_phase(PhaseName.LOAD)
            suffering(cluster, how)
            await until(lambda: cluster.result(PhaseName.LOAD).outcome == "failed", "the load to end", 20)
            cluster.daemon.of_nodes.clear()
            assert await running == "failed"
        assert gone(cluster)

    story(cluster, tell)
    assert cluster.drill().code == "DRILL_CLIENTS_SUFFER"
    assert words in cluster.drill().reason


def test_what_clients_suffer_from_the_fault_itself_ends_nothing(make: Make) -> None:
    cluster = make()
    cluster.daemon.blind = True

    async def tell() -> None:
        async with cluster.conducting(BRIEF) as (running, _):
            await cluster.until_phase(PhaseName.OBSERVE)
            cluster.daemon.of_nodes["mail1"] = {"services": {"imap": DOWN}}
            cluster.load(failed=20)
            await until(lambda: len(seconds(cluster, "fault")) > 40, "some seconds of it", 20)
            cluster.daemon.of_nodes.clear()
            cluster.load()
            cluster.daemon.blind = False
            assert await running == "passed", cluster.drill()
        assert gone(cluster)

    story(cluster, tell)


def test_the_load_stays_below_its_share_of_all_sessions(make: Make) -> None:
    cluster = make({"share": "50%", "least": 0})
    # Ours are two of them: as many as real ones.
    cluster.daemon.of_nodes["mail1"] = {"monitoring": MonitoringStatus(imap_connections=4)}
    cluster.daemon.of_nodes["mail2"] = {"monitoring": MonitoringStatus(imap_connections=4)}

    async def tell() -> None:
        async with cluster.conducting(LOADED) as (running, _):
            await cluster.until_phase(PhaseName.LOAD)
            assert [order for order in cluster.lines("orders") if "users" in order] == []
            cluster.daemon.of_nodes["mail2"] = {"monitoring": MonitoringStatus(imap_connections=3)}
            await until(lambda: '{"users": 1}' in cluster.lines("orders"), "fewer people", 20)
            cluster.daemon.of_nodes["mail2"] = {"monitoring": MonitoringStatus(imap_connections=90)}
            await until(lambda: '{"users": 2}' in cluster.lines("orders"), "all of them again", 20)
            assert cluster.conductor is not None
            cluster.conductor.abort()
            assert await running == "aborted"
        assert gone(cluster)

    story(cluster, tell)
