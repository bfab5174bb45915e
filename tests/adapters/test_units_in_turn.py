"""Services started and stopped one after the other, over a real bus. The real systemd is the lab's: test_units.py."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Annotated

from dbus_fast import DBusError
from dbus_fast.aio import MessageBus
from dbus_fast.annotations import DBusSignature
from dbus_fast.service import ServiceInterface, dbus_method, dbus_signal
from test_probe_node import bus_daemon

from failoverd.actions.units import NO_SUCH_UNIT, Units
from failoverd.core.model import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    from failoverd.ports import Result

Name = Annotated[str, DBusSignature("s")]
Number = Annotated[int, DBusSignature("i")]
Job = Annotated[str, DBusSignature("o")]
Nothing = Annotated[None, DBusSignature("")]
Removed = Annotated[list[object], DBusSignature("uoss")]
LONG_MS = 5000


class Manager(ServiceInterface):
    """As much of systemd as the action asks for. Units by name: do they run. Some stop only when they are killed."""

    def __init__(self, units: dict[str, bool], *, stubborn: str = "", broken: str = "", immortal: bool = False) -> None:
        super().__init__("org.freedesktop.systemd1.Manager")
        self.units = units
        self.asked: list[str] = []
        self._stubborn = stubborn
        self._broken = broken
        self._immortal = immortal
        self._jobs = 0
        self._stopping: list[str] = []

    @dbus_method()
    async def Subscribe(self) -> Nothing:  # noqa: N802 - D-Bus's name
        """Signals are sent anyway."""

    @dbus_method()
    async def StartUnit(self, name: Name, mode: Name) -> Job:  # noqa: N802, ARG002 - likewise
        """Start it, unless it is broken."""
        return self._job("start", name, running=name != self._broken)

    @dbus_method()
    async def StopUnit(self, name: Name, mode: Name) -> Job:  # noqa: N802, ARG002 - likewise
        """Stop it, at once or when it is killed."""
        if name == self._stubborn and self.units[name]:
            self.asked.append(f"stop {name}")
            self._stopping.append(f"/job/{self._jobs + 1}")
            self._jobs += 1
            return self._stopping[-1]
        return self._job("stop", name, running=False)

    @dbus_method()
    async def KillUnit(self, name: Name, whom: Name, signal: Number) -> Nothing:  # noqa: N802, ARG002 - likewise
        """Kill all of it."""
        self.asked.append(f"kill {name}")
        if name != self._stubborn or not self._immortal:
            self.units[name] = False
            for job in self._stopping:
                self.JobRemoved(0, job, name, "done")

    @dbus_signal()
    def JobRemoved(self, number: int, job: str, unit: str, result: str) -> Removed:  # noqa: N802 - likewise
        """A job has ended."""
        return [number, job, unit, result]

    def _job(self, verb: str, name: str, *, running: bool) -> str:
        if name not in self.units:
            raise DBusError(NO_SUCH_UNIT, f"Unit {name} not loaded.")
        self.asked.append(f"{verb} {name}")
        self._jobs += 1
        job, failed = f"/job/{self._jobs}", verb == "start" and not running
        self.units[name] = running
        asyncio.get_running_loop().call_later(
            0.02, self.JobRemoved, self._jobs, job, name, "failed" if failed else "done"
        )
        return job


def asked_of(directory: Path, manager: Manager, work: Callable[[Units], Coroutine[None, None, Result]]) -> Result:
    """What `work` comes to while `manager` is on the bus."""

    async def scene(address: str) -> Result:
        bus = await MessageBus(bus_address=address).connect()
        bus.export("/org/freedesktop/systemd1", manager)
        await bus.request_name("org.freedesktop.systemd1")
        try:
            return await work(Units(address))
        finally:
            bus.disconnect()
            await bus.wait_for_disconnect()

    with bus_daemon(directory) as address:
        return asyncio.run(scene(address))


def test_they_are_started_in_order_and_stopped_in_the_opposite_one(tmp_path: Path) -> None:
    manager = Manager({"dovecot.service": False, "postfix@-.service": False})
    names = list(manager.units)
    assert asked_of(tmp_path, manager, lambda u: u.start(names, deadline_ms=LONG_MS)).outcome is Outcome.SUCCEEDED
    assert all(manager.units.values())
    assert asked_of(tmp_path, manager, lambda u: u.stop(names, deadline_ms=LONG_MS)).outcome is Outcome.SUCCEEDED
    assert not any(manager.units.values())
    assert manager.asked == [
        "start dovecot.service",
        "start postfix@-.service",
        "stop postfix@-.service",
        "stop dovecot.service",
    ]


def test_the_first_that_does_not_start_ends_it(tmp_path: Path) -> None:
    manager = Manager({"dovecot.service": False, "postfix@-.service": False}, broken="dovecot.service")
    result = asked_of(tmp_path, manager, lambda u: u.start(list(manager.units), deadline_ms=LONG_MS))
    assert (result.outcome, result.code) == (Outcome.FAILED, "UNIT_JOB_FAILED")
    assert result.reason == "start of dovecot.service: failed"
    assert manager.asked == ["start dovecot.service"]


def test_one_that_is_not_there_is_stopped_and_cannot_be_started(tmp_path: Path) -> None:
    manager = Manager({"dovecot.service": True})
    names = ["dovecot.service", "none.service"]
    assert asked_of(tmp_path, manager, lambda u: u.stop(names, deadline_ms=LONG_MS)).outcome is Outcome.SUCCEEDED
    assert not manager.units["dovecot.service"]
    result = asked_of(tmp_path, manager, lambda u: u.start(names, deadline_ms=LONG_MS))
    assert (result.outcome, result.code) == (Outcome.FAILED, "UNIT_JOB_FAILED")


def test_what_does_not_stop_within_half_the_time_is_killed(tmp_path: Path) -> None:
    manager = Manager({"dovecot.service": True, "postfix@-.service": True}, stubborn="postfix@-.service")
    began = time.monotonic()
    result = asked_of(tmp_path, manager, lambda u: u.stop(list(manager.units), deadline_ms=2000))
    assert result.outcome is Outcome.SUCCEEDED, result.reason
    assert 1.0 < time.monotonic() - began < 3.0
    assert not any(manager.units.values())
    assert manager.asked[:2] == ["stop postfix@-.service", "kill postfix@-.service"]


def test_what_cannot_even_be_killed_is_not_said_to_be_stopped(tmp_path: Path) -> None:
    manager = Manager({"dovecot.service": True}, stubborn="dovecot.service", immortal=True)
    began = time.monotonic()
    result = asked_of(tmp_path, manager, lambda u: u.stop(["dovecot.service"], deadline_ms=1000))
    assert (result.outcome, result.code) == (Outcome.UNKNOWN, "UNIT_JOB_TIMEOUT")
    assert time.monotonic() - began < 2.0


def test_without_a_bus_nothing_is_known(tmp_path: Path) -> None:
    nowhere = Units(f"unix:path={tmp_path}/none")
    for work in (nowhere.start, nowhere.stop):
        result = asyncio.run(work(["dovecot.service"], deadline_ms=500))
        assert (result.outcome, result.code) == (Outcome.FAILED, "UNIT_BUS")
