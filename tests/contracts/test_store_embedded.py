"""The embedded store alone: killed while it writes, its file damaged, strangers at its door."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sqlite3
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import httpx
import psutil
import pytest
from starlette.applications import Starlette
from test_store import FULL, EmbeddedPlace, anchor, authority, embedded

from failoverd import wire
from failoverd.core.model import NodeName, Record
from failoverd.https import Link
from failoverd.ports import Store, StoreUnavailableError
from failoverd.stores.embedded import EmbeddedStore, EmbeddedStoreServer, _ImproperError
from failoverd.stores.embedded_file import StoreFileError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["authority", "embedded"]  # fixtures of the contract suite


async def swap_until_dead(store: Store, last: Record) -> Record:
    """Swap on and on; the last record that was answered."""
    while True:
        try:
            swapped, last = await store.compare_and_swap(last.version, replace(FULL, counter=last.version))
        except StoreUnavailableError:
            return last
        assert swapped


def test_killed_while_swapping_it_keeps_the_last_answered_swap(embedded: EmbeddedPlace) -> None:
    async def story() -> None:
        last = Record()
        for swaps in (3, 10, 25, 60):
            await embedded.start()
            store, watcher = embedded.client(), embedded.client()
            found = await store.read()
            assert found.counter in {last.counter, last.counter + 1}  # the one that was not answered may have happened
            assert found in {Record(), replace(FULL, version=found.version, counter=found.counter)}
            assert found.version > last.version or not last.version
            writing = asyncio.create_task(swap_until_dead(store, found))
            async for record in watcher.watch(found.version):
                if record.version >= found.version + swaps:
                    break  # it is in the middle of it now
            embedded.end(signal.SIGKILL)
            last = await writing
            await store.close()
            await watcher.close()

    asyncio.run(asyncio.wait_for(story(), 30))


def opened(path: Path) -> dict[str, Record]:
    """Open the file as a server does and close it again; what it holds."""

    async def opening() -> dict[str, Record]:
        server = EmbeddedStoreServer(path)
        try:
            await server.start()
            return dict(server._records or {})
        finally:
            await server.close()

    return asyncio.run(opening())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "store.sqlite3"
    EmbeddedStoreServer.create(path)
    return path


def altered(path: Path, statement: str) -> None:
    connection = sqlite3.connect(path)
    connection.execute(statement)
    connection.commit()
    connection.close()


def put(path: Path, record: Record, *, version: int) -> None:
    connection = sqlite3.connect(path)
    connection.execute("INSERT INTO record VALUES ('lab', ?, ?)", (version, wire.encode_record(record)))
    connection.commit()
    connection.close()


def test_a_created_store_is_one_file_and_empty(file: Path) -> None:
    assert [path.name for path in file.parent.iterdir()] == ["store.sqlite3"]
    assert opened(file) == {}


def test_creating_never_replaces(file: Path) -> None:
    put(file, FULL, version=0)
    with pytest.raises(StoreFileError, match="there is a store already"):
        EmbeddedStoreServer.create(file)
    assert opened(file) == {"lab": FULL}
    assert [path.name for path in file.parent.iterdir()] == ["store.sqlite3"]


def test_a_creation_that_was_interrupted_is_begun_again(tmp_path: Path) -> None:
    (tmp_path / "store.sqlite3.new").write_bytes(b"half")
    EmbeddedStoreServer.create(tmp_path / "store.sqlite3")
    assert opened(tmp_path / "store.sqlite3") == {}


def test_a_missing_file_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(StoreFileError, match="No such file or directory; only a new cluster starts without its store"):
        opened(tmp_path / "store.sqlite3")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"not a database", b"SQLite format 3\0" + bytes(200)])
def test_a_file_of_something_else_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "store.sqlite3"
    path.write_bytes(content)
    with pytest.raises(StoreFileError, match="not a store of failoverd, or damaged"):
        opened(path)
    assert path.read_bytes() == content


def test_a_newer_file_is_refused(file: Path) -> None:
    altered(file, "PRAGMA user_version=2")
    with pytest.raises(StoreFileError, match=r"written by a newer failoverd \(schema 2, this one knows 1\)"):
        opened(file)


def test_a_damaged_page_is_refused(file: Path) -> None:
    put(file, FULL, version=0)
    content = bytearray(file.read_bytes())
    content[4096:8192] = b"\xaa" * 4096
    file.write_bytes(content)
    with pytest.raises(StoreFileError, match=r"damaged|malformed"):
        opened(file)


def test_a_record_that_is_none_is_refused(file: Path) -> None:
    altered(file, "INSERT INTO record VALUES ('lab', 1, x'7b7d')")
    with pytest.raises(StoreFileError, match="record of lab: v: Field required"):
        opened(file)


def test_a_record_in_the_row_of_another_version_is_refused(file: Path) -> None:
    put(file, FULL, version=7)
    with pytest.raises(StoreFileError, match="record of lab: version 0 in row 7"):
        opened(file)


def test_two_servers_never_share_a_file(embedded: EmbeddedPlace) -> None:
    asyncio.run(embedded.start())
    with pytest.raises(StoreFileError, match=r"locked \(does another failoverd have it\?\)"):
        opened(embedded.file)


def fill_up(server: EmbeddedStoreServer) -> None:
    """As a full disk: nothing more can be added. And another record than is remembered, to see the file read again."""
    assert server._file is not None
    server._file._connection.execute("PRAGMA max_page_count=1")
    server._file._connection.execute("DELETE FROM record")


def test_a_swap_that_the_disk_refuses_is_unavailable_and_the_file_is_read_again(file: Path) -> None:
    async def story() -> None:
        server = EmbeddedStoreServer(file, entitled=False)
        await server.start()
        app = httpx.AsyncClient(
            transport=httpx.ASGITransport(Starlette(routes=server.routes())), base_url="http://store"
        )
        async with app:
            body = wire.encode_record(FULL)
            assert (await app.put("/store/v1/lab", content=body, headers={"if-match": '"0"'})).status_code == 200
            await server._in_worker(lambda: fill_up(server))
            big = wire.encode_record(replace(FULL, reason="x" * 60_000))
            answer = await app.put("/store/v1/lab", content=big, headers={"if-match": '"0"'})
            assert answer.status_code == 503
            assert "full" in answer.text
            # What the file says now, not what was remembered.
            assert wire.decode_record((await app.get("/store/v1/lab")).content) == Record()
        await server.close()

    asyncio.run(story())


def swapped(path: Path, *expected: int, first_version: int) -> list[int]:
    """A run of the server: the versions that swaps which expect these are answered with."""

    async def run() -> list[int]:
        server = EmbeddedStoreServer(path, first_version=first_version, entitled=False)
        await server.start()
        app = httpx.AsyncClient(
            transport=httpx.ASGITransport(Starlette(routes=server.routes())), base_url="http://store"
        )
        async with app:
            body, versions = wire.encode_record(FULL), []
            for version in expected:
                answer = await app.put("/store/v1/lab", content=body, headers={"if-match": f'"{version}"'})
                versions.append(wire.decode_record(answer.content).version)
        await server.close()
        return versions

    return asyncio.run(run())


def test_what_was_decided_on_one_copy_fits_no_other(file: Path) -> None:
    assert swapped(file, 0, 1, first_version=10) == [1, 2]
    copy = file.read_bytes()
    assert swapped(file, 2, first_version=1000) == [1000], "of an earlier run of the server"
    assert swapped(file, 1000, 2000, first_version=2000) == [2000, 2001]
    file.write_bytes(copy)
    for decided_on in (2, 1000, 2001):
        assert swapped(file, decided_on, first_version=3000) != [decided_on + 1]
    assert swapped(file, 4000, first_version=4000) == [4001]


def test_a_wall_clock_that_was_set_back_gives_no_version_again_while_the_file_stands(file: Path) -> None:
    assert swapped(file, 0, first_version=5000) == [1]
    assert swapped(file, 5000, first_version=5000) == [5001]
    assert swapped(file, 5002, first_version=30) == [5003]


@dataclass(frozen=True)
class Wrong:
    """A request that is none of the store's, and how it is refused."""

    method: str
    path: str
    tag: str
    content: bytes
    status: int
    said: str


