"""HTTP in the daemon's loop, for every port of a node: bounded in size, time, number and rate, and who asks is known.

Why not uvicorn's own `Server`: it installs signal handlers, exits the process when the port is taken, wakes ten times
a second, gives a silent TLS handshake a minute, and keeps the certificate to itself. Its protocol class has none of
that, so the daemon's loop serves that one directly:

    loop.create_server ── TLS (accepting.py) ── _Protocol(uvicorn's httptools) ── Starlette routes
                                                    └ peer's name; bounds on size, rate, and the time to send a request

It serves the other members (node_server.py) and operators elsewhere (remote.py), whose certificates say who asks, the
control socket (control.py), where the kernel does, and the public listener (public.py), with no name.

**What one may ask.** A request a second more or less is nothing, a flood from one node must not delay the renewals of
another. The most that an honest node asks of one other, with `renew` at its shortest, 50 ms: 50 reports a second (its
sender's own bound, peers.py), 20 renewals and as many other swaps, 40 answers of a watch, 10 reads, 2 for alerts and
history, 50 copies of records: under 200. With the default timings it is about 10. RATE is half as much again, and what
is asked of the store has a share of its own: a node that has much to say of something else still renews its lease.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from uvicorn import Config
from uvicorn.protocols.http.flow_control import CLOSE_HEADER
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from failoverd.credentials import newest
from failoverd.https import AGE_S
from failoverd.refusals import Refusals
from failoverd.runtime.accepting import OF_MEMBER, OF_STRANGERS, Admission, Handshakes
from failoverd.runtime.rates import Buckets, Rate
from failoverd.tls import node_name

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Hashable

    from starlette.types import ASGIApp

REQUEST_LIMIT = 512 * 1024  # bytes of one request, head and body: twice the largest message
HEAD_LIMIT = 16 * 1024  # bytes of its target and headers
RATE = Rate(a_second=300, burst=600)  # requests of one client
APART = b"/store/"  # counted apart from all else: a node that has much to copy still renews its lease
CONNECTIONS = 256  # a cluster of four needs about sixteen; more are answered 503
REQUEST_S = 5.0  # from the first byte of a request to its last, and from connecting to the first byte
IDLE_S = 20  # a kept connection; clients give theirs up after half of it, so that none is closed under a request
_STOP_S = 1.0
_IP_FREEBIND = 15  # Linux; the socket module has no name for it in Python 3.11


@dataclass(frozen=True, slots=True)
class Limits:
    """What one server bears. `request` is in bytes. `connections` or more: 503; twice as many: ended at once.

    `of_one`: more from one node, address or local user are ended at once, so that nobody takes the place of all others;
    None: no limit. `rate`: of its requests; who asks more is told 429, and its connection ended. `handshakes`: of one
    member, and of all others together.
    `admits`: whether a client's address may ask at all. Nothing that another one sends is parsed: it is told 403.
    """

    request: int = REQUEST_LIMIT
    connections: int = CONNECTIONS
    request_s: float = REQUEST_S
    of_one: int | None = None
    rate: Rate = RATE
    handshakes: tuple[Rate, Rate] = (OF_MEMBER, OF_STRANGERS)
    admits: Callable[[str], bool] | None = None


OF_MEMBERS = Limits(of_one=64)


def member(transport: asyncio.Transport) -> tuple[str | None, Hashable]:
    """The node that has connected, by its certificate, and what connections are counted by: its address."""
    client = transport.get_extra_info("peername")
    return node_name(transport.get_extra_info("peercert")), client[0] if isinstance(client, tuple) else client


class _State(ServerState):
    """What the connections of one server share."""

    stopping = False


@dataclass(frozen=True, slots=True)
class _Shared:
    """What the connections of one listener have in common beside uvicorn's."""

    limits: Limits
    buckets: Buckets
    admission: Admission
    context: Callable[[], ssl.SSLContext | None]


