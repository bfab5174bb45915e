"""The store in an etcd of three members: what several endpoints are for, old snapshots, and what etcd forgets."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import psutil
import pytest
from etcd_members import Members
from test_store import FULL, EtcdPlace, authority, etcd

from failoverd import wire
from failoverd.core.model import Record
from failoverd.ports import Store, StoreUnavailableError
from failoverd.stores import etcd_requests
from failoverd.stores.etcd import EtcdStore
from failoverd.stores.etcd_link import SECONDS, Endpoints, EtcdLink

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from node_certificates import Authority

__all__ = ["authority", "etcd"]  # fixtures of the contract suite

TIMEOUT_MS = 1000  # of these clients: as long as the longest renewal is apart, on a machine that is busy
SOON_S = 15.0  # an election takes a second or two, and a busy machine several times that


@pytest.fixture
def three(tmp_path: Path, authority: Authority) -> Iterator[EtcdPlace]:
    members = Members(tmp_path / "etcd", authority, count=3, version="3.5")
    yield EtcdPlace(members)
    members.close()


def tell(place: EtcdPlace, story: Callable[[Store, Store], Awaitable[None]]) -> None:
    """Start the members, tell the story with two clients, close them; nothing of theirs may be left."""

    async def telling() -> None:
        await place.start()
        stores = place.client(TIMEOUT_MS), place.client(TIMEOUT_MS)
        try:
            async with asyncio.timeout(60):
                await story(*stores)
        finally:
            for store in stores:
                await store.close()
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert connections_to(place) == []

    asyncio.run(telling())


def connections_to(place: EtcdPlace) -> list[object]:
    ports = {member.client_port for member in place.members.members}
    return [one for one in psutil.Process().net_connections("tcp") if one.raddr and one.raddr.port in ports]


async def until(so: Callable[[], bool]) -> None:
    async with asyncio.timeout(SOON_S):
        while not so():  # noqa: ASYNC110 - what is waited for is another process's
            await asyncio.sleep(0.02)


async def until_swapped(store: Store, record: Record) -> Record:
    """Swap as a holder renews: again and again, on the version that stands, until one is answered."""
    async with asyncio.timeout(SOON_S):
        while True:
            try:
                swapped, standing = await store.compare_and_swap(
                    record.version, replace(record, counter=record.counter + 1)
                )
            except StoreUnavailableError:
                await asyncio.sleep(0.05)
                continue
            if swapped:
                return standing
            record = standing


@pytest.mark.parametrize("how", ["kill", "freeze"])
def test_any_one_member_may_be_lost(three: EtcdPlace, how: str) -> None:
    """The one that is asked first, or the leader: with both frozen together there would be no quorum."""

    async def story(one: Store, other: Store) -> None:
        members = three.members
        last = (await one.compare_and_swap(0, FULL))[1]
        seen: list[int] = []
        watching = asyncio.create_task(follow(other, seen))
        for lost in list(members.members):
            await asyncio.to_thread(getattr(members, how), lost)
            last = await until_swapped(one, last)
            wanted = last.version
            await until(lambda: bool(seen) and seen[-1] >= wanted)  # noqa: B023 - it is asked here and now
            if how == "kill":
                await asyncio.to_thread(members.start, [lost])
            else:
                members.thaw(lost)
                await asyncio.to_thread(members.wait_until_healthy, lost)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        assert seen == sorted(set(seen))
        assert await other.read() == last

    tell(three, story)


async def follow(store: Store, seen: list[int]) -> None:
    """Watch as the daemon does: what ends is begun again."""
    while True:
        try:
            async for record in store.watch(seen[-1] if seen else 0):
                seen.append(record.version)  # noqa: PERF401 - it is looked at while it grows
        except StoreUnavailableError:
            await asyncio.sleep(0.05)


def test_without_a_quorum_nothing_is_known_and_with_it_all_goes_on(three: EtcdPlace) -> None:
    async def story(one: Store, other: Store) -> None:
        members = three.members
        stored = (await one.compare_and_swap(0, FULL))[1]
        for member in members.members[:2]:
            await asyncio.to_thread(members.kill, member)
        for call in (one.read, lambda: one.compare_and_swap(stored.version, FULL), other.read):
            with pytest.raises(StoreUnavailableError):
                await call()
        await asyncio.to_thread(members.start)
        found = await other.read()
        assert found in (stored, replace(FULL, version=stored.version + 1))  # the swap may have waited in the log
        assert (await until_swapped(one, found)).version == found.version + 1

    tell(three, story)


def test_a_swap_that_was_done_at_one_member_and_asked_again_at_another_has_been_done_once(three: EtcdPlace) -> None:
    async def story(one: Store, _: Store) -> None:
        first = (await one.compare_and_swap(0, FULL))[1]
        assert isinstance(one, EtcdStore)
        old, stored = one._seen[first.version], replace(FULL, version=2)
        assert await one._swap(old, stored, "ab" * 8) == (True, stored)
        assert await one._swap(old, stored, "ab" * 8) == (True, stored), "its own stamp stands there"
        assert await one._swap(old, stored, "cd" * 8) == (False, stored), "equal in all else, and another writing"

    tell(three, story)


def test_an_old_snapshot_is_refused_once_and_its_record_gets_a_version_that_nobody_has_seen(
    three: EtcdPlace, tmp_path: Path
) -> None:
    async def story(one: Store, other: Store) -> None:
        last = (await one.compare_and_swap(0, FULL))[1]
        await asyncio.to_thread(three.members.snapshot, tmp_path / "snapshot")
        for _ in range(5):
            last = (await one.compare_and_swap(last.version, replace(last, counter=last.counter + 1)))[1]
        assert (await other.read()).version == last.version == 6
        decided_on = last.version
        await asyncio.to_thread(three.members.restore, tmp_path / "snapshot")
        said: list[str] = []
        found = await eventually(one.read, said)
        assert any("an old copy?" in words for words in said)
        assert replace(found, version=1) == replace(FULL, version=1), "the record is the snapshot's"
        assert found.version > decided_on
        # A swap that was decided on what is lost fits nothing, also once as many swaps have been made again.
        assert (await swap_or_none(other, decided_on, FULL)) is not True
        for _ in range(3):
            found = await until_swapped(one, found)
        assert (await swap_or_none(other, decided_on, FULL)) is not True
        assert await eventually(other.read, said) == await one.read() == found

    tell(three, story)


async def swap_or_none(store: Store, expected: int, record: Record) -> bool | None:
    try:
        return (await store.compare_and_swap(expected, record))[0]
    except StoreUnavailableError:
        return None


async def eventually(read: Callable[[], Awaitable[Record]], said: list[str]) -> Record:
    async with asyncio.timeout(SOON_S):
        while True:
            try:
                return await read()
            except StoreUnavailableError as error:
                said.append(str(error))
                await asyncio.sleep(0.05)


def test_a_swap_fits_no_other_record_of_the_version_that_it_was_decided_on(etcd: EtcdPlace) -> None:
    async def story(one: Store, _: Store) -> None:
        decided_on = (await one.compare_and_swap(0, FULL))[1]
        other = wire.encode_stamped(replace(decided_on, counter=7), "ef" * 8).decode()
        await asyncio.to_thread(etcd.members.etcdctl, "put", "/failoverd/lab/record", other)
        with pytest.raises(StoreUnavailableError, match=r"an old copy\?"):
            await one.read()
        assert await one.compare_and_swap(decided_on.version, FULL) == (False, replace(FULL, version=2, counter=7))
        assert await one.read() == replace(FULL, version=2, counter=7)

    tell(etcd, story)


def test_an_empty_etcd_in_the_place_of_the_old_one_has_no_record(three: EtcdPlace) -> None:
    async def story(one: Store, _: Store) -> None:
        await one.compare_and_swap(0, FULL)
        three.members.etcdctl("del", "/failoverd/lab/record")
        assert await one.read() == Record(), "and a term of 0 is refused by whoever has seen a higher one"

    tell(three, story)


def test_a_record_that_is_deleted_ends_a_watch(three: EtcdPlace) -> None:
    async def story(one: Store, other: Store) -> None:
        await one.compare_and_swap(0, FULL)
        watch = aiter(other.watch(0))
        assert (await anext(watch)).version == 1
        waiting = asyncio.ensure_future(anext(watch))
        await asyncio.to_thread(three.members.etcdctl, "del", "/failoverd/lab/record")
        with pytest.raises(StoreUnavailableError, match="deleted in etcd"):
            await waiting

    tell(three, story)


def test_what_is_compacted_while_nobody_watches_is_not_missed(three: EtcdPlace) -> None:
    async def story(one: Store, other: Store) -> None:
        last = (await one.compare_and_swap(0, FULL))[1]
        assert isinstance(other, EtcdStore)
        revision = other._revision
        for _ in range(4):
            last = (await one.compare_and_swap(last.version, FULL))[1]
        newest = json.loads(three.members.etcdctl("get", "x", "-w", "json"))["header"]["revision"]
        await asyncio.to_thread(three.members.etcdctl, "compact", str(newest))
        changes = other._changes(revision + 1, 1)  # from before the compaction: etcd cancels that watch
        assert [record async for record in changes] == []
        async with asyncio.timeout(SOON_S):
            async for record in other.watch(1):
                assert record == last
                break

    tell(three, story)


def test_a_watch_that_is_quiet_asks_and_goes_on(etcd: EtcdPlace) -> None:
    async def story(one: Store, other: Store) -> None:
        await one.compare_and_swap(0, FULL)
        watch = aiter(other.watch(1))
        waiting = asyncio.ensure_future(anext(watch))
        assert isinstance(other, EtcdStore)
        asked: list[str] = []
        ask = other._link.ask

        async def counted(path: str, body: bytes, *, deadline_ms: int) -> bytes:
            asked.append(path)
            return await ask(path, body, deadline_ms=deadline_ms)

        other._link.ask = counted  # type: ignore[method-assign]
        await until(lambda: len(asked) >= 4)
        assert set(asked) == {etcd_requests.RANGE}
        stored = (await one.compare_and_swap(1, FULL))[1]
        assert await waiting == stored

    tell(etcd, story)


def test_tokens_are_got_again_after_a_restart_and_after_rights_were_changed(etcd: EtcdPlace) -> None:
    async def story(one: Store, _: Store) -> None:
        last = (await one.compare_and_swap(0, FULL))[1]
        (member,) = etcd.members.members
        await asyncio.to_thread(etcd.members.stop, member)
        await asyncio.to_thread(etcd.members.start)
        last = await until_swapped(one, last)
        await asyncio.to_thread(etcd.members.add_role, "other", "other-password", "/failoverd/other/")
        assert (await until_swapped(one, last)).version == last.version + 1

    tell(etcd, story)


def test_a_wrong_password_is_named_and_not_shown(etcd: EtcdPlace) -> None:
    async def story(_: Store, __: Store) -> None:
        endpoints = Endpoints(etcd.members.urls, etcd.ssl_context, "lab", "guessed-password")
        store = EtcdStore(endpoints, 3000, cluster="lab", prefix="/failoverd/")
        with pytest.raises(StoreUnavailableError, match=r"no token for lab: .*invalid user ID or password") as refused:
            await store.read()
        assert "guessed" not in str(refused.value) + repr(endpoints)
        await store.close()

    tell(etcd, story)


def test_another_cluster_s_keys_are_neither_read_nor_written(etcd: EtcdPlace) -> None:
    async def story(one: Store, _: Store) -> None:
        await one.compare_and_swap(0, FULL)
        for name in ("lab2", "la", "other"):
            stranger = etcd.client(cluster=name)
            for call in (stranger.read, lambda: stranger.compare_and_swap(0, FULL), stranger.anchors):  # noqa: B023
                with pytest.raises(StoreUnavailableError, match="permission denied"):
                    await call()
            await stranger.close()

    tell(etcd, story)


def test_a_record_that_is_none_is_named(etcd: EtcdPlace) -> None:
    async def story(one: Store, _: Store) -> None:
        etcd.members.etcdctl("put", "/failoverd/lab/record", '{"v":1}')
        with pytest.raises(StoreUnavailableError, match="/failoverd/lab/record in etcd: record: Field required"):
            await one.read()

    tell(etcd, story)


def test_hundreds_of_unanswered_calls_leave_nothing_open(three: EtcdPlace) -> None:
    async def story(_: Store, __: Store) -> None:
        await three.freeze()
        link = EtcdLink(Endpoints(three.members.urls, three.ssl_context))
        body = etcd_requests.read(b"/failoverd/lab/record")
        for _ in range(10):
            calls = (link.ask(etcd_requests.RANGE, body, deadline_ms=20) for _ in range(20))
            answers = await asyncio.gather(*calls, return_exceptions=True)
            assert all(isinstance(answer, StoreUnavailableError) for answer in answers)
        await link.close()

    tell(three, story)


class Counted(EtcdLink):
    """A client that keeps whom it asked."""

    def __init__(self, endpoints: Endpoints) -> None:
        super().__init__(endpoints)
        self.asked: list[str] = []

    def _begin(self, url: str, path: str, body: bytes, deadline_ms: int) -> asyncio.Task[bytes]:
        self.asked.append(url)
        return super()._begin(url, path, body, deadline_ms)


def test_an_etcd_that_has_fallen_behind_does_not_get_each_request_twice(three: EtcdPlace) -> None:
    """One silent member is got round at once; where all are, a call costs them one request."""

    async def story(_: Store, __: Store) -> None:
        members = three.members
        link = Counted(Endpoints(members.urls, three.ssl_context, "lab", "lab-password"))
        body = etcd_requests.read(b"/failoverd/lab/record")
        await link.ask(etcd_requests.RANGE, body, deadline_ms=5000)
        await asyncio.to_thread(members.freeze, members.members[0])
        del link.asked[:]
        await link.ask(etcd_requests.RANGE, body, deadline_ms=5000)
        assert link.asked[:2] == list(members.urls[:2])
        await three.freeze()
        del link.asked[:]
        for _ in range(30):
            with pytest.raises(StoreUnavailableError):
                await link.ask(etcd_requests.RANGE, body, deadline_ms=20)
        assert len(link.asked) <= 30 + SECONDS
        for member in members.members:
            members.thaw(member)
        await until(lambda: not link._attempts)
        await link.close()

    tell(three, story)


def test_the_bytes_in_etcd_are_those_of_one_record_whatever_the_history(etcd: EtcdPlace) -> None:
    async def story(one: Store, _: Store) -> None:
        last = (await one.compare_and_swap(0, FULL))[1]
        for _ in range(300):
            last = (await one.compare_and_swap(last.version, replace(last, counter=last.counter + 1)))[1]
        found = etcd.members.etcdctl("get", "--prefix", "/failoverd/lab/", "--keys-only").split()
        assert found == ["/failoverd/lab/record"]
        status = json.loads(etcd.members.etcdctl("endpoint", "status", "-w", "json"))[0]["Status"]
        await asyncio.to_thread(etcd.members.etcdctl, "compact", str(status["header"]["revision"]), "--physical")
        await asyncio.to_thread(etcd.members.etcdctl, "defrag")
        status = json.loads(etcd.members.etcdctl("endpoint", "status", "-w", "json"))[0]["Status"]
        assert status["dbSize"] < 100 * len(wire.encode_stamped(last, "0" * 16))

    tell(etcd, story)


def test_deadlines_hold_while_a_token_is_wanted(etcd: EtcdPlace) -> None:
    async def story(_: Store, __: Store) -> None:
        await etcd.freeze()
        fresh = etcd.client(TIMEOUT_MS)
        loop = asyncio.get_running_loop()
        began = loop.time()
        with pytest.raises(StoreUnavailableError, match=f"no answer within {TIMEOUT_MS} ms"):
            await fresh.read()
        assert loop.time() - began < TIMEOUT_MS / 1000 + 1
        for member in etcd.members.members:
            etcd.members.thaw(member)
        await fresh.close()

    tell(etcd, story)
