"""Between the daemon and the telling of alerts (failoverd/notify): looks in, routes out.

    every half second   status and check documents ──> Look ──> herald, in its own thread
    other nodes         POST /peer/v1/alerts        on the nodes' HTTPS server, members only
    operators           GET  /v1/alerts             200 AlertsDocument
                        POST /v1/alerts/test {receiver}  200 AlertTests ("": each) | 404 no such receiver

A look costs the daemon's loop what a status costs, a fraction of a millisecond, and nothing on it waits for a receiver,
a disk or a name: what it asks of the other thread has a deadline, and only who asked waits.
"""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING

import structlog
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from failoverd.core import candidates
from failoverd.core.alerts import Alert, Look
from failoverd.core.findings import FINDINGS, Severity
from failoverd.core.model import NodeName
from failoverd.notify import circle
from failoverd.notify.body import time_of
from failoverd.runtime import document_alerts as doc
from failoverd.runtime.asked import understood
from failoverd.runtime.controller import no_copies

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from starlette.requests import Request

    from failoverd.config import Config
    from failoverd.core.model import Record
    from failoverd.notify.delivery import Attempt
    from failoverd.notify.herald import Herald, ReceiverState, State
    from failoverd.ports import Clock
    from failoverd.runtime.controller import NodeController
    from failoverd.runtime.daemon import Daemon
    from failoverd.runtime.document import CheckDocument, CheckedFinding, Reason, StatusDocument

LOOK_S = 0.5
# After its start a daemon has not looked at everything yet: as long as the rarest probe takes (schedule.py), and some.
GRACE_MS = 70_000
# These a person has asked for, or they pass by themselves.
MILD = frozenset({"BLK_PAUSED", "BLK_HOLD_OFF", "BLK_REQUEST", "BLK_UNREACHABLE"})

_DOCUMENT = TypeAdapter(doc.AlertsDocument)
_TESTS = TypeAdapter(doc.AlertTests)
_log = structlog.get_logger(__name__)


