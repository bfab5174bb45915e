"""The listener for failoverctl from elsewhere: the control socket's routes by HTTPS, for certificates of operators.

    own address:7403 ── TLS 1.3, a certificate of access.remote.ca ── OU=operator, CN in people ── door.py

A certificate alone opens nothing: its CN must be named in the configuration, with the role. So who makes certificates
hands out no roles, and to take one back is to take out a line and reload. A node's certificate is no person's.

It is a guest in the daemon's loop, as the public listener is: a port that is taken is a finding and tried again. The
certificate files are looked at each half minute, as those between nodes are: what is good is taken, what is not leaves
the old in force.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from failoverd.credentials import Standing
from failoverd.lives import Life, last_of
from failoverd.runtime.callers import remote_caller
from failoverd.runtime.host import Refused
from failoverd.runtime.http import Limits, Server, listen
from failoverd.tls import server_context

if TYPE_CHECKING:
    from failoverd.config import Config
    from failoverd.runtime.accepting import Admission
    from failoverd.runtime.door import Door

RETRY_S = 5.0
RENEW_S = 30.0
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
        self._renewing: asyncio.Task[None] | None = None
        self._context = Standing(ssl.PROTOCOL_TLS_SERVER)
        self._read: list[tuple[int, int, int]] = []
        self._why = ""
        self._life: Life | None = None
        self.port = 0  # that is listened on

    def refused(self) -> tuple[Refused, ...]:
        """That it does not listen, and why."""
        return (Refused("ACCESS_REMOTE", self._why),) if self._why else ()

    def lives(self) -> tuple[Life, ...]:
        """How long the CA of operators is good, where it is not that of the nodes."""
        return (self._life,) if self._life is not None else ()

    async def start(self) -> None:
        """Listen if that can be, and go on trying if not. Raises nothing that the world can cause."""
        if not self._remote.enabled:
            return
        if not await self._listen():
            self._trying = asyncio.ensure_future(self._try())
        self._renewing = asyncio.ensure_future(self._renew())

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(RENEW_S)
            if self._server is not None:
                await self.renew()

    async def renew(self) -> None:
        """Take certificate, key and CA as they are now. What is no good leaves the old in force."""
        try:
            await asyncio.to_thread(self._load)
        except OSError as error:
            self._why = f"{error.strerror or error}; the old certificate files are still in use"
        else:
            self._why = ""

    async def _try(self) -> None:
        while True:
            await asyncio.sleep(self._retry_s)
            if await self._listen():
                _log.info("operators elsewhere are let in", address=self._address, port=self.port)
                return

    async def _listen(self) -> bool:
        listener: socket.socket | None = None
        try:
            await asyncio.to_thread(self._load)
            listener = listen(self._address, self._wanted)
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENT_MS)
            server = Server(self._door, listener, self._context, LIMITS, remote_caller, admission=self._admission)
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

    def _load(self) -> None:
        """Read the files, where they are others than before. Blocks; raises OSError, of which ssl.SSLError is one."""
        tls = self._peer
        ca = self._remote.authority(tls.ca)
        seen = [
            (stat.st_ino, stat.st_mtime_ns, stat.st_size) for stat in map(Path.stat, (ca, tls.certificate, tls.key))
        ]
        if seen != self._read:
            context = server_context(ca=ca, certificate=tls.certificate, key=tls.key)
            self._life = last_of("operators", context) if ca != tls.ca else None
            self._context.newest = context
            self._read = seen

    async def stop(self) -> None:
        """End every connection."""
        for task in (self._trying, self._renewing):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        if self._server is not None:
            await self._server.stop()
            self._server = None
