"""Targets, each in a process of its own, under atheris: libFuzzer mutates, what is covered guides it.

    run_fuzz.py ── one target, a line ──> this process, which has everything loaded and instrumented ── fork ──> it
                <── how it has ended ──── waits, and ends what does not

Loading and instrumenting takes longer than many a target is fuzzed, so it is done once. A crash does not end the run:
its input is made smaller and kept, once a place and kind of error, and it goes on. What libFuzzer itself ends on (a
signal, its limits of memory and time) is told by the exit code.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import resource
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

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


def fuzz(asked: dict[str, Any]) -> None:
    """Fuzz one target. Never returns: libFuzzer ends the process."""
    for descriptor, path in ((0, os.devnull), (1, asked["log"]), (2, asked["log"])):
        opened = os.open(path, os.O_RDONLY if descriptor == 0 else os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(opened, descriptor)
    target = TARGETS[asked["name"]]
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    seeds = target.seeds()
    for number, seed in enumerate(seeds):
        (Path(asked["seeds"]) / f"{number:04}").write_bytes(seed)
    run = Run(target, Path(asked["found"]), Path(asked["stats"]))

    def mutated(data: bytes, most: int, seed: int) -> bytes:
        rng = random.Random(seed)  # noqa: S311 - inputs, not keys
        if rng.random() < 0.5:
            return bytes(atheris.Mutate(data, most))
        return mutate(rng, data, most)

    longest = max([target.longest, *map(len, seeds)])
    arguments = [sys.argv[0], f"-max_len={longest}", *asked["arguments"], asked["corpus"], asked["seeds"]]
    atheris.Setup(arguments, run.one, custom_mutator=mutated, internal_libfuzzer=True)
    run.tell()
    atheris.Fuzz()


def ended(process: int, within_s: float) -> int:
    """Wait for a process; its exit code, negative for a signal."""
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.1)
    os.kill(process, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def main() -> None:
    """A line of JSON in, what `fuzz` takes and `within_s`; a line of JSON out: `code`."""
    for line in sys.stdin:
        asked = json.loads(line)
        process = os.fork()
        if process == 0:
            try:
                fuzz(asked)
            except BaseException:
                traceback.print_exc()
                raise
            finally:
                os._exit(70)  # libFuzzer has not ended it: it did not begin
        print(json.dumps({"code": ended(process, asked["within_s"])}), flush=True)


if __name__ == "__main__":
    main()
