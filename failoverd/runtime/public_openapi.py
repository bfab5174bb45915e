"""`/v1/openapi.json`: what is answered here and on the control socket, see openapi.py."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from starlette.routing import Route

from failoverd.runtime import openapi
from failoverd.runtime.public_shown import Shown, answer

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute


class _OpenApi:
    """Made in a thread, by the first who asks; whoever asks meanwhile waits for the same."""

    def __init__(self) -> None:
        self._made: asyncio.Future[bytes] | None = None

    async def document(self, request: Request) -> Response:
        if self._made is None:
            self._made = asyncio.ensure_future(asyncio.to_thread(openapi.document))
        return answer(request, await asyncio.shield(self._made))


def routes(_: Shown) -> list[BaseRoute]:
    """The routes of this module."""
    return [Route("/v1/openapi.json", _OpenApi().document, methods=["GET"])]
