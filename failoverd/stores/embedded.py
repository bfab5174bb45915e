"""The store of a cluster without any other software: SQLite in the arbiter's own failoverd, over HTTPS with mutual TLS.

    EmbeddedStore (every node, the arbiter too: one path) ── HTTPS ──> EmbeddedStoreServer ── one thread ──> SQLite

    GET /store/v1/CLUSTER                       200 record
    GET /store/v1/CLUSTER?after=N&wait_ms=W     200 record as soon as it is newer than N | 204 it was not within W
                                                409 the store is older than N: it was restored from an old copy
    PUT /store/v1/CLUSTER   If-Match: "N"       200 record as stored | 412 the record that stands
    PUT /store/v1/CLUSTER/arrival  likewise     the same, of a record that is moved here from another store
    /store/v1/CLUSTER/anchors                   see embedded_anchors.py
                                                403 not the asker's to write (core/entitled.py) | 409 it goes back

Why it is right:
- A swap answers 200 only after SQLite has committed with `synchronous=FULL`. A lost answer leaves the caller not
  knowing, which ports.Store says.
- Only one process has the file: SQLite's exclusive lock, held as long as the server lives. So the newest committed
  record is also kept in memory, and reads and watches are answered from there: linearizable, and never in the way of
  a disk that hangs. After an error of a swap the memory counts for nothing until the file has been read again.
- A swap fits only what it was decided on, whatever copy of the file is put in its place: when the server starts, the
  record that it finds gets a version of this run, from the microseconds since 1970 on. A swap that was long on its way,
  or made for another copy, could else replace what an old one has at that number. That asks of the wall clock only that
  it was not set back between the two runs; within one, versions count on.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote, urlsplit

from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from failoverd import wire
from failoverd.core.entitled import improper, older, reserves
from failoverd.core.model import NodeName, Record
from failoverd.https import Answer, Link, LinkError
from failoverd.ports import StoreUnavailableError
from failoverd.stores import embedded_anchors
from failoverd.stores.embedded_file import StoreFile, StoreFileError
from failoverd.stores.memory import adopted, swapped

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator
    from pathlib import Path

    from starlette.requests import Request

    from failoverd.core.anchor import Anchor

PATH = "/store/v1"
WAIT_MS = 1_000  # how long one request of a watch may wait: what a healthy holder renews within
_WAIT_LIMIT_MS = 10_000
_QUEUE_LIMIT = 64  # swaps waiting for the disk; the next is refused, certain not to happen
_QUEUE_OF_ONE = 16  # of them from one node, which has one under way, and others only where their answers did not come
_CLOSE_S = 2.0

_T = TypeVar("_T")
_How = Callable[[NodeName, int, Record, Record], Record | None]  # asker, version named, wanted, standing


class _ImproperError(Exception):
    """A swap that is not its asker's to make. It did not happen."""

    def __init__(self, code: str, why: str, status: int) -> None:
        super().__init__(why)
        self.code, self.status = code, status


