"""A rebuild that is killed, told to end, or cut off: it goes on, or has touched nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from mariadb_servers import in_step, wait_for
from rebuild_stage import (
    fail_over,
    fill,
    held_back,
    lost_rows,
    mariabackups,
    ok,
    refused,
    same_data,
)

from failoverd import rebuild_files as looks
from failoverd.core.lease import Held
from failoverd.probes.rebuild import facts_of
from failoverd.rebuild.main import RUNS
from failoverd.runtime.clock import BootClock
from failoverd.runtime.persist import LeaseFile, boot_id

if TYPE_CHECKING:
    from pathlib import Path

    from rebuild_stage import Nodes

pytestmark = pytest.mark.lab


BEFORE = ["receiving", "receive", "prepare"]  # nothing of the node's own data is touched
FROM_THERE = ["prepared", "moving-out", "moving-in", "in-place"]


@pytest.mark.parametrize("stage", [*BEFORE, *FROM_THERE])
def test_killed_and_run_again(nodes: Nodes, stage: str) -> None:
    mail1, mail2, mail3 = nodes
    fill(mail1.server, 8)
    fail_over(mail1, mail2, mail3)
    mail1.server.start()
    run = mail1.rebuild("--from", "mail3")
    run.until(stage)
    run.kill()
    untouched = stage in BEFORE
    assert not untouched or len(lost_rows(mail1)) == 3, "nothing of the node's data was touched"
    again = mail1.rebuild(*(["--from", "mail3"] if untouched else []))
    assert again.end() == 0, (run.said, again.said, again.errors, mail3.log.read_text())
    assert untouched or again.said[0]["stage"] == "resume"
    ok(mail1.database.follow(address=mail2.server.address, deadline_ms=8000))
    in_step(mail2.server, mail1.server)
    same_data(mail1, mail2)
    assert len(list((mail1.server.directory / "ahead").iterdir())) >= 1
    assert not mail1.data.with_name("data.rebuild").exists()


def test_a_stream_that_breaks_off_leaves_nothing(nodes: Nodes) -> None:
    mail1, mail2, mail3 = nodes
    fill(mail1.server, 20)
    fail_over(mail1, mail2, mail3)
    mail1.server.start()
    run = mail1.rebuild("--from", "mail3")
    run.until("receiving")
    wait_for(lambda: mariabackups(mail3), name="the backup to begin")
    assert mail3.donor is not None
    mail3.donor.kill()
    mail3.donor.wait()
    assert run.end() == 1
    assert run.said[-1]["code"] == "REBUILD_STREAM"
    assert not mail1.data.with_name("data.rebuild").exists()
    assert len(lost_rows(mail1)) == 3
    wait_for(lambda: not mariabackups(mail3), name="mariadb-backup to end with the donor")
    mail3.serve()
    assert mail1.rebuild("--from", "mail3").end() == 0


def test_a_promotion_in_the_last_moment_keeps_the_old_data(nodes: Nodes, tmp_path: Path) -> None:
    """The node gets the lease while its server is being stopped: its data may be the newest there are."""
    mail1, _, mail3 = nodes
    LeaseFile(tmp_path / "l", boot_id()).write(Held(4, 9, BootClock().now_ms() + 60_000))
    systemctl = mail3.programs / "systemctl"
    script = systemctl.read_text()
    given = f'[ "$1" = stop ] && cp {tmp_path}/l/lease {mail3.runtime}/lease\n'
    systemctl.write_text(script.replace("#!/bin/sh\n", f"#!/bin/sh\n{given}"))
    assert "term 4" in refused(mail3.rebuild("--from", "mail2"), "REBUILD_IS_PRIMARY")
    in_step(mail1.server, mail3.server)  # it runs again, on its own data
    assert not (mail3.state / "rebuild/hold").exists()
    systemctl.write_text(script)
    LeaseFile(mail3.runtime, boot_id()).clear()
    assert mail3.rebuild().end() == 0


@pytest.mark.parametrize("code", ["REBUILD_STOPPED", "REBUILD_NO_PRIMARY"])
def test_it_ends_by_itself_while_nothing_is_touched(nodes: Nodes, code: str) -> None:
    """Told to, or without a primary: the node's own data are then needed to elect the next one."""
    mail1, mail2, mail3 = nodes
    with held_back(mail2):
        mail1.server.run("INSERT INTO app.writes VALUES ('waits', 0)")
        in_step(mail1.server, mail3.server)
        run = mail3.rebuild("--from", "mail2")
        run.until("wait")
        assert looks.is_running(mail3.runtime)
        if code == "REBUILD_STOPPED":
            run.process.terminate()
        else:
            mail1.server.kill()
        assert run.end() == 3
    assert run.said[-1]["code"] == code
    assert not looks.is_running(mail3.runtime)
    newest = looks.newest(mail3.runtime)
    assert (newest["code"], newest["touched"], newest["request"]) == (code, False, "")
    assert list(mail3.state.glob("rebuild/*")) == [mail3.state / "rebuild/lock"]
    assert not mail3.data.with_name("data.rebuild").exists()


def test_one_that_is_killed_again_and_again_gives_up(nodes: Nodes) -> None:
    """Systemd starts it again each time: without a bound a server that is too small would be kept busy for ever."""
    _, _, mail3 = nodes
    mail3.runtime.mkdir()
    looks.ask(mail3.runtime, request="r1", donor="mail2", from_primary=False)
    for _ in range(RUNS):
        run = mail3.rebuild("--requested")
        run.until("receiving")
        run.kill()
    last = mail3.rebuild("--requested")
    assert last.end() == 1
    assert last.said[-1]["code"] == "REBUILD_KILLED"
    told = facts_of(looks.newest(mail3.runtime), running=False)
    assert (told.stage, told.code, told.touched) == ("failed", "REBUILD_KILLED", False)
    assert not mail3.data.with_name("data.rebuild").exists()
    looks.ask(mail3.runtime, request="r2", donor="mail2", from_primary=False)
    again = mail3.rebuild("--requested")  # who asks again has all the tries again
    assert again.end() == 0, (again.said, again.errors)