@pytest.mark.parametrize(
    "wrong",
    [
        Wrong("PUT", "/store/v1/lab", "0", b"{}", 400, "If-Match"),
        Wrong("PUT", "/store/v1/lab", '"-1"', b"{}", 400, "If-Match"),
        Wrong("PUT", "/store/v1/lab", '"0"', b"{}", 400, "v: Field required"),
        Wrong("PUT", "/store/v1/lab", '"0"', b" " * 600_000, 413, ""),
        Wrong("GET", "/store/v1/lab?after=x", "", b"", 400, "whole numbers"),
        Wrong("GET", "/store/v1/lab?after=5", "", b"", 409, "version 0 here, 5 there: an old copy?"),
        Wrong("DELETE", "/store/v1/lab", "", b"", 405, ""),
        Wrong("GET", "/elsewhere", "", b"", 404, ""),
    ],
    ids=lambda wrong: f"{wrong.method} {wrong.path} {wrong.tag} {wrong.status}",
)
def test_a_request_that_is_none_is_refused(embedded: EmbeddedPlace, wrong: Wrong) -> None:
    async def story() -> None:
        await embedded.start()
        link = Link("127.0.0.1", embedded.port, embedded.ssl_context)
        tag = f"if-match: {wrong.tag}\r\n" if wrong.tag else ""
        answer = await link.request(wrong.method, wrong.path, deadline_ms=3000, body=wrong.content, headers=tag)
        assert answer.status == wrong.status
        assert wrong.said in answer.body.decode()
        link.close()

    asyncio.run(story())


