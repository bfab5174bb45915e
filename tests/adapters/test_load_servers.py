"""The load against a real Dovecot and a real Postfix: what it says is what they did, whatever happens to them."""

from __future__ import annotations

import contextlib
import signal
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from load_stage import DEFERS, IMAP, IMAPS, REJECTS, SUBMISSION, SUBMISSIONS, Running, Servers, now_ms, staged
from mariadb_servers import wait_for

from failoverd.drill import limits

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Any

    from failoverd.drill.model import LoadDone, Second

pytestmark = pytest.mark.root
Tls = dict[str, object]
IMPLICIT: Tls = {"imap_port": IMAPS, "imap_tls": "implicit", "smtp_port": SUBMISSIONS, "smtp_tls": "implicit"}
STARTTLS: Tls = {"imap_port": IMAP, "imap_tls": "starttls", "smtp_port": SUBMISSION, "smtp_tls": "starttls"}
BAD = ("failed", "refused", "rejected", "unknown")
PATIENCE_MS = 5000  # with a machine that has other work: ten times what it takes
NEAR = 0.05  # of each other, what the generator counts and what servers do


@pytest.fixture(scope="module")
def staged_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    yield from staged(tmp_path_factory.mktemp("stage"), tmp_path_factory.mktemp("above"))


@pytest.fixture
def servers(staged_servers: Servers) -> Servers:
    staged_servers.forget()
    return staged_servers


@contextlib.contextmanager
def running(servers: Servers, directory: Path, **other: Any) -> Iterator[Running]:
    """Run people; they are gone afterwards."""
    load = Running(servers.plan(directory, **other), servers.network)
    try:
        yield load
    finally:
        load.kill()


def total(load: Running, how: str) -> int:
    """Of both protocols."""
    return sum(getattr(tally, how) for second in load.seconds for tally in (second.imap, second.smtp))


def connected(servers: Servers) -> int:
    """How many IMAP sessions Dovecot has."""
    return servers.run("doveadm", "-f", "tab", "who", "-1").count("\timap\t")


def proved(servers: Servers, *loads: tuple[Running, LoadDone], delivered: bool = True) -> None:
    """All that was acknowledged is there once, and the servers' logs tell of as much as the generator does.

    Not `delivered`: in Postfix's queue is good as well. Mailboxes of a Dovecot that was killed may stay locked a while.
    """
    if delivered:
        servers.delivered()
    queued = servers.queued()  # before the mailboxes: what moves meanwhile is seen at least once
    held, counted = Counter(servers.held()), servers.counted()
    there = held.keys() | queued
    assert set(held.values()) == {1}
    for load, done in loads:
        ledger = load.ledger()
        assert {one.message_id for one in ledger} <= there
        assert len({one.message_id for one in ledger}) == len(ledger) == done.appended + done.submitted
    logins, submitted, appended = (
        sum(getattr(done, name) for _, done in loads) for name in ("logins", "submitted", "appended")
    )
    unknown = sum(done.logins_unknown for _, done in loads)
    assert logins * (1 - NEAR) <= counted.logins <= (logins + unknown) * (1 + NEAR)
    unknown = sum(done.submits_unknown + done.appends_unknown for _, done in loads)
    assert submitted <= len(counted.submitted) <= submitted + unknown
    assert submitted + appended <= len(there) <= submitted + appended + unknown


def within(load: Running, from_ms: int, until_ms: int) -> list[Second]:
    """All seconds that lie in this time, of which there is one at least."""
    found = [second for second in load.seconds if from_ms <= second.at_ms and second.at_ms + 1000 <= until_ms]
    assert found
    return found


def missed(done: LoadDone, from_ms: int, until_ms: int) -> None:
    """IMAP's beats had a gap from before then until after then, and little longer."""
    at_ms = (from_ms + until_ms) / 2
    [gap] = [gap for gap in done.gaps if gap.protocol == "imap" and gap.from_ms <= at_ms <= gap.until_ms]
    late_ms = done.late_max_ms + 20
    assert from_ms - PATIENCE_MS <= gap.from_ms <= from_ms + late_ms
    assert until_ms - late_ms <= gap.until_ms <= until_ms + PATIENCE_MS


@contextlib.contextmanager
def several(servers: Servers, directory: Path, plans: dict[str, dict[str, Any]]) -> Iterator[dict[str, Running]]:
    """Run people of each plan, at the same time."""
    with contextlib.ExitStack() as stack:
        for name in plans:
            (directory / name).mkdir()
        yield {name: stack.enter_context(running(servers, directory / name, **plan)) for name, plan in plans.items()}


def test_what_people_do_is_done_and_counted_as_servers_count_it(servers: Servers, tmp_path: Path) -> None:
    with several(servers, tmp_path, {"implicit": IMPLICIT, "starttls": STARTTLS}) as loads:
        for one in loads.values():
            one.until(lambda one=one: one.sessions == 6, name="all six to be logged in")
            one.until(lambda one=one: one.ok("imap") > 20 and one.ok("smtp") > 8, name="some operations")
        dones = {name: load.stop() for name, load in loads.items()}
    proved(servers, *((load, dones[name]) for name, load in loads.items()))
    for name, load in loads.items():
        assert {how: total(load, how) for how in BAD} == dict.fromkeys(BAD, 0)
        assert dones[name].most_sessions == 6
        assert load.ok("smtp") == dones[name].submitted > 0
        assert dones[name].appended > 0
        assert load.ok("imap") > dones[name].appended  # the rest are fetches
        assert sum(second.imap.beats_ok for second in load.seconds) > 10
        assert load.longest < 1 << 16
        for line in load.ledger():
            assert line.mailbox == ("Drill" if line.how == "append" else "INBOX")
            assert line.account in servers.accounts


