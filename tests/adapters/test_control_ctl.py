"""failoverctl against a real socket with a fake daemon behind it: what is seen, and how it ends."""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result
from control_stage import (
    BEYOND,
    BLOCKED,
    BOUNDED,
    CONDEMNED,
    DEGRADED,
    FIT,
    HEALTHY,
    HOMECOMING,
    OFF,
    PAUSED,
    UNFIT,
    UNPROVEN,
    UNSEEN,
    WARNED,
    Running,
    Stage,
)

from failoverd import __version__
from failoverd.ctl import client, request
from failoverd.ctl.app import COMMANDS, app
from failoverd.ctl.durations import duration
from failoverd.ctl.exits import Exit
from failoverd.runtime.document import Event, HostStatus, Preview, Reason, RebuildStatus, Refused

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

PROGRAM = [sys.executable, "-c", "from failoverd.ctl.app import main; main()"]
STEPS = (
    Event(elapsed_ms=0, node="mail2", text="asked: promote mail2"),
    Event(elapsed_ms=214, node="mail1", text="gate closed"),
)
DONE = Event(elapsed_ms=731, node="mail2", text="proven through the VIP", final=True, succeeded=True)
FAILED = Event(elapsed_ms=900, node="mail1", text="taken back", code="DB_TIMEOUT", final=True)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    with Running(tmp_path / "control.sock", Stage()) as place:
        yield place


def ctl(path: Path, *arguments: str) -> Result:
    """Run failoverctl in this process."""
    return CliRunner().invoke(app, [*arguments, "--socket", str(path)], prog_name="failoverctl")


