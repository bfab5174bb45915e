"""The exchange of books between nodes: POST a hello, get one back, over the nodes' mutual TLS.

    POST /peer/v1/alerts  Hello  ->  200 Hello | 404, 503: this node cannot tell

Who has nothing new for the other leaves the book out, see teller.Hello: in peace an exchange is a hundred bytes. It
runs on the loop of the telling, with connections of its own, so that a peer that hangs costs nobody else anything.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING

import structlog
from pydantic import TypeAdapter, ValidationError

from failoverd.https import Link, LinkError
from failoverd.notify.teller import Hello

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping

    from failoverd.core.telling import Book
    from failoverd.notify.teller import Teller

PATH = "/peer/v1/alerts"
DEADLINE_MS = 1_000
UNABLE = frozenset({404, 503})
_HEADERS = "content-type: application/json\r\n"
_HELLO = TypeAdapter(Hello)
_log = structlog.get_logger(__name__)


def digest(book: Book) -> str:
    """Name what a book says."""
    entries = sorted((key, entry.rank) for key, entry in book.entries.items())
    return hashlib.sha256(repr((entries, sorted(book.told.items()))).encode()).hexdigest()[:16]


class Circle:
    """All other nodes, by address."""

    def __init__(self, nodes: Mapping[str, str], port: int, ssl_context: ssl.SSLContext) -> None:
        self._links = {name: Link(address, port, ssl_context) for name, address in nodes.items()}

    async def round(self, teller: Teller, now_ms: Callable[[], int], wall_ms: Callable[[], int]) -> None:
        """Exchange with every other node at once, for a second at most."""
        await asyncio.gather(*(self._with(name, teller, now_ms, wall_ms) for name in self._links))

    async def _with(self, name: str, teller: Teller, now_ms: Callable[[], int], wall_ms: Callable[[], int]) -> None:
        asked_as = teller.voice
        body = _HELLO.dump_json(teller.hello(digest(teller.shelf.book), name))
        try:
            answer = await self._links[name].request("POST", PATH, deadline_ms=DEADLINE_MS, body=body, headers=_HEADERS)
        except LinkError:
            return  # whether it is heard, its reports say
        if answer.status in UNABLE:
            teller.deaf(name)
        elif answer.status == 200:
            hello = understood(answer.body, name)
            if hello is not None:
                teller.learn(hello, now_ms(), asked_as=asked_as, wall_ms=wall_ms())

    def close(self) -> None:
        """End every connection."""
        for link in self._links.values():
            link.close()


def answer(teller: Teller, body: bytes, sender: str, now_ms: int, wall_ms: int) -> bytes | None:
    """What this node says to a hello; None: it was not understood."""
    hello = understood(body, sender)
    if hello is None:
        return None
    teller.learn(hello, now_ms, wall_ms=wall_ms)
    return _HELLO.dump_json(teller.hello(digest(teller.shelf.book), sender))


def understood(body: bytes, sender: str) -> Hello | None:
    """The hello in `body`, if it is one of `sender`'s."""
    try:
        hello = _HELLO.validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        _log.warning("what a node says of alerts is not understood", node=sender, reason=str(first["loc"]))
        return None
    return hello if hello.sender == sender else None
