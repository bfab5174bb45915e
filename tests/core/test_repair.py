"""A stopped replication: its cause by MariaDB's own words, and that what cannot pass is not tried for ever."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from views import replica_facts, replication, view

from failoverd.core.effects import StepKind
from failoverd.core.model import Outcome, Thread
from failoverd.core.plan import Ended, Progress, next_step
from failoverd.core.repair import CODES, Cause, causes, to_rebuild
from failoverd.core.rules import Decision

if TYPE_CHECKING:
    from failoverd.core.view import View

PURGED = (
    "1236: Got fatal error 1236 from master when reading data from binary log: 'Could not find GTID state requested by "
    "slave in any binlog files. Probably the slave state is too old and required binlog files have been purged.'"
)
NOT_THERE = (
    "1236: Got fatal error 1236 from master when reading data from binary log: 'Error: connecting slave requested to "
    "start from GTID 0-1-503, which is not in the master's binlog'"
)
MYSQL = "Got fatal error 1236 from source when reading data from binary log: "
RECEIVER = {
    "2003: error connecting to master 'repl@10.89.1.11:3306' - retry-time: 1  maximum-retries: 100000": "REPL_NETWORK",
    "2013: Lost connection to server during query": "REPL_NETWORK",
    "1045: error connecting to master 'repl@10.89.1.11:3306'": "REPL_CREDENTIALS",
    PURGED: "REPL_PURGED",
    NOT_THERE: "REPL_DIVERGED",
    f"13114: {MYSQL}'Replica has more GTIDs than the source has, using the source's SERVER_UUID.'": "REPL_DIVERGED",
    f"13114: {MYSQL}'Cannot replicate because the source purged required binary logs.'": "REPL_PURGED",
    "1236: Got fatal error 1236 from master: 'binlog truncated in the middle of event'": "REPL_OTHER",
    "1021: Disk full (/var/lib/mysql/relay-bin); waiting for someone to free some space": "REPL_STORAGE",
    "1593: Fatal error: equal server ids": "REPL_OTHER",
}
APPLIER = {
    "1032: Could not execute Update_rows_v1 event on table mail.users; Can't find record in 'users'": "REPL_DIVERGED",
    "1062: Could not execute Write_rows_v1 event on table mail.users; Duplicate entry '7'": "REPL_DIVERGED",
    "1396: Error 'Operation CREATE USER failed for 'a'@'b'' on query": "REPL_DIVERGED",
    "1950: An attempt was made to binlog GTID 0-1-7 which would create an out-of-order sequence": "REPL_DIVERGED",
    "1146: Error executing row event: 'Table 'mail.users' doesn't exist'": "REPL_DIVERGED",
    "1114: The table 'users' is full": "REPL_STORAGE",
    "1205: Lock wait timeout exceeded; try restarting transaction": "REPL_LOCKED",
    "1213: Deadlock found when trying to get lock; try restarting transaction": "REPL_LOCKED",
    "1594: Relay log read failure": "REPL_OTHER",
    "words of a peer without a number": "REPL_OTHER",
}
REBUILT = {"REPL_PURGED", "REPL_DIVERGED"}


@pytest.mark.parametrize(("error", "code"), RECEIVER.items())
@pytest.mark.parametrize("thread", [Thread.STOPPED, Thread.CONNECTING])
def test_a_receivers_cause(error: str, code: str, thread: Thread) -> None:
    found = replication(receiver=thread, receiver_error=error)
    assert causes(found) == (Cause(code, error),)
    assert to_rebuild(found) is (code in REBUILT)


@pytest.mark.parametrize(("error", "code"), APPLIER.items())
def test_an_appliers_cause(error: str, code: str) -> None:
    found = replication(applier=Thread.STOPPED, applier_error=error)
    assert causes(found) == (Cause(code, error),)
    assert to_rebuild(found) is (code in REBUILT)


def test_every_code_has_an_example() -> None:
    assert {*RECEIVER.values(), *APPLIER.values()} == set(CODES)


def test_both_threads_are_told_and_one_to_rebuild_is_enough() -> None:
    found = replication(
        receiver=Thread.STOPPED, receiver_error="2013: Lost", applier=Thread.STOPPED, applier_error="1062: Duplicate"
    )
    assert [cause.code for cause in causes(found)] == ["REPL_NETWORK", "REPL_DIVERGED"]
    assert to_rebuild(found)


def test_a_thread_that_runs_or_was_stopped_on_purpose_is_no_trouble() -> None:
    assert causes(replication(applier_error="1062: of before")) == ()
    assert causes(replication(receiver=Thread.STOPPED)) == ()


def follow_again(known: View) -> bool:
    """Whether a replica whose FOLLOW once succeeded would take that step again."""
    done = Progress(ended=(Ended(StepKind.FOLLOW, Outcome.SUCCEEDED, 0, 0),))
    return next_step(known, Decision.FOLLOW, done) is StepKind.FOLLOW


@pytest.mark.parametrize(("error", "code"), APPLIER.items())
def test_a_thread_is_started_again_only_where_that_can_help(error: str, code: str) -> None:
    stopped = replica_facts(applier=Thread.STOPPED, applier_error=error)
    assert follow_again(view("mail2", database=stopped)) is (code not in REBUILT)


def test_a_daemon_that_has_just_started_does_not_start_it_either() -> None:
    stopped = replica_facts(receiver=Thread.STOPPED, receiver_error=PURGED)
    assert next_step(view("mail2", database=stopped), Decision.FOLLOW, Progress()) is None


def test_another_primary_may_have_what_the_former_had_purged() -> None:
    stopped = replica_facts(source="mail3", receiver=Thread.STOPPED, receiver_error=PURGED)
    assert follow_again(view("mail2", database=stopped))


def test_what_a_person_has_put_right_and_stopped_again_is_started() -> None:
    assert follow_again(view("mail2", database=replica_facts(applier=Thread.STOPPED)))
