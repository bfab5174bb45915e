"""etcd's certificate, key, CA, user and endpoints are taken in while a store is used; what etcd would refuse is not."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest
from etcd_members import Member, Members
from node_certificates import Authority, Files
from trust_stage import TrustStage

from failoverd.config import load
from failoverd.core.model import NodeName, Record
from failoverd.lives import of_client
from failoverd.ports import StoreUnavailableError
from failoverd.runtime.store_files import StoreFiles
from failoverd.runtime.storing import endpoints_of
from failoverd.stores.etcd import EtcdStore

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Sequence
    from pathlib import Path

    from failoverd.config import Config

DEADLINE_S = 20
ENOUGH = 20  # swaps before and after
RECORD = Record(term=3, holder=NodeName("mail1"), counter=1, ttl_ms=3000)


@dataclass
class Place:
    """An etcd with authentication, and a node's files."""

    members: Members
    authority: Authority
    directory: Path
    example: str

    def put(self, files: Files) -> None:
        """Make these the node's, each by a rename."""
        for source, name in ((files.ca, "ca"), (files.certificate, "crt"), (files.key, "key")):
            shutil.copy(source, self.directory / "new")
            (self.directory / "new").chmod(0o600)
            (self.directory / "new").rename(self.directory / f"node-etcd.{name}")

    def config(self, user: str = "lab", urls: Sequence[str] = ()) -> Config:
        """Of node mail1, for that user."""
        secret = self.directory / "password"
        secret.write_text("right\n")
        secret.chmod(0o600)
        here = self.directory / "node-etcd"
        store = f"store: {{kind: etcd, endpoints: {json.dumps(urls or self.members.urls)}, user: {user}, "
        store += f"password_file: {secret}, ca: {here}.ca, certificate: {here}.crt, key: {here}.key}}"
        path = self.directory / "failoverd.yaml"
        path.write_text(self.example.replace("store: {kind: embedded, node: arbiter}", store))
        return load(path, "mail1")


@pytest.fixture(params=[1])
def place(tmp_path: Path, example: str, request: pytest.FixtureRequest) -> Iterator[Place]:
    authority = Authority(tmp_path)
    members = Members(tmp_path / "etcd", authority, version="3.5", count=request.param)
    made = Place(members, authority, tmp_path, example)
    try:
        members.start()
        members.enable_auth("root")
        members.add_role("lab", "right", "/failoverd/lab/")
        made.put(members.client)
        yield made
    finally:
        members.close()


class Renewing:
    """A holder that swaps one after the other, and a watcher; neither may miss anything."""

    def __init__(self, config: Config) -> None:
        self.store = EtcdStore(endpoints_of(config), 5000, cluster="lab", prefix="/failoverd/")
        self.files = StoreFiles(config, self.store)
        self.swapped = self.watched = 0

    async def renew(self) -> None:
        """Swap for ever."""
        standing = await self.store.read()
        while True:
            won, standing = await self.store.compare_and_swap(
                standing.version, replace(RECORD, counter=standing.counter + 1)
            )
            assert won
            self.swapped += 1

    async def watch(self) -> None:
        """Hear of it."""
        async for record in self.store.watch(0):
            self.watched = record.counter

    async def until_more(self) -> None:
        """Wait until both have gone on."""
        swapped = self.swapped
        async with asyncio.timeout(DEADLINE_S):
            while min(self.swapped, self.watched) < swapped + ENOUGH:  # noqa: ASYNC110 - both go on all the time
                await asyncio.sleep(0.01)


