"""Random bytes at every port that failoverd opens: it goes on answering, nothing is left, and the log has no error.

`tests/fuzz/ports ADDRESS:PORT` throws as many as one likes at a server that is one's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import random
import socket
import ssl
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import control_stage
import public_stage
import pytest
import throw
import views as stories
from drill_agent_stage import Cluster
from node_certificates import Authority
from trust_stage import TrustStage

from failoverd import wire
from failoverd.core.model import NodeName
from failoverd.https import Link
from failoverd.rebuild import donor
from failoverd.runtime.node_server import NodeServer
from failoverd.runtime.peers import PATH, Peers
from failoverd.stores.embedded import EmbeddedStoreServer
from failoverd.tls import client_context, server_context

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from node_certificates import Files

BYTES = 400_000  # a port
GROWTH = 48 << 20  # of memory, for all that is kept of as many bytes
MAIL1, MAIL2 = NodeName("mail1"), NodeName("mail2")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Nothing that is thrown is an error of the server's."""
    caplog.set_level(logging.WARNING)
    yield
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert not errors, [f"{record.name}: {record.getMessage()}\n{record.exc_text}" for record in errors]


def rss() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def bombarded(where: str, ok: Callable[[], Awaitable[Any]], context: Any = None) -> throw.Thrown:
    """Throw, while the server is asked all the time, and ask once more at the end."""
    await ok()
    await asyncio.to_thread(throw.throw, throw.to(where, context), BYTES // 10, 1)  # what is loaded once
    gc.collect()
    before = rss()
    throwing = asyncio.create_task(asyncio.to_thread(throw.throw, throw.to(where, context), BYTES, 2))
    while not throwing.done():
        await ok()
        await asyncio.sleep(0.05)
    await ok()
    gc.collect()
    assert rss() - before < GROWTH
    thrown = throwing.result()
    assert thrown.bytes >= BYTES
    return thrown


def client(files: Files) -> Any:
    return client_context(ca=files.ca, certificate=files.certificate, key=files.key)


@contextlib.asynccontextmanager
async def node(authority: Authority, tmp_path: Path) -> AsyncIterator[tuple[int, Callable[[], Awaitable[None]]]]:
    """Mail1's HTTPS server with a store; and one look at it by mail2."""
    own, other = authority.node("mail1"), authority.node("mail2")
    path = tmp_path / "store.sqlite3"
    EmbeddedStoreServer.create(path)
    store = EmbeddedStoreServer(path)
    await store.start()
    heard: list[object] = []
    peers = Peers(MAIL1, {}, 0, client(own), heard.append)
    server = NodeServer(
        address="127.0.0.1", port=0, ssl_context=server_context(ca=own.ca, certificate=own.certificate, key=own.key),
        nodes={"mail1", "mail2"}, routes=[*peers.routes(), *store.routes()],
    )  # fmt: skip
    await server.start()
    link = Link("127.0.0.1", server.port, client(other))
    report = wire.encode_report(next(r for r in stories.view("mail1").reports if r.sender == MAIL2))

    async def ok() -> None:
        told = await link.request("POST", PATH, deadline_ms=5000, body=report)
        assert told.status == 204
        assert (await link.request("GET", "/store/v1/lab", deadline_ms=5000)).status == 200

    try:
        yield server.port, ok
    finally:
        link.close()
        await server.stop()
        await store.close()


def test_at_the_node_s_server(authority: Authority, tmp_path: Path) -> None:
    async def story() -> None:
        async with node(authority, tmp_path) as (port, ok):
            await bombarded(f"127.0.0.1:{port}", ok)

    asyncio.run(story())


def test_at_the_node_s_server_by_a_member(authority: Authority, tmp_path: Path) -> None:
    async def story() -> None:
        async with node(authority, tmp_path) as (port, ok):
            await bombarded(f"127.0.0.1:{port}", ok, client(authority.node("mail2")))

    asyncio.run(story())


def test_at_the_public_listener(config_file: Path) -> None:
    stage = public_stage.Stage(config_file, stories.view("mail2"))

    async def story() -> None:
        async with stage.running() as asking:

            async def ok() -> None:
                # One of many from this address: what throws must not keep the others out for longer than it throws.
                for _ in range(100):
                    with contextlib.suppress(public_stage.httpx.HTTPError):
                        if (await asking.get("/v1/status")).status_code == 200:
                            return
                raise AssertionError("it answers nobody any more")

            await bombarded(stage.url.removeprefix("http://"), ok)

    asyncio.run(story())


@pytest.mark.parametrize("target", [b"/?\x8e", b"/runbooks?\x8e", b"/\xff"])
def test_a_target_that_is_no_text_is_refused(config_file: Path, target: bytes) -> None:
    stage = public_stage.Stage(config_file, stories.view("mail2"))

    async def story() -> None:
        async with stage.running():
            address, _, port = stage.url.removeprefix("http://").rpartition(":")
            reader, writer = await asyncio.open_connection(address, int(port))
            writer.write(b"GET " + target + b" HTTP/1.1\r\nhost: localhost\r\n\r\n")
            assert b" 400 " in await reader.readline()
            writer.close()

    asyncio.run(story())


def test_at_the_control_socket(tmp_path: Path) -> None:
    stage = control_stage.Stage()
    with control_stage.Running(tmp_path / "control.sock", stage):

        async def ok() -> None:
            reader, writer = await asyncio.open_unix_connection(tmp_path / "control.sock")
            writer.write(b"GET /v1/version HTTP/1.0\r\n\r\n")
            assert b" 200 OK" in (await reader.read())[:20]
            writer.close()

        asyncio.run(bombarded(str(tmp_path / "control.sock"), ok))
    assert stage.asked == [], "nothing was asked of the daemon"


def test_at_a_donor(config_file: Path, tmp_path: Path) -> None:
    """Whoever throws has places of its own there: a member is answered meanwhile."""
    stage = TrustStage(config_file, tmp_path)

    async def story(stage: TrustStage) -> None:
        async def ok() -> None:
            told = await stage.asked("rebuild", stage.client(MAIL2), whence=stage.local(MAIL2)[0])
            assert b"REBUILD_DONOR_UNFIT" in told, "there is no database here"

        where = f"{stage.address}:{stage.ports['rebuild']}"
        await bombarded(where, ok)
        await bombarded(where, ok, stage.client(NodeName("mail3")))

    stage.run(story)


def test_at_a_donor_that_gets_no_processor() -> None:
    """Whoever is to be turned away, once it runs again, does not keep others from connecting until then."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(donor.listening("127.0.0.1", 0))
        for _ in range(4 * donor.CONNECTIONS):
            stack.enter_context(socket.create_connection(listener.getsockname(), timeout=1))


def test_at_a_drill_agent(config_file: Path, tmp_path: Path) -> None:
    cluster = Cluster(config_file, tmp_path)

    async def story() -> None:
        config = cluster.configs["mail1"]
        other = cluster.configs["mail2"].peer
        context = client_context(ca=other.ca, certificate=other.certificate, key=other.key)
        async with cluster.agents("mail1"):
            link = Link(config.this.address, config.drill.port, context)

            async def ok() -> None:
                assert (await link.request("DELETE", "/v1/lock/none", deadline_ms=5000)).status == 204

            try:
                await bombarded(f"{config.this.address}:{config.drill.port}", ok)
                await bombarded(f"{config.this.address}:{config.drill.port}", ok, context)
            finally:
                link.close()

    asyncio.run(story())


def test_where_nothing_can_be_said_it_gives_up(tmp_path: Path) -> None:
    """Where nobody listens, and where whoever listens ends each handshake: a run that cannot go on says why."""
    with pytest.raises(ConnectionError, match="No such file"):
        throw.throw(throw.to(str(tmp_path / "none")), 1, stuck_s=0.1)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def end_each() -> None:
            with contextlib.suppress(OSError):
                while True:
                    listener.accept()[0].close()

        ending = threading.Thread(target=end_each)
        ending.start()
        where = f"127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(ConnectionError, match="nobody listens any more: "):
            throw.throw(throw.to(where, ssl.create_default_context()), 1, stuck_s=0.1)
        listener.shutdown(socket.SHUT_RDWR)
        ending.join()


def test_what_is_thrown_is_of_many_kinds() -> None:
    made = throw.pieces(random.Random(5))  # noqa: S311 - inputs, not keys
    some = [next(made) for _ in range(300)]
    assert sum(piece.startswith(b"\x16\x03") for piece in some) > 30, "TLS"
    assert sum(b"HTTP/" in piece for piece in some) > 30, "HTTP"
    assert len(set(some)) > 250
