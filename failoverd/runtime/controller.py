"""What operators see of the daemon and ask of it: the state as a status document, a request as its events.

A request belongs to the cluster once it is in the store: this node only watches what becomes of it, in the record and
in the other nodes' reports, and tells it in words.
"""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING, cast

from failoverd.core import bounded, candidates, forced, lease, machine, repair
from failoverd.core.model import Health, NodeKind, NodeName, Rejoin, Request
from failoverd.core.quorum import majority
from failoverd.runtime import document as doc
from failoverd.runtime import fitness, homecoming
from failoverd.runtime.control import EventLog

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from failoverd.config import Config
    from failoverd.core.model import Claim, DatabaseFacts, Node, Record, Rejected, Report, VipFacts
    from failoverd.core.view import View
    from failoverd.ports import Clock
    from failoverd.runtime.daemon import Daemon
    from failoverd.runtime.host import Refused

GIVE_UP_MS = 60_000  # longer than a request may wait to be begun, plus the longest promotion
KEPT_REQUESTS = 50
UNSEEN = "REQUEST_UNSEEN"


def _reason(rejected: Rejected) -> doc.Reason:
    return doc.Reason(code=rejected.code, reason=rejected.reason, node=rejected.node)


class NodeController:
    """Implements control.Controller for one daemon."""

    def __init__(
        self, daemon: Daemon, config: Config, clock: Clock, *, refused: Callable[[], tuple[Refused, ...]] = tuple
    ) -> None:
        self._daemon = daemon
        self._config = config
        self._clock = clock
        self._refused = refused
        self._logs: dict[str, EventLog] = {}
        self._tasks: set[asyncio.Task[None]] = set()

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
            lease=self._lease(view),
            store=self._store(view),
            nodes=tuple(self._node(view, node, own) for node in view.nodes),
            failover=_failover(view, store_error=self._daemon.store_error),
            rule=doc.RuleStatus(
                id=state.rule.id if state.rule else "", why=state.rule.why if state.rule else "not decided yet"
            ),
            request=doc.RequestStatus(
                id=request.id, target=request.target, by=request.by, reason=request.reason, text=own.doing
            )
            if request
            else None,
            paused=view.record.paused if view.record else "",
            unproven=view.record.unproven if view.record and not bounded.standing(view.record) else "",
            bound=_bound(view),
            refused=tuple(doc.Reason(code=r.code, reason=r.reason, node=view.me.name) for r in self._refused()),
        )

    def check(self) -> doc.CheckDocument:
        """Whether the cluster is fit to fail over, as this node sees it now."""
        return fitness.check(self._daemon.state.view.at(self._clock.now_ms()), self.status())

    def _store(self, view: View) -> doc.StoreStatus:
        error = self._daemon.store_error
        return doc.StoreStatus(
            kind=self._config.store.kind,
            node=self._config.store.node,
            reachable=not error,
            version=view.record.version if view.record else None,
            error=error,
        )

    def _lease(self, view: View) -> doc.LeaseStatus:
        record, watch, valid = view.record, view.watch, view.valid
        if valid is not None:
            return doc.LeaseStatus(state="held", left_ms=valid.deadline_ms - view.now_ms)
        if record is None or watch is None or self._daemon.store_error:
            return doc.LeaseStatus(state="unknown")
        return _seen(record, lease.over_from_ms(record, watch, view.promise) - view.now_ms)

    def _node(self, view: View, node: Node, own: Report) -> doc.NodeStatus:
        mine = node.name == view.me.name
        fresh = view.report_of(node.name)
        report = own if mine else fresh or next((r for r in view.reports if r.sender == node.name), None)
        names = [name for name, _, _ in view.policy.services] if node.kind is NodeKind.DATA else []
        common = {"name": node.name, "kind": node.kind.value, "address": node.address}
        services = {name: _service(view, name, node.name, report) for name in names}
        if report is None:
            return doc.NodeStatus(**common, fresh=False, desired=_desired(view, node), services=services)  # type: ignore[arg-type] # `common` is exact
        heard_ms = 0 if mine else self._daemon.heard_ms(node.name, view.now_ms)
        return doc.NodeStatus(
            **common,  # type: ignore[arg-type] # `common` is exact
            fresh=mine or fresh is not None,
            last_heard_ms=heard_ms,
            desired=_desired(view, node),
            actual=report.role.value,
            software=report.software,
            ready=report.ready if node.kind is NodeKind.DATA else None,
            serving=report.serving if node.kind is NodeKind.DATA else None,
            services=services,
            units=tuple(doc.UnitStatus(unit=u.unit, active=u.active, sub=u.sub) for u in report.units),
            database=_database(view, node.name, report.database) if report.database else None,
            vip=_vip(report.vip) if report.vip else None,
            host=doc.HostStatus(
                load_per_core=report.host.load_per_core,
                memory_free_percent=report.host.memory_free_percent,
                disk_free_percent=report.host.disk_free_percent,
                fullest_disk=report.host.fullest_disk,
            )
            if report.host
            else None,
            rebuild=homecoming.status(view, node.name),
            findings=tuple(doc.Reason(code=code, reason=text, node=node.name) for code, text in report.findings)
            + _errant(view, node, report)
            + _rejoin(view, node, report)
            + _unproven(view, node)
            + _repair(node, report),
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
        )
        self._daemon.asked(request)
        return doc.Accepted(id=request.id)

    def would_promote(self, target: str, *, allow_loss: bool) -> doc.Preview:
        """See Controller."""
        view = self._daemon.state.view.at(self._clock.now_ms())
        refused = self._refusals(view, target, allow_loss=allow_loss)
        passed = forced.passed(view, target) if allow_loss and not refused else ()
        lost = forced.may_be_lost(view, target) if passed else ()
        return doc.Preview(refused=refused, passed=tuple(map(_reason, passed)), lost=lost)

    async def confirm_fenced(self, node: str, by: str, reason: str) -> doc.Accepted | doc.Refused:
        """Pass on that the last primary has no power, unless what is known speaks against it."""
        state = self._daemon.state
        view = state.view.at(self._clock.now_ms())
        refused = self._store_refusals()
        why = candidates.confirm_rejection(view, node)
        if why is not None:
            refused.append(_reason(why))
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
        )
        return accepted

    async def pause(self, by: str, reason: str) -> doc.Accepted | doc.Refused:
        """Put into the store that nothing may act by itself, or that it may again (no reason)."""
        view = self._daemon.state.view.at(self._clock.now_ms())
        refused = self._store_refusals()
        why = candidates.pause_rejection(view)
        if why is not None:
            refused.append(_reason(why))
        if refused:
            return doc.Refused(reasons=tuple(refused))
        paused = f"{by}: {reason}" if reason else ""
        if view.record is not None and view.record.paused != paused:
            self._daemon.feed(machine.PauseAsked(paused, by))  # first, as above
        accepted = doc.Accepted(id=uuid.uuid4().hex[:12])
        self._begin(
            accepted.id,
            f"accepted: {by} {'pauses' if reason else 'resumes'}",
            lambda state, elapsed_ms: self._paused(state, paused, elapsed_ms),
        )
        return accepted

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
            self._begin(accepted.id, text, lambda state, elapsed_ms: homecoming.followed(state, name, elapsed_ms))
            return accepted
        asked = Rejoin(accepted.id, name, NodeName(plan.donor), by, view.highest_term)
        self._daemon.feed(machine.RejoinAsked(asked))  # first, as above
        self._begin(
            accepted.id,
            f"accepted: {node} is made anew from {plan.donor}",
            homecoming.Ending(asked),
            homecoming.Progress(name, accepted.id),
        )
        return accepted

    def _begin(
        self,
        request: str,
        text: str,
        final: Callable[[machine.State, int], doc.Event | None],
        progress: homecoming.Progress | None = None,
    ) -> None:
        """Keep the events of a request from now on, until `final` gives the last."""
        log = EventLog()
        while len(self._logs) >= KEPT_REQUESTS:
            del self._logs[next(iter(self._logs))]
        self._logs[request] = log
        log.append(doc.Event(elapsed_ms=0, node=self._daemon.state.view.me.name, text=text))
        task = asyncio.ensure_future(self._follow(log, final, progress))
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
            return (*found, *map(_reason, forced.rejections(view, target)))
        why = candidates.planned_rejection(view, target)
        if why is not None and view.lease_is_over() and view.holder is not None:
            # There is no primary that could hand over: what counts is whether it may take over.
            election = candidates.failover(view)
            named = next((r for r in election.rejected if r.node == target), None)
            why = None if target in election.order else named or why
        if why is not None:
            found.append(_reason(why))
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
                    log.append(last)
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

    def _paused(self, state: machine.State, paused: str, elapsed_ms: int) -> doc.Event | None:
        """The end of a pause's or a resumption's way into the store."""
        record = state.view.record
        if record is not None and record.paused == paused:
            text = f"paused by {paused}" if paused else "the cluster goes on"
            return doc.Event(elapsed_ms=elapsed_ms, node=state.view.me.name, text=text, final=True, succeeded=True)
        return self._given_up(elapsed_ms, lost=state.pause is None)

    def _given_up(self, elapsed_ms: int, *, lost: bool) -> doc.Event | None:
        text, code = "", ""
        if lost:
            text, code = "the store did not take the request in time", "BLK_STORE"
        elif elapsed_ms > GIVE_UP_MS:
            text, code = "no end of it was seen; `failoverctl status` shows how it stands", "REQUEST_UNSEEN"
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


