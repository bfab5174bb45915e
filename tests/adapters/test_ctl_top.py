"""`failoverctl top` on a real pseudo-terminal, read by a terminal in memory, against a real control socket."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pyte
import pytest
from control_stage import BLOCKED, DEGRADED, HEALTHY, Running, Stage

from failoverd.ctl.exits import Exit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MAIN = "from failoverd.ctl.app import main; main()"
WITHIN_S = 20.0
ENTERED, LEFT, CURSOR = b"\x1b[?1049h", b"\x1b[?1049l", b"\x1b[?25h"


class Terminal:
    """A program on a terminal of its own, and what that shows."""

    def __init__(self, path: Path, *, rows: int = 40, columns: int = 120, code: str = MAIN) -> None:
        self.main, self.end = pty.openpty()
        self.screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self.screen)
        self.written = b""
        self.resize(rows, columns)
        self.before = termios.tcgetattr(self.end)
        environ = {**os.environ, "TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8"}
        command = [sys.executable, "-c", code, "top", "--every", "0.2", "--socket", str(path)]
        self.process = subprocess.Popen(
            command, stdin=self.end, stdout=self.end, stderr=self.end, env=environ, start_new_session=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(WITHIN_S)
        os.close(self.main)
        os.close(self.end)

    def resize(self, rows: int, columns: int) -> None:
        """Set its size, and tell nobody."""
        fcntl.ioctl(self.main, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.screen.resize(rows, columns)

    def resized(self, rows: int, columns: int) -> None:
        """As a person does it at the window's corner: whoever runs there is told."""
        self.resize(rows, columns)
        self.process.send_signal(signal.SIGWINCH)

    @property
    def lines(self) -> list[str]:
        """What it shows now."""
        return [line.rstrip() for line in self.screen.display]

    def until(self, holds: Callable[[list[str]], bool]) -> list[str]:
        """Read until the screen is as wanted, and a whole one. Returns it."""
        end = time.monotonic() + WITHIN_S
        while not (self.lines[-1] and holds(self.lines) and self._quiet()):  # the last line is drawn last
            assert time.monotonic() < end, "\n".join(self.lines)
            self._read(0.05)
        return self.lines

    def shows(self, text: str) -> list[str]:
        """Read until some line has `text`."""
        return self.until(lambda lines: any(text in line for line in lines))

    def type(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self.main, keys)

    def ended(self) -> int:
        """Read what is still written, and how it ended."""
        end = time.monotonic() + WITHIN_S
        while self.process.poll() is None:
            assert time.monotonic() < end, "\n".join(self.lines)
            self._read(0.05)
        self._read(0.0)
        return self.process.returncode

    def assert_as_it_was(self) -> None:
        """The screen of before is back, with its cursor and its settings."""
        assert self.written.count(ENTERED) == self.written.count(LEFT) == 1
        assert self.written.rindex(LEFT) > self.written.rindex(ENTERED)
        assert self.written.rindex(CURSOR) > self.written.rindex(b"\x1b[?25l")
        assert termios.tcgetattr(self.end) == self.before

    def _quiet(self) -> bool:
        return not select.select([self.main], [], [], 0)[0]

    def _read(self, seconds: float) -> None:
        while select.select([self.main], [], [], seconds)[0]:
            chunk = os.read(self.main, 65536)
            self.written += chunk
            self._stream.feed(chunk)
            seconds = 0.0


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    with Running(tmp_path / "control.sock", Stage()) as place:
        yield place


def test_it_shows_the_cluster_its_answers_and_its_changes_and_q_ends_it(running: Running) -> None:
    running.stage.document = DEGRADED
    with Terminal(running.path) as terminal:
        lines = terminal.shows("term-7")
        assert lines[0].startswith("lab   term 7   primary mail1, lease ")
        assert lines[2].startswith("NODE     ROLE            SERVES  IMAP  SMTP  SQL  REPLICATION")
        assert lines[5].startswith("mail3    fenced→replica  ○       up    down  ro   ← mail1 applier stopped")
        text = "\n".join(lines)
        assert "Failover  possible, to mail2" in text
        assert "!  mail3  smtp down" in text
        assert "term-7  switchover  mail2 → mail1  done     0.199 s without a primary  kernel update" in text
        assert "term-6  failover    mail1 → mail2  unknown  ? without a primary" in text
        assert lines[-1] == "q quit   p hold   ? keys"
        terminal.type(b"q")
        assert terminal.ended() == Exit.DONE
        terminal.assert_as_it_was()


