"""MariaDb against real servers: three mariadbd of the lab's root in a network namespace, laid out as the lab does.

Each story starts with mail1 as the writable, semi-synchronous source, mail2 and mail3 following it.
"""

from __future__ import annotations

import contextlib
import itertools
import signal
import statistics
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import pymysql
import pytest
from mariadb_servers import (
    ADDRESSES,
    NOWHERE,
    PASSWORD,
    PORT,
    REPLICATION_PASSWORD,
    Server,
    change_master,
    copies,
    hear,
    in_step,
    lay_out,
    make_template,
    private_network,
    silence,
    wait_for,
)

from failoverd.core.gtid import GtidSet
from failoverd.core.model import DatabaseFacts, Health, NodeName, Outcome, Replication, Thread
from failoverd.databases import CODES, DATABASES
from failoverd.databases.mariadb import MariaDb
from failoverd.databases.mariadb_promote import SKIPPED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from failoverd.ports import Result

pytestmark = pytest.mark.lab

QUICK_MS = 1000
SLOW_MS = 8000
MAIL1, MAIL2 = NodeName("mail1"), NodeName("mail2")


class Member(NamedTuple):
    """A server and failoverd's view of it."""

    server: Server
    database: MariaDb


_OPENED: list[MariaDb] = []


def database(server: Server, **other: str) -> MariaDb:
    """A view of a server; the fixture closes it."""
    settings = {"user": "failoverd", "password": PASSWORD, "replication_password": REPLICATION_PASSWORD} | other
    made = MariaDb(
        server.socket,
        settings["user"],
        settings["password"],
        "failoverd_repl",
        settings["replication_password"],
        PORT,
    )
    _OPENED.append(made)
    return made


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    with private_network() as root:
        yield root, make_template(root, tmp_path_factory.mktemp("template"))


@pytest.fixture
def members(template: tuple[Path, Path], tmp_path: Path) -> Iterator[tuple[Member, Member, Member]]:
    root, data = template
    hear()
    servers = copies(data, root, tmp_path, list(ADDRESSES))
    found = [Member(server, database(server)) for server in servers]
    try:
        for server in servers:
            server.start()
        lay_out(servers)
        yield found[0], found[1], found[2]
    finally:
        while _OPENED:
            _OPENED.pop().close()
        for server in servers:
            server.kill()
        hear()


def ok(result: Result) -> DatabaseFacts:
    assert (result.outcome, result.code, result.reason) == (Outcome.SUCCEEDED, "", "")
    assert result.facts is not None
    return result.facts


def not_ok(result: Result, outcome: Outcome, code: str) -> None:
    assert (result.outcome, result.code) == (outcome, code), result.reason
    assert code in CODES
    assert result.reason
    assert PASSWORD not in result.reason
    assert REPLICATION_PASSWORD not in result.reason


def facts(member: Member) -> DatabaseFacts:
    reading = member.database.status(deadline_ms=QUICK_MS)
    assert reading.health is Health.OK, reading
    assert isinstance(reading.facts, DatabaseFacts)
    return reading.facts


def took_ms(call: Callable[[], object]) -> float:
    started = time.monotonic()
    call()
    return (time.monotonic() - started) * 1000


@contextlib.contextmanager
def waiting_writes(server: Server, *ids: str) -> Iterator[list[object]]:
    """Writes that wait for an acknowledgement; what became of them is appended to the list."""
    answers: list[object] = []

    def write(connection: pymysql.Connection[Any], name: str) -> None:
        try:
            answers.append(connection.cursor().execute("INSERT INTO app.writes VALUES (%s, 0)", (name,)))
        except pymysql.err.MySQLError as error:
            answers.append(error)
        finally:
            with contextlib.suppress(pymysql.err.Error):
                connection.close()

    threads = [threading.Thread(target=write, args=(server.connect(), name)) for name in ids]
    for thread in threads:
        thread.start()
    wait_for(lambda: server.counter("Rpl_semi_sync_master_wait_sessions") >= "1", name="a waiting write")
    yield answers
    for thread in threads:
        thread.join(10)


def promote(member: Member, *followers: Member) -> None:
    """As the plan does it, SQL only."""
    ok(member.database.freeze(deadline_ms=QUICK_MS))
    ok(member.database.apply_relay_log(deadline_ms=QUICK_MS))
    ok(member.database.become_source(deadline_ms=QUICK_MS))
    for follower in followers:
        ok(follower.database.follow(address=member.server.address, deadline_ms=SLOW_MS))
    ok(member.database.await_replica(deadline_ms=QUICK_MS))
    ok(member.database.make_writable(term=7, deadline_ms=QUICK_MS))


# ---- status -------------------------------------------------------------------------------------------------------


