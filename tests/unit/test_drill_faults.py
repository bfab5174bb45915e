"""A fault as a unit's text: nothing in a command is anything but itself, whatever it is."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

import pytest

from failoverd.drill.faults import installed, quoted, unit_text
from failoverd.drill.model import Fault
from failoverd.drill.ourselves import Ourselves

HOSTILE = (
    "/bin/echo",
    "a b",
    'say "no"',
    "$HOME ${HOME} $$",
    "100% %n %%",
    "back\\slash \\n",
    "one\ntwo\tthree",
    ";",
    "",
    "'",
    "-",
    "é",
)
OURSELVES = Ourselves(("/opt/failoverd/bin/python", "-m", "failoverd"), ("--node", "mail 1"))
FAULT = Fault(
    node="mail1",
    words="100 % of\nit is broken",
    inject=(("one", "a"), ("failoverd", "drill-power", "off", "mail1")),
    undo=(("two",), ("three", "failoverd")),
    gone=(("four",),),
    limit_s=77,
)  # fmt: skip


def settings(text: str, name: str) -> list[str]:
    return re.findall(rf"^{name}=(.*)$", text, re.MULTILINE)


def test_a_unit_does_all_that_the_fault_says_in_its_order() -> None:
    text = unit_text(FAULT, "20261129-020000-x", OURSELVES)
    assert text.startswith("# failoverd-drill 20261129-020000-x\n")
    assert settings(text, "ExecStartPre") == [
        '"one" "a"',
        '"/opt/failoverd/bin/python" "-m" "failoverd" "drill-power" "--node" "mail 1" "off" "mail1"',
    ]
    # Each whatever became of the others, and a word that is only called so is left alone.
    assert settings(text, "ExecStopPost") == ['-"two"', '-"three" "failoverd"']
    assert settings(text, "RuntimeMaxSec") == ["77"]
    assert settings(text, "Description") == ["failoverd drill: 100 %% of it is broken; ends by itself"]
    assert settings(text, "Restart") == ["no"]


def test_systemd_reads_any_word_without_a_complaint(tmp_path: Path) -> None:
    fault = Fault(node="n", words='%n "x" \\', inject=(HOSTILE,), undo=(HOSTILE, ("/bin/true",)), gone=(), limit_s=60)
    unit = tmp_path / "failoverd-fault.service"
    unit.write_text(unit_text(fault, "x", OURSELVES))
    verify = ["systemd-analyze", "verify", "--man=no", "--generators=no", str(unit)]
    checked = subprocess.run(verify, capture_output=True, text=True, check=False, timeout=60)
    assert [line for line in checked.stderr.splitlines() if unit.name in line] == []
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("word", HOSTILE)
def test_no_word_ends_its_line(word: str) -> None:
    assert "\n" not in quoted((word,))


def test_this_program_is_started_as_it_was_itself() -> None:
    options = argparse.Namespace(
        config=Path("/etc/failoverd/other.yaml"), state=Path("/state"), runtime=Path("/run/x"), node="mail1"
    )
    ourselves = Ourselves.of(options)
    assert installed(("failoverd", "drill-power", "on", "mail1"), ourselves) == (
        sys.executable, "-m", "failoverd", "drill-power",
        "--config", "/etc/failoverd/other.yaml", "--state", "/state", "--runtime", "/run/x", "--node", "mail1",
        "on", "mail1",
    )  # fmt: skip
    assert installed(("sh", "-c", "failoverd"), ourselves) == ("sh", "-c", "failoverd")


def test_the_program_understands_how_it_is_started() -> None:
    ourselves = Ourselves((sys.executable, "-m", "failoverd"), ("--config", "/nonexistent/x.yaml", "--node", "mail1"))
    for command in (("drill-power", "is-on", "mail1"), ("drill-job", "clean")):
        line = ourselves.command(*command)
        ran = subprocess.run(line, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=60)
        assert "/nonexistent/x.yaml" in ran.stderr
        assert ran.returncode == 78