class _TooMuchError(Exception):
    """Raised in a callback of the parser: nothing further of these bytes is parsed."""


class _Protocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 protocol, with the peer's name in the request's state and bounds on size, rate and time."""

    server_state: _State
    shared: _Shared
    who: Callable[[asyncio.Transport], tuple[object, Hashable]] = staticmethod(member)
    peer: object = None
    origin: Hashable = None
    received = 0
    head = 0
    status = b""  # of an answer to what is refused while it is parsed
    deadline: asyncio.TimerHandle | None = None

    @property
    def limits(self) -> Limits:
        """Of its listener."""
        return self.shared.limits

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as in the base class
        super().connection_made(transport)
        self.peer, self.origin = self.who(transport)
        self.context, self.made = self.shared.context(), self.loop.time()
        if self.server_state.stopping:
            transport.abort()  # accepted just before the listener closed
        elif self._one_too_many():
            self._count("PEER_LIMIT", "more connections than it may have")
            transport.abort()
        else:
            self._expect_request()

    @property
    def source(self) -> str:
        """Where it comes from: an address, or on a Unix socket a user's number."""
        return self.client[0] if self.client is not None else f"user {self.origin}"

    @property
    def asker(self) -> str:
        """Whose requests are counted together: a node's, wherever they come from; else by origin."""
        return self.peer if isinstance(self.peer, str) else str(self.origin)

    def _one_too_many(self) -> bool:
        limits, others = self.limits, self.connections
        if limits.of_one is not None:
            known = [other.asker for other in others if isinstance(other, _Protocol)]
            if known.count(self.asker) > limits.of_one:
                return True
        return len(others) > limits.connections * 2

    def _count(self, code: str, reason: str) -> None:
        self.shared.admission.refuse(code, self.source, reason, name=self.peer if isinstance(self.peer, str) else "")

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_expecting()
        self._unset_keepalive_if_required()  # the base class forgets it when the connection ends by an error
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        if self.limits.admits is not None and not self.limits.admits(self.client[0] if self.client else ""):
            self._refuse(b"403 Forbidden")
            return
        if self.received == 0 and self.deadline is None:
            self._expect_request()
        self.received += len(data)
        if self.received > self.limits.request:
            self._count("PEER_LIMIT", f"a request of more than {self.limits.request} bytes")
            self._refuse(b"413 Content Too Large")
            return
        super().data_received(data)

    def _refuse(self, status: bytes) -> None:
        self.transport.write(b"HTTP/1.1 " + status + b"\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
        self.transport.close()

    def send_400_response(self, msg: str) -> None:
        if self.status:
            self._refuse(self.status)
        else:
            super().send_400_response(msg)

    def _too_much(self, status: bytes, reason: str) -> _TooMuchError:
        self.status = status
        self._count("PEER_LIMIT", reason)
        return _TooMuchError(reason)

    def on_message_begin(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            # None of those who ask here does so, and thousands of requests would fit into one read.
            raise self._too_much(b"400 Bad Request", "a request before the answer to the one before")
        self.head = 0
        super().on_message_begin()
        self.scope["state"]["peer"] = self.peer
        self.scope["state"]["abort"] = self.transport.abort
        self.scope["state"]["refuse"] = self._count

    def on_url(self, url: bytes) -> None:
        self._measure(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._measure(len(name) + len(value) + len(": \r\n"))
        super().on_header(name, value)

    def _measure(self, length: int) -> None:
        self.head += length
        if self.head > HEAD_LIMIT:
            raise self._too_much(b"431 Request Header Fields Too Large", f"a head of more than {HEAD_LIMIT} bytes")

    def on_headers_complete(self) -> None:
        share = f"{self.asker} {self.url.startswith(APART)}"
        if not self.shared.buckets.take(share, self.loop.time()):
            raise self._too_much(b"429 Too Many Requests", f"more than {self.limits.rate.a_second:g} requests a second")
        if self._outlived():  # its answer says that it is the last one: nobody asks into a connection that ends
            self.scope["headers"] = [*self.scope["headers"], CLOSE_HEADER]
        super().on_headers_complete()
        if self._outlived():
            self.cycle.keep_alive = False

    def _outlived(self) -> bool:
        """Made with credentials that were replaced, or long ago: a node that is none any more does not stay."""
        return self.context is not self.shared.context() or self.loop.time() - self.made > AGE_S

    def on_message_complete(self) -> None:
        self.received = 0
        self._stop_expecting()
        super().on_message_complete()

    def _expect_request(self) -> None:
        self.deadline = self.loop.call_later(self.limits.request_s, self.transport.abort)

    def _stop_expecting(self) -> None:
        if self.deadline is not None:
            self.deadline.cancel()
            self.deadline = None


class Server:
    """A Starlette application on one listening socket inside the running loop."""

    def __init__(
        self,
        app: ASGIApp,
        listener: socket.socket,
        ssl_context: ssl.SSLContext | None = None,
        limits: Limits = OF_MEMBERS,
        who: Callable[[asyncio.Transport], tuple[object, Hashable]] = member,
        *,
        admission: Admission | None = None,
    ) -> None:
        self._listener = listener
        self._who = who
        self._ssl_context = ssl_context
        self._admission = admission or Admission("", Refusals())
        self._shared = _Shared(
            limits, Buckets(limits.rate), self._admission, lambda: newest(ssl_context) if ssl_context else None
        )
        self._handshakes: Handshakes | None = None
        self._state = _State()
        self._config = Config(
            app,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=IDLE_S,
            limit_concurrency=limits.connections,
        )
        self._config.load()
        self._server: asyncio.Server | None = None
        # A refused handshake or a scanner's bytes are the client's affair; what a handler raises still reaches the log.
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)

    async def start(self) -> None:
        """Listen. The socket is this server's from now on."""
        loop = asyncio.get_running_loop()

        def made() -> _Protocol:
            connection = _Protocol(self._config, self._state, {}, loop)
            connection.shared = self._shared
            connection.who = self._who
            return connection

        protocol: Callable[[], asyncio.Protocol] = made
        if self._ssl_context is not None:
            self._handshakes = Handshakes(self._ssl_context, self._admission, made, self._shared.limits.handshakes)
            protocol = self._handshakes.protocol
        if self._listener.family == socket.AF_UNIX:
            self._server = await loop.create_unix_server(protocol, sock=self._listener)
        else:
            self._server = await loop.create_server(protocol, sock=self._listener)

    @staticmethod
    async def _settle(tasks: list[asyncio.Task[None]]) -> None:
        if any(not task.done() for task in tasks):
            await asyncio.wait(tasks, timeout=_STOP_S)

    async def stop(self) -> None:
        """Stop listening, let what is being answered finish for a second, then end it."""
        if self._server is None:
            return
        self._state.stopping = True
        self._server.close()
        if self._handshakes is not None:
            await self._handshakes.stop()
        for connection in list(self._state.connections):
            connection.shutdown()
        tasks = list(self._state.tasks)
        await self._settle(tasks)
        for connection in list(self._state.connections):
            connection.transport.abort()
        await asyncio.sleep(0)  # what aborting left to do is done in the loop's next turn, which must come
        await self._settle(tasks)  # a stream ends by itself when its client is gone
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STOP_S):
                await self._server.wait_closed()


def listen(address: str, port: int) -> socket.socket:
    """A socket bound to a node's own address, also when the interface does not have it yet. Raises OSError."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    # With its protocol named: asyncio sets TCP_NODELAY only then, and an answer of two writes takes 40 ms without.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
        listener.bind((address, port))
        listener.setblocking(False)  # noqa: FBT003 - the standard library's own signature
    except BaseException:
        listener.close()
        raise
    return listener
