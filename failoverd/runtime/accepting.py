"""What comes before the first byte of HTTP on a port with TLS: who may begin a handshake, and what became of it.

    accept ── too many, too often? ── end it, no TLS at all
         └── handshake, 2 s at most ── failed ──> counted by reason and address (refusals.py)
                                   └── done ──> the HTTP protocol, with the peer's certificate

Why asyncio's own TLS listener is not used: of a handshake that failed it tells nobody, and knows no address for it. And
each handshake costs this loop a millisecond: so members have their own share of them, by their address, and all others
together have one.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from failoverd.refusals import why
from failoverd.runtime.rates import Buckets, Rate

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from failoverd.refusals import Refusals

HANDSHAKE_S = 2.0
CLOSE_S = 1.0
# A node has some ten connections to each other one, and makes all of them anew at its start or with new credentials.
OF_MEMBER = Rate(a_second=50, burst=100)
OF_STRANGERS = Rate(a_second=20, burst=40)
AT_ONCE_OF_MEMBER = 32  # handshakes
AT_ONCE_OF_STRANGERS = 32
_STRANGERS = ""


@dataclass(frozen=True, slots=True)
class Admission:
    """Who is told of what is refused on a port, and by which name the port goes there."""

    port: str
    refusals: Refusals

    def refuse(self, code: str, source: str, reason: str, name: str = "") -> None:
        """Count it. `name`: what the certificate says, a member's or not."""
        member = name if name in self.refusals.members.values() else ""
        self.refusals.note(code, self.port, source, reason, node=member)

    def member(self, address: str) -> str:
        """The node at an address, or ""."""
        return self.refusals.members.get(address, "")


class Handshakes:
    """All of one listener. `made` gives a new HTTP protocol for a connection whose handshake is done."""

    def __init__(
        self,
        context: ssl.SSLContext,
        admission: Admission,
        made: Callable[[], asyncio.Protocol],
        rates: tuple[Rate, Rate] = (OF_MEMBER, OF_STRANGERS),
    ) -> None:
        self._context, self.admission, self._made = context, admission, made
        self._members, self._strangers = map(Buckets, rates)
        self._at_once: dict[str, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()

    def protocol(self) -> asyncio.Protocol:
        """For the listener."""
        return _Arriving(self)

    def begin(self, arriving: _Arriving, transport: asyncio.Transport) -> None:
        """A connection was accepted."""
        address = _address(transport)
        member = self.admission.member(address)
        share, buckets, most = (
            (address, self._members, AT_ONCE_OF_MEMBER)
            if member
            else (_STRANGERS, self._strangers, AT_ONCE_OF_STRANGERS)
        )
        if self._at_once.get(share, 0) >= most or not buckets.take(share, self._loop.time()):
            self.admission.refuse("PEER_LIMIT", address, "more connections than it may begin")
            transport.abort()
            return
        self._at_once[share] = self._at_once.get(share, 0) + 1
        task = self._loop.create_task(self._shake(arriving, transport, address))
        self._tasks.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            self._at_once[share] -= 1
            if not self._at_once[share]:
                del self._at_once[share]

        task.add_done_callback(ended)

    async def _shake(self, arriving: _Arriving, plain: asyncio.Transport, address: str) -> None:
        try:
            transport = await self._loop.start_tls(
                plain,
                arriving,
                self._context,
                server_side=True,
                ssl_handshake_timeout=HANDSHAKE_S,
                ssl_shutdown_timeout=CLOSE_S,
            )
        except OSError as error:  # of which ssl.SSLError is one
            plain.abort()
            self._refused(error, address)
            return
        if transport is None:  # it went away without an error, says start_tls
            self._refused(ConnectionResetError(), address)
        else:
            arriving.hand_over(transport, self._made())

    def _refused(self, error: OSError, address: str) -> None:
        code, reason = why(error)
        self.admission.refuse(code, address, reason)

    async def stop(self) -> None:
        """End all that are not done."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class _Arriving(asyncio.Protocol):
    """A connection until its handshake is done. What comes right with the end of it is kept for the HTTP protocol."""

    def __init__(self, handshakes: Handshakes) -> None:
        self._handshakes = handshakes
        self._early = b""
        self._ended = False
        self._lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not isinstance(transport, asyncio.Transport):
            raise TypeError(f"a stream's transport was expected, not {type(transport).__name__}")
        self._handshakes.begin(self, transport)

    def hand_over(self, transport: asyncio.Transport, protocol: asyncio.Protocol) -> None:
        """Let `protocol` go on."""
        if self._lost:
            return
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        if self._early and not transport.is_closing():
            protocol.data_received(self._early)
        if self._ended and not transport.is_closing():
            protocol.eof_received()

    def data_received(self, data: bytes) -> None:
        self._early += data

    def eof_received(self) -> None:
        self._ended = True

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - whoever waits for the handshake is told
        self._lost = True


def _address(transport: asyncio.Transport) -> str:
    peer = transport.get_extra_info("peername")
    return str(peer[0]) if peer else ""
