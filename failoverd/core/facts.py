"""The facts of a view that a person can name and look at, each turned alone: what counterfactual.py decides again on.

    a report that came or did not · the store · the lease · a service, as its observers see it · a position
    · replication · a pause, a request, maintenance · how often the role has moved

A fact is turned with all that goes with it (a service is down for every observer that is heard), and with nothing that
would only follow from it in time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from failoverd.core.findings import blocking
from failoverd.core.gtid import GtidSet
from failoverd.core.health import Sendings, Sighting
from failoverd.core.lease import Held, Watch
from failoverd.core.model import (
    Claim,
    DatabaseFacts,
    Health,
    Heard,
    Node,
    NodeName,
    Observation,
    Reading,
    Record,
    Report,
    Request,
    Thread,
)
from failoverd.core.view import View

LONG_AGO_MS = 1 << 40
ASKED = "counterfactual"  # the id of a request that nobody made


@dataclass(frozen=True, slots=True)
class Fact:
    """`words` complete "if …". `view` is the whole with that one fact otherwise."""

    words: str
    view: View


def facts(view: View) -> Iterator[Fact]:
    """Every fact that is turned, one at a time. What comes out as the same view was so already: it is none."""
    for kind in (_reports, _lease, _services, _databases, _people, _limits):
        yield from (fact for fact in kind(view) if fact.view != view)


# ---- what was heard ---------------------------------------------------------------------------------------------


def _reports(view: View) -> Iterator[Fact]:
    for node in view.nodes:
        if node.name == view.me.name:
            continue
        known = next((report for report in view.reports if report.sender == node.name), None)
        if node.name in view.fresh:
            others = tuple(report for report in view.reports if report.sender != node.name)
            yield Fact(f"nothing were heard of {node.name}", view.changed(reports=others))
        elif known is not None:
            yield Fact(f"the last report of {node.name} were fresh", _freshened(view, known))
        report = view.fresh.get(node.name)
        if report is not None and not view.alike(report):
            same = replace(report, membership=view.membership)
            yield Fact(f"{node.name} had the same configuration", _told(view, same))
    heard, stale = view.store_heard_ms, view.now_ms - LONG_AGO_MS
    if view.store_answers():
        yield Fact(f"the store did not answer {view.me.name}", view.changed(store_heard_ms=stale))
    elif heard is not None:
        yield Fact(f"the store answered {view.me.name}", view.changed(store_heard_ms=view.now_ms))


def _freshened(view: View, report: Report) -> View:
    number = view.sendings.last or 1
    sendings = Sendings(view.sendings.process, ((number, view.now_ms),))
    others = tuple(heard for heard in report.heard if heard.node != view.me.name)
    heard = (*others, Heard(view.me.name, sendings.process, number))
    # Whoever is fresh by a number that is not known any more would cease to be: those are bound to this one as well.
    fresh = tuple(
        replace(known, heard=(*(h for h in known.heard if h.node != view.me.name), heard[-1]))
        for known in view.reports
        if known.sender in view.fresh
    )
    stale = tuple(k for k in view.reports if k.sender not in view.fresh and k.sender != report.sender)
    return view.changed(reports=(*stale, *fresh, replace(report, heard=heard)), sendings=sendings)


def _told(view: View, report: Report) -> View:
    """With this report in the place of the one that its sender made."""
    return view.changed(reports=tuple(report if r.sender == report.sender else r for r in view.reports))


def _each_told(view: View, change: Callable[[Report], Report]) -> tuple[Report, ...]:
    return tuple(change(report) if report.sender in view.fresh else report for report in view.reports)


# ---- the lease --------------------------------------------------------------------------------------------------


def _lease(view: View) -> Iterator[Fact]:
    record, watch = view.record, view.watch
    if record is None or watch is None or record.holder is None:
        return
    holder = record.holder
    if view.i_hold():
        yield Fact("the lease of this node had run out", view.changed(held=None))
        if view.lease_running_out():
            held = Held(view.highest_term, record.version, view.now_ms + view.policy.ttl_ms)
            yield Fact("its last renewal had been answered just now", view.changed(held=held))
        return
    renewed = Watch(watch.term, watch.counter, view.now_ms)
    silent = Watch(watch.term, watch.counter, view.now_ms - record.ttl_ms - 1)
    if holder != view.me.name:
        if view.lease_is_over() or view.lease_is_lapsing():
            still = _each_told(view, lambda report: replace(report, lease_over=False))
            unrevoked = replace(record, revoked=False, condemned_by=None, off="")
            yield Fact(
                f"{holder} had renewed its lease just now",
                view.changed(watch=renewed, promise=None, reports=still, record=unrevoked),
            )
        if not view.lease_is_over():
            over = view.changed(watch=silent, promise=None)
            yield Fact(f"this node alone had seen the lease of {holder} run out", over)
            everyone = _each_told(view, _seen_over(record))
            yield Fact(f"every node heard had seen the lease of {holder} run out", over.changed(reports=everyone))
        elif not view.lease_over_by_quorum():
            everyone = _each_told(view, _seen_over(record))
            yield Fact(f"every node heard had seen the lease of {holder} run out", view.changed(reports=everyone))
    if view.policy.fence_required and not (record.revoked or record.off):
        off = replace(record, condemned_by=view.me.name, off="confirmed")
        yield Fact(f"it were confirmed that {holder} has no power", view.changed(record=off))


def _seen_over(record: Record) -> Callable[[Report], Report]:
    """A report whose sender has seen that the lease of this version is over; the holder's own says nothing of it."""

    def seen(report: Report) -> Report:
        if report.sender == record.holder:
            return report
        return replace(report, lease_over=True, version=record.version, term=record.term)

    return seen


