"""A node's public listener with documents that a test sets, and clusters to show on the page."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

from control_stage import (
    ARBITER,
    BEYOND,
    BLOCKED,
    DEGRADED,
    FIT,
    HEALTHY,
    MAIL1,
    MAIL2,
    PAUSED,
    UNFIT,
    data_node,
)
from pydantic import TypeAdapter
from starlette.applications import Starlette
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from failoverd.runtime import page
from failoverd.runtime.document import (
    CheckDocument,
    CheckedFinding,
    FailoverStatus,
    HostStatus,
    LeaseStatus,
    LossStatus,
    MaintenanceStatus,
    Reason,
    RebuildStatus,
    ScheduledStatus,
    StatusDocument,
    UnitStatus,
    VipStatus,
)
from failoverd.runtime.document_history import Change, HistoryDocument, PastEvent, Phase
from failoverd.runtime.http import Server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from types import TracebackType

    from starlette.requests import Request

_STATUS, _CHECK, _HISTORY = TypeAdapter(StatusDocument), TypeAdapter(CheckDocument), TypeAdapter(HistoryDocument)
PULSE_S = 0.5
SHOWN: Any = None  # the page shows no daemon: it asks for the documents


def _phase(name: str, node: str, began_ms: int, ended_ms: int | None, code: str = "") -> Phase:
    outcome: Any = "under-way" if ended_ms is None else "failed" if code else "succeeded"
    return Phase(name=name, node=node, began_ms=began_ms, ended_ms=ended_ms, outcome=outcome, code=code)


FAILOVER = Change(
    id="term-8",
    term=8,
    kind="failover",
    previous="mail1",
    holder="mail2",
    by="failoverd",
    reason="a majority of observers cannot use mail1: BLK_UNREACHABLE",
    rule="primary-lost-by-quorum",
    began="2026-11-28T03:12:07.120Z",
    ended="2026-11-28T03:12:09.870Z",
    outcome="done",
    outage_ms=2650,
    phases=(
        _phase("lease-runs-out", "mail1", 0, 2310),
        _phase("take-term", "mail2", 2310, 2330),
        _phase("become-source", "mail2", 2330, 2400),
        _phase("attach-replica", "mail2", 2400, 2720, "STEP_TIMEOUT"),
        _phase("make-writable", "mail2", 2400, 2480),
        _phase("open-gate", "mail2", 2480, 2510),
        _phase("add-vip", "mail2", 2510, 2650),
        _phase("follow", "mail3", 2660, 2750),
    ),
)
SWITCHOVER = Change(
    id="term-7",
    term=7,
    kind="switchover",
    previous="mail3",
    holder="mail1",
    by="anna",
    reason="kernel update",
    rule="take-over-given",
    began="2026-11-21T21:40:00.000Z",
    ended="2026-11-21T21:40:00.210Z",
    outcome="done",
    outage_ms=160,
    phases=(
        _phase("close-gate", "mail3", 8, 38),
        _phase("make-read-only", "mail3", 38, 53),
        _phase("open-gate", "mail1", 180, 199),
    ),
    request="r1",
)
ADOPTION = Change(
    id="term-1",
    term=1,
    kind="adoption",
    previous=None,
    holder="mail1",
    by="failoverd",
    reason="it runs as the primary, and all replicas agree",
    rule="adopt-running-primary",
    began="2026-10-01T08:00:00.000Z",
    ended=None,
    outcome="done",
    outage_ms=None,
)
HISTORY = HistoryDocument(
    cluster="lab",
    node="mail2",
    changes=(SWITCHOVER, ADOPTION),
    events=(
        PastEvent(
            time="2026-11-21T21:39:59.000Z",
            node="mail1",
            kind="request",
            text="promote mail1",
            outcome="done",
            id="r1",
            by="anna",
            ended="2026-11-21T21:40:00.210Z",
            result="mail1 is primary as asked",
        ),
        PastEvent(
            time="2026-11-20T09:12:00.000Z",
            node="mail3",
            kind="request",
            text="promote mail2",
            outcome="refused",
            id="r0",
            by="bert",
            ended="2026-11-20T09:12:00.004Z",
            result="mail2 is 7000 ms behind, the limit is 1500 ms",
            code="BLK_LAG",
        ),
    ),
)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What a node's listener says."""

    status: StatusDocument
    check: CheckDocument = FIT
    history: HistoryDocument = HISTORY


HOST = HostStatus(load_per_core=0.2, memory_free_percent=61.0, disk_free_percent=43.4, fullest_disk="/var/lib/mysql")