def started(path: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start failoverctl as a process of its own."""
    command = [*PROGRAM, *arguments, "--socket", str(path)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


# ---- status -----------------------------------------------------------------------------------------------------

SCREENS = {
    "healthy": (
        HEALTHY,
        """\
lab   term 7   primary mail1, lease 2.4 s left   store arbiter, version 4711   seen from mail2

NODE     ROLE     SERVES  IMAP  SMTP  SQL  REPLICATION      LAG  POSITION  HEARD
mail1    primary  ● VIP   up    up    rw   2 acknowledge         0-1-512   0.3 s
mail2    replica  ○       up    up    ro   ← mail1        12 ms  0-1-512    here
mail3    replica  ○       up    up    ro   ← mail1        12 ms  0-1-512   0.3 s
arbiter  arbiter                                                           0.4 s

Failover  possible, to mail2
Now       replica-follows: another node holds the lease and this one follows it
""",
    ),
    "degraded": (
        DEGRADED,
        """\
lab   term 7   primary mail1, lease 2.4 s left   store arbiter, version 4711   seen from mail2

NODE     ROLE            SERVES  IMAP  SMTP  SQL  REPLICATION                LAG  POSITION     HEARD
mail1    primary         ● VIP   up    up    rw   2 acknowledge                   0-1-512      0.3 s
mail2    replica         ○       up    up    ro   ← mail1                  12 ms  0-1-512       here
mail3    fenced→replica  ○       up    down  ro   ← mail1 applier stopped  4.1 s  0-1-498 -14  0.3 s
arbiter  arbiter                                                                               0.4 s

Failover  possible, to mail2
          not mail3  BLK_APPLIER  mail3 does not apply: duplicate entry
Now       replica-follows: another node holds the lease and this one follows it
Request   promote mail2 (by root, "kernel update"): gate closed on mail1

!  mail3  smtp down         arbiter: SMTP_SILENT no banner; mail1: SMTP_REFUSED connection refused
!  mail3  applier           Error 1062: duplicate entry for key PRIMARY
!  mail3  FND_NEEDS_REJOIN  holds 3 transactions that mail1 lacks

1 finding: failoverctl check says what to do
""",
    ),
    "blocked": (
        BLOCKED,
        """\
lab   term 7   primary mail1, lease unknown   store arbiter unreachable   seen from mail2

NODE     ROLE      SERVES  IMAP  SMTP  SQL  REPLICATION      LAG  POSITION  HEARD
mail1    primary?  ● VIP?  up    up    rw?  2 acknowledge         0-1-512    41 s
mail2    replica   ○       up    up    ro   ← mail1        12 ms  0-1-512    here
mail3    ?         ?                   ?                                    never
arbiter  arbiter?                                                            41 s

Failover  NOT possible now
          BLK_STORE  the store does not answer
          BLK_QUORUM  no majority of observers agrees that mail1 is lost
          not mail3  BLK_UNREACHABLE  no report from mail3 within 2000 ms
Now       wait: what the store says is not known

!  arbiter  store   no answer within 500 ms
!  mail1    silent  last heard 41 s ago; what it said of itself is from then
!  mail3    silent  never heard
!  arbiter  silent  last heard 41 s ago; what it said of itself is from then
""",
    ),
}


@pytest.mark.parametrize("name", SCREENS)
def test_status_in_a_pipe_is_this_screen(running: Running, name: str) -> None:
    running.stage.document, screen = SCREENS[name]
    shown = ctl(running.path, "status")
    assert shown.exit_code == Exit.DONE
    assert shown.stdout == screen


CHECKS = {
    "fit": (
        FIT,
        Exit.DONE,
        """\
lab   fit to fail over   no findings   seen from mail2

Failover  possible, to mail2
""",
    ),
    "warned": (
        WARNED,
        Exit.WARNINGS,
        """\
lab   fit to fail over   0 block, 1 warn   seen from mail2

mail3 warns   LAG_WARN  1000 ms behind mail1, the limit is 500 ms
              means  a crash loses what was acknowledged
              fix    set sync_binlog = 1
              page   runbooks/codes/LAG_WARN.md

Failover  possible, to mail2
""",
    ),
    "unseen": (
        UNSEEN,
        Exit.WARNINGS,
        """\
lab   fit to fail over   no findings   seen from mail2

Failover  possible, to mail2
Not seen  arbiter  BLK_STORE  no answer within 500 ms
""",
    ),
    "unfit": (
        UNFIT,
        Exit.FAILED,
        """\
lab   NOT fit to fail over   1 block, 1 warn   seen from mail2

mail3 BLOCKS  SET_SYNC_BINLOG  sync_binlog = 0; allowed: 1
              means  a crash loses what was acknowledged
              fix    set sync_binlog = 1
              page   runbooks/codes/SET_SYNC_BINLOG.md

mail3 warns   LAG_WARN  1000 ms behind mail1, the limit is 500 ms
              means  a crash loses what was acknowledged
              fix    set sync_binlog = 1
              page   runbooks/codes/LAG_WARN.md

Failover  NOT possible now
          BLK_STORE  the store does not answer
          BLK_QUORUM  no majority of observers agrees that mail1 is lost
          not mail3  BLK_UNREACHABLE  no report from mail3 within 2000 ms
""",
    ),
}


@pytest.mark.parametrize("name", CHECKS)
def test_check_is_this_screen_and_ends_with_what_it_found(running: Running, name: str) -> None:
    running.stage.checked, ended, screen = CHECKS[name]
    shown = ctl(running.path, "check")
    assert shown.exit_code == ended
    assert shown.stdout == screen
    told = ctl(running.path, "check", "-o", "json")
    assert told.exit_code == ended
    assert json.loads(told.stdout)["fit"] is running.stage.checked.fit


def test_a_pause_is_told_with_what_ends_it(running: Running) -> None:
    running.stage.document = PAUSED
    shown = ctl(running.path, "status").stdout
    assert "\nPaused    by anna: moving the rack  (nothing acts by itself: failoverctl resume)\n" in shown
    assert "Failover  NOT possible now\n          BLK_PAUSED  paused by anna: moving the rack\n" in shown


def test_that_it_is_unproven_is_the_headline(running: Running) -> None:
    running.stage.document = UNPROVEN
    shown = ctl(running.path, "status").stdout
    assert "\nRPO       UNPROVEN  no replica acknowledges, and writes go on all the same\nFailover  NOT" in shown
    assert "\nRPO " not in ctl_of_healthy(running)


def test_a_bound_is_told_calmly_until_nobody_is_within_it(running: Running) -> None:
    running.stage.document = BOUNDED
    shown = ctl(running.path, "status").stdout
    assert "\nRPO       bounded 30 s  mail2 is 0.5 s behind\nFailover  possible" in shown
    running.stage.document = BEYOND
    shown = ctl(running.path, "status").stdout
    assert "\nRPO       bounded 30 s  mail2 is 41 s behind  no replica is within it\n" in shown


def test_terms_are_told_where_a_node_has_seen_an_older_one(running: Running) -> None:
    nodes = [replace(node, term=7) for node in HEALTHY.nodes]
    running.stage.document = replace(HEALTHY, nodes=tuple(nodes))
    assert "TERM" not in ctl(running.path, "status").stdout
    nodes[2] = replace(nodes[2], term=6, fresh=False)
    running.stage.document = replace(HEALTHY, nodes=tuple(nodes))
    lines = ctl(running.path, "status").stdout.splitlines()
    assert lines[2].startswith("NODE     ROLE      TERM  SERVES  IMAP")
    assert lines[3].startswith("mail1    primary   7     ● VIP   up")
    assert lines[5].startswith("mail3    replica?  6?    ○?      up")
    assert lines[6].startswith("arbiter  arbiter   7  ")


def test_a_disk_is_told_when_it_fills_and_no_finding_says_so_already(running: Running) -> None:
    host = HostStatus(load_per_core=0.2, memory_free_percent=60.0, disk_free_percent=10.0, fullest_disk="/srv/mail")

    def news(host: HostStatus, *findings: Reason) -> list[str]:
        mail3 = replace(HEALTHY.nodes[2], host=host, findings=findings)
        running.stage.document = replace(HEALTHY, nodes=(*HEALTHY.nodes[:2], mail3, HEALTHY.nodes[3]))
        return [line for line in ctl(running.path, "status").stdout.splitlines() if line.startswith("!")]

    assert news(host) == []
    host = replace(host, disk_free_percent=8.25)
    assert news(host) == ["!  mail3  disk  /srv/mail has 8.25 % free"]
    full = Reason(node="mail3", code="DISK_FULL", reason="/srv/mail has 8.2 % free < 9 %")
    assert news(host, full) == ["!  mail3  DISK_FULL  /srv/mail has 8.2 % free < 9 %"]
    told = json.loads(ctl(running.path, "status", "-o", "json").stdout)
    assert told["nodes"][2]["host"]["disk_free_percent"] == 8.25


def ctl_of_healthy(running: Running) -> str:
    running.stage.document = HEALTHY
    return ctl(running.path, "status").stdout


def test_a_primary_that_is_being_fenced_is_told(running: Running) -> None:
    running.stage.document = CONDEMNED
    said = "   primary mail1, mail2 has its power cut, lease 1.2 s left   "
    assert said in ctl(running.path, "status").stdout.splitlines()[0]
    running.stage.document = OFF
    said = "   no primary, mail1 has no power (anna: pulled both plugs)   "
    assert said in ctl(running.path, "status").stdout.splitlines()[0]


def on_a_terminal(path: Path, columns: int) -> str:
    """What `status` writes to a terminal of that width, colours included."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm-256color"}
    environment.pop("NO_COLOR", None)
    process = subprocess.Popen([*PROGRAM, "status", "--socket", str(path)], stdout=theirs, env=environment)
    os.close(theirs)
    written = b""
    try:
        while chunk := os.read(ours, 65536):
            written += chunk
    except OSError:
        pass  # how a pseudo-terminal says that its other end is closed
    os.close(ours)
    assert process.wait(10) == 0
    return written.decode()


