"""The nodes as witnesses of each other's records: copies, the word "done", anchors, and whoever wants to compare all.

    audit ── noted ──> Outgoing ──> Copying ──> the other nodes          GET /v1/audit/across    what all nodes say
    others ──> CopiesKept ──> copies/NODE/…                              GET /v1/audit/hashes    asked of one of them
    Anchoring ──> store

What all of it costs while nothing happens: one look at the state twice a second.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import quote

from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from failoverd.audit.copies import Copies, RefusedError
from failoverd.core import anchor
from failoverd.core.effects import Entry
from failoverd.core.model import NodeName
from failoverd.https import LinkError
from failoverd.ports import StoreUnavailableError
from failoverd.runtime import document_copies as doc
from failoverd.runtime.anchoring import Anchoring
from failoverd.runtime.clock import epoch_ms
from failoverd.runtime.copies_kept import CopiesKept, hashes_asked
from failoverd.runtime.copying import PATH, WHY_MOST, Copying
from failoverd.runtime.executor import Worker
from failoverd.runtime.host import Refused

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

    from starlette.requests import Request

    from failoverd.audit.outgoing import Outgoing
    from failoverd.config import Config
    from failoverd.ports import Store
    from failoverd.runtime.daemon import Daemon

DIRECTORY = "copies"  # below the audit's
WRITTEN_S = 1.5  # how long "done" waits for its own record
ASK_MS = 2_000


class Witness:
    """One node's. Made before the daemon runs; `start` in the running loop, once the node's server listens."""

    def __init__(
        self, config: Config, daemon: Daemon, store: Store, outgoing: Outgoing, ssl_context: ssl.SSLContext
    ) -> None:
        self._config = config
        self._own = config.this.name
        self._daemon = daemon
        self._store = store
        self._outgoing = outgoing
        self._copying = Copying(
            own=self._own,
            nodes=config.nodes,
            port=config.peer.port,
            ssl_context=ssl_context,
            outgoing=outgoing,
        )
        outgoing.told = self._copying.wake
        copies = Copies(config.audit.directory / DIRECTORY, [name for name in config.nodes if name != self._own])
        self._kept = CopiesKept(self._own, copies, outgoing, self._copying, worker=Worker("copies"), note=self.note)
        self._anchoring = Anchoring(self._own, lambda: daemon.state, store, self._heads, epoch_ms)
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin to send, to anchor, and to look after what is kept."""
        await self._copying.start()
        retention = timedelta(days=self._config.audit.retention_days)
        self._tasks = [
            asyncio.ensure_future(work) for work in (self._anchoring.run(), self._kept.look_after(retention))
        ]
        for task in self._tasks:
            task.add_done_callback(self._ended)

    async def stop(self) -> None:
        """End all of it."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._copying.stop()

    def _ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._daemon.broken(error)

    def peer_routes(self) -> list[Route]:
        """What the nodes' HTTPS server has to serve."""
        return self._kept.routes()

    def control_routes(self) -> list[Route]:
        """What the control socket has to serve."""
        return [
            Route("/v1/audit/across", self._across, methods=["GET"]),
            Route("/v1/audit/hashes", self._relayed_hashes, methods=["GET"]),
        ]

    def refused(self) -> tuple[Refused, ...]:
        """What stands against this node as a witness, and against its record."""
        problem = self._anchoring.problem
        return (*self._kept.refused(), *([Refused("AUDIT_UNANCHORED", problem)] if problem else []))

    async def copied(self, actor: NodeName) -> str:
        """See NodeController."""
        try:
            async with asyncio.timeout(WRITTEN_S):
                problem = await self._written()
        except TimeoutError:
            problem = f"the audit was not on disk within {WRITTEN_S:.1f} s"
        if problem:
            return f"it is not in the record of {self._own}: {problem}"
        return await self._copying.in_words(actor)

    async def recorded(self, node: NodeName) -> str:
        """What is missing of the record of `node` being on most nodes, once that is known. "": nothing."""
        return await self._copying.of_one(node)

    def anchored(self, put: anchor.Anchor) -> None:
        """The store, which is on this node, has an anchor: its record names it as well."""
        words = "as its term begins" if put.moment == "begin" else "as its term has ended"
        text = f"{put.by} puts the heads of {len(put.heads)} records into the store {words}"
        self.note("audit-anchored", text, "", {head.node: f"{head.seq} {head.hash}" for head in put.heads}, put.term)

    def note(self, kind: str, text: str, code: str, detail: Mapping[str, str], term: int | None = None) -> None:
        """Put it into the log and the audit."""
        of_term = self._daemon.state.view.highest_term if term is None else term
        self._daemon.note(Entry(kind, of_term, "", text, code, tuple(sorted(detail.items()))))

    async def _written(self) -> str:
        outbox = self._daemon.outbox
        return "" if outbox is None else await outbox.written()

    async def _heads(self) -> tuple[anchor.Head, ...]:
        """Its own head first, and the newest of each copy."""
        async with asyncio.timeout(WRITTEN_S):
            await self._written()
        own = self._outgoing.head
        newest = {ends.node: ends for ends in (await self._kept.heads()).records if ends.version}
        others = (anchor.Head(NodeName(ends.node), ends.seq, ends.hash) for ends in newest.values())
        return (anchor.Head(self._own, own.seq, own.hash), *others)

    # ---- for whoever compares -----------------------------------------------------------------------------------

    async def _across(self, _: Request) -> Response:
        asked = [self._ask_heads(NodeName(name)) for name in self._config.nodes]
        *answers, anchors = await asyncio.gather(*asked, self._ask_anchors())
        document = doc.Across(
            cluster=self._config.cluster,
            node=self._own,
            heads=tuple(heads for heads in answers if isinstance(heads, doc.Heads)),
            unseen=tuple(missing for missing in answers if isinstance(missing, doc.Missing)),
            anchors=anchors if isinstance(anchors, tuple) else (),
            anchors_unseen=anchors if isinstance(anchors, str) else "",
        )
        return Response(doc.ACROSS.dump_json(document), media_type="application/json")

    async def _ask_heads(self, name: NodeName) -> doc.Heads | doc.Missing:
        try:
            if name == self._own:
                return await self._kept.heads()
            answer = await self._copying.links[name].request("GET", f"{PATH}/heads", deadline_ms=ASK_MS)
            if answer.status != 200:
                return doc.Missing(name, f"{answer.status} {answer.body[:WHY_MOST].decode(errors='replace')}")
            return doc.read(doc.HEADS, answer.body)
        except (LinkError, doc.NotUnderstoodError, RefusedError, OSError) as error:  # TimeoutError is an OSError
            return doc.Missing(name, (str(error) or "the disk did not answer in time")[:WHY_MOST])

    async def _ask_anchors(self) -> tuple[doc.Anchored, ...] | str:
        try:
            anchors = await self._store.anchors()
        except StoreUnavailableError as error:
            return str(error)
        return tuple(
            doc.Anchored(put.term, put.by, put.moment, head.node, head.seq, head.hash)
            for put in anchors
            for head in put.heads
        )

    async def _relayed_hashes(self, request: Request) -> Response:
        """Hashes of lines as another node has them, asked over the nodes' own TLS."""
        on, asked = request.query_params.get("on", ""), hashes_asked(request)
        link = self._copying.links.get(NodeName(on))
        if asked is None or (link is None and on != self._own):
            return PlainTextResponse("on, of, version and some numbers in at were expected", 400)
        of, version, at = asked
        try:
            if link is None:
                return Response(doc.HASHES.dump_json(await self._kept.hashes(of, version, at)))
            path = f"{PATH}/hashes?of={quote(of)}&version={version}&at={','.join(map(str, at))}"
            answer = await link.request("GET", path, deadline_ms=ASK_MS + 2_000)
        except (LinkError, RefusedError, OSError) as error:
            return PlainTextResponse(f"{on}: {error}", 502)
        return Response(answer.body, answer.status, media_type="application/json")
