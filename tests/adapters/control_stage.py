"""A fake daemon behind a real control socket, and clusters to show: healthy, degraded, blocked."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

from failoverd.core.health import Sendings
from failoverd.core.model import Node, NodeKind, NodeName
from failoverd.core.policy import Policy
from failoverd.core.view import View
from failoverd.runtime.control import Controller, ControlServer
from failoverd.runtime.document import (
    Accepted,
    BoundStatus,
    CheckDocument,
    CheckedFinding,
    DatabaseStatus,
    Event,
    FailoverStatus,
    LeaseStatus,
    NodeStatus,
    Preview,
    Reason,
    Refused,
    RejoinDocument,
    ReplicationStatus,
    RequestStatus,
    RuleStatus,
    SemiSyncStatus,
    ServiceStatus,
    StatusDocument,
    StoreStatus,
    VipStatus,
)
from failoverd.runtime.document_history import Change, HistoryDocument, PastEvent, Phase
from failoverd.runtime.event_log import EventLog

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable
    from types import TracebackType

    from starlette.routing import Route

    from failoverd.runtime.access import Access
    from failoverd.runtime.document_access import Forbidden


def me() -> str:
    """What this process is called in the record, as the system's own tools would say it."""
    name = login = pwd.getpwuid(os.geteuid()).pw_name
    with contextlib.suppress(OSError, KeyError, ValueError):
        login = pwd.getpwuid(int(Path("/proc/self/loginuid").read_text())).pw_name
    return name if login == name else f"{login} (as {name})"


UP = ServiceStatus(verdict="up", votes={"mail1": "ok", "mail2": "ok", "arbiter": "ok"})


def data_node(name: str, last: int, *, source: str | None) -> NodeStatus:
    """Return one data node in good health; `source` is the address it receives from, None for the primary."""
    replication = ReplicationStatus(source=source or "", receiver="running", applier="running", lag_ms=12)
    return NodeStatus(
        name=name,
        kind="data",
        address=f"10.89.1.{last}",
        fresh=True,
        last_heard_ms=310,
        desired="replica" if source else "primary",
        actual="replica" if source else "primary",
        software="0.1.0",
        ready=True,
        serving=source is None,
        services={"imap": UP, "smtp": UP},
        database=DatabaseStatus(
            version="10.11.19",
            read_only=source is not None,
            position="0-1-512",
            semi_sync=SemiSyncStatus(source=source is None, replica=source is not None, clients=0 if source else 2),
            behind=0,
            replication=replication if source else None,
        ),
        vip=VipStatus(present=source is None),
    )


