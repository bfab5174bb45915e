"""What every store must do, whatever is behind it: run against all of the registry, servers and network for real."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest
from etcd_members import Members
from node_certificates import Authority, Files

from failoverd.core.anchor import Anchor, Head, Moment
from failoverd.core.gtid import GtidSet
from failoverd.core.model import Floor, NodeName, Record, Request
from failoverd.ports import ANCHORS_KEPT, Store, StoreUnavailableError
from failoverd.stores import STORES, Access
from failoverd.stores.etcd_link import Endpoints
from failoverd.stores.memory import MemoryStore
from failoverd.tls import client_context, store_context

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

MAIL1 = NodeName("mail1")
TIMEOUT_MS = 1500  # of a client that shall find out that nobody answers
PATIENT_MS = 5000  # of all others
SLACK_S = 1.0  # what a busy machine may add to a deadline
FULL = Record(
    term=3,
    holder=NodeName("mail1"),
    counter=9,
    ttl_ms=3000,
    revoked=True,
    successor=NodeName("mail2"),
    began=GtidSet.upto({"0": 500}),
    position=GtidSet.upto({"0": 512}),
    previous=NodeName("mail3"),
    reason="operator-switchover",
    request=Request("r1", NodeName("mail2"), "root", "why not"),
    unproven="commits wait for no replica",
    marks=2,
    bound_ms=30_000,
    floor=Floor(4711, GtidSet.upto({"0": 505})),
    bounded=2,
)


class Place(Protocol):
    """A store somewhere, with its switches."""

    def client(self, timeout_ms: int = PATIENT_MS) -> Store:
        """Return a new client."""
        ...

    async def stop(self) -> None:
        """End the store; what it has kept stays."""
        ...

    async def freeze(self) -> None:
        """From now on it accepts and never answers."""
        ...

    async def start(self) -> None:
        """Start it, again where it was."""
        ...


class MemoryPlace(Place):
    """A cell in this process: frozen and stopped are the same to its clients."""

    def __init__(self) -> None:
        self._first = MemoryStore()
        self._clients: list[MemoryStore] = []

    def client(self, timeout_ms: int = PATIENT_MS) -> Store:  # noqa: ARG002, D102 - see Place; it never waits
        self._clients.append(self._first.client())
        return self._clients[-1]

    async def stop(self) -> None:  # noqa: D102 - see Place
        for client in self._clients:
            await client.set_reachable(reachable=False)

    async def freeze(self) -> None:  # noqa: D102 - see Place
        await self.stop()

    async def start(self) -> None:  # noqa: D102 - see Place
        for client in self._clients:
            await client.set_reachable(reachable=True)


class EmbeddedPlace(Place):
    """A process that serves the file over HTTPS."""

    def __init__(self, file: Path, server: Files, client: Files) -> None:
        self.file = file
        self._server = server
        self.ssl_context = client_context(ca=client.ca, certificate=client.certificate, key=client.key)
        self.port = 0
        self._process: subprocess.Popen[str] | None = None

    def client(self, timeout_ms: int = PATIENT_MS) -> Store:  # noqa: D102 - see Place
        url = f"https://127.0.0.1:{self.port}"
        return STORES["embedded"](Access("lab", timeout_ms, base_url=url, ssl_context=self.ssl_context))

    async def start(self) -> None:  # noqa: D102 - see Place
        await asyncio.to_thread(self._start)

    async def freeze(self) -> None:  # noqa: D102 - see Place
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        await asyncio.to_thread(os.waitid, os.P_PID, self._process.pid, os.WSTOPPED)  # one thread may be late to hear

    async def stop(self) -> None:  # noqa: D102 - see Place
        self.end(signal.SIGTERM)

    def _start(self) -> None:
        files = (self._server.ca, self._server.certificate, self._server.key)
        self._process = subprocess.Popen(
            [sys.executable, Path(__file__).parent / "store_process.py", self.file, str(self.port), *files],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the store did not start"
        self.port = int(line)

    def end(self, how: signal.Signals) -> None:
        """End the process by a signal, frozen or not."""
        if self._process is not None:
            assert self._process.stdout is not None
            self._process.send_signal(how)
            self._process.wait(10)
            self._process.stdout.close()
            self._process = None


class EtcdPlace(Place):
    """A real etcd with authentication on, of one member: what several are for is test_store_etcd's matter."""

    def __init__(self, members: Members) -> None:
        self.members = members
        self._ready = False
        self.ssl_context = store_context(
            ca=members.client.ca, certificate=members.client.certificate, key=members.client.key
        )

    def client(self, timeout_ms: int = PATIENT_MS, cluster: str = "lab") -> Store:  # noqa: D102 - see Place
        endpoints = Endpoints(self.members.urls, self.ssl_context, "lab", "lab-password")
        return STORES["etcd"](Access(cluster, timeout_ms, endpoints=endpoints, prefix="/failoverd/"))

    async def start(self) -> None:  # noqa: D102 - see Place
        await asyncio.to_thread(self._start)

    def _start(self) -> None:
        self.members.start()
        if not self._ready:
            self.members.add_role("lab", "lab-password", "/failoverd/lab/")
            self.members.enable_auth("root-password")
            self._ready = True

    async def freeze(self) -> None:  # noqa: D102 - see Place
        for member in self.members.members:
            await asyncio.to_thread(self.members.freeze, member)

    async def stop(self) -> None:  # noqa: D102 - see Place
        for member in self.members.members:
            await asyncio.to_thread(self.members.stop, member)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def embedded(tmp_path: Path, authority: Authority) -> AsyncIterator[EmbeddedPlace]:
    place = EmbeddedPlace(tmp_path / "store.sqlite3", authority.node("arbiter"), authority.node("mail1"))
    yield place
    place.end(signal.SIGKILL)


