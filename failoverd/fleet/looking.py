"""All clusters of an etcd, looked at until it is known of each whether its lease is being renewed.

Where all are well that takes one renewal interval. Whoever is silent is looked at again, and nobody else, until its
lease would have ended, or patience has.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from failoverd.fleet import reading
from failoverd.fleet.watched import Watch, Watched

if TYPE_CHECKING:
    from failoverd.ports import Clock
    from failoverd.stores.etcd_link import EtcdLink

AGAIN_MS = 500  # between two looks: the shipped renewal interval


async def look(
    link: EtcdLink, prefix: str, clock: Clock, *, patience_ms: int, only: bytes | None = None
) -> list[Watched]:
    """Every cluster that has a key below `prefix`, or that one of them. Raises StoreUnavailableError."""
    began_ms, watch = clock.now_ms(), Watch()
    clusters = [name for name in await reading.names(link, prefix) if only in (None, name)]
    while clusters:
        sent_ms = clock.now_ms()
        entries = await reading.records(link, prefix, clusters)
        watch.look(entries, sent_ms=sent_ms, answered_ms=clock.now_ms())
        found = watch.found()
        named = zip(clusters, entries, strict=True)
        clusters = [cluster for cluster, entry in named if found[entry.cluster].undecided]
        left_ms = began_ms + patience_ms - clock.now_ms()
        if not clusters or left_ms <= 0:
            break
        await asyncio.sleep(min(AGAIN_MS, left_ms) / 1000)
    return list(watch.found().values())
