"""Reports between nodes: pushed to every other node, taken from every other node.

A report that comes late, twice, or of a term that its sender has left changes nothing here, and is answered 409. One of
a term that the store has not given is taken but for that, and counted.

`push` never waits. Each peer has a task of its own that sends the newest report there is, one at a time: what came
meanwhile replaces what had not been sent. So a peer that drops every packet costs one socket and one second at a time,
and delays nobody else. No more than PACE are sent to one peer, however much changes: what it may be asked is bounded
(runtime/http.py), and its renewals come out of the same share.

    push(report) ──> newest ──> task of mail2 ── POST /peer/v1/report ──> 204      (kept HTTPS connection, ≤ 1 s)
                           └──> task of mail3 …                              deliver(report) <── sender = certificate?
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from failoverd import wire
from failoverd.https import Link, LinkError
from failoverd.runtime.rates import Buckets, Rate

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping

    from starlette.requests import Request

    from failoverd.core.lateness import Objection
    from failoverd.core.model import Node, NodeName, Report

PATH = "/peer/v1/report"
DEADLINE_MS = 1_000
PACE = Rate(a_second=50, burst=50)
_HEADERS = "content-type: application/json\r\n"


class _Peer:
    """One other node: the newest message for it, and what became of the last one."""

    def __init__(self, address: str, port: int, ssl_context: ssl.SSLContext) -> None:
        self._link = Link(address, port, ssl_context)
        self._newest: bytes | None = None
        self._waiting = asyncio.Event()
        self._pace = Buckets(PACE)
        self._task: asyncio.Task[None] | None = None
        self.error = "nothing was sent yet"

    def offer(self, message: bytes) -> None:
        self._newest = message
        self._waiting.set()
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._send_on())

    async def _send_on(self) -> None:
        while True:
            await self._waiting.wait()
            if not self._pace.take("", asyncio.get_running_loop().time()):
                await asyncio.sleep(1 / PACE.a_second)  # and then the newest, not what waited
            self._waiting.clear()
            message = self._newest
            self._newest = None
            if message is None:
                continue
            try:
                answer = await self._link.request("POST", PATH, deadline_ms=DEADLINE_MS, body=message, headers=_HEADERS)
            except LinkError as error:
                self.error = str(error)
            else:
                refusal = answer.body[:200].decode(errors="replace")
                self.error = "" if answer.status == 204 else f"{answer.status} {refusal}"

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        self._link.close()


class Peers:
    """All other nodes. `deliver` is called in the loop with each report that arrives, its sender proven by TLS.

    `routes()` belong into the node's HTTPS server. `port` is that of every node's server.
    """

    def __init__(
        self,
        own: NodeName,
        nodes: Mapping[NodeName, Node],
        port: int,
        ssl_context: ssl.SSLContext,
        deliver: Callable[[Report], Objection | None],
    ) -> None:
        self._own = own
        self._deliver = deliver
        self._peers = {name: _Peer(node.address, port, ssl_context) for name, node in nodes.items() if name != own}

    def push(self, report: Report) -> None:
        """Send `report` to every other node, as soon as what is under way to it is answered. Never waits."""
        message = wire.encode_report(report)
        for peer in self._peers.values():
            peer.offer(message)

    def errors(self) -> dict[NodeName, str]:
        """How the last push to each node failed; empty when it was taken."""
        return {name: peer.error for name, peer in self._peers.items()}

    def routes(self) -> list[Route]:
        """What the node's HTTPS server has to serve."""
        return [Route(PATH, self._receive, methods=["POST"])]

    async def close(self) -> None:
        """Stop sending and end every connection."""
        for peer in self._peers.values():
            await peer.close()

    async def _receive(self, request: Request) -> Response:
        try:
            report = wire.decode_report(await request.body())
        except wire.WireError as error:
            return PlainTextResponse(str(error), 400)
        if report.sender != request.state.peer or report.sender == self._own:
            reason = f"a report of {report.sender} with the certificate of {request.state.peer}"
            request.state.refuse("PEER_IMPOSTOR", reason)
            return PlainTextResponse(reason, 403)
        why = self._deliver(report)
        if why is not None and why.code:
            request.state.refuse(why.code, why.reason)
        return Response(status_code=204) if why is None or why.taken else PlainTextResponse(why.reason, 409)
