"""The control socket: how failoverctl, on the same host, talks to the daemon. HTTP on a Unix socket.

    GET  /v1/status                     200 StatusDocument
    GET  /v1/check                      200 CheckDocument
    GET  /v1/version                    200 {"api", "node", "software"}
    GET  /v1/history                    200 HistoryDocument: changes of primary and how requests ended, newest first
    GET  /v1/input                      200 {"api", "node", "software", "view"}: what this node would decide on now
    GET  /v1/audit                      200 NDJSON, the newest records of this node's audit, some MB at most
    POST /v1/promote {node, reason}     202 Accepted | 409 Refused: nothing was touched | 400 not understood
    POST /v1/promote-forced, the same   past what protects from loss, never past the lease; needs a reason
    POST /v1/would-promote {node, allow_loss}   200 Preview: what the same would come to, nothing is asked
    POST /v1/confirm-fenced, the same   likewise: the node has no power, says who asks
    POST /v1/pause and other orders     likewise: see control_orders.py
    GET  /v1/rejoin?node=&donor=&anew=  200 RejoinDocument: what the next would do
    POST /v1/rejoin {node, donor, anew} 202 | 409 | 400, as promote; donor "": any that is fit
    GET  /v1/alerts, POST /v1/alerts/test   see alerting.py
    GET  /v1/requests/ID/events         200 NDJSON, one Event a line from the first on | 404 no such request

A request belongs to the daemon from its 202 on: who asked may go away, come back and read its events again from the
first. While there is nothing new an empty line a second says that the daemon lives. The daemon itself is behind
`Controller`; event_log.py keeps one request's events for whoever asks, whenever.

Every answer may be 403 Forbidden: who may what is settled at the door (door.py, access_roles.py). As long as the
configuration names nobody but root, the socket has mode 0600; then anybody may connect, and the door decides. Its
directory lets everybody through and nobody look around.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import structlog
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, field_validator
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from failoverd import __version__, views
from failoverd.audit import reading
from failoverd.runtime import control_orders
from failoverd.runtime.access import Access
from failoverd.runtime.asked import Body, answered, understood
from failoverd.runtime.callers import local_caller
from failoverd.runtime.control_orders import OrderController
from failoverd.runtime.document import (
    Accepted,
    CheckDocument,
    Event,
    Preview,
    Refused,
    RejoinDocument,
    StatusDocument,
)
from failoverd.runtime.document_history import HistoryDocument
from failoverd.runtime.door import Door
from failoverd.runtime.http import Limits, Server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator
    from pathlib import Path

    from starlette.requests import Request

    from failoverd.config.access import Access as Section
    from failoverd.core.view import View
    from failoverd.runtime.accepting import Admission
    from failoverd.runtime.document_access import Forbidden

CLOSED, OPEN = 0o600, 0o666
THROUGH = 0o011  # of the directory: to pass, and not to look around
LIMITS = Limits(request=64 << 10, of_one=64)
PULSE_S = 1.0
AUDIT_BYTES = 16 << 20
AUDIT_CHUNK = 256 << 10

_STATUS = TypeAdapter(StatusDocument)
_CHECK = TypeAdapter(CheckDocument)
_HISTORY = TypeAdapter(HistoryDocument)
_EVENT = TypeAdapter(Event)
_PREVIEW = TypeAdapter(Preview)
_REJOIN = TypeAdapter(RejoinDocument)
_log = structlog.get_logger(__name__)


class Controller(OrderController, Protocol):
    """What the daemon does for an operator. Called in the loop; quick, except for `events`."""

    def status(self) -> StatusDocument:
        """The cluster as this node sees it now."""
        ...

    def check(self) -> CheckDocument:
        """Whether the cluster is fit to fail over."""
        ...

    async def history(self) -> HistoryDocument:
        """The changes of primary and how requests ended, of all nodes that answer within half a second."""
        ...

    def input(self) -> View:
        """All that this node knows now: what the next decision is made on."""
        ...

    def audit(self) -> Path:
        """The directory that this node's audit is in."""
        ...

    def refused(self, what: str, by: str, why: Refused) -> None:
        """Note that a request was refused: whoever asked may be gone by now."""
        ...

    def noted(self, kind: str, text: str, by: str, *, code: str = "", **detail: str) -> None:
        """Note what another part of the daemon was asked for, or what came of it."""
        ...

    def denied(self, where: str, what: str, why: Forbidden) -> None:
        """Count, and note, that somebody may not ask for something. `where`: "socket", or the caller's address."""
        ...

    async def promote(self, target: str, by: str, reason: str, *, allow_loss: bool = False) -> Accepted | Refused:
        """Ask for `target` as primary. Accepted: it is on its way, and its events can be asked for.

        `allow_loss`: the primary is gone, and what `target` lacks may be lost with it.
        """
        ...

    def would_promote(self, target: str, *, allow_loss: bool) -> Preview:
        """What `promote` would come to now; asks nothing of anybody."""
        ...

    async def confirm_fenced(self, node: str, by: str, reason: str) -> Accepted | Refused:
        """Put into the store that `by` says that `node`, the last primary, has no power."""
        ...

    def rejoin_plan(self, node: str, donor: str, *, anew: bool) -> RejoinDocument:
        """What `rejoin` would do."""
        ...

    async def rejoin(self, node: str, donor: str, by: str, *, anew: bool) -> Accepted | Refused:
        """Make a data node that cannot follow come home."""
        ...

    async def events(self, request: str) -> AsyncIterator[Event] | None:
        """The events of a request from the first to the final one, as they come; None when there is no such."""
        ...


