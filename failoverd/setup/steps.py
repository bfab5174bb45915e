"""How a plan is carried out. Each step can be done again, and the configuration is put in place after all it needs.

    files (CA, certificates, passwords) ──> SQL ──> archives, configuration ──> units

Killed anywhere, the next run plans what is still missing and goes on from there.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from failoverd.databases.connection import Deadline, Failure
from failoverd.setup.files import put
from failoverd.setup.grants import WITHIN_MS
from failoverd.setup.look import SYSTEM_PATH, output
from failoverd.setup.look_database import session
from failoverd.setup.refused import Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from failoverd.setup.files import File
    from failoverd.setup.grants import Statement

COMMAND_S = 60.0
# Of a data node; the arbiter has no database that would have to be copied.
ENABLED = ("failoverd-gate.service", "failoverd-rebuild.service")
STARTED = ("failoverd-guard.service", "failoverd-helper.service", "failoverd-donor.service", "failoverd.service")
NOT_OF_THE_ARBITER = frozenset({"failoverd-rebuild.service", "failoverd-donor.service"})


class StepError(Exception):
    """A step that did not work; those before it are done. `str()` has the code and what to do."""

    def __init__(self, step: str, reason: str) -> None:
        super().__init__(f"SETUP_STEP: {step}: {reason}; what was done before it is kept: mend it and run this again")


@dataclass(frozen=True, slots=True)
class Command:
    """A program to be run on this host, and why."""

    words: tuple[str, ...]
    why: str

    def __str__(self) -> str:
        return " ".join(self.words)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is still missing, in the order in which it is done."""

    first: tuple[File, ...] = ()
    socket: str = ""
    statements: tuple[Statement, ...] = ()
    last: tuple[File, ...] = ()
    commands: tuple[Command, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether there is nothing to change."""
        return not (self.first or self.statements or self.last or self.commands)


def carry_out(plan: Plan, say: Callable[[str], None]) -> None:
    """Do it all; `say` is told of each step that is done. Raises StepError."""
    _put(plan.first, say)
    if plan.statements:
        _run_sql(plan, say)
    _put(plan.last, say)
    for command in plan.commands:
        _run(command)
        say(str(command))


def _put(files: tuple[File, ...], say: Callable[[str], None]) -> None:
    try:
        put(files)
    except OSError as error:
        raise StepError(str(error.filename or "writing files"), error.strerror or str(error)) from None
    for file in files:
        say(str(file.path))


def _run_sql(plan: Plan, say: Callable[[str], None]) -> None:
    shown = "login"
    try:
        with session(plan.socket) as connection:
            for statement in plan.statements:
                shown = statement.shown
                connection.run(Deadline(WITHIN_MS), statement.run)
    except Failure as failure:
        raise StepError(shown, f"{failure.code}: {failure.reason}") from None
    say(f"{len(plan.statements)} statements on the database")


def _run(command: Command) -> None:
    path = shutil.which(command.words[0], path=SYSTEM_PATH)
    if path is None:
        raise StepError(str(command), "there is no such program here")
    try:
        done = subprocess.run(  # noqa: S603 - literal programs, no shell
            [path, *command.words[1:]],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=COMMAND_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StepError(str(command), str(error)) from None
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").splitlines()[-1]
        raise StepError(str(command), said)


def units(kind: str) -> tuple[Command, ...]:
    """What is missing of failoverd's own units: enabled, and started. None of them moves the role by being started.

    Raises Refused where they are not installed.
    """
    enabled, started = (
        tuple(name for name in names if kind == "data" or name not in NOT_OF_THE_ARBITER)
        for names in (ENABLED, STARTED)
    )
    states = _states((*enabled, *started))
    absent = [name for name in (*enabled, *started) if name not in states]
    if absent:
        allowed = "failoverd's package, or failoverctl units; --no-start leaves them alone"
        raise Refused("SETUP_NOT_READY", ", ".join(absent), "systemd does not know it", allowed=allowed)
    off = [name for name in (*enabled, *started) if states[name][0] != "enabled"]
    stopped = [name for name in started if states[name][1] not in {"active", "reloading"}]
    commands = []
    if off:
        commands.append(Command(("systemctl", "enable", *off), "at each boot"))
    if stopped:
        commands.append(
            Command(("systemctl", "start", *stopped), "the guard first; failoverd waits until all are there")
        )
    return tuple(commands)


def _states(names: tuple[str, ...]) -> dict[str, tuple[str, str]]:
    """UnitFileState and ActiveState of those that systemd knows."""
    text = output("systemctl", "show", "--property=Id,LoadState,UnitFileState,ActiveState", *names)
    blocks = [dict(re.findall(r"^(\w+)=(.*)$", block, re.MULTILINE)) for block in text.split("\n\n")]
    return {
        block["Id"]: (block["UnitFileState"], block["ActiveState"])
        for block in blocks
        if block.get("LoadState") == "loaded"
    }
