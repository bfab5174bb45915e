"""Settings, journal and errant transactions as real servers tell them: each bad setting is really set."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest
from mariadb_servers import (
    ADDRESSES,
    PASSWORD,
    PORT,
    REPLICATION_PASSWORD,
    Server,
    copies,
    hear,
    in_step,
    lay_out,
    make_template,
    private_network,
    wait_for,
)

from failoverd.core.errant import errant
from failoverd.core.findings import SETTINGS
from failoverd.core.model import DatabaseFacts, Health, Identity, NodeName, Outcome, Reading, SettingsFacts
from failoverd.databases.mariadb import MariaDb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.lab

MAIL1, MAIL2 = NodeName("mail1"), NodeName("mail2")
SLOW_MS = 8000


def look(server: Server, **other: str) -> Reading:
    """Read the settings once, with failoverd's own rights."""
    given = {"user": "failoverd", "password": PASSWORD} | other
    database = MariaDb(server.socket, given["user"], given["password"], "failoverd_repl", REPLICATION_PASSWORD, PORT)
    with contextlib.closing(database):
        return database.settings(deadline_ms=SLOW_MS)


def settings(server: Server) -> SettingsFacts:
    reading = look(server)
    assert isinstance(reading.facts, SettingsFacts), reading
    assert reading.health is (Health.FAILED if reading.facts.found else Health.OK)
    return reading.facts


def found(server: Server) -> dict[str, str]:
    codes = dict(settings(server).found)
    assert codes.keys() <= SETTINGS.keys()
    return codes


def in_file(server: Server, change: Callable[[str], str]) -> None:
    """Edit the server's option file, as its administrator would."""
    path = server.directory / "my.cnf"
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")


def without(name: str) -> Callable[[str], str]:
    return lambda text: "\n".join(line for line in text.splitlines() if not line.startswith(name)) + "\n"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    with private_network() as root:
        yield root, make_template(root, tmp_path_factory.mktemp("template"))


@pytest.fixture(scope="module")
def pair(template: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Server]]:
    """A source and its replica, laid out as the lab's. A test that changes something puts it back."""
    root, data = template
    hear()
    first, second = copies(data, root, tmp_path_factory.mktemp("pair"), list(ADDRESSES)[:2])
    try:
        for server in (first, second):
            server.start()
        lay_out([first, second])
        yield first, second
    finally:
        for server in (first, second):
            server.kill()


def test_the_lab_s_own_servers_have_no_finding(pair: tuple[Server, Server]) -> None:
    for number, server in enumerate(pair, 1):
        facts = settings(server)
        assert facts.found == ()
        assert facts.identity == Identity(("server_id", str(number)), ("gtid_domain_id", "0"))
        assert facts.journal.term == 0


LIVE = {  # what can be changed at run time: (code, how, value shown, how it is put back)
    "sync_binlog": ("SET_SYNC_BINLOG", "sync_binlog = 0", "sync_binlog = 1"),
    "flush 0": ("SET_FLUSH_LOG", "innodb_flush_log_at_trx_commit = 0", "innodb_flush_log_at_trx_commit = 3"),
    "flush 2": ("SET_FLUSH_LOG", "innodb_flush_log_at_trx_commit = 2", "innodb_flush_log_at_trx_commit = 3"),
    "statement": ("SET_BINLOG_STATEMENT", "binlog_format = STATEMENT", "binlog_format = ROW"),
    "mixed": ("SET_BINLOG_MIXED", "binlog_format = MIXED", "binlog_format = ROW"),
    "strict": ("SET_GTID_STRICT", "gtid_strict_mode = OFF", "gtid_strict_mode = ON"),
    "net timeout": ("SET_NET_TIMEOUT", "slave_net_timeout = 60", "slave_net_timeout = 4"),
}


@pytest.mark.parametrize("name", LIVE)
def test_a_setting_changed_at_run_time_is_found_with_its_value_and_goes(pair: tuple[Server, Server], name: str) -> None:
    code, bad, good = LIVE[name]
    _, replica = pair
    replica.run(f"SET GLOBAL {bad}")
    try:
        reasons = found(replica)
    finally:
        replica.run(f"SET GLOBAL {good}")
    assert reasons.keys() == {code}
    assert reasons[code].startswith(f"{bad}")
    assert "allowed: " in reasons[code]
    assert found(replica) == {}


def test_1_is_as_good_as_3(pair: tuple[Server, Server]) -> None:
    _, replica = pair
    replica.run("SET GLOBAL innodb_flush_log_at_trx_commit = 1")
    try:
        assert found(replica) == {}
    finally:
        replica.run("SET GLOBAL innodb_flush_log_at_trx_commit = 3")


def test_a_replica_that_acknowledges_nothing_is_found_and_a_source_is_not(pair: tuple[Server, Server]) -> None:
    source, replica = pair
    for server in (source, replica):
        server.run("SET GLOBAL rpl_semi_sync_slave_enabled = OFF")
    try:
        assert found(replica).keys() == {"SET_NO_ACK"}
        assert found(source) == {}
    finally:
        for server in (source, replica):
            server.run("SET GLOBAL rpl_semi_sync_slave_enabled = ON")


