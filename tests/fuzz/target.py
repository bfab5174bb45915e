"""What a parser that reads from outside is fuzzed by: a row of the registry, and how one input is tried.

    TARGETS (targets.py) ──> seeds, mutated ──> entry(data) ──> a value, or an error of `raises`: fine
                                                           └──> anything else: a crash;  > SLOW_S: a hang

The same row is used by the tests of every run (hypothesis, some hundred inputs) and by tests/fuzz/run (atheris).
"""

from __future__ import annotations

import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

SEEDS = Path(__file__).with_name("seeds")
SLOW_S = 1.0  # of processor time: what is slower than this is a hang, on whatever machine
PROJECT = "/failoverd/"


@dataclass(frozen=True)
class Target:
    """One parser. `made` gives inputs that are well-formed, or nearly; found ones are kept in seeds/NAME."""

    name: str
    reads: str  # what comes from outside, in plain words
    entry: Callable[[bytes], object]
    made: Callable[[], list[bytes]]
    raises: tuple[type[BaseException], ...] = ()
    longest: int = 16 * 1024  # bytes of an input that is made up

    def kept(self) -> list[Path]:
        """Inputs that once were trouble."""
        return sorted(path for path in (SEEDS / self.name).glob("*") if path.is_file())

    def seeds(self) -> list[bytes]:
        """All that a run begins with."""
        return [*self.made(), *(path.read_bytes() for path in self.kept())]


@dataclass(frozen=True)
class Trial:
    """What became of one input: `key` is what went wrong and where, "" when nothing did."""

    took_s: float
    key: str = ""
    trace: str = field(default="", repr=False)


def tried(target: Target, data: bytes) -> Trial:
    """Try one input."""
    began = time.process_time()
    key = trace = ""
    try:
        target.entry(data)
    except target.raises:
        pass
    except Exception as error:  # noqa: BLE001 - any other is what is looked for
        key, trace = f"{type(error).__name__} in {place_of(error)}", "".join(traceback.format_exception(error)[-30:])
    took_s = time.process_time() - began
    if not key and took_s > SLOW_S:
        key = "hang"
    return Trial(took_s, key, trace)


def place_of(error: BaseException) -> str:
    """The innermost line of the project's: the same trouble is kept once."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if PROJECT in frame.filename and "/tests/" not in frame.filename]
    frame = (ours or frames)[-1]
    return f"{Path(frame.filename).name}:{frame.name}:{frame.lineno}"
