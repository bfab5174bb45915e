"""A coordinator that is a process: killed in the middle, told to end, started beside another, started for nothing."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

import pytest
from drill_agent_stage import DRILL, NAMES, until
from drill_coordinator_stage import ME, Conducted, end, quick

from failoverd.drill import recover
from failoverd.drill.calls import Agents
from failoverd.drill.model import PhaseName
from failoverd.drill.report import kept
from failoverd.drill_files import CURRENT, DIRECTORY, REPORT, STATE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

LEASE_S = 3.0  # the coordinator's word is ten times as often


@pytest.fixture
def cluster(config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Conducted:
    made = Conducted(config_file, tmp_path)
    quick(monkeypatch, made)
    return made


def story(cluster: Conducted, tell: Callable[[Agents], Awaitable[None]]) -> None:
    async def told() -> None:
        async with cluster.up(lease_s=LEASE_S), Agents(cluster.configs[ME]) as agents, asyncio.timeout(60):
            await tell(agents)

    asyncio.run(told())


async def ended(cluster: Conducted, *arguments: str) -> tuple[int | None, str]:
    """Run `failoverd drill` to its end. Returns its exit code and what it said."""
    process = await cluster.process(*arguments)
    _, said = await process.communicate()
    return process.returncode, said.decode()


@pytest.mark.parametrize("phase", [PhaseName.BACKUP, PhaseName.OBSERVE])
def test_a_drill_whose_coordinator_is_killed_ends_by_itself_and_says_so_later(
    phase: PhaseName, cluster: Conducted
) -> None:
    if phase is PhaseName.BACKUP:
        cluster.jobs(backup="hang")
    cluster.daemon.blind = True

    async def tell(agents: Agents) -> None:
        cluster.request()
        process = await cluster.process()
        await cluster.until_phase(phase)
        assert set(await cluster.locks(agents)) == {DRILL}
        assert bool(cluster.fault()) == (phase is PhaseName.OBSERVE)
        await end(process, signal.SIGKILL)
        await until(lambda: cluster.fault() == "", "the fault to go away without anybody's word")
        async with asyncio.timeout(20):
            while set(await cluster.locks(agents)) != {""}:  # noqa: ASYNC110 - it is asked of others
                await asyncio.sleep(0.05)
        assert (cluster.drill().outcome, cluster.phase()) == ("under-way", phase)
        code, said = await ended(cluster, "--recover")
        assert code == 0, said

    story(cluster, tell)
    drill = cluster.drill()
    assert (drill.outcome, drill.code, drill.clean, drill.fault) == ("failed", "DRILL_ENDED", True, None)
    assert (cluster.result(phase).outcome, cluster.result(phase).code) == ("failed", "DRILL_ENDED")
    assert not (cluster.state(ME) / DIRECTORY / CURRENT).exists()
    for name in NAMES:
        report = kept.read(cluster.state(name) / DIRECTORY / DRILL / REPORT)
        assert (report.drill.code, report.drill.clean) == ("DRILL_ENDED", True)
    if phase is PhaseName.OBSERVE:
        assert any("--signal=SIGCONT" in line for line in cluster.asked())


def test_a_drill_that_is_told_to_end_takes_all_back_and_no_other_process_touches_it_meanwhile(
    cluster: Conducted,
) -> None:
    cluster.daemon.blind = True

    async def tell(agents: Agents) -> None:
        cluster.request()
        process = await cluster.process()
        await cluster.until_phase(PhaseName.OBSERVE)
        for arguments in ((), ("--recover",)):
            code, said = await ended(cluster, *arguments)
            assert (code, "DRILL_RUNNING" in said) == (3, True), said
        assert cluster.fault() == DRILL
        assert set(await cluster.locks(agents)) == {DRILL}
        assert cluster.phase() is PhaseName.OBSERVE
        said = await end(process, signal.SIGTERM)
        assert process.returncode == 1, said
        assert cluster.fault() == ""
        assert set(await cluster.locks(agents)) == {""}

    story(cluster, tell)
    assert (cluster.drill().outcome, cluster.drill().clean) == ("aborted", True)
    assert cluster.result(PhaseName.OBSERVE).code == "DRILL_ABORTED"


def test_a_drill_that_may_not_begin_says_so_by_its_exit_code_and_without_a_request_there_is_none(
    cluster: Conducted,
) -> None:
    cluster.daemon.changes["paused"] = "bert: moving the rack"

    async def tell(_: Agents) -> None:
        cluster.request()
        code, _ = await ended(cluster)
        assert code == 3
        assert (cluster.drill().outcome, cluster.drill().code) == ("skipped", "DRILL_MAINTENANCE")
        assert await ended(cluster) == (0, "drill: none was asked for, and none is due\n")

    story(cluster, tell)


def test_a_state_that_cannot_be_read_keeps_nobody_from_clearing_up(cluster: Conducted) -> None:
    cluster.daemon.blind = True

    async def tell(agents: Agents) -> None:
        async with cluster.conducting() as (running, _):
            await cluster.until_phase(PhaseName.OBSERVE)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        for name in NAMES:
            await agents.lock(name, DRILL, "anna", ME)
        state = cluster.place_of() / STATE
        state.write_bytes(state.read_bytes()[: state.stat().st_size // 2])
        (cluster.state(ME) / DIRECTORY / CURRENT).write_text(DRILL + "\n")
        socket = cluster.runtime / "control.sock"
        assert await recover.recover(cluster.configs[ME], cluster.state(ME), socket, cluster.told.append)
        assert set(await cluster.locks(agents)) == {""}
        assert not state.exists()
        assert state.with_name("state.json.unreadable").exists()
        assert any(line.startswith(f"DRILL_BUG: {state} cannot be read: ") for line in cluster.told)
        assert await recover.recover(cluster.configs[ME], cluster.state(ME), socket, cluster.told.append)
        cluster.daemon.blind = False

    story(cluster, tell)
