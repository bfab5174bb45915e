"""Who has the virtual IP: this node's interface, and whoever answers for it on the wire.

The kernel is asked over netlink. The wire is asked by an ARP probe, as RFC 5227 has it: its sender address is
0.0.0.0, so that nobody's ARP cache learns anything from it. Every holder answers, but for this node itself.

    ARP who-has VIP tell 0.0.0.0 ──broadcast──>   <──unicast── VIP is-at 02:...   (one line a holder)
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
import struct
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from pyroute2 import AsyncIPRoute  # type: ignore[import-untyped]  # it comes without types

from failoverd.core.model import Health, Reading, VipFacts
from failoverd.probes.deadline import current
from failoverd.probes.link import Found

if TYPE_CHECKING:
    from failoverd.ports import Target

_ETH_P_ARP = 0x0806
_BROADCAST = b"\xff" * 6
_ARP = struct.Struct("!HHBBH6s4s6s4s")  # RFC 826: hardware, protocol, their lengths, operation, sender, target
_ETHERNET, _IPV4, _REQUEST = 1, 0x0800, 1
_UNKNOWN_HARDWARE, _UNKNOWN_ADDRESS = b"\0" * 6, b"\0" * 4


class VipProbe:
    """Reads `VipFacts`. FAILED when the address has two holders, of whom one may be this node."""

    def __init__(self, *, interface: str, address: str, window_ms: int = 200) -> None:
        self._interface = interface
        self._address = str(ipaddress.IPv4Address(address))
        self._wanted = ipaddress.IPv4Address(address).packed
        self._window_ms = window_ms  # how long answers are waited for; a holder on a LAN takes about 1 ms

    async def read(self, target: Target) -> Reading:  # noqa: ARG002 - it only ever looks at this node
        """Look once; see `ports.Probe`."""
        current().stage("VIP_CANNOT_LOOK", f"{self._interface} could not be looked at", Health.UNKNOWN)
        try:
            before = await self._present()
            others = await self._others()
            present = await self._present()
        except Found as found:
            return found.reading
        facts = VipFacts(present, tuple(sorted(others)))
        # Who had it only for a part of the window may have handed it over to the other in good order.
        holders = sorted(others) + (["this node"] if before and present else [])
        if len(holders) > 1:
            reason = f"{self._address} is held by {' and '.join(holders)}"
            return Reading(Health.FAILED, "VIP_DUPLICATE", reason, facts)
        return Reading(Health.OK, facts=facts)

    async def _present(self) -> bool:
        try:
            index = socket.if_nametoindex(self._interface)
            async with AsyncIPRoute() as netlink:
                return any(
                    [message.get("local") == self._address async for message in await netlink.addr("dump", index=index)]
                )
        except OSError as error:
            self._failed(error)

    async def _others(self) -> set[str]:
        """Hardware addresses, other than this node's, that claim the address within the window."""
        own = _own_hardware()
        found: set[str] = set()
        loop = asyncio.get_running_loop()
        try:
            with socket.socket(
                socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, socket.htons(_ETH_P_ARP)
            ) as sock:
                sock.bind((self._interface, _ETH_P_ARP))
                hardware = sock.getsockname()[4]
                sock.sendto(self._question(hardware), (self._interface, _ETH_P_ARP, 0, 0, _BROADCAST))
                loop.add_reader(sock, self._receive, sock, own, found)
                try:
                    await asyncio.sleep(self._window_ms / 1000)
                finally:
                    loop.remove_reader(sock)
        except OSError as error:
            self._failed(error)
        return found

    def _question(self, hardware: bytes) -> bytes:
        return _ARP.pack(_ETHERNET, _IPV4, 6, 4, _REQUEST, hardware, _UNKNOWN_ADDRESS, _UNKNOWN_HARDWARE, self._wanted)

    def _receive(self, sock: socket.socket, own: set[bytes], found: set[str]) -> None:
        try:
            frame = sock.recv(64)
        except OSError:
            return  # the window ends soon enough
        if len(frame) < _ARP.size:
            return
        hardware, protocol, _, _, _, sender, claimed, _, _ = _ARP.unpack_from(frame)
        if (hardware, protocol, claimed) == (_ETHERNET, _IPV4, self._wanted) and sender not in own:
            found.add(sender.hex(":"))

    def _failed(self, error: OSError) -> NoReturn:
        if error.errno in (errno.ENODEV, errno.ENXIO) or "no interface" in str(error):
            reason = f"this node has no interface {self._interface}"
            raise Found(Reading(Health.FAILED, "VIP_NO_INTERFACE", reason)) from error
        if error.errno == errno.ENETDOWN:
            reason = f"{self._interface} is down"
            raise Found(Reading(Health.FAILED, "VIP_NO_INTERFACE", reason)) from error
        reason = f"{self._interface} could not be looked at: {error.strerror or type(error).__name__}"
        raise Found(Reading(Health.UNKNOWN, "VIP_CANNOT_LOOK", reason)) from error


def _own_hardware() -> set[bytes]:
    """All of this node's hardware addresses: another of its own interfaces on the same wire answers, too."""
    found = set()
    for path in Path("/sys/class/net").glob("*/address"):
        try:
            found.add(bytes.fromhex(path.read_text().strip().replace(":", "")))
        except (OSError, ValueError):
            continue  # gone meanwhile, or no Ethernet
    return found
