"""The documents that the control socket has as well, for who only looks.

GET /v1/status     200 StatusDocument: the cluster as this node sees it
GET /v1/check      200 CheckDocument: whether it is fit to fail over
GET /v1/version    200 VersionDocument
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import TypeAdapter
from starlette.routing import Route

from failoverd.runtime.public_shown import Shown, answer

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionDocument:
    """Which API this is, and whose."""

    api: Literal["v1"] = "v1"
    node: str
    software: str


_VERSION = TypeAdapter(VersionDocument)


@dataclass(frozen=True, slots=True)
class _Documents:
    shown: Shown

    async def status(self, request: Request) -> Response:
        return answer(request, self.shown.status())

    async def check(self, request: Request) -> Response:
        return answer(request, self.shown.check())

    async def history(self, request: Request) -> Response:
        return answer(request, await self.shown.history())

    async def version(self, request: Request) -> Response:
        state = self.shown.daemon.state
        return answer(request, _VERSION.dump_json(VersionDocument(node=state.view.me.name, software=state.software)))


def routes(shown: Shown) -> list[BaseRoute]:
    """The routes of this module."""
    documents = _Documents(shown)
    return [
        Route("/v1/status", documents.status, methods=["GET"]),
        Route("/v1/check", documents.check, methods=["GET"]),
        Route("/v1/history", documents.history, methods=["GET"]),
        Route("/v1/version", documents.version, methods=["GET"]),
    ]
