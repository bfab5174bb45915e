"""What a server's standing still looks like: people's waiting counts from when they wanted something."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Literal

import pytest
from hostile import Elsewhere
from load_hostile import ACCOUNTS, HostileImap, HostileSmtp, service, until, world

from failoverd.drill.comparing import ledger
from failoverd.drill.load.histogram import GROWTH
from failoverd.drill.load.pacing import Pacer
from failoverd.drill.load.seconds import Seconds
from failoverd.drill.load.users import User
from failoverd.drill.report.measured import percentile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STILL_S, EVERY_S, DEADLINE_S = 1.5, 0.1, 60.0
MEANT = round(STILL_S / EVERY_S)
EPOCH_S = 1_700_000_000.0


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    servers = Elsewhere()
    yield servers
    servers.settle()
    servers.close()


class StillImap(HostileImap):
    """Takes no message until it goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.going_on = asyncio.Event()

    async def took(self, writer: asyncio.StreamWriter, message: bytes, right: bytes, tag: bytes = b"") -> bool:
        """Wait."""
        await self.going_on.wait()
        return await super().took(writer, message, right, tag)


class StillSmtp(HostileSmtp):
    """Likewise."""

    def __init__(self) -> None:
        super().__init__()
        self.going_on = asyncio.Event()

    async def took(self, writer: asyncio.StreamWriter, message: bytes, right: bytes, tag: bytes = b"") -> bool:
        """Wait."""
        await self.going_on.wait()
        return await super().took(writer, message, right, tag)


@pytest.mark.parametrize("protocol", ["imap", "smtp"])
def test_what_was_meant_while_a_server_stood_still_took_until_it_went_on(
    protocol: Literal["imap", "smtp"], elsewhere: Elsewhere, tmp_path: Path
) -> None:
    """One each tenth of a second, and a server that answers none for a second and a half.

    The first took 1.5 s, the next 1.4 s, and so on. Who asks again only when there was an answer would tell of one
    slow operation, and of none of the fourteen that people wanted meanwhile.
    """
    server = StillSmtp() if protocol == "smtp" else StillImap()

    async def all_(port: int) -> tuple[list[float], list[float]]:
        loop, around = asyncio.get_running_loop(), world(service(port), tmp_path, DEADLINE_S)
        began_s = loop.time()
        seconds, user = Seconds(around.epoch_s, DEADLINE_S, began_s), User(around, ACCOUNTS[0])
        being = asyncio.ensure_future(user.run())
        submitting, operations = [], []
        for number in range(MEANT):
            at_s = began_s + number * EVERY_S
            await asyncio.sleep(at_s - loop.time())
            operations.append(seconds.begin(protocol, at_s))
            if protocol == "smtp":
                submitting.append(asyncio.ensure_future(user.submit(operations[-1])))
            else:
                user.do("append", operations[-1])
        await asyncio.sleep(began_s + STILL_S - loop.time())
        elsewhere.loop.call_soon_threadsafe(server.going_on.set)
        await until(lambda: all(operation.over for operation in operations), DEADLINE_S)
        ended_s = loop.time()
        being.cancel()
        await asyncio.gather(being, *submitting, return_exceptions=True)
        around.ledger.close()
        tallies = [getattr(second, protocol) for second in seconds.rest()]
        assert sum(tally.ok for tally in tallies) == MEANT
        told = sorted(
            (float(ms) for tally in tallies for ms, n in tally.latency.items() for _ in range(n)), reverse=True
        )
        due_s = [began_s + number * EVERY_S for number in range(MEANT)]
        return told, [ended_s - at_s for at_s in due_s]

    with elsewhere.serving(server) as port:
        told, most_s = asyncio.run(all_(port))
    assert len(told) == MEANT
    for number, (told_ms, most) in enumerate(zip(told, most_s, strict=True)):
        assert told_ms >= (STILL_S - number * EVERY_S) * 1000
        assert told_ms <= most * 1000 * GROWTH
    assert {one.message_id for one in ledger(tmp_path)} == set(server.acknowledged)
    assert len(server.acknowledged) == MEANT


@pytest.mark.parametrize("still_s", [3.0, 10.0, 60.0])
def test_a_percentile_of_a_minute_has_the_standing_still_in_it(still_s: float) -> None:
    """A server that takes 10 ms, and stands still at the end of a minute: what the report's percentiles must show.

    Of things wanted evenly over a minute, those of the last `still_s` waited for 0 to `still_s`, evenly: so p percent
    of all waited for less than still_s - (100 - p) percent of a minute.
    """
    pacer: Pacer[int] = Pacer({"fetch": 60.0}, random.Random(1))  # noqa: S311 - people, not keys
    for who in range(500):
        pacer.join(who, 0.0)
    seconds = Seconds(EPOCH_S, 1000.0, 0.0)
    meant = 0
    for _, _, at_s in pacer.due(60.0):
        begins_s = 60.0 if at_s > 60.0 - still_s else at_s
        seconds.begin("imap", at_s).end("ok", begins_s + 0.01)
        meant += 1
    assert meant == pytest.approx(500 * 60, rel=0.03)  # five sigmas; as many while it stood still as before
    latency: dict[str, int] = {}
    for second in seconds.rest():
        assert second.imap.ok == pytest.approx(500, rel=0.25)
        for ms, number in second.imap.latency.items():
            latency[ms] = latency.get(ms, 0) + number
    for percent in (50, 95, 99):
        waited_s = max(0.0, still_s - (100 - percent) / 100 * 60.0) + 0.01
        told = percentile(latency, percent)
        assert told is not None
        assert told == pytest.approx(waited_s * 1000, rel=0.15, abs=250)  # 0.25 s is what 0.4 percent of a minute is
