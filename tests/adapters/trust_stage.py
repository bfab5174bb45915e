"""A node's three ports for other nodes on loopback, all with real TLS, beside a whole daemon with its audit on disk."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from typing import TYPE_CHECKING

from drill_agent_stage import Cluster
from node_certificates import Files
from node_stage import HELD, Node

from failoverd import wire
from failoverd.core.model import NodeName, Report, Role
from failoverd.credentials import newest
from failoverd.drill.agent import Agent
from failoverd.rebuild.donor import Donor
from failoverd.rebuild.programs import Programs
from failoverd.refusals_spool import DONOR, DRILL_AGENT, Spool
from failoverd.runtime.node_server import NodeServer
from failoverd.runtime.ours import credentials_of
from failoverd.runtime.peers import Peers
from failoverd.runtime.trust import Trust
from failoverd.stores.embedded import EmbeddedStore, EmbeddedStoreServer
from failoverd.tls import client_context

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

DEADLINE_S = 20
MAIL1, MAIL2, MAIL3, ARBITER = map(NodeName, ("mail1", "mail2", "mail3", "arbiter"))
PORTS = ("peer", "rebuild", "drill")
REPORT = Report(
    sender=ARBITER,
    process="p",
    number=1,
    heard=(),
    membership="m",
    software="0",
    term=99,
    version=2,
    lease_over=False,
    role=Role.ARBITER,
    serving=False,
    ready=True,
    steady=True,
    frozen_term=None,
    caught_up=True,
    database=None,
    claims=(),
)
ASKS = {
    "peer": b"POST /peer/v1/report HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b"
    % (len(wire.encode_report(REPORT)), wire.encode_report(REPORT)),
    "rebuild": b"Q\0\0\0\x14" + json.dumps({"what": "standing"}).encode(),
    "drill": b"GET /v1/facts HTTP/1.1\r\nhost: x\r\n\r\n",
}


async def until(true: Callable[[], object]) -> None:
    """Wait for what other tasks and threads bring about."""
    async with asyncio.timeout(DEADLINE_S):
        while not true():  # noqa: ASYNC110 - nothing is set that could be waited for
            await asyncio.sleep(0.005)


class TrustStage:
    """Node mail1 of a cluster of four: its daemon, its ports, and what it knows of who was refused."""

    def __init__(self, config_file: Path, place: Path) -> None:
        (place / "run").mkdir()
        self.place, self.runtime = place, place / "run"
        self.cluster = Cluster(config_file, place)
        config = self.cluster.configs[MAIL1]
        # The tests' certificates are good for ten days.
        peer = config.peer.model_copy(update={"warn_before_ms": 86_400_000})
        self.config = config.model_copy(update={"peer": peer})
        self.node = Node(self.cluster.configs[ARBITER], place, HELD)
        self.credentials = credentials_of(self.config)
        self.refusals = self.credentials.refusals
        self.trust = Trust(self.config, self.credentials, self.node.daemon, self.runtime)
        self.ports: dict[str, int] = {}
        self.said: list[str] = []

    @property
    def address(self) -> str:
        """Where all ports are."""
        return self.config.this.address

    def files(self, name: NodeName) -> Files:
        """A member's good ones."""
        peer = self.cluster.configs[name].peer
        return Files(peer.ca, peer.certificate, peer.key)

    def client(self, name: NodeName) -> ssl.SSLContext:
        """What a member dials with."""
        files = self.files(name)
        return client_context(ca=files.ca, certificate=files.certificate, key=files.key)

    def local(self, name: NodeName) -> tuple[str, int]:
        """Whence a member dials: its own address."""
        return self.cluster.configs[name].this.address, 0

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve on all ports until the end of the block."""
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(self.node.running())
            EmbeddedStoreServer.create(self.place / "store")
            store = EmbeddedStoreServer(self.place / "store")
            await store.start()
            stack.push_async_callback(store.close)
            self.peers = Peers(MAIL1, {}, 0, self.credentials.client, self.node.daemon.reported)
            server = NodeServer(
                address=self.address,
                port=0,
                ssl_context=self.credentials.server,
                nodes=list(self.config.nodes),
                routes=[*self.peers.routes(), *store.routes()],
                admission=self.trust.admission("peer"),
            )
            await server.start()
            self._server = server
            stack.push_async_callback(server.stop)
            agent = Agent(self.config, self.cluster.ourselves(MAIL1), self.place / "state", self.cluster.host(MAIL1))
            drill = agent.server(self.runtime / DRILL_AGENT)
            assert agent._credentials is not None
            self.drill_credentials = agent._credentials
            await drill.start()
            stack.push_async_callback(drill.stop)
            self.ports = {"peer": server.port, "drill": drill.port, "rebuild": self._donor(stack)}
            yield

    def _donor(self, stack: contextlib.AsyncExitStack) -> int:
        """In a thread of its own, as in the process that it is."""
        credentials = credentials_of(self.config)
        Spool(self.runtime / DONOR, credentials.refusals, self.said.append, write_s=0.05)
        listener = socket.create_server((self.address, 0))
        donor = Donor(self.config, credentials, Programs(None))
        ended = threading.Event()

        def serve() -> None:
            with contextlib.suppress(_EndedError):
                donor.serve(_Until(listener, ended))  # type: ignore[arg-type]  # what it accepts is real
            listener.close()

        thread = threading.Thread(target=serve)
        thread.start()

        def end() -> None:
            ended.set()
            with contextlib.suppress(OSError), socket.create_connection(listener.getsockname(), timeout=1):
                pass
            thread.join()

        stack.callback(end)
        return int(listener.getsockname()[1])

    def of_former_credentials(self) -> list[object]:
        """The connections to the port for members that were made before the newest credentials."""
        assert self._server._server is not None
        connections = self._server._server._state.connections
        return [one for one in connections if one.context is not newest(self.credentials.server)]

    def store(self, name: NodeName) -> EmbeddedStore:
        """The store as a member reaches it."""
        return EmbeddedStore(f"https://{self.address}:{self.ports['peer']}", self.client(name), 2000, cluster="lab")

    async def asked(self, port: str, context: ssl.SSLContext | None, ask: bytes = b"", *, whence: str = "") -> bytes:
        """Ask on a port and return all that is answered; b"" where the connection is ended without."""
        local = (whence, 0) if whence else None
        try:
            reader, writer = await asyncio.open_connection(
                self.address, self.ports[port], ssl=context, local_addr=local
            )
        except OSError:
            return b""
        try:
            writer.write(ask or ASKS[port])
            async with asyncio.timeout(DEADLINE_S):
                # The donor answers in two pieces and closes; a kept connection of HTTP does not.
                return await reader.read(-1 if port == "rebuild" else 4096)
        except OSError:
            return b""
        finally:
            writer.transport.abort()

    async def told(self, code: str, port: str) -> str:
        """Wait until a refusal is in the audit, and return its text."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                await self.trust.look(files=False)
                for line in self.records():
                    if line.get("code") == code and line["detail"]["port"] == port:
                        return str(line["text"])
                await asyncio.sleep(0.02)

    def records(self) -> list[dict[str, dict[str, str]]]:
        """What the audit has of refusals."""
        lines = [json.loads(line) for line in self.node.audit.read_text().splitlines()]
        return [line for line in lines if line.get("kind") == "peer-refused"]

    def run(self, tell: Callable[[TrustStage], object]) -> None:
        """Serve, and beside it what `tell` does."""

        async def told() -> None:
            async with self.running():
                await tell(self)  # type: ignore[misc]  # a coroutine function

        asyncio.run(told())


class _EndedError(Exception):
    """The test is over."""


class _Until:
    """A listener that accepts until the test is over."""

    def __init__(self, listener: socket.socket, ended: threading.Event) -> None:
        self._listener, self._ended = listener, ended

    def accept(self) -> tuple[socket.socket, tuple[str, int]]:
        """As a socket does."""
        found = self._listener.accept()
        if self._ended.is_set():
            found[0].close()
            raise _EndedError
        return found
