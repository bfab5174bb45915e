"""The public listener: what anybody in `http.allow` may see of this node, without being asked who they are.

    own address:7480, 127.0.0.1:7480 ── 403 beyond http.allow ── GET, HEAD, OPTIONS ── ROUTES ── the daemon's state

Nothing that changes anything is reachable here, ever: commands have the control socket. `ROUTES` is the list of what is
answered; a test holds that no route takes another method.

It is a guest in the daemon's loop. A port that is taken, or a certificate that cannot be read, is a finding and is
tried again, and keeps nothing else from starting. Requests, connections and the time that a client takes to ask and to
read are bounded; who is too slow is dropped.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
from typing import TYPE_CHECKING

import structlog
from starlette.applications import Starlette
from starlette.routing import Route

from failoverd.runtime import (
    page,
    public_documents,
    public_health,
    public_hosts,
    public_metrics,
    public_nginx,
    public_openapi,
)
from failoverd.runtime.host import Refused
from failoverd.runtime.http import Limits, Server, listen
from failoverd.runtime.public_certificate import Certificate, CertificateError
from failoverd.runtime.public_events import Events
from failoverd.runtime.rates import Rate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from ipaddress import IPv4Network

    from starlette.routing import BaseRoute
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from failoverd.config import Config, Http
    from failoverd.lives import Life
    from failoverd.runtime.accepting import Admission
    from failoverd.runtime.public_shown import Shown

# What is answered beside /v1/events: one function a module, from what is shown to its routes.
ROUTES: tuple[Callable[[Shown], Sequence[BaseRoute]], ...] = (
    public_documents.routes,
    public_health.routes,
    public_metrics.routes,
    public_nginx.routes,
    public_openapi.routes,
    page.routes,
)

LOOPBACK = "127.0.0.1"
RENEWAL = "renewal"  # beside the addresses, what is refused
RETRY_S = 5.0
RENEW_S = 60.0
SLOW_S = 5.0  # a client that reads nothing for so long is dropped
_REQUEST_LIMIT = 16 * 1024  # bytes: a request has no body worth reading
_CONNECTIONS = 96  # a listener: events for CLIENTS, probes of load balancers, scrapes; the process may have 1024 files
_OF_ONE = 48  # of them from one address
_RATE = Rate(a_second=500, burst=1000)  # of one address: nginx's mail proxy asks at each login
_AT_ONCE = 4
_REQUEST_S = 3.0

_log = structlog.get_logger(__name__)


def admitted(config: Config) -> tuple[IPv4Network, ...]:
    """Who may look: as configured, else the network of the VIP and this host."""
    vip = ipaddress.IPv4Interface(config.vip.address_with_prefix).network
    return config.http.allow or (vip, ipaddress.IPv4Network("127.0.0.0/8"))


class PublicServer:
    """The listener on each of `addresses`. Port 0 takes a free one (tests)."""

    def __init__(
        self,
        shown: Shown,
        *,
        addresses: Sequence[str] | None = None,
        port: int | None = None,
        retry_s: float = RETRY_S,
        admission: Admission | None = None,
    ) -> None:
        config = shown.config
        self._http: Http = config.http
        self._addresses = (config.this.address, LOOPBACK) if addresses is None else addresses
        self._port = self._http.port if port is None else port
        self._retry_s, self._admission = retry_s, admission
        self._renew_s = RENEW_S
        files = self._http.certificate, self._http.key
        self._certificate = None if files[0] is None or files[1] is None else Certificate(files[0], files[1])
        self._networks = admitted(config)
        self._changes = shown.changes
        self._events = Events(shown)
        routes = [Route("/v1/events", self._events, methods=["GET"])]
        self.routes: list[BaseRoute] = [*routes, *(route for make in ROUTES for route in make(shown))]
        self._names = public_hosts.names_of(config)
        self._app = _Hurried(public_hosts.OnlyOurs(Starlette(routes=self.routes), lambda: self._names))
        self._limits = Limits(
            request=_REQUEST_LIMIT,
            connections=_CONNECTIONS,
            of_one=_OF_ONE,
            rate=_RATE,
            request_s=_REQUEST_S,
            admits=self._admits,
        )
        self._refused: dict[str, Refused] = {}
        self._servers: list[Server] = []
        self._trying: list[asyncio.Task[None]] = []
        self.ports: dict[str, int] = {}  # by address, of those that listen

    def _admits(self, client: str) -> bool:
        address = ipaddress.IPv4Address(client)
        return any(address in network for network in self._networks)

    def reload(self, config: Config) -> None:
        """Admit those whom `config` allows, by the names that it has, from the next request on."""
        self._networks = admitted(config)
        self._names = public_hosts.names_of(config)

    def refused(self) -> tuple[Refused, ...]:
        """Where it does not listen, and why."""
        return tuple(self._refused.values())

    def lives(self) -> tuple[Life, ...]:
        """How long its certificate is good; nothing where it has none."""
        life = self._certificate.life if self._certificate is not None else None
        return (life,) if life is not None else ()

    async def start(self) -> None:
        """Listen where it can be, and go on trying where not. Raises nothing that the world can cause."""
        if not self._http.enabled:
            return
        self._changes.start()
        if self._certificate is not None:
            self._trying.append(asyncio.ensure_future(self._renew(self._certificate)))
        for address in self._addresses:
            if not await self._listen(address):
                self._trying.append(asyncio.ensure_future(self._retry(address)))

    async def _retry(self, address: str) -> None:
        while True:
            await asyncio.sleep(self._retry_s)
            if await self._listen(address):
                _log.info("the public listener is open", address=address, port=self._port)
                return

    async def _renew(self, certificate: Certificate) -> None:
        """Look each minute whether there is another certificate. The old one is used until that can be."""
        while True:
            await asyncio.sleep(self._renew_s)
            if not self._servers:
                continue  # it is read before one listens
            try:
                renewed = await asyncio.to_thread(certificate.renew)
            except CertificateError as error:
                self._note(RENEWAL, Refused("HTTP_CERTIFICATE", f"{error}; the old one is still in use"))
                continue
            self._refused.pop(RENEWAL, None)
            if renewed:
                _log.info("the public listener has another certificate")

    async def _listen(self, address: str) -> bool:
        try:
            context = await asyncio.to_thread(self._certificate.context) if self._certificate is not None else None
            listener = listen(address, self._port)
        except (CertificateError, OSError) as error:
            self._note(address, _refusal(error, address, self._port))
            return False
        # A client that has gone without a word must not keep its connection for a quarter of an hour.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(SLOW_S * 2000))
        server = Server(self._app, listener, context, self._limits, admission=self._admission)
        try:
            await server.start()
        except OSError as error:
            listener.close()
            self._note(address, _refusal(error, address, self._port))
            return False
        self._refused.pop(address, None)
        self._servers.append(server)
        self.ports[address] = listener.getsockname()[1]
        return True

    def _note(self, address: str, why: Refused) -> None:
        if self._refused.get(address) != why:
            _log.warning("the public listener is not open", code=why.code, reason=why.reason)
        self._refused[address] = why

    async def stop(self) -> None:
        """End every stream and connection."""
        for task in self._trying:
            task.cancel()
        await asyncio.gather(*self._trying, return_exceptions=True)
        await self._changes.stop()
        self._events.close()
        await asyncio.gather(*(server.stop() for server in self._servers))
        self._servers, self.ports = [], {}


def _refusal(error: CertificateError | OSError, address: str, port: int) -> Refused:
    if isinstance(error, CertificateError):
        return Refused("HTTP_CERTIFICATE", str(error))
    if error.errno == errno.EADDRINUSE:
        return Refused("HTTP_PORT_TAKEN", f"another program listens on {address} port {port}")
    return Refused("HTTP_NOT_LISTENING", f"{address} port {port}: {error.strerror or error}")


class _Hurried:
    """Keeps the loop's time for the lease.

    Of many requests that came together only a few are answered in one pass of the loop, so that a storm of them does
    not hold up what else is due. And a client that does not read what it asked for is dropped.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def hurried(message: Message) -> None:
            async with asyncio.timeout(SLOW_S):
                await send(message)

        async with self._turns:
            await asyncio.sleep(0)
        try:
            await self._app(scope, receive, hurried)
        except TimeoutError:
            scope["state"]["abort"]()
            _log.info("a client was too slow", client=scope["client"][0], path=scope["path"])
            await asyncio.sleep(0)  # the protocol is told that the connection is lost, before this ends