def test_a_terminal_gets_colours(running: Running) -> None:
    running.stage.document = DEGRADED
    shown = on_a_terminal(running.path, 120)
    assert "\x1b[1;32mmail1\x1b[0m" in shown
    assert "0-1-498" in shown


def test_a_narrow_terminal_loses_the_position_and_nothing_else(running: Running) -> None:
    running.stage.document = DEGRADED
    shown = on_a_terminal(running.path, 90)
    assert "POSITION" not in shown
    assert "applier stopped" in shown
    assert "…" not in shown


def test_status_for_programs_is_the_document(running: Running) -> None:
    shown = ctl(running.path, "status", "-o", "json")
    assert shown.exit_code == Exit.DONE
    told = json.loads(shown.stdout)
    assert (told["api"], told["holder"], told["nodes"][0]["services"]["imap"]["verdict"]) == ("v1", "mail1", "up")


def test_an_old_terminal_gets_ascii(running: Running) -> None:
    running.stage.document = DEGRADED
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    command = [*PROGRAM, "status", "--socket", str(running.path)]
    shown = subprocess.run(command, env=environment, capture_output=True, check=True, timeout=20)
    assert b"fenced>replica  -       up    down  ro   < mail1" in shown.stdout


@pytest.mark.parametrize(
    ("ms", "said"),
    [(0, "0 ms"), (99, "99 ms"), (100, "0.1 s"), (9_949, "9.9 s"), (41_000, "41 s"), (600_000, "10 min"), (9e6, "2 h")],
)
def test_durations_are_said_as_people_do(ms: float, said: str) -> None:
    assert duration(int(ms)) == said