def tell(place: Place, story: Callable[[Renewing], Coroutine[None, None, None]]) -> None:
    """Tell the story beside a holder that renews all the time, and that may not miss one renewal."""

    async def telling() -> None:
        renewing = Renewing(place.config())
        tasks = [asyncio.create_task(renewing.renew()), asyncio.create_task(renewing.watch())]
        told = asyncio.create_task(story(renewing))
        await asyncio.wait([*tasks, told], return_when=asyncio.FIRST_COMPLETED)
        ended = [task for task in tasks if task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await renewing.store.close()
        for task in [*ended, told]:
            await task

    asyncio.run(telling())


def test_another_certificate_is_taken_and_no_renewal_is_lost(place: Place) -> None:
    async def story(renewing: Renewing) -> None:
        await renewing.until_more()
        former = renewing.store._link._client
        assert await asyncio.to_thread(renewing.files.prepared) is None
        place.put(place.authority.nameless("renewed"))
        take = await asyncio.to_thread(renewing.files.prepared)
        assert take is not None
        take()
        await renewing.until_more()
        async with asyncio.timeout(DEADLINE_S):
            while not former.is_closed:  # noqa: ASYNC110 - the watch lets go of it at its next message
                await asyncio.sleep(0.01)
        assert renewing.files.problem == ""
        assert await asyncio.to_thread(renewing.files.prepared) is None

    tell(place, story)


@pytest.mark.parametrize(
    ("which", "words"),
    [
        ("named", "ETCD_CLIENT_CERTIFICATE it has a CN"),
        ("stranger", "ETCD_CLIENT_CERTIFICATE"),
        ("other-ca", "ETCD_TLS unable to get local issuer certificate"),
        ("no-pair", "mismatch"),
    ],
)
def test_what_etcd_would_refuse_is_not_taken(place: Place, which: str, words: str) -> None:
    other = Authority(place.directory, "other")
    client, nameless = place.members.client, place.authority.nameless("renewed")
    files = {
        "named": place.authority.node("mail1"),
        "stranger": replace(other.nameless("stranger"), ca=client.ca),
        "other-ca": replace(client, ca=other.ca),
        "no-pair": replace(nameless, key=client.key),
    }[which]

    async def story(renewing: Renewing) -> None:
        await renewing.until_more()
        place.put(files)
        assert await asyncio.to_thread(renewing.files.prepared) is None
        assert words.lower() in renewing.files.problem.lower()
        await renewing.until_more()
        place.put(nameless)
        take = await asyncio.to_thread(renewing.files.prepared)
        assert take is not None
        take()
        assert renewing.files.problem == ""
        await renewing.until_more()

    tell(place, story)


def test_a_second_user_takes_over_from_the_first_at_a_reload(place: Place) -> None:
    """As the page has it: the first one can go then, and its password with it."""

    async def story(renewing: Renewing) -> None:
        await renewing.until_more()
        with pytest.raises(ValueError, match="ETCD_LOGIN lab-2"):
            await asyncio.to_thread(renewing.files.prepare, place.config("lab-2"))
        place.members.etcdctl("user", "add", "lab-2:right")
        place.members.etcdctl("user", "grant-role", "lab-2", "lab")
        take = await asyncio.to_thread(renewing.files.prepare, place.config("lab-2"))
        take()
        await renewing.until_more()
        # No stream is the first one's any more, and what it had under way has ended.
        await asyncio.to_thread(place.members.etcdctl, "user", "delete", "lab")
        await renewing.until_more()

    tell(place, story)


@pytest.mark.parametrize("place", [3], indirect=True)
def test_a_member_is_replaced_and_no_renewal_is_lost(place: Place) -> None:
    """As the page has it: out of the list, out of etcd, the new one in, into the list."""
    members = place.members

    def added() -> Member:
        until = time.monotonic() + DEADLINE_S
        while True:
            try:
                return members.add()
            except RuntimeError:  # etcd takes nobody in until all that stay have been together for five seconds
                if time.monotonic() > until:
                    raise
                time.sleep(0.2)

    async def story(renewing: Renewing) -> None:
        await renewing.until_more()
        leader = await asyncio.to_thread(members.leader)
        gone = next(member for member in members.members if member is not leader)
        rest = [url for url in members.urls if url != gone.url]
        (await asyncio.to_thread(renewing.files.prepare, place.config(urls=rest)))()
        await renewing.until_more()
        await asyncio.to_thread(members.remove, gone)
        await renewing.until_more()
        new = await asyncio.to_thread(added)
        await asyncio.to_thread(members.wait_until_healthy, new)
        (await asyncio.to_thread(renewing.files.prepare, place.config(urls=[new.url])))()
        await renewing.until_more()  # through the new one alone

    tell(place, story)


def test_where_etcd_does_not_answer_nothing_is_taken(place: Place) -> None:
    async def story() -> None:
        config = place.config()
        store = EtcdStore(endpoints_of(config), 1000, cluster="lab", prefix="/failoverd/")
        files = StoreFiles(config, store)
        place.members.kill(place.members.members[0])
        place.put(place.authority.nameless("renewed"))
        assert await asyncio.to_thread(files.prepared) is None
        assert "ETCD_UNREACHED" in files.problem
        with pytest.raises(StoreUnavailableError):
            await store.read()
        await store.close()

    asyncio.run(story())


def test_the_end_of_both_is_warned_of(place: Place, config_file: Path, tmp_path: Path) -> None:
    """The tests' certificates are good for ten days."""
    config = place.config()
    life = of_client("etcd", place.members.client.certificate, place.members.client.key)
    assert life is not None
    assert 9 < (life.ends_s - time.time()) / 86_400 < 11
    files = StoreFiles(config, EtcdStore(endpoints_of(config), 1000, cluster="lab", prefix="/failoverd/"))
    assert [life.of for life in files.lives()] == ["etcd-ca", "etcd"]
    (tmp_path / "trust").mkdir()
    stage = TrustStage(config_file, tmp_path / "trust")
    stage.trust.look_at(files.lives)
    assert not [one for one in stage.trust.refused() if "etcd" in one.reason]
    stage.trust._warn_s = 11 * 86_400
    told = {(one.code, one.reason.partition(" is good")[0]) for one in stage.trust.refused() if "etcd" in one.reason}
    assert told == {("CERT_EXPIRES", "the client certificate for etcd"), ("CERT_EXPIRES", "the CA of etcd")}