# ---- services ---------------------------------------------------------------------------------------------------


def _services(view: View) -> Iterator[Fact]:
    me, holder = view.me.name, view.holder
    for service, unit, why in view.failing_here:
        yield Fact(f"{service} worked on {me} ({why})", _answering(view, service, unit))
    if view.failing_here == () and view.i_hold():
        for service, unit, _ in view.policy.services:
            yield Fact(f"{service} were down on {me}", _down(view, service, unit, me))
    if holder is not None and holder != me:
        for service, _, _ in view.policy.services:
            down = view.verdict(service, holder).value == "down"
            words = f"{service} of {holder} answered its observers" if down else f"{service} were down on {holder}"
            changed = _observed(view, service, holder, failing=not down)
            yield Fact(words, changed)
    yield from _readiness(view)


def _readiness(view: View) -> Iterator[Fact]:
    me = view.me.name
    for node in view.data_nodes:
        report = view.fresh.get(node.name)
        if report is not None and not report.ready:
            yield Fact(f"{node.name} were ready", _told(view, replace(report, ready=True, steady=True)))
        elif report is not None and not report.steady:
            yield Fact(f"{node.name} had been ready for a while", _told(view, replace(report, steady=True)))
        if report is not None and blocking(report.findings) is not None:
            mended = tuple(found for found in report.findings if blocking((found,)) is None)
            yield Fact(
                f"the settings of {node.name} were as they must be", _told(view, replace(report, findings=mended))
            )
    if me in {node.name for node in view.data_nodes} and not view.ready and view.database is not None:
        ok = tuple(
            replace(seen, failures=0, observation=replace(seen.observation, reading=Reading(Health.OK)))
            if seen.observation.target == me and seen.observation.probe in {name for name, _, _ in view.policy.services}
            else seen
            for seen in view.sightings
        )
        yield Fact(f"the services of {me} answered its own probes", view.changed(sightings=ok, stuck=None))


def _answering(view: View, service: str, unit: str) -> View:
    """With this service of this node well, for itself and for all who observe it."""
    probes = {service, f"unit:{unit}"}
    sightings = tuple(
        replace(seen, failures=0, observation=replace(seen.observation, reading=Reading(Health.OK)))
        if seen.observation.target == view.me.name and seen.observation.probe in probes
        else seen
        for seen in view.sightings
    )
    return _observed(view.changed(sightings=sightings), service, view.me.name, failing=False)


def _down(view: View, service: str, unit: str, target: NodeName) -> View:
    """With this service of this node down, for itself and for all who observe it."""
    failed = Reading(Health.FAILED, "", "as supposed")
    sightings = tuple(
        replace(seen, failures=99, observation=replace(seen.observation, reading=failed))
        if seen.observation.target == target and seen.observation.probe in {service, f"unit:{unit}"}
        else seen
        for seen in view.sightings
    )
    return _observed(view.changed(sightings=sightings), service, target, failing=True)


def _observed(view: View, service: str, target: NodeName, *, failing: bool) -> View:
    """With the claim of every observer that is heard, and this node's own look at it, as given."""
    health, failures = (Health.FAILED, 99) if failing else (Health.OK, 0)

    def claimed(report: Report) -> Report:
        if report.sender == target:
            return report
        others = tuple(claim for claim in report.claims if (claim.probe, claim.target) != (service, target))
        return replace(report, claims=(*others, Claim(service, target, health, failures)))

    changed = view.changed(reports=_each_told(view, claimed))
    if target == view.me.name:
        return changed
    reading = Reading(health, "", "as supposed" if failing else "")
    look = Sighting(Observation(service, target, reading, view.now_ms, 0), failures, view.now_ms)
    others = tuple(s for s in view.sightings if (s.observation.probe, s.observation.target) != (service, target))
    return changed.changed(sightings=(*others, look))


# ---- databases --------------------------------------------------------------------------------------------------