class Alerting:
    """One node's alerts; without receivers in the configuration nothing runs."""

    def __init__(
        self,
        config: Config,
        clock: Clock,
        daemon: Daemon,
        controller: NodeController,
        outgoing: ssl.SSLContext,
        *,
        recorded: Callable[[NodeName], Awaitable[str]] = no_copies,
    ) -> None:
        self._config, self._clock, self._daemon, self._controller = config, clock, daemon, controller
        self._outgoing = outgoing
        self._recorded = _Recorded(recorded)
        self._herald = self._made(config)
        self._processes = _Processes()
        self._task: asyncio.Task[None] | None = None

    def _made(self, config: Config) -> Herald | None:
        """Who tells, where there is somebody to tell. Raises OSError."""
        if not config.alerts.receivers:
            return None
        # Loaded only here: a daemon that is started again has a lease to renew.
        from failoverd.notify.herald import Herald  # noqa: PLC0415 - as it says

        return Herald(config, self._outgoing, self._clock, self._daemon.observed)

    def reload(self, config: Config) -> Callable[[], Awaitable[None] | None]:
        """Prepare to tell as `config` says, in a thread. Raises OSError. What it returns runs on the loop."""
        if config.alerts == self._config.alerts:
            return lambda: None
        herald = self._made(config)

        async def take() -> None:
            await self.stop()
            self._config, self._herald, self._task = config, herald, None
            await self.start()

        return take

    async def start(self) -> None:
        """Begin to look."""
        if self._herald is not None:
            self._herald.start()
            self._task = asyncio.get_running_loop().create_task(self._look_on(self._herald))

    async def stop(self) -> None:
        """Look no more; what has not been told is on disk."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._herald is not None:
            await self._herald.stop()

    @property
    def queued(self) -> int:
        """How many messages wait here (failoverd_alerts_queued)."""
        return self._herald.queued if self._herald is not None else 0

    @property
    def dropped(self) -> int:
        """How many messages this node's queue has left out (failoverd_alerts_dropped_total)."""
        return self._herald.dropped if self._herald is not None else 0

    async def _look_on(self, herald: Herald) -> None:
        while True:
            try:
                self._look(herald)
            except Exception as error:  # noqa: BLE001 - a bug in telling must not end the daemon; it is not hidden
                _log.error("the look for alerts failed", code="ALERTS_BUG", exc_info=error)
            await asyncio.sleep(LOOK_S)

    def _look(self, herald: Herald) -> None:
        view, now_ms = self._daemon.state.view, self._clock.now_ms()
        running = {str(view.me.name): view.sendings.process} | {str(r.sender): r.process for r in view.reports}
        status, check = self._controller.status(), self._controller.check()
        serving = any(node.name == status.holder and node.fresh and node.serving for node in status.nodes)
        recorded = self._recorded.of(NodeName(status.holder) if status.holder and serving else None, status.term)
        look = look_of(status, check, view.record, self._processes.lately(running, now_ms), recorded)
        herald.look(look, frozenset(node.name for node in status.nodes if node.fresh and node.name != status.node))

    # ---- routes -------------------------------------------------------------------------------------------------

    def peer_routes(self) -> list[Route]:
        """What the nodes' HTTPS server has to serve."""
        return [Route(circle.PATH, self._exchange, methods=["POST"])]

    def control_routes(self) -> list[Route]:
        """What the control socket has to serve."""
        return [
            Route("/v1/alerts", self._show, methods=["GET"]),
            Route("/v1/alerts/test", self._test, methods=["POST"]),
        ]

    async def _exchange(self, request: Request) -> Response:
        if self._herald is None:
            return PlainTextResponse("no receivers here", 404)
        body = await request.body()
        try:
            answer = await self._herald.answer(request.state.peer, body)
        except TimeoutError:
            answer = None
        if answer is None:
            return PlainTextResponse("this node cannot tell now", 503)
        return Response(answer, media_type="application/json")

    async def _show(self, _: Request) -> Response:
        document = doc.AlertsDocument(cluster=self._config.cluster, node=self._config.this.name)
        if self._herald is not None:
            try:
                document = document_of(self._config, await self._herald.state())
            except TimeoutError:
                problem = "what tells alerts does not answer: it waits for its disk, or has ended"
                document = doc.AlertsDocument(cluster=document.cluster, node=document.node, problem=problem)
        return Response(_DOCUMENT.dump_json(document), media_type="application/json")

    async def _test(self, request: Request) -> Response:
        asked = await understood(request, _Test)
        if isinstance(asked, Response):
            return asked
        names = [receiver.name for receiver in self._config.alerts.receivers]
        if self._herald is None or (asked.receiver and asked.receiver not in names):
            known = ", ".join(names) or "none"
            return PlainTextResponse(f"no such receiver; alerts.receivers has: {known}", 404)
        testing = self._tests(self._herald, [asked.receiver] if asked.receiver else names, request)
        tests = await asyncio.shield(asyncio.ensure_future(testing))  # also recorded where who asked goes away
        return Response(_TESTS.dump_json(tests), media_type="application/json")

    async def _tests(self, herald: Herald, names: Sequence[str], request: Request) -> doc.AlertTests:
        """One message to each: recorded before, and what came of it."""
        noted, by, number = request.app.state.noted, request.state.actor, uuid.uuid4().hex[:12]
        noted("request", f"a test message to {', '.join(names)}", by, request=number)
        tests = await asyncio.gather(*(self._tested(herald, name) for name in names))
        words = (f"{test.receiver}: {'taken' if test.taken else f'{test.code}: {test.reason}'}" for test in tests)
        failed = [test for test in tests if not test.taken]
        code, outcome = (failed[0].code, "failed") if failed else ("", "done")
        noted("request-result", "; ".join(words), by, code=code, request=number, outcome=outcome)
        return doc.AlertTests(tests=tuple(tests))

    @staticmethod
    async def _tested(herald: Herald, name: str) -> doc.AlertTest:
        try:
            attempt = await herald.test(name)
        except TimeoutError:
            reason = "no end of it yet: it stays in the queue, `failoverctl alerts` shows what became of it"
            return doc.AlertTest(receiver=name, taken=False, code="ALERT_UNDELIVERED", reason=reason)
        return doc.AlertTest(receiver=name, taken=attempt.taken, code=attempt.code, reason=attempt.reason)