def test_status_of_a_source_and_of_a_replica(members: tuple[Member, Member, Member]) -> None:
    first, second, _ = members
    source, replica = facts(first), facts(second)

    assert source.version.startswith("10.11.")
    assert (source.server_id, source.read_only, source.replication) == (1, False, None)
    assert (source.semi_sync_source, source.semi_sync_clients) == (True, 2)
    assert (replica.server_id, replica.read_only, replica.semi_sync_source) == (2, True, False)
    assert replica.replication is not None
    assert replica.replication.source == first.server.address
    assert (replica.replication.receiver, replica.replication.applier) == (Thread.RUNNING, Thread.RUNNING)
    assert replica.replication.received == source.applied == replica.applied == replica.position
    assert source.holdings == replica.holdings
    assert [name for name, _ in source.holdings.parts] == ["0-1"]
    assert [name for name, _ in source.applied.parts] == ["0"]


def test_a_status_costs_about_a_millisecond(members: tuple[Member, Member, Member]) -> None:
    _, second, _ = members
    facts(second)
    times = [took_ms(lambda: facts(second)) for _ in range(200)]
    print(f"status: median {statistics.median(times):.2f} ms, max {max(times):.2f} ms")


def test_a_source_that_may_degrade_is_none(members: tuple[Member, Member, Member]) -> None:
    first, _, _ = members
    first.server.run("SET GLOBAL rpl_semi_sync_master_timeout = 10000")
    assert not facts(first).semi_sync_source
    first.server.run("SET GLOBAL rpl_semi_sync_master_timeout = 18446744073709551615")
    assert facts(first).semi_sync_source
    first.server.run("SET GLOBAL rpl_semi_sync_master_wait_point = 'AFTER_COMMIT'")
    assert not facts(first).semi_sync_source
    assert ok(first.database.become_source(deadline_ms=QUICK_MS)).semi_sync_source


def nobody_acknowledges(source: Member, *replicas: Member) -> None:
    for replica in replicas:
        replica.server.run("STOP SLAVE IO_THREAD")
    wait_for(lambda: not facts(source).semi_sync_clients, name="nobody to acknowledge")


def test_what_waited_for_its_acknowledgement_is_not_counted(members: tuple[Member, Member, Member]) -> None:
    _, second, third = members
    promote(second, third)  # with failoverd's own first transaction, which waits like any other
    assert facts(second).unacknowledged == 0
    second.server.run("INSERT INTO app.writes VALUES ('a', 0)")
    nobody_acknowledges(second, third)
    with waiting_writes(second.server, "b") as answers:
        assert (answers, facts(second).unacknowledged) == ([], 0)
        third.server.run("START SLAVE IO_THREAD")
        wait_for(lambda: answers == [1], name="the acknowledgement")
    assert facts(second).unacknowledged == 0


@pytest.mark.parametrize("setting", ["enabled", "wait_no_slave"])
def test_a_hand_that_was_there_between_two_readings_is_counted(
    members: tuple[Member, Member, Member], setting: str
) -> None:
    first, *others = members
    ok(first.database.become_source(deadline_ms=QUICK_MS))
    nobody_acknowledges(first, *others)
    before = facts(first)
    off, on = (f"SET GLOBAL rpl_semi_sync_master_{setting} = {value}" for value in ("OFF", "ON"))
    with contextlib.closing(first.server.connect(read_timeout=5)) as client:
        first.server.run(off)
        assert client.cursor().execute("INSERT INTO app.writes VALUES ('told, and nowhere else', 0)") == 1
        first.server.run(on)
    after = facts(first)
    assert before.semi_sync_source
    assert after.unacknowledged > before.unacknowledged


def test_a_statement_that_is_killed_while_it_waits_is_told_and_counted(members: tuple[Member, Member, Member]) -> None:
    first, *others = members
    ok(first.database.become_source(deadline_ms=QUICK_MS))
    nobody_acknowledges(first, *others)
    before = facts(first)
    with waiting_writes(first.server, "a") as answers:
        waiting = "SELECT id FROM information_schema.processlist WHERE info LIKE 'INSERT INTO app.writes%'"
        (row,) = first.server.run(waiting)
        first.server.run(f"KILL QUERY {row['id']}")
        wait_for(lambda: answers == [1], name="the client to be told")
    after = facts(first)
    assert after.semi_sync_source
    assert after.unacknowledged == before.unacknowledged + 1


