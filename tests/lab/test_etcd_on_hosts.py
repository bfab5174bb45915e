"""The cluster with etcd as its store: rows of the fault matrix, each as documented for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from faultmatrix.main import configured
from faultmatrix.trial import Run
from test_matrix import row
from trials.cluster import Cluster

if TYPE_CHECKING:
    from pathlib import Path

    from hosts import Lab

pytestmark = pytest.mark.lab

SETTLED_S = 60.0


@pytest.fixture(scope="module")
def on_etcd(lab_of_the_session: Lab) -> Lab:
    """Give hosts whose store is etcd, with its members on three of them."""
    lab_of_the_session.up(store="etcd", configure=configured)
    return lab_of_the_session


def as_documented(lab: Lab, name: str, directory: Path) -> None:
    """Run one trial of the row."""
    Cluster(lab).wait_until_settled(SETTLED_S)
    done = Run(lab, row(name), 1, directory).run()
    assert done.problems == []
    assert done.safe
    assert done.store == "etcd"


def test_clients_do_not_notice_that_etcds_leader_dies(on_etcd: Lab, tmp_path: Path) -> None:
    as_documented(on_etcd, "etcd-leader-killed-beside-primary", tmp_path)
    assert on_etcd.etcd is not None
    assert sorted(on_etcd.etcd.states().values()) == ["follower", "follower", "leader"]


@pytest.mark.long
@pytest.mark.parametrize(
    "name",
    [
        "etcd-leader-and-primary",
        "etcd-member-frozen",
        "etcd-quorum-lost",
        "etcd-quorum-lost-then-primary",
        "etcd-restored",
        "etcd-compacted",
    ],
)
def test_what_etcd_loses_costs_what_is_documented(on_etcd: Lab, tmp_path: Path, name: str) -> None:
    as_documented(on_etcd, name, tmp_path)
