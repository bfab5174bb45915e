"""The matrix's own logic: its table is whole, its results come back as they went, its verdict is what its rows say."""

from __future__ import annotations

import json
import math
import socket
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from faultmatrix import scene as scene_module
from faultmatrix.main import chosen, configured, configured_with_disks
from faultmatrix.rebuilds import took_s
from faultmatrix.results import Results, markdown
from faultmatrix.row import MANY, Outcome, Row, expected
from faultmatrix.scene import Scene
from faultmatrix.table import ROWS
from faultmatrix.trial import Result, too_long
from hosts import LabError, layout
from trials.figures import PROTOCOLS

from failoverd.core.effects import StepKind
from failoverd.core.plan import PLANS
from failoverd.core.rules import Decision

if TYPE_CHECKING:
    from pathlib import Path

    from hosts import Lab
    from trials.cluster import Cluster

# Steps of a promotion that a candidate is not killed at: a node whose unit needs a restart is no candidate, mail is
# released only where some was held, and waiting for replicas ended only where none is there, by a node that serves
# already; and the lab's mail store does not move.
NOT_DIED_AT = {
    StepKind.RESTART_UNIT,
    StepKind.RELEASE,
    StepKind.STOP_WAITING,
    StepKind.TAKE_STORE,
    StepKind.START_SERVICES,
}
PEER_PORT = 7400


def row(name: str) -> Row:
    return next(row for row in ROWS if row.name == name)