def test_a_primary_stops_waiting_and_waits_again(members: tuple[Member, Member, Member]) -> None:
    first, second, third = members
    ok(first.database.become_source(deadline_ms=QUICK_MS))
    nobody_acknowledges(first, second, third)
    before = facts(first)
    with waiting_writes(first.server, "a", "b") as answers:
        stopped = ok(first.database.stop_waiting(deadline_ms=QUICK_MS))
        assert not stopped.semi_sync_source
        wait_for(lambda: answers == [1, 1], name="the clients to be told")
    first.server.run("INSERT INTO app.writes VALUES ('c', 0)")  # no waiting any more
    assert facts(first).unacknowledged > before.unacknowledged

    second.server.run("START SLAVE IO_THREAD")  # while nothing waits for it
    wait_for(lambda: facts(second).applied == facts(first).applied, name="the replica to be level")
    again = ok(first.database.become_source(deadline_ms=QUICK_MS))
    assert (again.semi_sync_source, again.read_only) == (True, False)
    first.server.run("INSERT INTO app.writes VALUES ('acknowledged', 0)")
    nobody_acknowledges(first, second)
    with waiting_writes(first.server, "d") as answers:
        assert answers == []
        assert facts(first).unacknowledged == again.unacknowledged
        second.server.run("START SLAVE IO_THREAD")
        wait_for(lambda: answers == [1], name="the acknowledgement")
    assert facts(first).unacknowledged == again.unacknowledged


def test_a_server_that_cannot_answer_is_named_within_the_deadline(members: tuple[Member, Member, Member]) -> None:
    first, _, _ = members
    fresh = database(first.server)
    facts(first)
    first.server.signal(signal.SIGSTOP)
    try:
        for asked, code in ((first.database, "DB_TIMEOUT"), (fresh, "DB_HUNG"), (first.database, "DB_HUNG")):
            started = time.monotonic()
            reading = asked.status(deadline_ms=200)
            assert time.monotonic() - started < 0.3
            assert (reading.health, reading.code) == (Health.FAILED, code)
        result = first.database.make_read_only(deadline_ms=200)
        not_ok(result, Outcome.UNKNOWN, "DB_HUNG")
    finally:
        first.server.signal(signal.SIGCONT)
    assert facts(first).read_only is False

    first.server.kill()
    assert first.database.status(deadline_ms=200).code in {"DB_LOST", "DB_REFUSED"}
    assert first.database.status(deadline_ms=200).code == "DB_REFUSED"
    not_ok(first.database.freeze(deadline_ms=200), Outcome.FAILED, "DB_REFUSED")
    first.server.start()
    assert facts(first).read_only is True


def test_what_the_administrator_forgot_is_named(members: tuple[Member, Member, Member]) -> None:
    first, _, _ = members
    wrong = database(first.server, password="not-this-one").status(deadline_ms=QUICK_MS)
    assert (wrong.code, "not-this-one" in wrong.reason) == ("DB_AUTH", False)
    first.server.run("REVOKE REPLICA MONITOR ON *.* FROM failoverd@localhost")
    assert database(first.server).status(deadline_ms=QUICK_MS).code == "DB_DENIED"
    first.server.run("GRANT REPLICA MONITOR ON *.* TO failoverd@localhost", "DROP TABLE failoverd.heartbeat")
    assert database(first.server).status(deadline_ms=QUICK_MS).code in {"DB_SCHEMA", "DB_DENIED"}


def test_all_connections_taken_by_remote_clients(members: tuple[Member, Member, Member]) -> None:
    """Those make room, and what a mail service has open on the host is left alone."""
    server = members[0].server
    server.run("SET GLOBAL max_connections = 10", "CREATE USER reader@localhost")
    look_up = server.connect("reader")
    with _all_taken(server.client) as taken:
        ok(members[0].database.make_read_only(deadline_ms=QUICK_MS))
        with pytest.raises(pymysql.err.OperationalError):
            taken[0].query("SELECT 1")
        look_up.query("SELECT 1")
    look_up.close()


def test_all_connections_taken_on_the_host_itself(members: tuple[Member, Member, Member]) -> None:
    server = members[0].server
    server.run("SET GLOBAL max_connections = 10", "CREATE USER reader@localhost")
    with _all_taken(lambda: server.connect("reader")):
        ok(members[0].database.make_read_only(deadline_ms=QUICK_MS))


@contextlib.contextmanager
def _all_taken(connect: Callable[[], pymysql.Connection[Any]]) -> Iterator[list[pymysql.Connection[Any]]]:
    taken = []
    try:
        with contextlib.suppress(pymysql.err.OperationalError):
            while True:
                taken.append(connect())
        assert len(taken) > 3
        with pytest.raises(pymysql.err.OperationalError, match="Too many connections"):
            connect()
        yield taken
    finally:
        for connection in taken:
            connection.close()


def test_cancel_ends_what_another_thread_waits_for(members: tuple[Member, Member, Member]) -> None:
    first, second, _ = members
    second.server.run("STOP SLAVE SQL_THREAD")
    first.server.run("INSERT INTO app.writes VALUES ('a', 0)")
    second.server.run("START SLAVE SQL_THREAD")
    far = GtidSet.upto({"0": 1_000_000})
    results: list[Result] = []
    waiter = threading.Thread(
        target=lambda: results.append(second.database.await_position(position=far, deadline_ms=60_000))
    )
    waiter.start()
    waits = "SELECT * FROM information_schema.PROCESSLIST WHERE USER = 'failoverd' AND INFO LIKE '%MASTER_GTID_WAIT%'"
    wait_for(lambda: second.server.run(waits), name="the wait to start")
    second.database.cancel()
    waiter.join(1)
    not_ok(results[0], Outcome.UNKNOWN, "DB_CANCELLED")
    facts(second)