MAIL1 = data_node("mail1", 11, source=None)
MAIL2 = data_node("mail2", 12, source="10.89.1.11")
MAIL3 = data_node("mail3", 13, source="10.89.1.11")
ARBITER = NodeStatus(
    name="arbiter",
    kind="arbiter",
    address="10.89.1.14",
    fresh=True,
    last_heard_ms=402,
    desired="arbiter",
    actual="arbiter",
    software="0.1.0",
    services={},
)
HEALTHY = StatusDocument(
    cluster="lab",
    node="mail2",
    software="0.1.0",
    term=7,
    holder="mail1",
    lease=LeaseStatus(state="held", left_ms=2412),
    store=StoreStatus(kind="embedded", node="arbiter", reachable=True, version=4711),
    nodes=(MAIL1, replace(MAIL2, last_heard_ms=0), MAIL3, ARBITER),
    failover=FailoverStatus(possible=True, candidate="mail2"),
    rule=RuleStatus(id="replica-follows", why="another node holds the lease and this one follows it"),
)
DEGRADED = replace(
    HEALTHY,
    nodes=(
        MAIL1,
        replace(MAIL2, last_heard_ms=0),
        replace(
            MAIL3,
            desired="replica",
            actual="fenced",
            services={
                "imap": UP,
                "smtp": ServiceStatus(
                    verdict="down",
                    votes={
                        "mail1": "SMTP_REFUSED connection refused",
                        "mail2": "ok",
                        "arbiter": "SMTP_SILENT no banner",
                    },
                ),
            },
            database=DatabaseStatus(
                version="10.11.19",
                read_only=True,
                position="0-1-498",
                semi_sync=SemiSyncStatus(source=False, replica=True, clients=0),
                behind=14,
                replication=ReplicationStatus(
                    source="10.89.1.11",
                    receiver="running",
                    applier="stopped",
                    lag_ms=4100,
                    applier_error="Error 1062: duplicate entry for key PRIMARY",
                ),
            ),
            findings=(Reason(node="mail3", code="FND_NEEDS_REJOIN", reason="holds 3 transactions that mail1 lacks"),),
        ),
        ARBITER,
    ),
    failover=FailoverStatus(
        possible=True,
        candidate="mail2",
        rejected=(Reason(node="mail3", code="BLK_APPLIER", reason="mail3 does not apply: duplicate entry"),),
    ),
    request=RequestStatus(id="r1", target="mail2", by="root", reason="kernel update", text="gate closed on mail1"),
)
BLOCKED = replace(
    HEALTHY,
    lease=LeaseStatus(state="unknown"),
    store=StoreStatus(kind="embedded", node="arbiter", reachable=False, version=4711, error="no answer within 500 ms"),
    nodes=(
        replace(MAIL1, fresh=False, last_heard_ms=41_000),
        replace(MAIL2, last_heard_ms=0),
        replace(MAIL3, fresh=False, last_heard_ms=None, desired=None, actual=None, serving=None, ready=None,
                software=None, services={}, database=None, vip=None),
        replace(ARBITER, fresh=False, last_heard_ms=41_200),
    ),
    failover=FailoverStatus(
        possible=False,
        rejected=(Reason(node="mail3", code="BLK_UNREACHABLE", reason="no report from mail3 within 2000 ms"),),
        blockers=(
            Reason(code="BLK_STORE", reason="the store does not answer"),
            Reason(code="BLK_QUORUM", reason="no majority of observers agrees that mail1 is lost"),
        ),
    ),
    rule=RuleStatus(id="wait", why="what the store says is not known"),
)  # fmt: skip

PAUSED = replace(
    HEALTHY,
    paused="anna: moving the rack",
    failover=replace(
        HEALTHY.failover,
        possible=False,
        blockers=(Reason(code="BLK_PAUSED", reason="paused by anna: moving the rack"),),
    ),
)
UNPROVEN = replace(
    HEALTHY,
    unproven="no replica acknowledges, and writes go on all the same",
    failover=replace(HEALTHY.failover, possible=False),
)
BOUNDED = replace(HEALTHY, bound=BoundStatus(limit_ms=30_000, nearest="mail2", lag_ms=500, within=("mail2",)))
BEYOND = replace(HEALTHY, bound=BoundStatus(limit_ms=30_000, nearest="mail2", lag_ms=41_000))
CONDEMNED = replace(HEALTHY, lease=LeaseStatus(state="condemned", left_ms=1204, by="mail2"))
OFF = replace(HEALTHY, lease=LeaseStatus(state="off", by="anna: pulled both plugs"))


UNSYNCED = CheckedFinding(
    node="mail3",
    code="SET_SYNC_BINLOG",
    blocks=True,
    reason="sync_binlog = 0; allowed: 1",
    meaning="a crash loses what was acknowledged",
    fix="set sync_binlog = 1",
    page="runbooks/codes/SET_SYNC_BINLOG.md",
)
BEHIND = replace(UNSYNCED, code="LAG_WARN", blocks=False, reason="1000 ms behind mail1, the limit is 500 ms",
                 page="runbooks/codes/LAG_WARN.md")  # fmt: skip
FIT = CheckDocument(cluster="lab", node="mail2", fit=True, findings=(), failover=HEALTHY.failover, unseen=())
WARNED = replace(FIT, findings=(BEHIND,))
UNSEEN = replace(FIT, unseen=(Reason(code="BLK_STORE", reason="no answer within 500 ms", node="arbiter"),))
UNFIT = replace(FIT, fit=False, findings=(BEHIND, UNSYNCED), failover=BLOCKED.failover)


