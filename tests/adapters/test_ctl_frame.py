"""What all of failoverctl has in common: forms of output, watching, completion, and how quickly it starts."""

from __future__ import annotations

import json
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import yaml
from click.testing import CliRunner, Result
from control_stage import HEALTHY, Running, Stage

from failoverd.ctl.app import app
from failoverd.ctl.exits import Exit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROGRAM = [sys.executable, "-c", "from failoverd.ctl.app import main; main()"]
WITHIN_S = 20


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    with Running(tmp_path / "control.sock", Stage()) as place:
        yield place


def ctl(path: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "--socket", str(path)], prog_name="failoverctl")


@pytest.mark.parametrize("command", ["status", "check", "version", "history"])
def test_what_is_read_is_the_same_in_json_and_in_yaml(running: Running, command: str) -> None:
    as_json, as_yaml = ctl(running.path, command, "-o", "json"), ctl(running.path, command, "-o", "yaml")
    assert as_json.exit_code == as_yaml.exit_code == Exit.DONE
    document = json.loads(as_json.stdout)
    assert document
    assert yaml.safe_load(as_yaml.stdout) == document


def watching(path: Path, *arguments: str, out: int = subprocess.PIPE) -> subprocess.Popen[str]:
    command = [*PROGRAM, "status", "--socket", str(path), *arguments]
    return subprocess.Popen(command, stdout=out, stderr=subprocess.PIPE, text=True)


def test_watch_goes_on_when_the_daemon_is_away_and_ends_at_ctrl_c(running: Running) -> None:
    watch = watching(running.path, "-o", "yaml", "--watch", "0.2")
    assert watch.stdout is not None
    assert watch.stderr is not None
    for line in watch.stdout:
        if line.startswith("term:"):
            break
    running.stop()
    assert "no such socket" in watch.stderr.readline() or "nobody listens" in watch.stderr.readline()
    running.stage.document = replace(HEALTHY, term=8)
    with Running(running.path, running.stage):
        assert any(line == "term: 8\n" for line in watch.stdout)
        watch.send_signal(signal.SIGINT)
        rest, _ = watch.communicate(timeout=WITHIN_S)
    assert watch.returncode in (Exit.DONE, Exit.UNREACHABLE)
    assert "Traceback" not in rest


def test_watch_on_a_terminal_clears_the_screen_before_each_look(running: Running) -> None:
    main, terminal = pty.openpty()
    watch = watching(running.path, "--watch", "0.2", out=terminal)
    os.close(terminal)
    shown = b""
    while shown.count(b"\x1b[2J") < 3:
        assert select.select([main], [], [], WITHIN_S)[0], shown
        shown += os.read(main, 65536)
    watch.send_signal(signal.SIGINT)
    watch.communicate(timeout=WITHIN_S)
    os.close(main)
    assert shown.split(b"\x1b[2J")[1].count(b"mail3") == 1


def test_no_color_is_respected(running: Running) -> None:
    def coloured(**environment: str) -> bool:
        main, terminal = pty.openpty()
        command = [*PROGRAM, "status", "--socket", str(running.path)]
        environ = {**os.environ, "TERM": "xterm-256color", **environment}
        done = subprocess.run(command, stdout=terminal, env=environ, check=True, timeout=WITHIN_S)
        os.close(terminal)
        shown = os.read(main, 65536)
        os.close(main)
        assert done.returncode == 0
        return b"\x1b[32m" in shown or b"\x1b[1;32m" in shown

    without = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    assert "NO_COLOR" not in without
    assert coloured(NO_COLOR="")
    assert not coloured(NO_COLOR="1")


# ---- completion -------------------------------------------------------------------------------------------------


def completed(path: Path, words: str, shell: str = "bash") -> list[str]:
    environ = {**os.environ, "COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1)}
    environ |= {"_FAILOVERCTL_COMPLETE": f"{shell}_complete", "FAILOVERD_SOCKET": str(path)}
    done = subprocess.run(PROGRAM, env=environ, check=True, capture_output=True, text=True, timeout=WITHIN_S)
    return done.stdout.split()


def test_node_names_are_completed_from_the_daemon(running: Running) -> None:
    assert completed(running.path, "failoverctl promote --node ma") == ["plain,mail1", "plain,mail2", "plain,mail3"]
    assert completed(running.path, "failoverctl rejoin mail3") == ["plain,mail3"]
    assert "plain,status" in completed(running.path, "failoverctl st")


def test_without_a_daemon_nothing_is_completed_and_nothing_is_said(tmp_path: Path) -> None:
    assert completed(tmp_path / "none.sock", "failoverctl promote --node ma") == []


def test_a_daemon_that_hangs_is_not_waited_for(tmp_path: Path) -> None:
    import socket  # noqa: PLC0415 - only here

    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "hangs.sock"))
    listener.listen()
    asked = threading.Event()

    def take() -> None:
        with listener.accept()[0] as connection:
            connection.recv(1)
            asked.set()
            while connection.recv(4096):  # until who asked has had enough
                pass

    taking = threading.Thread(target=take)
    taking.start()
    assert completed(tmp_path / "hangs.sock", "failoverctl promote --node ma") == []
    assert asked.is_set()
    taking.join(WITHIN_S)
    listener.close()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_script_is_one_that_the_shell_reads(shell: str) -> None:
    script = CliRunner().invoke(app, ["completion", shell], prog_name="failoverctl")
    assert script.exit_code == Exit.DONE
    assert "_FAILOVERCTL_COMPLETE" in script.stdout
    program = shutil.which(shell)
    if program is not None:  # bash is everywhere
        subprocess.run([program, "-n"], input=script.stdout, text=True, check=True, timeout=WITHIN_S)
    else:
        assert shell != "bash"


# ---- the start --------------------------------------------------------------------------------------------------


def loaded_by(path: Path, *arguments: str) -> set[str]:
    """The modules that are there at the end of a run."""
    code = (
        "import sys; sys.argv[0] = 'failoverctl'\n"
        "from failoverd.ctl.app import app\n"
        "try: app(prog_name='failoverctl')\n"
        "except SystemExit: pass\n"
        "sys.stderr.write(' '.join(sys.modules))"
    )
    command = [sys.executable, "-c", code, *arguments, "--socket", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=WITHIN_S)
    return set(done.stderr.split())


HEAVY = {"pydantic", "httpx", "asyncio", "starlette", "uvicorn", "structlog", "pymysql", "cryptography"}


def test_status_loads_what_it_needs_and_no_more(running: Running) -> None:
    assert not {*HEAVY, "rich", "yaml"} & loaded_by(running.path, "status", "-o", "json")
    table = loaded_by(running.path, "status")
    assert "rich" in table
    assert not {*HEAVY, "yaml"} & table