# ---- freeze -------------------------------------------------------------------------------------------------------


def frozen(member: Member) -> float:
    """Freeze twice (the second time does nothing) and return how long the first took."""
    took = took_ms(lambda: ok(member.database.freeze(deadline_ms=SLOW_MS)))
    state = ok(member.database.freeze(deadline_ms=SLOW_MS))
    assert state.replication is not None
    assert (state.replication.receiver, state.replication.applier) == (Thread.STOPPED, Thread.RUNNING)
    return took


def test_freeze_is_quick_whatever_the_source_does(members: tuple[Member, Member, Member]) -> None:
    first, second, third = members
    first.server.run("INSERT INTO app.writes VALUES ('a', 0)")
    in_step(first.server, second.server)
    took = {"alive": frozen(second)}
    second.server.run("START SLAVE IO_THREAD")
    wait_for(lambda: second.server.slave()["Slave_IO_Running"] == "Yes", name="the receiver")

    silence(first.server.address)
    took["silent"] = frozen(second)
    assert facts(second).position == facts(third).position

    third_gave_up = wait_for(lambda: third.server.slave()["Slave_IO_Running"] == "Connecting", name="slave_net_timeout")
    assert third_gave_up
    took["silent, reconnecting"] = frozen(third)

    for address, name in ((first.server.address, "silent, first connect"), (NOWHERE, "nobody there")):
        second.server.run("STOP SLAVE", change_master(address), "START SLAVE")
        wait_for(lambda: second.server.slave()["Slave_IO_Running"] == "Connecting", name="the receiver to connect")
        took[name] = frozen(second)

    hear()
    second.server.run("STOP SLAVE", change_master(first.server.address), "START SLAVE")
    wait_for(lambda: second.server.slave()["Slave_IO_Running"] == "Yes", name="the receiver")
    first.server.signal(signal.SIGSTOP)  # its kernel accepts, nobody answers
    took["stopped"] = frozen(second)
    first.server.signal(signal.SIGCONT)

    second.server.run("START SLAVE IO_THREAD")
    wait_for(lambda: second.server.slave()["Slave_IO_Running"] == "Yes", name="the receiver")
    first.server.kill()
    wait_for(lambda: second.server.slave()["Slave_IO_Running"] == "Connecting", name="the refusal")
    took["refusing"] = frozen(second)

    print("freeze:", ", ".join(f"{name} {ms:.0f} ms" for name, ms in took.items()))
    assert max(took.values()) < 500, took  # 1 s and more without ending sockets; mostly below 50 ms


def test_freeze_without_replication_is_done(members: tuple[Member, Member, Member]) -> None:
    first, _, _ = members
    assert ok(first.database.freeze(deadline_ms=QUICK_MS)).replication is None


# ---- applying -----------------------------------------------------------------------------------------------------


def test_apply_waits_for_the_applier_and_says_when_it_stopped(members: tuple[Member, Member, Member]) -> None:
    first, second, _ = members
    blocker = second.server.connect()
    blocker.cursor().execute("LOCK TABLES app.writes READ")  # the applier waits behind it
    first.server.run("INSERT INTO app.writes VALUES ('a', 0)")
    position = facts(first).applied
    wait_for(lambda: facts(second).position == position, name="the receiver")
    ok(second.database.freeze(deadline_ms=QUICK_MS))

    not_ok(second.database.apply_relay_log(deadline_ms=4000), Outcome.UNKNOWN, "DB_NOT_APPLIED")
    not_ok(second.database.await_position(position=position, deadline_ms=4000), Outcome.UNKNOWN, "DB_NOT_APPLIED")
    not_ok(second.database.become_source(deadline_ms=QUICK_MS), Outcome.FAILED, "DB_NOT_APPLIED")
    assert facts(second).replication is not None, "the relay log must still be there"

    blocker.cursor().execute("UNLOCK TABLES")
    blocker.close()
    assert ok(second.database.apply_relay_log(deadline_ms=QUICK_MS)).applied == position
    ok(second.database.await_position(position=position, deadline_ms=QUICK_MS))
    further = position.union(GtidSet.upto({"0": position.count + 5}))
    not_ok(second.database.await_position(position=further, deadline_ms=5000), Outcome.FAILED, "DB_RECEIVER_STOPPED")
    not_ok(first.database.await_position(position=further, deadline_ms=5000), Outcome.FAILED, "DB_NOT_REPLICA")

    second.server.run("STOP SLAVE SQL_THREAD", "START SLAVE IO_THREAD")
    first.server.run("INSERT INTO app.writes VALUES ('b', 0)")
    wait_for(lambda: facts(second).position == facts(first).applied, name="the receiver")
    not_ok(second.database.apply_relay_log(deadline_ms=5000), Outcome.FAILED, "DB_APPLIER_STOPPED")


