"""The listener for failoverctl from elsewhere: the control socket's routes by HTTPS, for certificates of operators.

    own address:7403 ── TLS 1.3, a certificate of access.remote.ca ── OU=operator, CN in people ── door.py

A certificate alone opens nothing: its CN must be named in the configuration, with the role. So who makes certificates
hands out no roles, and to take one back is to take out a line and reload. A node's certificate is no person's.

It is a guest in the daemon's loop, as the public listener is: a port that is taken is a finding and tried again.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import structlog

from failoverd.runtime.callers import remote_caller
from failoverd.runtime.host import Refused
from failoverd.runtime.http import Limits, Server, listen
from failoverd.tls import server_context

if TYPE_CHECKING:
    import ssl

    from failoverd.config import Config
    from failoverd.runtime.accepting import Admission
    from failoverd.runtime.door import Door

RETRY_S = 5.0
SILENT_MS = 30_000  # a client that acknowledges nothing for so long is gone
LIMITS = Limits(request=64 << 10, connections=64, of_one=16)
_log = structlog.get_logger(__name__)


class RemoteServer:
    """Serves `door` at a node's own address, where `access.remote` is enabled. Another place: tests."""

    def __init__(
        self,
        config: Config,
        door: Door,
        *,
        address: str | None = None,
        port: int | None = None,
        retry_s: float = RETRY_S,
        admission: Admission | None = None,
    ) -> None:
        self._admission = admission
        self._remote, self._peer = config.access.remote, config.peer
        self._address = address or config.this.address
        self._wanted = config.access.remote.port if port is None else port
        self._door, self._retry_s = door, retry_s
        self._server: Server | None = None
        self._trying: asyncio.Task[None] | None = None
        self._why = ""
        self.port = 0  # that is listened on

    def refused(self) -> tuple[Refused, ...]:
        """That it does not listen, and why."""
        return (Refused("ACCESS_REMOTE", self._why),) if self._why else ()

    async def start(self) -> None:
        """Listen if that can be, and go on trying if not. Raises nothing that the world can cause."""
        if self._remote.enabled and not await self._listen():
            self._trying = asyncio.ensure_future(self._try())

    async def _try(self) -> None:
        while True:
            await asyncio.sleep(self._retry_s)
            if await self._listen():
                _log.info("operators elsewhere are let in", address=self._address, port=self.port)
                return

    async def _listen(self) -> bool:
        listener: socket.socket | None = None
        try:
            context = await asyncio.to_thread(self._context)
            listener = listen(self._address, self._wanted)
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENT_MS)
            server = Server(self._door, listener, context, LIMITS, remote_caller, admission=self._admission)
            await server.start()
        except OSError as error:  # ssl.SSLError is one
            if listener is not None:
                listener.close()
            why = f"{self._address} port {self._wanted}: {error.strerror or error}"
            if why != self._why:
                _log.warning("operators elsewhere are not let in", code="ACCESS_REMOTE", reason=why)
            self._why = why
            return False
        self._why, self._server, self.port = "", server, listener.getsockname()[1]
        return True

    def _context(self) -> ssl.SSLContext:
        tls = self._peer
        return server_context(ca=self._remote.authority(tls.ca), certificate=tls.certificate, key=tls.key)

    async def stop(self) -> None:
        """End every connection."""
        if self._trying is not None:
            self._trying.cancel()
            await asyncio.gather(self._trying, return_exceptions=True)
        if self._server is not None:
            await self._server.stop()
            self._server = None
