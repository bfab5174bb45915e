"""The scale benchmark at its smallest: it stays alive, and what holds for any number of clusters holds for five."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from scale_agents import Timing
from scale_etcd import IN_USE, Etcd
from scale_report import drawn, table
from scale_run import Generator, Plan, failover, settled, started, steady
from scale_worker import allow_files

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FIVE = Plan(
    clusters=5,
    steady_s=4.0,
    timing=Timing(ttl_ms=6000, renew_ms=1000, margin_ms=600),  # room for a machine that does much else
    version="3.5",
    settle_s=1.0,
)


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[Etcd]:
    allow_files()
    members = Etcd(tmp_path, FIVE.version)
    try:
        members.open([f"c{number:05}" for number in range(FIVE.clusters)])
        yield members
    finally:
        members.close()


@pytest.fixture
def generator(etcd: Etcd) -> Iterator[Generator]:
    running = Generator(etcd, FIVE)
    yield running
    running.close()


def in_use(etcd: Etcd) -> float:
    etcd.compact()
    return max(one.numbers[IN_USE] for one in etcd.metrics())


def test_five_clusters_renew_fail_over_and_leave_nothing_behind(etcd: Etcd, generator: Generator) -> None:
    start = started(etcd, generator, FIVE)
    assert not start["errors"]

    costs = steady(etcd, generator, FIVE)
    cost = costs["steady"]
    intervals = cost["seconds"] * 1000 / FIVE.timing.renew_ms + 1
    assert 0 < cost["transactions_a_second"] * cost["seconds"] <= FIVE.clusters * intervals
    assert cost["events_a_second"] > cost["transactions_a_second"]  # all four nodes are told
    assert (cost["lost"], cost["overlaps"], cost["errors"]) == (0, 0, {})
    before = in_use(etcd)

    failed = failover(etcd, generator, FIVE, "all")
    assert (failed["clusters"], failed["without_a_new_primary"], failed["cost"]["overlaps"]) == (5, 0, 0)
    assert failed["from_the_fault_ms"]["count"] == FIVE.clusters

    settled(generator, FIVE)
    assert in_use(etcd) <= before + FIVE.clusters * 16_384  # some pages of its file, whatever was written since

    run = {"clusters": 5, "version": "3.5", **costs, "failovers": [failed]}
    assert "leases lost for no reason" in table([run])
    assert drawn([run]).count("<polyline") == 9
