"""The past as this node knows it, kept in memory, and that of the others, asked when somebody wants to see it.

    audit (its worker's thread) ── noted ──> Past ──┐
    the file's tail at the start (a thread) ────────┘     GET /peer/v1/history of each other node
                                                     │   │      (all at once, 0.5 s, bounded)
                                                     └───┴── Historian ──> HistoryDocument

Nothing of it is done on the loop but waiting: records are folded in the thread that wrote them, shares are encoded and
put together in a thread. What two readers want within a second is asked once.
"""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, cast

import structlog
from pydantic import TypeAdapter, ValidationError
from starlette.responses import Response
from starlette.routing import Route

from failoverd.audit.reading import tail
from failoverd.core import changes, happened, history
from failoverd.core.model import NodeName
from failoverd.https import Link, LinkError
from failoverd.runtime.document import Reason
from failoverd.runtime.document_history import Change, HistoryDocument, PastEvent, Phase

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from starlette.requests import Request

    from failoverd.core.model import Node
    from failoverd.runtime.document_history import ChangeKind, ChangeOutcome, EventOutcome, PhaseOutcome

PATH = "/peer/v1/history"
DEADLINE_MS = 500
TAIL_BYTES = 8 << 20  # of the audit, read at the start
BREATH_BYTES = 64 << 10  # after so much of it the reading thread lets the others go first
FRESH_S = 1.0
LATEST_MS = 253_402_214_400_000  # the last day of 9999: what is more is no moment


@dataclass(frozen=True, slots=True)
class Known:
    """What one node has noted: its share of each change, and events. Oldest first."""

    shares: history.Shares = ()
    events: happened.Events = ()


_KNOWN: TypeAdapter[Known] = TypeAdapter(Known)
_log = structlog.get_logger(__name__)


class NotUnderstoodError(Exception):
    """What another node says of the past is none; the text says why."""


def known_of(body: bytes) -> Known:
    """What another node has noted. Raises NotUnderstoodError."""
    try:
        known = _KNOWN.validate_json(body)
    except ValidationError as error:
        raise NotUnderstoodError(str(error.errors(include_url=False, include_input=False)[0]["msg"])) from None
    shares, events = known.shares, known.events
    moments = [at for s in shares for at in (s.began_ms, s.begun_ms, s.closed_ms, s.opened_ms, s.seen_ms, s.undone_ms)]
    moments += [at for share in shares for part in share.parts for at in (part.began_ms, part.ended_ms)]
    moments += [at for event in events for at in (event.at_ms, event.ended_ms)]
    if not all(at is None or 0 <= at <= LATEST_MS for at in moments):
        raise NotUnderstoodError("a moment that is none")
    return known


def line_of(record: Mapping[str, object]) -> history.Line | None:
    """An audit record as history reads it; None for one that is none."""
    time_, node, term, kind, detail = (record.get(name) for name in ("time", "node", "term", "kind", "detail"))
    if not isinstance(time_, str) or not isinstance(node, str) or not isinstance(kind, str):
        return None
    try:
        at_ms = round(datetime.fromisoformat(time_).astimezone(UTC).timestamp() * 1000)
    except (ValueError, OverflowError):  # no moment, or one that UTC has no year for
        return None
    if at_ms > LATEST_MS:
        return None
    return history.Line(
        at_ms=at_ms,
        node=node,
        term=term if isinstance(term, int) else 0,
        kind=kind,
        rule=str(record.get("rule", "")),
        text=str(record.get("text", "")),
        code=str(record.get("code", "")),
        detail={str(key): str(value) for key, value in detail.items()} if isinstance(detail, dict) else {},
    )


class Past:
    """What this node has noted, as far back as its audit's tail goes. Any thread may read `known`."""

    def __init__(self, directory: Path | None = None) -> None:
        """`directory`: where the audit is."""
        self.directory = directory
        self.upto = 0  # the newest record that was there at the start
        self.known = Known()
        self._lock = threading.Lock()
        self._early: list[Mapping[str, object]] | None = []  # noted before the tail was read

    def noted(self, records: Sequence[Mapping[str, object]]) -> None:
        """These were just written. Called in the audit's thread."""
        try:
            with self._lock:
                if self._early is not None:
                    self._early += records
                else:
                    self.known = _folded(self.known, records)
        except Exception as error:  # noqa: BLE001 - what only tells must not stop what acts, nor a record's answer
            _log.error("history lacks what was just noted", reason=f"{type(error).__name__}: {error}")

    def load(self) -> None:
        """Read the tail of the audit, up to what was there at the start. Blocking.

        Where that fails, history lacks it, and the log says so: it is no reason to end a daemon.
        """
        known = Known()
        try:
            known = self._read()
        except Exception as error:  # noqa: BLE001 - as in `noted`; and it would be so again at the next start
            _log.error("history lacks what was noted before", reason=f"{type(error).__name__}: {error}")
        with self._lock:
            early, self._early = self._early or [], None
            self.known = _folded(known, early)

    def _read(self) -> Known:
        known, read = Known(), 0
        for record, size in tail(self.directory, TAIL_BYTES) if self.directory is not None else ():
            sequence = record.get("seq")
            if isinstance(sequence, int) and sequence <= self.upto:
                known = _folded(known, [record])
            read += size
            if read > BREATH_BYTES:
                time.sleep(0.001)  # the loop has this process's lock sooner so
                read = 0
        return known