# ---- promote ----------------------------------------------------------------------------------------------------


def test_promote_shows_each_step_and_ends_well(running: Running) -> None:
    with started(running.path, "promote", "--node", "mail2", "--reason", "kernel update") as process:
        assert process.stdout is not None
        asked = process.stdout.readline  # the first line comes only after the request was taken
        running.until_asked()
        for event in (*STEPS, DONE):
            running.call(lambda event=event: running.stage.logs["r1"].append(event))
            assert asked() == f"  {event.elapsed_ms / 1000:>8.3f} s  {event.node:<8}  {event.text}\n"
        assert process.stdout.read() == "done: mail2 is primary\n"
        assert process.wait(10) == Exit.DONE
    ((target, by, reason),) = running.stage.asked
    assert (target, reason) == ("mail2", "kernel update")
    assert by


def test_promote_that_fails_says_so(running: Running) -> None:
    with started(running.path, "promote", "--node", "mail2") as process:
        running.until_asked()
        running.call(lambda: running.stage.logs["r1"].append(FAILED))
        output, _ = process.communicate(timeout=20)
    assert output.splitlines() == ["     0.900 s  mail1     taken back  DB_TIMEOUT", "failed: mail2 is not primary"]
    assert process.returncode == Exit.FAILED


def test_promote_refused_prints_every_code(running: Running) -> None:
    running.stage.refusal = Refused(
        reasons=(
            Reason(node="mail2", code="BLK_LAG", reason="mail2 is 6200 ms behind, the limit is 5000 ms"),
            Reason(code="BLK_REQUEST", reason="another request is in flight"),
        )
    )
    shown = ctl(running.path, "promote", "--node", "mail2")
    assert shown.exit_code == Exit.REFUSED
    assert shown.stderr.splitlines() == [
        "refused, nothing was touched: mail2 cannot become primary now",
        "  BLK_LAG  mail2 is 6200 ms behind, the limit is 5000 ms",
        "  BLK_REQUEST  another request is in flight",
    ]


def test_a_refusal_names_the_last_resort(running: Running) -> None:
    why = Reason(node="mail2", code="BLK_RPO_UNPROVEN", reason="heard: mail2")
    running.stage.refusal = Refused(reasons=(why,), last_resort="failoverctl promote --node mail2 --force …")
    shown = ctl(running.path, "promote", "--node", "mail2")
    assert shown.exit_code == Exit.REFUSED
    assert shown.stderr.splitlines()[-1] == "last resort: failoverctl promote --node mail2 --force …"


FORCE = ("promote", "--node", "mail2", "--force", "--allow-data-loss", "--reason", "they burnt")


def test_force_reaches_the_daemon_with_its_reason(running: Running) -> None:
    with started(running.path, *FORCE) as process:
        running.until_asked()
        running.call(lambda: running.stage.logs["r1"].append(DONE))
        stdout, _ = process.communicate(timeout=10)
    assert process.returncode == Exit.DONE
    assert stdout.endswith("done: mail2 is primary\n")
    (asked,) = running.stage.asked
    assert (asked[0], asked[2:]) == ("mail2", ("they burnt", "forced"))


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        (("--force",), '--allow-data-loss and --reason "…" (not empty)'),
        (("--allow-data-loss", "--reason", "they burnt"), "--force"),
        (("--force", "--reason", "they burnt"), "--allow-data-loss"),
        (("--force", "--allow-data-loss", "--reason", " "), '--reason "…" (not empty)'),
        (("--force", "--dry-run", "--allow-data-loss"), '--reason "…" (not empty)'),
    ],
)
def test_force_that_is_not_whole_is_usage(running: Running, given: tuple[str, ...], missing: str) -> None:
    shown = ctl(running.path, "promote", "--node", "mail2", *given)
    assert shown.exit_code == Exit.USAGE
    said = " ".join(shown.stderr.split())
    assert f"a forced promotion also needs {missing}: it may lose what clients were told is safe" in said
    assert (running.stage.asked, running.stage.previewed) == ([], [])