def _seen(record: Record, left_ms: int) -> doc.LeaseStatus:
    """Another node's lease, as the record has it, and how much longer it can run."""
    if record.holder is None:
        return doc.LeaseStatus(state="none")
    if record.revoked:
        return doc.LeaseStatus(state="revoked")
    if record.off:
        return doc.LeaseStatus(state="off", by=record.off)
    if left_ms <= 0:
        return doc.LeaseStatus(state="ended")
    if record.condemned_by is not None:
        return doc.LeaseStatus(state="condemned", left_ms=left_ms, by=record.condemned_by)
    return doc.LeaseStatus(state="held", left_ms=left_ms)


def _desired(view: View, node: Node) -> doc.Role | None:
    if node.kind is NodeKind.ARBITER:
        return "arbiter"
    if view.holder is None:
        return None
    return "primary" if node.name == view.holder else "replica"


def _service(view: View, name: str, target: NodeName, report: Report | None) -> doc.ServiceStatus:
    """The quorum's verdict where there are observers, the node's own otherwise."""
    votes: dict[str, str] = {}
    claims = {r.sender: r.claims for r in view.fresh.values()}
    claims[view.me.name] = tuple(seen.claim() for seen in view.sightings)
    for observer, made in claims.items():
        claim = next((c for c in made if (c.probe, c.target) == (name, target)), None)
        if claim is not None:
            votes[observer] = _words(claim)
    if target == view.holder:
        verdict = view.verdict(name, target).value
    else:
        own = next((c for c in (report.claims if report else ()) if (c.probe, c.target) == (name, target)), None)
        verdict = "unknown" if own is None or target not in claims else "up" if own.health is Health.OK else "down"
    return doc.ServiceStatus(verdict=cast("doc.Verdict", verdict), votes=votes)


