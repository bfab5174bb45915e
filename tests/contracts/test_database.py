"""The contract of `ports.Database`: the same stories for each dialect.

MariaDB: real servers. MySQL: the model, whose docstring says what that does not prove.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING

import mysql_model
import pytest
from database_stages import GRANTS, QUICK_MS, MySqlStage, Stage, mariadb_stages, mysql_stages, privileges
from mariadb_servers import PASSWORD, REPLICATION_PASSWORD, make_template, private_network, wait_for

from failoverd.core.errant import errant
from failoverd.core.findings import SETTINGS, Severity
from failoverd.core.gtid import GtidSet
from failoverd.core.model import DatabaseFacts, Health, NodeName, Outcome, SettingsFacts, Thread
from failoverd.databases import CODES, DATABASES
from failoverd.ports import Result

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


Stages = list[Stage]
MAIL1, MAIL2 = NodeName("mail1"), NodeName("mail2")
SHORT_MS = 300
RIGHTS = {
    "mariadb": privileges(GRANTS / "grants-mariadb.sql"),
    "mysql": privileges(GRANTS / "grants-mysql.sql"),
}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    with private_network() as root:
        yield root, make_template(root, tmp_path_factory.mktemp("template"))


@pytest.fixture(params=["mysql", pytest.param("mariadb", marks=pytest.mark.lab)])
def stages(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stages]:
    if request.param == "mysql":
        with mysql_stages(tmp_path) as made:
            yield made
    else:
        root, data = request.getfixturevalue("template")
        with mariadb_stages(root, data, tmp_path) as made:
            yield made


@pytest.fixture
def mysql(tmp_path: Path) -> Iterator[Stages]:
    with mysql_stages(tmp_path) as made:
        yield made


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


def in_step(source: Stage, *replicas: Stage) -> None:
    wanted = source.facts().holdings
    for replica in replicas:
        wait_for(lambda there=replica: there.facts().holdings.covers(wanted), name="the replica to catch up")


def promote(stage: Stage, *followers: Stage, term: int = 7) -> DatabaseFacts:
    """As the plan does it."""
    ok(stage.database.freeze(deadline_ms=QUICK_MS))
    ok(stage.database.apply_relay_log(deadline_ms=QUICK_MS))
    ok(stage.database.become_source(deadline_ms=QUICK_MS))
    for follower in followers:
        ok(follower.database.follow(address=stage.address, deadline_ms=QUICK_MS))
    ok(stage.database.await_replica(deadline_ms=QUICK_MS))
    return ok(stage.database.make_writable(term=term, deadline_ms=QUICK_MS))


def settings(stage: Stage) -> SettingsFacts:
    reading = stage.database.settings(deadline_ms=QUICK_MS)
    assert isinstance(reading.facts, SettingsFacts), reading
    return reading.facts


def threads(stage: Stage) -> tuple[Thread, Thread]:
    replication = stage.facts().replication
    assert replication is not None
    return replication.receiver, replication.applier


# ---- status -------------------------------------------------------------------------------------------------------


def test_status_of_a_source_and_of_a_replica(stages: Stages) -> None:
    first, second, _ = stages
    source, replica = first.facts(), second.facts()
    assert (source.server_id, source.read_only, source.replication) == (1, False, None)
    assert (source.semi_sync_source, source.semi_sync_clients) == (True, 2)
    assert (replica.server_id, replica.read_only, replica.semi_sync_source) == (2, True, False)
    assert replica.semi_sync_replica
    assert replica.replication is not None
    assert replica.replication.source == first.address
    assert threads(second) == (Thread.RUNNING, Thread.RUNNING)
    assert replica.replication.received == source.applied == replica.applied == replica.position
    assert source.holdings == replica.holdings
    assert source.own == source.applied, "it has written it all"
    assert replica.own == GtidSet(), "it has written nothing"
    assert source.applied.count > 0


def test_a_source_that_may_degrade_is_none(stages: Stages) -> None:
    first, _, _ = stages
    first.semi_sync_timeout(10_000)
    assert not first.facts().semi_sync_source
    assert ok(first.database.become_source(deadline_ms=QUICK_MS)).semi_sync_source


def test_what_the_administrator_forgot_is_named(stages: Stages) -> None:
    first, _, _ = stages
    wrong = first.view(password="not-this-one").status(deadline_ms=QUICK_MS)
    assert (wrong.code, "not-this-one" in wrong.reason) == ("DB_AUTH", False)
    first.drop_heartbeat()
    missing = first.view().status(deadline_ms=QUICK_MS)
    assert missing.code in {"DB_SCHEMA", "DB_DENIED"}, "MariaDB drops the right with the table"


def test_settings_of_a_server_as_the_grants_file_asks_for_it(stages: Stages) -> None:
    first, second, _ = stages
    for stage in (first, second):
        facts = settings(stage)
        assert [code for code, _ in facts.found if SETTINGS[code].severity is Severity.BLOCKS] == []
    assert settings(first).identity.unique != settings(second).identity.unique


def test_what_is_before_the_first_row_and_what_the_primary_writes_is_not_errant(stages: Stages) -> None:
    first, second, _ = stages
    ok(first.database.write_journal(term=7, holder=MAIL1, previous=None, reason="adopted", deadline_ms=QUICK_MS))
    ok(first.database.beat(term=7, beat=9, deadline_ms=QUICK_MS))
    in_step(first, second)
    for stage in (first, second):
        journal = settings(stage).journal
        assert (journal.term, bool(journal.own)) == (7, True)
        assert errant(stage.facts().holdings, journal) == ()
    beyond = GtidSet.upto({"0-99": 3}) if "-" in settings(first).journal.own[:3] else GtidSet.upto({"another": 3})
    assert [found.extra for found in errant(first.facts().holdings.union(beyond), settings(first).journal)] == [beyond]


def test_a_server_that_is_gone_is_named(stages: Stages) -> None:
    first, _, _ = stages
    first.facts()
    first.kill()
    assert first.database.status(deadline_ms=QUICK_MS).code in {"DB_LOST", "DB_REFUSED"}
    assert first.database.status(deadline_ms=QUICK_MS).code == "DB_REFUSED"
    not_ok(first.database.freeze(deadline_ms=QUICK_MS), Outcome.FAILED, "DB_REFUSED")
    not_ok(first.database.make_read_only(deadline_ms=QUICK_MS), Outcome.FAILED, "DB_REFUSED")
    first.start()
    assert first.facts().read_only, "never writable by itself"


def test_a_server_that_hangs_is_named_within_the_deadline(stages: Stages) -> None:
    first, _, _ = stages
    first.facts()
    fresh = first.view()
    with first.hang():
        for asked, code in ((first.database, "DB_TIMEOUT"), (fresh, "DB_HUNG")):
            started = time.monotonic()
            reading = asked.status(deadline_ms=SHORT_MS)
            assert (reading.health, reading.code) == (Health.FAILED, code)
            assert time.monotonic() - started < 5 * SHORT_MS / 1000
        not_ok(fresh.make_read_only(deadline_ms=SHORT_MS), Outcome.UNKNOWN, "DB_HUNG")
    assert first.facts().read_only is False


def test_not_even_the_last_connection(stages: Stages) -> None:
    first, _, _ = stages
    with first.full(), first.last():
        reading = first.view().status(deadline_ms=QUICK_MS)
        assert (reading.health, reading.code) == (Health.FAILED, "DB_CONNECTIONS")
        not_ok(first.database.make_read_only(deadline_ms=QUICK_MS), Outcome.FAILED, "DB_CONNECTIONS")


def test_all_connections_taken(stages: Stages) -> None:
    first, _, _ = stages
    with first.full():
        assert ok(first.database.make_read_only(deadline_ms=QUICK_MS)).read_only


def test_a_last_connection_that_is_taken_for_a_moment_keeps_failoverd_out_for_no_longer(stages: Stages) -> None:
    """Each client that is told that the server is full has that place, for as long as it takes to tell it."""
    first, _, _ = stages
    with first.full(), contextlib.ExitStack() as last:
        last.enter_context(first.last())
        gone = threading.Timer(0.06, last.close)
        gone.start()
        assert ok(first.database.make_read_only(deadline_ms=QUICK_MS)).read_only
        gone.join()


def test_cancel_ends_what_another_thread_waits_for(stages: Stages) -> None:
    _, second, _ = stages
    source = second.facts().applied.parts[0][0]
    far = GtidSet.upto({source: 10_000})
    results: list[Result] = []

    def wait() -> None:
        results.append(second.database.await_position(position=far, deadline_ms=60_000))

    waiter = threading.Thread(target=wait)
    waiter.start()
    time.sleep(0.2)  # it may be at any statement of its own: none of them must survive
    second.database.cancel()
    waiter.join(5)
    not_ok(results[0], Outcome.UNKNOWN, "DB_CANCELLED")
    second.facts()


# ---- freeze, apply ------------------------------------------------------------------------------------------------


def test_freeze_stops_the_receiver_only(stages: Stages) -> None:
    first, second, third = stages
    for _ in range(2):
        ok(second.database.freeze(deadline_ms=QUICK_MS))
        assert threads(second) == (Thread.STOPPED, Thread.RUNNING)
    before = second.facts()
    first.write("later")
    in_step(first, third)
    assert second.facts().position == before.position
    assert second.facts().run == before.run, "its relay log was kept"
    assert ok(first.database.freeze(deadline_ms=QUICK_MS)).replication is None


def test_apply_waits_for_the_applier_and_says_when_it_stopped(stages: Stages) -> None:
    first, second, _ = stages
    with second.hold_applier():
        first.write("a")
        position = first.facts().applied
        wait_for(lambda: second.facts().position == position, name="the receiver")
        ok(second.database.freeze(deadline_ms=QUICK_MS))
        waited = second.database.apply_relay_log(deadline_ms=SHORT_MS)
        assert (waited.outcome, waited.code in {"DB_NOT_APPLIED", "DB_TIMEOUT"}) == (Outcome.UNKNOWN, True)
        not_ok(second.database.become_source(deadline_ms=QUICK_MS), Outcome.FAILED, "DB_NOT_APPLIED")
        assert second.facts().replication is not None, "the relay log must still be there"
    assert ok(second.database.apply_relay_log(deadline_ms=QUICK_MS)).applied == position
    ok(second.database.await_position(position=position, deadline_ms=QUICK_MS))
    source, intervals = position.parts[0]
    further = GtidSet.upto({source: intervals[-1][1] + 5})
    result = second.database.await_position(position=further, deadline_ms=QUICK_MS)
    not_ok(result, Outcome.FAILED, "DB_RECEIVER_STOPPED")
    result = first.database.await_position(position=further, deadline_ms=QUICK_MS)
    not_ok(result, Outcome.FAILED, "DB_NOT_REPLICA")

    second.applier(run=False)
    second.receiver(run=True)
    first.write("b")
    wait_for(lambda: second.facts().position == first.facts().applied, name="the receiver")
    not_ok(second.database.apply_relay_log(deadline_ms=QUICK_MS), Outcome.FAILED, "DB_APPLIER_STOPPED")


# ---- promote ------------------------------------------------------------------------------------------------------


def test_writable_only_as_a_source_that_nobody_leads(stages: Stages) -> None:
    _, second, third = stages
    not_ok(second.database.make_writable(term=7, deadline_ms=QUICK_MS), Outcome.FAILED, "DB_STILL_REPLICA")
    second.forget_source()
    not_ok(second.database.make_writable(term=7, deadline_ms=QUICK_MS), Outcome.FAILED, "DB_NOT_SOURCE")
    for _ in range(2):
        state = ok(second.database.become_source(deadline_ms=QUICK_MS))
        assert (state.read_only, state.semi_sync_source, state.replication) == (True, True, None)
    waited = second.database.await_replica(deadline_ms=SHORT_MS)
    assert (waited.outcome, waited.code in {"DB_NO_REPLICA", "DB_TIMEOUT"}) == (Outcome.UNKNOWN, True)
    ok(third.database.follow(address=second.address, deadline_ms=QUICK_MS))
    assert ok(second.database.await_replica(deadline_ms=QUICK_MS)).semi_sync_clients == 1
    numbers = []
    for _ in range(2):
        state = ok(second.database.make_writable(term=7, deadline_ms=QUICK_MS))
        assert state.read_only is False
        numbers.append(state.applied.count)
    assert numbers[0] == numbers[1], "a writable server is left alone"
    wait_for(lambda: third.facts().heartbeat_term == 7, name="the term's first heartbeat")
    assert second.facts().own.count > 0, "that one is its own"


def test_a_primary_stops_waiting_for_replicas_and_waits_again(stages: Stages) -> None:
    first, second, third = stages
    ok(first.database.become_source(deadline_ms=QUICK_MS))
    second.receiver(run=False)
    third.receiver(run=False)
    wait_for(lambda: not first.facts().semi_sync_clients, name="nobody to acknowledge")
    before = first.facts()
    with first.waiting_write("let go") as answers:
        first.commits_in_memory(on=True)
        not_ok(first.database.stop_waiting(deadline_ms=QUICK_MS), Outcome.FAILED, "DB_NOT_DURABLE")
        first.commits_in_memory(on=False)
        assert first.facts().semi_sync_source
        assert (answers, first.facts().unacknowledged) == ([], before.unacknowledged)
        stopped = ok(first.database.stop_waiting(deadline_ms=QUICK_MS))
        assert (stopped.semi_sync_source, stopped.read_only) == (False, False)
        wait_for(lambda: answers == ["acknowledged"], name="the client to be told")
    first.write("not waited for")
    let_go = first.facts().unacknowledged
    assert let_go > before.unacknowledged

    second.receiver(run=True)
    in_step(first, second)
    assert second.rows() >= {"let go", "not waited for"}
    assert ok(first.database.become_source(deadline_ms=QUICK_MS)).semi_sync_source
    first.write("acknowledged")
    assert first.facts().unacknowledged == let_go


def test_the_journal_has_one_row_a_term(stages: Stages) -> None:
    first, second, third = stages

    def journal(term: int, holder: NodeName, deadline_ms: int = QUICK_MS) -> Result:
        return first.database.write_journal(
            term=term, holder=holder, previous=None, reason="why 'not' " * 100, deadline_ms=deadline_ms
        )

    for _ in range(2):
        ok(journal(4, MAIL1))
    not_ok(journal(4, MAIL2), Outcome.FAILED, "DB_TERM_TAKEN")
    for replica in (second, third):
        ok(replica.database.freeze(deadline_ms=QUICK_MS))
    for _ in range(2):
        not_ok(journal(5, MAIL1, SHORT_MS), Outcome.UNKNOWN, "DB_NO_ACK")
    second.receiver(run=True)
    ok(journal(5, MAIL1))
    third.receiver(run=True)
    in_step(first, second, third)
    first.read_only(on=True)
    not_ok(journal(6, MAIL1), Outcome.FAILED, "DB_READ_ONLY")


def test_beats_do_not_pile_up_and_never_reach_a_read_only_server(stages: Stages) -> None:
    first, second, third = stages
    for beat in (1, 2):
        state = ok(first.database.beat(term=3, beat=beat, deadline_ms=QUICK_MS))
        assert (state.heartbeat_term, state.heartbeat_beat) == (3, beat)
    before = second.facts().own
    not_ok(second.database.beat(term=3, beat=9, deadline_ms=QUICK_MS), Outcome.FAILED, "DB_READ_ONLY")
    assert second.facts().own == before, "an errant heartbeat"
    for replica in (second, third):
        ok(replica.database.freeze(deadline_ms=QUICK_MS))
    for beat in range(3, 6):
        not_ok(first.database.beat(term=3, beat=beat, deadline_ms=SHORT_MS), Outcome.UNKNOWN, "DB_NO_ACK")
    second.receiver(run=True)
    assert ok(first.database.beat(term=3, beat=8, deadline_ms=QUICK_MS)).heartbeat_beat == 8
    in_step(first, second)
    assert second.facts().heartbeat_beat == 8


# ---- demote -------------------------------------------------------------------------------------------------------


def test_read_only_ends_a_lock_that_sleeps(stages: Stages) -> None:
    first, _, _ = stages
    with first.lock():
        for _ in range(2):
            assert ok(first.database.make_read_only(deadline_ms=QUICK_MS)).read_only


def test_a_commit_without_acknowledgement_blocks_read_only(stages: Stages) -> None:
    """Nothing is acknowledged by it, and the statement does not come true later."""
    first, second, third = stages
    for replica in (second, third):
        ok(replica.database.freeze(deadline_ms=QUICK_MS))
    with first.waiting_write("w") as answers:
        result = first.database.make_read_only(deadline_ms=1000)
        assert (result.code, result.outcome is Outcome.SUCCEEDED) == ("DB_READ_ONLY_BLOCKED", False), result.reason
        assert "1 commits wait for an acknowledgement" in result.reason
        assert answers == []
        second.receiver(run=True)
    assert answers == ["acknowledged"]
    assert first.facts().read_only is False
    assert ok(first.database.make_read_only(deadline_ms=QUICK_MS)).read_only


def test_what_nobody_acknowledged_after_the_crash_of_an_isolated_primary(stages: Stages) -> None:
    """MariaDB takes it back and is whole; MySQL commits it, and has something extra that is seen as its own."""
    first, second, third = stages
    first.write("acknowledged")
    in_step(first, second, third)
    for replica in (second, third):
        ok(replica.database.freeze(deadline_ms=QUICK_MS))
    began = second.facts().position
    with first.waiting_write("nobody was told"):
        first.kill()
    promote(second, third)
    second.write("after")
    first.start()
    extra = first.facts().holdings.minus(second.facts().holdings)
    assert first.facts().read_only
    assert first.facts().replication is None, "it follows nobody until somebody has looked"
    assert extra.count == (1 if first.CRASH_KEEPS else 0)
    assert (first.rows() == {*second.rows()} - {"after"}) is not first.CRASH_KEEPS
    assert began.covers(first.facts().own) is not first.CRASH_KEEPS, "what the core looks at: View.wrote_itself"


# ---- follow -------------------------------------------------------------------------------------------------------


def test_follow_leaves_alone_what_follows_already(stages: Stages) -> None:
    first, second, _ = stages
    before = second.facts().run
    state = ok(second.database.follow(address=first.address, deadline_ms=QUICK_MS))
    assert (state.run, state.semi_sync_replica, state.read_only, state.semi_sync_source) == (before, True, True, False)
    for receiver, applier in ((False, True), (True, False), (False, False)):
        second.receiver(run=receiver)
        second.applier(run=applier)
        ok(second.database.follow(address=first.address, deadline_ms=QUICK_MS))
        assert threads(second)[1] is Thread.RUNNING
        wait_for(lambda: threads(second)[0] is Thread.RUNNING, name="the receiver")


def test_follow_says_that_the_password_is_wrong(stages: Stages) -> None:
    first, _, third = stages
    third.forget_source()
    wrong = third.view(replication_password="not-this-one")
    state = ok(wrong.follow(address=first.address, deadline_ms=QUICK_MS))  # it goes on trying
    assert state.replication is not None
    assert state.replication.receiver is Thread.CONNECTING
    ok(third.database.follow(address=first.address, deadline_ms=QUICK_MS))
    wait_for(lambda: first.facts().semi_sync_clients == 2, name="the right password")


def test_there_and_back_again(stages: Stages) -> None:
    """Three planned switchovers: every server has been the source, and all have the same rows."""
    first, second, third = stages
    source, others = first, [second, third]
    for term, target in enumerate((second, first, third), start=2):
        source.write(f"before {term}")
        with source.client():
            position = ok(source.database.make_read_only(deadline_ms=QUICK_MS)).applied
        ok(target.database.await_position(position=position, deadline_ms=QUICK_MS))
        rest = [stage for stage in (source, *others) if stage is not target]
        promote(target, *rest, term=term)
        holder = NodeName(f"mail{term}")
        ok(
            target.database.write_journal(
                term=term, holder=holder, previous=MAIL1, reason="planned", deadline_ms=QUICK_MS
            )
        )
        ok(target.database.beat(term=term, beat=1, deadline_ms=QUICK_MS))
        source, others = target, rest
    in_step(source, *others)
    for stage in others:
        assert stage.facts().holdings == source.facts().holdings
        assert (stage.facts().heartbeat_term, stage.rows()) == (4, source.rows())


# ---- rights -------------------------------------------------------------------------------------------------------


def _blocked_by_a_client(stages: Stages) -> Result:
    with stages[0].client():
        return stages[0].view().make_read_only(deadline_ms=QUICK_MS)


def _blocked_by_root(stages: Stages) -> Result:
    with stages[0].lock():
        return stages[0].view().make_read_only(deadline_ms=QUICK_MS)


def _first_write(stages: Stages) -> Result:
    stages[0].read_only(on=True)
    return stages[0].view().make_writable(term=7, deadline_ms=QUICK_MS)


def _journal(stages: Stages) -> Result:
    return stages[0].view().write_journal(term=9, holder=MAIL1, previous=None, reason="why", deadline_ms=QUICK_MS)


def _read(stages: Stages) -> Result:
    reading = stages[1].view().status(deadline_ms=QUICK_MS)
    return Result_of(reading.health, reading.code, reading.reason)


def Result_of(health: Health, code: str, reason: str) -> Result:  # noqa: N802 - it makes one
    from failoverd.ports import Result  # noqa: PLC0415 - a type elsewhere in this file

    return Result(Outcome.SUCCEEDED if health is Health.OK else Outcome.FAILED, code, reason)


def _freeze(stages: Stages) -> Result:
    return stages[1].view().freeze(deadline_ms=QUICK_MS)


def _be_source(stages: Stages) -> Result:
    return stages[1].view().become_source(deadline_ms=QUICK_MS)


def _be_source_again(stages: Stages) -> Result:
    return stages[0].view().become_source(deadline_ms=QUICK_MS)


def _beat(stages: Stages) -> Result:
    return stages[0].view().beat(term=3, beat=1, deadline_ms=QUICK_MS)


# What fails without each of them.
def _settings(stages: Stages) -> Result:
    reading = stages[0].view().settings(deadline_ms=QUICK_MS)
    outcome = Outcome.FAILED if reading.health is Health.UNKNOWN else Outcome.SUCCEEDED
    return Result(outcome, reading.code, reading.reason)


NEEDS: dict[str, dict[str, Callable[[Stages], Result]]] = {
    "mariadb": {
        "PROCESS": _blocked_by_a_client,
        "CONNECTION ADMIN": _blocked_by_a_client,
        "READ ONLY ADMIN": _blocked_by_a_client,
        "REPLICA MONITOR": _read,
        "REPLICATION SLAVE ADMIN": _freeze,
        "REPLICATION MASTER ADMIN": _be_source_again,
        "RELOAD": _be_source,
        "BINLOG REPLAY": _first_write,
        "SELECT ON failoverd.heartbeat": _read,
        "INSERT ON failoverd.heartbeat": _beat,
        "UPDATE ON failoverd.heartbeat": _beat,
        "SELECT ON failoverd.journal": _journal,
        "INSERT ON failoverd.journal": _journal,
        "BINLOG MONITOR": _settings,
        "SELECT (db, name, status) ON mysql.event": _settings,
    },
    "mysql": {
        "PROCESS": _blocked_by_a_client,
        "CONNECTION_ADMIN": _blocked_by_a_client,
        "SYSTEM_USER": _blocked_by_root,
        "SYSTEM_VARIABLES_ADMIN": _be_source_again,
        "REPLICATION CLIENT": _read,
        "REPLICATION_SLAVE_ADMIN": _freeze,
        "RELOAD": _be_source,
        "SELECT ON failoverd.heartbeat": _read,
        "INSERT ON failoverd.heartbeat": _beat,
        "UPDATE ON failoverd.heartbeat": _beat,
        "SELECT ON failoverd.journal": _journal,
        "INSERT ON failoverd.journal": _journal,
    },
}


@pytest.mark.parametrize("dialect", sorted(DATABASES))
def test_every_right_that_is_given_is_one_that_something_needs(dialect: str) -> None:
    # Without it nothing is denied: the tables are not seen (tests/adapters/test_mariadb_settings.py).
    assert RIGHTS[dialect] - {"SHOW VIEW"} == set(NEEDS[dialect])


def test_without_any_one_of_its_rights_something_is_denied(stages: Stages) -> None:
    first, second, _ = stages
    dialect = "mysql" if isinstance(first, MySqlStage) else "mariadb"
    for right, call in NEEDS[dialect].items():
        for stage in (first, second):
            stage.revoke(right) if stage is first or dialect == "mariadb" else None
        result = call(stages)
        assert (result.outcome, result.code) == (Outcome.FAILED, "DB_DENIED"), f"{right}: {result}"
        for stage in (first, second):
            stage.grant(right)
        first.read_only(on=False)
        ok(second.view().follow(address=first.address, deadline_ms=QUICK_MS))
    for call in (_beat, _journal, _freeze, _be_source_again):
        assert call(stages).outcome is Outcome.SUCCEEDED, "with all of them"


# ---- MySQL only ---------------------------------------------------------------------------------------------------


def test_mysql_is_not_made_writable_where_a_crash_could_take_a_number_back(mysql: Stages) -> None:
    first, second, third = mysql
    assert isinstance(second, MySqlStage)
    for name in ("sync_binlog", "innodb_flush_log_at_trx_commit"):
        second.server.variables[name] = 0
        ok(second.database.freeze(deadline_ms=QUICK_MS))
        ok(second.database.become_source(deadline_ms=QUICK_MS))
        result = second.database.make_writable(term=7, deadline_ms=QUICK_MS)
        not_ok(result, Outcome.FAILED, "DB_NOT_DURABLE")
        assert name in result.reason
        assert second.server.variables["super_read_only"] == 1
        second.server.variables[name] = 1
    promote(second, first, third)


def test_mysql_stays_closed_to_clients_until_the_first_heartbeat_is_acknowledged(mysql: Stages) -> None:
    first, second, third = mysql
    assert isinstance(second, MySqlStage)
    first.kill()
    for stage in (second, third):
        ok(stage.database.freeze(deadline_ms=QUICK_MS))
    ok(second.database.become_source(deadline_ms=QUICK_MS))
    for _ in range(2):
        not_ok(second.database.make_writable(term=7, deadline_ms=SHORT_MS), Outcome.UNKNOWN, "DB_NO_ACK")
        assert second.facts().read_only
        assert second.facts().heartbeat_term != 7, "nobody sees it before"
    ok(third.database.follow(address=second.address, deadline_ms=QUICK_MS))
    assert ok(second.database.make_writable(term=7, deadline_ms=QUICK_MS)).read_only is False
    in_step(second, third)
    assert third.facts().heartbeat_term == 7


def test_mysql_makes_read_only_what_only_privileged_accounts_can_write_to(mysql: Stages) -> None:
    first, second, _ = mysql
    assert isinstance(second, MySqlStage)
    second.server.variables["super_read_only"] = 0
    ok(second.database.follow(address=first.address, deadline_ms=QUICK_MS))
    assert second.server.variables["super_read_only"] == 1


def test_mysql_lets_a_replica_attach_that_holds_more_of_another_server(mysql: Stages) -> None:
    """Its own numbers are all that a source looks at, so that the core has to look: `own`."""
    first, second, third = mysql
    second.errant("by hand")
    ok(second.database.follow(address=first.address, deadline_ms=QUICK_MS))
    assert threads(second) == (Thread.RUNNING, Thread.RUNNING)
    assert second.facts().own.count == 1
    assert not first.facts().holdings.covers(second.facts().own)
    # And of the source's own it does refuse what it lacks.
    assert isinstance(third, MySqlStage)
    assert isinstance(first, MySqlStage)
    third.server.executed.add((first.server.uuid, 500))
    third.receiver(run=False)
    third.receiver(run=True)
    replication = third.facts().replication
    assert replication is not None
    assert replication.receiver is Thread.STOPPED
    assert replication.refused, "the core knows MySQL's words for it"


def test_mysql_what_may_have_thrown_the_relay_log_away_ends_a_run(mysql: Stages) -> None:
    first, second, third = mysql
    assert isinstance(second, MySqlStage)
    seen = [second.facts().run]
    ok(second.database.freeze(deadline_ms=QUICK_MS))
    ok(second.database.follow(address=first.address, deadline_ms=QUICK_MS))
    second.receiver(run=False)
    second.applier(run=False)
    ok(second.database.follow(address=first.address, deadline_ms=QUICK_MS))
    assert second.facts().run == seen[0], "starting both threads keeps the relay log"
    ok(second.database.follow(address=third.address, deadline_ms=QUICK_MS))
    ok(second.database.follow(address=first.address, deadline_ms=QUICK_MS))
    assert second.facts().run == seen[0], "failoverd's own change of source, which was not of this term"
    for name in second.server.counts:
        second.server.counts[name] += 1  # an administrator's
        assert second.facts().run not in seen
        seen.append(second.facts().run)


def test_mysql_says_that_a_plugin_is_not_loaded(mysql: Stages) -> None:
    """What plugin_load_add was forgotten for is not an unknown failure: the server's own words name the variable."""
    first, _, _ = mysql
    assert isinstance(first, MySqlStage)
    first.server.plugins = False
    reading = first.database.status(deadline_ms=QUICK_MS)
    assert (reading.health, reading.code) == (Health.FAILED, "DB_SQL")
    assert "Unknown system variable 'rpl_semi_sync_source_enabled'" in reading.reason


