"""Views to test with: a cluster of three data nodes and an arbiter, told in a few words.

`view("mail2")` is what mail2 knows while mail1 is primary in term 5 and all is well.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from failoverd.core.gtid import GtidSet
from failoverd.core.health import Sendings, Sighting
from failoverd.core.known import CatchUp
from failoverd.core.lease import Held, Memory, Watch
from failoverd.core.model import (
    Claim,
    DatabaseFacts,
    Health,
    Heard,
    Node,
    NodeKind,
    NodeName,
    Observation,
    Reading,
    Record,
    Replication,
    Report,
    Role,
    Thread,
)
from failoverd.core.policy import Policy
from failoverd.core.view import GateState, View

if TYPE_CHECKING:
    from collections.abc import Mapping

NOW = 100_000
TERM = 5
RUN = "boot-1000-100"  # of a database's server: caught up long ago
MEMBERSHIP = "digest"
POLICY = Policy(
    services=(("imap", "dovecot.service", 3), ("smtp", "postfix@-.service", 3)),
    database_unit="mariadb.service",
    database_failures=3,
)
NODES = (
    Node(NodeName("mail1"), NodeKind.DATA, "10.89.1.11", 100),
    Node(NodeName("mail2"), NodeKind.DATA, "10.89.1.12", 90),
    Node(NodeName("mail3"), NodeKind.DATA, "10.89.1.13", 80),
    Node(NodeName("arbiter"), NodeKind.ARBITER, "10.89.1.14"),
)
NAMES = {node.name: node for node in NODES}


def address(name: str) -> str:
    return NAMES[NodeName(name)].address


def at(last: int) -> GtidSet:
    return GtidSet.upto({"0": last})


def primary_facts(last: int = 500, **changes: Any) -> DatabaseFacts:
    facts = DatabaseFacts(
        version="10.11.11-MariaDB",
        server_id=1,
        read_only=False,
        holdings=GtidSet.upto({"0-1": last}),
        applied=at(last),
        replication=None,
        semi_sync_source=True,
        semi_sync_replica=False,
        semi_sync_clients=2,
        heartbeat_term=TERM,
        heartbeat_beat=100,
        own=at(last),
        run=RUN,
    )
    return replace(facts, **changes)


def replication(
    received: int = 500, source: str = "mail1", receiver: Thread = Thread.RUNNING, **changes: Any
) -> Replication:
    return replace(Replication(address(source), receiver, Thread.RUNNING, at(received)), **changes)


def replica_facts(received: int = 500, applied: int | None = None, **changes: Any) -> DatabaseFacts:
    """`receiver`, `source` and so on may be given as for `replication`."""
    threads = {
        k: changes.pop(k) for k in ("receiver", "receiver_error", "source", "applier", "applier_error") if k in changes
    }
    last = received if applied is None else applied
    facts = primary_facts(
        last,
        server_id=2,
        read_only=True,
        replication=replication(received, **threads),
        semi_sync_source=False,
        semi_sync_replica=True,
        semi_sync_clients=0,
        own=GtidSet(),
    )
    return replace(facts, **changes)


def facts_of(name: str) -> DatabaseFacts | None:
    return {"mail1": primary_facts(), "arbiter": None}.get(name, replica_facts())


def report(name: str, me: str, **changes: Any) -> Report:
    """A report of `name` that has heard what `me` sent last, just now."""
    made = Report(
        sender=NodeName(name),
        process=f"{name}#1",
        number=7,
        heard=(Heard(NodeName(me), f"{me}#1", 1),),
        membership=MEMBERSHIP,
        software="0.1.0",
        term=TERM,
        version=40,
        lease_over=False,
        role=Role.REPLICA,
        serving=name == "mail1",
        ready=name != "arbiter",
        steady=name != "arbiter",
        frozen_term=None,
        caught_up=name != "arbiter",
        database=facts_of(name),
        claims=(),
    )
    return replace(made, **changes)


def record(**changes: Any) -> Record:
    standing = Record(
        version=40,
        term=TERM,
        holder=NodeName("mail1"),
        counter=30,
        ttl_ms=POLICY.ttl_ms,
        began=at(100),
        previous=NodeName("mail3"),
        reason="primary-lost-by-quorum",
    )
    return replace(standing, **changes)


def sighting(probe: str, target: str, failures: int = 0, code: str = "", ended_ms: int = NOW - 100) -> Sighting:
    health = Health.FAILED if failures else Health.OK
    reading = Reading(health, code or ("TIMEOUT" if failures else ""), f"{probe} fails" if failures else "")
    return Sighting(Observation(probe, NodeName(target), reading, ended_ms, 5), failures, ended_ms)


def claim(probe: str, target: str, failures: int) -> Claim:
    return sighting(probe, target, failures).claim()


def view(me: str = "mail2", reports: Mapping[str, Mapping[str, Any] | None] | None = None, **changes: Any) -> View:
    """What `me` knows. `reports` changes what others report (None: nothing was heard); all else is the view's own."""
    told = reports or {}
    others = [node.name for node in NODES if node.name != me and told.get(node.name, {}) is not None]
    is_data = me != "arbiter"
    known = View(
        me=NAMES[NodeName(me)],
        nodes=NODES,
        policy=POLICY,
        membership=MEMBERSHIP,
        now_ms=NOW,
        sendings=Sendings(f"{me}#1", ((1, NOW - 50),)),
        highest_term=TERM,
        record=record(),
        watch=Watch(TERM, 30, NOW - 200),
        store_heard_ms=NOW - 100,
        held=Held(TERM, 40, NOW + 2500) if me == "mail1" else None,
        served_term=TERM if me == "mail1" else 0,
        gate=GateState.OPEN if me == "mail1" else GateState.CLOSED,
        reports=tuple(report(name, me, **(told.get(name) or {})) for name in others),
        sightings=tuple(sighting(probe, me) for probe in ("imap", "smtp", "database", "vip", "host"))
        if is_data
        else (),
        database=facts_of(me),
        memory=Memory(caught_up=RUN),
        catch_up=CatchUp(RUN, NOW - 60_000, TERM, 50),
    )
    return replace(known, **changes)


def lost(me: str = "mail2", reports: Mapping[str, Mapping[str, Any] | None] | None = None, **changes: Any) -> View:
    """The same when mail1 is gone: its lease is over for everyone, both replicas are frozen, both level."""
    frozen = replica_facts(receiver=Thread.STOPPED)
    told: dict[str, Mapping[str, Any] | None] = {"mail1": None}
    for name in ("mail2", "mail3", "arbiter"):
        given = (reports or {}).get(name, {})
        common = {"lease_over": True} | ({} if name == "arbiter" else {"frozen_term": TERM, "database": frozen})
        told[name] = None if given is None else {**common, **given}
    if (reports or {}).get("mail1") is not None:
        told["mail1"] = (reports or {})["mail1"]
    own = {
        "watch": Watch(TERM, 30, NOW - 3000),
        "frozen_term": None if me == "arbiter" else TERM,
        "database": None if me == "arbiter" else frozen,
    }
    return view(me, told, **(own | changes))