HOMECOMING = RejoinDocument(
    node="mail1",
    holder="mail2",
    action="rebuild",
    reason="it holds what mail2 lacks: 0-1:1004-1006",
    donor="mail3",
    transactions=3,
    ahead="/var/lib/failoverd/ahead",
)


SWITCHED = Change(
    id="term-7",
    term=7,
    kind="switchover",
    previous="mail2",
    holder="mail1",
    by="anna",
    reason="kernel update",
    rule="take-over-given",
    began="2026-03-01T12:00:00.000Z",
    ended="2026-03-01T12:00:00.206Z",
    outcome="done",
    outage_ms=199,
    request="0f3c",
    phases=(
        Phase(name="close-gate", node="mail2", began_ms=0, ended_ms=7, outcome="succeeded"),
        Phase(name="await-replica", node="mail1", began_ms=132, ended_ms=None, outcome="under-way"),
        Phase(name="open-gate", node="mail1", began_ms=194, ended_ms=206, outcome="failed", code="GATE_NFT"),
    ),
)
LOST = Change(
    id="term-6",
    term=6,
    kind="failover",
    previous="mail1",
    holder="mail2",
    by="failoverd",
    reason="a majority of observers has seen the lease run out",
    rule="primary-lost-by-quorum",
    began="2026-02-27T03:12:44.000Z",
    ended=None,
    outcome="unknown",
    outage_ms=None,
)
REFUSED = PastEvent(
    time="2026-03-01T11:59:00.000Z",
    node="mail2",
    kind="request",
    text="promote mail3",
    outcome="refused",
    by="anna",
    ended="2026-03-01T11:59:00.000Z",
    result="BLK_LAG: mail3 is 9000 ms behind",
    code="BLK_LAG",
)
ASKED = PastEvent(
    time="2026-03-01T11:59:59.900Z",
    node="mail2",
    kind="request",
    text="mail1 shall be primary",
    outcome="done",
    id="0f3c",
    by="anna",
    ended="2026-03-01T12:00:00.400Z",
    result="mail1 is primary as asked",
)
PAST = HistoryDocument(
    cluster="lab",
    node="mail2",
    changes=(SWITCHED, LOST),
    events=(ASKED, REFUSED),
    unseen=(Reason(code="HISTORY_UNSEEN", reason="no answer within 500 ms", node="mail3"),),
)


_MEMBER = Node(NodeName("mail2"), NodeKind.DATA, "10.89.1.12")
SEEN = View(_MEMBER, (_MEMBER,), Policy((), "mariadb.service", 3), "", 1000, Sendings("p"))