def test_filters_of_the_receiver_are_named(pair: tuple[Server, Server]) -> None:
    _, replica = pair
    try:
        replica.run(
            "STOP SLAVE", "SET GLOBAL replicate_ignore_db = 'spam'", "SET GLOBAL replicate_wild_do_table = 'mail.%'"
        )
        assert found(replica) == {
            "SET_FILTER": "replicate_ignore_db = spam, replicate_wild_do_table = mail.%; allowed: no filter"
        }
    finally:
        replica.run("SET GLOBAL replicate_ignore_db = ''", "SET GLOBAL replicate_wild_do_table = ''", "START SLAVE")


@pytest.mark.parametrize(
    ("option", "code", "value"),
    [
        ("--log-slave-updates=0", "SET_REPLICA_UPDATES", "log_slave_updates = OFF"),
        ("--skip-log-bin", "SET_BINLOG_OFF", "log_bin = OFF"),
        ("--binlog-ignore-db=spam", "SET_FILTER", "binlog_ignore_db = spam"),
        ("--skip-slave-start", "SET_SKIP_START", "skip_slave_start = ON"),
        ("--skip-read-only", "SET_READ_ONLY_FILE", "read_only = 0"),
        ("--version=10.11.13-MariaDB-log", "SET_VERSION_HANGS", "version = 10.11.13-MariaDB-log"),
        ("--version=10.5.29-MariaDB-log", "SET_VERSION_TOO_OLD", "version = 10.5.29-MariaDB-log"),
        ("--init-rpl-role=MASTER", "SET_INIT_ROLE", "init_rpl_role = MASTER"),
    ],
)
def test_what_a_server_is_started_with_is_found(
    pair: tuple[Server, Server], option: str, code: str, value: str
) -> None:
    _, replica = pair
    replica.kill()
    replica.start(option)
    try:
        reasons = found(replica)
    finally:
        replica.kill()
        replica.start()
    assert reasons[code].startswith(f"{value}; allowed: ")
    assert reasons.keys() == {code}


def test_a_server_s_files_count_whatever_sql_says(pair: tuple[Server, Server]) -> None:
    """The source's read_only was set by SQL, so that the server itself no longer says what its files say."""
    source, replica = pair
    origin = "SELECT GLOBAL_VALUE_ORIGIN AS o, GLOBAL_VALUE_PATH AS p FROM information_schema.SYSTEM_VARIABLES"
    where = "WHERE VARIABLE_NAME = 'READ_ONLY'"
    assert source.run(f"{origin} {where}") == [{"o": "SQL", "p": None}]
    assert replica.run(f"{origin} {where}") == [{"o": "CONFIG", "p": "/mnt/my.cnf"}]
    assert found(source) == {}
    for server in pair:
        before = (server.directory / "my.cnf").read_text(encoding="utf-8")
        in_file(server, without("read_only"))
        assert found(server) == {"SET_READ_ONLY_FILE": "read_only is not in its files; allowed: read_only = ON"}
        in_file(server, lambda _, text=before: text + "read-only = off\n")  # type: ignore[misc]  # a default argument
        assert found(server) == {"SET_READ_ONLY_FILE": "read_only = off; allowed: read_only = ON"}
        in_file(server, lambda _, text=before: text + "[client]\nread_only = OFF\n")  # type: ignore[misc]  # likewise
        assert found(server) == {}
        (server.directory / "my.cnf").write_text(without("init_rpl_role")(before), encoding="utf-8")
        assert found(server) == {"SET_INIT_ROLE": "init_rpl_role is not in its files; allowed: init_rpl_role = SLAVE"}
        extra = server.directory / "conf.d"
        extra.mkdir()
        (extra / "role.cnf").write_text("[mysqld]\nloose-init-rpl-role = 'SLAVE'  # from another file\n")
        in_file(server, lambda text: text + "!includedir /mnt/conf.d\n")
        assert found(server) == {}
        (server.directory / "my.cnf").write_text(before, encoding="utf-8")


def test_a_table_without_transactions_is_named(pair: tuple[Server, Server]) -> None:
    source, replica = pair
    source.run("CREATE TABLE app.scratch (a INT) ENGINE=MyISAM")
    try:
        in_step(source, replica)
        for server in pair:
            assert found(server) == {"SET_ENGINE": "app.scratch (MyISAM); allowed: InnoDB"}
    finally:
        source.run("DROP TABLE app.scratch")
        in_step(source, replica)


