"""`/metrics`: what this node knows, for Prometheus; in OpenMetrics where that is asked for.

Nothing is counted between two scrapes but the changes of primary: each scrape is made from the daemon's state as it is.
What is not known has no sample, rather than a zero. Every node tells of the whole cluster as it sees it, so a question
about one node is asked of that one (`failoverd_primary`), and one about the cluster takes the worst of all.

`METRICS` is the list of what is told: one function, from a `Scrape` to its families.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from prometheus_client import exposition
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.openmetrics import exposition as openmetrics
from starlette.responses import Response
from starlette.routing import Route

from failoverd.core.view import GateState
from failoverd.runtime.document import MonitoringStatus
from failoverd.runtime.public_shown import HEADERS, Recent, Shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from prometheus_client.core import Metric
    from starlette.requests import Request
    from starlette.routing import BaseRoute

    from failoverd.core.view import View
    from failoverd.runtime.document import CheckDocument, StatusDocument

_OVER = {"ended", "revoked", "off", "none"}  # states of a lease that leave nothing of it


@dataclass(frozen=True, slots=True)
class Scrape:
    """One moment of the node, and who tells of what is in no view."""

    view: View
    status: StatusDocument
    check: CheckDocument
    shown: Shown


def _gauge(name: str, text: str, value: float | None, unit: str = "") -> Metric:
    family = GaugeMetricFamily(name, text, unit=unit)
    if value is not None:
        family.add_metric([], value)
    return family


def _gauges(
    name: str, text: str, labels: Sequence[str], values: Iterable[tuple[tuple[str, ...], float | None]], unit: str = ""
) -> Metric:
    """One sample for each set of labels, the last one's where there are several; None: none."""
    family = GaugeMetricFamily(name, text, labels=labels, unit=unit)
    for known, value in dict(values).items():
        if value is not None:
            family.add_metric(known, value)
    return family


def _counters(
    name: str, text: str, labels: Sequence[str], values: Iterable[tuple[tuple[str, ...], int | None]]
) -> Metric:
    """A counter; None: no sample."""
    family = CounterMetricFamily(name, text, labels=labels)
    for known, value in values:
        if value is not None:
            family.add_metric(known, value)
    return family


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


def node(scrape: Scrape) -> Iterator[Metric]:
    """The answering node: who it is, and whether it serves."""
    status, view = scrape.status, scrape.view
    me = {"cluster": status.cluster, "node": status.node, "version": status.software}
    yield InfoMetricFamily("failoverd", "Who answers, and its version.", value=me)
    yield _gauge("failoverd_term", "The highest term that this node has seen.", status.term)
    serves = view.i_hold() and view.gate is GateState.OPEN
    yield _gauge("failoverd_primary", "Whether this node holds the lease and its gate is open.", serves)
    yield _gauge("failoverd_gate_open", "Whether this node's gate lets clients in.", view.gate is GateState.OPEN)
    left_ms = 0 if status.lease.state in _OVER else status.lease.left_ms
    text = "How long the holder's lease runs, as this node counts it."
    yield _gauge("failoverd_lease_left_seconds", text, _seconds(left_ms), "seconds")
    yield _gauge("failoverd_store_reachable", "Whether the store answers this node.", status.store.reachable)
    own = view.database
    text = "How many replicas acknowledge the commits of this node's database."
    yield _gauge("failoverd_semi_sync_clients", text, own.semi_sync_clients if own else None)


def cluster(scrape: Scrape) -> Iterator[Metric]:
    """Whether the cluster could fail over, as this node sees it."""
    status, check = scrape.status, scrape.check
    heard = sum(member.fresh for member in status.nodes)
    yield _gauge("failoverd_nodes_heard", "How many members are heard now, this node among them.", heard)
    possible = status.failover.possible
    yield _gauge("failoverd_failover_possible", "Whether the role could move now, if the primary were lost.", possible)
    yield _gauge("failoverd_paused", "Whether a person has paused the cluster.", bool(status.paused))
    text = "Whether what clients were told may be on the primary alone."
    yield _gauge("failoverd_rpo_unproven", text, bool(status.unproven))
    blockers = (((reason.code,), 1) for reason in status.failover.blockers)
    yield _gauges("failoverd_blocker", "Why nothing may move now; 1 for each code that stands.", ["code"], blockers)
    findings = (((f.code, "blocks" if f.blocks else "warns", f.node), 1) for f in check.findings)
    text = "What is wrong with a node; 1 for each code that stands."
    yield _gauges("failoverd_finding", text, ["code", "severity", "node"], findings)


