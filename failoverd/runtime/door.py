"""The door before the control socket's routes: each caller is known before anything that it sent is looked at.

    connection ──callers.py──> caller ──access.py──> role ──access_roles.ROUTES──> in, with its name | 403 Forbidden

The same routes stand behind the Unix socket and the listener for operators elsewhere (remote.py). A handler finds in
`request.state.actor` what the caller is called in the record; who only looks has no name, for it would have to be
looked up. Roles are asked at each request: a reload that takes one away also holds for connections that are open.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import TypeAdapter
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Match, Route

from failoverd.runtime.access_roles import ROUTES, Role
from failoverd.runtime.callers import RemoteCaller
from failoverd.runtime.denials import SOCKET
from failoverd.runtime.document_access import Forbidden

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from starlette.types import Receive, Scope, Send

    from failoverd.runtime.access import Access
    from failoverd.runtime.callers import Caller

    # Where from ("socket", or an address), what was asked for, why not.
    Denied = Callable[[str, str, Forbidden], None]

_SHOWN = 80  # characters of what was asked for that is no route
_FORBIDDEN = TypeAdapter(Forbidden)


def needed_for(route: Route) -> Role:
    """The one role that a route needs. KeyError: nobody has thought of it."""
    (method,) = (route.methods or {"GET"}) - {"HEAD"}
    return ROUTES[f"{method} {route.path}"]


class Door:
    """An ASGI application: `routes`, each for those who may. KeyError: one is not in ROUTES."""

    def __init__(self, access: Access, routes: Sequence[Route], denied: Denied) -> None:
        self._access, self._denied = access, denied
        self._needed = [(route, needed_for(route)) for route in routes]
        self.app = Starlette(routes=routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it with 403."""
        caller: Caller = scope["state"]["peer"]
        what, needed = self._asked(scope)
        why = await self._access.refusal(caller, needed)
        if why is not None:
            self._denied(caller.address if isinstance(caller, RemoteCaller) else SOCKET, what, why)
            refused = Response(_FORBIDDEN.dump_json(why), 403, media_type="application/json")
            await refused(scope, receive, send)
            return
        if scope["method"] == "POST":
            scope["state"]["actor"] = await self._access.name_of(caller)
        await self.app(scope, receive, send)

    def _asked(self, scope: Scope) -> tuple[str, Role]:
        """The route and what it needs. That there is no such route is told to those alone who may look."""
        for route, needed in self._needed:
            if route.matches(scope)[0] is Match.FULL:
                return f"{scope['method']} {route.path}", needed
        return f"{scope['method']} {scope['path']}"[:_SHOWN], Role.VIEW