def test_mysql_logs_in_without_a_cached_password_and_with_one(mysql: Stages) -> None:
    """caching_sha2_password over a Unix socket: pymysql must know that it may tell the password itself."""
    first, _, _ = mysql
    assert isinstance(first, MySqlStage)
    first.server.cached.clear()
    for _ in range(2):
        assert first.view().status(deadline_ms=QUICK_MS).health is Health.OK
    assert first.server.cached == {"failoverd"}


def test_every_statement_of_the_table_is_said_and_has_its_section(mysql: Stages) -> None:
    first, second, third = mysql
    assert isinstance(first, MySqlStage)
    first.server.cluster.used.clear()
    with second.hold_applier():
        first.write("a")
        second.database.await_position(position=first.facts().applied, deadline_ms=SHORT_MS)
    with first.client():
        ok(first.database.make_read_only(deadline_ms=QUICK_MS))
    promote(second, first, third)
    ok(second.database.write_journal(term=7, holder=MAIL2, previous=MAIL1, reason="a", deadline_ms=QUICK_MS))
    ok(second.database.beat(term=7, beat=2, deadline_ms=QUICK_MS))
    first.applier(run=False)
    ok(first.database.follow(address=second.address, deadline_ms=QUICK_MS))
    settings(first)
    table = {statement.pattern: statement.section for statement in mysql_model.STATEMENTS}
    assert first.server.cluster.used == set(table) - {r"SET AUTOCOMMIT = 1"}, (
        "the last is pymysql's, where it is needed"
    )
    assert all(table.values())
