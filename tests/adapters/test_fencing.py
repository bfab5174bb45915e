"""What a fence agent is believed, and that nothing of what it does holds up or outlives the call."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from fence_stage import PASSWORD, Stage, alive

from failoverd.core.effects import Lane, Step, StepKind
from failoverd.core.model import Health, NodeName, Outcome
from failoverd.fencing import CODES, FENCES
from failoverd.fencing.agent import AgentFence, Device
from failoverd.ports import Target
from failoverd.probes.deadline import observe
from failoverd.probes.fence import FenceProbe
from failoverd.process import OUTPUT_BYTES, Runs
from failoverd.runtime.clock import BootClock
from failoverd.runtime.executor import Executor

if TYPE_CHECKING:
    from collections.abc import Callable

    from failoverd.core.machine import StepEnded
    from failoverd.core.model import Reading
    from failoverd.ports import Result

MAIL1, MAIL2 = NodeName("mail1"), NodeName("mail2")
LONG_MS = 10_000  # for what ends by itself
SHORT_MS = 600  # for what does not


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def power_off(*levels: list[Device], deadline_ms: int = LONG_MS) -> Result:
    result = asyncio.run(AgentFence({MAIL1: levels}).power_off(MAIL1, deadline_ms=deadline_ms))
    assert PASSWORD not in result.reason
    if result.outcome is not Outcome.SUCCEEDED:
        assert result.code in CODES
    return result


def wait_for(what: str, done: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not done():
        assert time.monotonic() < end, what
        time.sleep(0.01)


def test_the_registry_has_it() -> None:
    assert FENCES["agent"] is AgentFence


# ---- off ------------------------------------------------------------------------------------------------------------


def test_off_is_believed_after_off_and_status(stage: Stage) -> None:
    result = power_off([stage.device("good")])
    assert result.outcome is Outcome.SUCCEEDED
    assert stage.state.read_text().strip() == "off"
    assert stage.asked == ["off", "status"]


@pytest.mark.parametrize(
    ("agent", "outcome", "code"),
    [
        ("liar", Outcome.FAILED, "FENCE_NOT_OFF"),
        ("zero", Outcome.FAILED, "FENCE_NOT_OFF"),
        ("two", Outcome.FAILED, "FENCE_FAILED"),
        ("refuses", Outcome.FAILED, "FENCE_FAILED"),
        ("dumb", Outcome.FAILED, "FENCE_FAILED"),
        ("reads nothing", Outcome.FAILED, "FENCE_FAILED"),
        ("prints the password", Outcome.FAILED, "FENCE_FAILED"),
        ("prints the password for ever", Outcome.FAILED, "FENCE_FAILED"),
        ("no such agent", Outcome.FAILED, "FENCE_NO_AGENT"),
        ("interpreter is missing", Outcome.FAILED, "FENCE_NO_AGENT"),
        ("no program", Outcome.FAILED, "FENCE_NO_AGENT"),
    ],
)
def test_anything_else_is_not(stage: Stage, agent: str, outcome: Outcome, code: str) -> None:
    result = power_off([stage.device(agent)])
    assert (result.outcome, result.code) == (outcome, code), result.reason


@pytest.mark.parametrize(
    "agent", ["hangs", "hangs on status", "ignores SIGTERM", "ends well when told to", "hangs with a child"]
)
def test_a_time_out_is_never_taken_for_success(stage: Stage, agent: str) -> None:
    result = power_off([stage.device(agent)], deadline_ms=SHORT_MS)
    assert (result.outcome, result.code) == (Outcome.UNKNOWN, "FENCE_TIMEOUT"), result.reason
    if agent != "hangs on status":
        wait_for("what was started is gone", lambda: not alive(stage.pid))


def test_an_agent_that_may_not_be_executed(stage: Stage) -> None:
    result = power_off([stage.device("good", mode=0o644)])
    assert (result.code, stage.state.read_text()) == ("FENCE_NO_AGENT", "on")
    assert "Permission denied" in result.reason


def test_a_node_without_agents(stage: Stage) -> None:
    fence = AgentFence({MAIL1: [[stage.device("good")]]})
    result = asyncio.run(fence.power_off(MAIL2, deadline_ms=LONG_MS))
    assert (result.outcome, result.code) == (Outcome.FAILED, "FENCE_NO_AGENT")
    assert stage.state.read_text() == "on"


def test_an_agent_by_its_name_is_the_one_in_usr_sbin() -> None:
    assert Device("fence_none_of_that_name").path == "/usr/sbin/fence_none_of_that_name"
    assert power_off([Device("fence_none_of_that_name")]).code == "FENCE_NO_AGENT"


# ---- levels ---------------------------------------------------------------------------------------------------------


def test_a_machine_with_two_supplies_is_off_when_both_are(stage: Stage) -> None:
    second = stage.place / "second"
    second.write_text("on")
    both = [stage.device("good"), stage.device("good", state=second)]
    assert power_off(both).outcome is Outcome.SUCCEEDED
    assert (stage.state.read_text(), second.read_text()) == ("off\n", "off\n")


def test_one_supply_is_not_enough(stage: Stage) -> None:
    second = stage.place / "second"
    second.write_text("on")
    result = power_off([stage.device("good"), stage.device("liar", state=second)])
    assert (result.outcome, result.code) == (Outcome.FAILED, "FENCE_NOT_OFF")
    result = power_off([stage.device("good"), stage.device("refuses", state=second)])
    assert (result.outcome, result.code) == (Outcome.FAILED, "FENCE_FAILED")


@pytest.mark.parametrize("first", ["refuses", "liar", "no such agent", "hangs", "ignores SIGTERM"])
def test_the_next_level_is_tried_when_one_fails(stage: Stage, first: str) -> None:
    other = stage.place / "other"
    other.write_text("on")
    result = power_off([stage.device(first, state=other)], [stage.device("good")], deadline_ms=4 * SHORT_MS)
    assert result.outcome is Outcome.SUCCEEDED, result.reason
    assert stage.state.read_text() == "off\n"


def test_the_next_level_is_left_alone_when_one_succeeds(stage: Stage) -> None:
    other = stage.place / "other"
    other.write_text("on")
    assert power_off([stage.device("good")], [stage.device("good", state=other)]).outcome is Outcome.SUCCEEDED
    assert other.read_text() == "on"


def test_every_level_says_why_it_failed(stage: Stage) -> None:
    result = power_off([stage.device("refuses")], [stage.device("no such agent")])
    assert (result.outcome, result.code) == (Outcome.FAILED, "FENCE_NO_AGENT")
    assert "login denied" in result.reason
    assert "No such file or directory" in result.reason


def test_a_level_that_was_not_seen_to_end_leaves_all_unknown(stage: Stage) -> None:
    result = power_off([stage.device("hangs")], [stage.device("refuses")], deadline_ms=2 * SHORT_MS)
    assert (result.outcome, result.code) == (Outcome.UNKNOWN, "FENCE_FAILED")


# ---- what it sees, and what is seen of it ---------------------------------------------------------------------------


def test_an_agent_gets_its_options_on_standard_input_and_nothing_else(stage: Stage) -> None:
    device = stage.device("shows itself")
    assert power_off([device]).outcome is Outcome.SUCCEEDED
    assert Path(f"{stage.state}.cmdline").read_text().split() == ["/bin/sh", device.path]
    names = {line.partition("=")[0] for line in Path(f"{stage.state}.env").read_text().splitlines()}
    assert names <= {"PATH", "LANG", "LC_ALL", "HOME", "PWD", "OLDPWD", "_", "SHLVL"}
    assert Path(f"{stage.state}.cwd").read_text() == "/\n"


def test_the_input_is_lines_of_the_interface() -> None:
    device = Device("fence_x", {"ip": "192.0.2.11", "plug": "3"}, {"passwd": "a=b c"})
    assert device.text("off", "mail1") == b"ip=192.0.2.11\nplug=3\npasswd=a=b c\nnodename=mail1\naction=off\n"
    assert "a=b c" not in repr(device)


@pytest.mark.parametrize("agent", ["prints the password", "prints the password for ever"])
def test_the_log_has_what_it_printed_without_the_password(stage: Stage, agent: str) -> None:
    with structlog.testing.capture_logs() as logged:
        power_off([stage.device(agent)])
    (line,) = logged
    assert "***" in line["output"]
    for length in range(4, len(PASSWORD) + 1):
        assert PASSWORD[-length:] not in str(logged)
        assert PASSWORD[:length] not in str(logged)
    assert len(line["output"]) <= OUTPUT_BYTES


def test_megabytes_are_read_and_not_kept(stage: Stage) -> None:
    ended = asyncio.run(Runs().run(stage.device("prints megabytes").path, b"", deadline_ms=LONG_MS))
    assert ended.code is not None
    assert ended.cut
    assert len(ended.output) == OUTPUT_BYTES


def test_control_characters_do_not_reach_a_reason(stage: Stage) -> None:
    path = stage.place / "fence_rude"
    path.write_text("#!/bin/sh\nprintf 'one\\n\\033[2Jtwo\\a\\n'; exit 1\n")
    path.chmod(0o755)
    assert power_off([Device(str(path))]).reason == "fence_rude off mail1: exit 1: ?[2Jtwo?"


# ---- what it leaves behind ------------------------------------------------------------------------------------------


def test_a_child_that_it_left_is_killed(stage: Stage) -> None:
    assert power_off([stage.device("leaves a child")]).outcome is Outcome.SUCCEEDED
    assert not alive(stage.pid)


def test_a_daemon_that_it_left_is_not_waited_for(stage: Stage) -> None:
    assert power_off([stage.device("leaves a daemon")]).outcome is Outcome.SUCCEEDED
    assert alive(stage.pid), "it holds the pipe open: otherwise this proves nothing"
    os.kill(stage.pid, signal.SIGKILL)


@pytest.mark.parametrize("agent", ["hangs", "ignores SIGTERM", "hangs with a child"])
def test_cancelled_it_is_ended(stage: Stage, agent: str) -> None:
    async def story() -> None:
        fence = AgentFence({MAIL1: [[stage.device(agent)]]})
        fencing = asyncio.ensure_future(fence.power_off(MAIL1, deadline_ms=LONG_MS))
        await asyncio.to_thread(wait_for, "the agent runs", stage.noted)
        fencing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await fencing

    asyncio.run(story())
    wait_for("what was started is gone", lambda: not alive(stage.pid))


def test_nothing_stays_open(stage: Stage) -> None:
    async def many() -> tuple[int, int]:
        fence = AgentFence({MAIL1: [[stage.device("good")]]})
        await fence.power_off(MAIL1, deadline_ms=LONG_MS)
        before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names only, and nothing else to open
        for _ in range(20):
            await fence.power_off(MAIL1, deadline_ms=LONG_MS)
        return before, len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - likewise

    before, after = asyncio.run(many())
    assert after <= before


def test_runs_that_do_not_end_do_not_pile_up(stage: Stage) -> None:
    async def story() -> list[str]:
        runs = Runs(most=2)
        path = stage.device("ignores SIGTERM").path
        text = f"action=off\nstate={stage.state}\n".encode()
        ended = await asyncio.gather(*(runs.run(path, text, deadline_ms=SHORT_MS) for _ in range(3)))
        assert all(one.code is None for one in ended)
        return [one.error for one in ended]

    assert asyncio.run(story()) == ["", "", "2 earlier runs have not ended, although they were killed"]


# ---- is it ready? ---------------------------------------------------------------------------------------------------


def status(*levels: list[Device], own: bool = False, deadline_ms: int = LONG_MS) -> Result:
    return asyncio.run(AgentFence({MAIL1: levels}).status(MAIL1, own=own, deadline_ms=deadline_ms))


@pytest.mark.parametrize("power", ["on", "off"])
def test_a_device_that_answers_is_fit_for_use(stage: Stage, power: str) -> None:
    stage.state.write_text(power)
    assert status([stage.device("good")]).outcome is Outcome.SUCCEEDED
    assert stage.asked == ["monitor", "status"]
    assert stage.state.read_text() == power


@pytest.mark.parametrize("agent", ["dumb", "hangs on status", "no such agent"])
def test_one_that_does_not_is_told_of(stage: Stage, agent: str) -> None:
    result = status([stage.device("good")], [stage.device(agent)], deadline_ms=2 * SHORT_MS)
    assert (result.outcome, result.code) == (Outcome.FAILED, "FENCE_MONITOR_FAILED")
    assert stage.device(agent).name in result.reason


def test_ones_own_device_says_on_or_is_another_s(stage: Stage) -> None:
    assert status([stage.device("good")], own=True).outcome is Outcome.SUCCEEDED
    assert status([stage.device("no such agent")], own=True).outcome is Outcome.SUCCEEDED
    stage.state.write_text("off")
    result = status([stage.device("good")], own=True)
    assert (result.outcome, result.code) == (Outcome.FAILED, "FENCE_MONITOR_FAILED")
    assert "is it the device of another?" in result.reason


def look(stage: Stage, agent: str, me: NodeName) -> Reading:
    probe = FenceProbe(AgentFence({MAIL1: [[stage.device(agent)]]}), MAIL1)
    target = Target(me, "192.0.2.1")
    seen = asyncio.run(observe("fence:mail1", probe, target, 2 * SHORT_MS, BootClock()))
    assert (seen.probe, seen.target) == ("fence:mail1", me)
    return seen.reading


def test_a_probe_says_so_before_it_is_needed(stage: Stage) -> None:
    assert look(stage, "good", MAIL2).health is Health.OK
    failed = look(stage, "dumb", MAIL2)
    assert (failed.health, failed.code) == (Health.FAILED, "FENCE_MONITOR_FAILED")
    hung = look(stage, "hangs on status", MAIL2)
    assert (hung.health, hung.code) == (Health.FAILED, "FENCE_MONITOR_FAILED")
    assert "hangs_on_status monitor mail1: not ended within" in hung.reason
    stage.state.write_text("off")
    assert look(stage, "good", MAIL2).health is Health.OK
    assert look(stage, "good", MAIL1).code == "FENCE_MONITOR_FAILED"


# ---- in the executor's lane -----------------------------------------------------------------------------------------


class Unused:
    """What the fence lane must not touch."""

    def __getattr__(self, name: str) -> object:
        raise AssertionError(name)


def fence_step(number: int, *, deadline_ms: int = LONG_MS) -> Step:
    step = Step(StepKind.FENCE, term=7, number=number, deadline_ms=deadline_ms, target=MAIL1)
    assert step.lane is Lane.FENCE
    return step


def performed(stage: Stage, agent: str, step: Step, *, cancel: bool = False) -> StepEnded:
    """Run a step in a real executor; the answer that it delivers."""

    async def story() -> StepEnded:
        answer: asyncio.Future[StepEnded] = asyncio.get_running_loop().create_future()
        unused: Any = Unused()
        executor = Executor(
            node=MAIL2,
            clock=BootClock(),
            gate=unused,
            database=unused,
            heart=unused,
            units=unused,
            store=unused,
            prove=unused,
            deliver=answer.set_result,
            broken=answer.set_exception,
            fence=AgentFence({MAIL1: [[stage.device(agent)]]}),
        )
        executor.perform(step, until_ms=0)
        if cancel:
            await asyncio.to_thread(wait_for, "the agent runs", stage.noted)
            executor.cancel(step)
        return await asyncio.wait_for(answer, 20)

    ended = asyncio.run(story())
    assert ended.step == step
    return ended


def test_a_step_that_fences_answers_as_the_fence_does(stage: Stage) -> None:
    ended = performed(stage, "good", fence_step(1))
    assert (ended.outcome, stage.state.read_text()) == (Outcome.SUCCEEDED, "off\n")
    assert performed(stage, "liar", fence_step(2)).outcome is Outcome.SUCCEEDED, "it is off"
    stage.state.write_text("on")
    ended = performed(stage, "liar", fence_step(3))
    assert (ended.outcome, ended.code) == (Outcome.FAILED, "FENCE_NOT_OFF")


def test_a_step_that_takes_too_long_is_unknown(stage: Stage) -> None:
    ended = performed(stage, "ignores SIGTERM", fence_step(1, deadline_ms=SHORT_MS))
    assert (ended.outcome, ended.code) == (Outcome.UNKNOWN, "FENCE_TIMEOUT")
    wait_for("the agent is gone", lambda: not alive(stage.pid))


@pytest.mark.parametrize("agent", ["hangs", "ignores SIGTERM", "ends well when told to"])
def test_a_step_that_is_cancelled_is_unknown_at_once_and_its_agent_ends(stage: Stage, agent: str) -> None:
    ended = performed(stage, agent, fence_step(1), cancel=True)
    assert (ended.outcome, ended.code) == (Outcome.UNKNOWN, "FENCE_CANCELLED")
    wait_for("the agent is gone", lambda: not alive(stage.pid))
