"""A data node's database made anew, between real MariaDB servers over mutual TLS on loopback.

Each story starts with mail1 as the primary, and its servers' donors running.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import ssl
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from mariadb_servers import ADDRESSES, PASSWORD, hear, in_step, lay_out, make_template, private_network, wait_for
from node_certificates import Authority
from rebuild_stage import LOST, NodeStage, Outside, Run, certificates, fail_over, fill, make_node, ok

from failoverd import rebuild_files as looks
from failoverd.core.lease import Held
from failoverd.probes.rebuild import facts_of
from failoverd.rebuild import CODES, protocol
from failoverd.rebuild.main import RUNS
from failoverd.runtime.clock import BootClock
from failoverd.runtime.persist import LeaseFile, boot_id

if TYPE_CHECKING:
    from collections.abc import Iterator

    from node_certificates import Files

pytestmark = pytest.mark.lab

Nodes = tuple[NodeStage, NodeStage, NodeStage]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    with private_network() as root:
        yield root, make_template(root, tmp_path_factory.mktemp("t"))


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def nodes(template: tuple[Path, Path], authority: Authority, tmp_path: Path, example: str) -> Iterator[Nodes]:
    root, data = template
    hear()
    files = certificates(authority)
    servers = []
    for name in ADDRESSES:
        home = tmp_path / name
        home.mkdir()
        subprocess.run(["cp", "-a", str(data), str(home / "data")], check=True)
        servers.append(Outside(name, root, home))
    found: list[NodeStage] = []
    try:
        for server in servers:
            server.start()
            found.append(make_node(server, files[server.name], example))
        lay_out(list(servers))
        for node in found:
            node.serve()
        yield found[0], found[1], found[2]
    finally:
        for node in found:
            node.end()
        for server in servers:
            server.kill()


def lost_rows(node: NodeStage) -> list[tuple[int, str]]:
    return [(row["id"], row["text"]) for row in node.server.run("SELECT * FROM app.lost ORDER BY id")]


def apply_sql(node: NodeStage, sql: Path) -> None:
    with sql.open("rb") as text:
        command = [str(node.programs / "mariadb"), "--no-defaults", f"--socket={node.server.socket}", "--user=root"]
        subprocess.run(command, stdin=text, check=True)


def same_data(one: NodeStage, other: NodeStage) -> None:
    tables = "mail.domains, mail.users, app.writes, failoverd.journal"
    assert one.server.run(f"CHECKSUM TABLE {tables}") == other.server.run(f"CHECKSUM TABLE {tables}")


def test_a_diverged_server_comes_home(nodes: Nodes) -> None:
    mail1, mail2, mail3 = nodes
    fail_over(mail1, mail2, mail3)
    mail1.server.start()
    assert len(lost_rows(mail1)) == 3
    run = mail1.rebuild("--from", "mail3")
    assert run.end() == 0, (run.said, run.errors, mail3.log.read_text())
    ahead = run.line("ahead")
    assert (ahead["transactions"], ahead["ddl"], ahead["tables"]) == (3, 1, {"app.lost": 3})
    progress = run.line("receive")
    assert progress["bytes"] == progress["of"] > 1_000_000
    assert run.line("done")["position"].startswith("0-2-")
    # at the backup's position, read-only, with nothing of its own, and nothing that others would seem to have in excess
    assert mail1.server.variable("read_only") == "ON"
    assert mail1.server.value("@@gtid_slave_pos") == run.line("done")["position"]
    assert mail1.server.value("@@gtid_binlog_state") == mail3.server.value("@@gtid_binlog_state")
    assert mail1.server.slave() == {}
    ok(mail1.database.follow(address=mail2.server.address, deadline_ms=8000))
    mail2.server.run("INSERT INTO app.writes VALUES ('home', 0)")
    in_step(mail2.server, mail1.server)
    same_data(mail1, mail2)
    # what was saved can be put into the primary by hand, and reaches the rebuilt node from there
    saved = mail1.server.directory / "ahead"
    (directory,) = saved.iterdir()
    assert json.loads((directory / "summary.json").read_text())["primary"] == "mail2"
    apply_sql(mail2, directory / "events.sql")
    in_step(mail2.server, mail1.server)
    assert lost_rows(mail1) == lost_rows(mail2) == [(n, LOST.format(n)) for n in range(3)]
    # and nothing is left behind
    assert not mail1.data.with_name("data.rebuild").exists()
    assert {path.name for path in (mail1.state / "rebuild").iterdir()} == {"lock", "ended.json"}


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


def test_a_configuration_that_names_the_old_data_by_path(nodes: Nodes) -> None:
    """The server that is started once in private must not write into the data that another still has open."""
    mail1, _, mail3 = nodes
    settings = mail3.server.directory / "my.cnf"
    text = settings.read_text().replace("= mysqld-bin", f"= {mail3.data}/mysqld-bin")
    paths = dict.fromkeys(("innodb_log_group_home_dir", "innodb_data_home_dir", "aria_log_dir_path"), mail3.data)
    settings.write_text(text + "".join(f"{name} = {path}\n" for name, path in paths.items()))
    before = sorted(path.name for path in mail3.data.glob("mysqld-bin.*"))
    run = mail3.rebuild("--from", "mail2")
    run.until("prepared")
    run.kill()
    assert sorted(path.name for path in mail3.data.glob("mysqld-bin.0*")) == [n for n in before if ".0" in n]
    again = mail3.rebuild()
    assert again.end() == 0, (again.said, again.errors)
    assert (mail3.data / "mysqld-bin.000001").exists()
    ok(mail3.database.follow(address=mail1.server.address, deadline_ms=8000))
    mail1.server.run("INSERT INTO app.writes VALUES ('paths', 0)")
    in_step(mail1.server, mail3.server)


def test_a_server_that_does_not_start_is_saved_from_and_rebuilt(nodes: Nodes) -> None:
    """Its system tablespace is gone; its binary log is there."""
    mail1, mail2, mail3 = nodes
    fail_over(mail1, mail2, mail3)
    (mail1.data / "ibdata1").write_bytes(b"ruined")
    run = mail1.rebuild("--from", "mail3", "--keep-old")
    assert run.end() == 0, (run.said, run.errors)
    assert run.line("ahead")["tables"] == {"app.lost": 3}
    assert (mail1.data.with_name("data.rebuild") / "old" / "ibdata1").read_bytes() == b"ruined"
    ok(mail1.database.follow(address=mail2.server.address, deadline_ms=8000))
    in_step(mail2.server, mail1.server)


def test_an_empty_directory_is_filled(nodes: Nodes) -> None:
    """A new disk; and from the primary, where that is asked for."""
    mail1, mail2, mail3 = nodes
    mail3.server.kill()
    subprocess.run(["find", str(mail3.data), "-mindepth", "1", "-delete"], check=True)
    run = mail3.rebuild("--from", "mail1", "--from-primary")
    assert run.end() == 0, (run.said, run.errors, mail1.log.read_text())
    assert run.line("ahead")["transactions"] == 0
    ok(mail3.database.follow(address=mail1.server.address, deadline_ms=8000))
    mail1.server.run("INSERT INTO app.writes VALUES ('again', 0)")
    in_step(mail1.server, mail3.server)
    same_data(mail3, mail2)


def refused(run: Run, code: str) -> str:
    assert run.end() == 3, (run.said, run.errors)
    assert run.said[-1]["code"] == code, run.said
    assert code in CODES
    assert code in run.errors
    return str(run.said[-1]["reason"])


def test_what_is_refused_touches_nothing(nodes: Nodes) -> None:
    mail1, mail2, mail3 = nodes
    refused(mail1.rebuild("--from", "mail2"), "REBUILD_IS_PRIMARY")
    refused(mail3.rebuild("--from", "mail1"), "REBUILD_FROM_PRIMARY")
    refused(mail3.rebuild("--from", "mail9"), "REBUILD_NO_DONOR")
    refused(mail3.rebuild(), "REBUILD_NO_DONOR")
    mail2.server.run("STOP SLAVE SQL_THREAD")
    refused(mail3.rebuild("--from", "mail2"), "REBUILD_DONOR_UNFIT")
    mail2.server.run("START SLAVE")
    # a lease that this node holds, whatever its database says
    now = BootClock().now_ms()
    lease = LeaseFile(mail3.runtime, boot_id())
    lease.write(Held(4, 9, now + 60_000))
    assert "term 4" in refused(mail3.rebuild("--from", "mail2"), "REBUILD_IS_PRIMARY")
    lease.write(Held(4, 9, now - 1))
    # no donor; no primary to compare with
    assert mail2.donor is not None
    mail2.donor.kill()
    mail2.donor.wait()
    refused(mail3.rebuild("--from", "mail2"), "REBUILD_NO_DONOR")
    mail2.serve()
    mail1.server.run("SET GLOBAL read_only = 1")
    refused(mail3.rebuild("--from", "mail2"), "REBUILD_NO_PRIMARY")
    mail1.server.run("SET GLOBAL read_only = 0")
    # another server's data directory
    text = mail3.config.read_text()
    mail3.config.write_text(text.replace(f"data: {mail3.data}", f"data: {mail2.data}"))
    assert str(mail3.data) in refused(mail3.rebuild("--from", "mail2"), "REBUILD_DATA")
    mail3.config.write_text(text)
    # data without a binary log where it is said to be
    mail3.server.kill()
    (mail3.data / "mysqld-bin.index").rename(mail3.data / "kept")
    refused(mail3.rebuild("--from", "mail2"), "AHEAD_NO_BINLOG")
    (mail3.data / "kept").rename(mail3.data / "mysqld-bin.index")
    assert not mail3.data.with_name("data.rebuild").exists()
    assert list(mail3.state.glob("rebuild/*")) == [mail3.state / "rebuild/lock"]
    mail3.server.start()
    in_step(mail1.server, mail3.server)


def conversation(node: NodeStage, files: Files | None) -> ssl.SSLSocket:
    """Connect to a node's donor as whoever has those files."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if files is not None:
        context.load_cert_chain(files.certificate, files.key)
    plain = socket.create_connection((ADDRESSES[node.name], 7401), timeout=10)
    return context.wrap_socket(plain)