def test_names_are_unique() -> None:
    assert len({row.name for row in ROWS}) == len(ROWS)
    assert len({row.words for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("some", ROWS, ids=lambda some: some.name)
def test_a_row_says_what_is_documented(some: Row) -> None:
    assert expected(some)
    assert set(some.served) <= set(PROTOCOLS)
    assert (some.outcome is Outcome.WAITS) == (some.returns is not None) == bool(some.until)
    assert some.outcome in {Outcome.STAYS, Outcome.SURVIVES} or some.served == PROTOCOLS
    assert some.trials >= 2
    assert some.lasts_s >= 9, "three leases: what has not happened by then does not happen"


def test_a_candidate_dies_at_each_step_of_a_promotion() -> None:
    steps = {step.value for step in PLANS[Decision.SERVE] if step not in NOT_DIED_AT}
    prefix = "candidate-dies-"
    dying = {row.name.removeprefix(prefix) for row in ROWS if row.name.startswith(prefix)}
    assert dying == {*steps, "take-over"}
    assert all(row.trials >= MANY for row in ROWS if row.name.startswith(prefix))


def test_rows_are_chosen_by_name_and_pattern_disks_last() -> None:
    assert chosen(["power-primary"]) == [row("power-primary")]
    assert {some.name for some in chosen(["power-*"])} == {r.name for r in ROWS if r.name.startswith("power-")}
    assert [some.disks for some in chosen(None, "etcd")] == sorted(some.disks for some in ROWS)
    with pytest.raises(ValueError, match="no row 'power-nobody'"):
        chosen(["power-nobody"])


def test_rows_of_etcd_are_for_the_store_that_is_etcd() -> None:
    assert {some.name for some in set(chosen(None, "etcd")) - set(chosen(None))} == {
        some.name for some in ROWS if some.name.startswith("etcd-")
    }
    with pytest.raises(ValueError, match="with --store embedded there is no row 'etcd-leader-killed'"):
        chosen(["etcd-leader-killed"])


def test_the_shipped_configuration_takes_what_the_matrix_changes() -> None:
    shipped = (layout.TREE / "config/failoverd.yaml").read_text()
    assert "failovers: 100," in configured(shipped)
    assert "/var/lib/mysql" in configured_with_disks(shipped).partition("disks:")[2].partition("\n")[0]
    with pytest.raises(LabError, match="failovers: 3"):
        configured("cluster: lab\n")


def result(name: str, number: int, **figures: object) -> Result:
    outages = dict.fromkeys(PROTOCOLS, 1000.0 * number)
    return Result(row=name, number=number, outage_ms=outages, lost=0, **figures)  # type: ignore[arg-type] # by name


def test_results_go_on_where_they_were(tmp_path: Path) -> None:
    first = Results(tmp_path)
    first.add(result("power-primary", 1))
    endless = result("power-primary", 2, problems=["it did not come back"])
    endless.outage_ms["sql"] = math.inf
    first.add(endless)
    again = Results(tmp_path)
    assert again.done == first.done
    assert again.has(row("power-primary"), 2)
    assert not again.has(row("power-primary"), 3)
    assert not again.has(row("power-replica"), 1)


def test_the_table_has_a_line_a_row_and_names_what_went_wrong(tmp_path: Path) -> None:
    results = Results(tmp_path)
    results.add(result("power-primary", 1, term_changes=1, home_s=7.0, duplicates=3))
    results.add(
        result("power-primary", 3, term_changes=2, home_s=8.0, two_vip_ms=20.0, problems=["the role moves once"])
    )
    words = results.write()
    line = next(line for line in words.splitlines() if line.startswith("| power cut of the primary"))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[1:] == [
        "moves",
        "2",
        *["2.00 / 3.00"] * 3,
        "0.02",
        "0",
        "0",
        "0",
        "3",
        "7.5 / 8.0",
        "",
        "1 to 2",
        "**1 of 2**",
    ]
    assert "- power-primary 3: two virtual IPs for 0.02 s" in words
    assert (tmp_path / "matrix.md").read_text() == words
    written = json.loads((tmp_path / "matrix.json").read_text())
    assert written["good"] is False
    assert written["rows"][0]["outage_ms"]["sql"] == {"median": 2000.0, "max": 3000.0}


def test_the_cost_of_a_leader_of_etcd_that_dies_with_the_primary_is_told_beside_its_election(tmp_path: Path) -> None:
    results = Results(tmp_path)
    results.add(result("power-primary", 2, store="etcd"))
    assert "leader" not in results.write()
    for number, election_s in ((3, 1.4), (4, 1.8)):
        results.add(result("etcd-leader-and-primary", number, store="etcd", election_s=election_s))
    words = results.write()
    assert "SQL 3.50 / 4.00 (2.00 / 2.00)" in words
    assert "next leader of etcd: 1.60 / 1.80 s" in words
    written = json.loads((tmp_path / "matrix.json").read_text())
    assert [row["election_s"] for row in written["rows"]] == [None, {"median": 1.6, "max": 1.8}]


def test_what_could_not_be_counted_is_neither_safe_nor_zero() -> None:
    unknown = Result(row="power-primary", number=1)
    assert not unknown.safe
    assert "| ? |" in markdown([unknown])


def test_the_time_of_a_rebuild_is_its_nodes_own() -> None:
    def line(at_ms: int, text: str, request: str, kind: str = "rebuild") -> dict[str, object]:
        return {"kind": kind, "boot_ms": at_ms, "text": text, "detail": {"request": request}}

    audit = [
        line(1000, "is home", "r0"),  # begun before
        line(2000, "begins: from mail3, by anna", "r1"),
        line(3000, "step", "r1", "step"),
        line(4000, "failed: no", "r1"),
        line(5000, "begins: from mail3, by rebuild-due", "r2"),
        {"kind": "rebuild", "boot_ms": 6000, "text": "is home"},
        line(17_340, "is home: /var/lib/failoverd/ahead/1", "r2"),
        line(20_000, "begins: from mail3, by anna", "r3"),
    ]
    assert took_s(audit) == [12.3]
    assert took_s([]) == []


def test_the_table_tells_of_a_rebuild_where_there_was_one(tmp_path: Path) -> None:
    results = Results(tmp_path)
    for number, took in ((1, 12.3), (2, -1.0), (3, 14.5)):
        results.add(result("loaded-diverged", number, rebuild_s=took, home_s=1.0))
    results.add(result("power-replica", 1))
    words = results.write()
    head, *lines = (
        [cell.strip() for cell in line.strip("|").split("|")] for line in words.splitlines() if line.startswith("| ")
    )
    told = {line[0]: line[head.index("rebuild")] for line in lines}
    assert told == {row("loaded-diverged").words: "13.4 / 14.5", row("power-replica").words: ""}
    written = json.loads((tmp_path / "matrix.json").read_text())
    assert [row["rebuild_s"] for row in written["rows"]] == [None, {"median": 13.4, "max": 14.5}]
    assert Results(tmp_path).done == results.done


def test_a_row_may_bound_what_clients_wait() -> None:
    some = replace(row("loaded-diverged"), outage_s=3.0)
    within = dict.fromkeys(PROTOCOLS, 3000.0)
    assert too_long(some, within) == []
    (words,) = too_long(some, within | {"imap": math.inf})
    assert words.startswith("IMAP was not served for inf s")
    assert too_long(row("loaded-power-primary"), dict.fromkeys(PROTOCOLS, math.inf)) == []


class DivergedLab:
    """What `Scene` asks of the hosts when it makes a replica diverge, and has it made anew."""

    def __init__(self, *ends: int) -> None:
        self.ends = list(ends)  # of failoverctl rejoin, one after the other
        self.row = ""
        self.saved = False
        self.asked: list[tuple[str, ...]] = []

    def sql(self, host: str, statements: str) -> list[list[str]]:
        """Run them: one row, on one host, until that is made anew."""
        if "INSERT" in statements:
            self.row = statements.split("'")[1]
            return []
        return [["1" if host == "mail2" and self.row in statements and not self.saved else "0"]]

    def exec(self, host: str, *command: str, **_: object) -> subprocess.CompletedProcess[str]:
        """Run failoverctl, or grep."""
        self.asked.append((host, *command))
        if command[0] == "grep":
            return subprocess.CompletedProcess(command, 0, "/a/events.sql\n" if self.saved else "", "")
        end = self.ends.pop(0)
        self.saved = self.saved or end == 0
        return subprocess.CompletedProcess(command, end, "done: mail2 is home\n", "")


def test_a_replica_that_diverged_is_made_anew_and_what_it_had_is_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scene_module.time, "sleep", lambda _: None)
    hosts: Any = DivergedLab(3, 0)  # refused once: no replica is near enough
    told: list[str] = []
    scene = Scene(hosts, "mail1", 7, told.append)
    written = scene.write_on("mail2")
    with pytest.raises(LabError, match="is not under"):
        scene.expect_saved("mail2", written)
    scene.rejoin("mail2")
    assert hosts.asked[-1] == ("mail1", "failoverctl", "rejoin", "mail2", "--rebuild", "--yes")
    scene.expect_saved("mail2", written)
    assert told[-1] == "what was written on mail2 is saved, and in no database"
    failing: Any = DivergedLab(1, 0)
    scene = Scene(failing, "mail1", 7, told.append)
    scene.write_on("mail2")
    with pytest.raises(LabError, match="rejoin ended with 1"):
        scene.rejoin("mail2")
    assert scene._rejoin_if_diverged("mail2", failing.row) is None
    assert failing.saved


@pytest.mark.lab
def test_faults_are_undone_whatever_they_were(lab: Lab, cluster: Cluster) -> None:
    primary = cluster.primary()
    scene = Scene(lab, primary, cluster.term(), print)
    scene.lose_packets(scene.arbiter, 30)
    scene.deafen_client(scene.arbiter)
    scene.stranger_claims_vip()
    replica = scene.replicas[0]
    scene.break_replication(replica)
    assert scene.heal() == []
    assert lab.sql(replica, "SELECT COUNT(*) FROM app.writes")
    assert "lab_loss" not in lab.exec(layout.ARBITER, "nft", "list", "tables").stdout
    with lab.client_network():
        socket.create_connection((layout.ADDRESSES[layout.ARBITER], PEER_PORT), timeout=5).close()
    cluster.wait_until_settled(60)