@pytest.fixture
def etcd(tmp_path: Path, authority: Authority) -> Iterator[EtcdPlace]:
    """Newer than Debian's: it comes with the development dependencies."""
    members = Members(tmp_path / "etcd", authority, version="3.5")
    yield EtcdPlace(members)
    members.close()


@pytest.fixture
def debians_etcd(tmp_path: Path, authority: Authority) -> Iterator[EtcdPlace]:
    members = Members(tmp_path / "etcd", authority, version="3.4")
    yield EtcdPlace(members)
    members.close()


PLACES = {"embedded": "embedded", "etcd": "etcd", "memory": None}
PARAMETERS = [*PLACES, pytest.param("debians_etcd", marks=pytest.mark.root)]  # Debian's is installed for root's tests


def test_every_store_of_the_registry_has_its_place() -> None:
    assert set(PLACES) == set(STORES)


@pytest.fixture(params=PARAMETERS)
def place(request: pytest.FixtureRequest) -> Place:
    return MemoryPlace() if request.param == "memory" else request.getfixturevalue(request.param)


def run(place: Place, story: Callable[[Store, Store], Awaitable[None]], timeout_ms: int = PATIENT_MS) -> None:
    """Start the store, tell the story with two clients of it, close them."""

    async def telling() -> None:
        await place.start()
        stores = place.client(timeout_ms), place.client(timeout_ms)
        try:
            async with asyncio.timeout(20):
                await story(*stores)
        finally:
            for store in stores:
                await store.close()

    asyncio.run(telling())


def test_a_new_cluster_has_no_record(place: Place) -> None:
    async def story(one: Store, _: Store) -> None:
        assert await one.read() == Record()

    run(place, story)


def test_what_was_swapped_is_what_everyone_reads(place: Place) -> None:
    async def story(one: Store, other: Store) -> None:
        first = await one.compare_and_swap(0, FULL)
        assert first == (True, replace(FULL, version=1))
        assert await other.read() == first[1]
        second = await other.compare_and_swap(1, replace(first[1], counter=10))
        assert second == (True, replace(FULL, version=2, counter=10))
        assert await one.read() == second[1]

    run(place, story)


@pytest.mark.parametrize("expected", [0, 2, 7])
def test_a_swap_of_another_version_changes_nothing(place: Place, expected: int) -> None:
    async def story(one: Store, other: Store) -> None:
        stored = (await one.compare_and_swap(0, FULL))[1]
        assert await other.compare_and_swap(expected, Record(term=99)) == (False, stored)
        assert await one.read() == stored

    run(place, story)


