"""What only the node has that is made anew is saved first, and the copy has what it has acknowledged."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from mariadb_servers import in_step, wait_for
from rebuild_stage import (
    apply_sql,
    fail_over,
    held_back,
    lost_rows,
    ok,
    same_data,
)

if TYPE_CHECKING:
    from rebuild_stage import Nodes

pytestmark = pytest.mark.lab


def test_what_came_after_the_first_look_is_saved_too(nodes: Nodes) -> None:
    """Between the backup and the stop somebody writes to this node, as root."""
    mail1, mail2, mail3 = nodes
    fail_over(mail1, mail2, mail3)
    mail1.server.start()
    run = mail1.rebuild("--from", "mail3")
    run.until("prepared")
    run.kill()
    subprocess.run([str(mail1.programs / "systemctl"), "stop", "mariadb.service"], check=True)
    assert mail1.server.process is not None
    mail1.server.process.wait()
    mail1.server.start()
    mail1.server.run("INSERT INTO app.lost VALUES (99, 'late')")
    again = mail1.rebuild()
    assert again.end() == 0, (again.said, again.errors)
    first, second = (Path(directory) for directory in again.line("done")["ahead"])
    assert json.loads((first / "summary.json").read_text())["transactions"] == 3
    assert json.loads((second / "summary.json").read_text())["transactions"] == 4
    apply_sql(mail2, second / "events.sql")
    assert lost_rows(mail2)[-1] == (99, "late")


def test_all_since_a_transaction_is_saved_where_that_is_asked_for(nodes: Nodes) -> None:
    """Nothing is extra by its number: it is a replica that was refused, and somebody doubts."""
    mail1, mail2, mail3 = nodes
    in_step(mail1.server, mail3.server)
    since = mail3.server.value("@@gtid_binlog_pos")
    mail1.server.run("INSERT INTO app.writes VALUES ('since', 0)")
    in_step(mail1.server, mail3.server)
    in_step(mail1.server, mail2.server)
    run = mail3.rebuild("--from", "mail2", f"--save-since={since}")
    assert run.end() == 0, (run.said, run.errors)
    assert run.line("ahead")["tables"] == {"app.writes": 1}


def test_the_copy_has_all_that_this_node_has_acknowledged(nodes: Nodes) -> None:
    """This node alone has applied a transaction when its receiver is stopped: the copy waits for the donor to do so."""
    mail1, mail2, mail3 = nodes
    in_step(mail1.server, mail2.server)
    with held_back(mail2):
        mail1.server.run("INSERT INTO app.writes VALUES ('acknowledged', 0)")
        in_step(mail1.server, mail3.server)
        run = mail3.rebuild("--from", "mail2")
        assert "mail2 applies" in run.until("wait")["reason"]
        assert mail3.server.slave()["Slave_IO_Running"] == "No"  # and acknowledges nothing more
    assert run.end() == 0, (run.said, run.errors)
    ok(mail3.database.follow(address=mail1.server.address, deadline_ms=8000))
    in_step(mail1.server, mail3.server)
    same_data(mail1, mail3)


@pytest.mark.parametrize("applier", ["runs", "stands still"])
def test_a_copy_is_made_anew_where_the_node_has_received_more_since(nodes: Nodes, applier: str) -> None:
    """Its receiver was started again between copy and switch: also what stands in its relay log alone."""
    mail1, mail2, mail3 = nodes
    run = mail3.rebuild("--from", "mail2")
    run.until("prepared")
    run.kill()
    if applier != "runs":
        mail3.server.run("STOP SLAVE SQL_THREAD")
    mail3.server.run("START SLAVE IO_THREAD")
    mail1.server.run("INSERT INTO app.writes VALUES ('since', 0)")
    newest = mail1.server.value("@@gtid_binlog_pos")
    wait_for(lambda: mail3.server.slave()["Gtid_IO_Pos"] == newest, name="mail3 to receive it")
    in_step(mail1.server, mail2.server)
    again = mail3.rebuild()
    assert again.end() == 0, (again.said, again.errors)
    assert "has received" in again.line("outdated")["reason"]
    assert mail3.server.value("@@gtid_slave_pos") == newest


def test_what_only_a_relay_log_holds_is_saved(nodes: Nodes) -> None:
    """After a forced promotion the new primary may lack what this node has received and not applied."""
    mail1, mail2, mail3 = nodes
    in_step(mail1.server, mail2.server)
    in_step(mail1.server, mail3.server)
    mail2.server.run("STOP SLAVE")
    mail3.server.run("STOP SLAVE SQL_THREAD")
    mail1.server.run("INSERT INTO app.writes VALUES ('received', 0)")
    newest = mail1.server.value("@@gtid_binlog_pos")
    wait_for(lambda: mail3.server.slave()["Gtid_IO_Pos"] == newest, name="mail3 to receive it")
    mail1.server.kill()
    ok(mail2.database.become_source(deadline_ms=8000))
    mail2.server.run("SET GLOBAL rpl_semi_sync_master_enabled = 0")
    mail2.server.run("SET GLOBAL read_only = 0")
    mail2.server.run("INSERT INTO app.writes VALUES ('forced', 0)")
    run = mail3.rebuild("--from", "mail2", "--from-primary")
    assert run.end() == 0, (run.said, run.errors)
    assert (run.line("ahead")["transactions"], run.line("ahead")["tables"]) == (1, {"app.writes": 1})
    (directory,) = (mail3.server.directory / "ahead").iterdir()
    apply_sql(mail2, directory / "events.sql")
    assert mail2.server.value("(SELECT COUNT(*) FROM app.writes WHERE id = 'received')") == 1
