"""The store in an etcd with authentication on, whose old snapshot is put back: what a token was given for is gone."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest
from etcd_members import Members
from node_certificates import Authority

from failoverd.core.model import NodeName, Record
from failoverd.ports import StoreUnavailableError
from failoverd.stores import STORES, Access, etcd_requests
from failoverd.stores.etcd_link import Endpoints
from failoverd.tls import store_context

if TYPE_CHECKING:
    from pathlib import Path

    from failoverd.ports import Store

TIMEOUT_MS = 400
ANSWERS_S = 20.0
LATER = 20  # entries in etcd's log after the snapshot


def test_a_token_says_how_far_etcds_log_was() -> None:
    assert etcd_requests.index_of("RdnFbxfzQfXoVckz.425") == 425
    assert etcd_requests.index_of("eyJhbGciOiJSUzI1NiJ9.eyJyZXYiOjF9.c2lnbmF0dXJl") == 0
    assert etcd_requests.index_of("none") == 0


@pytest.mark.parametrize("version", ["3.5", pytest.param("3.4", marks=pytest.mark.root)])
def test_the_store_answers_again_after_an_old_snapshot_was_put_back(tmp_path: Path, version: str) -> None:
    members = Members(tmp_path / "etcd", Authority(tmp_path), version=version)
    try:
        members.start()
        members.add_role("lab", "lab-password", "/failoverd/lab/")
        members.enable_auth("root-password")
        members.snapshot(tmp_path / "snapshot")
        for _ in range(LATER):
            members.etcdctl("put", "/other", "value")
        asyncio.run(_written_put_back_and_read(members, tmp_path / "snapshot"))
    finally:
        members.close()


async def _written_put_back_and_read(members: Members, snapshot: Path) -> None:
    tls = store_context(ca=members.client.ca, certificate=members.client.certificate, key=members.client.key)
    endpoints = Endpoints(members.urls, tls, "lab", "lab-password")
    store = STORES["etcd"](Access("lab", TIMEOUT_MS, endpoints=endpoints, prefix="/failoverd/"))
    try:
        assert await store.compare_and_swap(0, Record(term=1, holder=NodeName("mail1"), ttl_ms=3000))
        await asyncio.to_thread(members.restore, snapshot)
        assert await _answer(store) == Record()
    finally:
        await store.close()


async def _answer(store: Store) -> Record:
    """What is read in the end."""
    end = time.monotonic() + ANSWERS_S
    while True:
        try:
            return await store.read()
        except StoreUnavailableError:
            if time.monotonic() > end:
                raise