def test_the_first_record_needs_version_0(place: Place) -> None:
    async def story(one: Store, _: Store) -> None:
        assert await one.compare_and_swap(1, FULL) == (False, Record())
        assert await one.read() == Record()

    run(place, story)


THERE = Record(moves=1, moved_to="there", sealed=True, reason="a cluster's digest")
COMES = replace(FULL, version=900, moves=1, moved_to="there")


def test_a_place_adopts_the_record_it_is_for_and_its_version(place: Place) -> None:
    async def story(one: Store, other: Store) -> None:
        there = (await one.compare_and_swap(0, THERE))[1]
        assert await other.read() == there
        assert await other.adopt(there, COMES) == (True, COMES)
        assert await one.read() == COMES
        assert await one.compare_and_swap(900, COMES) == (True, replace(COMES, version=901))

    run(place, story)


def test_a_version_does_not_go_back_where_a_record_is_adopted(place: Place) -> None:
    async def story(one: Store, _: Store) -> None:
        there = (await one.compare_and_swap(0, THERE))[1]
        assert await one.adopt(there, replace(COMES, version=0)) == (True, replace(COMES, version=there.version + 1))

    run(place, story)


def test_of_records_adopted_at_once_one_comes(place: Place) -> None:
    async def story(one: Store, other: Store) -> None:
        there = (await one.compare_and_swap(0, THERE))[1]
        rivals = [replace(COMES, counter=number) for number in range(8)]
        answers = await asyncio.gather(*(store.adopt(there, rival) for store in (one, other) for rival in rivals))
        (won,) = [record for came, record in answers if came]
        assert all(record == won for _, record in answers)
        assert await one.read() == won

    run(place, story)


def test_nothing_is_adopted_where_its_place_does_not_stand_any_more(place: Place) -> None:
    async def story(one: Store, other: Store) -> None:
        there = (await one.compare_and_swap(0, THERE))[1]
        later = (await other.compare_and_swap(there.version, replace(THERE, moves=2, moved_to="elsewhere")))[1]
        assert await one.adopt(there, COMES) == (False, later)
        came = (await other.adopt(later, replace(COMES, moves=2, moved_to="elsewhere")))[1]
        for known in (there, later):
            known_for = replace(COMES, moves=known.moves, moved_to=known.moved_to)
            assert await one.adopt(known, known_for) == (False, came)
        assert await one.read() == came

    run(place, story)


def test_nothing_is_adopted_where_something_else_stands(place: Place) -> None:
    async def story(one: Store, _: Store) -> None:
        assert await one.adopt(THERE, COMES) == (False, Record())
        stored = (await one.compare_and_swap(0, FULL))[1]
        assert await one.adopt(replace(THERE, version=stored.version), COMES) == (False, stored)
        assert await one.read() == stored

    run(place, story)


def test_of_swaps_at_once_one_wins(place: Place) -> None:
    async def story(one: Store, other: Store) -> None:
        for version in range(10):
            rivals = [replace(FULL, counter=number) for number in range(8)]
            answers = await asyncio.gather(
                *(store.compare_and_swap(version, rival) for store in (one, other) for rival in rivals)
            )
            (won,) = [record for swapped, record in answers if swapped]
            assert won.version == version + 1
            assert all(record == won for _, record in answers)
            assert await one.read() == won

    run(place, story)


def test_a_watch_sees_the_newest(place: Place) -> None:
    async def story(one: Store, other: Store) -> None:
        seen: list[int] = []

        async def look() -> None:
            async for record in other.watch(0):
                seen.append(record.version)
                if record.version == 30:
                    return

        watching = asyncio.create_task(look())
        for version in range(30):
            await one.compare_and_swap(version, FULL)
        await watching
        assert seen == sorted(set(seen))

    run(place, story)


def test_a_watch_begins_with_what_is_newer(place: Place) -> None:
    async def story(one: Store, other: Store) -> None:
        await one.compare_and_swap(0, FULL)
        stored = (await one.compare_and_swap(1, FULL))[1]
        assert await anext(aiter(other.watch(1))) == stored
        waiting = asyncio.ensure_future(anext(aiter(other.watch(2))))
        await one.read()
        assert not waiting.done()
        stored = (await one.compare_and_swap(2, FULL))[1]
        assert await waiting == stored

    run(place, story)