def test_what_postfix_does_not_take_is_counted_by_what_it_says(servers: Servers, tmp_path: Path) -> None:
    rest = {"appends": 0.0, "fetches": 0.0, "submits": 200.0}
    plans = {"refused": {"smtp_port": DEFERS, **rest}, "rejected": {"smtp_port": REJECTS, **rest}}
    with several(servers, tmp_path, plans) as loads:
        for how, load in loads.items():
            load.until(lambda load=load, how=how: total(load, how) > 5, name=f"some {how}")
        dones = [load.stop() for load in loads.values()]
    for how, load in loads.items():
        others = {"ok", *BAD} - {how, "failed"}  # those that the end cuts short
        assert {name: total(load, name) for name in others} == dict.fromkeys(others, 0)
        assert load.ledger() == []
        assert sum(second.smtp.beats_ok for second in load.seconds) > 0  # they send nothing
    assert [done.submitted for done in dones] == [0, 0]


def test_people_come_and_go_as_they_are_told(servers: Servers, tmp_path: Path) -> None:
    with running(servers, tmp_path, users=30, beats_per_s=0) as load:
        load.until(lambda: load.sessions == 30, name="thirty sessions")
        load.tell({"users": 3})
        load.until(lambda: load.sessions == 3, name="three sessions")
        assert load.now[-1].users == 3
        wait_for(lambda: connected(servers) == 3, name="the others to have logged out")
        load.tell({"users": 12})
        load.until(lambda: load.sessions == 12, name="twelve sessions")
        assert connected(servers) == 12
        done = load.stop()
    assert done.most_sessions == 30
    assert total(load, "failed") == 0
    proved(servers, (load, done))


def test_a_server_that_stands_still_and_one_that_dies_are_missed_for_as_long_as_they_are_away(
    servers: Servers, tmp_path: Path
) -> None:
    with running(servers, tmp_path, users=10, fetches=240.0) as load:
        load.until(lambda: load.sessions == 10 and load.ok("imap") > 10, name="ten people at work")
        servers.signal_dovecot(signal.SIGSTOP)
        stopped_ms = now_ms()
        time.sleep(2.1)  # what is measured, not waited for; there is a whole second in it
        continued_ms = now_ms()
        servers.signal_dovecot(signal.SIGCONT)
        load.until(lambda: load.ok("imap", continued_ms) > 5, name="operations after it")
        servers.kill_dovecot()
        killed_ms = now_ms()
        load.until(lambda: load.sessions == 0, name="nobody to be logged in")
        time.sleep(2)  # likewise
        started_ms = now_ms()
        servers.start_dovecot()
        load.until(lambda: load.sessions == 10, name="all to be back")
        since_ms = now_ms()
        load.until(lambda: load.ok("imap", since_ms) > 5 and load.ok("smtp", since_ms) > 2, name="work to go on")
        done = load.stop()
    proved(servers, (load, done), delivered=False)
    # It stood still: slow from when people wanted something.
    meant, still = 0, within(load, stopped_ms, continued_ms)
    for second in still:
        # Meant for this second, answered when the server went on: no fewer, and none quicker than that took.
        meant += second.imap.ok
        assert second.imap.failed == second.imap.refused == second.imap.rejected == second.imap.unknown == 0
        quickest = min((float(bound) for bound in second.imap.latency), default=float("inf"))
        assert quickest >= continued_ms - (second.at_ms + 1000)
        assert second.imap.beats_ok == 0 or second.at_ms + 2000 > continued_ms  # one waits for a second at most
    # People want as much as ever, ten of them at 280 things a minute: within five sigmas.
    wanted = len(still) * 10 * 280 / 60
    assert meant == pytest.approx(wanted, abs=5 * wanted**0.5)
    missed(done, stopped_ms, continued_ms)
    # It died.
    missed(done, killed_ms, started_ms)
    away = within(load, killed_ms, started_ms)
    assert sum(second.imap.beats_ok for second in away) == 0
    assert sum(second.imap.beats_failed for second in away) > 5
    # Postfix is there, and cannot ask who they are: 454, or a process of it that ends at once.
    assert sum(second.smtp.refused + second.smtp.failed for second in away) > 0
    assert sum(second.smtp.ok for second in away) == 0


def test_what_was_acknowledged_is_in_the_ledger_though_the_generator_is_killed(
    servers: Servers, tmp_path: Path
) -> None:
    with running(servers, tmp_path, users=10, appends=600.0, fetches=0.0, submits=0.0, beats_per_s=0) as load:
        load.until(lambda: len(load.ledger()) > 100, name="a hundred messages")
    ledger = {one.message_id for one in load.ledger()}
    wait_for(lambda: connected(servers) == 0, name="the sessions to end")
    held = Counter(servers.held())
    assert ledger <= held.keys()
    assert set(held.values()) == {1}
    assert len(held.keys() - ledger) <= 10  # one of each person was under way


def test_the_limits_that_a_dry_run_names_are_this_dovecots(servers: Servers) -> None:
    found = limits.read((*servers._enter, "doveconf"))
    assert found.keys() == {*limits.DOVECOT, limits.INSTANCES}
    assert found[limits.USERIP] == int(servers.run("doveconf", "-h", limits.USERIP))
    assert found["service/imap/process_limit"] >= 1
    assert found[limits.PROCESSES] >= 1