class _Promote(Body):
    node: str = Field(max_length=64)
    reason: str = Field(max_length=200)


class _PromoteForced(_Promote):
    @field_validator("reason")
    @classmethod
    def _says_why(cls, reason: str) -> str:
        if not reason.strip():
            raise ValueError("is needed: it goes into the record of what was given up")
        return reason


class _WouldPromote(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    node: str = Field(max_length=64)
    allow_loss: bool = False


class _ConfirmFenced(Body):
    node: str = Field(max_length=64)
    reason: str = Field(min_length=1, max_length=200)


class _Rejoin(Body):
    node: str = Field(max_length=64)
    donor: str = Field(max_length=64)
    anew: bool


@dataclass(frozen=True)
class _Api:
    controller: Controller

    async def status(self, _: Request) -> Response:
        return Response(_STATUS.dump_json(self.controller.status()), media_type="application/json")

    async def check(self, _: Request) -> Response:
        return Response(_CHECK.dump_json(self.controller.check()), media_type="application/json")

    async def history(self, _: Request) -> Response:
        document = await self.controller.history()
        return Response(await asyncio.to_thread(_HISTORY.dump_json, document), media_type="application/json")

    async def input(self, _: Request) -> Response:
        view = self.controller.input()
        try:
            data = await asyncio.to_thread(views.encode, view)
        except views.ViewError as error:
            return PlainTextResponse(str(error), 500)
        said = json.dumps({"api": "v1", "node": view.me.name, "software": __version__})
        return Response(said[:-1].encode() + b', "view": ' + data + b"}", media_type="application/json")

    async def audit(self, _: Request) -> Response:
        directory = self.controller.audit()
        chunks = _chunks(reading.tail_lines(directory, AUDIT_BYTES))
        try:
            first = await asyncio.to_thread(next, chunks, b"")
        except OSError as error:
            return PlainTextResponse(f"{directory}: {error.strerror}", 404)
        return StreamingResponse(_beside(first, chunks), media_type="application/x-ndjson")

    async def version(self, _: Request) -> Response:
        document = self.controller.status()
        return JSONResponse({"api": document.api, "node": document.node, "software": document.software})

    async def promote(self, request: Request) -> Response:
        return await answered(request, _Promote, lambda a, by: self.controller.promote(a.node, by, a.reason))

    async def promote_forced(self, request: Request) -> Response:
        return await answered(
            request, _PromoteForced, lambda a, by: self.controller.promote(a.node, by, a.reason, allow_loss=True)
        )

    async def would_promote(self, request: Request) -> Response:
        asked = await understood(request, _WouldPromote)
        if isinstance(asked, Response):
            return asked
        preview = self.controller.would_promote(asked.node, allow_loss=asked.allow_loss)
        return Response(_PREVIEW.dump_json(preview), media_type="application/json")

    async def confirm_fenced(self, request: Request) -> Response:
        return await answered(
            request, _ConfirmFenced, lambda a, by: self.controller.confirm_fenced(a.node, by, a.reason)
        )

    async def rejoin_plan(self, request: Request) -> Response:
        asked = request.query_params
        plan = self.controller.rejoin_plan(
            asked.get("node", "")[:64], asked.get("donor", "")[:64], anew=asked.get("anew") == "true"
        )
        return Response(_REJOIN.dump_json(plan), media_type="application/json")

    async def rejoin(self, request: Request) -> Response:
        return await answered(request, _Rejoin, lambda a, by: self.controller.rejoin(a.node, a.donor, by, anew=a.anew))

    async def events(self, request: Request) -> Response:
        events = await self.controller.events(request.path_params["id"])
        if events is None:
            return PlainTextResponse("no such request here; it may have been another daemon's life", 404)
        return StreamingResponse(_lines(events), media_type="application/x-ndjson")


def _chunks(lines: Iterator[bytes]) -> Iterator[bytes]:
    """Lines in pieces that are worth a thread's turn."""
    chunk: list[bytes] = []
    size = 0
    for line in lines:
        chunk.append(line)
        size += len(line)
        if size >= AUDIT_CHUNK:
            yield b"".join(chunk)
            chunk, size = [], 0
    yield b"".join(chunk)


async def _beside(first: bytes, chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    """All of them, read beside the loop."""
    chunk: bytes | None = first
    while chunk is not None:
        yield chunk
        chunk = await asyncio.to_thread(next, chunks, None)


async def _lines(events: AsyncIterator[Event]) -> AsyncIterator[bytes]:
    """One line an event; an empty one when there was nothing for a second."""
    following = aiter(events)
    while True:
        coming = asyncio.ensure_future(anext(following))
        try:
            while not (await asyncio.wait({coming}, timeout=PULSE_S))[0]:
                yield b"\n"
            event = await coming
        except StopAsyncIteration:
            return
        finally:
            coming.cancel()
        yield _EVENT.dump_json(event) + b"\n"


class ControlServer:
    """Serves `controller` at `path` to those whom `access` lets in; without one to root and the daemon's own user."""

    def __init__(
        self,
        path: Path,
        controller: Controller,
        routes: Iterable[Route] = (),
        access: Access | None = None,
        *,
        admission: Admission | None = None,
    ) -> None:
        self._path, self._admission = path, admission
        self._access = access or Access()
        api = _Api(controller)
        self.door = Door(
            self._access,
            [
                Route("/v1/status", api.status, methods=["GET"]),
                Route("/v1/check", api.check, methods=["GET"]),
                Route("/v1/history", api.history, methods=["GET"]),
                Route("/v1/input", api.input, methods=["GET"]),
                Route("/v1/audit", api.audit, methods=["GET"]),
                Route("/v1/version", api.version, methods=["GET"]),
                Route("/v1/promote", api.promote, methods=["POST"]),
                Route("/v1/promote-forced", api.promote_forced, methods=["POST"]),
                Route("/v1/would-promote", api.would_promote, methods=["POST"]),
                Route("/v1/confirm-fenced", api.confirm_fenced, methods=["POST"]),
                *control_orders.routes(controller),
                Route("/v1/rejoin", api.rejoin_plan, methods=["GET"]),
                Route("/v1/rejoin", api.rejoin, methods=["POST"]),
                Route("/v1/requests/{id}/events", api.events, methods=["GET"]),
                *routes,
            ],
            controller.denied,
        )
        self.door.app.state.refused = controller.refused
        self.door.app.state.noted = controller.noted
        self._server: Server | None = None

    async def start(self) -> None:
        """Listen, in the place of a socket that an earlier daemon left. Raises OSError."""
        new = self._path.with_name(self._path.name + ".new")
        new.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(str(new))
            self._open(new)  # before anyone can connect: nobody listens yet
            self._server = Server(self.door, listener, limits=LIMITS, who=local_caller, admission=self._admission)
            await self._server.start()
            new.rename(self._path)
        except BaseException:
            listener.close()
            raise
        await self._access.start()

    def _open(self, path: Path) -> None:
        """Let connect whom the configuration names, or nobody but the owner. Raises OSError."""
        path.chmod(OPEN if self._access.names_others else CLOSED)
        directory = path.parent.stat().st_mode
        if self._access.names_others and directory & THROUGH != THROUGH:
            path.parent.chmod(stat.S_IMODE(directory) | THROUGH)

    def reload(self, access: Section) -> None:
        """Go by another configuration's section `access`."""
        self._access.reload(access)
        try:
            self._open(self._path)
        except OSError as error:
            _log.warning("the control socket stays as it was", reason=error.strerror)

    async def stop(self) -> None:
        """End every connection and remove the socket."""
        await self._access.stop()
        if self._server is not None:
            with contextlib.suppress(FileNotFoundError):
                self._path.unlink()
            await self._server.stop()
            self._server = None
