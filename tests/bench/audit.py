"""What the chain costs an append: median and p95 in microseconds, of a step's record and of a decision with its input.

    tests/bench/audit                   in a directory of /tmp
    tests/bench/audit --place DIR       on the disk that counts
    --count N                           appends of each (500)

`written` is what a file without chain, rotation and reserve would do: JSON, write, fsync. Both take turns, so that what
else the disk does meets both.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1])]

from failoverd.audit.file import AuditFile  # noqa: E402 - after the path
from failoverd.runtime.clock import BootClock  # noqa: E402 - likewise

STEP = {"term": 7, "actor": "failoverd", "kind": "step", "rule": "primary-lost-by-quorum", "result": "begun"}
STEP |= {"text": "open-gate", "detail": {"name": "open-gate", "step": "12"}}
DECISION = STEP | {"kind": "decision", "input": {"software": "0.1.0", "digest": "0" * 64, "view": "x" * 4000}}


def plainly(descriptor: int, line: dict[str, object]) -> None:
    """Write a record without the chain."""
    head = {"v": 1, "seq": 1, "time": "2026-03-01T12:00:00.123Z", "boot_ms": 1, "node": "mail1"}
    os.write(descriptor, json.dumps(head | line, separators=(",", ":")).encode() + b"\n")
    os.fsync(descriptor)


def microseconds(values: list[int]) -> str:
    """Median and p95."""
    values.sort()
    return f"{statistics.median(values) / 1000:8.1f} {values[int(len(values) * 0.95)] / 1000:8.1f}"


def measure(place: Path, line: dict[str, object], count: int) -> tuple[list[int], list[int]]:
    """Nanoseconds of each append: plain, and chained."""
    plain, chained = [], []
    audit = AuditFile(place / "audit.jsonl", "mail1", BootClock(), cluster="mail")
    descriptor = os.open(place / "plain", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for _ in range(count):
        began = time.perf_counter_ns()
        plainly(descriptor, line)
        between = time.perf_counter_ns()
        audit.append([line])
        ended = time.perf_counter_ns()
        plain.append(between - began)
        chained.append(ended - between)
    os.close(descriptor)
    audit.close()
    return plain, chained


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--place", type=Path)
    parser.add_argument("--count", type=int, default=500)
    asked = parser.parse_args()
    print(f"{'':10} {'written':>17} {'chained':>17}   more, median")
    for name, line in (("step", STEP), ("decision", DECISION)):
        with tempfile.TemporaryDirectory(dir=asked.place) as place:
            plain, chained = measure(Path(place), line, asked.count)
            more = statistics.median(chained) / statistics.median(plain) - 1
            print(f"{name:10} {microseconds(plain)} {microseconds(chained)}   {more:+.1%}")


if __name__ == "__main__":
    main()