def ask(connection: ssl.SSLSocket, what: str) -> dict[str, object]:
    """Ask a donor; its answer."""
    protocol.tell(connection, protocol.ASK, {"what": what})
    return protocol.Reader(connection).message(protocol.ANSWER)


def test_the_donor_speaks_to_nodes_only(nodes: Nodes, tmp_path: Path) -> None:
    mail2 = nodes[1]
    (tmp_path / "other").mkdir()
    theirs = Authority(tmp_path / "other", "other")
    for files in (None, theirs.node("mail1")):  # no certificate, one of another CA
        with conversation(mail2, files) as stranger, pytest.raises(OSError):  # noqa: PT011 - reset, alert or end
            ask(stranger, "standing")


def test_the_donor_knows_its_nodes(nodes: Nodes, authority: Authority) -> None:
    """A certificate of the cluster's CA is not enough: its CN must be another data node's, and it no operator's."""
    mail1, mail2, _ = nodes
    strangers = [authority.node(name) for name in ("mail9", "arbiter", "mail2")]
    strangers += [authority.operator("anna"), authority.operator("a-person", common="mail1")]
    for files in strangers:
        with conversation(mail2, files) as stranger:
            protocol.tell(stranger, protocol.ASK, {"what": "standing"})
            answer = protocol.Reader(stranger).message(protocol.ANSWER)
            assert answer["code"] == "REBUILD_STRANGER"
    with conversation(mail2, mail1.files) as known:
        protocol.tell(known, protocol.ASK, {"what": "standing"})
        assert protocol.Reader(known).message(protocol.ANSWER)["read_only"] is True