def _hosted(status: StatusDocument) -> StatusDocument:
    return replace(
        status, nodes=tuple(replace(node, host=node.host or HOST) if node.fresh else node for node in status.nodes)
    )


FAILED_OVER = replace(
    HEALTHY,
    term=8,
    holder="mail2",
    nodes=(
        replace(MAIL1, fresh=False, last_heard_ms=9_000, desired="replica", vip=VipStatus(present=True)),
        data_node("mail2", 12, source=None),
        data_node("mail3", 13, source="10.89.1.12"),
        ARBITER,
    ),
    failover=FailoverStatus(
        possible=True,
        candidate="mail3",
        rejected=(Reason(node="mail1", code="BLK_UNREACHABLE", reason="no report from mail1 within 2000 ms"),),
    ),
)
BUSY = replace(
    DEGRADED,
    paused="anna: moving the rack",
    paused_until="2026-11-28T23:00:00Z",
    unproven="no replica acknowledges, and writes go on all the same",
    scheduled=ScheduledStatus(
        id="s1",
        target="mail3",
        by="anna",
        reason="firmware of mail1",
        at="2026-11-29T03:00:00Z",
        unfit=Reason(node="mail3", code="BLK_LAG", reason="mail3 is 7000 ms behind, the limit is 1500 ms"),
    ),
    bound=BEYOND.bound,
    lease=LeaseStatus(state="condemned", left_ms=1204, by="mail2"),
    nodes=(
        replace(MAIL1, units=(UnitStatus(unit="dovecot.service", active="failed", sub="exit-code"),), ready=False),
        replace(
            MAIL2,
            last_heard_ms=0,
            maintenance=MaintenanceStatus(by="anna", reason="new disks", until="2026-11-29T01:00:00Z"),
            host=replace(HOST, disk_free_percent=3.2),
        ),
        replace(
            DEGRADED.nodes[2],
            rebuild=RebuildStatus(
                under_way=True,
                stage="receive",
                received=412_000_000,
                expected=2_100_000_000,
                rate=98_000_000,
                left_ms=17_000,
            ),
        ),
        ARBITER,
    ),
    refused=(Reason(node="mail2", code="HOST_REALTIME", reason="the host grants no real-time scheduling"),),
)


def many(count: int) -> StatusDocument:
    """Give a cluster of `count` data nodes, the last of which receives from the one before."""
    names = [f"mail{number}" for number in range(1, count + 1)]
    nodes = [MAIL1] + [data_node(name, 10 + at, source="10.89.1.11") for at, name in enumerate(names[1:], 2)]
    nodes[-1] = data_node(names[-1], 10 + count, source=nodes[-2].address)
    return replace(HEALTHY, nodes=(*nodes, ARBITER))


HOSTILE_TEXT = '<img src=x onerror="document.title=1"><script>document.title=2</script>&amp;" \'</td></table>'
_HOSTILE_FINDING = CheckedFinding(
    node="mail3",
    code="SET_SYNC_BINLOG",
    blocks=True,
    reason=HOSTILE_TEXT,
    meaning=HOSTILE_TEXT,
    fix=HOSTILE_TEXT,
    page="javascript:document.title=3",
)
_HOSTILE_REASON = Reason(node=HOSTILE_TEXT, code='"><script>', reason=HOSTILE_TEXT)
HOSTILE = Scene(
    status=replace(
        DEGRADED,
        cluster=HOSTILE_TEXT,
        paused=HOSTILE_TEXT,
        nodes=(
            replace(
                MAIL1,
                address='javascript:document.title="4"',
                units=(UnitStatus(unit=HOSTILE_TEXT, active=HOSTILE_TEXT, sub=HOSTILE_TEXT),),
                findings=(_HOSTILE_REASON,),
            ),
            *DEGRADED.nodes[1:],
        ),
        failover=FailoverStatus(possible=False, rejected=(_HOSTILE_REASON,), blockers=(_HOSTILE_REASON,)),
    ),
    check=replace(UNFIT, findings=(_HOSTILE_FINDING,), unseen=(_HOSTILE_REASON,)),
    history=replace(
        HISTORY,
        changes=(replace(FAILOVER, reason=HOSTILE_TEXT, by=HOSTILE_TEXT, began=HOSTILE_TEXT, rule="../../x?<b>"),),
        unseen=(_HOSTILE_REASON,),
    ),
)
ALL_AFFORDED = tuple(LossStatus(node=name, serves=True, replaceable=True) for name in ("mail2", "mail3", "arbiter"))
NOT_ALL_AFFORDED = (
    LossStatus(node="mail2", serves=False, replaceable=False),
    LossStatus(node="mail3", serves=True, replaceable=True),
    LossStatus(node="arbiter", serves=True, replaceable=False),
)