def test_what_does_not_fit_is_cut_at_the_end_and_a_larger_terminal_shows_it(running: Running) -> None:
    running.stage.document = DEGRADED
    with Terminal(running.path, rows=10) as terminal:
        lines = terminal.shows("lines not shown")
        assert [line.partition(" ")[0] for line in lines[2:7]] == ["NODE", "mail1", "mail2", "mail3", "arbiter"]
        assert lines[8].startswith("Failover  possible")
        count = int(lines[9].split()[0])
        whole = terminal.until(lambda lines: lines[9].startswith(f"{count} ") or "term-6" in "".join(lines))
        terminal.resized(40, 120)
        whole = terminal.until(lambda lines: lines[-1] == "q quit   p hold   ? keys" and "term-6" in "".join(lines))
        assert not any("not shown" in line for line in whole)
        terminal.resized(5, 60)
        small = terminal.until(lambda lines: "NODE" in "".join(lines) and "Failover" not in "".join(lines))
        assert small[0].startswith("lab   term 7   primary mail1")
        terminal.type(b"q")
        assert terminal.ended() == Exit.DONE


def test_a_daemon_that_is_away_is_waited_for_with_the_last_picture_dimmed(running: Running) -> None:
    with Terminal(running.path) as terminal:
        terminal.shows("term-7")
        running.stop()
        lines = terminal.shows("no answer for ")
        assert lines[0].startswith("lab   term 7")
        assert lines[1].startswith("no answer for ")
        why = " ".join(lines[1:3])
        assert "no such socket" in why or "nobody listens" in why or "failoverd ended" in why
        assert any(line.startswith("NODE     ROLE") for line in lines[3:5])
        assert b"\x1b[2m" in terminal.written.rpartition(b"no answer for")[2].partition(b"NODE")[2]
        running.stage.document = replace(BLOCKED, term=8)
        with Running(running.path, running.stage):
            lines = terminal.until(lambda lines: lines[0].startswith("lab   term 8"))
            assert not any("no answer for" in line for line in lines)
            terminal.type(b"q")
            assert terminal.ended() == Exit.DONE


def test_it_starts_before_the_daemon_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # however long it is, the line has room for what follows
    with Terminal(Path("control.sock")) as terminal:
        lines = terminal.shows("no answer for ")
        assert "no such socket" in lines[0]
        with Running(tmp_path / "control.sock", Stage()):
            terminal.shows("Failover  possible, to mail2")
            terminal.type(b"q")
            assert terminal.ended() == Exit.DONE


def test_a_picture_can_be_held_and_the_keys_be_asked_for(running: Running) -> None:
    with Terminal(running.path) as terminal:
        terminal.shows("Failover  possible")
        terminal.type(b"p")
        terminal.shows("HELD for ")
        asked = running.stage.document = replace(HEALTHY, term=9)
        held = terminal.until(lambda lines: "HELD for 0." not in lines[1])  # several looks later
        assert held[0].startswith("lab   term 7")
        terminal.type(b"p")
        lines = terminal.until(lambda lines: lines[0].startswith(f"lab   term {asked.term}"))
        assert not any("HELD" in line for line in lines)
        terminal.type(b"?")
        lines = terminal.shows("hold the picture; again: go on")
        assert not any(line.startswith("NODE") for line in lines)
        terminal.type(b"?")
        terminal.shows("NODE     ROLE")
        terminal.type(b"q")
        assert terminal.ended() == Exit.DONE


def test_ctrl_c_ends_it_and_ctrl_z_does_nothing(running: Running) -> None:
    with Terminal(running.path) as terminal:
        terminal.shows("Failover  possible")
        terminal.type(b"\x1a")
        running.stage.document = replace(HEALTHY, term=9)
        terminal.until(lambda lines: lines[0].startswith("lab   term 9"))
        # Sent as the terminal would: here no session has it as its own.
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.ended() == Exit.DONE
        terminal.assert_as_it_was()


def test_sigterm_gives_the_terminal_back(running: Running) -> None:
    with Terminal(running.path) as terminal:
        terminal.shows("Failover  possible")
        terminal.process.send_signal(signal.SIGTERM)
        assert terminal.ended() == -signal.SIGTERM
        terminal.assert_as_it_was()


def test_a_bug_gives_the_terminal_back_and_is_seen(running: Running) -> None:
    code = (
        "from failoverd.ctl import table, top_screen\n"
        "def broken(document): raise ZeroDivisionError('a bug')\n"
        f"table.untoward = broken\n{MAIN}"
    )
    with Terminal(running.path, code=code) as terminal:
        assert terminal.ended() == 1
        terminal.assert_as_it_was()
        assert b"ZeroDivisionError: a bug" in terminal.written.rpartition(LEFT)[2]


@pytest.mark.parametrize("piped", ["stdin", "stdout"])
def test_without_a_terminal_it_says_what_to_use(tmp_path: Path, piped: str) -> None:
    main, end = pty.openpty()
    streams = {"stdin": end, "stdout": end} | {piped: subprocess.PIPE}
    command = [sys.executable, "-c", MAIN, "top", "--socket", str(tmp_path / "control.sock")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **streams) as process:
        _, said = process.communicate(timeout=WITHIN_S)
    os.close(main)
    os.close(end)
    assert process.returncode == Exit.USAGE
    assert "top needs a terminal; elsewhere: failoverctl status --watch, or status -o json" in " ".join(said.split())
