"""What the public listener's routes are made from, and how they answer: one node's daemon, read and never changed.

Everything is read on the loop, and nothing is asked of the store, a peer or the disk, but for the history. Whoever asks
without end must not keep the loop from renewing the lease, however large a document becomes: one that was made within
the last tenth of a second is given again. (What says who is primary is made for each answer: see public_health.py.)
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING

from pydantic import TypeAdapter
from starlette.responses import Response

from failoverd.runtime.document import CheckDocument, StatusDocument
from failoverd.runtime.document_history import HistoryDocument
from failoverd.runtime.public_changes import Changes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from starlette.requests import Request

    from failoverd.config import Config
    from failoverd.core.view import View
    from failoverd.ports import Clock
    from failoverd.runtime.controller import NodeController
    from failoverd.runtime.daemon import Daemon
    from failoverd.runtime.trust import Trust

JSON = "application/json"
# An answer is of its moment: no cache may give it to anybody later. Nor is anything here to be run by a browser.
HEADERS = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
RECENT_MS = 100
_STATUS = TypeAdapter(StatusDocument)
_CHECK = TypeAdapter(CheckDocument)
_HISTORY = TypeAdapter(HistoryDocument)


class Recent:
    """What `make` made, made again where that is longer ago than RECENT_MS."""

    def __init__(self, clock: Clock, make: Callable[[], bytes]) -> None:
        self._clock = clock
        self._make = make
        self._made = b""
        self._made_ms: int | None = None

    def __call__(self) -> bytes:
        """Give it."""
        now_ms = self._clock.now_ms()
        if self._made_ms is None or now_ms - self._made_ms >= RECENT_MS:
            self._made, self._made_ms = self._make(), now_ms
        return self._made


class Shown:
    """One node."""

    def __init__(
        self,
        config: Config,
        clock: Clock,
        daemon: Daemon,
        controller: NodeController,
        alerts: Callable[[], tuple[int, int]] = lambda: (0, 0),  # (how many wait, how many were left out)
        *,
        trust: Trust | None = None,
    ) -> None:
        self.config = config
        self.clock = clock
        self.daemon = daemon
        self.controller = controller
        self.alerts = alerts
        self.trust = trust
        self.changes = Changes(daemon)
        self.status = Recent(clock, lambda: _STATUS.dump_json(controller.status()))
        self.check = Recent(clock, lambda: _CHECK.dump_json(controller.check()))

    async def history(self) -> bytes:
        """The past, for which the other nodes are asked: the historian bounds how often, and how long that takes."""
        return await asyncio.to_thread(_HISTORY.dump_json, await self.controller.history())

    def view(self) -> View:
        """What the node knows, as of now by its own clock."""
        return self.daemon.state.view.at(self.clock.now_ms())


def answer(request: Request, content: bytes, media_type: str = JSON, kept: Mapping[str, str] = HEADERS) -> Response:
    """A document, or 304 for who has exactly this one already."""
    tag = f'"{hashlib.blake2b(content, digest_size=12).hexdigest()}"'
    headers = {**kept, "etag": tag}
    if tag in [known.strip().removeprefix("W/") for known in request.headers.get("if-none-match", "").split(",")]:
        return Response(status_code=304, headers=headers)
    return Response(content, headers=headers, media_type=media_type)