def members(scrape: Scrape) -> Iterator[Metric]:
    """Each member, as this node last heard of it."""
    nodes = scrape.status.nodes
    heard = (((n.name,), _seconds(n.last_heard_ms)) for n in nodes)
    yield _gauges("failoverd_node_heard_seconds", "The age of a member's last report.", ["node"], heard, "seconds")
    verdicts = (
        ((n.name, name), None if service.verdict == "unknown" else service.verdict != "down")
        for n in nodes
        for name, service in n.services.items()
    )
    text = "Whether a service counts as up: for the primary by a majority of its observers."
    yield _gauges("failoverd_service_up", text, ["node", "service"], verdicts)
    rebuilds = (((n.name,), n.rebuild is not None and n.rebuild.under_way) for n in nodes if n.kind == "data")
    yield _gauges("failoverd_rebuild_running", "Whether a database is being made anew.", ["node"], rebuilds)


def replication(scrape: Scrape) -> Iterator[Metric]:
    """Each replica that is heard."""
    nodes = [n for n in scrape.status.nodes if n.fresh]
    found = [(n.name, n.database.replication) for n in nodes if n.database and n.database.replication]
    lags = (((name,), _seconds(r.lag_ms)) for name, r in found)
    text = "How far a replica is behind the primary, by heartbeats."
    yield _gauges("failoverd_replication_lag_seconds", text, ["node"], lags, "seconds")
    threads = (
        ((name, thread), state == "running")
        for name, r in found
        for thread, state in (("receiver", r.receiver), ("applier", r.applier))
    )
    yield _gauges("failoverd_replication_running", "Whether a replication thread runs.", ["node", "thread"], threads)


def probes(scrape: Scrape) -> Iterator[Metric]:
    """How long this node's own looks take."""
    looks = [seen.observation for seen in scrape.view.sightings]
    values = (((look.probe, look.target), _seconds(look.took_ms)) for look in looks)
    text = "How long this node's newest look at a member took."
    yield _gauges("failoverd_probe_seconds", text, ["probe", "node"], values, "seconds")


def mail(scrape: Scrape) -> Iterator[Metric]:
    """What monitoring measures on this node; the latency of the primary's services, as this node sees them."""
    own = next(n for n in scrape.status.nodes if n.name == scrape.status.node).monitoring
    known = own or MonitoringStatus()
    text = "IMAP connections that are logged in, as Dovecot says."
    yield _gauge("failoverd_mail_imap_connections", text, known.imap_connections)
    text = "Deliveries that this node's Postfix has written down since the daemon began to read the journal."
    yield _counters("failoverd_mail_deliveries", text, [], [((), known.deliveries)])
    logins = ((("accepted",), known.logins_accepted), (("refused",), known.logins_refused))
    text = "Logins that Dovecot and Postfix have written down since then, without failoverd's own."
    yield _counters("failoverd_mail_logins", text, ["result"], logins)
    looked_at = scrape.status.holder or scrape.status.node
    means = (((one.service,), _seconds(one.mean_ms)) for one in known.latency if one.node == looked_at)
    text = "What this node's looks at the primary's mail services take on average, from connection to login."
    yield _gauges("failoverd_mail_connect_latency_seconds", text, ["service"], means, "seconds")
    text = "Statements that took longer than long_query_time since the database's start."
    yield _counters("failoverd_sql_slow_queries", text, [], [((), known.slow_queries)])
    text = "What all of Postfix's processes use, in percent of one core."
    yield _gauge("failoverd_postfix_cpu_percent", text, known.postfix_cpu_percent)


