"""By which names the public listener answers: a Host header that names somebody else is refused.

Why: a browser inside your network that opens a page of a stranger's may be told that the stranger's name is now this
node's address (DNS rebinding), and then lets that page read what is here. Its requests carry the stranger's name. So
there is an answer for literal addresses, which nobody can point elsewhere, the nodes' names, localhost, `http.names`,
and the program's own name, which load balancers send where they have to send one (config/haproxy). A request without a
Host header, or of HTTP/1.0, is no browser's, but a load balancer's: nginx names its upstream there.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from starlette.responses import PlainTextResponse

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from starlette.types import ASGIApp, Receive, Scope, Send

    from failoverd.config import Config

OWN = ("localhost", "failoverd")


def names_of(config: Config) -> frozenset[str]:
    """The names that are answered to, in small letters."""
    return frozenset(name.lower() for name in (*OWN, *config.nodes, *config.http.names))


def is_ours(host: str, names: Collection[str]) -> bool:
    """Whether a Host header names this listener: an address or one of `names`, with or without a port."""
    name, colon, port = host.rpartition(":")
    if not colon or name.count("[") != name.count("]") or (":" in name and not name.startswith("[")):
        name = host  # no port: a name, or an address of version 6, in brackets or not
    elif not (port.isascii() and port.isdigit()):
        return False
    name = name.removesuffix(".").lower()
    if name in names:
        return True
    try:
        ipaddress.ip_address(name[1:-1] if name.startswith("[") and name.endswith("]") else name)
    except ValueError:
        return False
    return True


class OnlyOurs:
    """Answers 421 to who asks for somebody else. `names` is asked for each request: a reload may change it."""

    def __init__(self, app: ASGIApp, names: Callable[[], Collection[str]]) -> None:
        self._app, self._names = app, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        of_a_browser = scope["http_version"] != "1.0"
        if not of_a_browser or (len(hosts) <= 1 and all(is_ours(host, self._names()) for host in hosts)):
            await self._app(scope, receive, send)
            return
        asked = ", ".join(hosts)[:80]
        scope["state"]["refuse"]("HTTP_HOST", f"asked for as {asked!r}")
        text = (
            f"HTTP_HOST: {asked!r} is no name of this node; answered are literal addresses, the nodes' names, "
            "localhost, and what http.names has in its configuration"
        )
        await PlainTextResponse(text, 421)(scope, receive, send)
