"""/metrics as Prometheus reads it: every name with its type and help, and values that are those of the status."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import httpx
import pytest
import views
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parsed_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parsed
from public_stage import Stage, until
from test_node_controller import HELD, Node

from failoverd.config import load
from failoverd.core.health import Sighting
from failoverd.core.lease import Held
from failoverd.core.model import Facts, Health, NodeName, Observation, Reading, Request, Thread
from failoverd.core.monitoring import LatencyFacts, LoginFacts, ProcessFacts, SessionFacts, StatementFacts
from failoverd.lives import Life
from failoverd.runtime.clock import BootClock
from failoverd.runtime.public import PublicServer
from failoverd.runtime.public_shown import Shown

if TYPE_CHECKING:
    from pathlib import Path

    from prometheus_client.core import Metric

    from failoverd.core.view import View

OPENMETRICS = "application/openmetrics-text; version=1.0.0,text/plain;version=0.0.4;q=0.5"
NAMES = {
    "failoverd_info": {"cluster", "node", "version"},
    "failoverd_term": set(),
    "failoverd_primary": set(),
    "failoverd_gate_open": set(),
    "failoverd_lease_left_seconds": set(),
    "failoverd_store_reachable": set(),
    "failoverd_semi_sync_clients": set(),
    "failoverd_nodes_heard": set(),
    "failoverd_failover_possible": set(),
    "failoverd_paused": set(),
    "failoverd_rpo_unproven": set(),
    "failoverd_blocker": {"code"},
    "failoverd_finding": {"code", "severity", "node"},
    "failoverd_node_heard_seconds": {"node"},
    "failoverd_service_up": {"node", "service"},
    "failoverd_replication_lag_seconds": {"node"},
    "failoverd_replication_running": {"node", "thread"},
    "failoverd_rebuild_running": {"node"},
    "failoverd_probe_seconds": {"probe", "node"},
    "failoverd_mail_imap_connections": set(),
    "failoverd_mail_deliveries_total": set(),
    "failoverd_mail_logins_total": {"result"},
    "failoverd_mail_connect_latency_seconds": {"service"},
    "failoverd_sql_slow_queries_total": set(),
    "failoverd_postfix_cpu_percent": set(),
    "failoverd_changes_total": {"kind"},
    "failoverd_access_denied_total": {"from"},
    "failoverd_alerts_queued": set(),
    "failoverd_alerts_dropped_total": set(),
    "failoverd_certificate_expiration_timestamp_seconds": {"node", "kind"},
    "failoverd_peer_refused_total": {"port", "code"},
}
MEASURED: dict[str, Facts] = {
    "latency": LatencyFacts((("imap", "mail1", 40), ("imap", "mail2", 8), ("smtp", "mail1", 25))),
    "logins": LoginFacts(accepted=40, refused=3, deliveries=17, deliveries_per_s=0.3),
    "sessions": SessionFacts(12),
    "processes": ProcessFacts(1.5),
    "statements": StatementFacts(slow=4, counts_ms=1000),
}


def measuring(view: View) -> View:
    """The same, where monitoring has looked at everything once."""
    looks = [
        Sighting(Observation(name, view.me.name, Reading(Health.OK, facts=facts), views.NOW, 5), 0, views.NOW)
        for name, facts in MEASURED.items()
    ]
    return view.changed(sightings=(*view.sightings, *looks))


# Everything that has a sample only where something is wrong, is wrong here.
ILL = measuring(
    views.view(
        "mail2",
        {
            "mail3": {
                "findings": (("DISK_FULL", 'the disk "srv" is full\nand \\ says so'),) * 2,
                "database": views.replica_facts(received=400, applier=Thread.STOPPED, heartbeat_beat=92),
            },
        },
        record=views.record(paused="anna: moving the rack", unproven="no replica acknowledges"),
    )
)


class Refusing:
    """Knows of a certificate of each kind, and has refused somebody."""

    def lives(self) -> tuple[Life, ...]:
        """In the year 2027."""
        own = Life("certificate", 0, 1.8e9), Life("ca", 0, 1.9e9), Life("mail1", 0, 1.85e9)
        return *own, Life("http", 0, 1.7e9), Life("operators", 0, 2e9)

    def counts(self) -> dict[tuple[str, str], int]:
        """Of two ports."""
        return {("peer", "PEER_EXPIRED"): 3, ("rebuild", "PEER_STRANGER"): 1}


def scraped(config_file: Path, view: View, accept: str = "") -> tuple[str, str]:
    """(content type, text)."""
    got = []

    async def story(client: httpx.AsyncClient) -> None:
        answer = await client.get("/metrics", headers={"accept": accept} if accept else {})
        assert answer.status_code == httpx.codes.OK
        got.append((answer.headers["content-type"], answer.text))

    Stage(config_file, view, Refusing()).tell(story)
    return got[0]


def samples(text: str) -> dict[tuple[str, ...], float]:
    """{(name, values of the labels in the order of their names): value}."""
    found: dict[tuple[str, ...], float] = {}
    for family in parsed(text):
        for sample in family.samples:
            key = (sample.name, *(value for _, value in sorted(sample.labels.items())))
            assert key not in found, "told twice"
            found[key] = sample.value
    return found


def test_every_name_is_there_with_its_labels_its_type_and_what_it_means(config_file: Path) -> None:
    kind, text = scraped(config_file, ILL)
    assert kind == "text/plain; version=0.0.4; charset=utf-8"
    families: list[Metric] = list(parsed(text))
    found: dict[str, set[str]] = {}
    for family in families:
        assert family.documentation.endswith("."), family.name
        assert family.type == ("counter" if f"{family.name}_total" in NAMES else "gauge"), family.name
        for sample in family.samples:
            found.setdefault(sample.name, set(sample.labels))
            assert found[sample.name] == set(sample.labels)
    assert found == NAMES


def test_the_same_in_openmetrics_with_units(config_file: Path) -> None:
    kind, text = scraped(config_file, ILL, OPENMETRICS)
    assert kind == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    families = {family.name: family for family in parsed_openmetrics(text)}
    assert {sample.name for family in families.values() for sample in family.samples} == set(NAMES)
    for family in families.values():
        assert family.unit == ("seconds" if family.name.endswith("_seconds") else ""), family.name


@pytest.mark.parametrize("accept", ["*/*", "text/html", "application/openmetrics-text;version=x", ",;,", "a" * 9000])
def test_whatever_is_asked_for_one_of_the_two_is_given(config_file: Path, accept: str) -> None:
    kind, _ = scraped(config_file, views.view("mail2"), accept)
    assert kind.startswith("application/openmetrics-text" if "openmetrics" in accept else "text/plain")


def test_certificates_and_refusals(config_file: Path) -> None:
    told = samples(scraped(config_file, views.view("mail2"))[1])
    ends = "failoverd_certificate_expiration_timestamp_seconds"
    assert {key[1:]: value for key, value in told.items() if key[0] == ends} == {
        ("node", "mail2"): 1.8e9,
        ("ca", "mail2"): 1.9e9,
        ("node", "mail1"): 1.85e9,
        ("http", "mail2"): 1.7e9,
        ("operators", "mail2"): 2e9,
    }
    assert told["failoverd_peer_refused_total", "PEER_EXPIRED", "peer"] == 3
    assert told["failoverd_peer_refused_total", "PEER_STRANGER", "rebuild"] == 1


def test_the_primary(config_file: Path) -> None:
    told = samples(scraped(config_file, views.view("mail1"))[1])
    assert told["failoverd_info", "lab", "mail1", "0.1.0"] == 1
    assert (told["failoverd_primary",], told["failoverd_gate_open",], told["failoverd_term",]) == (1, 1, views.TERM)
    assert told["failoverd_lease_left_seconds",] == 2.5
    assert (told["failoverd_semi_sync_clients",], told["failoverd_nodes_heard",]) == (2, 4)
    assert (told["failoverd_failover_possible",], told["failoverd_store_reachable",]) == (1, 1)
    assert told["failoverd_probe_seconds", "mail1", "imap"] == 0.005
    assert not [key for key in told if key[0] in {"failoverd_blocker", "failoverd_finding"}]


def test_a_primary_whose_lease_has_ended_is_none(config_file: Path) -> None:
    ended = views.view("mail1", held=Held(views.TERM, 40, views.NOW), watch=None)
    told = samples(scraped(config_file, ended)[1])
    assert told["failoverd_primary",] == 0
    assert ("failoverd_lease_left_seconds",) not in told, "whether another one has it is not known"


def test_what_is_wrong_is_told_once_and_what_is_not_known_has_no_sample(config_file: Path) -> None:
    told = samples(scraped(config_file, ILL)[1])
    assert told["failoverd_finding", "DISK_FULL", "mail3", "blocks"] == 1
    assert told["failoverd_blocker", "BLK_PAUSED"] == 1
    assert (told["failoverd_paused",], told["failoverd_rpo_unproven",], told["failoverd_nodes_heard",]) == (1, 1, 4)
    assert told["failoverd_replication_running", "mail3", "receiver"] == 1
    assert told["failoverd_replication_running", "mail3", "applier"] == 0
    deaf = samples(scraped(config_file, views.view("mail2", {"mail1": None}))[1])
    assert deaf["failoverd_nodes_heard",] == 3
    assert not [key for key in deaf if key[0] == "failoverd_replication_lag_seconds"], "the primary is not heard"


def test_what_monitoring_measured(config_file: Path) -> None:
    told = samples(scraped(config_file, ILL)[1])
    assert told["failoverd_mail_imap_connections",] == 12
    assert told["failoverd_mail_deliveries_total",] == 17
    assert (told["failoverd_mail_logins_total", "accepted"], told["failoverd_mail_logins_total", "refused"]) == (40, 3)
    assert told["failoverd_mail_connect_latency_seconds", "imap"] == 0.04, "of the primary, not of itself"
    assert (told["failoverd_sql_slow_queries_total",], told["failoverd_postfix_cpu_percent",]) == (4, 1.5)
    unmeasured = samples(scraped(config_file, views.view("mail2"))[1])
    assert not [
        key for key in unmeasured if key[0].startswith(("failoverd_mail", "failoverd_sql", "failoverd_postfix"))
    ]


def test_the_lag_of_each_replica_in_seconds(config_file: Path) -> None:
    behind = views.view("mail2", {"mail3": {"database": views.replica_facts(heartbeat_beat=92)}})
    told = samples(scraped(config_file, behind)[1])
    assert told["failoverd_replication_lag_seconds", "mail2"] == 0
    assert told["failoverd_replication_lag_seconds", "mail3"] == 4


def test_an_arbiter_tells_of_the_cluster(config_file: Path) -> None:
    told = samples(scraped(config_file, views.view("arbiter"))[1])
    assert (told["failoverd_primary",], told["failoverd_failover_possible",]) == (0, 1)
    assert ("failoverd_semi_sync_clients",) not in told


def test_alerts_are_told_as_their_queue_says(config_file: Path) -> None:
    stage = Stage(config_file, views.view("mail2"))
    stage.shown.alerts = lambda: (3, 7)

    async def story(client: httpx.AsyncClient) -> None:
        told = samples((await client.get("/metrics")).text)
        assert (told["failoverd_alerts_queued",], told["failoverd_alerts_dropped_total",]) == (3, 7)

    stage.tell(story)


def test_changes_of_primary_are_counted_by_how_they_began(config_file: Path, tmp_path: Path) -> None:
    """A whole daemon reads the terms from its store; the one that stands as it starts is none of its changes."""

    async def story() -> None:
        config = load(config_file, "arbiter")
        node = Node(config, tmp_path, HELD)
        server = PublicServer(
            Shown(config, BootClock(), node.daemon, node.controller), addresses=("127.0.0.1",), port=0
        )
        terms = [
            ("primary-lost-by-quorum", "mail2", None),
            ("switchover-target", "mail3", "mail3"),
            ("primary-lost-by-quorum", "mail1", "mail2"),  # who was asked for did not come to it
            ("take-over-forced: anna gave up 3 transactions", "mail2", "mail2"),
        ]
        async with node.running():
            await server.start()
            for reason, holder, target in terms:
                before = node.cell.record
                request = Request("r1", NodeName(target), "anna", "", before.term) if target else None
                after = replace(
                    before, term=before.term + 1, holder=NodeName(holder), reason=reason, request=request, counter=0
                )
                won, _ = await node.store.compare_and_swap(before.version, after)
                assert won
                await until(lambda term=after.term: node.daemon.state.view.highest_term == term)
            async with httpx.AsyncClient() as client:
                text = (await client.get(f"http://127.0.0.1:{server.ports['127.0.0.1']}/metrics")).text
            await server.stop()
        told = {key[1]: value for key, value in samples(text).items() if key[0] == "failoverd_changes_total"}
        assert told == {"switchover": 1, "failover": 2, "forced": 1, "adoption": 0}

    asyncio.run(story())