def _words(claim: Claim) -> str:
    if claim.health is Health.OK:
        return "ok"
    return f"{claim.code}: {claim.reason}" + (f" ({claim.failures} in a row)" if claim.failures > 1 else "")


def _database(view: View, name: NodeName, facts: DatabaseFacts) -> doc.DatabaseStatus:
    holder = view.facts_of(view.holder) if view.holder else None
    replication = facts.replication
    return doc.DatabaseStatus(
        version=facts.version,
        read_only=facts.read_only,
        position=str(facts.position),
        behind=holder.position.minus(facts.position).count if holder and name != view.holder else None,
        semi_sync=doc.SemiSyncStatus(
            source=facts.semi_sync_source, replica=facts.semi_sync_replica, clients=facts.semi_sync_clients
        ),
        replication=doc.ReplicationStatus(
            source=replication.source,
            receiver=replication.receiver.value,
            applier=replication.applier.value,
            lag_ms=view.lag_ms(name),
            receiver_error=replication.receiver_error,
            applier_error=replication.applier_error,
        )
        if replication
        else None,
    )


def _errant(view: View, node: Node, report: Report) -> tuple[doc.Reason, ...]:
    """What this node's journal shows of another, which may have an older one."""
    extra = view.errant(node.name)
    if not extra or any(code == "ERRANT" for code, _ in report.findings):
        return ()
    return (doc.Reason(code="ERRANT", reason=extra, node=node.name),)


def _rejoin(view: View, node: Node, report: Report) -> tuple[doc.Reason, ...]:
    """A node that holds what the primary lacks says so."""
    if report.rule != "needs-rejoin" or report.database is None:
        return ()
    holder = view.facts_of(view.holder) if view.holder else None
    extra = report.database.holdings.minus(holder.holdings) if holder else None
    text = f"{node.name} holds transactions that {view.holder} lacks: {extra}" if extra else "it cannot be compared"
    return (doc.Reason(code="NEEDS_REJOIN", reason=text, node=node.name),)


def _unproven(view: View, node: Node) -> tuple[doc.Reason, ...]:
    """The primary may be the only one that has what clients were told."""
    if view.record is None or not view.record.unproven or node.name != view.holder or bounded.standing(view.record):
        return ()
    return (doc.Reason(code="RPO_UNPROVEN", reason=view.record.unproven, node=node.name),)