def _folded(known: Known, records: Sequence[Mapping[str, object]]) -> Known:
    shares, events = known.shares, known.events
    for record in records:
        line = line_of(record)
        if line is not None:
            shares, events = history.noted(shares, line), happened.happened(events, line)
    return Known(shares, events)


class Historian:
    """Tells of the past of the whole cluster. `routes()` belong into the node's HTTPS server."""

    def __init__(
        self,
        *,
        cluster: str,
        own: NodeName,
        past: Past,
        nodes: Mapping[NodeName, Node],
        port: int = 0,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._cluster = cluster
        self._own = own
        self._past = past
        others = [node for name, node in nodes.items() if name != own] if ssl_context is not None else []
        self._links = {node.name: Link(node.address, port, cast("ssl.SSLContext", ssl_context)) for node in others}
        self._asking: asyncio.Task[HistoryDocument] | None = None
        self._told: HistoryDocument | None = None
        self._told_at = 0.0

    def routes(self) -> list[Route]:
        """What the node's HTTPS server has to serve."""
        return [Route(PATH, self._share, methods=["GET"])]

    async def history(self) -> HistoryDocument:
        """All that is kept, newest first: at most DEADLINE_MS after it was asked for."""
        loop = asyncio.get_running_loop()
        if self._told is not None and loop.time() - self._told_at < FRESH_S:
            return self._told
        if self._asking is None or self._asking.done():
            self._asking = asyncio.ensure_future(self._ask())
        document = await asyncio.shield(self._asking)
        self._told, self._told_at = document, loop.time()
        return document

    async def close(self) -> None:
        """End every connection."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)
        for link in self._links.values():
            link.close()

    async def _ask(self) -> HistoryDocument:
        answers = await asyncio.gather(*(self._ask_one(name, link) for name, link in self._links.items()))
        heard = {name: known for name, known in answers if isinstance(known, Known)}
        unseen = {name: why for name, why in answers if isinstance(why, str)}
        return await asyncio.to_thread(self.document, {self._own: self._past.known, **heard}, unseen)

    async def _ask_one(self, name: NodeName, link: Link) -> tuple[NodeName, Known | str]:
        try:
            answer = await link.request("GET", PATH, deadline_ms=DEADLINE_MS)
        except LinkError as error:
            return name, str(error)
        if answer.status != 200:  # 404: it is of an earlier version
            return name, f"{answer.status} {answer.body[:200].decode(errors='replace')}"
        try:
            return name, await asyncio.to_thread(known_of, answer.body)
        except NotUnderstoodError as error:
            return name, f"not understood (another version?): {error}"

    async def _share(self, _: Request) -> Response:
        """What this node has noted, for a peer."""
        return Response(await asyncio.to_thread(_KNOWN.dump_json, self._past.known), media_type="application/json")

    def document(self, known: Mapping[NodeName, Known], unseen: Mapping[NodeName, str]) -> HistoryDocument:
        """What these nodes have noted, put together; `unseen`: who else could not be asked, and why."""
        shares = [share for one in known.values() for share in one.shares]
        events = happened.together(event for one in known.values() for event in one.events)
        # Where the new primary cannot be asked, whoever asked for it may have been told that it is there.
        done = {event.id for event in events if event.id and event.outcome == "done"}
        told = [
            replace(change, outcome="done") if change.outcome == "unknown" and change.request in done else change
            for change in changes.told(shares, frozenset(known))
        ]
        return HistoryDocument(
            cluster=self._cluster,
            node=self._own,
            changes=tuple(map(_change, told)),
            events=tuple(map(_event, events)),
            unseen=tuple(Reason(code="HISTORY_UNSEEN", reason=why, node=name) for name, why in unseen.items()),
        )


def alone(directory: Path, node: str) -> HistoryDocument:
    """What one node's audit says, for when its daemon cannot be asked. Blocking."""
    past = Past(directory)
    past.upto = 1 << 62
    past.load()
    historian = Historian(cluster="", own=NodeName(node), past=past, nodes={})
    return historian.document({NodeName(node): past.known}, {})


def _iso(at_ms: int) -> str:
    moment = datetime.fromtimestamp(at_ms / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _iso_or_none(at_ms: int | None) -> str | None:
    return None if at_ms is None else _iso(at_ms)


def _change(told: changes.Told) -> Change:
    return Change(
        id=told.id,
        term=told.term,
        kind=cast("ChangeKind", told.kind),
        previous=told.previous or None,
        holder=told.holder or None,
        by=told.by,
        reason=told.reason,
        rule=told.rule,
        began=_iso(told.began_ms),
        ended=_iso_or_none(told.ended_ms),
        outcome=cast("ChangeOutcome", told.outcome),
        outage_ms=told.outage_ms,
        phases=tuple(_phase(node, part, told.began_ms) for node, part in told.phases),
        request=told.request,
    )


def _phase(node: str, part: history.Part, began_ms: int) -> Phase:
    return Phase(
        name=part.name,
        node=node,
        began_ms=part.began_ms - began_ms,
        ended_ms=None if part.ended_ms is None else part.ended_ms - began_ms,
        outcome=cast("PhaseOutcome", part.outcome),
        code=part.code,
    )


def _event(event: happened.Happened) -> PastEvent:
    return PastEvent(
        time=_iso(event.at_ms),
        node=event.node,
        kind="pause" if event.kind == "pause" else "request",
        text=event.text,
        outcome=cast("EventOutcome", event.outcome),
        id=event.id,
        by=event.by,
        ended=_iso_or_none(event.ended_ms),
        result=event.result,
        code=event.code,
    )