def changes(scrape: Scrape) -> Iterator[Metric]:
    """How often the primary changed."""
    text = "Changes of primary that this daemon has seen since it started."
    family = CounterMetricFamily("failoverd_changes", text, labels=["kind"])
    for kind, count in scrape.shown.changes.seen.items():
        family.add_metric([kind], count)
    yield family


def access(scrape: Scrape) -> Iterator[Metric]:
    """Who asked for what they may not."""
    counted = scrape.shown.controller.denials.counted
    text = "Requests on the control socket, and from operators elsewhere, that were refused for want of a role."
    values = (((name,), counted[name]) for name in ("socket", "remote"))
    yield _counters("failoverd_access_denied", text, ["from"], values)


def alerts(scrape: Scrape) -> Iterator[Metric]:
    """What waits to be told."""
    queued, dropped = scrape.shown.alerts()
    yield _gauge("failoverd_alerts_queued", "Alerts that wait on this node for a receiver.", queued)
    yield CounterMetricFamily("failoverd_alerts_dropped", "Alerts that a full queue has left out.", value=dropped)


def trust(scrape: Scrape) -> Iterator[Metric]:
    """Certificates between the nodes, and who was refused."""
    known = scrape.shown.trust
    if known is None:
        return
    me = scrape.status.node
    own = {"certificate": "node", "ca": "ca", "http": "http", "operators": "operators"}
    own |= {"etcd": "etcd", "etcd-ca": "etcd-ca"}
    ends = (((me, own[one.of]) if one.of in own else (one.of, "node"), one.ends_s) for one in known.lives())
    text = (
        "When a certificate expires, in seconds since 1970: of a node and its CA, also as others showed it, of the"
        " public port (http), the CA of operators elsewhere, the client certificate for etcd, and the CA of etcd."
    )
    yield _gauges("failoverd_certificate_expiration_timestamp_seconds", text, ["node", "kind"], ends, "seconds")
    text = "What this node has refused since its daemon started, by port and by code; outgoing: whom it dialled."
    counts = sorted(known.counts().items())
    yield _counters("failoverd_peer_refused", text, ["port", "code"], counts)


# What is told: one function each. Add one here, and its names to the table in tests/adapters/test_public_metrics.py.
METRICS: list[Callable[[Scrape], Iterable[Metric]]] = [
    node,
    cluster,
    members,
    replication,
    probes,
    mail,
    changes,
    access,
    alerts,
    trust,
]


class _Collector:
    """What prometheus_client encodes: every family of one moment."""

    def __init__(self, shown: Shown) -> None:
        self._shown = shown

    def collect(self) -> Iterator[Metric]:
        """Make them."""
        controller = self._shown.controller
        scrape = Scrape(self._shown.view(), controller.status(), controller.check(), self._shown)
        for tell in METRICS:
            yield from tell(scrape)


class _Metrics:
    """The route. Each of the two encodings is made ten times a second at most."""

    def __init__(self, shown: Shown) -> None:
        collector = _Collector(shown)
        self._plain = Recent(shown.clock, lambda: exposition.generate_latest(collector))
        self._open = Recent(shown.clock, lambda: openmetrics.generate_latest(collector))  # type: ignore[no-untyped-call] # as it is

    async def metrics(self, request: Request) -> Response:
        asked = [kind.partition(";")[0].strip() for kind in request.headers.get("accept", "").split(",")]
        if "application/openmetrics-text" in asked:
            return Response(self._open(), headers={**HEADERS, "content-type": openmetrics.CONTENT_TYPE_LATEST})
        return Response(self._plain(), headers={**HEADERS, "content-type": exposition.CONTENT_TYPE_PLAIN_0_0_4})


def routes(shown: Shown) -> list[BaseRoute]:
    """The routes of this module."""
    return [Route("/metrics", _Metrics(shown).metrics, methods=["GET"])]
