"""The status page at `/`, and the runbooks that it links: files of this package, served as they are.

    GET /                       index.html   the page without a single fact: page.js asks /v1/ for those
    GET /page.css, /page.js …   what it is made of; nothing comes from anywhere else
    GET /runbooks/…             see runbooks.py

Nothing is built and nothing is fetched from outside: the page must open at three in the morning, from the one node that
still runs, in a network without a way out. Its policy forbids the browser everything that is not from this node, inline
script and style with it, and takes `innerHTML` and its kin away from the page's own script (trusted types): what a node
says, its database's errors with it, can only ever become text.

Everything is read once, when the routes are made: no request touches the disk.
"""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Any

from starlette.responses import Response
from starlette.routing import Route

from failoverd.runtime.page.runbooks import Runbooks
from failoverd.runtime.public_shown import answer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from starlette.requests import Request
    from starlette.routing import BaseRoute

    from failoverd.runtime.public_shown import Shown

INDEX = "index.html"
MEDIA_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none';"
    " form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-cache",  # kept, and asked for again each time: an upgrade shows at the next look
}
# Ignored over plain HTTP, and then complained of in each reader's console.
OVER_TLS = {**HEADERS, "cross-origin-opener-policy": "same-origin"}


def assets() -> dict[str, bytes]:
    """The page's own files by name."""
    here = files(__name__)
    return {
        file.name: file.read_bytes()
        for file in sorted(here.iterdir(), key=lambda file: file.name)
        if file.name.rpartition(".")[2] in MEDIA_TYPES
    }


def routes(_: Shown) -> list[BaseRoute]:
    """The page, its parts, and the runbooks."""
    parts = assets()
    runbooks = Runbooks(files("failoverd") / "runbooks")

    # Not a coroutine function: what is made at its first asking is made beside the loop, which has a lease to renew.
    def runbook(request: Request) -> Response:
        found, text = runbooks.page(request.path_params["name"])
        if not found:
            return Response(text, 404, _headers(request), "text/html")
        return answer(request, text.encode(), "text/html", _headers(request))

    named = {f"/{name}": (content, MEDIA_TYPES[name.rpartition(".")[2]]) for name, content in parts.items()}
    named["/"] = named.pop(f"/{INDEX}")
    answered: dict[str, Any] = {path: _asset(*part) for path, part in named.items()}
    answered["/runbooks/{name:path}"] = runbook
    # Pages for people: no part of what openapi.json describes.
    return [Route(path, what, methods=["GET"], include_in_schema=False) for path, what in answered.items()]


def _asset(content: bytes, media_type: str) -> Callable[[Request], Awaitable[Response]]:
    async def asset(request: Request) -> Response:
        return answer(request, content, media_type, _headers(request))

    return asset


def _headers(request: Request) -> Mapping[str, str]:
    return OVER_TLS if request.url.scheme == "https" else HEADERS