# ---- promote ------------------------------------------------------------------------------------------------------


def test_writable_only_as_a_source_that_nobody_leads(members: tuple[Member, Member, Member]) -> None:
    _, second, third = members
    not_ok(second.database.make_writable(term=7, deadline_ms=QUICK_MS), Outcome.FAILED, "DB_STILL_REPLICA")
    second.server.run("STOP SLAVE", "RESET SLAVE ALL")
    not_ok(second.database.make_writable(term=7, deadline_ms=QUICK_MS), Outcome.FAILED, "DB_NOT_SOURCE")
    for _ in range(2):
        state = ok(second.database.become_source(deadline_ms=QUICK_MS))
        assert (state.read_only, state.semi_sync_source, state.replication) == (True, True, None)
    not_ok(second.database.await_replica(deadline_ms=QUICK_MS), Outcome.UNKNOWN, "DB_NO_REPLICA")
    ok(third.database.follow(address=second.server.address, deadline_ms=SLOW_MS))
    assert ok(second.database.await_replica(deadline_ms=QUICK_MS)).semi_sync_clients == 1
    before, numbers = facts(second), []
    for _ in range(2):
        state = ok(second.database.make_writable(term=7, deadline_ms=QUICK_MS))
        assert state.read_only is False
        numbers.append(state.applied.count)  # once: a writable server is left alone
    assert numbers[0] == numbers[1] > before.applied.count + SKIPPED
    wait_for(lambda: facts(second).heartbeat_term == 7, name="the term's first heartbeat")


def test_a_number_that_a_crash_dropped_is_not_given_again(members: tuple[Member, Member, Member]) -> None:
    """A replica that has what its source dropped is refused, also once the source is far beyond that number."""
    first, second, third = members
    in_step(first.server, second.server)
    second.server.run("STOP SLAVE")
    ahead = facts(second).applied.count + 1
    second.server.run(f"SET GLOBAL gtid_slave_pos = '0-1-{ahead}'")  # as if it had received one more
    first.server.run("SET GLOBAL read_only = 1")
    ok(first.database.make_writable(term=7, deadline_ms=QUICK_MS))
    for _ in range(3):
        first.server.run("INSERT INTO app.writes VALUES (UUID(), 0)")
    in_step(first.server, third.server)
    assert facts(first).applied.count > ahead
    second.server.run("START SLAVE")
    # The server's own words. Whether the replica is told them, or only sees its connection end, is a race of the two.
    refusal = f"missing the GTID 0-1-{ahead} requested"
    logs = [server.directory / "error.log" for server in (first.server, second.server)]
    wait_for(lambda: any(refusal in log.read_text() for log in logs), name="the refusal")
    assert facts(second).position.count == ahead


def test_the_journal_has_one_row_a_term(members: tuple[Member, Member, Member]) -> None:
    first, second, third = members

    def journal(term: int, holder: NodeName, deadline_ms: int = QUICK_MS) -> Result:
        return first.database.write_journal(
            term=term, holder=holder, previous=None, reason="why " * 100, deadline_ms=deadline_ms
        )

    for _ in range(2):
        ok(journal(4, MAIL1))
    not_ok(journal(4, MAIL2), Outcome.FAILED, "DB_TERM_TAKEN")
    rows = first.server.run("SELECT * FROM failoverd.journal")
    assert [(row["term"], row["holder"], row["previous"], len(row["reason"])) for row in rows] == [
        (4, "mail1", None, 255)
    ]
    in_step(first.server, second.server)
    assert second.server.run("SELECT * FROM failoverd.journal") == rows
    assert rows[0]["gtid"].startswith("0-1-")

    for replica in (second, third):
        ok(replica.database.freeze(deadline_ms=QUICK_MS))
    for _ in range(2):
        not_ok(journal(5, MAIL1, 150), Outcome.UNKNOWN, "DB_NO_ACK")
    second.server.run("START SLAVE IO_THREAD")
    ok(journal(5, MAIL1))
    first.server.run("SET GLOBAL read_only = 1")
    not_ok(journal(6, MAIL1), Outcome.FAILED, "DB_READ_ONLY")
    assert first.server.value("COUNT(*)") == 1
    in_step(first.server, second.server)