def _databases(view: View) -> Iterator[Fact]:
    known = [facts.position for node in view.data_nodes if (facts := view.facts_of(node.name)) is not None]
    everything = GtidSet()
    for position in known:
        everything = everything.union(position)
    for node in view.data_nodes:
        facts = view.facts_of(node.name)
        if facts is None or node.name == view.holder:
            continue
        yield from _database(view, node, facts, everything)
    mine = view.database
    if mine is not None and view.me.name in {node.name for node in view.data_nodes}:
        yield Fact(f"the database of {view.me.name} did not answer", view.changed(database=None))
        missing = view.missing_at_holder()
        if missing is not None and missing.parts:
            theirs = mine.holdings.minus(missing)
            yield Fact(
                f"{view.me.name} held nothing that {view.holder} lacks",
                _with_facts(view, view.me.name, replace(mine, holdings=theirs)),
            )


def _database(view: View, node: Node, facts: DatabaseFacts, everything: GtidSet) -> Iterator[Fact]:
    name, replication = node.name, facts.replication
    if not facts.position.covers(everything):
        received = replace(replication, received=everything) if replication is not None else None
        yield Fact(
            f"{name} had received all that is known to exist",
            _with_facts(view, name, replace(facts, applied=everything, replication=received)),
        )
    elif replication is not None and not facts.applied.covers(replication.received):
        yield Fact(
            f"{name} had applied all that it received",
            _with_facts(view, name, replace(facts, applied=facts.applied.union(replication.received))),
        )
    if replication is None:
        return
    holder = view.holder
    address = view.node(holder).address if holder is not None else replication.source
    well = replace(
        replication,
        source=address,
        receiver=Thread.RUNNING,
        applier=Thread.RUNNING,
        receiver_error="",
        applier_error="",
    )
    frozen = view.record is not None and view.frozen_position_of(name) is not None
    if well != replication and not frozen:
        yield Fact(f"the replication of {name} ran", _with_facts(view, name, replace(facts, replication=well)))
    if not frozen and view.record is not None and view.lease_is_over():
        stopped = replace(facts, replication=replace(replication, receiver=Thread.STOPPED, receiver_error=""))
        yield Fact(f"{name} had stopped receiving for good", _frozen(view, name, stopped, view.record.term))


def _with_facts(view: View, name: NodeName, facts: DatabaseFacts) -> View:
    if name == view.me.name:
        return view.changed(database=facts)
    return _told(view, replace(view.fresh[name], database=facts))


def _frozen(view: View, name: NodeName, facts: DatabaseFacts, term: int) -> View:
    if name == view.me.name:
        return view.changed(database=facts, frozen_term=term)
    return _told(view, replace(view.fresh[name], database=facts, frozen_term=term))


# ---- people, and what was done lately ---------------------------------------------------------------------------


def _people(view: View) -> Iterator[Fact]:
    record = view.record
    if record is None or record.version == 0:
        return
    if record.paused:
        yield Fact("the cluster were not paused", view.changed(record=replace(record, paused="")))
    else:
        yield Fact("the cluster were paused", view.changed(record=replace(record, paused="somebody: as supposed")))
    for worked_on in record.maintenance:
        others = tuple(each for each in record.maintenance if each is not worked_on)
        yield Fact(
            f"{worked_on.node} were not in maintenance", view.changed(record=replace(record, maintenance=others))
        )
    if record.request is not None:
        without = replace(record, request=None)
        yield Fact(f"nobody had asked for {record.request.target}", view.changed(record=without))
        return
    for node in view.data_nodes:
        if node.name != record.holder:
            yield Fact(f"somebody had asked for {node.name} as primary", _asked_for(view, record, node.name))


def _asked_for(view: View, record: Record, target: NodeName) -> View:
    """A request in the store, which the node asked for has seen."""
    asked = replace(record, request=Request(ASKED, target, "somebody", "as supposed", view.highest_term))
    changed = view.changed(record=asked, request_seen=(ASKED, view.now_ms))
    report = view.fresh.get(target)
    return _told(changed, replace(report, request=ASKED)) if report is not None else changed


def _limits(view: View) -> Iterator[Fact]:
    if view.takeovers_ms:
        yield Fact("there had been no change of primary lately", view.changed(takeovers_ms=()))
    elif view.record is not None and view.record.version:
        many = (view.now_ms,) * view.policy.failovers
        yield Fact(f"there had been {view.policy.failovers} changes of primary lately", view.changed(takeovers_ms=many))
    if view.rejoin is not None:
        yield Fact(f"the database of {view.me.name} were not to be made anew", view.changed(rejoin=None))
    if view.record is not None and view.record.unproven:
        proven = replace(view.record, unproven="")
        yield Fact("a replica had all that the primary let go without one", view.changed(record=proven))
    if view.leaving is not None:
        yield Fact("this node were not giving its term back", view.changed(leaving=None))