class _Test(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    receiver: str = Field(max_length=64)


class _Processes:
    """Since when each node's daemon runs, as far as was seen here."""

    def __init__(self) -> None:
        self._since: dict[str, tuple[str, int]] = {}

    def lately(self, running: Mapping[str, str], now_ms: int) -> frozenset[str]:
        """Whose daemon was first seen less than GRACE_MS ago. `running`: the process of each."""
        for name, process in running.items():
            if name not in self._since or self._since[name][0] != process:
                self._since[name] = process, now_ms
        return frozenset(name for name, (_, since_ms) in self._since.items() if now_ms - since_ms < GRACE_MS)


class _Recorded:
    """Whether the record of the newest change is on most nodes, asked once a term of whoever serves in it."""

    def __init__(self, ask: Callable[[NodeName], Awaitable[str]]) -> None:
        self._ask = ask
        self._term = 0
        self._asking: asyncio.Future[str] | None = None

    def of(self, holder: NodeName | None, term: int) -> str | None:
        """What is missing of it; None: not known yet. `holder` None: nobody serves, and nobody is asked."""
        if holder is not None and term > self._term:
            self._term, self._asking = term, asyncio.ensure_future(self._ask(holder))
        if self._asking is None or self._term < term or not self._asking.done():
            return None
        error = self._asking.exception()
        return self._asking.result() if error is None else f"who has its record is not known: {error}"


def look_of(
    status: StatusDocument,
    check: CheckDocument,
    record: Record | None,
    lately: frozenset[str],
    recorded: str | None = "",
) -> Look:
    """The documents of one moment as the core looks at them."""
    fresh = [node for node in status.nodes if node.fresh]
    silent = {node.name for node in status.nodes if not node.fresh}
    found = tuple(map(_finding, check.findings))
    of_the_host = {reason.code for reason in status.refused}
    unread = {reason.node for reason in check.unseen if reason.code == "BLK_DATABASE" and reason.node}
    return Look(
        node=status.node,
        term=status.term,
        holder=status.holder or "",
        previous=(record.previous or "") if record is not None else "",
        rule=record.reason if record is not None else "",
        lease=status.lease.state,
        serving=frozenset(node.name for node in fresh if node.serving),
        holder_age_ms=next((node.last_heard_ms or 0 for node in fresh if node.name == status.holder), 0),
        possible=status.failover.possible,
        findings=found,
        own=tuple(alert for alert in found if alert.node == status.node and alert.code in of_the_host),
        blockers=tuple(map(_blocker, status.failover.blockers)),
        rejected=tuple(map(_blocker, status.failover.rejected)),
        unseen=tuple(_blocker(reason) for reason in check.unseen if reason.code != "BLK_DATABASE"),
        has_vip=tuple(node.name for node in fresh if node.vip is not None and node.vip.present),
        maintenance=frozenset(node.name for node in status.nodes if node.maintenance is not None),
        unknown=frozenset(silent | unread | lately),
        recorded=recorded,
    )


def _finding(finding: CheckedFinding) -> Alert:
    return Alert(
        code=finding.code,
        node=finding.node,
        severity=Severity.BLOCKS if finding.blocks else Severity.WARNS,
        reason=finding.reason,
        meaning=finding.meaning,
        fix=finding.fix,
        page=finding.page,
    )


def _blocker(reason: Reason) -> Alert:
    page = f"runbooks/codes/{reason.code}.md"
    if (known := FINDINGS.get(reason.code)) is not None:  # what monitoring cannot look at
        return Alert(
            reason.code, reason.node or "", known.severity, reason.reason, known.meaning, fix=known.fix, page=page
        )
    return Alert(
        code=reason.code,
        node=reason.node or "",
        severity=Severity.WARNS if reason.code in MILD else Severity.BLOCKS,
        reason=reason.reason,
        meaning=candidates.CODES.get(reason.code, ""),
        fix="failoverctl status says what it waits for; its page says what to do",
        page=page,
    )


def document_of(config: Config, state: State) -> doc.AlertsDocument:
    """What the thread knows, as operators see it."""
    return doc.AlertsDocument(
        cluster=config.cluster,
        node=config.this.name,
        speaker=state.speaker,
        open=tuple(
            doc.OpenAlert(
                code=entry.alert.code,
                node=entry.alert.node or None,
                blocks=entry.alert.severity is Severity.BLOCKS,
                reason=entry.alert.reason,
                since=time_of(entry.since_ms),
                page=entry.alert.page,
                told=told,
            )
            for _, entry, told in state.open
        ),
        receivers=tuple(map(_receiver, state.receivers)),
        dropped=state.dropped,
        problem=state.problem,
    )


def _receiver(state: ReceiverState) -> doc.ReceiverStatus:
    last = None
    if state.last is not None:
        last = _delivery(state.last.at_ms, state.last.id, state.last.attempt)
    return doc.ReceiverStatus(name=state.name, kind=state.kind, queued=state.queued, last=last, trouble=state.trouble)


def _delivery(at_ms: int, name: str, attempt: Attempt) -> doc.Delivery:
    return doc.Delivery(
        at=time_of(at_ms),
        id=name,
        taken=attempt.taken,
        status=attempt.status,
        code=attempt.code,
        reason=attempt.reason,
    )
