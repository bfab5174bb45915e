"""How late the loop of a daemon is while the audit is copied: at rest, in a failover, and when a node was long away.

Sender and receiver share one process and its lock, which is harder than what a cluster asks: there each is the other's
peer on another host. The tick is that of a renewal's timer; what counts is by how much it comes late.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "adapters")]
from copies_stage import Member, members  # noqa: E402 - it is beside
from node_certificates import Authority  # noqa: E402 - likewise

TICK_S = 0.01
LINE = 2000  # bytes, about: between a step's record and a decision's


async def late(work: asyncio.Future[None]) -> list[float]:
    """Give by how many milliseconds each tick came late until `work` was done."""
    loop, found = asyncio.get_running_loop(), []
    while not work.done():
        due = loop.time() + TICK_S
        await asyncio.sleep(TICK_S)
        found.append((loop.time() - due) * 1000)
    await work
    return found


async def has(member: Member, count: int, others: list[Member]) -> None:
    """Wait until each other node has so many lines."""
    while any(member.copying.others[other.name].upto < count for other in others):  # noqa: ASYNC110 - no event tells
        await asyncio.sleep(TICK_S)


async def failover(member: Member, others: list[Member]) -> None:
    """Write a record each 20 ms, for five seconds."""
    for _ in range(250):
        await asyncio.to_thread(member.write, 1, "step", LINE)
        await asyncio.sleep(0.02)
    await has(member, member.audit.sequence, others)


def told(name: str, found: list[float]) -> None:
    """Print one row."""
    found.sort()
    p99 = found[int(len(found) * 0.99)]
    print(f"{name:<34} {len(found):>7} {statistics.median(found):>8.2f} {p99:>8.2f} {found[-1]:>8.2f}", flush=True)


async def main(megabytes: int) -> None:
    """Measure the three."""
    with tempfile.TemporaryDirectory() as place:
        authority = Authority(Path(place))
        async with members(authority, Path(place), "mail1", "mail2", "mail3") as (mail1, mail2, mail3):
            others = [mail2, mail3]
            print(f"{'the loop is late by, ms':<34} {'ticks':>7} {'median':>8} {'p99':>8} {'most':>8}")
            told("nothing is copied", await late(asyncio.ensure_future(asyncio.sleep(5))))
            await mail1.copying.start()
            told("copied, and nothing is new", await late(asyncio.ensure_future(asyncio.sleep(5))))
            told("50 records a second, to two nodes", await late(asyncio.ensure_future(failover(mail1, others))))
            await mail1.copying.stop()
            for _ in range(megabytes):
                mail1.write((1 << 20) // LINE, size=LINE)
            mail1.wire(mail1.port)
            await mail1.copying.start()
            work = asyncio.ensure_future(has(mail1, mail1.audit.sequence, others))
            told(f"{megabytes} MiB to two nodes that were away", await late(work))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("megabytes", type=int, nargs="?", default=20)
    asyncio.run(main(parser.parse_args().megabytes))
