"""`tests/simulation/planted`: plant each bug in a copy of the package, and search for the seed that catches it.

Each search is a process of its own that sees the copy instead of the package. It ends at the first seed whose story
violates one of the invariants that show this bug, and violates none without it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from planted_bugs import BUGS, Bug, Edit

if TYPE_CHECKING:
    from collections.abc import Collection

HERE = Path(__file__).resolve().parent
PACKAGE = HERE.parents[1] / "failoverd"
SEEDS = 2000  # the rarest is shown by one in 1300 or so


def edited(text: str, edit: Edit) -> str:
    """Return `text` with the edit made; ValueError where what it changes is not there exactly once."""
    found = text.count(edit.old)
    if found != 1:
        raise ValueError(f"{edit.file}: found {found} times, not once: {edit.old!r}")
    return text.replace(edit.old, edit.new)


def plant(bug: Bug, directory: Path) -> None:
    """Copy the package below `directory`, and plant the bug in the copy."""
    copy = directory / PACKAGE.name
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    for edit in bug.edits:
        path = copy / edit.file
        path.write_text(edited(path.read_text(), edit))


def search(first: int, last: int, shown: Collection[str]) -> None:
    """In the process that sees the package, planted or not: print what is caught first, as one line of JSON."""
    from simulate import simulate  # noqa: PLC0415 - it imports the package, and the parent must not

    for number in range(first, last + 1):
        seed = simulate(number)
        if seed.violation and (not shown or seed.invariant in shown):
            found = {"seed": number, "invariant": seed.invariant, "at_s": seed.virtual_ms / 1000}
            print(json.dumps(found | {"text": seed.violation.splitlines()[0]}))
            return
    print(json.dumps({"seed": None}))


def searched(packages: Path, first: int, last: int, shown: Collection[str]) -> dict[str, object]:
    """What `search` finds with the package that lies in `packages`."""
    command = [sys.executable, __file__, "--search", str(first), str(last), *shown]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(packages), str(HERE)]),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return {"seed": None, "text": done.stderr.strip()[-400:]}
    found: dict[str, object] = json.loads(done.stdout)
    return found


def caught(bug: Bug, seeds: int) -> dict[str, object]:
    """The first seed that fails with the bug and not without it."""
    first = 1
    with tempfile.TemporaryDirectory(prefix="planted-") as name:
        plant(bug, Path(name))
        while True:
            found = searched(Path(name), first, seeds, bug.shown)
            number = found["seed"]
            if not isinstance(number, int) or searched(PACKAGE.parent, number, number, ())["seed"] is None:
                return found
            first = number + 1


def row(bug: Bug, found: dict[str, object]) -> str:
    """One line of the table."""
    files = ", ".join(dict.fromkeys(edit.file for edit in bug.edits))
    if found["seed"] is None:
        return f"{bug.name:<40} {files:<24} NOT CAUGHT {found.get('text', '')}"
    return f"{bug.name:<40} {files:<24} {found['seed']:>5}  {found['invariant']:<14} {found['at_s']:>7.1f} s"


def main() -> int:
    """0 when every bug was caught."""
    parser = argparse.ArgumentParser(prog="tests/simulation/planted", description=__doc__)
    parser.add_argument("--only", action="append", help="a bug's name; may be given again")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--search", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.search:
        first, last, *shown = arguments.search
        search(int(first), int(last), shown)
        return 0
    bugs = [bug for bug in BUGS if not arguments.only or bug.name in arguments.only]
    print(f"{'bug':<40} {'file':<24} {'seed':>5}  {'invariant':<14} {'virtual':>9}", flush=True)
    missed = 0
    with ThreadPoolExecutor(arguments.jobs) as pool:
        for bug, found in zip(bugs, pool.map(lambda bug: caught(bug, arguments.seeds), bugs), strict=True):
            print(row(bug, found), flush=True)
            missed += found["seed"] is None
    print(f"{len(bugs) - missed} of {len(bugs)} caught within {arguments.seeds} seeds")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