class EmbeddedStoreServer:
    """Serves the file at `path`. `await start()` before the routes are served, `await close()` when they are not.

    `first_version` is to be beyond all versions of earlier runs, also of those that the file knows nothing of.
    `anchored` is called on the loop with each anchor that is kept. `entitled`: whether it looks at who writes what. The
    contract of a store knows nothing of that. `awaits`: the record of another store may be moved here. Who brings it
    may bring what it says: the record that it was made of stands elsewhere.
    """

    def __init__(
        self,
        path: Path,
        *,
        first_version: int = 0,
        anchored: Callable[[Anchor], None] = lambda _anchor: None,
        entitled: bool = True,
        awaits: bool = False,
    ) -> None:
        self._path = path
        self._anchored = anchored
        self._entitled = entitled
        self._awaits = awaits
        self._waiting_of: dict[str, int] = {}
        self._first_version = first_version
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")
        self._waiting = 0
        self._file: StoreFile | None = None
        self._records: dict[str, Record] | None = None  # None: not known, the file must be read again
        self._changed = asyncio.Condition()
        self._closing = False

    @staticmethod
    def create(path: Path) -> None:
        """Make an empty store at `path`; blocking. Only ever at a cluster's first start. Raises StoreFileError."""
        StoreFile.create(path)

    async def start(self) -> None:
        """Open the file. Raises StoreFileError, and then nothing was changed."""
        self._file, self._records = await self._in_worker(self._open)

    def routes(self) -> list[Route]:
        """What the node's HTTPS server has to serve."""
        return [
            Route(PATH + "/{cluster}", self._get, methods=["GET"]),
            Route(PATH + "/{cluster}", self._put, methods=["PUT"]),
            Route(PATH + "/{cluster}/arrival", self._arrive, methods=["PUT"]),
            Route(PATH + "/{cluster}/anchors", self._get_anchors, methods=["GET"]),
            Route(PATH + "/{cluster}/anchors", self._post_anchor, methods=["POST"]),
        ]

    async def close(self) -> None:
        """Answer whoever waits, finish the swap at work, close the file."""
        self._closing = True
        async with self._changed:
            self._changed.notify_all()
        if self._file is not None:
            with contextlib.suppress(TimeoutError):  # a disk that hangs keeps its thread; nothing can end that
                async with asyncio.timeout(_CLOSE_S):
                    await self._in_worker(self._file.close)
        self._worker.shutdown(wait=False, cancel_futures=True)

    def _open(self) -> tuple[StoreFile, dict[str, Record]]:
        file = StoreFile(self._path)
        try:
            return file, file.begin_run(self._first_version)
        except StoreFileError:
            file.close()
            raise

    async def _in_worker(self, work: Callable[[], _T]) -> _T:
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._worker, work)
        finally:
            self._waiting -= 1

    async def _get(self, request: Request) -> Response:
        cluster = request.path_params["cluster"]
        after, wait_ms = request.query_params.get("after"), request.query_params.get("wait_ms", "0")
        if not (after is None or _is_count(after)) or not _is_count(wait_ms):
            return PlainTextResponse("after and wait_ms are whole numbers", 400)
        record = await self._record(cluster)
        if isinstance(record, Response):
            return record
        if after is None:
            return _answer(200, record)
        if record.version < int(after):
            return PlainTextResponse(f"version {record.version} here, {after} there: an old copy?", 409)
        if record.version == int(after):
            return await self._wait(cluster, int(after), min(int(wait_ms), _WAIT_LIMIT_MS))
        return _answer(200, record)

    async def _wait(self, cluster: str, after: int, wait_ms: int) -> Response:
        def newer() -> bool:
            return self._closing or self._records is None or self._records.get(cluster, Record()).version > after

        try:
            async with asyncio.timeout(wait_ms / 1000), self._changed:
                await self._changed.wait_for(newer)
        except TimeoutError:
            return Response(status_code=204)
        record = await self._record(cluster)
        return record if isinstance(record, Response) else _answer(200, record)

    async def _put(self, request: Request) -> Response:
        return await self._change(request, self._swapped)

    async def _arrive(self, request: Request) -> Response:
        return await self._change(request, self._adopted)

    async def _change(self, request: Request, how: _How) -> Response:
        cluster, tag = request.path_params["cluster"], request.headers.get("if-match", "")
        if len(tag) < 3 or tag[0] != '"' or tag[-1] != '"' or not _is_count(tag[1:-1]):
            return PlainTextResponse('If-Match: "VERSION" says which record is to be replaced', 400)
        try:
            record = wire.decode_record(await request.body())
        except wire.WireError as error:
            return PlainTextResponse(str(error), 400)
        known = await self._record(cluster)  # also reads the file again when that is due
        if isinstance(known, Response):
            return known
        asker = request.state.peer if self._entitled else ""
        if self._waiting >= _QUEUE_LIMIT or self._waiting_of.get(asker, 0) >= _QUEUE_OF_ONE:
            return PlainTextResponse("too many swaps are waiting for the disk", 503)
        self._waiting_of[asker] = self._waiting_of.get(asker, 0) + 1
        try:
            wanted = partial(how, NodeName(asker), int(tag[1:-1]), record)
            return await self._put_in(request, cluster, record, wanted)
        finally:
            self._waiting_of[asker] -= 1

    def _swapped(self, asker: NodeName, expected: int, record: Record, standing: Record) -> Record | None:
        stored = swapped(standing, expected, record)
        if stored is not None:
            self._check(standing, record, asker)
        return stored

    def _adopted(self, asker: NodeName, expected: int, record: Record, standing: Record) -> Record | None:
        if self._entitled and not self._awaits:
            raise _ImproperError("PEER_IMPOSTOR", f"{asker} moves a record here, and none is awaited", 403)
        return adopted(standing, Record(version=expected), record)

    async def _put_in(
        self, request: Request, cluster: str, record: Record, wanted: Callable[[Record], Record | None]
    ) -> Response:
        file = self._opened()
        try:
            put, standing = await self._in_worker(lambda: file.change(cluster, wanted))
        except _ImproperError as why:
            request.state.refuse(why.code, str(why))
            return PlainTextResponse(str(why), why.status)
        except (sqlite3.Error, wire.WireError) as error:
            self._records = None
            await self._tell()
            return PlainTextResponse(f"{self._path}: {error}", 503)
        if self._records is not None and standing.version >= self._records.get(cluster, Record()).version:
            self._records[cluster] = standing
        if put:
            await self._tell()
        elif self._entitled and (late := older(standing, record)):  # its version alone has refused it
            request.state.refuse("PEER_REPLAY", late)
        return _answer(200 if put else 412, standing)

    async def _get_anchors(self, request: Request) -> Response:
        return self._busy() or await embedded_anchors.get(request, self._with_connection)

    async def _post_anchor(self, request: Request) -> Response:
        return self._busy() or await embedded_anchors.post(request, self._with_connection, self._anchored)

    def _busy(self) -> Response | None:
        """Anchors can wait, and swaps must not wait for them."""
        if self._closing or self._waiting:
            return PlainTextResponse("the store is closing" if self._closing else "swaps are waiting for the disk", 503)
        return None

    async def _with_connection(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        file = self._opened()
        return await self._in_worker(lambda: file.with_connection(work))

    def _check(self, standing: Record, record: Record, asker: NodeName) -> None:
        if not self._entitled or (self._awaits and reserves(standing, record)):
            return
        if why := older(standing, record):
            raise _ImproperError("PEER_REPLAY", why, 409)
        if why := improper(standing, record, asker):
            raise _ImproperError("PEER_IMPOSTOR", why, 403)

    async def _record(self, cluster: str) -> Record | Response:
        if self._closing:
            return PlainTextResponse("the store is closing", 503)
        if self._records is None:
            if self._waiting >= _QUEUE_LIMIT:
                return PlainTextResponse("too many requests are waiting for the disk", 503)
            try:
                self._records = await self._in_worker(self._opened().reopen)
            except (StoreFileError, sqlite3.Error) as error:
                return PlainTextResponse(str(error), 503)
        return self._records.get(cluster, Record())

    def _opened(self) -> StoreFile:
        if self._file is None:
            raise AssertionError("the store's routes are served before start()")
        return self._file

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 19


def _answer(status: int, record: Record) -> Response:
    return Response(wire.encode_record(record), status, media_type="application/json")


class EmbeddedStore:
    """ports.Store over HTTPS: `base_url` is https://ADDRESS:PORT of the node that has the file.

    Every call ends within `timeout_ms`, connecting included; each request of a watch within WAIT_MS more.
    """

    def __init__(self, base_url: str, ssl_context: ssl.SSLContext, timeout_ms: int, *, cluster: str) -> None:
        where = urlsplit(base_url)
        if where.scheme != "https" or where.hostname is None or where.port is None or where.path not in {"", "/"}:
            raise ValueError(f"{base_url}: https://ADDRESS:PORT was expected")
        self._where = base_url
        self._path = f"{PATH}/{quote(cluster, safe='')}"
        self._timeout_ms = timeout_ms
        # Two, so that a watch that waits is never in a renewal's way.
        self._link, self._watching = (Link(where.hostname, where.port, ssl_context) for _ in range(2))

    async def read(self) -> Record:
        """See ports.Store."""
        return self._record(await self._ask(self._link, "GET", self._path, self._timeout_ms), 200)

    async def compare_and_swap(self, expected_version: int, record: Record) -> tuple[bool, Record]:
        """See ports.Store."""
        return await self._put(self._path, expected_version, record)

    async def adopt(self, place: Record, record: Record) -> tuple[bool, Record]:
        """See ports.Store."""
        return await self._put(f"{self._path}/arrival", place.version, record)

    async def watch(self, after_version: int) -> AsyncIterator[Record]:
        """See ports.Store."""
        seen = after_version
        while True:
            path = f"{self._path}?after={seen}&wait_ms={WAIT_MS}"
            answer = await self._ask(self._watching, "GET", path, self._timeout_ms + WAIT_MS)
            if answer.status != 204:
                record = self._record(answer, 200)
                seen = record.version
                yield record

    async def put_anchor(self, anchor: Anchor) -> None:
        """See ports.Store."""
        body = wire.encode_anchors((anchor,))
        answer = await self._ask(self._link, "POST", f"{self._path}/anchors", self._timeout_ms, body=body)
        self._require(answer, 204)

    async def anchors(self) -> tuple[Anchor, ...]:
        """See ports.Store."""
        answer = await self._ask(self._link, "GET", f"{self._path}/anchors", self._timeout_ms)
        self._require(answer, 200)
        try:
            return wire.decode_anchors(answer.body)
        except wire.WireError as error:
            raise StoreUnavailableError(f"{self._where}: {error}") from error

    async def close(self) -> None:
        """See ports.Store."""
        self._link.close()
        self._watching.close()

    async def _put(self, path: str, expected_version: int, record: Record) -> tuple[bool, Record]:
        tag = f'if-match: "{expected_version}"\r\n'
        body = wire.encode_record(record)
        answer = await self._ask(self._link, "PUT", path, self._timeout_ms, body=body, headers=tag)
        return answer.status == 200, self._record(answer, 200, 412)

    async def _ask(
        self, link: Link, method: str, path: str, deadline_ms: int, *, body: bytes = b"", headers: str = ""
    ) -> Answer:
        try:
            return await link.request(method, path, deadline_ms=deadline_ms, body=body, headers=headers)
        except LinkError as error:
            raise StoreUnavailableError(f"{self._where}: {error}") from error

    def _require(self, answer: Answer, *good: int) -> None:
        if answer.status not in good:
            text = answer.body[:200].decode(errors="replace")
            raise StoreUnavailableError(f"{self._where}: {answer.status} {text}")

    def _record(self, answer: Answer, *good: int) -> Record:
        self._require(answer, *good)
        try:
            return wire.decode_record(answer.body)
        except wire.WireError as error:
            raise StoreUnavailableError(f"{self._where}: {error}") from error
