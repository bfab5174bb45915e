"""One target in a process of its own, under atheris: libFuzzer mutates, what is covered guides it.

fuzz_one.py NAME SECONDS FOUND_DIRECTORY STATS_FILE [libFuzzer's own arguments: the corpus, limits]

A crash does not end the run: its input is made smaller and kept, once a place and kind of error, and it goes on. What
libFuzzer itself ends on (a signal, its limits of memory and time) is told by the exit code.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import resource
import sys
import time
from pathlib import Path

import atheris

with atheris.instrument_imports(
    include=["failoverd", "pymysql", "aioimaplib", "aiosmtplib"], enable_loader_override=False
):
    from targets import TARGETS

from mutations import mutate
from target import Target, tried

MEMORY_BYTES = 3 << 30  # of address space: what grows without end meets it, and no one else does
SMALLER_S = 10.0  # for making one input smaller
TOLD_S = 1.0
WARM = 200  # inputs after which what the process has loaded is loaded


class Run:
    """Counts, and keeps what is found."""

    def __init__(self, target: Target, found: Path, stats: Path) -> None:
        self._target, self._found, self._stats = target, found, stats
        self._began = time.monotonic()
        self._told = 0.0
        self._executions = 0
        self._slowest_s = 0.0
        self._rss_warm = self._rss = 0
        self._crashes: dict[str, str] = {}

    def one(self, data: bytes) -> None:
        """Try one input."""
        trial = tried(self._target, data)
        self._executions += 1
        self._slowest_s = max(self._slowest_s, trial.took_s)
        if trial.key and trial.key not in self._crashes:
            small = self._smaller(data, trial.key)
            name = hashlib.sha256(small).hexdigest()[:16]
            self._found.mkdir(parents=True, exist_ok=True)
            (self._found / name).write_bytes(small)
            self._crashes[trial.key] = name
            sys.stderr.write(f"\nFOUND {self._target.name}: {trial.key}: {self._found / name}\n{trial.trace}\n")
        now = time.monotonic()
        if now - self._told > TOLD_S:
            self._told = now
            self.tell()

    def tell(self) -> None:
        """Write down how far it is: libFuzzer ends the process as it likes."""
        self._rss = rss_bytes()
        if self._executions <= WARM or not self._rss_warm:
            self._rss_warm = self._rss
        told = {
            "executions": self._executions,
            "seconds": time.monotonic() - self._began,
            "slowest_ms": round(self._slowest_s * 1000, 1),
            "rss_growth_mb": round((self._rss - self._rss_warm) / 1e6, 1),
            "crashes": self._crashes,
        }
        new = self._stats.with_suffix(".new")
        new.write_text(json.dumps(told))
        new.replace(self._stats)

    def _smaller(self, data: bytes, key: str) -> bytes:
        """Leave out what it does not need, in pieces of halving length."""
        until = time.monotonic() + SMALLER_S
        length = max(len(data) // 2, 1)
        while length and time.monotonic() < until:
            start = 0
            while start < len(data) and time.monotonic() < until:
                fewer = data[:start] + data[start + length :]
                if tried(self._target, fewer).key == key:
                    data = fewer
                else:
                    start += length
            length //= 2
        return data


def rss_bytes() -> int:
    """How much memory this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    """Never returns: libFuzzer ends the process."""
    name, found, stats, *rest = sys.argv[1:]
    target = TARGETS[name]
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    run = Run(target, Path(found), Path(stats))

    def mutated(data: bytes, most: int, seed: int) -> bytes:
        rng = random.Random(seed)  # noqa: S311 - inputs, not keys
        if rng.random() < 0.5:
            return bytes(atheris.Mutate(data, most))
        return mutate(rng, data, most)

    atheris.Setup([sys.argv[0], *rest], run.one, custom_mutator=mutated, internal_libfuzzer=True)
    run.tell()
    atheris.Fuzz()


if __name__ == "__main__":
    main()