def _bound(view: View) -> doc.BoundStatus | None:
    """How far the replicas are, where commits wait for none."""
    record = view.record
    if record is None or not bounded.standing(record):
        return None
    others = [node.name for node in view.data_nodes if node.name != record.holder]
    lags = [(lag_ms, name) for name in others if (lag_ms := view.lag_ms(name)) is not None]
    lag_ms, nearest = min(lags, default=(None, None))
    within = tuple(bounded.within(view))
    return doc.BoundStatus(limit_ms=record.bound_ms, nearest=nearest, lag_ms=lag_ms, within=within)


def _repair(node: Node, report: Report) -> tuple[doc.Reason, ...]:
    """What keeps this node's replication from running, and what ends it."""
    replication = report.database.replication if report.database else None
    if replication is None:
        return ()
    return tuple(
        doc.Reason(
            code=cause.code,
            reason=f"{node.name}: {cause.error}; {'rebuild it' if cause.to_rebuild else 'tried again by itself'}",
            node=node.name,
        )
        for cause in repair.causes(replication)
    )


def _failover(view: View, *, store_error: str) -> doc.FailoverStatus:
    """Whether the role could move right now, and to whom."""
    blockers = [_reason(r) for r in candidates.change_blockers(view)]
    if store_error:
        blockers.append(doc.Reason(code="BLK_STORE", reason=f"the store does not answer: {store_error}"))
    if view.membership_differs():
        blockers.append(doc.Reason(code="BLK_MEMBERSHIP", reason="nodes have different configurations"))
    blockers += _unsettled(view)
    observers = [n.name for n in view.nodes if n.name != view.holder]
    heard = [name for name in observers if name == view.me.name or name in view.fresh]
    if len(heard) < majority(len(observers)):
        names = ", ".join(heard) or "none"
        blockers.append(
            doc.Reason(code="BLK_QUORUM", reason=f"{majority(len(observers))} observers are needed, heard: {names}")
        )
    election = candidates.failover(view) if view.lease_is_over() else candidates.planned(view)
    needed = len(view.data_nodes) - view.policy.acknowledgements
    others = [
        n
        for n in view.data_nodes
        if n.name != view.holder and view.facts_of(n.name) is not None and not view.rebuilding(n.name)
    ]
    if view.holder is not None and len(others) < needed and not bounded.applies(view):
        heard_of = ", ".join(n.name for n in others) or "none"
        blockers.append(
            doc.Reason(
                code="BLK_RPO_UNPROVEN",
                reason=f"{needed} replicas must be heard to prove that nothing acknowledged is lost, heard: {heard_of}",
            )
        )
    near = () if view.lease_is_over() else bounded.within(view)  # no switchover, perhaps, but a failover
    best = election.best or next(iter(near), None)
    return doc.FailoverStatus(
        possible=best is not None and not blockers,
        candidate=best,
        rejected=tuple(_reason(r) for r in election.rejected),
        blockers=tuple(blockers),
    )


def _unsettled(view: View) -> list[doc.Reason]:
    """What a person has to say first: that the cluster goes on, or that the lost primary has no power."""
    found, record = [], view.record
    if bounded.applies(view):
        if not view.lease_is_over() and not bounded.within(view):
            found.append(doc.Reason(code="BLK_RPO_BOUND", reason=bounded.in_words(view)))
    elif record is not None and record.unproven:
        text = f"should {record.holder} be lost, only it itself can say what clients were told: {record.unproven}"
        found.append(doc.Reason(code="BLK_RPO_UNPROVEN", reason=text))
    if record is not None and record.paused:
        found.append(doc.Reason(code="BLK_PAUSED", reason=f"paused by {record.paused}"))
    if record is None or not view.policy.fence_required or record.revoked or record.off:
        return found
    if view.lease_is_over():
        found.append(doc.Reason(code="BLK_FENCE", reason=f"nobody has confirmed that {record.holder} has no power"))
    elif record.holder is not None and record.holder not in view.policy.fenced:
        found.append(
            doc.Reason(
                code="BLK_FENCE", reason=f"{record.holder} has no fence agent: an operator would have to confirm"
            )
        )
    return found


def _vip(facts: VipFacts) -> doc.VipStatus:
    """Others that answer are a duplicate only where the node has the address itself."""
    return doc.VipStatus(present=facts.present, others=facts.others if facts.present else ())