def test_beats_do_not_pile_up_and_never_reach_a_read_only_server(members: tuple[Member, Member, Member]) -> None:
    first, second, third = members
    for beat in (1, 2):
        state = ok(first.database.beat(term=3, beat=beat, deadline_ms=QUICK_MS))
        assert (state.heartbeat_term, state.heartbeat_beat) == (3, beat)
    before = facts(second).holdings
    not_ok(second.database.beat(term=3, beat=9, deadline_ms=QUICK_MS), Outcome.FAILED, "DB_READ_ONLY")
    assert facts(second).holdings == before, "an errant heartbeat"

    for replica in (second, third):
        ok(replica.database.freeze(deadline_ms=QUICK_MS))
    for beat in range(3, 8):
        not_ok(first.database.beat(term=3, beat=beat, deadline_ms=50), Outcome.UNKNOWN, "DB_NO_ACK")
    waiting = first.server.run("SELECT * FROM information_schema.PROCESSLIST WHERE USER = 'failoverd'")
    assert sum("heartbeat" in (row["INFO"] or "") for row in waiting) == 1
    second.server.run("START SLAVE IO_THREAD")
    state = ok(first.database.beat(term=3, beat=8, deadline_ms=QUICK_MS))
    assert state.heartbeat_beat == 8
    in_step(first.server, second.server)
    assert facts(second).heartbeat_beat == 8

    first.server.kill()  # its kept connection is gone
    first.server.start()
    not_ok(first.database.beat(term=3, beat=9, deadline_ms=QUICK_MS), Outcome.FAILED, "DB_READ_ONLY")


def test_each_start_of_a_server_is_a_run_of_its_own(members: tuple[Member, Member, Member]) -> None:
    first, second, _ = members
    before = facts(second).run
    assert before.count("-") == 3
    assert facts(second).run == facts(Member(second.server, database(second.server))).run == before
    assert facts(first).run != before
    second.server.kill()
    second.server.start()
    assert facts(second).run not in ("", before)


def test_starting_both_threads_throws_the_relay_log_away(members: tuple[Member, Member, Member]) -> None:
    """What is acknowledged and not applied is gone then, and the run has ended, although the server lives on."""
    first, second, _ = members
    in_step(first.server, second.server)
    second.server.run("STOP SLAVE SQL_THREAD")
    first.server.run("INSERT INTO app.writes VALUES ('received', 0)")
    wait_for(lambda: facts(second).position.covers(facts(first).position), name="the write in the relay log")
    before = facts(second)
    silence(first.server.address)
    ok(second.database.freeze(deadline_ms=QUICK_MS))
    assert (facts(second).position, facts(second).run) == (before.position, before.run)
    second.server.run("START SLAVE")
    assert not facts(second).position.covers(before.position)
    assert facts(second).run != before.run


def test_what_may_have_thrown_the_relay_log_away_ends_a_run(members: tuple[Member, Member, Member]) -> None:
    first, second, third = members
    follow = second.database.follow
    seen = [facts(second).run]

    def ended() -> bool:
        seen.append(facts(second).run)
        return seen[-1] not in seen[:-1]

    # failoverd's own: the receiver alone, another source and back, a promotion
    ok(second.database.freeze(deadline_ms=QUICK_MS))
    ok(follow(address=first.server.address, deadline_ms=SLOW_MS))
    assert not ended()
    second.server.run("STOP SLAVE SQL_THREAD")
    ok(follow(address=first.server.address, deadline_ms=SLOW_MS))
    assert not ended()
    ok(follow(address=third.server.address, deadline_ms=SLOW_MS))
    ok(follow(address=first.server.address, deadline_ms=SLOW_MS))
    assert not ended()
    assert facts(Member(second.server, second.database.beside())).run == seen[0]

    second.server.run("STOP SLAVE")
    ok(follow(address=first.server.address, deadline_ms=SLOW_MS))
    assert ended(), "failoverd's own, with both threads stopped"
    second.server.run("FLUSH STATUS", "STOP SLAVE", "START SLAVE")
    assert ended(), "an administrator's"
    second.server.run("STOP SLAVE", "START ALL SLAVES")
    assert ended()
    second.server.run("STOP SLAVE", "RESET SLAVE")
    assert ended()
    second.server.run("CHANGE MASTER TO MASTER_CONNECT_RETRY = 2")
    assert ended()
    second.server.run("START SLAVE SQL_THREAD")
    assert ended(), "of one thread; whether the other ran nobody knows"
    assert facts(Member(second.server, database(second.server))).run not in seen, "a daemon that is started anew"


def test_a_crash_of_the_source_keeps_what_was_acknowledged(members: tuple[Member, Member, Member]) -> None:
    """Its recovery takes back what nobody was told of, and no more: a holder's own word is enough in an election."""
    first, _, _ = members
    acknowledged: set[str] = set()

    def write(connection: pymysql.Connection[Any], name: str) -> None:
        with contextlib.suppress(pymysql.err.MySQLError):
            for number in itertools.count():
                connection.cursor().execute("INSERT INTO app.writes VALUES (%s, 0)", (f"{name}-{number}",))
                acknowledged.add(f"{name}-{number}")

    threads = [threading.Thread(target=write, args=(first.server.connect(), f"w{n}")) for n in range(8)]
    for thread in threads:
        thread.start()
    wait_for(lambda: len(acknowledged) > 200, name="200 writes")
    first.server.kill()
    for thread in threads:
        thread.join(10)
    first.server.start()
    assert acknowledged <= {row["id"] for row in first.server.run("SELECT id FROM app.writes")}


