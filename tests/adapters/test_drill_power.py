"""A drill that cuts power is ended in the middle: what was begun is seen through, so that giving it back comes last."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from typing import TYPE_CHECKING

from fence_stage import HEAD, Stage
from mariadb_servers import wait_for

from failoverd.config import load
from failoverd.config.model import Fencing
from failoverd.drill import power

if TYPE_CHECKING:
    from pathlib import Path

    from failoverd.config import Config

SLOW = """\
case $action in
    off) touch "$state.began"; until [ -e "$state.go" ]; do sleep 0.01; done; echo off >"$state";;
    on) echo on >"$state";;
    *) status;;
esac
"""


def run(config: Config, action: power.Action) -> multiprocessing.Process:
    process = multiprocessing.get_context("fork").Process(
        target=lambda: sys.exit(power.main(config, action, "mail1")), daemon=True
    )
    process.start()
    return process  # type: ignore[return-value] # a ForkProcess is one


def test_an_off_that_is_told_to_end_ends_when_its_agent_has(config_file: Path, tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    program = tmp_path / "fence_slow"
    program.write_text(HEAD + SLOW)
    program.chmod(0o755)
    device = {"agent": str(program), "options": {"state": str(stage.state)}}
    fencing = Fencing.model_validate({"nodes": {"mail1": ((device,),)}})
    config = load(config_file, "mail2").model_copy(update={"fencing": fencing})

    off = run(config, "off")
    wait_for((tmp_path / "machine.began").exists, name="the agent has begun")
    assert off.pid is not None
    os.kill(off.pid, signal.SIGTERM)
    (tmp_path / "machine.go").touch()
    off.join(20)
    assert (off.exitcode, stage.state.read_text().strip()) == (0, "off")

    on = run(config, "on")
    on.join(20)
    assert (on.exitcode, stage.state.read_text().strip()) == (0, "on")
