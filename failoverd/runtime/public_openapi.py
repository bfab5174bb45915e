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


async def _document(request: Request) -> Response:
    return answer(request, await asyncio.to_thread(openapi.document))


def routes(_: Shown) -> list[BaseRoute]:
    """The routes of this module."""
    return [Route("/v1/openapi.json", _document, methods=["GET"])]
