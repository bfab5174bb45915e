"""One HTTPS server a node, with mutual TLS, for whatever it serves to the others: reports, the store, copies.

Who is asking is known from the certificate alone: TLS 1.3 only, the client's certificate is required and must be of
the cluster's CA, and its CN must be a configured node (403 otherwise). Handlers find the name in `request.state.peer`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse

from failoverd.runtime.http import OF_MEMBERS, Limits, Server, listen

if TYPE_CHECKING:
    import ssl
    from collections.abc import Collection, Sequence

    from starlette.routing import BaseRoute
    from starlette.types import ASGIApp, Receive, Scope, Send

    from failoverd.runtime.accepting import Admission


class NodeServer:
    """The node's HTTPS server: `routes` for members of `nodes` only. Port 0 takes a free one (tests)."""

    def __init__(
        self,
        *,
        address: str,
        port: int,
        ssl_context: ssl.SSLContext,
        nodes: Collection[str],
        routes: Sequence[BaseRoute],
        limits: Limits = OF_MEMBERS,
        admission: Admission | None = None,
    ) -> None:
        self._address = address
        self._port = port
        self._ssl_context = ssl_context
        self._app = _MembersOnly(Starlette(routes=routes), frozenset(nodes))
        self._limits, self._admission = limits, admission
        self._server: Server | None = None

    async def start(self) -> None:
        """Listen on the node's own address. Raises OSError."""
        listener = listen(self._address, self._port)
        try:
            self._port = listener.getsockname()[1]
            self._server = Server(self._app, listener, self._ssl_context, self._limits, admission=self._admission)
            await self._server.start()
        except BaseException:
            listener.close()
            raise

    @property
    def port(self) -> int:
        """The port listened on."""
        return self._port

    async def stop(self) -> None:
        """Stop listening and end every connection."""
        if self._server is not None:
            await self._server.stop()
            self._server = None


class _MembersOnly:
    """Lets in whoever shows the certificate of a configured node."""

    def __init__(self, app: ASGIApp, nodes: frozenset[str]) -> None:
        self._app = app
        self._nodes = nodes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        peer = scope["state"]["peer"]
        if peer in self._nodes:
            await self._app(scope, receive, send)
        else:
            reason = f"the certificate names {peer!r}, which is no configured node"
            scope["state"]["refuse"]("PEER_STRANGER", reason)
            await PlainTextResponse(reason, 403, headers={"connection": "close"})(scope, receive, send)