def _unheard(name: str) -> Reason:
    return Reason(code="BLK_UNREACHABLE", reason=f"no report from {name} within 2000 ms", node=name)


UNSEEN = replace(
    UNFIT,
    findings=(),
    unseen=(
        Reason(code="BLK_STORE", reason="no answer within 500 ms", node="arbiter"),
        *(_unheard(name) for name in ("mail1", "mail3", "arbiter")),
    ),
)
LOST = replace(
    HEALTHY,
    lease=LeaseStatus(state="ended"),
    nodes=(replace(MAIL1, fresh=False, last_heard_ms=9_000), *HEALTHY.nodes[1:]),
    failover=FailoverStatus(
        possible=False,
        blockers=(Reason(code="BLK_FLAPPING", reason="3 changes of primary within 3600 s, no more are allowed"),),
    ),
)
SCENES = {
    "healthy": Scene(status=_hosted(replace(HEALTHY, afford=ALL_AFFORDED))),
    "degraded": Scene(status=_hosted(replace(DEGRADED, afford=NOT_ALL_AFFORDED)), check=UNFIT),
    "blocked": Scene(status=BLOCKED, check=UNSEEN),
    "lost": Scene(status=_hosted(LOST), check=UNFIT),
    "paused": Scene(status=_hosted(PAUSED)),
    "failed-over": Scene(
        status=_hosted(FAILED_OVER),
        check=replace(FIT, failover=FAILED_OVER.failover, unseen=(_unheard("mail1"),)),
        history=replace(HISTORY, changes=(FAILOVER, SWITCHOVER, ADOPTION)),
    ),
    "busy": Scene(status=_hosted(BUSY), check=UNFIT, history=replace(HISTORY, changes=(FAILOVER, SWITCHOVER))),
    "three": Scene(status=_hosted(many(3))),
    "nine": Scene(status=_hosted(many(9))),
    "hostile": HOSTILE,
}


class Listener:
    """The page's routes and the documents behind them, in a thread of its own; can end, freeze and come back."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.frozen = False
        self.asked: list[str] = []
        self._port = 0
        self._thread = threading.Thread(target=lambda: asyncio.run(self._live()))
        self._ready = threading.Event()
        self._server: Server | None = None

    async def _live(self) -> None:
        self._loop, self._ended, self._changed = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
        self._ready.set()
        await self._ended.wait()

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://127.0.0.1:{self._port}/"

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10)
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(10)

    def start(self) -> None:
        """Listen, where it did before."""

        async def starting() -> None:
            listener = socket.socket()
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", self._port))
            self._port = listener.getsockname()[1]
            self._server = Server(self._app(), listener)
            await self._server.start()

        asyncio.run_coroutine_threadsafe(starting(), self._loop).result(10)

    def stop(self) -> None:
        """End every connection and listen no more."""
        server, self._server = self._server, None
        if server is not None:
            asyncio.run_coroutine_threadsafe(server.stop(), self._loop).result(10)

    def show(self, scene: Scene) -> None:
        """Say something else from now on, at once."""

        async def showing() -> None:
            self.scene = scene
            changed, self._changed = self._changed, asyncio.Event()
            changed.set()

        asyncio.run_coroutine_threadsafe(showing(), self._loop).result(10)

    def _app(self) -> Starlette:
        async def document(request: Request) -> Response:
            self.asked.append(request.url.path)
            scene = self.scene
            body = {
                "/v1/status": lambda: _STATUS.dump_json(scene.status),
                "/v1/check": lambda: _CHECK.dump_json(scene.check),
                "/v1/history": lambda: _HISTORY.dump_json(scene.history),
            }[request.url.path]()
            return Response(body, media_type="application/json", headers={"cache-control": "no-store"})

        async def events(_: Request) -> Response:
            return StreamingResponse(self._events(), media_type="text/event-stream")

        documents = [Route(f"/v1/{name}", document, methods=["GET"]) for name in ("status", "check", "history")]
        return Starlette(routes=[Route("/v1/events", events, methods=["GET"]), *documents, *page.routes(SHOWN)])

    async def _events(self) -> AsyncIterator[bytes]:
        while True:
            if not self.frozen:
                yield b"event: status\ndata: " + _STATUS.dump_json(self.scene.status) + b"\n\n"
                yield b"event: history\ndata: " + _HISTORY.dump_json(self.scene.history) + b"\n\n"
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), PULSE_S)
