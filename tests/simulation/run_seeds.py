"""`tests/simulation/run`: many seeds, and what they came to.

seeds          300          1 seed = 10 virtual minutes
virtual hours  50.0
failovers      1210         terms that began because the holder was lost, and 24 that a person forced, of 1650 terms
unproven       30 times a primary went on without a replica, and 12 terms began within a bound
violations     0
speed          1050 virtual seconds per second of one core; 240 at a ttl of 3 s (37 seeds), …
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sim_weather import Weather
from simulate import LASTS_MS, Seed, simulate

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

TOLD = 1  # stories of failing seeds that are printed; of the others the seed is enough


@dataclass
class Figures:
    """Sums over seeds."""

    seeds: int = 0
    virtual_ms: int = 0
    terms: int = 0
    failovers: int = 0
    forced: int = 0
    unproven: int = 0
    within: int = 0
    violations: list[Seed] = field(default_factory=list)
    spent: dict[int, list[float]] = field(default_factory=lambda: defaultdict(lambda: [0, 0.0, 0.0]))  # by ttl

    def add(self, seed: Seed, ttl_ms: int, cpu_s: float) -> None:
        """One more."""
        self.seeds += 1
        self.virtual_ms += seed.virtual_ms
        self.terms += seed.terms
        self.failovers += seed.failovers
        self.forced += seed.forced
        self.unproven += seed.unproven
        self.within += seed.within
        if seed.violation:
            self.violations.append(seed)
        by_ttl = self.spent[ttl_ms]
        by_ttl[0] += 1
        by_ttl[1] += seed.virtual_ms / 1000
        by_ttl[2] += cpu_s

    def speed(self) -> str:
        """Virtual seconds per second of one core, of all and by the lease's length."""
        cpu_s = sum(spent for _, _, spent in self.spent.values())
        each = ", ".join(
            f"ttl {ttl_ms // 1000} s: {virtual_s / spent:.0f} ({seeds:.0f} seeds)"
            for ttl_ms, (seeds, virtual_s, spent) in sorted(self.spent.items())
        )
        return f"{self.virtual_ms / 1000 / cpu_s:.0f} virtual seconds per second of one core\n               {each}"

    def __str__(self) -> str:
        return (
            f"seeds          {self.seeds}\n"
            f"virtual hours  {self.virtual_ms / 3_600_000:.1f}\n"
            f"failovers      {self.failovers}, and {self.forced} that a person forced, of {self.terms} terms\n"
            f"unproven       {self.unproven} times a primary went on without a replica, and {self.within} terms began "
            f"within a bound\n"
            f"violations     {len(self.violations)}\n"
            f"speed          {self.speed()}"
        )


def timed(number: int) -> tuple[Seed, int, float]:
    """Run one seed; its lease and the processor's time beside it."""
    began = time.process_time()
    seed = simulate(number)
    seed.story.clear()
    return seed, Weather(number).policy.ttl_ms, time.process_time() - began


def run(numbers: Iterable[int], jobs: int) -> Iterator[tuple[Seed, int, float]]:
    """All of them, in order, on so many cores."""
    if jobs == 1:
        yield from map(timed, numbers)
    else:
        with multiprocessing.get_context("spawn").Pool(jobs) as pool:
            yield from pool.imap(timed, numbers, chunksize=4)


def main() -> int:
    """0 when no invariant was violated."""
    parser = argparse.ArgumentParser(
        prog="tests/simulation/run", description=__doc__.splitlines()[0] if __doc__ else ""
    )
    parser.add_argument("--seeds", default="1..300", help="A..B, or one number: its story is told")
    parser.add_argument("--hours", type=float, help="stop after so many virtual hours")
    parser.add_argument("--jobs", type=int, default=1)
    arguments = parser.parse_args()
    first, _, last = arguments.seeds.partition("..")
    if not last:
        seed = simulate(int(first), told=True)
        print("\n".join(seed.story))
        return 1 if seed.violation else 0
    most = float("inf") if arguments.hours is None else arguments.hours * 3_600_000
    figures = Figures()
    for seed, ttl_ms, cpu_s in run(range(int(first), int(last) + 1), arguments.jobs):
        figures.add(seed, ttl_ms, cpu_s)
        if seed.violation:
            print(
                f"SEED {seed.number} after {seed.virtual_ms / 1000:.1f} s: {seed.violation.splitlines()[0]}", flush=True
            )
        if sys.stderr.isatty() and figures.seeds % 50 == 0:
            print(f"{figures.seeds} seeds, {len(figures.violations)} violations", file=sys.stderr)
        if figures.virtual_ms + LASTS_MS > most:
            break
    for seed in figures.violations[:TOLD]:
        print(f"\nSEED {seed.number}: {seed.invariant}")
        print("\n".join(simulate(seed.number, told=True).story[-200:]))
    print(f"\n{figures}" if figures.violations else figures)
    return 1 if figures.violations else 0


if __name__ == "__main__":
    sys.exit(main())
