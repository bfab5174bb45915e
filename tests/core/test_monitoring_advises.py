"""Monitoring advises: whatever it finds, on whatever node, nothing is decided otherwise for it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from views import NOW, lost, record, view

from failoverd.core import candidates, rules
from failoverd.core.findings import FINDINGS, MONITORING, Severity, blocking
from failoverd.core.health import Sighting
from failoverd.core.model import Health, NodeName, Observation, Reading
from failoverd.core.monitoring import (
    PROBES,
    Gauges,
    LatencyFacts,
    LoginFacts,
    ProcessFacts,
    SessionFacts,
    StatementFacts,
)

if TYPE_CHECKING:
    from failoverd.core.view import View

VIEWS = {
    "the primary serves": view("mail1"),
    "a replica follows": view("mail2"),
    "the arbiter": view("arbiter"),
    "the primary is lost": lost("mail2"),
    "a switchover was asked for": view("mail1", record=record(paused="")),
}
codes = st.sampled_from(sorted(MONITORING))
founds = st.lists(st.tuples(codes, st.text(max_size=30)), max_size=3).map(tuple)
facts = st.one_of(
    st.builds(LatencyFacts, found=founds),
    st.builds(LoginFacts, *[st.integers(0, 99)] * 3, st.just(0.5), founds),
    st.builds(SessionFacts, st.integers(0, 99)),
    st.builds(ProcessFacts, st.none() | st.floats(0, 800), founds),
    st.builds(StatementFacts, st.integers(0, 99), st.just(1000), st.just(()), founds),
    st.none(),
)
readings = st.builds(Reading, st.sampled_from(Health), codes, st.text(max_size=30), facts)


def looks(me: NodeName, found: dict[str, Reading], failures: int) -> tuple[Sighting, ...]:
    return tuple(
        Sighting(Observation(probe, me, reading, NOW - 100, 5), failures * (reading.health is Health.FAILED), NOW - 100)
        for probe, reading in found.items()
    )


def decided(known: View) -> tuple[object, ...]:
    """All that others and the rules ask of a node's health."""
    return (
        rules.decide(known).id,
        known.ready,
        known.steady,
        known.failing_here,
        known.failing_disks,
        known.database_failing,
        candidates.failover(known) if known.lease_is_over() else candidates.planned(known),
        candidates.change_blockers(known),
        [(name, known.verdict(name, node.name)) for name, _, _ in known.policy.services for node in known.nodes],
    )


@settings(max_examples=80)
@given(
    name=st.sampled_from(sorted(VIEWS)),
    found=st.dictionaries(st.sampled_from(sorted(PROBES)), readings, min_size=1),
    failures=st.integers(1, 1000),
)
def test_whatever_monitoring_finds_nothing_is_decided_otherwise(
    name: str, found: dict[str, Reading], failures: int
) -> None:
    before = VIEWS[name]
    after = replace(before, sightings=(*before.sightings, *looks(before.me.name, found, failures)))
    assert decided(after) == decided(before)


@given(reporter=st.sampled_from(["mail1", "mail3", "arbiter"]), found=founds)
def test_nor_for_what_another_node_s_monitoring_says(reporter: str, found: tuple[tuple[str, str], ...]) -> None:
    told = {reporter: {"findings": found, "monitoring": Gauges(imap_connections=7)}}
    assert decided(view("mail2", told)) == decided(view("mail2"))


def test_no_service_is_called_like_a_probe_of_monitoring() -> None:
    assert not PROBES & {name for name, _, _ in view().policy.services}
    assert not PROBES & {"imap", "smtp", "database", "settings", "store"}


@pytest.mark.parametrize("code", sorted(MONITORING))
def test_each_code_only_warns(code: str) -> None:
    assert FINDINGS[code].severity is Severity.WARNS
    assert blocking([(code, "x")]) is None


def test_every_finding_of_a_probe_is_told_and_gone_when_it_is_over() -> None:
    both = (("MON_AUTH_FAILURES", "60 of 70"), ("MON_AUTH_SOURCE", "60 from 192.0.2.9"))
    bad = Reading(Health.FAILED, both[0][0], "all of it", LoginFacts(10, 60, 3, 0.1, both))
    known = view("mail1")
    told = replace(known, sightings=(*known.sightings, *looks(known.me.name, {"logins": bad}, 1)))
    assert told.findings_of_probes == both
    good = replace(bad, health=Health.OK, facts=LoginFacts(80, 60, 3, 0.1))
    over = replace(known, sightings=(*known.sightings, *looks(known.me.name, {"logins": good}, 0)))
    assert over.findings_of_probes == ()
    assert over.monitoring == Gauges(logins_accepted=80, logins_refused=60, deliveries=3, deliveries_per_s=0.1)
    assert known.monitoring is None