def test_an_event_that_runs_on_a_replica_is_named(pair: tuple[Server, Server]) -> None:
    source, replica = pair
    for server in pair:
        server.run("SET GLOBAL event_scheduler = ON")
    source.run("CREATE EVENT app.tidy ON SCHEDULE EVERY 1 DAY DO DELETE FROM app.writes WHERE at_ms < 0")
    try:
        in_step(source, replica)
        assert found(source) == {}
        assert found(replica) == {}  # it came as SLAVESIDE_DISABLED
        replica.run("SET SESSION sql_log_bin = 0", "ALTER EVENT app.tidy ENABLE")
        assert found(replica) == {"SET_EVENT": "app.tidy: ENABLED; allowed on a replica: SLAVESIDE_DISABLED"}
    finally:
        source.run("DROP EVENT app.tidy")
        in_step(source, replica)
        for server in pair:
            server.run("SET GLOBAL event_scheduler = OFF")


def test_a_refused_replication_account_is_found_and_no_secret_told(pair: tuple[Server, Server]) -> None:
    source, replica = pair
    account = "'failoverd_repl'@'10.89.1.%'"
    source.run("SET SESSION sql_log_bin = 0", f"SET PASSWORD FOR {account} = PASSWORD('another')")
    replica.run("STOP SLAVE IO_THREAD", "START SLAVE IO_THREAD")
    try:
        wait_for(lambda: replica.slave()["Last_IO_Errno"] == 1045, name="the refusal")
        reasons = found(replica)
        assert reasons.keys() == {"SET_REPLICATION_LOGIN"}
        assert "Access denied for user 'failoverd_repl'" in reasons["SET_REPLICATION_LOGIN"]
        assert REPLICATION_PASSWORD not in reasons["SET_REPLICATION_LOGIN"]
    finally:
        source.run("SET SESSION sql_log_bin = 0", f"SET PASSWORD FOR {account} = PASSWORD('{REPLICATION_PASSWORD}')")
        replica.run("STOP SLAVE", "START SLAVE")
        wait_for(lambda: replica.slave()["Slave_IO_Running"] == "Yes", name="the replica to receive again")


def test_a_server_that_cannot_be_asked_is_not_known_to_be_wrong(pair: tuple[Server, Server]) -> None:
    source, _ = pair
    refused = look(source, password="wrong")
    assert (refused.health, refused.code, refused.facts) == (Health.UNKNOWN, "DB_AUTH", None)


# ---- the journal ------------------------------------------------------------------------------------------------


def holdings(server: Server) -> DatabaseFacts:
    database = MariaDb(server.socket, "failoverd", PASSWORD, "failoverd_repl", REPLICATION_PASSWORD, PORT)
    with contextlib.closing(database):
        reading = database.status(deadline_ms=SLOW_MS)
    assert isinstance(reading.facts, DatabaseFacts), reading
    return reading.facts


def journalled(server: Server, term: int, holder: NodeName) -> None:
    database = MariaDb(server.socket, "failoverd", PASSWORD, "failoverd_repl", REPLICATION_PASSWORD, PORT)
    with contextlib.closing(database):
        result = database.write_journal(term=term, holder=holder, previous=None, reason="test", deadline_ms=SLOW_MS)
    assert result.outcome is Outcome.SUCCEEDED, result


def test_what_no_primary_wrote_is_errant_and_nothing_else(pair: tuple[Server, Server]) -> None:
    """mail1 is adopted, writes and hands over to mail2; a tail of its own and a stray write of mail2's are found.

    The last test here: what it changes cannot be put back.
    """
    first, second = pair
    journalled(first, 1, MAIL1)
    first.run("INSERT INTO app.writes VALUES ('a', 0)")
    in_step(first, second)
    for server in pair:
        journal = settings(server).journal
        assert (journal.term, journal.own) == (1, "0-1")
        assert errant(holdings(server).holdings, journal) == ()

    # A write of the replica's own: its server has never been primary.
    second.run("SET SESSION gtid_domain_id = 7", "INSERT INTO app.writes VALUES ('stray', 0)")
    (stray,) = errant(holdings(second).holdings, settings(second).journal)
    assert (str(stray.extra), stray.since_term) == ("7-2:1", 0)

    # mail2 is promoted as failoverd does it; mail1 keeps a tail that nobody received.
    second.run("STOP SLAVE")
    ended = holdings(first).holdings
    first.run("SET GLOBAL rpl_semi_sync_master_enabled = 0", "INSERT INTO app.writes VALUES ('tail', 0)")
    second.run("RESET SLAVE ALL", "SET GLOBAL read_only = 0", "INSERT INTO app.writes VALUES ('b', 0)")
    journalled(second, 2, MAIL2)
    journal = settings(second).journal
    assert (journal.term, journal.own) == (2, "0-2")
    assert errant(holdings(second).holdings, journal) == ()  # what a primary brings along is history
    assert errant(ended, journal) == ()
    (tail,) = errant(holdings(first).holdings, journal)
    last = dict(ended.parts)["0-1"][-1][1]
    assert (str(tail.extra), tail.since_term) == (f"0-1:{last + 1}", 2)

    # Accepted as the runbook says (runbooks/codes/ERRANT.md).
    accept = f"SET gtid = CONCAT(gtid, ',0-1-{last + 1}') ORDER BY term DESC LIMIT 1"
    second.run(f"UPDATE failoverd.journal {accept}")
    assert errant(holdings(first).holdings, settings(second).journal) == ()
