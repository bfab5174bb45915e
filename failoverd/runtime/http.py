"""One HTTPS server a node, with mutual TLS, for whatever the node serves: reports of its peers, the store.

Who is asking is known from the certificate alone: TLS 1.3 only, the client's certificate is required and must be of
the cluster's CA, and its CN must be a configured node (403 otherwise). Handlers find the name in `request.state.peer`.

Why not uvicorn's own `Server`: it installs signal handlers, exits the process when the port is taken, wakes ten times
a second, gives a silent TLS handshake a minute, and keeps the certificate to itself. Its protocol class has none of
that, so the daemon's loop serves that one directly:

    loop.create_server ── TLS (handshake ≤ 2 s) ── _Protocol(uvicorn's httptools) ── Starlette routes
                                                       └ peer's name, bounded size, bounded time to send a request

The same protocol serves the control socket (see control.py), where the kernel says who asks, and the public listener
(see public.py), with no name.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from failoverd.tls import node_name

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Collection, Hashable, Sequence

    from starlette.routing import BaseRoute
    from starlette.types import ASGIApp, Receive, Scope, Send

REQUEST_LIMIT = 512 * 1024  # bytes of one request, head and body: twice the largest message
CONNECTIONS = 256  # a cluster of four needs about sixteen; more are answered 503
REQUEST_S = 5.0  # from the first byte of a request to its last, and from connecting to the first byte
IDLE_S = 20  # a kept connection; clients give theirs up after half of it, so that none is closed under a request
_HANDSHAKE_S = 2.0
_CLOSE_S = 1.0
_STOP_S = 1.0
_IP_FREEBIND = 15  # Linux; the socket module has no name for it in Python 3.11


@dataclass(frozen=True, slots=True)
class Limits:
    """What one server bears. `request` is in bytes. `connections` or more: 503; twice as many: ended at once.

    `of_one`: more from one address, or of one local user, are ended at once, so that nobody takes the place of all
    others; None: no limit.
    `admits`: whether a client's address may ask at all. Nothing that another one sends is parsed: it is told 403.
    """

    request: int = REQUEST_LIMIT
    connections: int = CONNECTIONS
    request_s: float = REQUEST_S
    of_one: int | None = None
    admits: Callable[[str], bool] | None = None


OF_MEMBERS = Limits()


def member(transport: asyncio.Transport) -> tuple[str | None, Hashable]:
    """The node that has connected, by its certificate, and what connections are counted by: its address."""
    client = transport.get_extra_info("peername")
    return node_name(transport.get_extra_info("peercert")), client[0] if isinstance(client, tuple) else client


class _State(ServerState):
    """What the connections of one server share."""

    stopping = False


class _Protocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 protocol, with the peer's name in the request's state and bounds on size and time."""

    server_state: _State
    limits = OF_MEMBERS
    who: Callable[[asyncio.Transport], tuple[object, Hashable]] = staticmethod(member)
    peer: object = None
    origin: Hashable = None
    received = 0
    deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as in the base class
        super().connection_made(transport)
        self.peer, self.origin = self.who(transport)
        if self.server_state.stopping or self._one_too_many():
            transport.abort()  # accepted just before the listener closed, or one of far too many
            return
        self._expect_request()

    def _one_too_many(self) -> bool:
        limits, others = self.limits, self.connections
        if limits.of_one is not None:
            known = [other.origin for other in others if isinstance(other, _Protocol)]
            if known.count(self.origin) > limits.of_one:
                return True
        return len(others) > limits.connections * 2

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
            self._refuse(b"413 Content Too Large")
            return
        super().data_received(data)

    def _refuse(self, status: bytes) -> None:
        self.transport.write(b"HTTP/1.1 " + status + b"\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
        self.transport.close()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["state"]["peer"] = self.peer
        self.scope["state"]["abort"] = self.transport.abort

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
    ) -> None:
        self._listener = listener
        self._who = who
        self._ssl_context = ssl_context
        self._limits = limits
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

        def protocol() -> _Protocol:
            connection = _Protocol(self._config, self._state, {}, loop)
            connection.limits = self._limits
            connection.who = self._who
            return connection

        tls: dict[str, Any] = {}
        if self._ssl_context is not None:
            tls = {
                "ssl": self._ssl_context,
                "ssl_handshake_timeout": _HANDSHAKE_S,
                "ssl_shutdown_timeout": _CLOSE_S,
            }
        if self._listener.family == socket.AF_UNIX:
            self._server = await loop.create_unix_server(protocol, sock=self._listener)
        else:
            self._server = await loop.create_server(protocol, sock=self._listener, **tls)

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


class NodeServer:
    """The node's HTTPS server: `routes` for members of `nodes` only. Port 0 takes a free one (tests)."""

    def __init__(
        self,
        *,
        address: str,
        port: int,
        ssl_context: ssl.SSLContext,
        nodes: Collection[str],
        routes: Sequence[BaseRoute],
        limits: Limits = OF_MEMBERS,
    ) -> None:
        self._address = address
        self._port = port
        self._ssl_context = ssl_context
        self._app = _MembersOnly(Starlette(routes=routes), frozenset(nodes))
        self._limits = limits
        self._server: Server | None = None

    async def start(self) -> None:
        """Listen on the node's own address. Raises OSError."""
        listener = listen(self._address, self._port)
        try:
            self._port = listener.getsockname()[1]
            self._server = Server(self._app, listener, self._ssl_context, self._limits)
            await self._server.start()
        except BaseException:
            listener.close()
            raise

    @property
    def port(self) -> int:
        """The port listened on."""
        return self._port

    async def stop(self) -> None:
        """Stop listening and end every connection."""
        if self._server is not None:
            await self._server.stop()
            self._server = None


class _MembersOnly:
    """Lets in whoever shows the certificate of a configured node."""

    def __init__(self, app: ASGIApp, nodes: frozenset[str]) -> None:
        self._app = app
        self._nodes = nodes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        peer = scope["state"]["peer"]
        if peer in self._nodes:
            await self._app(scope, receive, send)
        else:
            refusal = PlainTextResponse(f"the certificate names {peer!r}, which is no configured node", 403)
            await refusal(scope, receive, send)