class Stage(Controller):
    """A controller whose cluster and answers a test sets. Its methods run in the server's loop."""

    def __init__(self) -> None:
        self.document = HEALTHY
        self.checked = FIT
        self.past = PAST
        self.seen = SEEN
        self.directory = Path("/nonexistent")
        self.planned = HOMECOMING
        self.refusal: Refused | None = None
        self.asked: list[tuple[str, ...]] = []
        self.preview = Preview(refused=())
        self.previewed: list[tuple[str, bool]] = []
        self.logs: dict[str, EventLog] = {}
        self.taken = threading.Event()
        self.turned_away: list[tuple[str, str, Refused]] = []
        self.shut_out: list[tuple[str, str, Forbidden]] = []
        self.recorded: list[tuple[str, str, str, str, dict[str, str]]] = []

    def status(self) -> StatusDocument:  # noqa: D102 - see Controller
        return self.document

    def check(self) -> CheckDocument:  # noqa: D102 - see Controller
        return self.checked

    def input(self) -> View:  # noqa: D102 - see Controller
        return self.seen

    def audit(self) -> Path:  # noqa: D102 - see Controller
        return self.directory

    def refused(self, what: str, by: str, why: Refused) -> None:  # noqa: D102 - see Controller
        self.turned_away.append((what, by, why))

    def noted(self, kind: str, text: str, by: str, *, code: str = "", **detail: str) -> None:  # noqa: D102 - see Controller
        self.recorded.append((kind, text, by, code, detail))

    def denied(self, where: str, what: str, why: Forbidden) -> None:  # noqa: D102 - see Controller
        self.shut_out.append((where, what, why))

    async def history(self) -> HistoryDocument:  # noqa: D102 - see Controller
        return self.past

    async def promote(  # noqa: D102 - see Controller
        self, target: str, by: str, reason: str, *, allow_loss: bool = False
    ) -> Accepted | Refused:
        return self._take(target, by, reason, *(("forced",) if allow_loss else ()))

    def would_promote(self, target: str, *, allow_loss: bool) -> Preview:  # noqa: D102 - see Controller
        self.previewed.append((target, allow_loss))
        return self.preview

    async def confirm_fenced(self, node: str, by: str, reason: str) -> Accepted | Refused:  # noqa: D102 - see Controller
        return self._take("confirm-fenced", node, by, reason)

    def rejoin_plan(self, node: str, donor: str, *, anew: bool) -> RejoinDocument:  # noqa: D102 - see Controller
        self.asked.append(("plan", node, donor, str(anew)))
        return self.planned

    async def rejoin(self, node: str, donor: str, by: str, *, anew: bool) -> Accepted | Refused:  # noqa: D102 - see Controller
        return self._take("rejoin", node, donor, by, str(anew))

    async def pause(  # noqa: D102 - see Controller
        self, by: str, reason: str, *, for_ms: int = 0, wait: bool = False
    ) -> Accepted | Refused:
        return self._take("pause", by, reason, *([str(for_ms)] if for_ms else []), *(["wait"] if wait else []))

    async def maintenance(  # noqa: D102 - see Controller
        self, node: str, by: str, reason: str, *, on: bool, for_ms: int = 0
    ) -> Accepted | Refused:
        return self._take("maintenance", node, by, reason, "on" if on else "off", str(for_ms))

    async def acknowledge(self, by: str, reason: str) -> Accepted | Refused:  # noqa: D102 - see Controller
        return self._take("acknowledge", by, reason)

    async def schedule(  # noqa: D102 - see Controller
        self, target: str, by: str, reason: str, at_ms: int
    ) -> Accepted | Refused:
        return self._take("schedule", target, by, reason, str(at_ms))

    async def cancel_scheduled(self, by: str) -> Accepted | Refused:  # noqa: D102 - see Controller
        return self._take("cancel-scheduled", by)

    def _take(self, *asked: str) -> Accepted | Refused:
        self.asked.append(asked)
        if self.refusal is not None:
            return self.refusal
        self.logs["r1"] = EventLog()
        self.taken.set()
        return Accepted(id="r1")

    async def events(self, request: str) -> AsyncIterator[Event] | None:  # noqa: D102 - see Controller
        log = self.logs.get(request)
        return None if log is None else log.follow()


class Running:
    """A stage's server in a thread of its own, as the daemon is a process of its own."""

    def __init__(self, path: Path, stage: Stage, routes: Iterable[Route] = (), access: Access | None = None) -> None:
        self.path = path
        self.stage = stage
        self.server = ControlServer(path, stage, routes, access)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self.server.start(), self._loop).result(10)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        left = asyncio.all_tasks(self._loop)
        self._loop.run_until_complete(asyncio.sleep(0.05))
        assert all(task.done() for task in left), left
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    def stop(self) -> None:
        """Stop the server; the thread stays."""
        with contextlib.suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(self.server.stop(), self._loop).result(10)

    def until_asked(self) -> None:
        """Wait until a request was accepted."""
        assert self.stage.taken.wait(10)

    def call(self, work: Callable[[], object]) -> None:
        """Do something in the server's loop and wait until it is done."""

        async def doing() -> None:
            work()

        asyncio.run_coroutine_threadsafe(doing(), self._loop).result(10)
