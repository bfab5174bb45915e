"""Monitoring against what it reads: a journal through journalctl, this kernel's processes, a program like doveadm."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from journal_stage import Written
from mariadb_servers import wait_for

from failoverd.config import AuthFailures, AuthSource
from failoverd.core.model import Health, NodeName
from failoverd.core.monitoring import LoginFacts, SessionFacts
from failoverd.ports import Target
from failoverd.probes.deadline import observe
from failoverd.probes.journal import Journal
from failoverd.probes.logins import LoginsProbe, MailTally
from failoverd.probes.maillog import WORDS
from failoverd.probes.processes import processes_of, unit_of
from failoverd.probes.sessions import SessionsProbe
from failoverd.runtime.clock import BootClock

if TYPE_CHECKING:
    from collections.abc import Iterator

IMAP, SMTP = "dovecot.service", "postfix@-.service"
ME = Target(NodeName("mail1"), "10.89.1.11")
FAILED = (
    "imap-login: Disconnected: Connection closed (auth failed, 1 attempts in 2 secs): user=<{}>, method=PLAIN, "
    "rip=192.0.2.9, lip=10.89.1.100, TLS, session=<a>"
)
ACCEPTED = "imap-login: Login: user=<a>, method=PLAIN, rip=192.0.2.7, lip=10.89.1.100, mpid=7, TLS, session=<a>"
SENT = "3F1A2B: to=<a@b.test>, relay=x[10.0.0.1]:24, delay=0, delays=0/0/0/0, dsn=2.0.0, status=sent (250 ok)"


@pytest.fixture
def written(tmp_path: Path) -> Written:
    journal = Written(tmp_path)
    journal.write((IMAP, "dovecot", FAILED.format("before")))
    return journal


@pytest.fixture
def heard() -> list[tuple[str, str, str]]:
    return []


@pytest.fixture
def journal(written: Written, heard: list[tuple[str, str, str]]) -> Iterator[Journal]:
    made = Journal(
        [IMAP, SMTP],
        lambda *line: heard.append(line),
        words=WORDS,
        source=written.source,
        directories=[written.directory],
    )
    yield made
    pid = made.pid
    made.close()
    if pid is not None:
        wait_for(lambda: not Path(f"/proc/{pid}").exists(), name="journalctl to end")


def follow(journal: Journal, written: Written, heard: list[tuple[str, str, str]]) -> None:
    """Start it, and wait until it is told of what is written: where it began to read is not told."""
    journal.start()

    def told() -> bool:
        written.write((IMAP, "dovecot", ACCEPTED))
        return bool(heard)

    wait_for(told, name="a line of the journal")
    heard.clear()


def marked(heard: list[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """Without the lines that `follow` wrote."""
    return [line for line in heard if line[2] != ACCEPTED]


def test_lines_of_the_units_are_heard_from_now_on_and_no_others(
    journal: Journal, written: Written, heard: list[tuple[str, str, str]]
) -> None:
    follow(journal, written, heard)
    last = (SMTP, "postfix/lmtp", SENT)
    written.write(
        ("ssh.service", "dovecot", FAILED.format("another unit")),
        ("session-1.scope", "postfix/lmtp", SENT),
        (IMAP, "dovecot", FAILED.format("one")),
        (IMAP, "dovecot", FAILED.format("two\nimap-login: Login: user=<x>")),
        (IMAP, "dovecot", FAILED.format("b").encode() + b"\xff\x00"),
        (IMAP, "dovecot", "imap-login: Disconnected (no auth attempts in 0 secs): user=<>"),
        (IMAP, "dovecot", FAILED.format("x" * 5000)),
        last,
    )
    wait_for(lambda: last in heard, name="the last line")
    assert marked(heard) == [
        (IMAP, "dovecot", FAILED.format("one")),
        (IMAP, "dovecot", FAILED.format("two\nimap-login: Login: user=<x>")),
        last,
    ], "what is no text, or too long, or has none of the words, is left out"


def test_logins_and_deliveries_as_the_probe_tells_them(written: Written) -> None:
    tally = MailTally(IMAP, SMTP, "canary", ["10.89.1.11"], AuthFailures(), AuthSource())
    journal = Journal([IMAP, SMTP], tally.hear, words=WORDS, source=written.source, directories=[written.directory])
    probe = LoginsProbe(journal, tally)

    def look() -> LoginFacts | None:
        reading = asyncio.run(observe("logins", probe, ME, 1000, BootClock())).reading
        assert reading.code != "PROBE_BUG"
        return reading.facts if isinstance(reading.facts, LoginFacts) else None

    def delivered() -> bool:
        """Beside more lines, as on any host: journalctl may hear of a line only with the next."""
        written.write((IMAP, "dovecot", "nothing of note"))
        return (look() or LoginFacts(0, 0, 0, 0)).deliveries == 3

    def reads() -> bool:
        written.write((IMAP, "dovecot", ACCEPTED))
        facts = look()
        return facts is not None and facts.accepted > 0

    try:
        wait_for(reads, name="the journal to be read")
        assert (look() or LoginFacts(0, 1, 0, 0)).refused == 0, "it begins with the daemon"
        hostile = "x>, method=PLAIN, rip=198.51.100.1, lip=1.1.1.1, TLS, session=<a"
        written.write(*[(IMAP, "dovecot", FAILED.format(hostile))] * 60, *[(SMTP, "postfix/lmtp", SENT)] * 3)
        wait_for(delivered, name="the deliveries")
        facts = look()
        assert facts is not None
        assert facts.refused == 60
        assert [code for code, _ in facts.found] == ["MON_AUTH_FAILURES", "MON_AUTH_SOURCE"]
        assert dict(facts.found)["MON_AUTH_SOURCE"] == "failed logins within 3600 s: 60 from 192.0.2.9; > 50"
    finally:
        asyncio.run(probe.close())


def test_who_is_far_behind_jumps_to_now(journal: Journal, written: Written, heard: list[tuple[str, str, str]]) -> None:
    follow(journal, written, heard)
    before = journal.pid
    written.write((IMAP, "dovecot", FAILED.format("old")), ago_s=3600)
    wait_for(lambda: journal.lost == 1 and journal.pid not in {None, before}, name="the jump")
    follow(journal, written, heard)


def test_a_journalctl_that_dies_is_told(journal: Journal, written: Written, heard: list[tuple[str, str, str]]) -> None:
    follow(journal, written, heard)
    assert journal.error == ""
    assert journal.pid is not None
    os.kill(journal.pid, signal.SIGKILL)
    wait_for(lambda: journal.error == "journalctl ended with -9", name="the end")


def test_without_a_journal_there_is_a_reason(tmp_path: Path) -> None:
    journal = Journal([IMAP], lambda *_: None, directories=[tmp_path])
    journal.start()
    wait_for(lambda: journal.error == f"there is no journal below {tmp_path}", name="the reason")
    journal.close()
    journal.close()


def test_closed_before_it_was_started() -> None:
    Journal([IMAP], lambda *_: None).close()


DAEMON = """
import sys, time
from pathlib import Path
from failoverd.probes.journal import Journal
journal = Journal(["dovecot.service"], lambda *_: None, source=[f"--directory={sys.argv[1]}"],
                  directories=[Path(sys.argv[1])])