# ---- demote -------------------------------------------------------------------------------------------------------


def test_read_only_under_load_loses_nothing_and_spares_the_look_ups(members: tuple[Member, Member, Member]) -> None:
    first, second, _ = members
    acknowledged: list[str] = []
    stop = threading.Event()

    def write(number: int) -> None:
        with contextlib.suppress(pymysql.err.MySQLError), contextlib.closing(first.server.client()) as connection:
            for count in range(100_000):
                if stop.is_set():
                    return
                connection.cursor().execute("INSERT INTO app.writes VALUES (%s, 0)", (f"{number}-{count}",))
                acknowledged.append(f"{number}-{count}")

    look_up = first.server.connect("mail_reader", "mail-reader-lab-password")
    open_transaction = first.server.client()
    open_transaction.begin()
    open_transaction.cursor().execute("INSERT INTO app.writes VALUES ('open', 0)")
    writers = [threading.Thread(target=write, args=(number,)) for number in range(20)]
    for writer in writers:
        writer.start()
    wait_for(lambda: len(acknowledged) > 200, name="the load")
    took = took_ms(lambda: ok(first.database.make_read_only(deadline_ms=QUICK_MS)))
    stop.set()
    for writer in writers:
        writer.join(5)
    print(f"read-only under load of 20 writers: {took:.0f} ms, {len(acknowledged)} acknowledged")

    assert facts(first).read_only
    in_step(first.server, second.server)
    there = {row["id"] for row in second.server.run("SELECT id FROM app.writes")}
    assert set(acknowledged) <= there
    assert "open" not in there
    assert facts(first).holdings == facts(second).holdings
    assert look_up.cursor().execute("SELECT * FROM mail.domains") == 1
    ok(first.database.make_read_only(deadline_ms=QUICK_MS))
    for connection in (look_up, open_transaction):
        with contextlib.suppress(pymysql.err.Error):
            connection.close()


def test_read_only_ends_a_lock_that_sleeps(members: tuple[Member, Member, Member]) -> None:
    first, _, _ = members
    with contextlib.closing(first.server.connect()) as holds_a_lock:
        holds_a_lock.cursor().execute("LOCK TABLES app.writes WRITE")
        ok(first.database.make_read_only(deadline_ms=QUICK_MS))
        with pytest.raises(pymysql.err.OperationalError):
            holds_a_lock.cursor().execute("INSERT INTO app.writes VALUES ('late', 0)")


def test_a_commit_without_acknowledgement_blocks_read_only_and_goes_with_the_server(
    members: tuple[Member, Member, Member],
) -> None:
    """The isolated primary: nothing is acknowledged, the server is killed, and follows the new primary as it is."""
    first, second, third = members
    first.server.run("INSERT INTO app.writes VALUES ('acknowledged', 0)")
    silence(first.server.address)
    with waiting_writes(first.server, "w1", "w2") as answers:
        not_ok(first.database.beat(term=1, beat=1, deadline_ms=100), Outcome.UNKNOWN, "DB_NO_ACK")
        started = time.monotonic()
        result = first.database.make_read_only(deadline_ms=700)
        assert 0.5 < time.monotonic() - started < 0.9
        assert (result.code, result.outcome is Outcome.SUCCEEDED) == ("DB_READ_ONLY_BLOCKED", False)
        assert "wait for an acknowledgement" in result.reason
        assert facts(first).read_only is False
        assert answers == []
        first.server.kill()
    assert all(isinstance(answer, pymysql.err.MySQLError) for answer in answers), answers
    promote(second, third)
    second.server.run("INSERT INTO app.writes VALUES ('after', 0)")

    first.server.start()
    assert facts(first).read_only
    hear()
    ok(first.database.follow(address=second.server.address, deadline_ms=SLOW_MS))
    in_step(second.server, first.server)
    rows = [row["id"] for row in first.server.run("SELECT id FROM app.writes ORDER BY id")]
    assert rows == ["acknowledged", "after"]
    assert facts(second).holdings.covers(facts(first).holdings)


# ---- follow -------------------------------------------------------------------------------------------------------


def threads_of(server: Server) -> set[int]:
    rows = server.run("SELECT ID FROM information_schema.PROCESSLIST WHERE COMMAND IN ('Slave_IO', 'Slave_SQL')")
    return {row["ID"] for row in rows}


