"""A daemon that is restarted, or killed, goes on as what it was within its lease: no client notices.

With a longer lease. A daemon is up in 0.7 s on a host of its own; here four hosts share two processors, which clients
and observers keep busy meanwhile, and which the machine below may take away for a while: 2 to 5 s were seen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from faultmatrix.trial import Run
from test_daemon import DAEMON, serves_on_without_a_pause, void
from test_failover import kill_daemon
from test_matrix import row
from trials.cluster import Cluster

if TYPE_CHECKING:
    from pathlib import Path

    from hosts import Lab

pytestmark = pytest.mark.lab

SETTLED_S = 60.0


def patient(text: str) -> str:
    """Give the configuration with the longer lease."""
    assert "ttl: 3s" in text
    return text.replace("ttl: 3s", "ttl: 12s")


@pytest.fixture(scope="module")
def patiently(lab_of_the_session: Lab) -> Lab:
    """Give hosts with the longer lease."""
    lab_of_the_session.up(configure=patient)
    Cluster(lab_of_the_session).wait_until_settled(SETTLED_S)
    return lab_of_the_session


def test_a_restarted_daemon_neither_moves_the_role_nor_interrupts_a_client(patiently: Lab, tmp_path: Path) -> None:
    def restart(host: str) -> None:
        void(patiently, host, "systemctl", "restart", DAEMON)

    serves_on_without_a_pause(patiently, Cluster(patiently), tmp_path, restart)


def test_a_killed_daemon_neither_moves_the_role_nor_interrupts_a_client(patiently: Lab, tmp_path: Path) -> None:
    def kill(host: str) -> None:
        kill_daemon(patiently, host)

    serves_on_without_a_pause(patiently, Cluster(patiently), tmp_path, kill)


@pytest.mark.long
def test_the_matrix_row_of_a_restarted_daemon_moves_nothing(patiently: Lab, tmp_path: Path) -> None:
    cluster = Cluster(patiently)
    cluster.wait_until_settled(SETTLED_S)
    before = cluster.primary()
    done = Run(patiently, row("failoverd-restarted"), 1, tmp_path).run()
    assert done.problems == []
    assert done.safe
    assert (done.primary, done.term_changes) == (before, 0)