def mariabackups(node: NodeStage) -> list[str]:
    found = subprocess.run(["pgrep", "-f", f"mariadb-backup.*{node.server.socket}"], capture_output=True, check=False)
    return found.stdout.decode().split()


def test_one_backup_at_a_time_and_it_ends_with_its_client(nodes: Nodes) -> None:
    mail1, mail2, mail3 = nodes
    fill(mail1.server, 40)
    in_step(mail1.server, mail2.server)
    with conversation(mail2, mail1.files) as first:
        protocol.tell(first, protocol.ASK, {"what": "backup"})
        reader = protocol.Reader(first)
        assert reader.message(protocol.ANSWER)["read_only"] is True
        assert reader.frame()[0] == protocol.DATA
        assert mariabackups(mail2)
        with conversation(mail2, mail3.files) as second:
            protocol.tell(second, protocol.ASK, {"what": "backup"})
            assert protocol.Reader(second).message(protocol.ANSWER)["code"] == "REBUILD_BUSY"
    wait_for(lambda: not mariabackups(mail2), name="mariadb-backup to end with its client")
    with conversation(mail2, mail3.files) as third:
        protocol.tell(third, protocol.ASK, {"what": "backup"})
        reader = protocol.Reader(third)
        assert "code" not in reader.message(protocol.ANSWER)
        # becomes the primary in the middle: it stops giving
        mail2.server.run("SET GLOBAL read_only = 0")
        while (frame := reader.frame())[0] != protocol.END:
            assert frame[0] in (protocol.DATA, protocol.ALIVE)
            time.sleep(0.1)  # a slow disk: the stream outlasts a look at the database
        assert json.loads(bytes(frame[1]))["code"] == "REBUILD_FROM_PRIMARY"
    with conversation(mail2, mail3.files) as fourth:
        assert ask(fourth, "backup")["code"] == "REBUILD_FROM_PRIMARY"


def test_no_password_in_a_command_line(nodes: Nodes) -> None:
    mail1, mail2, _ = nodes
    fill(mail1.server, 20)
    in_step(mail1.server, mail2.server)
    with conversation(mail2, mail1.files) as client:
        protocol.tell(client, protocol.ASK, {"what": "backup"})
        reader = protocol.Reader(client)
        reader.message(protocol.ANSWER)
        reader.frame()
        (pid, *_) = mariabackups(mail2)
        words = Path(f"/proc/{pid}/cmdline").read_text() + Path(f"/proc/{pid}/environ").read_text()
        assert PASSWORD not in words


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