def test_hundreds_of_unanswered_calls_leave_nothing_open(embedded: EmbeddedPlace) -> None:
    async def story() -> None:
        await embedded.start()
        await embedded.freeze()
        store = EmbeddedStore(f"https://127.0.0.1:{embedded.port}", embedded.ssl_context, 20, cluster="lab")
        for _ in range(10):
            answers = await asyncio.gather(*(store.read() for _ in range(20)), return_exceptions=True)
            assert all(isinstance(answer, StoreUnavailableError) for answer in answers)
        await asyncio.sleep(0)
        ours = psutil.Process().net_connections("tcp")
        assert [one for one in ours if one.raddr and one.raddr.port == embedded.port] == []
        assert len(asyncio.all_tasks()) == 1
        await store.close()

    asyncio.run(story())


def test_an_anchor_needs_its_node_s_certificate(embedded: EmbeddedPlace) -> None:
    async def story() -> None:
        await embedded.start()
        store = embedded.client()  # with the certificate of mail1
        with pytest.raises(StoreUnavailableError, match="403 an anchor of mail2 with the certificate of mail1"):
            await store.put_anchor(replace(anchor(1), by=NodeName("mail2")))
        assert await store.anchors() == ()
        await store.close()

    asyncio.run(asyncio.wait_for(story(), 30))


def test_a_file_of_the_version_before_takes_anchors_and_keeps_its_number(embedded: EmbeddedPlace) -> None:
    """The table comes with the first anchor, so that an older failoverd still opens the file."""

    async def story() -> None:
        await embedded.start()
        store = embedded.client()
        await store.compare_and_swap(0, FULL)
        await embedded.stop()
        assert tables(embedded.file) == {"record"}
        await embedded.start()
        await store.put_anchor(anchor(1))
        await embedded.stop()
        assert tables(embedded.file) == {"record", "anchor"}
        with contextlib.closing(sqlite3.connect(embedded.file)) as connection:
            assert connection.execute("PRAGMA user_version").fetchone() == (1,)
        await store.close()

    asyncio.run(asyncio.wait_for(story(), 30))


def tables(file: Path) -> set[str]:
    with contextlib.closing(sqlite3.connect(file)) as connection:
        return {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}


PLACE = Record(moves=1, moved_to="there", sealed=True, reason="a cluster's digest")
LEFT = replace(FULL, version=7, moves=1, moved_to="there", sealed=True)
COMES = replace(FULL, version=900, moves=1, moved_to="there")
ASKER = NodeName("arbiter")


def test_a_place_is_reserved_where_a_record_is_awaited_and_none_counts(tmp_path: Path) -> None:
    awaiting = EmbeddedStoreServer(tmp_path / "store.sqlite3", awaits=True)
    later = replace(PLACE, moves=2, moved_to="back")
    assert awaiting._swapped(ASKER, 0, PLACE, Record()) == replace(PLACE, version=1)
    assert awaiting._swapped(ASKER, 7, later, LEFT) == replace(later, version=8), "though its term is none"
    assert awaiting._swapped(ASKER, 6, later, LEFT) is None
    for standing in (LEFT, replace(COMES, version=7), replace(PLACE, version=7)):
        with pytest.raises(_ImproperError):
            awaiting._swapped(ASKER, 7, PLACE, standing)
    with pytest.raises(_ImproperError, match="goes from move 0 to 1"):
        EmbeddedStoreServer(tmp_path / "store.sqlite3")._swapped(ASKER, 0, PLACE, Record())


def test_a_record_comes_where_it_is_awaited_and_its_place_stands(tmp_path: Path) -> None:
    awaiting = EmbeddedStoreServer(tmp_path / "store.sqlite3", awaits=True)
    standing = replace(PLACE, version=8)
    assert awaiting._adopted(ASKER, 8, COMES, standing) == COMES
    assert awaiting._adopted(ASKER, 7, COMES, standing) is None
    for other in (replace(COMES, version=8), replace(LEFT, version=8), replace(standing, moved_to="elsewhere")):
        assert awaiting._adopted(ASKER, 8, COMES, other) is None
    with pytest.raises(_ImproperError, match="none is awaited"):
        EmbeddedStoreServer(tmp_path / "store.sqlite3")._adopted(ASKER, 8, COMES, standing)
