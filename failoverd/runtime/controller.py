"""What operators see of the daemon and ask of it: the state as a status document, a request as its events.

A request belongs to the cluster once it is in the store: this node only watches what becomes of it, in the record and
in the other nodes' reports, and tells it in words.
"""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING

from failoverd.core import bounded, candidates, forced, machine
from failoverd.core.effects import Entry
from failoverd.core.model import NodeName, Rejoin, Request
from failoverd.runtime import document as doc
from failoverd.runtime import fitness, homecoming, ordered, status
from failoverd.runtime.denials import Denials
from failoverd.runtime.event_log import EventLog
from failoverd.runtime.history import Historian, Past
from failoverd.runtime.orders import Orders

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from failoverd.config import Config
    from failoverd.core.view import View
    from failoverd.ports import Clock
    from failoverd.runtime.daemon import Daemon
    from failoverd.runtime.document_access import Forbidden
    from failoverd.runtime.document_history import HistoryDocument
    from failoverd.runtime.host import Refused

GIVE_UP_MS = 60_000  # longer than a request may wait to be begun, plus the longest promotion
KEPT_REQUESTS = 50
REFUSED_AGAIN_MS = 60_000  # the same refusal within it is noted without its input
UNSEEN = "REQUEST_UNSEEN"
UNCOPIED = "AUDIT_UNCOPIED"


async def no_copies(_node: NodeName) -> str:
    """For a node that has no others to keep copies."""
    return ""


