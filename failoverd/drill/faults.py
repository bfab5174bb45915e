"""A fault as a unit of systemd: brought about when it starts, taken away when it ends, however it ends.

    /run/systemd/system/failoverd-fault.service
        ExecStartPre=   each command of `inject`: one that fails ends it, and what was done is taken away
        ExecStart=      sleep: the fault is there for as long as this lives
        ExecStopPost=-  each command of `undo`, whatever became of the others
        RuntimeMaxSec=  the fault's own limit

So there is nothing of failoverd's in the way of its end: not a process that may be killed, not a network that is cut,
not a disk that stands still. A boot forgets it, as it forgets what the commands do.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from failoverd.drill import DrillError, model
from failoverd.drill.model import OURSELVES, Fault
from failoverd.drill_files import FAULT_UNIT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from failoverd.drill.model import Command
    from failoverd.drill.ourselves import Ourselves

PLACE = Path("/run/systemd/system")
START_S, STOP_S = 60, 120  # systemd's own limits; a thaw or a boot of a server takes its time
ASK_S = 15.0
_MARK = "# failoverd-drill"


def quoted(command: Command) -> str:
    """Return a command as systemd.service(5) reads it: nothing in it is expanded, split or a specifier."""
    words = []
    for word in command:
        plain = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
        words.append('"' + plain.replace("\n", "\\n").replace("\t", "\\t") + '"')
    return " ".join(words)


def unit_text(fault: Fault, drill: str, ourselves: Ourselves) -> str:
    """Return the unit that is the fault."""
    inject, undo = ([installed(command, ourselves) for command in side] for side in (fault.inject, fault.undo))
    words = "".join(letter if letter.isprintable() else " " for letter in fault.words).replace("%", "%%")
    lines = [
        f"{_MARK} {drill}",
        f"# {model.dump(fault).decode()}",
        "[Unit]",
        f"Description=failoverd drill: {words}; ends by itself",
        "After=network.target",  # a host that goes down still has its network when it gives another its power back
        "CollectMode=inactive-or-failed",
        "[Service]",
        "Type=exec",
        *(f"ExecStartPre={quoted(command)}" for command in inject),
        "ExecStart=sleep infinity",
        *(f"ExecStopPost=-{quoted(command)}" for command in undo),
        f"RuntimeMaxSec={fault.limit_s}",
        f"TimeoutStartSec={START_S}",
        f"TimeoutStopSec={STOP_S}",
        "KillMode=mixed",  # only the command itself is told to end: a fence agent is seen through by who began it
        "Restart=no",
        "OOMScoreAdjust=-900",
    ]
    return "\n".join(lines) + "\n"


def installed(command: Command, ourselves: Ourselves) -> Command:
    """Put this program's own place, and what it was told, into a command of a scenario that means it."""
    return ourselves.command(*command[1:]) if command[0] == OURSELVES else command


@dataclass(frozen=True, slots=True)
class Host:
    """Where faults are brought about. `place` is systemd's directory of units that a boot forgets."""

    ourselves: Ourselves
    place: Path = PLACE

    @property
    def _file(self) -> Path:
        return self.place / FAULT_UNIT

    def drill(self) -> str:
        """Return whose fault is here, "" where none is."""
        try:
            first = self._file.read_text().partition("\n")[0]
        except FileNotFoundError:
            return ""
        return first.removeprefix(_MARK).strip() or "unknown"

    def fault(self) -> Fault | None:
        """Return the fault that is here, as it was brought about; None where none is, or one of another version."""
        try:
            note = self._file.read_text().splitlines()[1].removeprefix("# ")
            return model.load(Fault, note)
        except (FileNotFoundError, IndexError, ValueError):
            return None

    def bring(self, fault: Fault, drill: str) -> None:
        """Bring it about. Raises DrillError: then nothing of it is left, or DRILL_UNDO_FAILED says what is."""
        other = self.drill()
        if other:
            raise DrillError("DRILL_RUNNING", f"{fault.node} has a fault of {other} already")
        self.place.mkdir(parents=True, exist_ok=True)
        self._file.write_text(unit_text(fault, drill, self.ourselves))
        try:
            _systemctl("daemon-reload")
            started = _run(("systemctl", "start", FAULT_UNIT), START_S + STOP_S + ASK_S)
        except DrillError:
            self.take(fault)
            raise
        if started is not None:
            why = f"{started}; {_last_words()}"
            self.take(fault)
            raise DrillError("DRILL_INJECT_FAILED", f"{fault.words}: could not be brought about: {why}")

    def take(self, fault: Fault | None) -> None:
        """Take away whatever is here, and see that it is gone. Idempotent. Raises DrillError (DRILL_UNDO_FAILED).

        systemd runs what takes it away once. What is still here then is tried again at each call, and stays noted, so
        that it is also by an agent that was started anew.
        """
        fault = self.fault() or fault
        if self._file.exists():
            failed = _run(("systemctl", "stop", FAULT_UNIT), STOP_S + ASK_S)
            if failed is not None:
                raise DrillError("DRILL_UNDO_FAILED", f"{FAULT_UNIT} does not stop: {failed}")
        if fault is not None and self.left_of(fault):
            for command in fault.undo:
                _run(installed(command, self.ourselves), STOP_S)
            left = self.left_of(fault)
            if left:
                raise DrillError("DRILL_UNDO_FAILED", f"{fault.words}: still so, says `{left}`")
        if self._file.exists():
            self._file.unlink()
            _systemctl("daemon-reload")

    def left_of(self, fault: Fault) -> str:
        """Return the first command that says that something of it is left; "" where none does."""
        asked = (installed(command, self.ourselves) for command in fault.gone)
        return next((" ".join(command) for command in asked if _run(command, ASK_S) is not None), "")


def _systemctl(*arguments: str) -> None:
    failed = _run(("systemctl", *arguments), ASK_S)
    if failed is not None:
        raise DrillError("DRILL_INJECT_FAILED", f"systemctl {' '.join(arguments)}: {failed}")


def _run(command: Sequence[str], limit_s: float) -> str | None:
    """Run it to its end: None where it succeeded, else why not."""
    try:
        ended = subprocess.run(  # noqa: S603 - no shell; the commands are the scenarios'
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=limit_s, check=False
        )
    except subprocess.TimeoutExpired:
        return f"not done within {limit_s:.0f} s"
    except OSError as error:
        return f"{command[0]}: {error.strerror}"
    if ended.returncode == 0:
        return None
    lines = (ended.stderr or ended.stdout).strip().splitlines()
    return lines[-1] if lines else f"exit code {ended.returncode}"


def _last_words() -> str:
    """What the unit's commands said last, for a person."""
    shown = subprocess.run(  # noqa: S603 - a fixed command
        ["journalctl", "--quiet", "--no-pager", "--output=cat", "--lines=3", f"--unit={FAULT_UNIT}"],  # noqa: S607
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=ASK_S,
        check=False,
    )
    return " / ".join(shown.stdout.strip().splitlines()) or "the journal has nothing of it"
