"""Takes the other nodes' audit lines and keeps them, and says what this node has: on the nodes' HTTPS server.

    GET  /peer/v1/audit          200 Known: the end of what is here of the record of who asks
    GET  /peer/v1/audit?all=1    200 Known: and lines before it, for a record that was put back or made anew
    POST /peer/v1/audit  lines   200 Kept: they are on this node's disk | 409 Known: they follow nothing that is here
                                 503 not now, the disk is slow | 507 they are not kept, and why
    GET  /peer/v1/audit/heads    200 Heads: this node's own record and every copy
    GET  /peer/v1/audit/hashes?of=NODE&version=N&at=1,2,3      200 Hashes; version 0: its own record
    GET  /peer/v1/audit/spread?within_ms=N      200 Spread: which nodes have this node's record, waited for that long

Whose lines they are is what the certificate says. What touches the disk is done in a thread of its own, one after the
other and only so many at once: a disk that hangs holds up copies, and nothing else.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

import structlog
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from failoverd.audit.branch import hashes_of
from failoverd.audit.copies import Copies, ImpostorError, RefusedError, Taken, Unchained
from failoverd.audit.layout import DAMAGED
from failoverd.runtime import document_copies as doc
from failoverd.runtime.copying import OLDEST, PATH, SPREAD_MS
from failoverd.runtime.host import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import timedelta

    from pydantic import TypeAdapter
    from starlette.requests import Request

    from failoverd.audit.outgoing import Outgoing
    from failoverd.core.model import NodeName
    from failoverd.runtime.copying import Copying
    from failoverd.runtime.executor import Worker

WITHIN_MS = 2_000  # less than the sender waits
WAITING_MOST = 8
LOOK_AFTER_S = 60.0
HOUSE_TURNS = 60  # of these: once an hour

# Every code of this module and of copying.py. Each has a page in runbooks/.
CODES: Mapping[str, str] = {
    "AUDIT_FORKED": "there are two versions of a node's record",
    "AUDIT_BEYOND": "another node holds more of this node's record than this node does",
    "AUDIT_COPY_REFUSED": "this node does not keep its copy of another node's record",
    "AUDIT_UNANCHORED": "the store has not taken where the records stood",
    "AUDIT_COPY_BUG": "the copying of the audit failed, and goes on",
    "AUDIT_UNCOPIED": "the record of what was done is on too few nodes",
}

T = TypeVar("T")
_log = structlog.get_logger(__name__)


class CopiesKept:
    """`note` puts (kind, text, code, detail) into this node's audit. `routes()` belong into the nodes' server."""

    def __init__(
        self,
        own: NodeName,
        copies: Copies,
        outgoing: Outgoing,
        copying: Copying,
        *,
        worker: Worker,
        note: Callable[[str, str, str, Mapping[str, str]], None],
    ) -> None:
        self._own = own
        self._copies = copies
        self._outgoing = outgoing
        self._copying = copying
        self._worker = worker
        self._note = note
        self._begun = self._ended = 0  # what was put to the thread, and what it is done with
        self._versions: dict[str, int] = {}
        self._refusing: dict[str, str] = {}

    def routes(self) -> list[Route]:
        """What the node's HTTPS server has to serve."""
        return [
            Route(PATH, self._known, methods=["GET"]),
            Route(PATH, self._take, methods=["POST"]),
            Route(f"{PATH}/heads", self._heads, methods=["GET"]),
            Route(f"{PATH}/hashes", self._hashes, methods=["GET"]),
            Route(f"{PATH}/spread", self._spread, methods=["GET"]),
        ]

    def refused(self) -> tuple[Refused, ...]:
        """What stands against the copies here, and against this node's record elsewhere."""
        found = [
            Refused("AUDIT_FORKED", f"{count} versions of {origin}'s record are kept here")
            for origin, count in sorted(self._versions.items())
            if count > 1
        ]
        found += [Refused("AUDIT_COPY_REFUSED", f"of {origin}: {why}") for origin, why in self._refusing.items()]
        for name, other in self._copying.others.items():
            if other.versions > 1:
                found.append(Refused("AUDIT_FORKED", f"{name} keeps {other.versions} versions of this node's record"))
            if other.beyond:
                here = self._outgoing.head.seq
                text = f"{name} has this node's record up to {other.beyond}, and here it ends with {here}"
                found.append(Refused("AUDIT_BEYOND", text))
        return tuple(found)

    async def heads(self) -> doc.Heads:
        """All that this node has. Raises TimeoutError, OSError."""
        return await self._in_worker(self._read_heads)

    async def hashes(self, of: str, version: int, at: list[int]) -> doc.Hashes:
        """Of its own record (version 0) or of a copy. Raises TimeoutError, OSError."""
        if of == self._own and version == 0:
            # From its files, whatever was written: this is how others find out that they were changed.
            return doc.Hashes(await self._in_worker(lambda: hashes_of(self._outgoing.directory, at)))
        return doc.Hashes(await self._in_worker(lambda: self._copies.hashes(of, version, at)))

    async def look_after(self, retention: timedelta) -> None:
        """Pack and remove what is old, and count the versions anew: an operator may have moved one away.

        Works until cancelled.
        """
        said = ""
        for turn in itertools.count():
            problem = ""
            try:
                heads = await self.heads()
                counted = Counter(ends.node for ends in heads.records if ends.version)
                self._versions = {name: counted[name] for name in self._copying.others}
                if turn % HOUSE_TURNS == 0:
                    await self._in_worker(lambda: self._copies.keep_house(retention, datetime.now(UTC)))
            except (TimeoutError, RefusedError, OSError, ValueError, *DAMAGED) as error:
                problem = str(error) or "the disk is slow"
            if problem and problem != said:
                _log.warning("the copies' files are not kept in order", reason=problem)
            said = problem
            await asyncio.sleep(LOOK_AFTER_S)

    def _read_heads(self) -> doc.Heads:
        head = self._outgoing.head
        own = [doc.Ends(self._own, self._outgoing.first(), head.seq, head.hash)] if head.seq else []
        copies = [
            doc.Ends(name, version.first, version.seq, version.hash, version.number)
            for name in self._copying.others
            for version in self._copies.versions(name)
        ]
        return doc.Heads(self._own, (*own, *copies))

    async def _in_worker(self, work: Callable[[], T]) -> T:
        if self._begun - self._ended >= WAITING_MOST:
            raise TimeoutError("too much waits for the disk")
        self._begun += 1

        def counted() -> T:
            try:
                return work()
            finally:
                self._ended += 1  # this thread alone writes it, and only the loop the other

        return await self._worker.call(counted, within_ms=WITHIN_MS)

    async def _take(self, request: Request) -> Response:
        origin, oldest = request.state.peer, request.headers.get(OLDEST, "0")
        if not _is_count(oldest):
            return PlainTextResponse(f"{OLDEST}: a number was expected", 400)
        body = await request.body()
        try:
            taken = await self._in_worker(lambda: self._copies.take(origin, body, int(oldest)))
        except TimeoutError as error:
            return PlainTextResponse(str(error) or f"not on disk within {WITHIN_MS} ms", 503)
        except ImpostorError as error:
            request.state.refuse("PEER_IMPOSTOR", str(error))
            return PlainTextResponse(str(error), 403)
        except (RefusedError, OSError) as error:
            self._refuses(origin, str(error))
            return PlainTextResponse(str(error), 507)
        self._refuses(origin, "")
        if isinstance(taken, Unchained):
            return _json(doc.KNOWN, doc.Known(taken.known), 409)
        self._tell_of(origin, taken)
        return _json(doc.KEPT, doc.Kept(taken.version.seq, taken.version.hash, taken.versions))

    def _tell_of(self, origin: str, taken: Taken) -> None:
        self._versions[origin] = taken.versions
        if taken.forked:
            version = taken.version
            text = (
                f"{origin} sends another record from {version.first} on than it sent before: both are kept,"
                f" the former as version {taken.forked}, this one as version {version.number}"
            )
            detail = {"origin": origin, "first": str(version.first), "versions": str(taken.versions)}
            self._note("audit-forked", text, "AUDIT_FORKED", detail)

    def _refuses(self, origin: str, why: str) -> None:
        """Told once, for as long as it stands."""
        if why and origin not in self._refusing:
            self._note("audit-copy-refused", f"of {origin}: {why}", "AUDIT_COPY_REFUSED", {"origin": origin})
        if why:
            self._refusing[origin] = why
        else:
            self._refusing.pop(origin, None)

    async def _known(self, request: Request) -> Response:
        origin, all_over = request.state.peer, request.query_params.get("all") == "1"
        return await self._answer(lambda: doc.Known(self._copies.known(origin, all_over=all_over).known), doc.KNOWN)

    async def _heads(self, _: Request) -> Response:
        return await self._answer(self._read_heads, doc.HEADS)

    async def _answer(self, work: Callable[[], T], adapter: TypeAdapter[T]) -> Response:
        try:
            return _json(adapter, await self._in_worker(work))
        except TimeoutError as error:
            return PlainTextResponse(str(error) or f"the disk did not answer within {WITHIN_MS} ms", 503)
        except (RefusedError, OSError) as error:
            return PlainTextResponse(str(error), 507)

    async def _hashes(self, request: Request) -> Response:
        asked = hashes_asked(request)
        if asked is None:
            return PlainTextResponse(f"of, version and up to {doc.LINES_MOST} numbers in at were expected", 400)
        try:
            return _json(doc.HASHES, await self.hashes(*asked))
        except (TimeoutError, RefusedError, OSError) as error:
            return PlainTextResponse(str(error), 503)

    async def _spread(self, request: Request) -> Response:
        within = request.query_params.get("within_ms", "0")
        if not _is_count(within):
            return PlainTextResponse("within_ms: a number was expected", 400)
        return _json(doc.SPREAD, await self._copying.spread(min(int(within), SPREAD_MS)))


def hashes_asked(request: Request) -> tuple[str, int, list[int]] | None:
    """Whose lines' hashes a request asks for: node, version, numbers. None: it is not understood."""
    asked = request.query_params
    version, at = asked.get("version", "0"), asked.get("at", "").split(",")
    if not _is_count(version) or not all(map(_is_count, at)) or len(at) > doc.LINES_MOST:
        return None
    return asked.get("of", "")[:64], int(version), [int(number) for number in at]


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 19


def _json(adapter: TypeAdapter[T], document: T, status: int = 200) -> Response:
    return Response(adapter.dump_json(document), status, media_type="application/json")