class NodeController:
    """Implements control.Controller for one daemon.

    `copied` waits, for some seconds at most, until what this node and another have recorded is on most nodes, and says
    what is missing of that.
    """

    def __init__(
        self,
        daemon: Daemon,
        config: Config,
        clock: Clock,
        *,
        refused: Callable[[], tuple[Refused, ...]] = tuple,
        historian: Historian | None = None,
        copied: Callable[[NodeName], Awaitable[str]] = no_copies,
    ) -> None:
        self._daemon = daemon
        self._copied = copied
        self._config = config
        self._clock = clock
        self._refused = refused
        self._refused_last = (("", ""), 0)
        self.denials = Denials(clock)
        # One who asks nobody else and has noted nothing, where none is given.
        self._historian = historian or Historian(
            cluster=config.cluster, own=config.this.name, past=Past(None), nodes=config.nodes
        )
        self._logs: dict[str, EventLog] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._orders = Orders(
            daemon,
            clock,
            lambda request, text, final, by: self._begin(request, text, final, by=by),
            lambda elapsed_ms, lost: self._given_up(elapsed_ms, lost=lost),
        )

    # ---- status -----------------------------------------------------------------------------------------------

    def status(self) -> doc.StatusDocument:
        """The cluster as this node sees it now."""
        state = self._daemon.state
        view = state.view.at(self._clock.now_ms())
        own = machine.make_report(state)
        request = view.record.request if view.record else None
        return doc.StatusDocument(
            cluster=self._config.cluster,
            node=view.me.name,
            software=state.software,
            term=view.highest_term,
            holder=view.holder,
            lease=status.lease_of(view, store_error=self._daemon.store_error),
            store=self._store(view),
            nodes=tuple(status.node_of(view, node, own, self._daemon.heard_ms) for node in view.nodes),
            failover=status.failover_of(view, store_error=self._daemon.store_error),
            rule=doc.RuleStatus(
                id=state.rule.id if state.rule else "", why=state.rule.why if state.rule else "not decided yet"
            ),
            afford=status.afford_of(view, self._config.store.node),
            request=doc.RequestStatus(
                id=request.id, target=request.target, by=request.by, reason=request.reason, text=own.doing
            )
            if request
            else None,
            paused=view.record.paused if view.record else "",
            paused_until=ordered.paused_until(view),
            scheduled=ordered.scheduled(view),
            unproven=view.record.unproven if view.record and not bounded.standing(view.record) else "",
            bound=status.bound_of(view),
            refused=tuple(doc.Reason(code=r.code, reason=r.reason, node=view.me.name) for r in self._refused()),
        )

    def check(self) -> doc.CheckDocument:
        """Whether the cluster is fit to fail over, as this node sees it now."""
        return fitness.check(self._daemon.state.view.at(self._clock.now_ms()), self.status())

    async def history(self) -> HistoryDocument:
        """The past of the cluster, as far as nodes answer within half a second. Cheap to ask: kept for a second."""
        return await self._historian.history()

    def reload(self, config: Config) -> None:
        """Answer by `config` from now on."""
        self._config = config

    def input(self) -> View:
        """See Controller."""
        return self._daemon.state.view.at(self._clock.now_ms())

    def audit(self) -> Path:
        """See Controller."""
        return self._config.audit.directory

    def refused(self, what: str, by: str, why: doc.Refused) -> None:
        """See Controller."""
        words = "; ".join(f"{reason.code}: {reason.reason}" for reason in why.reasons)
        code = why.reasons[0].code if why.reasons else ""
        # With what it was refused on; not for each attempt of a script that asks again and again.
        view, (before, at_ms) = self.input(), self._refused_last
        again = before == (what, code) and view.now_ms - at_ms < REFUSED_AGAIN_MS
        if not again:
            self._refused_last = ((what, code), view.now_ms)
        self._note("request-refused", what, code, view=None if again else view, by=by, why=words)

    def noted(self, kind: str, text: str, by: str, *, code: str = "", **detail: str) -> None:
        """See Controller."""
        self._note(kind, text, code, view=None, by=by, **detail)

    def denied(self, where: str, what: str, why: Forbidden) -> None:
        """See Controller."""
        left_out = self.denials.worth_a_record(where, why.who, what)
        if left_out is not None:
            text = f"{what}: {why.reason}" + (f" ({left_out} more were not noted)" if left_out else "")
            self._note("access-denied", text, why.code, by=why.who, where=where)

    def _note(self, kind: str, text: str, code: str = "", *, view: View | None = None, **detail: str) -> None:
        state = self._daemon.state
        rule = state.rule.id if state.rule else ""
        self._daemon.note(
            Entry(kind, state.view.highest_term, rule, text, code, tuple(sorted(detail.items())), view=view)
        )

    def _store(self, view: View) -> doc.StoreStatus:
        error = self._daemon.store_error
        return doc.StoreStatus(
            kind=self._config.store.kind,
            node=self._config.store.node,
            reachable=not error,
            version=view.record.version if view.record else None,
            error=error,
        )

    # ---- requests ---------------------------------------------------------------------------------------------

    async def promote(
        self, target: str, by: str, reason: str, *, allow_loss: bool = False
    ) -> doc.Accepted | doc.Refused:
        """Ask for `target` as primary, if the rules would do it now; otherwise say why not and touch nothing."""
        view = self._daemon.state.view.at(self._clock.now_ms())
        refused = self._refusals(view, target, allow_loss=allow_loss)
        if refused:
            forceable = not allow_loss and not self._refusals(view, target, allow_loss=True)
            return doc.Refused(reasons=refused, last_resort=_last_resort(view, target) if forceable else "")
        # What needs no force is not forced, whatever was allowed.
        force = allow_loss and bool(forced.passed(view, target))
        request = Request(uuid.uuid4().hex[:12], NodeName(target), by, reason, view.highest_term, force)
        self._begin(
            request.id,
            f"accepted: {target} shall be primary" + (", whatever may be lost" if force else ""),
            lambda state, elapsed_ms: self._final(state, request, elapsed_ms),
            by=by,
        )
        self._daemon.asked(request)
        return doc.Accepted(id=request.id)

    def would_promote(self, target: str, *, allow_loss: bool) -> doc.Preview:
        """See Controller."""
        view = self._daemon.state.view.at(self._clock.now_ms())
        refused = self._refusals(view, target, allow_loss=allow_loss)
        passed = forced.passed(view, target) if allow_loss and not refused else ()
        lost = forced.may_be_lost(view, target) if passed else ()
        return doc.Preview(refused=refused, passed=tuple(map(status.reason_of, passed)), lost=lost)

    async def confirm_fenced(self, node: str, by: str, reason: str) -> doc.Accepted | doc.Refused:
        """Pass on that the last primary has no power, unless what is known speaks against it."""
        state = self._daemon.state
        view = state.view.at(self._clock.now_ms())
        refused = self._store_refusals()
        why = candidates.confirm_rejection(view, node)
        if why is not None:
            refused.append(status.reason_of(why))
        if state.confirmed is not None:
            refused.append(
                doc.Reason(code="BLK_REQUEST", reason=f"{state.confirmed.by} said so already, not ended yet")
            )
        if refused:
            return doc.Refused(reasons=tuple(refused))
        event = machine.Confirmed(NodeName(node), view.record.term if view.record else 0, by, reason)
        self._daemon.feed(event)  # first: who follows it must find it in the state
        accepted = doc.Accepted(id=uuid.uuid4().hex[:12])
        self._begin(
            accepted.id,
            f"accepted: {node} has no power, says {by}",
            lambda state, elapsed_ms: self._confirmed(state, event, elapsed_ms),
            by=by,
        )
        return accepted

    async def pause(self, by: str, reason: str, *, for_ms: int = 0, wait: bool = False) -> doc.Accepted | doc.Refused:
        """See OrderController; so for the others."""
        return self._orders.pause(by, reason, for_ms=for_ms, wait=wait)

    async def maintenance(
        self, node: str, by: str, reason: str, *, on: bool, for_ms: int = 0
    ) -> doc.Accepted | doc.Refused:
        """See above."""
        return self._orders.maintenance(node, by, reason, on=on, for_ms=for_ms)

    async def acknowledge(self, by: str, reason: str) -> doc.Accepted | doc.Refused:
        """See above."""
        return self._orders.acknowledge(by, reason)

    async def schedule(self, target: str, by: str, reason: str, at_ms: int) -> doc.Accepted | doc.Refused:
        """See above."""
        return self._orders.schedule(target, by, reason, at_ms)

    async def cancel_scheduled(self, by: str) -> doc.Accepted | doc.Refused:
        """See above."""
        return self._orders.cancel(by)

    def rejoin_plan(self, node: str, donor: str, *, anew: bool) -> doc.RejoinDocument:
        """What `rejoin` would do now."""
        return homecoming.plan(self._daemon.state.view.at(self._clock.now_ms()), self._config, node, donor, anew=anew)

    async def rejoin(self, node: str, donor: str, by: str, *, anew: bool) -> doc.Accepted | doc.Refused:
        """Have `node` made anew, where it is needed or `anew`; otherwise wait until it follows by itself."""
        plan = self.rejoin_plan(node, donor, anew=anew)
        if plan.refused:
            return doc.Refused(reasons=plan.refused)
        view, name = self._daemon.state.view, NodeName(node)
        accepted = doc.Accepted(id=uuid.uuid4().hex[:12])
        if plan.action != "rebuild":
            text = f"accepted: {node} holds nothing extra, and follows {plan.holder} by itself"
            self._begin(
                accepted.id, text, lambda state, elapsed_ms: homecoming.followed(state, name, elapsed_ms), by=by
            )
            return accepted
        asked = Rejoin(accepted.id, name, NodeName(plan.donor), by, view.highest_term)
        self._daemon.feed(machine.RejoinAsked(asked))  # first, as above
        self._begin(
            accepted.id,
            f"accepted: {node} is made anew from {plan.donor}",
            homecoming.Ending(asked),
            homecoming.Progress(name, accepted.id),
            by=by,
        )
        return accepted

    def _begin(
        self,
        request: str,
        text: str,
        final: Callable[[machine.State, int], doc.Event | None],
        progress: homecoming.Progress | None = None,
        *,
        by: str = "",
    ) -> None:
        """Keep the events of a request from now on, until `final` gives the last."""
        self._note("request", text.removeprefix("accepted: "), request=request, by=by)
        log = EventLog()
        while len(self._logs) >= KEPT_REQUESTS:
            del self._logs[next(iter(self._logs))]
        self._logs[request] = log
        log.append(doc.Event(elapsed_ms=0, node=self._daemon.state.view.me.name, text=text))
        task = asyncio.ensure_future(self._follow(log, final, progress, request, by))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _store_refusals(self) -> list[doc.Reason]:
        error = self._daemon.store_error
        return [doc.Reason(code="BLK_STORE", reason=f"the store does not answer: {error}")] if error else []

    def _refusals(self, view: View, target: str, *, allow_loss: bool) -> tuple[doc.Reason, ...]:
        found = self._store_refusals()
        if view.membership_differs():
            found.append(doc.Reason(code="BLK_MEMBERSHIP", reason="nodes have different configurations"))
        pending = view.record.request if view.record else None
        waiting = pending or self._daemon.state.asked
        if waiting is not None:
            found.append(
                doc.Reason(code="BLK_REQUEST", reason=f"{waiting.by} asked for {waiting.target}, not ended yet")
            )
        if allow_loss:
            return (*found, *map(status.reason_of, forced.rejections(view, target)))
        why = candidates.planned_rejection(view, target)
        if why is not None and view.lease_is_over() and view.holder is not None:
            # There is no primary that could hand over: what counts is whether it may take over.
            election = candidates.failover(view)
            named = next((r for r in election.rejected if r.node == target), None)
            why = None if target in election.order else named or why
        if why is not None:
            found.append(status.reason_of(why))
        return tuple(found)

    async def events(self, request: str) -> AsyncIterator[doc.Event] | None:
        """The events of a request from the first on, as they come."""
        log = self._logs.get(request)
        return log.follow() if log else None

    async def _follow(
        self,
        log: EventLog,
        final: Callable[[machine.State, int], doc.Event | None],
        progress: homecoming.Progress | None,
        request: str,
        by: str,
    ) -> None:
        began_ms = self._clock.now_ms()
        changed = asyncio.Event()
        self._daemon.watchers.add(changed)
        told = _Told(self._daemon.state.view.highest_term)
        try:
            while True:
                elapsed_ms = self._clock.now_ms() - began_ms
                state = self._daemon.state
                for node, text in told.news(state) + (progress.news(state) if progress else []):
                    log.append(doc.Event(elapsed_ms=elapsed_ms, node=node, text=text))
                last = final(state, elapsed_ms)
                if last is not None:
                    self._note_end(request, last, by)
                    log.append(await self._recorded(last, began_ms))
                    return
                changed.clear()
                try:
                    async with asyncio.timeout(1):
                        await changed.wait()
                except TimeoutError:
                    continue
        finally:
            self._daemon.watchers.discard(changed)
            if not log.ended:  # whatever ended this: nobody waits for what never comes
                text = "this daemon does not look on any more; `failoverctl status` shows how it stands"
                elapsed_ms, me = self._clock.now_ms() - began_ms, self._daemon.state.view.me.name
                log.append(doc.Event(elapsed_ms=elapsed_ms, node=me, text=text, code=UNSEEN, final=True))

    async def _recorded(self, last: doc.Event, began_ms: int) -> doc.Event:
        """The end of what was done, told once its record is on most nodes; or with the words that it is not."""
        if not last.succeeded:
            return last
        missing = await self._copied(NodeName(last.node))
        elapsed_ms = self._clock.now_ms() - began_ms
        if not missing:
            return replace(last, elapsed_ms=elapsed_ms)
        return replace(last, elapsed_ms=elapsed_ms, text=f"{last.text}; {missing}", code=UNCOPIED)

    def _note_end(self, request: str, last: doc.Event, by: str) -> None:
        """For whoever looks later; not of an end that this daemon has not seen, which another node may know."""
        if last.code != UNSEEN:
            outcome = "done" if last.succeeded else "refused" if last.refused else "failed"
            self._note("request-result", last.text, last.code, request=request, outcome=outcome, by=by)

    def _final(self, state: machine.State, request: Request, elapsed_ms: int) -> doc.Event | None:
        record, me = state.view.record, state.view.me.name
        ended = record.request_ended if record else None
        if ended is not None and ended.id == request.id:
            return doc.Event(
                elapsed_ms=elapsed_ms,
                node=request.target if ended.succeeded else me,
                text=ended.reason,
                code=ended.code,
                final=True,
                succeeded=ended.succeeded,
                refused=ended.refused,
            )
        lost = record is not None and (record.request is None or record.request.id != request.id) and not state.asked
        return self._given_up(elapsed_ms, lost=lost and elapsed_ms > state.view.policy.request_ms)

    def _confirmed(self, state: machine.State, asked: machine.Confirmed, elapsed_ms: int) -> doc.Event | None:
        """The end of an operator's word: the store has it, or has moved on, or never took it."""
        record = state.view.record
        text = ""
        if record is not None and record.term > asked.term:
            text = f"{record.holder} is primary in term {record.term}"
        elif record is not None and record.off:
            text = f"{record.holder} has no power: {record.off}"
        if text:
            return doc.Event(elapsed_ms=elapsed_ms, node=state.view.me.name, text=text, final=True, succeeded=True)
        return self._given_up(elapsed_ms, lost=state.confirmed is None)

    def _given_up(self, elapsed_ms: int, *, lost: bool) -> doc.Event | None:
        text, code = "", ""
        if lost:
            text, code = "the store did not take the request in time", "BLK_STORE"
        elif elapsed_ms > GIVE_UP_MS:
            text, code = "no end of it was seen; `failoverctl status` shows how it stands", UNSEEN
        if not text:
            return None
        me = self._daemon.state.view.me.name
        return doc.Event(elapsed_ms=elapsed_ms, node=me, text=text, code=code, final=True)


def _last_resort(view: View, target: str) -> str:
    """What a person could do who cannot bring back what is missing."""
    lost = "; ".join(forced.may_be_lost(view, target)) or "nothing that is known"
    return (
        "if nobody can bring them back, and only then: "
        f"failoverctl promote --node {target} --force --allow-data-loss --reason TEXT; it would give up {lost}"
    )


class _Told:
    """What a request's followers have been told already."""

    def __init__(self, term: int) -> None:
        self._term = term
        self._doing: dict[NodeName, str] = {}

    def news(self, state: machine.State) -> list[tuple[NodeName, str]]:
        """(node, words) for each step that began and each term that did, since the last call."""
        found: list[tuple[NodeName, str]] = []
        record = state.view.record
        if record is not None and record.term > self._term and record.holder is not None:
            self._term = record.term
            found.append((record.holder, f"holds term {record.term}"))
        now = {r.sender: r.doing for r in state.view.reports} | {state.view.me.name: machine.make_report(state).doing}
        for node, doing in now.items():
            if doing and doing != self._doing.get(node):
                found.append((node, doing))
        self._doing = now
        return found