journal.start()
while journal.pid is None:
    time.sleep(0.01)
print(journal.pid, flush=True)
time.sleep(600)
"""


def test_a_daemon_that_is_killed_leaves_no_journalctl_behind(written: Written) -> None:
    with subprocess.Popen([sys.executable, "-c", DAEMON, str(written.directory)], stdout=subprocess.PIPE) as daemon:
        assert daemon.stdout is not None
        child = int(daemon.stdout.readline())
        assert psutil.pid_exists(child)
        daemon.kill()
    wait_for(lambda: not psutil.pid_exists(child) or psutil.Process(child).status() == "zombie", name="its end")


# ---- processes ---------------------------------------------------------------------------------------------------


def cgroups(proc: Path, units: dict[int, str]) -> None:
    for pid, path in units.items():
        (proc / str(pid)).mkdir(exist_ok=True)
        (proc / str(pid) / "cgroup").write_text(path)


def test_whose_a_process_is_in_either_hierarchy(tmp_path: Path) -> None:
    units = frozenset({IMAP, SMTP})
    cgroups(
        tmp_path,
        {
            1: "0::/system.slice/dovecot.service\n",
            2: "12:pids:/x\n1:name=systemd:/system.slice/system-postfix.slice/postfix@-.service\n0::/\n",
            3: "0::/system.slice/dovecot.service.d/x\n",
            4: "0::/user.slice/user-0.slice/session-1.scope\n",
            5: "0::/system.slice/dovecot.service/worker\n",
        },
    )
    assert [unit_of(pid, units, tmp_path) for pid in range(1, 7)] == [IMAP, SMTP, None, None, IMAP, None]


WORKER = """
import os, sys
if os.fork() == 0:  # a child that works and ends: its time is in its parent's account
    while sum(os.times()[:2]) < 0.3:
        pass
    os._exit(0)
os.wait()
kept = bytearray(b"x" * 40_000_000)
print("ready", flush=True)
sys.stdin.read()
"""


def test_real_processes_with_the_time_of_their_ended_children(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == b"ready\n"
        cgroups(tmp_path, {worker.pid: "0::/system.slice/postfix@-.service\n"})
        (found,) = processes_of(frozenset({SMTP}), tmp_path)
        assert (found.pid, found.unit) == (worker.pid, SMTP)
        assert found.cpu_s >= 0.3
        assert found.rss > 40_000_000
        worker.kill()
    assert processes_of(frozenset({SMTP}), tmp_path) == [], "it has ended"


# ---- doveadm -----------------------------------------------------------------------------------------------------


def doveadm(path: Path, script: str) -> SessionsProbe:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return SessionsProbe(1000, "canary@b.test", str(path))


@pytest.mark.parametrize(
    ("script", "facts", "why"),
    [
        (r'[ "$*" = "-f tab who" ] && printf "username\tconnections\tproto\tpids\tips\na\t2\timap\t(1)\t(x)\n"',
         SessionFacts(2), ""),
        ('echo "doveadm: Fatal: no anvil" >&2; exit 75', None, "doveadm: doveadm: Fatal: no anvil"),
        ("exit 1", None, "doveadm: it ended with 1"),
        ("sleep 60", None, "doveadm: it ended with None"),
    ],
)  # fmt: skip
def test_sessions_as_a_program_tells_them(tmp_path: Path, script: str, facts: SessionFacts | None, why: str) -> None:
    probe = doveadm(tmp_path / "doveadm", script)
    reading = asyncio.run(observe("sessions", probe, ME, 1000, BootClock())).reading
    assert reading.facts == facts
    if facts is None:
        assert (reading.health, reading.code, reading.reason) == (Health.UNKNOWN, "MON_NO_DOVEADM", why)


def test_without_the_program(tmp_path: Path) -> None:
    reading = asyncio.run(observe("sessions", SessionsProbe(1000, "", str(tmp_path / "x")), ME, 1000, BootClock()))
    assert reading.reading.reason == "doveadm: No such file or directory"
