"""Floods: of one member, of strangers, of slow ones. Nobody else's request waits for it, and all of it is counted."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from typing import TYPE_CHECKING

import pytest
from trust_stage import ASKS, MAIL2, MAIL3, TrustStage, until

from failoverd.core.model import Record
from failoverd.https import Link, LinkError
from failoverd.refusals_spool import DONOR
from failoverd.runtime.http import HEAD_LIMIT, RATE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from pathlib import Path

GET = b"GET /store/v1/lab HTTP/1.1\r\nhost: x\r\n\r\n"


@contextlib.asynccontextmanager
async def meanwhile(*works: Callable[[], Coroutine[None, None, None]]) -> AsyncIterator[None]:
    """Do each again and again until the end of the block."""

    async def again(work: Callable[[], Coroutine[None, None, None]]) -> None:
        while True:
            with contextlib.suppress(LinkError, OSError):
                await work()
            await asyncio.sleep(0)

    tasks = [asyncio.ensure_future(again(work)) for work in works]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def renewed(stage: TrustStage, times: int) -> None:
    """mail2 takes the lease and renews it: each is answered, or this raises. Who floods shares this loop here."""
    stage.refusals.members = {**stage.refusals.members, "127.0.0.1": MAIL2}  # whence a store dials here
    store = stage.store(MAIL2)
    record = Record(term=1, holder=MAIL2, ttl_ms=3000)
    won, record = await store.compare_and_swap((await store.read()).version, record)
    assert won
    for counter in range(1, times + 1):
        won, record = await store.compare_and_swap(
            record.version, Record(version=record.version, term=1, holder=MAIL2, ttl_ms=3000, counter=counter)
        )
        assert won
        await asyncio.sleep(0.01)  # the pace of renewals, fifty times a lease's
    await store.close()


def test_a_flood_of_one_member_delays_no_renewal_of_another(config_file: Path, tmp_path: Path) -> None:
    stage = TrustStage(config_file, tmp_path)

    async def tell(stage: TrustStage) -> None:
        links = [Link(stage.address, stage.ports["peer"], stage.client(MAIL3)) for _ in range(16)]
        statuses: list[int] = []

        async def ask(link: Link) -> None:
            answer = await link.request("GET", "/store/v1/lab", deadline_ms=2000)
            statuses.append(answer.status)

        async with meanwhile(*(lambda link=link: ask(link) for link in links)):  # type: ignore[misc]
            await until(lambda: 429 in statuses)
            await renewed(stage, 50)
        for link in links:
            link.close()
        assert set(statuses) == {200, 429}
        assert stage.refusals.counts["peer", "PEER_LIMIT"] >= statuses.count(429)
        text = await stage.told("PEER_LIMIT", "peer")
        assert f"more than {RATE.a_second:g} requests a second" in text or "more connections" in text
        assert [found.code for found in stage.trust.refused()].count("PEER_LIMIT") >= 1

    stage.run(tell)


def test_a_flood_of_handshakes_of_strangers_delays_no_renewal(config_file: Path, tmp_path: Path) -> None:
    stage = TrustStage(config_file, tmp_path)

    async def tell(stage: TrustStage) -> None:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        net = stage.address.rpartition(".")[0]

        async def shake() -> None:
            await asyncio.sleep(0.005)  # the pace of a flood, not a wait for anything
            await stage.asked("peer", context, GET, whence=f"{net}.200")

        async with meanwhile(*[shake] * 16):
            await until(lambda: stage.refusals.counts.get(("peer", "PEER_LIMIT"), 0) > 20)
            await renewed(stage, 30)
        assert stage.refusals.counts["peer", "PEER_NO_CERTIFICATE"] > 0
        assert stage.trust.refused() == ()  # no member's

    stage.run(tell)


def test_who_does_not_finish_is_ended_and_keeps_no_place(config_file: Path, tmp_path: Path) -> None:
    """More than may begin at once, from one address, that send a part of a handshake and wait."""
    stage = TrustStage(config_file, tmp_path)

    async def tell(stage: TrustStage) -> None:
        slow, net = [], stage.address.rpartition(".")[0]
        for _ in range(40):
            _, writer = await asyncio.open_connection(stage.address, stage.ports["peer"], local_addr=(f"{net}.200", 0))
            writer.write(b"\x16\x03\x01")
            slow.append(writer)
        await renewed(stage, 5)  # while they wait
        await until(lambda: stage.refusals.counts.get(("peer", "PEER_HANDSHAKE"), 0) == 32)
        assert stage.refusals.counts["peer", "PEER_LIMIT"] == 8
        for writer in slow:
            writer.transport.abort()

    stage.run(tell)


def test_a_head_without_an_end_and_requests_that_do_not_wait(config_file: Path, tmp_path: Path) -> None:
    stage = TrustStage(config_file, tmp_path)

    async def tell(stage: TrustStage) -> None:
        for port in ("peer", "drill"):
            head = b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * (HEAD_LIMIT // 6 + 9)
            assert (await stage.asked(port, stage.client(MAIL3), head)).startswith(b"HTTP/1.1 431 ")
            url = b"GET /" + b"a" * (HEAD_LIMIT + 1) + b" HTTP/1.1\r\n\r\n"
            assert (await stage.asked(port, stage.client(MAIL3), url)).startswith(b"HTTP/1.1 431 ")
            answer = await stage.asked(port, stage.client(MAIL3), GET * 1000)
            assert b"HTTP/1.1 400 " in answer
        assert stage.refusals.counts["peer", "PEER_LIMIT"] == 3
        assert (await stage.asked("peer", stage.client(MAIL3), GET)).startswith(b"HTTP/1.1 200 ")

    stage.run(tell)


def test_one_member_has_no_more_than_its_connections(config_file: Path, tmp_path: Path) -> None:
    stage = TrustStage(config_file, tmp_path)

    async def tell(stage: TrustStage) -> None:
        kept = []
        while stage.refusals.counts.get(("peer", "PEER_LIMIT"), 0) < 3:
            with contextlib.suppress(OSError):
                kept.append(
                    await asyncio.open_connection(
                        stage.address, stage.ports["peer"], ssl=stage.client(MAIL3), local_addr=stage.local(MAIL3)
                    )
                )
        assert 60 <= len(kept) <= 70
        await renewed(stage, 5)
        for _, writer in kept:
            writer.transport.abort()

    stage.run(tell)


@pytest.mark.parametrize("whose", ["a member's", "strangers'"])
def test_the_donor_has_a_place_for_others(config_file: Path, tmp_path: Path, whose: str) -> None:
    """Silent connections, as many as there are places."""
    stage = TrustStage(config_file, tmp_path)

    async def tell(stage: TrustStage) -> None:
        local = stage.local(MAIL3) if whose == "a member's" else None
        port = stage.ports["rebuild"]
        kept = [await asyncio.open_connection(stage.address, port, local_addr=local) for _ in range(20)]
        answer = await stage.asked("rebuild", stage.client(MAIL2), ASKS["rebuild"], whence=stage.local(MAIL2)[0])
        assert b"code" in answer  # there is no server here: it says so
        for _, writer in kept:
            writer.transport.abort()
        await until((stage.runtime / DONOR).exists)

        def spooled() -> list[str]:
            return [kind["code"] for kind in json.loads((stage.runtime / DONOR).read_text())["kinds"]]

        await until(lambda: "PEER_LIMIT" in spooled())
        await stage.told("PEER_LIMIT", "rebuild")

    stage.run(tell)


def test_a_node_that_asks_too_much_of_all_else_still_renews(config_file: Path, tmp_path: Path) -> None:
    """Such as one that makes up for many copies of its record."""
    stage = TrustStage(config_file, tmp_path)

    async def tell(stage: TrustStage) -> None:
        link, statuses = Link(stage.address, stage.ports["peer"], stage.client(MAIL2)), []
        while 429 not in statuses:
            statuses.append((await link.request("GET", "/peer/v1/none", deadline_ms=5000)).status)
        await renewed(stage, 5)
        assert set(statuses) == {404, 429}
        link.close()

    stage.run(tell)
