"""Reports over real HTTPS on loopback: who may say what, and that a dead peer is nobody else's trouble."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import psutil
import pytest
from node_certificates import Authority, Files

from failoverd import wire
from failoverd.core.model import Claim, Health, Node, NodeKind, NodeName, Report, Role
from failoverd.https import Answer, Link, LinkError
from failoverd.runtime import peers as module
from failoverd.runtime.node_server import NodeServer
from failoverd.runtime.peers import PATH, Peers
from failoverd.tls import client_context, server_context

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

MAIL1, MAIL2, MAIL3 = NodeName("mail1"), NodeName("mail2"), NodeName("mail3")
ADDRESSES = {MAIL1: "127.0.0.1", MAIL2: "127.0.0.2", MAIL3: "127.0.0.3"}
REPORT = Report(
    sender=MAIL1,
    process="p",
    number=1,
    heard=(),
    membership="m",
    software="0",
    term=1,
    version=2,
    lease_over=False,
    role=Role.PRIMARY,
    serving=True,
    ready=True,
    steady=True,
    frozen_term=None,
    caught_up=True,
    database=None,
    claims=(Claim("imap", MAIL2, Health.OK, 0),),
)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("other-tls"), "other")


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """Yield a listener at mail3's address that accepts (its kernel does) and never answers."""
    with socket.create_server((ADDRESSES[MAIL3], 0)) as listener:
        yield listener


def client(files: Files, *, ca: Files | None = None) -> ssl.SSLContext:
    return client_context(ca=(ca or files).ca, certificate=files.certificate, key=files.key)


def run(story: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(story(), 20))


class Inbox:
    """Reports as they arrive at one node."""

    def __init__(self) -> None:
        self.reports: list[Report] = []
        self._arrived = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()

    def take(self, report: Report) -> None:
        """Be `deliver`."""
        self.reports.append(report)
        task = asyncio.get_running_loop().create_task(self._tell())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _tell(self) -> None:
        async with self._arrived:
            self._arrived.notify_all()

    async def until(self, number: int) -> None:
        """Wait for the report of that number."""
        async with self._arrived:
            await self._arrived.wait_for(lambda: any(report.number == number for report in self.reports))


@asynccontextmanager
async def serving(
    authority: Authority, name: NodeName, inbox: Inbox, *, port: int = 0, files: Files | None = None
) -> AsyncIterator[int]:
    """Run node `name`'s server; yields its port."""
    files = files or authority.node(name, ADDRESSES[name])
    node = Peers(name, {}, 0, client(files), inbox.take)
    server = NodeServer(
        address=ADDRESSES[name],
        port=port,
        ssl_context=server_context(ca=files.ca, certificate=files.certificate, key=files.key),
        nodes=set(ADDRESSES),
        routes=node.routes(),
    )
    await server.start()
    try:
        yield server.port
    finally:
        await server.stop()


def peers_of(authority: Authority, names: tuple[NodeName, ...], port: int) -> Peers:
    nodes = {name: Node(name, NodeKind.DATA, ADDRESSES[name]) for name in (MAIL1, *names)}
    return Peers(MAIL1, nodes, port, client(authority.node(MAIL1)), lambda _: None)


async def post(context: ssl.SSLContext, port: int, body: bytes, name: NodeName = MAIL2) -> Answer:
    link = Link(ADDRESSES[name], port, context)
    try:
        return await link.request("POST", PATH, deadline_ms=3000, body=body)
    finally:
        link.close()


def sockets_to(port: int) -> list[object]:
    return [one for one in psutil.Process().net_connections("tcp") if one.raddr and one.raddr.port == port]


def test_a_pushed_report_arrives_whole(authority: Authority) -> None:
    async def story() -> None:
        inbox = Inbox()
        async with serving(authority, MAIL2, inbox) as port:
            peers = peers_of(authority, (MAIL2,), port)
            assert peers.errors() == {MAIL2: "nothing was sent yet"}
            peers.push(REPORT)
            await inbox.until(1)
            assert inbox.reports == [REPORT]
            peers.push(replace(REPORT, number=2))
            await inbox.until(2)
            assert peers.errors() == {MAIL2: ""}
            assert len(sockets_to(port)) == 1  # the same connection
            await peers.close()

    run(story)


def test_an_answer_does_not_wait_for_an_acknowledgement(authority: Authority) -> None:
    """Head and body are two writes; without TCP_NODELAY the second waits 40 ms for the client's delayed ACK."""

    async def story() -> None:
        files = authority.node(MAIL2, ADDRESSES[MAIL2])
        context = server_context(ca=files.ca, certificate=files.certificate, key=files.key)
        server = NodeServer(address=ADDRESSES[MAIL2], port=0, ssl_context=context, nodes={MAIL1}, routes=[])
        await server.start()
        link = Link(ADDRESSES[MAIL2], server.port, client(authority.node(MAIL1)))
        assert (await link.request("GET", "/", deadline_ms=3000)).status == 404
        assert server._server is not None
        (connection,) = server._server._state.connections
        accepted = connection.transport.get_extra_info("socket")
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        link.close()
        await server.stop()

    run(story)


def test_only_the_newest_waits(authority: Authority) -> None:
    async def story() -> None:
        inbox = Inbox()
        async with serving(authority, MAIL2, inbox) as port:
            peers = peers_of(authority, (MAIL2,), port)
            for number in range(1, 101):
                peers.push(replace(REPORT, number=number))
                if number == 50:
                    await inbox.until(50)
            await inbox.until(100)
            assert [report.number for report in inbox.reports] == [50, 100]
            await peers.close()

    run(story)


