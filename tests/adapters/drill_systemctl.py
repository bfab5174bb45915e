#!/usr/bin/python3 -SE
"""What a drill asks of systemctl, for machines on which no systemd runs: units of a directory, started and stopped.

It lies as `systemctl` in PLACE/bin. PLACE/*/units has the fault's unit, PLACE/active what runs, PLACE/asked what was
asked, PLACE/refuses the words for which it fails, PLACE/waits those for which it waits until that file is gone. What it
makes of a command line is what systemd makes of it, which test_drill_faults_units.py holds against a real one.
"""

import re
import subprocess
import sys
import time
from pathlib import Path

PLACE = Path(__file__).parent.parent
FAULT = "failoverd-fault.service"
WORD = re.compile(r'"((?:[^"\\]|\\.)*)"')
PLAIN = {"n": "\n", "t": "\t"}


def words(line: str) -> list[str]:
    """Take a command line apart, as systemd.service(5) says."""
    found = [re.sub(r"\\(.)", lambda escape: PLAIN.get(escape[1], escape[1]), word) for word in WORD.findall(line)]
    return [word.replace("%%", "%").replace("$$", "$") for word in found]


def run(setting: str) -> bool:
    """Run each command of a setting; stop at the first that fails, unless the setting says not to."""
    (unit,) = PLACE.glob(f"*/units/{FAULT}")
    for line in unit.read_text().splitlines():
        name, _, command = line.partition("=")
        if name == setting:
            ended = subprocess.run(words(command), check=False)
            if ended.returncode != 0 and not command.startswith("-"):
                return False
    return True


def start(unit: str) -> int:
    """Start a unit; that which is the fault by its own commands."""
    if unit == FAULT and not run("ExecStartPre"):
        run("ExecStopPost")
        print(f"Job for {unit} failed", file=sys.stderr)
        return 1
    (PLACE / "active" / unit).touch()
    return 0


def stop(unit: str) -> int:
    """Stop it, likewise."""
    active = PLACE / "active" / unit
    if active.exists():
        if unit == FAULT:
            run("ExecStopPost")
        active.unlink()
    return 0


def main() -> int:
    """Do what is asked. Exit code: as systemctl's."""
    asked = " ".join(sys.argv[1:])
    with (PLACE / "asked").open("a") as file:
        file.write(asked + "\n")
    refuses = PLACE / "refuses"
    if refuses.exists() and re.search(refuses.read_text(), asked):
        print("not now", file=sys.stderr)
        return 1
    waits = PLACE / "waits"
    while waits.exists() and re.search(waits.read_text(), asked):
        time.sleep(0.02)
    match sys.argv[1:]:
        case ["start", unit]:
            return start(unit)
        case ["stop", unit]:
            return stop(unit)
        case ["is-active", "--quiet", unit]:
            return 0 if (PLACE / "active" / unit).exists() else 3
        case ["show", *_]:
            print("/of/no/unit")
        case ["kill", *_, unit]:
            return 0 if (PLACE / "active" / unit).exists() else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
