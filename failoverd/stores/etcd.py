"""The store in an existing etcd, over its v3 JSON gateway: no single arbiter, and room for many clusters.

    read    a linearizable range                 swap    one transaction, on the very bytes that were seen
    watch   a stream; nothing heard for a second: a read, which tells a quiet store from a dead one

In steady state a cluster costs etcd one transaction a renewal, by its holder: who watches is told, and asks nothing.
etcd's own leases are not used: it begins them anew when its leader changes, and a dead primary's would last on.

Why it is right:
- Reads and transactions go through etcd's quorum, at whichever member they are asked.
- The version is the record's own, and one more with each swap. A swap compares bytes, and each writing has a stamp of
  its own in them (wire.encode_stamped). So it fits only what it was decided on, also where an old snapshot of etcd is
  put back, whose revisions count on from an earlier one, and where a swap arrives late, or at two members: of the two
  one is done, and the other finds its own stamp.
- What is older than this client has seen is refused: in etcd's revision, or in the record's version. A record that went
  back is an old snapshot's. It gets a version beyond all that were seen, and is read as any other then: its holder may
  renew it, others count its lease from the beginning, and a lower term is refused (lease.acceptable). The embedded
  store does the same to a file that it finds at its start.

Who may write what (core/entitled.py) is not asked here: a cluster's nodes have one role of etcd's between them.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from dataclasses import replace
from typing import TYPE_CHECKING

from failoverd import wire
from failoverd.core.model import Record
from failoverd.ports import StoreUnavailableError
from failoverd.stores import etcd_anchors
from failoverd.stores import etcd_requests as etcd
from failoverd.stores.etcd_link import EtcdLink

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from failoverd.core.anchor import Anchor
    from failoverd.stores.etcd_link import Endpoints

SILENT_MS = 1_000  # of a watch: what a healthy holder renews within
STREAM_SILENT_MS = 15_000  # a stream that nothing comes from for so long is made anew
AGAIN_S = 0.2  # between attempts at a watch that ends at once
_SEEN_KEPT = 16  # versions whose bytes are remembered

_NOTHING: tuple[Record, bytes | None] = (Record(), None)


class EtcdStore:
    """ports.Store. `prefix` ends in a slash: the cluster's keys are below PREFIX CLUSTER/.

    Every call ends within `timeout_ms`, connecting and authenticating included.
    """

    def __init__(self, endpoints: Endpoints, timeout_ms: int, *, cluster: str, prefix: str) -> None:
        self._link = EtcdLink(endpoints)
        self._timeout_ms = timeout_ms
        self._key = etcd.key_of(prefix, cluster, "record")
        self._anchors = etcd.key_of(prefix, cluster, "anchors", "")
        self._revision = 0  # the highest of etcd's that was seen
        self._newest = 0  # the highest version of the record
        self._answered_s = 0.0  # when etcd last answered anything
        self._seen: dict[int, bytes] = {}  # its bytes, by version

    async def read(self) -> Record:
        """See ports.Store."""
        record, _, _ = await self._read()
        return record

    async def compare_and_swap(self, expected_version: int, record: Record) -> tuple[bool, Record]:
        """See ports.Store."""
        old = self._seen.get(expected_version)
        if expected_version and old is None:
            standing, old, _ = await self._read()
            if standing.version != expected_version:
                return False, standing
        stamp = secrets.token_hex(8)
        stored = replace(record, version=expected_version + 1)
        return await self._swap(old, stored, stamp)

    async def watch(self, after_version: int) -> AsyncIterator[Record]:
        """See ports.Store."""
        seen = after_version
        while True:
            record, _, revision = await self._read()
            _no_older(record, seen)
            if record.version > seen:
                seen = record.version
                yield record
            async with contextlib.aclosing(self._changes(revision + 1, seen)) as changes:
                async for newer in changes:
                    seen = newer.version
                    yield newer
            await asyncio.sleep(AGAIN_S)

    async def put_anchor(self, anchor: Anchor) -> None:
        """See ports.Store."""
        await etcd_anchors.put(self._ask, self._anchors, anchor)

    async def anchors(self) -> tuple[Anchor, ...]:
        """See ports.Store."""
        return await etcd_anchors.kept(self._ask, self._anchors)

    async def close(self) -> None:
        """See ports.Store."""
        await self._link.close()

    # ---- the record ------------------------------------------------------------------------------------------------

    async def _read(self) -> tuple[Record, bytes | None, int]:
        """The record, its bytes, and etcd's revision as of which it is the newest."""
        newest = self._newest
        said = await self._ask(etcd.RANGE, etcd.read(self._key))
        record, value = self._record(said.found)
        await self._no_old_copy(record, value, newest)
        return record, value, said.revision

    async def _swap(self, old: bytes | None, stored: Record, stamp: str) -> tuple[bool, Record]:
        newest, value = self._newest, wire.encode_stamped(stored, stamp)
        said = await self._ask(etcd.TXN, etcd.swap(self._key, old, value))
        if said.swapped:
            self._remember(stored, value)
            return True, stored
        standing, bytes_standing = self._record(said.found)
        if bytes_standing == value:
            return True, standing  # it had arrived at another member before
        await self._no_old_copy(standing, bytes_standing, newest)
        return False, standing

    async def _no_old_copy(self, record: Record, value: bytes | None, newest: int) -> None:
        """Raise StoreUnavailableError for a record older than `newest`, which was seen before it was asked for.

        Or for another one of a version that was seen: two nodes may have put the same old copy right.
        It is put right before: the same record, with a version that nobody has seen. One that is gone stays so: the
        caller reads that there is none.
        """
        if value is None or (record.version >= newest and self._seen.get(record.version, value) == value):
            return
        risen = replace(record, version=self._newest + 1)
        await self._ask(etcd.TXN, etcd.swap(self._key, value, wire.encode_stamped(risen, secrets.token_hex(8))))
        raise StoreUnavailableError(f"etcd has version {record.version}, this node has seen {newest}: an old copy?")

    def _record(self, found: tuple[etcd.KeyValue, ...]) -> tuple[Record, bytes | None]:
        if not found:
            return _NOTHING
        value = found[0].value
        try:
            record, _ = wire.decode_stamped(value)
        except wire.WireError as error:
            raise StoreUnavailableError(f"{self._key.decode()} in etcd: {error}") from None
        if record.version >= self._newest:
            self._remember(record, value)
        return record, value

    def _remember(self, record: Record, value: bytes) -> None:
        self._newest = max(self._newest, record.version)
        self._seen.setdefault(record.version, value)  # a swap that was decided on these bytes must fit no others
        for version in sorted(self._seen)[:-_SEEN_KEPT]:
            del self._seen[version]

    async def _ask(self, path: str, body: bytes) -> etcd.Said:
        known = self._revision
        try:
            said = etcd.said(await self._link.ask(path, body, deadline_ms=self._timeout_ms))
        except etcd.EtcdAnswerError as error:
            raise StoreUnavailableError(f"etcd's answer is not understood: {error}") from None
        self._answered_s = asyncio.get_running_loop().time()
        if said.revision < known:
            self._revision = said.revision  # or nothing would be believed until it has come that far again
            raise StoreUnavailableError(f"etcd is at revision {said.revision}, and was at {known}: an old copy?")
        self._revision = max(self._revision, said.revision)
        return said

    # ---- the watch -------------------------------------------------------------------------------------------------

    async def _changes(self, revision: int, seen: int) -> AsyncGenerator[Record, None]:
        """What is written from `revision` on, until the stream ends, or the store turns out to be further than it.

        Raises StoreUnavailableError where the store does not answer either.
        """
        heard: asyncio.Queue[etcd.Watched | None] = asyncio.Queue()
        url = self._link.preferred()
        listening = asyncio.create_task(self._listen(revision, heard))
        try:
            while True:
                try:
                    async with asyncio.timeout(SILENT_MS / 1000):
                        message = await heard.get()
                except TimeoutError:
                    if self._silent() and self._newest == seen:
                        await self.read()
                    if self._newest == seen:
                        continue  # quiet, and well
                    self._link.avoid(url)  # its member is cut off from the others, or stands still
                    return
                if message is None or message.ended:
                    return
                if message.deleted:
                    raise StoreUnavailableError(f"{self._key.decode()} was deleted in etcd")
                self._revision = max(self._revision, message.revision)
                for written in message.put:
                    record, _ = self._record((written,))
                    _no_older(record, seen)
                    if record.version > seen:
                        seen = record.version
                        yield record
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)

    def _silent(self) -> bool:
        """Whether nobody has had an answer lately: the daemon itself asks a store that is quiet, and once is enough."""
        return asyncio.get_running_loop().time() - self._answered_s >= SILENT_MS / 1000

    async def _listen(self, revision: int, heard: asyncio.Queue[etcd.Watched | None]) -> None:
        """Put each message of a watch into `heard`, and None at its end: what to make of that, a read tells."""
        body = etcd.watch(self._key, revision)
        stream = self._link.stream(etcd.WATCH, body, open_ms=self._timeout_ms, silent_ms=STREAM_SILENT_MS)
        try:
            async with stream as lines:
                async for line in lines:
                    heard.put_nowait(etcd.watched(line))
        except (StoreUnavailableError, etcd.EtcdAnswerError):
            pass
        finally:
            heard.put_nowait(None)


def _no_older(record: Record, seen: int) -> None:
    if record.version < seen:
        raise StoreUnavailableError(f"version {record.version} here, {seen} there: an old copy?")