def test_a_dry_run_says_what_would_be_passed_and_lost(running: Running) -> None:
    why = Reason(node="mail2", code="BLK_RPO_UNPROVEN", reason="heard: mail2")
    lost = "34 transactions that mail3 has: 0:67-100"
    running.stage.preview = Preview(refused=(), passed=(why,), lost=(lost, "whatever else only mail1 had"))
    shown = ctl(running.path, *FORCE, "--dry-run")
    assert shown.exit_code == Exit.DONE
    assert shown.stdout.splitlines() == [
        "would be forced: mail2 becomes primary past",
        "  BLK_RPO_UNPROVEN  heard: mail2",
        "and this may be lost:",
        f"  {lost}",
        "  whatever else only mail1 had",
    ]
    assert (running.stage.previewed, running.stage.asked) == ([("mail2", True)], [])


def test_a_dry_run_that_would_be_refused_or_lose_nothing(running: Running) -> None:
    assert ctl(running.path, "promote", "--node", "mail2", "--dry-run").stdout.splitlines() == [
        "would be begun: mail2 becomes primary, and nothing acknowledged is lost"
    ]
    running.stage.preview = Preview(refused=(Reason(code="BLK_LEASE", reason="the lease of mail1 is not over"),))
    shown = ctl(running.path, *FORCE, "--dry-run")
    assert shown.exit_code == Exit.REFUSED
    assert shown.stdout.splitlines() == [
        "would be refused: mail2 cannot become primary now, not even by force",
        "  BLK_LEASE  the lease of mail1 is not over",
    ]
    assert running.stage.previewed == [("mail2", False), ("mail2", True)]


def test_the_request_outlives_the_terminal(running: Running) -> None:
    with started(running.path, "promote", "--node", "mail2") as process:
        running.until_asked()
        process.send_signal(signal.SIGHUP)
        assert process.wait(10) == -signal.SIGHUP
    log = running.stage.logs["r1"]
    for event in (*STEPS, DONE):
        running.call(lambda event=event: log.append(event))
    assert log.ended


def test_ctrl_c_only_stops_looking(running: Running) -> None:
    with started(running.path, "promote", "--node", "mail2") as process:
        running.until_asked()
        running.call(lambda: running.stage.logs["r1"].append(STEPS[0]))
        assert process.stdout is not None
        process.stdout.readline()  # it is looking on
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
    assert "not cancelled: it goes on in the daemon" in said
    assert process.returncode == Exit.UNCLEAR


def test_a_daemon_that_ends_meanwhile_leaves_the_outcome_unclear(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request, "REJOIN_S", 0.3)
    monkeypatch.setattr(client, "ANSWER_S", 0.2)
    stopping = threading.Thread(target=lambda: (running.until_asked(), running.stop()))
    stopping.start()
    shown = ctl(running.path, "promote", "--node", "mail2")
    stopping.join()
    assert shown.exit_code == Exit.UNCLEAR
    assert "ask `failoverctl status`" in shown.stderr


