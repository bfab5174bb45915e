"""Units against a real systemd: the lab's root, booted to basic.target in a container of its own, gone afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from mariadb_servers import lab_root, wait_for

from failoverd.actions import CODES
from failoverd.actions.units import Units
from failoverd.core.model import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator

    from failoverd.ports import Result

pytestmark = pytest.mark.lab

UNITS = {
    "good": "ExecStart=/bin/sleep infinity",
    "bad": "Type=oneshot\nExecStart=/bin/false",
    "slow": "Type=oneshot\nExecStart=/bin/sleep 60",
    "stubborn": 'ExecStart=/bin/sh -c \'trap "" TERM; (trap "" TERM; sleep 1000) & while :; do sleep 1; done\'\n'
    "TimeoutStopSec=60",
}


class Machine:
    """A booted systemd and its bus, as seen from outside."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.root = Path(f"/proc/{pid}/root")
        self.bus = f"unix:path={self.root}/run/dbus/system_bus_socket"

    def systemctl(self, *words: str) -> str:
        """Run systemctl in it; what it printed, whatever its exit code."""
        command = ["nsenter", "-t", str(self.pid), "-m", "-u", "-i", "-n", "-p", "--", "systemctl", *words]
        return subprocess.run(command, check=False, capture_output=True, text=True).stdout.strip()

    def main_pid(self, unit: str) -> int:
        """The unit's main process, 0 where there is none."""
        return int(self.systemctl("show", "-P", "MainPID", unit))

    def runs(self, words: str) -> bool:
        """Whether a process with this command line is there."""
        for file in self.root.glob("proc/[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                if file.read_bytes().replace(b"\0", b" ").decode().strip() == words:
                    return True
        return False


def first_process(nspawn: int) -> int | None:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for child in Path(f"/proc/{nspawn}/task/{nspawn}/children").read_text(encoding="utf-8").split():
            for line in Path(f"/proc/{child}/status").read_text(encoding="utf-8").splitlines():
                if line.startswith("NSpid:") and line.split()[-1] == "1":
                    return int(child)
    return None


def groups() -> list[Path]:
    """The control group that the container shares with nobody, in each hierarchy of systemd's."""
    name = f"failoverd-test-units-{os.getpid()}"
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()]
    return [
        Path(place) / name
        for _, place, kind, options, *_ in mounts
        if place.startswith("/sys/fs/cgroup") and (kind == "cgroup2" or "name=systemd" in options.split(","))
    ]


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    console = tmp_path_factory.mktemp("units") / "console"
    for group in groups():
        group.mkdir()
    joins = "".join(f"echo $$ >{group}/cgroup.procs; " for group in groups())
    nspawn = (
        "systemd-nspawn --quiet --boot --register=no --keep-unit --settings=no --volatile=overlay --console=pipe "
        f"--directory={lab_root()} --machine=units-{os.getpid()} --private-network --resolv-conf=off --timezone=off "
        "--link-journal=no systemd.unit=basic.target"
    )
    with (
        console.open("wb") as written,
        subprocess.Popen(
            ["sh", "-c", f"{joins} exec {nspawn}"], stdin=subprocess.DEVNULL, stdout=written, stderr=written
        ) as process,
    ):
        try:
            pid = wait_for(lambda: first_process(process.pid), seconds=20, name="the container's first process")
            made = Machine(pid)
            wait_for(lambda: made.systemctl("is-active", "basic.target") == "active", seconds=30, name="its boot")
            for name, words in UNITS.items():
                path = made.root / f"run/systemd/system/{name}.service"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(f"[Service]\n{words}\n", encoding="utf-8")
            made.systemctl("daemon-reload")
            yield made
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
    for group in groups():
        wait_for(lambda group=group: removed(group), name="the control group to be empty")


def removed(group: Path) -> bool:
    """Remove the group and all below it, once the last process is gone."""
    for directory, _, _ in os.walk(group, topdown=False):
        with contextlib.suppress(OSError):
            Path(directory).rmdir()
    return not group.exists()


def restart(machine: Machine, unit: str, deadline_ms: int = 5000) -> Result:
    return asyncio.run(Units(machine.bus).restart(unit, deadline_ms=deadline_ms))


def launch(machine: Machine, unit: str, deadline_ms: int = 5000) -> Result:
    return asyncio.run(Units(machine.bus).launch(unit, deadline_ms=deadline_ms))


def kill(machine: Machine, unit: str, deadline_ms: int = 5000) -> Result:
    return asyncio.run(Units(machine.bus).kill(unit, deadline_ms=deadline_ms))


def not_ok(result: Result, outcome: Outcome, code: str, word: str) -> None:
    assert (result.outcome, result.code) == (outcome, code), result.reason
    assert code in CODES
    assert word in result.reason