def test_a_watch_of_a_store_that_went_back_says_so(place: Place) -> None:
    async def story(one: Store, _: Store) -> None:
        await one.compare_and_swap(0, FULL)
        with pytest.raises(StoreUnavailableError, match=r"version 1 here, 5 there: an old copy\?"):
            await anext(aiter(one.watch(5)))

    run(place, story)


@pytest.mark.parametrize("how", ["stop", "freeze"])
@pytest.mark.parametrize("connected", [True, False])
def test_a_store_that_does_not_answer_is_unavailable_in_time(place: Place, how: str, connected: bool) -> None:
    async def story(one: Store, _: Store) -> None:
        if connected:
            await one.compare_and_swap(0, FULL)
        await getattr(place, how)()
        for call in (one.read, lambda: one.compare_and_swap(1, FULL), one.read):
            began = time.monotonic()
            with pytest.raises(StoreUnavailableError):
                await call()
            assert time.monotonic() - began < TIMEOUT_MS / 1000 + SLACK_S

    run(place, story, TIMEOUT_MS)


@pytest.mark.parametrize("how", ["stop", "freeze"])
def test_a_watch_ends_when_the_store_does(place: Place, how: str) -> None:
    async def story(one: Store, _: Store) -> None:
        await one.compare_and_swap(0, FULL)
        watch = aiter(one.watch(0))
        assert (await anext(watch)).version == 1
        waiting = asyncio.ensure_future(anext(watch))
        await one.read()
        await getattr(place, how)()
        with pytest.raises(StoreUnavailableError):
            await waiting

    run(place, story, TIMEOUT_MS)


def test_a_restarted_store_has_kept_its_record(place: Place) -> None:
    async def story(one: Store, other: Store) -> None:
        stored = (await one.compare_and_swap(0, FULL))[1]
        await place.stop()
        with pytest.raises(StoreUnavailableError):
            await other.read()
        await place.start()
        found = await one.read()
        assert replace(found, version=stored.version) == stored
        assert found.version >= stored.version
        assert await other.compare_and_swap(found.version, FULL) == (True, replace(FULL, version=found.version + 1))

    run(place, story, TIMEOUT_MS)


def anchor(term: int, *, moment: Moment = "begin", at_ms: int = 1, seq: int = 5) -> Anchor:
    """Make one of mail1, whose certificate the clients show."""
    heads = (Head(MAIL1, seq, f"{term:064x}"), Head(NodeName("mail2"), 7, "ab" * 32))
    return Anchor(term, MAIL1, moment, at_ms, heads)


def test_anchors_are_kept_in_their_order_and_are_no_part_of_the_record(place: Place) -> None:
    async def story(one: Store, other: Store) -> None:
        assert await one.anchors() == ()
        stored = (await one.compare_and_swap(0, FULL))[1]
        told = [anchor(1), anchor(1, moment="end"), anchor(2)]
        for each in told:
            await one.put_anchor(each)
        assert await other.anchors() == tuple(told)
        assert await other.read() == stored, "the version is the same: nobody's swap has failed for it"

    run(place, story)


def test_of_one_moment_the_first_anchor_and_the_newest_are_kept(place: Place) -> None:
    async def story(one: Store, _: Store) -> None:
        for at_ms in (1, 2, 3, 4):
            await one.put_anchor(anchor(1, at_ms=at_ms))
        assert await one.anchors() == (anchor(1, at_ms=1), anchor(1, at_ms=4))

    run(place, story)


def test_the_oldest_anchors_make_room(place: Place) -> None:
    async def story(one: Store, _: Store) -> None:
        for term in range(1, ANCHORS_KEPT + 4):
            await one.put_anchor(anchor(term))
        assert [each.term for each in await one.anchors()] == list(range(4, ANCHORS_KEPT + 4))

    run(place, story)


def test_anchors_outlive_a_restart_of_the_store_and_need_one_that_answers(place: Place) -> None:
    async def story(one: Store, _: Store) -> None:
        await one.put_anchor(anchor(1))
        await place.stop()
        for call in (one.anchors, lambda: one.put_anchor(anchor(2))):
            with pytest.raises(StoreUnavailableError):
                await call()
        await place.start()
        assert await one.anchors() == (anchor(1),)

    run(place, story, TIMEOUT_MS)