def test_events_that_break_off_again_and_again_are_not_followed_for_ever(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each look shows the same first events and ends: that is no sign of life."""
    monkeypatch.setattr(request, "REJOIN_S", 0.5)

    async def broken(_: str) -> AsyncIterator[Event]:
        async def first() -> AsyncIterator[Event]:
            yield STEPS[0]

        return first()

    monkeypatch.setattr(running.stage, "events", broken)
    shown = ctl(running.path, "promote", "--node", "mail2")
    assert shown.exit_code == Exit.UNCLEAR
    assert shown.stdout.count(STEPS[0].text) == 1
    assert "its events ended without an end" in shown.stderr


# ---- confirm-fenced, pause, resume ------------------------------------------------------------------------------

CONFIRM = ("confirm-fenced", "--node", "mail1", "--reason", "pulled both plugs")
OFF_NOW = Event(elapsed_ms=310, node="mail2", text="mail1 has no power", final=True, succeeded=True)
NEVER = Event(elapsed_ms=30_100, node="mail2", text="the store did not take it", code="BLK_STORE", final=True)


def ended_with(running: Running, event: Event, *arguments: str) -> tuple[int, str, str]:
    """Run failoverctl, let the request end with `event`: exit code, output, errors."""
    with started(running.path, *arguments) as process:
        running.until_asked()
        running.call(lambda: running.stage.logs["r1"].append(event))
        output, said = process.communicate(timeout=20)
    return process.returncode, output, said


def test_confirm_fenced_warns_in_plain_words_and_looks_on_until_the_store_has_it(running: Running) -> None:
    code, output, said = ended_with(running, OFF_NOW, *CONFIRM, "--yes")
    assert code == Exit.DONE
    assert output.splitlines() == [
        "     0.310 s  mail2     mail1 has no power",
        "done: the cluster goes on without mail1",
    ]
    assert "If mail1 still runs, there can be TWO PRIMARIES" in said
    ((what, node, by, reason),) = running.stage.asked
    assert (what, node, reason) == ("confirm-fenced", "mail1", "pulled both plugs")
    assert by


def test_confirm_fenced_that_the_store_did_not_take_has_failed(running: Running) -> None:
    code, output, _ = ended_with(running, NEVER, *CONFIRM, "--yes")
    assert code == Exit.FAILED
    assert output.splitlines()[-1] == "failed: the cluster does not know that mail1 has no power"


def test_confirm_fenced_in_a_pipe_asks_nobody_and_does_nothing(running: Running) -> None:
    shown = ctl(running.path, *CONFIRM)
    assert shown.exit_code == Exit.USAGE
    assert "--yes" in shown.stderr
    assert running.stage.asked == []


def test_confirm_fenced_without_a_reason_is_usage(running: Running) -> None:
    assert ctl(running.path, "confirm-fenced", "--node", "mail1", "--yes").exit_code == Exit.USAGE
    assert ctl(running.path, "confirm-fenced", "--node", "mail1", "--yes", "--reason", "").exit_code == Exit.USAGE
    assert running.stage.asked == []


def test_confirm_fenced_refused_prints_every_code(running: Running) -> None:
    running.stage.refusal = Refused(reasons=(Reason(node="mail1", code="BLK_ANSWERS", reason="mail1 answers"),))
    shown = ctl(running.path, *CONFIRM, "--yes")
    assert shown.exit_code == Exit.REFUSED
    assert shown.stderr.splitlines()[-2:] == [
        "refused, nothing was touched: the cluster does not take it that mail1 has no power",
        "  BLK_ANSWERS  mail1 answers",
    ]


def typed_at_a_terminal(path: Path, answer: str, words: list[str] | None = None) -> tuple[subprocess.Popen[bytes], int]:
    """Start `words` at a pseudo-terminal and answer its question. The process, and our end of the terminal."""
    ours, theirs = pty.openpty()
    command = [*PROGRAM, *(words or CONFIRM), "--socket", str(path)]
    process = subprocess.Popen(command, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    os.close(theirs)
    os.write(ours, f"{answer}\n".encode())
    return process, ours


def test_confirm_fenced_asks_for_the_name_at_a_terminal(running: Running) -> None:
    process, terminal = typed_at_a_terminal(running.path, "mail1")
    running.until_asked()
    running.call(lambda: running.stage.logs["r1"].append(OFF_NOW))
    output, said = process.communicate(timeout=20)
    os.close(terminal)
    assert process.returncode == Exit.DONE
    assert output.endswith(b"done: the cluster goes on without mail1\n")
    assert b"Type the node's name to go on" in said


@pytest.mark.parametrize("answer", ["mail2", "yes", ""])
def test_confirm_fenced_takes_nothing_but_the_name(running: Running, answer: str) -> None:
    process, terminal = typed_at_a_terminal(running.path, answer)
    _, said = process.communicate(timeout=20)
    os.close(terminal)
    assert process.returncode == Exit.REFUSED
    assert said.endswith(b"refused, nothing was touched: that is not its name\n")
    assert running.stage.asked == []


# ---- rejoin -----------------------------------------------------------------------------------------------------

PLANNED = """\
mail1: it holds what mail2 lacks: 0-1:1004-1006
  1  at most 3 transactions that mail2 lacks are saved as SQL under /var/lib/failoverd/ahead on mail1
  2  the database of mail1 is made anew from mail3, and its old data are removed
Until then mail1 acknowledges nothing and is no candidate.
"""


def test_rejoin_shows_what_it_would_do_and_then_how_it_goes_on(running: Running) -> None:
    code, output, _ = ended_with(running, DONE, "rejoin", "mail1", "--from", "mail3", "--yes")
    assert code == Exit.DONE
    assert output.startswith(PLANNED)
    assert output.endswith("done: mail1 is home\n")
    plan, (what, node, donor, by, anew) = running.stage.asked
    assert plan == ("plan", "mail1", "mail3", "False")
    assert (what, node, donor, anew) == ("rejoin", "mail1", "mail3", "False")
    assert by


def test_rejoin_that_fails_says_so(running: Running) -> None:
    failed = Event(elapsed_ms=900, node="mail1", text="broke off", code="REBUILD_STREAM", final=True)
    code, output, _ = ended_with(running, failed, "rejoin", "mail1", "--yes")
    assert code == Exit.FAILED
    assert output.splitlines()[-2:] == [
        "     0.900 s  mail1     broke off  REBUILD_STREAM",
        "failed: mail1 is not home",
    ]


def test_rejoin_of_which_no_end_was_seen_is_not_called_failed(running: Running) -> None:
    unseen = Event(elapsed_ms=900, node="mail1", text="no report from mail1", code="REQUEST_UNSEEN", final=True)
    code, output, _ = ended_with(running, unseen, "rejoin", "mail1", "--yes")
    assert code == Exit.UNCLEAR
    assert output.endswith("not known: mail1 is not home, as far as was seen; ask `failoverctl status`\n")


def test_rejoin_in_a_pipe_asks_nobody_and_does_nothing(running: Running) -> None:
    shown = ctl(running.path, "rejoin", "mail1")
    assert shown.exit_code == Exit.USAGE
    assert shown.stdout == PLANNED
    assert [asked[0] for asked in running.stage.asked] == ["plan"]


@pytest.mark.parametrize("answer", ["n", ""])
def test_rejoin_that_is_not_confirmed(running: Running, answer: str) -> None:
    process, terminal = typed_at_a_terminal(running.path, answer, ["rejoin", "mail1"])
    _, said = process.communicate(timeout=20)
    os.close(terminal)
    assert process.returncode == Exit.REFUSED
    assert said.endswith(b"refused, nothing was touched: not confirmed\n")
    assert [asked[0] for asked in running.stage.asked] == ["plan"]


def test_rejoin_refused_prints_every_code(running: Running) -> None:
    reasons = (Reason(node="mail1", code="BLK_NO_DONOR", reason="no replica is fit to be copied"),)
    running.stage.planned = replace(HOMECOMING, refused=reasons)
    running.stage.refusal = Refused(reasons=reasons)
    shown = ctl(running.path, "rejoin", "mail1", "--rebuild")
    assert shown.exit_code == Exit.REFUSED
    assert shown.stdout == ""
    assert shown.stderr.splitlines() == [
        "refused, nothing was touched: mail1 cannot be brought home now",
        "  BLK_NO_DONOR  no replica is fit to be copied",
    ]
    assert running.stage.asked[0] == ("plan", "mail1", "", "True")


@pytest.mark.parametrize(("action", "words"), [("follow", "will follow mail2"), ("none", "follows mail2")])
def test_rejoin_of_a_node_that_holds_nothing_extra_asks_nothing(running: Running, action: str, words: str) -> None:
    running.stage.planned = replace(HOMECOMING, action=action, reason="", transactions=0)  # type: ignore[arg-type] # a parameter
    code, output, _ = ended_with(running, DONE, "rejoin", "mail1")
    assert code == Exit.DONE
    assert output.startswith(f"mail1 holds nothing that mail2 lacks, and {words} by itself\n")
    assert output.endswith("done: mail1 follows mail2\n")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"transactions": None}, "what mail2 lacks is saved as SQL"),
        (
            {"transactions": 0},
            "nothing that mail2 lacks; what is found in the files all the same is saved",
        ),
        ({"transactions": 1}, "at most 1 transaction that mail2 lacks are saved"),
        ({"donor": "mail2"}, "mail2 is the primary: its clients share its disks with the copy."),
    ],
)
def test_rejoin_says_what_is_not_known(running: Running, changes: dict[str, object], said: str) -> None:
    running.stage.planned = replace(HOMECOMING, **changes)  # type: ignore[arg-type] # by name
    assert said in ctl(running.path, "rejoin", "mail1").stdout


def test_a_rebuild_under_way_is_told(running: Running) -> None:
    at_work = RebuildStatus(
        under_way=True, stage="receive", received=210_000_000, expected=1_040_000_000, rate=104_000_000, left_ms=7400
    )
    running.stage.document = replace(HEALTHY, nodes=(replace(HEALTHY.nodes[0], rebuild=at_work), *HEALTHY.nodes[1:]))
    shown = ctl(running.path, "status").stdout
    assert "\nRebuild   mail1  receive: 210 of 1040 MB, 104 MB/s, 7 s left\n" in shown
    failed = RebuildStatus(under_way=False, stage="failed", code="REBUILD_NO_SPACE", reason="/x: 1 byte is free")
    running.stage.document = replace(HEALTHY, nodes=(replace(HEALTHY.nodes[0], rebuild=failed), *HEALTHY.nodes[1:]))
    shown = ctl(running.path, "status").stdout
    assert "Rebuild" not in shown
    assert "!  mail1  REBUILD_NO_SPACE  the last rebuild failed: /x: 1 byte is free\n" in shown


# ---- pause ------------------------------------------------------------------------------------------------------


def test_pause_and_resume(running: Running) -> None:
    code, output, _ = ended_with(running, DONE, "pause", "--reason", "moving the rack")
    assert (code, output.splitlines()[-1]) == (
        Exit.DONE,
        "done: paused; a lost primary is not replaced before `failoverctl resume`",
    )
    running.stage.taken.clear()
    code, output, _ = ended_with(running, DONE, "resume")
    assert (code, output.splitlines()[-1]) == (Exit.DONE, "done: the cluster acts by itself again")
    (what, by, reason), (again, resumed_by, nothing) = running.stage.asked
    assert (what, reason, again, nothing) == ("pause", "moving the rack", "pause", "")
    assert by == resumed_by
    assert by


def test_pause_that_is_refused(running: Running) -> None:
    running.stage.refusal = Refused(reasons=(Reason(code="BLK_STORE", reason="the store does not answer mail2"),))
    for command in (["pause", "--reason", "x"], ["resume"]):
        shown = ctl(running.path, *command)
        assert shown.exit_code == Exit.REFUSED
        assert shown.stderr.splitlines()[-1] == "  BLK_STORE  the store does not answer mail2"


# ---- what else can go wrong -------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [["status"], ["promote", "--node", "mail2"]])
def test_no_daemon_is_said_with_a_hint(tmp_path: Path, command: list[str]) -> None:
    path = tmp_path / "control.sock"
    shown = ctl(path, *command)
    assert shown.exit_code == Exit.UNREACHABLE
    assert shown.stderr.startswith(f"failoverctl: {path}: no such socket: failoverd does not run here")
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    shown = ctl(path, *command)
    assert shown.exit_code == Exit.UNREACHABLE
    assert "nobody listens" in shown.stderr


def test_a_daemon_that_hangs_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "ANSWER_S", 0.1)
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as hung:
        hung.bind(str(path))
        hung.listen()
        shown = ctl(path, "status")
        assert shown.exit_code == Exit.UNREACHABLE
        assert "does not answer" in shown.stderr
        shown = ctl(path, "promote", "--node", "mail2")  # it was sent: it may still be read
        assert shown.exit_code == Exit.UNCLEAR
        assert "sent, and no answer came" in shown.stderr


@pytest.mark.parametrize("wrong", [["promote"], ["pause"], ["status", "-o", "xml"], ["statsu"], ["status", "--colour"]])
def test_a_wrong_command_line_is_usage(tmp_path: Path, wrong: list[str]) -> None:
    shown = ctl(tmp_path / "control.sock", *wrong)
    assert shown.exit_code == Exit.USAGE
    assert "Usage: failoverctl" in shown.stderr


def test_help_tells_every_exit_code() -> None:
    for command in ([], *([name] for name in COMMANDS)):
        shown = CliRunner().invoke(app, [*command, "--help"], prog_name="failoverctl")
        assert shown.exit_code == Exit.DONE
        for code in Exit:
            assert f"    {code.value}  " in shown.stdout


def test_version_of_both_or_of_one(running: Running, tmp_path: Path) -> None:
    assert ctl(running.path, "version").stdout == f"failoverctl {__version__}\nfailoverd   0.1.0 on mail2\n"
    alone = ctl(tmp_path / "none.sock", "version", "-o", "json")
    assert alone.exit_code == Exit.DONE
    assert json.loads(alone.stdout) == {"failoverctl": __version__, "failoverd": None, "node": None}


def test_starting_imports_nothing_slow() -> None:
    check = "import sys, failoverd.ctl.app; print({'pydantic', 'rich', 'httpx', 'asyncio'} & set(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True, timeout=20)
    assert shown.stdout == "set()\n"