def test_restart_ends_when_the_job_has_ended(machine: Machine) -> None:
    assert restart(machine, "good.service").outcome is Outcome.SUCCEEDED
    first = machine.main_pid("good.service")
    assert first > 0
    assert restart(machine, "good.service").outcome is Outcome.SUCCEEDED
    assert machine.main_pid("good.service") not in {0, first}


def test_what_cannot_start_is_failed_with_systemds_word(machine: Machine) -> None:
    not_ok(restart(machine, "bad.service"), Outcome.FAILED, "UNIT_JOB_FAILED", "failed")
    not_ok(restart(machine, "none.service"), Outcome.FAILED, "UNIT_JOB_FAILED", "none.service")


def test_a_start_does_not_wait_for_what_is_started(machine: Machine) -> None:
    started = time.monotonic()
    assert launch(machine, "slow.service").outcome is Outcome.SUCCEEDED
    assert time.monotonic() - started < 5
    assert machine.systemctl("is-active", "slow.service") == "activating"
    machine.systemctl("stop", "slow.service")
    not_ok(launch(machine, "none.service"), Outcome.FAILED, "UNIT_JOB_FAILED", "none.service")


def test_what_takes_too_long_is_unknown_at_the_deadline(machine: Machine) -> None:
    started = time.monotonic()
    not_ok(restart(machine, "slow.service", 300), Outcome.UNKNOWN, "UNIT_JOB_TIMEOUT", "300 ms")
    assert time.monotonic() - started < 1
    assert machine.systemctl("is-active", "slow.service") == "activating"
    machine.systemctl("stop", "slow.service")


def test_kill_ends_all_processes_of_what_obeys_nothing(machine: Machine) -> None:
    assert restart(machine, "stubborn.service").outcome is Outcome.SUCCEEDED
    wait_for(lambda: machine.runs("sleep 1000"), name="its child")
    not_ok(restart(machine, "stubborn.service", 300), Outcome.UNKNOWN, "UNIT_JOB_TIMEOUT", "stubborn")
    machine.systemctl("cancel")
    started = time.monotonic()
    assert kill(machine, "stubborn.service").outcome is Outcome.SUCCEEDED
    wait_for(lambda: not machine.runs("sleep 1000"), seconds=2, name="the child's end")
    wait_for(lambda: machine.main_pid("stubborn.service") == 0, seconds=2, name="its own")
    print(f"killed after {(time.monotonic() - started) * 1000:.0f} ms")


def test_services_are_started_and_stopped_and_again(machine: Machine) -> None:
    units = Units(machine.bus)
    for _ in range(2):
        assert asyncio.run(units.start(["good.service"], deadline_ms=5000)).outcome is Outcome.SUCCEEDED
        assert machine.main_pid("good.service") > 0
    for _ in range(2):
        stopped = asyncio.run(units.stop(["good.service", "none.service"], deadline_ms=5000))
        assert stopped.outcome is Outcome.SUCCEEDED, stopped.reason
        assert machine.main_pid("good.service") == 0
    not_ok(
        asyncio.run(units.start(["good.service", "bad.service"], deadline_ms=5000)),
        Outcome.FAILED,
        "UNIT_JOB_FAILED",
        "start of bad.service",
    )


def test_what_does_not_stop_by_itself_is_killed(machine: Machine) -> None:
    units = Units(machine.bus)
    assert asyncio.run(units.start(["stubborn.service"], deadline_ms=5000)).outcome is Outcome.SUCCEEDED
    wait_for(lambda: machine.runs("sleep 1000"), name="its child")
    stopped = asyncio.run(units.stop(["stubborn.service"], deadline_ms=4000))
    assert stopped.outcome is Outcome.SUCCEEDED, stopped.reason
    assert not machine.runs("sleep 1000")


def test_killing_what_does_not_run_is_what_was_wanted(machine: Machine) -> None:
    machine.systemctl("stop", "good.service")
    assert kill(machine, "good.service").outcome is Outcome.SUCCEEDED
    assert kill(machine, "none.service").outcome is Outcome.SUCCEEDED


def test_without_a_bus_nothing_is_known(tmp_path: Path) -> None:
    nowhere = Units(f"unix:path={tmp_path}/none")
    not_ok(asyncio.run(nowhere.restart("good.service", deadline_ms=500)), Outcome.FAILED, "UNIT_BUS", "good.service")
    not_ok(asyncio.run(nowhere.kill("good.service", deadline_ms=500)), Outcome.FAILED, "UNIT_BUS", "good.service")


def test_nothing_stays_open(machine: Machine) -> None:
    async def many() -> tuple[int, int]:
        units = Units(machine.bus)
        await units.kill("none.service", deadline_ms=1000)
        before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names only, and nothing else to open
        for _ in range(50):
            await units.kill("none.service", deadline_ms=1000)
            await units.restart("none.service", deadline_ms=1000)
        await asyncio.sleep(0)
        return before, len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - likewise

    before, after = asyncio.run(many())
    assert after <= before
