"""Running programs and waiting for things, each with a deadline and an error that says what was wanted."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class LabError(Exception):
    """What the lab cannot do, in one sentence for a person."""


def run(
    *argv: str,
    stdin: str | None = None,
    check: bool = True,
    timeout_s: float = 60.0,
    env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end and keep what it printed; a failure is a LabError with the program's last words."""
    try:
        done = subprocess.run(
            argv,
            input=stdin if stdin is not None else "",
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
            env=env,
        )
    except subprocess.TimeoutExpired as error:
        raise LabError(f"`{_short(argv)}` was not done after {timeout_s:g} s") from error
    except FileNotFoundError as error:
        raise LabError(f"`{argv[0]}` is not installed") from error
    if check and done.returncode != 0:
        words = (done.stderr.strip() or done.stdout.strip()).splitlines()[-12:]
        raise LabError(f"`{_short(argv)}` ended with {done.returncode}:\n  " + "\n  ".join(words))
    return done


def _short(argv: tuple[str, ...]) -> str:
    line = " ".join(argv)
    return line if len(line) < 160 else line[:157] + "..."


def wait_for(
    what: str,
    done: Callable[[], bool],
    deadline_s: float,
    every_s: float = 0.05,
    why_not: Callable[[], str] | None = None,
) -> None:
    """Poll until the thing has happened; a LabError names it, and what is missing, when it has not by the deadline."""
    end = time.monotonic() + deadline_s
    while not done():
        if time.monotonic() > end:
            raise LabError(f"{what}: not so after {deadline_s:g} s" + (f": {why_not()}" if why_not else ""))
        time.sleep(every_s)


def living(numbers: set[int]) -> set[int]:
    """Leave out what is dead, and what is dead and not yet waited for."""
    return {number for number in numbers if process_state(number) not in "ZX"}


def process_state(number: int) -> str:
    """Give the letter of a process's state; X where there is none."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"
