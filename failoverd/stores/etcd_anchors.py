"""The anchors in etcd: a key of its own for each, beside the record.

    PREFIX CLUSTER/anchors/TERM/NODE/MOMENT/first      what was put first of that term, node and moment
    PREFIX CLUSTER/anchors/TERM/NODE/MOMENT/newest     and what was put last, where that is another one

In the order in which they were last written, they are the oldest first, as ports.Store wants them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from failoverd import wire
from failoverd.ports import ANCHORS_KEPT, StoreUnavailableError
from failoverd.stores import etcd_requests as etcd

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from failoverd.core.anchor import Anchor

    Ask = Callable[[str, bytes], Awaitable[etcd.Said]]

_DELETED_AT_ONCE = 100  # etcd takes 128 operations in one transaction


async def put(ask: Ask, below: bytes, anchor: Anchor) -> None:
    """Keep `anchor`, and no more than ANCHORS_KEPT. Raises StoreUnavailableError."""
    of = below + f"{anchor.term:019d}/{anchor.by}/{anchor.moment}/".encode()
    value = wire.encode_anchors((anchor,))
    await ask(etcd.TXN, etcd.put_first_or_newest(of + b"first", of + b"newest", value))
    kept = (await ask(etcd.RANGE, etcd.read_below(below, keys_only=True, limit=1))).count
    while kept > ANCHORS_KEPT:
        most = min(kept - ANCHORS_KEPT, _DELETED_AT_ONCE)
        oldest = await ask(etcd.RANGE, etcd.read_below(below, keys_only=True, limit=most, oldest_first=True))
        await ask(etcd.TXN, etcd.delete([one.key for one in oldest.found]))
        kept -= most


async def kept(ask: Ask, below: bytes) -> tuple[Anchor, ...]:
    """All of them, oldest first. Raises StoreUnavailableError."""
    said = await ask(etcd.RANGE, etcd.read_below(below, oldest_first=True))
    anchors: list[Anchor] = []
    for one in said.found:
        try:
            anchors += (anchor for anchor in wire.decode_anchors(one.value) if anchor not in anchors)
        except wire.WireError as error:
            raise StoreUnavailableError(f"{one.key.decode(errors='replace')} in etcd: {error}") from None
    return tuple(anchors)
