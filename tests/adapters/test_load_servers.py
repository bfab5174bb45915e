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

    from failoverd.drill.model import Gap, LoadDone, Tally

pytestmark = pytest.mark.root
Tls = dict[str, object]
IMPLICIT: Tls = {"imap_port": IMAPS, "imap_tls": "implicit", "smtp_port": SUBMISSIONS, "smtp_tls": "implicit"}
STARTTLS: Tls = {"imap_port": IMAP, "imap_tls": "starttls", "smtp_port": SUBMISSION, "smtp_tls": "starttls"}
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


def tallies(load: Running) -> list[Tally]:
    return [tally for second in load.seconds for tally in (second.imap, second.smtp)]


def connected(servers: Servers) -> int:
    """How many IMAP sessions Dovecot has."""
    return servers.run("doveadm", "-f", "tab", "who", "-1").count("\timap\t")


def proved(servers: Servers, load: Running, done: LoadDone) -> None:
    """All that was acknowledged is there once, and the servers' logs tell of as much as the generator does."""
    servers.delivered()
    held, ledger = Counter(servers.held()), load.ledger()
    assert {one.message_id for one in ledger} <= held.keys()
    assert set(held.values()) == {1}
    assert len({one.message_id for one in ledger}) == len(ledger) == done.appended + done.submitted
    counted = servers.counted()
    assert counted.logins == pytest.approx(done.logins, rel=NEAR)
    assert len(counted.submitted) == pytest.approx(done.submitted, rel=NEAR)
    assert len(held) == pytest.approx(done.submitted + done.appended, rel=NEAR)


def gap_of(done: LoadDone, at_ms: float) -> Gap:
    """The gap of IMAP's beats at a moment."""
    [gap] = [gap for gap in done.gaps if gap.protocol == "imap" and gap.from_ms <= at_ms <= gap.until_ms]
    return gap


@pytest.mark.parametrize("tls", [IMPLICIT, STARTTLS], ids=["implicit", "starttls"])
def test_what_people_do_is_done_and_counted_as_servers_count_it(tls: Tls, servers: Servers, tmp_path: Path) -> None:
    with running(servers, tmp_path, **tls) as load:
        load.until(lambda: load.sessions == 6, name="all six to be logged in")
        load.until(lambda: load.ok("imap") > 20 and load.ok("smtp") > 8, name="some operations")
        done = load.stop()
    for tally in tallies(load):
        assert (tally.failed, tally.refused, tally.rejected) == (0, 0, 0)
    assert done.most_sessions == 6
    assert load.ok("smtp") == done.submitted > 0
    assert done.appended > 0
    assert load.ok("imap") > done.appended  # the rest are fetches
    assert sum(second.imap.beats_ok for second in load.seconds) > 10
    assert load.longest < 1 << 16
    proved(servers, load, done)
    for one in load.ledger():
        assert one.mailbox == ("Drill" if one.how == "append" else "INBOX")
        assert one.account in servers.accounts


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
    assert all(tally.failed == 0 for tally in tallies(load))
    proved(servers, load, done)


def test_a_server_that_stands_still_is_slow_from_when_people_wanted_something(servers: Servers, tmp_path: Path) -> None:
    with running(servers, tmp_path, users=10, submits=0.0) as load:
        load.until(lambda: load.sessions == 10, name="ten sessions")
        since_ms = load.seconds[-1].at_ms if load.seconds else now_ms()
        load.until(lambda: load.ok("imap", since_ms) > 5, name="some operations")
        servers.signal_dovecot(signal.SIGSTOP)
        stopped_ms = now_ms()
        time.sleep(3)  # what is measured, not waited for
        continued_ms = now_ms()
        servers.signal_dovecot(signal.SIGCONT)
        after_ms = (continued_ms // 1000 + 1) * 1000
        load.until(lambda: load.ok("imap", after_ms) > 5, name="operations after it")
        done = load.stop()
    still = [one for one in load.seconds if stopped_ms <= one.at_ms and one.at_ms + 1000 <= continued_ms]
    assert len(still) >= 1
    meant = 0
    for second in still:
        # Meant for this second, answered when the server went on: no fewer, and none quicker than that took.
        meant += second.imap.ok
        assert second.imap.failed == second.imap.refused == second.imap.rejected == 0
        quickest = min((float(bound) for bound in second.imap.latency), default=float("inf"))
        assert quickest >= continued_ms - (second.at_ms + 1000)
        assert second.imap.beats_ok == 0 or second.at_ms + 2000 > continued_ms  # one waits for a second at most
    assert meant > 0
    gap = gap_of(done, (stopped_ms + continued_ms) / 2)
    late_ms = done.late_max_ms + 20
    assert stopped_ms - PATIENCE_MS <= gap.from_ms <= stopped_ms + late_ms
    assert continued_ms - late_ms <= gap.until_ms <= continued_ms + PATIENCE_MS
    proved(servers, load, done)


def test_a_server_that_dies_is_missed_for_as_long_as_it_is_away(servers: Servers, tmp_path: Path) -> None:
    with running(servers, tmp_path) as load:
        load.until(lambda: load.sessions == 6 and load.ok("imap") > 10, name="six people at work")
        servers.kill_dovecot()
        killed_ms = now_ms()
        load.until(lambda: load.sessions == 0, name="nobody to be logged in")
        time.sleep(2)  # what is measured, not waited for
        started_ms = now_ms()
        servers.start_dovecot()
        load.until(lambda: load.sessions == 6, name="all to be back")
        since_ms = now_ms()
        load.until(lambda: load.ok("imap", since_ms) > 5 and load.ok("smtp", since_ms) > 2, name="work to go on")
        done = load.stop()
    gap = gap_of(done, (killed_ms + started_ms) / 2)
    late_ms = done.late_max_ms + 20
    assert killed_ms - PATIENCE_MS <= gap.from_ms <= killed_ms + late_ms
    assert started_ms - late_ms <= gap.until_ms <= started_ms + PATIENCE_MS
    away = [second for second in load.seconds if killed_ms <= second.at_ms and second.at_ms + 1000 <= started_ms]
    assert away
    assert sum(second.imap.beats_ok for second in away) == 0
    assert sum(second.imap.beats_failed for second in away) > 5
    # Postfix is there, and cannot ask who they are: 454, or a process of it that ends at once.
    assert sum(second.smtp.refused + second.smtp.failed for second in away) > 0
    assert sum(second.smtp.ok for second in away) == 0
    proved(servers, load, done)


@pytest.mark.parametrize(("port", "how"), [(DEFERS, "refused"), (REJECTS, "rejected")])
def test_what_postfix_does_not_take_is_counted_by_what_it_says(
    port: int, how: str, servers: Servers, tmp_path: Path
) -> None:
    with running(servers, tmp_path, smtp_port=port, appends=0.0, fetches=0.0, submits=200.0) as load:
        load.until(lambda: sum(getattr(tally, how) for tally in tallies(load)) > 5, name=f"some {how}")
        done = load.stop()
    counts = Counter(
        {name: sum(getattr(tally, name) for tally in tallies(load)) for name in ("ok", "refused", "rejected")}
    )
    assert counts == {how: counts[how], **{name: 0 for name in ("ok", "refused", "rejected") if name != how}}
    assert load.ledger() == []
    assert done.submitted == 0
    assert sum(second.smtp.beats_failed for second in load.seconds) == 0  # they send nothing


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
