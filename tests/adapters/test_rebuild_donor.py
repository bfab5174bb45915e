"""Whom a donor gives a backup to, and what is refused before anything is touched."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest
from mariadb_servers import in_step, wait_for
from node_certificates import Authority
from rebuild_stage import (
    conversation,
    fill,
    mariabackups,
    refused,
)

from failoverd.core.lease import Held
from failoverd.rebuild import protocol
from failoverd.runtime.clock import BootClock
from failoverd.runtime.persist import LeaseFile, boot_id

if TYPE_CHECKING:
    import ssl
    from pathlib import Path

    from rebuild_stage import Nodes

pytestmark = pytest.mark.lab


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
