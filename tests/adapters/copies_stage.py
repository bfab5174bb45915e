"""Nodes with nothing but an audit and copies: a real file, a real HTTPS server each on an address of its own."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from failoverd.audit.copies import Copies
from failoverd.audit.file import AuditFile
from failoverd.audit.outgoing import Outgoing
from failoverd.audit.reading import NAME
from failoverd.core.model import Node, NodeKind, NodeName
from failoverd.runtime.clock import BootClock
from failoverd.runtime.copies_kept import CopiesKept
from failoverd.runtime.copying import Copying
from failoverd.runtime.executor import Worker
from failoverd.runtime.node_server import NodeServer
from failoverd.tls import client_context, server_context

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path

    from node_certificates import Authority

CLUSTER = "lab"
ADDRESSES = {
    NodeName("mail1"): "127.0.0.1",
    NodeName("mail2"): "127.0.0.2",
    NodeName("mail3"): "127.0.0.3",
    NodeName("arbiter"): "127.0.0.4",
}
NODES = {name: Node(name, NodeKind.DATA, address) for name, address in ADDRESSES.items()}
FREE_LEAST = 1 << 20


class Member:
    """One node. Made again in the same `place`, it is the node after a restart."""

    def __init__(self, authority: Authority, place: Path, name: str) -> None:
        self.name = NodeName(name)
        self.directory = place / name / "audit"
        self.noted: list[tuple[str, str]] = []
        self._files = authority.node(name, ADDRESSES[self.name])
        self.outgoing = Outgoing(self.directory)
        self.audit = AuditFile(self.directory / NAME, name, BootClock(), told=self.outgoing.noted, cluster=CLUSTER)
        self.outgoing.begin(self.audit.head)
        self.copies = Copies(
            self.directory / "copies", [other for other in ADDRESSES if other != name], free_least=FREE_LEAST
        )
        self.port = 0
        self.server: NodeServer | None = None

    def wire(self, port: int) -> None:
        """What needs the port of all."""
        files, self.port = self._files, port
        self.copying = Copying(
            own=self.name,
            nodes=NODES,
            port=port,
            ssl_context=client_context(ca=files.ca, certificate=files.certificate, key=files.key),
            outgoing=self.outgoing,
        )
        self.outgoing.told = self.copying.wake
        self.kept = CopiesKept(
            self.name, self.copies, self.outgoing, self.copying, worker=Worker("copies"), note=self._note
        )

    def _note(self, kind: str, text: str, _code: str, _detail: Mapping[str, str]) -> None:
        self.noted.append((kind, text))

    async def listen(self, port: int) -> None:
        """Serve what it keeps, and its own record."""
        self.wire(port)
        files = self._files
        self.server = NodeServer(
            address=ADDRESSES[self.name],
            port=port,
            ssl_context=server_context(ca=files.ca, certificate=files.certificate, key=files.key),
            nodes=set(ADDRESSES),
            routes=self.kept.routes(),
        )
        await self.server.start()

    async def close(self) -> None:
        """End it; its files stay."""
        await self.copying.stop()
        if self.server is not None:
            await self.server.stop()
        self.audit.close()

    def write(self, count: int = 1, text: str = "step", size: int = 0) -> None:
        """Append records, as the audit's thread does."""
        self.audit.append([{"term": 1, "kind": "step", "text": f"{text} {n}{' ' * size}"} for n in range(count)])

    def own(self) -> bytes:
        """Its record, as it is on disk."""
        return (self.directory / NAME).read_bytes()

    def copy(self, origin: str, version: int = 1) -> bytes:
        """What it has of another node's record."""
        path = self.directory / "copies" / origin / str(version) / NAME
        return path.read_bytes() if path.exists() else b""


async def until(true: Callable[[], bool]) -> None:
    """Wait for it, ten seconds at most."""
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110 - files and counters, no event tells of them
            await asyncio.sleep(0.005)


@asynccontextmanager
async def members(authority: Authority, place: Path, *names: str) -> AsyncIterator[list[Member]]:
    """Run these nodes, all on one port; the first sends, once it is told to start."""
    there = [Member(authority, place, name) for name in names]
    port = _free_port()
    for member in there:
        await member.listen(port)
    try:
        yield there
    finally:
        for member in there:
            await member.close()


def _free_port() -> int:
    with socket.create_server((ADDRESSES[NodeName("mail1")], 0)) as listener:
        return int(listener.getsockname()[1])
