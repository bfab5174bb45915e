"""The units of a drill: systemd takes them as they stand, and what they name is what the program has."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from datetime import time
from pathlib import Path

import pytest

from failoverd import drill_files
from failoverd.commands import EX_CONFIG, parser
from failoverd.config.drill import Drill, window
from failoverd.drill import faults, main, recover

REPOSITORY = Path(__file__).parents[2]
UNITS = {path.name: path for path in (REPOSITORY / "systemd").glob("failoverd-drill*")}
INSTALLED = "/opt/failoverd/bin/failoverd"

each_unit = pytest.mark.parametrize("name", sorted(UNITS))


def settings(name: str, key: str) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", UNITS[name].read_text(encoding="utf-8"), re.MULTILINE)


def seconds(name: str, key: str) -> float:
    (value,) = settings(name, key)
    return float(value)


@each_unit
def test_systemd_takes_it_without_a_word(name: str, tmp_path: Path) -> None:
    """With the program that is there: that of the installation is not."""
    for unit, path in UNITS.items():
        (tmp_path / unit).write_text(path.read_text(encoding="utf-8").replace(INSTALLED, sys.executable))
    verify = ["systemd-analyze", "verify", "--man=no", "--generators=no", str(tmp_path / name)]
    checked = subprocess.run(verify, capture_output=True, text=True, check=False, timeout=60)
    assert [line for line in checked.stderr.splitlines() if "failoverd" in line] == []
    assert checked.returncode == 0, checked.stderr


def test_systemd_would_say_what_is_wrong(tmp_path: Path) -> None:
    text = UNITS[drill_files.UNIT].read_text(encoding="utf-8").replace(INSTALLED, sys.executable)
    (tmp_path / drill_files.UNIT).write_text(text.replace("TimeoutStopSec=", "TimeoutStopSecs="))
    verify = ["systemd-analyze", "verify", "--man=no", "--generators=no", str(tmp_path / drill_files.UNIT)]
    checked = subprocess.run(verify, capture_output=True, text=True, check=False, timeout=60)
    assert "TimeoutStopSecs" in checked.stderr


def test_the_units_are_those_that_the_program_asks_for() -> None:
    assert {drill_files.UNIT, drill_files.AGENT_UNIT} <= set(UNITS)
    assert drill_files.FAULT_UNIT not in UNITS, "each fault's is made for it, below /run"
    guide = (REPOSITORY / "runbooks/quarterly-drill.md").read_text(encoding="utf-8")
    assert all(name.removesuffix(".service") in guide for name in UNITS)


@pytest.mark.parametrize(
    ("name", "key", "recovers"),
    [
        ("failoverd-drill.service", "ExecStart", False),
        ("failoverd-drill.service", "ExecStopPost", True),
        ("failoverd-drill-recover.service", "ExecStart", True),
    ],
)
def test_what_is_started_is_a_command_of_the_program(name: str, key: str, *, recovers: bool) -> None:
    (line,) = settings(name, key)
    program, *arguments = shlex.split(line)
    options = parser().parse_args(arguments)
    assert (program, options.command, options.recover) == (INSTALLED, "drill", recovers)
    assert options.config == Path("/etc/failoverd/failoverd.yaml")


def test_the_agent_is_there_for_as_long_as_the_node_and_not_with_a_wrong_file() -> None:
    name = drill_files.AGENT_UNIT
    (line,) = settings(name, "ExecStart")
    assert parser().parse_args(shlex.split(line)[1:]).command == "drill-agent"
    assert (settings(name, "Type"), settings(name, "Restart")) == (["notify"], ["always"])
    assert settings(name, "RestartPreventExitStatus") == [str(EX_CONFIG)]
    assert settings(name, "StartLimitIntervalSec") == ["0"], "what takes a fault away is tried again for ever"


def test_who_is_told_to_end_has_the_time_to_take_everything_back() -> None:
    assert seconds(drill_files.AGENT_UNIT, "TimeoutStopSec") > faults.STOP_S + faults.ASK_S
    assert seconds(drill_files.UNIT, "TimeoutStopSec") > recover.RELEASE_S + faults.STOP_S
    assert seconds("failoverd-drill-recover.service", "TimeoutStartSec") > recover.RELEASE_S + faults.STOP_S


def test_at_boot_it_clears_up_only_where_something_is_left() -> None:
    (condition,) = settings("failoverd-drill-recover.service", "ConditionPathExists")
    assert condition == f"/var/lib/failoverd/{drill_files.DIRECTORY}/{drill_files.CURRENT}"
    assert settings("failoverd-drill-recover.service", "WantedBy") == ["multi-user.target"]
    assert settings("failoverd-drill-recover.service", "Restart") == ["on-failure"]
    (after,) = settings("failoverd-drill-recover.service", "After")
    assert {"failoverd.service", drill_files.AGENT_UNIT} <= set(after.split()), "it asks both"


def test_a_refusal_is_no_failed_unit_and_what_is_left_is() -> None:
    (fine,) = settings(drill_files.UNIT, "SuccessExitStatus")
    assert fine.split() == [str(main.REFUSED)]
    assert settings(drill_files.UNIT, "Restart") == ["no"], "a drill that ended is not begun again"
    assert "[Install]" not in UNITS[drill_files.UNIT].read_text(encoding="utf-8"), "only a timer or a person begins it"


def test_the_timer_asks_each_night_within_the_window_that_is_the_default() -> None:
    (calendar,) = settings("failoverd-drill.timer", "OnCalendar")
    assert re.fullmatch(r"\*-\*-\* \d\d:\d\d:\d\d", calendar), "each day"
    analyse = ["systemd-analyze", "calendar", calendar]
    analysed = subprocess.run(analyse, capture_output=True, text=True, check=True, timeout=60).stdout
    assert f"Normalized form: {calendar}\n" in analysed
    found = window(Drill().window)
    assert found is not None
    begin, end = found
    assert begin <= time.fromisoformat(calendar.split()[-1]) < end
    assert settings("failoverd-drill.timer", "Persistent") == ["true"], "a node that was off asks when it is back"
    assert settings("failoverd-drill.timer", "Unit") in ([], [drill_files.UNIT])
