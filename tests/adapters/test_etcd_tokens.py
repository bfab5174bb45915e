"""Tokens of etcd's that end under a store's hands: it gets new ones, whatever kind etcd gives."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from etcd_members import Members
from node_certificates import Authority

from failoverd.core.model import NodeName, Record
from failoverd.ports import StoreUnavailableError
from failoverd.stores.etcd import EtcdStore
from failoverd.stores.etcd_link import Endpoints, EtcdLink
from failoverd.tls import store_context

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

HELD = Record(term=1, holder=NodeName("mail1"), counter=1, ttl_ms=3000)
PASSWORD = "lab-password"


def jwt(directory: Path) -> str:
    """Make a key of etcd's, and give the flag that has tokens signed with it."""
    key = ec.generate_private_key(ec.SECP256R1())
    private, public = directory / "jwt.key", directory / "jwt.pub"
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    public.write_bytes(key.public_key().public_bytes(serialization.Encoding.PEM, form))
    return f"--auth-token=jwt,pub-key={public},priv-key={private},sign-method=ES256,ttl=10m"


@pytest.fixture(params=["simple", "jwt"])
def members(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Members]:
    flags = (jwt(tmp_path),) if request.param == "jwt" else ()
    started = Members(tmp_path / "etcd", Authority(tmp_path), version="3.5", flags=flags)
    started.start()
    started.add_role("lab", PASSWORD, "/failoverd/lab/")
    started.enable_auth("root-password")
    yield started
    started.close()


def run(members: Members, story: Callable[[EtcdStore], Awaitable[None]]) -> None:
    """Tell the story with a store that has its token already."""

    async def telling() -> None:
        store = EtcdStore(_endpoints(members, "lab", PASSWORD), 3000, cluster="lab", prefix="/failoverd/")
        try:
            assert (await store.compare_and_swap(0, HELD))[0]
            async with asyncio.timeout(20):
                await story(store)
        finally:
            await store.close()

    asyncio.run(telling())


def test_rights_that_are_given_to_somebody_else_take_nothing_from_this_cluster(members: Members) -> None:
    async def story(store: EtcdStore) -> None:
        await asyncio.to_thread(members.add_role, "lab2", "another", "/failoverd/lab2/")  # every JWT is of no use now
        assert (await store.compare_and_swap(1, HELD))[0]
        assert (await store.read()).version == 2

    run(members, story)


def test_a_member_that_was_restarted_knows_no_token_any_more(members: Members) -> None:
    async def story(store: EtcdStore) -> None:
        await asyncio.to_thread(members.stop, members.members[0])
        await asyncio.to_thread(members.start)
        assert (await store.compare_and_swap(1, HELD))[0]

    run(members, story)


def test_a_new_password_ends_the_tokens_of_the_old_one_at_once(members: Members) -> None:
    async def story(store: EtcdStore) -> None:
        await _as_root(members, "/v3/auth/user/changepw", {"name": "lab", "password": "another"})
        with pytest.raises(StoreUnavailableError, match="authentication failed"):
            await store.read()

    run(members, story)


def test_a_second_user_of_the_same_role_takes_the_first_one_s_place(members: Members) -> None:
    async def story(store: EtcdStore) -> None:
        await asyncio.to_thread(members.etcdctl, "user", "add", "lab-2:another")
        await asyncio.to_thread(members.etcdctl, "user", "grant-role", "lab-2", "lab")
        assert (await store.read()).version == 1  # nothing is taken from who runs
        second = EtcdStore(_endpoints(members, "lab-2", "another"), 3000, cluster="lab", prefix="/failoverd/")
        try:
            assert (await second.compare_and_swap(1, HELD))[0]
            await asyncio.to_thread(members.etcdctl, "user", "delete", "lab")
            assert (await second.compare_and_swap(2, HELD))[0]
        finally:
            await second.close()

    run(members, story)


def _endpoints(members: Members, user: str, password: str) -> Endpoints:
    files = members.client
    context = store_context(ca=files.ca, certificate=files.certificate, key=files.key)
    return Endpoints(members.urls, context, user, password)


async def _as_root(members: Members, path: str, asked: dict[str, str]) -> None:
    link = EtcdLink(_endpoints(members, "root", "root-password"))
    try:
        await link.ask(path, json.dumps(asked).encode(), deadline_ms=3000)
    finally:
        await link.close()


def test_rights_that_were_taken_away_are_said_as_such(members: Members) -> None:
    async def story(store: EtcdStore) -> None:
        await asyncio.to_thread(members.etcdctl, "user", "revoke-role", "lab", "lab")
        with pytest.raises(StoreUnavailableError, match="permission denied"):
            await store.read()

    run(members, story)
