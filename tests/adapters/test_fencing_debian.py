"""A real agent: fence_dummy of Debian's fence-agents, which switches nothing but a file."""

from __future__ import annotations

import asyncio
import shutil
from typing import TYPE_CHECKING

import pytest
import structlog

from failoverd.core.model import NodeName, Outcome
from failoverd.fencing.agent import Action, AgentFence, Device

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.root  # the test command installs the package, as root

MAIL1 = NodeName("mail1")
LONG_MS = 20_000


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    path = tmp_path / "machine"
    path.write_text("on")
    return path


def dummy(machine: Path, **options: str) -> Device:
    assert shutil.which("fence_dummy", path="/usr/sbin"), "tests/run installs it"
    return Device("fence_dummy", {"status_file": str(machine), **options}, {"password": "hunter2-and-its-dog"})


def ask(device: Device, action: Action) -> int | None:
    return asyncio.run(AgentFence({}).ask(device, action, MAIL1, deadline_ms=LONG_MS))[0]


def test_it_answers_as_the_interface_says(machine: Path) -> None:
    device = dummy(machine)
    assert (ask(device, "status"), ask(device, "monitor")) == (0, 0)
    assert ask(device, "off") == 0
    assert machine.read_text() == "off"
    assert (ask(device, "status"), ask(device, "monitor")) == (2, 0)  # the interface allows 2 for both
    assert ask(device, "on") == 0
    assert (ask(device, "reboot"), ask(device, "status"), ask(device, "metadata")) == (0, 0, 0)


def test_it_switches_off_and_is_believed(machine: Path) -> None:
    fence = AgentFence({MAIL1: [[dummy(machine)]]})
    assert asyncio.run(fence.status(MAIL1, own=False, deadline_ms=LONG_MS)).outcome is Outcome.SUCCEEDED
    assert asyncio.run(fence.status(MAIL1, own=True, deadline_ms=LONG_MS)).outcome is Outcome.SUCCEEDED
    assert asyncio.run(fence.power_off(MAIL1, deadline_ms=LONG_MS)).outcome is Outcome.SUCCEEDED
    assert machine.read_text() == "off"
    assert asyncio.run(fence.status(MAIL1, own=True, deadline_ms=LONG_MS)).code == "FENCE_MONITOR_FAILED"


def test_it_prints_an_option_that_it_does_not_know_and_the_log_does_not(machine: Path) -> None:
    with structlog.testing.capture_logs() as logged:
        assert ask(dummy(machine), "status") == 0
    assert "unknown option 'password=***'" in logged[0]["output"]
    assert "hunter2" not in str(logged)


def test_a_slow_one_is_no_success(machine: Path) -> None:
    slow = AgentFence({MAIL1: [[dummy(machine, delay="30")]]})
    result = asyncio.run(slow.power_off(MAIL1, deadline_ms=1500))
    assert (result.outcome, result.code) == (Outcome.UNKNOWN, "FENCE_TIMEOUT")
    assert machine.read_text() == "on"


def test_one_that_never_gets_there_is_no_success(machine: Path) -> None:
    stuck = AgentFence({MAIL1: [[dummy(machine, type="fail", plug="1", power_timeout="1")]]})
    result = asyncio.run(stuck.power_off(MAIL1, deadline_ms=LONG_MS))
    assert (result.outcome, result.code) == (Outcome.FAILED, "FENCE_FAILED")
    assert "power OFF" in result.reason


def test_a_file_that_is_no_machine_s_is_no_success(machine: Path) -> None:
    machine.write_text("melting")
    result = asyncio.run(AgentFence({MAIL1: [[dummy(machine)]]}).power_off(MAIL1, deadline_ms=LONG_MS))
    assert (result.outcome, result.code) == (Outcome.FAILED, "FENCE_FAILED")