def test_follow_leaves_alone_what_follows_already(members: tuple[Member, Member, Member]) -> None:
    first, second, _ = members

    def follow() -> DatabaseFacts:
        return ok(second.database.follow(address=first.server.address, deadline_ms=SLOW_MS))

    before = threads_of(second.server)
    state = follow()
    assert threads_of(second.server) == before
    assert state.semi_sync_replica
    assert (state.read_only, state.semi_sync_source) == (True, False)
    for stopped in ("IO_THREAD", "SQL_THREAD", ""):
        second.server.run(f"STOP SLAVE {stopped}")
        state = follow()
        assert state.replication is not None
        assert (state.replication.receiver, state.replication.applier) == (Thread.RUNNING, Thread.RUNNING)
    second.server.run("SET GLOBAL rpl_semi_sync_slave_enabled = OFF", "STOP SLAVE IO_THREAD", "START SLAVE IO_THREAD")
    wait_for(lambda: facts(first).semi_sync_clients == 1, name="one replica less")
    follow()
    wait_for(lambda: facts(first).semi_sync_clients == 2, name="the replica to acknowledge again")
    second.server.run("SET GLOBAL read_only = 0")
    assert follow().read_only


def stopped_receiver(member: Member) -> Replication | None:
    """Its replication, once the receiver has stopped."""
    replication = facts(member).replication
    return replication if replication is not None and replication.receiver is Thread.STOPPED else None


def test_follow_says_what_keeps_it_from_following(members: tuple[Member, Member, Member]) -> None:
    first, second, third = members
    for replica in (second, third):
        replica.server.run("SET GLOBAL read_only = 0", "SET SESSION sql_log_bin = 1")
    second.server.run("STOP SLAVE", "RESET SLAVE ALL", "INSERT INTO app.writes VALUES ('errant', 0)")
    result = second.database.follow(address=first.server.address, deadline_ms=SLOW_MS)
    assert result.code in {"", "DB_RECEIVER_STOPPED"}, "the source's answer may come once the receiver is running"
    replication = wait_for(lambda: stopped_receiver(second), name="the refusal")
    assert "1236" in replication.receiver_error
    assert facts(second).read_only

    wrong = database(third.server, replication_password="not-this-one")
    third.server.run("STOP SLAVE", "RESET SLAVE ALL")
    state = ok(wrong.follow(address=first.server.address, deadline_ms=SLOW_MS))  # it goes on trying
    assert state.replication is not None
    assert state.replication.receiver is Thread.CONNECTING
    wait_for(lambda: "1045" in str(third.server.slave()["Last_IO_Errno"]), name="the refusal")
    ok(third.database.follow(address=first.server.address, deadline_ms=SLOW_MS))
    wait_for(lambda: facts(first).semi_sync_clients == 1, name="the right password")


def test_follow_from_a_silent_source(members: tuple[Member, Member, Member]) -> None:
    first, second, third = members
    silence(first.server.address)
    ok(second.database.freeze(deadline_ms=QUICK_MS))
    ok(second.database.apply_relay_log(deadline_ms=QUICK_MS))
    ok(second.database.become_source(deadline_ms=QUICK_MS))
    took = took_ms(lambda: ok(third.database.follow(address=second.server.address, deadline_ms=SLOW_MS)))
    print(f"follow, the old source silent: {took:.0f} ms")
    assert took < 500
    ok(second.database.await_replica(deadline_ms=QUICK_MS))


def test_there_and_back_again(members: tuple[Member, Member, Member]) -> None:
    """Two planned switchovers: every server has been the source, and all have the same rows."""
    first, second, third = members
    source, others = first, [second, third]
    for term, target in enumerate((second, first, third), start=2):
        source.server.run(f"INSERT INTO app.writes VALUES ('before {term}', 0)")  # noqa: S608 - our own number
        position = ok(source.database.make_read_only(deadline_ms=QUICK_MS)).applied
        ok(target.database.await_position(position=position, deadline_ms=QUICK_MS))
        rest = [member for member in (source, *others) if member is not target]
        took = took_ms(lambda new=target, rest=rest: promote(new, *rest))
        print(f"planned, SQL only: {took:.0f} ms")
        ok(
            target.database.write_journal(
                term=term,
                holder=NodeName(target.server.name),
                previous=NodeName(source.server.name),
                reason="planned",
                deadline_ms=QUICK_MS,
            )
        )
        ok(target.database.beat(term=term, beat=1, deadline_ms=QUICK_MS))
        source, others = target, rest
    for member in others:
        in_step(source.server, member.server)
        assert facts(member).holdings == facts(source).holdings
        assert facts(member).heartbeat_term == 4
        assert member.server.run("SELECT * FROM app.writes") == source.server.run("SELECT * FROM app.writes")
    assert source.server.value("@@gtid_binlog_state").count("-") == 6


def test_the_dialect_is_registered() -> None:
    assert DATABASES["mariadb"] is MariaDb