def test_a_silent_peer_delays_nobody_and_leaves_nothing(
    authority: Authority, silent: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "DEADLINE_MS", 50)
    port = silent.getsockname()[1]

    async def story() -> None:
        inbox, before = Inbox(), asyncio.all_tasks()
        async with serving(authority, MAIL2, inbox, port=port):
            peers = peers_of(authority, (MAIL2, MAIL3), port)
            loop = asyncio.get_running_loop()
            for number in range(1, 30):
                began = loop.time()
                peers.push(replace(REPORT, number=number))
                await inbox.until(number)
                assert loop.time() - began < 0.5
                await asyncio.sleep(0.02)  # the pace of pushes, not a wait for anything
                assert len(sockets_to(port)) <= 3  # mail2's, mail3's, and mail3's last, ended but not yet closed
            assert peers.errors() == {MAIL2: "", MAIL3: "no answer within 50 ms"}
            await peers.close()
            await asyncio.sleep(0)
            assert sockets_to(port) == []
        assert asyncio.all_tasks() == before

    run(story)


def test_a_peer_that_comes_back_is_served_again(authority: Authority) -> None:
    async def story() -> None:
        inbox = Inbox()
        async with serving(authority, MAIL2, inbox) as port:
            peers = peers_of(authority, (MAIL2,), port)
            peers.push(REPORT)
            await inbox.until(1)
        peers.push(replace(REPORT, number=2))
        while "ConnectionRefusedError" not in peers.errors()[MAIL2]:
            await asyncio.sleep(0)
            peers.push(replace(REPORT, number=2))
        async with serving(authority, MAIL2, inbox, port=port):
            peers.push(replace(REPORT, number=3))
            await inbox.until(3)
            await peers.close()

    run(story)


def test_a_report_needs_its_senders_certificate(authority: Authority) -> None:
    async def story() -> None:
        inbox = Inbox()
        async with serving(authority, MAIL2, inbox) as port:
            answer = await post(client(authority.node(MAIL3)), port, wire.encode_report(REPORT))
            assert answer == Answer(403, b"a report of mail1 with the certificate of mail3")
            own = replace(REPORT, sender=MAIL2)
            assert (await post(client(authority.node(MAIL2)), port, wire.encode_report(own))).status == 403
            assert inbox.reports == []

    run(story)


def test_what_is_no_report_is_refused_with_the_place(authority: Authority) -> None:
    async def story() -> None:
        inbox = Inbox()
        async with serving(authority, MAIL2, inbox) as port:
            message = json.loads(wire.encode_report(REPORT))
            message["report"]["number"] = "1"
            answer = await post(client(authority.node(MAIL1)), port, json.dumps(message).encode())
            assert answer == Answer(400, b"report.number: Input should be a valid integer (got '1')")
            assert (await post(client(authority.node(MAIL1)), port, b"x" * 600_000)).status == 413
            assert inbox.reports == []

    run(story)


def test_a_certificate_of_no_configured_node_is_refused(authority: Authority) -> None:
    async def story() -> None:
        async with serving(authority, MAIL2, Inbox()) as port:
            answer = await post(client(authority.node("mail9")), port, wire.encode_report(REPORT))
            assert answer == Answer(403, b"the certificate names 'mail9', which is no configured node")

    run(story)


def test_a_client_without_a_good_certificate_gets_no_answer(authority: Authority, stranger: Authority) -> None:
    async def story() -> None:
        own, none = authority.node(MAIL1), ssl.create_default_context(cafile=str(authority.node(MAIL1).ca))
        expired = authority.node("expired", days=-1)
        async with serving(authority, MAIL2, Inbox()) as port:
            for context in (none, client(stranger.node(MAIL1), ca=own), client(expired)):
                with pytest.raises(LinkError):
                    await post(context, port, wire.encode_report(REPORT))
            old = client(own)
            old.minimum_version = ssl.TLSVersion.TLSv1_2
            old.maximum_version = ssl.TLSVersion.TLSv1_2
            with pytest.raises(LinkError, match="ConnectionResetError"):
                await post(old, port, wire.encode_report(REPORT))

    run(story)


@pytest.mark.parametrize("address", ["127.0.0.9", "127.0.0.2"])
def test_a_server_must_be_who_was_dialled(authority: Authority, stranger: Authority, address: str) -> None:
    """A server with another node's certificate, or one of another CA, gets no report."""
    files = authority.node("elsewhere", address) if address == "127.0.0.9" else stranger.node(MAIL2, address)

    async def story() -> None:
        inbox = Inbox()
        async with serving(authority, MAIL2, inbox, files=files) as port:
            with pytest.raises(LinkError, match="certificate verify failed"):
                await post(client(authority.node(MAIL1)), port, wire.encode_report(REPORT))
            assert inbox.reports == []

    run(story)


def test_who_connects_and_says_nothing_is_shown_out(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("failoverd.runtime.http.REQUEST_S", 0.05)

    async def story() -> None:
        async with serving(authority, MAIL2, Inbox()) as port:
            for said in (b"", b"POST /peer/v1/report HTTP/1.1\r\ncontent-length: 100\r\n\r\nhalf"):
                reader, writer = await asyncio.open_connection(
                    ADDRESSES[MAIL2], port, ssl=client(authority.node(MAIL1)), server_hostname=ADDRESSES[MAIL2]
                )
                writer.write(said)
                with contextlib.suppress(ConnectionError):  # a reset is as good an end
                    assert await reader.read() == b""
                writer.transport.abort()

    run(story)
