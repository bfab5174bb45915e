"""A systemd unit as systemd itself sees it: active state and sub-state, over D-Bus.

    /run/dbus/system_bus_socket <── one connection, shared by all units of a node, made anew when it breaks ──> PID 1

ListUnitsByNames gives all states of a unit at one instant, also of units that are not loaded, and takes the names of
instances (`postfix@-.service`) as they are. When the bus or PID 1 does not answer, nothing is known about the unit:
UNKNOWN. Its service has probes of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from dbus_fast import BusType, Message, MessageType
from dbus_fast.aio import MessageBus

from failoverd.core.model import Health, Reading, UnitFacts
from failoverd.probes.deadline import current

if TYPE_CHECKING:
    from collections.abc import Collection

    from failoverd.ports import Target


class SystemBus:
    """One long-lived connection to the system bus. Belongs to the loop that first uses it; `close` ends it."""

    def __init__(self, address: str | None = None) -> None:
        self._address = address
        self._bus: MessageBus | None = None
        self._connecting = asyncio.Lock()

    async def call(self, message: Message) -> Message:
        """Call and return the reply, which may be an error message. Raises OSError when there is no bus.

        When cancelled, the connection is given up: its reply, should it ever come, must not pile up.
        """
        bus = await self._connected()
        try:
            reply: Message | None = await bus.call(message)
        except asyncio.CancelledError:
            await self.close()
            raise
        except Exception as error:
            await self.close()
            raise ConnectionError(f"the connection to the system bus broke ({type(error).__name__})") from error
        if reply is None:  # what dbus-fast answers when the bus closes in good order
            await self.close()
            raise ConnectionError("the system bus closed the connection")
        return reply

    async def _connected(self) -> MessageBus:
        async with self._connecting:
            if self._bus is None or not self._bus.connected:
                await self.close()
                bus = MessageBus(bus_address=self._address, bus_type=BusType.SYSTEM)
                try:
                    self._bus = await bus.connect()
                except OSError:
                    raise
                except Exception as error:
                    raise ConnectionError(f"no connection to the system bus ({type(error).__name__})") from error
            return self._bus

    async def close(self) -> None:
        """Disconnect and wait until the socket is gone."""
        bus, self._bus = self._bus, None
        if bus is not None:
            bus.disconnect()
            with contextlib.suppress(Exception):
                await bus.wait_for_disconnect()  # type: ignore[no-untyped-call]  # dbus-fast's one untyped method


class UnitProbe:
    """One unit. OK when it is active and in one of the `good` sub-states."""

    def __init__(self, unit: str, *, good: Collection[str] = ("running",), bus: SystemBus | None = None) -> None:
        self._unit = unit
        self._good = frozenset(good)
        self._bus = bus or SystemBus()

    async def read(self, target: Target) -> Reading:  # noqa: ARG002 - it only ever looks at this node
        """Look once; see `ports.Probe`."""
        current().stage("UNIT_BUS_LOST", "systemd did not answer over D-Bus", Health.UNKNOWN)
        try:
            reply = await self._bus.call(
                Message(
                    destination="org.freedesktop.systemd1",
                    path="/org/freedesktop/systemd1",
                    interface="org.freedesktop.systemd1.Manager",
                    member="ListUnitsByNames",
                    signature="as",
                    body=[[self._unit]],
                )
            )
        except OSError as error:
            return Reading(Health.UNKNOWN, "UNIT_BUS_LOST", f"no answer over D-Bus: {error.strerror or error}")
        if reply.message_type is not MessageType.METHOD_RETURN:
            return Reading(Health.UNKNOWN, "UNIT_BUS_LOST", f"systemd refused over D-Bus: {reply.error_name}")
        return self._judge(reply.body)

    async def close(self) -> None:
        """Give up the connection; the next reading makes it anew."""
        await self._bus.close()

    def _judge(self, body: list[Any]) -> Reading:
        if not body or not body[0]:
            return Reading(Health.FAILED, "UNIT_UNKNOWN", f"systemd does not know {self._unit}")
        _, _, load, active, sub, *_ = body[0][0]
        facts = UnitFacts(self._unit, active, sub)
        # A unit that reloads goes on serving.
        if active == "reloading" or (active == "active" and sub in self._good):
            return Reading(Health.OK, facts=facts)
        if load == "not-found":
            return Reading(Health.FAILED, "UNIT_UNKNOWN", f"systemd does not know {self._unit}", facts)
        words = f"{self._unit} is {active} ({sub})" + (f", and {load}" if load != "loaded" else "")
        return Reading(Health.FAILED, "UNIT_NOT_ACTIVE", words, facts)
