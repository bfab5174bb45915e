"""systemd units over D-Bus: restart, kill or launch one, start or stop some; each ends in time and says how.

A job is asked for on the manager, and its end comes as the signal JobRemoved with a result (org.freedesktop.systemd1).
Each call has a connection of its own: calls are rare, and a kept one could be stale just when it matters.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from dbus_fast import BusType, DBusError, Message, MessageType
from dbus_fast.aio import MessageBus

from failoverd.core.model import Outcome
from failoverd.ports import Result

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

SERVICE = "org.freedesktop.systemd1"
MANAGER = "org.freedesktop.systemd1.Manager"
NO_SUCH_UNIT = "org.freedesktop.systemd1.NoSuchUnit"
SIGKILL = 9


class Units:
    """Implements executor.UnitActions on the system bus."""

    def __init__(self, address: str | None = None) -> None:
        """`address` is that of another bus, for tests."""
        self._address = address

    async def restart(self, unit: str, *, deadline_ms: int) -> Result:
        """Restart `unit` and wait for the job's end."""
        try:
            async with asyncio.timeout(deadline_ms / 1000), self._bus() as bus:
                return await self._job(bus, "RestartUnit", unit)
        except TimeoutError:
            return Result(Outcome.UNKNOWN, "UNIT_JOB_TIMEOUT", f"{unit} was not restarted within {deadline_ms} ms")
        except (OSError, EOFError, DBusError) as error:
            return Result(Outcome.FAILED, "UNIT_BUS", f"{unit}: {error}")

    async def start(self, units: Sequence[str], *, deadline_ms: int) -> Result:
        """Start `units`, one after the other in this order. Those that run already are left as they are."""
        return await self._in_turn("StartUnit", units, deadline_ms)

    async def stop(self, units: Sequence[str], *, deadline_ms: int) -> Result:
        """Stop `units`, in the opposite order. What does not end by itself within half the time is killed."""
        asked = list(reversed(units))
        result = await self._in_turn("StopUnit", asked, deadline_ms // 2)
        if result.code != "UNIT_JOB_TIMEOUT":
            return result
        for unit in asked:
            killed = await self.kill(unit, deadline_ms=deadline_ms // 10)
            if killed.outcome is not Outcome.SUCCEEDED:
                return killed
        return await self._in_turn("StopUnit", asked, deadline_ms // 5)

    async def _in_turn(self, member: str, units: Sequence[str], deadline_ms: int) -> Result:
        unit = ""
        try:
            async with asyncio.timeout(deadline_ms / 1000), self._bus() as bus:
                for unit in units:
                    result = await self._job(bus, member, unit)
                    if result.outcome is not Outcome.SUCCEEDED:
                        return result
        except TimeoutError:
            return Result(
                Outcome.UNKNOWN, "UNIT_JOB_TIMEOUT", f"{member} of {unit} did not end within {deadline_ms} ms"
            )
        except (OSError, EOFError, DBusError) as error:
            return Result(Outcome.FAILED, "UNIT_BUS", f"{unit}: {error}")
        return Result(Outcome.SUCCEEDED)

    async def kill(self, unit: str, *, deadline_ms: int) -> Result:
        """SIGKILL to all of the unit's processes. A unit that has none is what was wanted."""
        try:
            async with asyncio.timeout(deadline_ms / 1000), self._bus() as bus:
                reply = await _call(bus, "KillUnit", "ssi", [unit, "all", SIGKILL])
        except TimeoutError:
            return Result(Outcome.UNKNOWN, "UNIT_JOB_TIMEOUT", f"{unit} was not killed within {deadline_ms} ms")
        except (OSError, EOFError, DBusError) as error:
            return Result(Outcome.FAILED, "UNIT_BUS", f"{unit}: {error}")
        none_left = reply.error_name in {
            NO_SUCH_UNIT,
            "org.freedesktop.systemd1.NoSuchProcess",
        }
        if reply.message_type is MessageType.ERROR and not none_left and "ot active" not in _words(reply):
            return Result(Outcome.FAILED, "UNIT_JOB_FAILED", f"{unit}: {_words(reply)}")
        return Result(Outcome.SUCCEEDED)

    async def launch(self, unit: str, *, deadline_ms: int) -> Result:
        """Have systemd take the job to start `unit`; how it goes on is not waited for."""
        return await self._asked("StartUnit", unit, deadline_ms)

    async def end(self, unit: str, *, deadline_ms: int) -> Result:
        """Have systemd take the job to stop `unit`; how it goes on is not waited for."""
        return await self._asked("StopUnit", unit, deadline_ms)

    async def _asked(self, member: str, unit: str, deadline_ms: int) -> Result:
        try:
            async with asyncio.timeout(deadline_ms / 1000), self._bus() as bus:
                reply = await _call(bus, member, "ss", [unit, "replace"])
        except TimeoutError:
            return Result(
                Outcome.UNKNOWN, "UNIT_JOB_TIMEOUT", f"{unit}: {member} was not taken within {deadline_ms} ms"
            )
        except (OSError, EOFError, DBusError) as error:
            return Result(Outcome.FAILED, "UNIT_BUS", f"{unit}: {error}")
        if reply.message_type is MessageType.ERROR:
            return Result(Outcome.FAILED, "UNIT_JOB_FAILED", f"{unit}: {_words(reply)}")
        return Result(Outcome.SUCCEEDED)

    @contextlib.asynccontextmanager
    async def _bus(self) -> AsyncIterator[MessageBus]:
        bus = MessageBus(self._address, bus_type=BusType.SYSTEM)
        try:
            await bus.connect()
            yield bus
        finally:
            bus.disconnect()

    async def _job(self, bus: MessageBus, member: str, unit: str) -> Result:
        results: dict[str, str] = {}
        changed = asyncio.Event()

        def heard(message: Message) -> None:
            if message.message_type is MessageType.SIGNAL and message.member == "JobRemoved":
                _, job, _, result = message.body
                results[job] = result
                changed.set()

        bus.add_message_handler(heard)
        rule = f"type='signal',interface='{MANAGER}',member='JobRemoved'"
        await bus.call(
            Message(
                destination="org.freedesktop.DBus",
                path="/org/freedesktop/DBus",
                interface="org.freedesktop.DBus",
                member="AddMatch",
                signature="s",
                body=[rule],
            )
        )
        await _call(bus, "Subscribe", "", [])
        reply = await _call(bus, member, "ss", [unit, "replace"])
        if member == "StopUnit" and reply.error_name == NO_SUCH_UNIT:
            return Result(Outcome.SUCCEEDED)  # not loaded: nothing of it runs
        if reply.message_type is MessageType.ERROR:
            return Result(Outcome.FAILED, "UNIT_JOB_FAILED", f"{unit}: {_words(reply)}")
        job = reply.body[0]
        while job not in results:
            changed.clear()
            await changed.wait()
        if results[job] != "done":
            name = member.removesuffix("Unit").lower()
            return Result(Outcome.FAILED, "UNIT_JOB_FAILED", f"{name} of {unit}: {results[job]}")
        return Result(Outcome.SUCCEEDED)


async def _call(bus: MessageBus, member: str, signature: str, body: list[Any]) -> Message:
    message = Message(
        destination=SERVICE,
        path="/org/freedesktop/systemd1",
        interface=MANAGER,
        member=member,
        signature=signature,
        body=body,
    )
    reply = await bus.call(message)
    if reply is None:
        raise EOFError(f"no reply to {member}")
    return reply


def _words(reply: Message) -> str:
    return f"{reply.error_name}: {' '.join(map(str, reply.body))}"
