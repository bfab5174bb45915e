"""A drill on real hosts, short: conducted to its end, and killed. `tests/lab/drills` does all of them."""

from __future__ import annotations

import json
import re
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from hosts import layout
from hosts.shell import wait_for
from trials.drilling import SECTION, Drills

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hosts import Lab
    from trials.cluster import Cluster

pytestmark = [pytest.mark.lab, pytest.mark.long]

FILE = "/etc/failoverd/failoverd.yaml"
USERS = 60  # of whom each submits a mail a minute: some do so in ten seconds
# A mail that was being delivered when Dovecot died is held by the old primary, and handed on when its Dovecot is there
# again: tried less and less often meanwhile, and the drill waits for it.
CONDUCTED_S = 420.0
GONE_S = 30.0
OPTIONS = ("--load", str(USERS), "--duration", "10s", "--backup", "none")


def is_under_load(state: dict[str, Any]) -> bool:
    return any(phase["name"] == "load" for phase in state["phases"])


@pytest.fixture
def drills(lab: Lab, cluster: Cluster) -> Iterator[Drills]:
    """Give a cluster that allows drills; afterwards it is configured as before, and no agent runs."""
    texts = {host: lab.path(host, FILE).read_text() for host in layout.HOSTS}
    made = Drills(lab, cluster)
    for host, text in texts.items():
        without = re.sub(r"(?m)^drill:.*\n(?:[ \t].*\n|\n)*", "", text)
        lab.path(host, FILE).write_text(f"{without}\n{SECTION.replace('ramp: 10s', 'ramp: 2s')}")
        lab.exec(host, "systemctl", "reload", "failoverd")
    made.enable()
    yield made
    made.disable()
    for host, text in texts.items():
        lab.path(host, FILE).write_text(text)
        lab.exec(host, "systemctl", "reload", "failoverd")


def test_a_drill_moves_the_role_loses_nothing_and_leaves_a_report_on_every_node(
    lab: Lab, cluster: Cluster, drills: Drills
) -> None:
    primary, host = cluster.primary(), drills.coordinator("service-death")
    with drills.begin(host, "service-death", *OPTIONS) as process:
        try:
            words, _ = process.communicate(timeout=CONDUCTED_S)
        except subprocess.TimeoutExpired:
            process.kill()
            pytest.fail(f"not done within {CONDUCTED_S:.0f} s: {drills.states(host)[0]}")
    assert process.returncode == 0, words
    assert words.splitlines()[-1].strip() == "passed"
    assert cluster.primary() != primary

    [state] = drills.states(host)
    drill = state["asked"]["id"]
    report = drills.report(host, drill)
    found = report["consistency"]
    assert (found["lost_count"], found["twice_count"], found["mailboxes_differ"]) == (0, 0, [])
    assert found["acknowledged"] > 0
    assert found["tables"]
    assert all(table["same"] for table in found["tables"])
    away = [one["outage_ms"] for one in report["protocols"] if one["stage"] == "fault" and one["protocol"] == "imap"]
    assert away[0] > 0, "the service was dead: somebody has seen it"
    assert report["change"]["previous"] == primary
    for counter in report["counters"]:
        assert counter["ours"] == pytest.approx(counter["servers"], rel=0.05), counter["name"]

    assert drills.left() == []
    kept = {drills.report_page(each, drill) for each in layout.HOSTS}
    assert len(kept) == 1, "every node keeps the same report"
    shown = json.loads(lab.exec(host, "failoverctl", "drill", "report", drill, "-o", "json").stdout)
    assert shown["drill"]["asked"]["id"] == drill


def test_a_drill_whose_process_is_killed_is_taken_back_by_itself(cluster: Cluster, drills: Drills) -> None:
    host = drills.coordinator("service-death")
    before = len(drills.states(host))
    with drills.begin(host, "service-death", *OPTIONS) as process:
        assert drills.wait_for(host, before, is_under_load, CONDUCTED_S)
        drills.kill(host)
        wait_for("nothing of the drill is left", lambda: not drills.left(), GONE_S)
        wait_for("the cluster is as before", cluster.is_settled, GONE_S, why_not=lambda: "; ".join(cluster.unsettled()))
        words, _ = process.communicate(timeout=CONDUCTED_S)
    assert process.returncode != 0, words
    state = drills.states(host)[0]
    assert (state["outcome"], state["code"], state["clean"]) == ("failed", "DRILL_ENDED", True)
    assert drills.report(host, state["asked"]["id"])["drill"]["code"] == "DRILL_ENDED"