def peak_mib(process: subprocess.Popen[bytes]) -> float:
    words = Path(f"/proc/{process.pid}/status").read_text().split()
    return int(words[words.index("VmHWM:") + 1]) / 1024


def test_figures(nodes: Nodes, tmp_path: Path) -> None:
    """Printed, not asserted, but for the memory: `FAILOVERD_REBUILD_MB=1000 pytest -s -k figures`."""
    mail1, mail2, mail3 = nodes
    megabytes = int(os.environ.get("FAILOVERD_REBUILD_MB", "64"))
    fill(mail1.server, megabytes)
    fail_over(mail1, mail2, mail3)
    begun = time.monotonic()
    target, copy = tmp_path / "plain", tmp_path / "copy"
    backup = [str(mail3.programs / "mariadb-backup"), f"--target-dir={target}"]
    to_donor = [f"--socket={mail3.server.socket}", f"--datadir={mail3.data}", "--user=root"]
    subprocess.run([*backup, "--backup", *to_donor], check=True, capture_output=True)
    backed_up = time.monotonic()
    subprocess.run([*backup, "--prepare"], check=True, capture_output=True)
    shutil.copytree(target, copy)
    subprocess.run(["sync", "-f", str(copy)], check=True)
    plain = time.monotonic() - begun
    print(f"\n{megabytes} MB: plain backup {backed_up - begun:.1f} s, with prepare and copy {plain:.1f} s")
    shutil.rmtree(target)
    shutil.rmtree(copy)
    mail1.server.start()
    begun = time.monotonic()
    run = mail1.rebuild("--from", "mail3")
    times, peak = {}, 0.0
    for stage in ("receiving", "prepare", "prepared", "moving-out", "in-place", "start", "home"):
        run.until(stage)
        times[stage] = round(time.monotonic() - begun, 1)
        if stage == "start":  # what is left is to wait
            peak = peak_mib(run.process)
    assert run.end() == 0, (run.said, run.errors)
    took = time.monotonic() - begun
    assert mail3.donor is not None
    donor = peak_mib(mail3.donor)
    print(f"rebuild {took:.1f} s = {took / plain:.2f} x plain, {times}; {run.line('receive')}")
    print(f"peak memory: rebuild {peak:.0f} MiB, donor {donor:.0f} MiB")
    assert max(peak, donor) < 64


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


def held_back(node: NodeStage) -> contextlib.closing[Any]:
    """A session that holds up the node's applier; its receiver goes on."""
    session = node.server.connect()
    session.cursor().execute("LOCK TABLES app.writes READ")
    return contextlib.closing(session)


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


def test_the_daemons_request_is_taken_and_goes_on_after_a_reboot_without_it(nodes: Nodes) -> None:
    """What the unit runs: the donor is the daemon's word, in memory; the stage is the journal's, on disk."""
    mail1, mail2, mail3 = nodes
    fail_over(mail1, mail2, mail3)
    mail1.server.start()
    refused(mail1.rebuild("--requested"), "REBUILD_NO_DONOR")  # nothing is asked for, and nothing was begun
    assert looks.newest(mail1.runtime)["code"] == "REBUILD_NO_DONOR"
    looks.ask(mail1.runtime, request="r1", donor="mail3", from_primary=False)
    run = mail1.rebuild("--requested")
    run.until("moving-out")
    run.kill()
    told = looks.newest(mail1.runtime)
    assert (told["request"], told["stage"], told["touched"]) == ("r1", "moving-out", True)
    assert not looks.is_running(mail1.runtime)
    subprocess.run(["find", str(mail1.runtime), "-mindepth", "1", "-delete"], check=True)
    again = mail1.rebuild("--requested")
    assert again.end() == 0, (again.said, again.errors)
    assert again.said[0] == {"stage": "resume", "at": "moving-out", "donor": "mail3"}
    done = facts_of(looks.newest(mail1.runtime), running=False)
    assert (done.home, done.at_work, done.touched) == (True, False, True)
    assert again.line("home")["ahead"] == again.line("done")["ahead"]
    assert done.request == "r1"  # as the journal has it
    looks.ask(mail1.runtime, request="r1", donor="mail3", from_primary=False)
    once_more = mail1.rebuild("--requested")  # the power went before the daemon had seen its end
    assert once_more.end() == 0
    assert once_more.said == [{"stage": "done", "ahead": again.line("done")["ahead"]}]
    assert done.saved == ", ".join(again.line("done")["ahead"])
    ok(mail1.database.follow(address=mail2.server.address, deadline_ms=8000))
    in_step(mail2.server, mail1.server)


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
