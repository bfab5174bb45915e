"""All clusters' records as they stand in etcd, without the anchors that stand beside them.

A cluster's keys are PREFIX CLUSTER/anchors/… and PREFIX CLUSTER/record. Of anchors there may be some hundreds, each as
large as the record: one range over the prefix could read hundreds of times what is wanted. So the names come first, of
keys alone and a page at a time, each page going on beyond the last cluster that it had; then the records, a hundred in
one transaction.

    names      range from PREFIX, keys only ──> … lab/anchors/7 ──> range from beyond "lab/", …
    records    a transaction: a hundred ranges of one key each

Both are linearizable. A thousand clusters are ten transactions and, with a few anchors each, some tens of pages; never
more pages than clusters. All that is needed for it is the right to read below the prefix.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from failoverd import wire
from failoverd.fleet.watched import Entry
from failoverd.ports import StoreUnavailableError
from failoverd.stores import etcd_requests as etcd

if TYPE_CHECKING:
    from collections.abc import Iterable

    from failoverd.stores.etcd_link import EtcdLink

PAGE = 200  # keys
AT_ONCE = 100  # records; etcd takes 128 operations in a transaction
WITHIN_MS = 5000  # of one request: etcd itself gives up after about as long


async def ask(link: EtcdLink, path: str, body: bytes) -> etcd.Said:
    """Ask, and understand the answer. Raises StoreUnavailableError."""
    try:
        return etcd.said(await link.ask(path, body, deadline_ms=WITHIN_MS))
    except etcd.EtcdAnswerError as error:
        raise StoreUnavailableError(f"etcd's answer is not understood: {error}") from None


async def names(link: EtcdLink, prefix: str) -> list[bytes]:
    """Every cluster that has a key, in the order of their names. Raises StoreUnavailableError."""
    below, found, after = prefix.encode(), list[bytes](), b""
    while True:
        asked = etcd.read_below(below, limit=PAGE, after=after, keys_only=True)
        said = await ask(link, etcd.RANGE, asked)
        keys = [one.key for one in said.found]
        if any(not key.startswith(below) or key <= after for key in keys):
            raise StoreUnavailableError("etcd's answer is not understood: keys that were not asked for")
        for key in keys:
            name, slash, _ = key[len(below) :].partition(b"/")
            if slash and name not in found[-1:]:
                found.append(name)
        if said.count <= len(keys) or not keys:
            return found
        after = _last_of_its_cluster(keys[-1], len(below))


def _last_of_its_cluster(key: bytes, length: int) -> bytes:
    """A key behind all that its cluster has; of one that is of no cluster, itself."""
    name, slash, _ = key[length:].partition(b"/")
    return max(key, key[:length] + name + b"/\xff") if slash else key


async def records(link: EtcdLink, prefix: str, clusters: Iterable[bytes]) -> list[Entry]:
    """The record of each, or what is wrong with it. Raises StoreUnavailableError."""
    left, found = list(clusters), list[Entry]()
    while left:
        part, left = left[:AT_ONCE], left[AT_ONCE:]
        keys = {prefix.encode() + name + b"/record": name for name in part}
        values = {one.key: one.value for one in (await ask(link, etcd.TXN, etcd.read_each(keys))).found}
        found += [_entry(name, values.get(key)) for key, name in keys.items()]
    return found


def _entry(cluster: bytes, value: bytes | None) -> Entry:
    name = cluster.decode(errors="backslashreplace")
    if value is None:
        return Entry(name, None, "it has keys in etcd, and no record", written=False)
    try:
        record, _ = wire.decode_stamped(value)
    except wire.WireError as error:
        return Entry(name, None, str(error))
    return Entry(name, record)
