"""One run of the scale benchmark: start, a steady state, failovers of some and of all; what it came to, as a dict."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import random
import threading
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import psutil
from scale_agents import Counts, Timing
from scale_etcd import HISTOGRAMS, IN_USE, LEADERS, MEMORY, PASSWORD, PREFIX, SIZE, Etcd, Metrics
from scale_worker import Task, allow_files, work

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from multiprocessing.connection import Connection
    from pathlib import Path

START_S = 600.0
PROFILE_S = 10


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be run."""

    clusters: int
    steady_s: float
    timing: Timing = field(default_factory=Timing)
    failovers: tuple[str, ...] = ("1%", "10%", "all")
    version: str = "3.4"
    processes: int = 1
    a_second: float = 20.0  # clusters that start: eight handshakes and four passwords each
    profile: Path | None = None
    settle_s: float = 10.0  # before what is measured: after the start, and after who had fallen is back
    say: Callable[[str], None] = field(default=lambda _line: None, compare=False)


class Generator:
    """The processes that are the clusters' nodes."""

    def __init__(self, etcd: Etcd, plan: Plan) -> None:
        numbers, count = range(plan.clusters), plan.processes
        context = multiprocessing.get_context("spawn")
        self.pipes: list[Connection] = []
        self._processes = []
        self._handshakes = [0] * count
        self.seconds: list[Counts] = []
        files = etcd.client
        for place in range(count):
            task = Task(
                tuple(numbers[place::count]),
                etcd.addresses,
                plan.timing,
                PREFIX,
                PASSWORD,
                files.ca,
                files.certificate,
                files.key,
                plan.a_second / count,
            )
            ours, theirs = context.Pipe()
            process = context.Process(target=work, args=(theirs, task), daemon=True)
            process.start()
            theirs.close()
            self.pipes.append(ours)
            self._processes.append(process)

    @property
    def handshakes(self) -> int:
        """How many TLS connections were made up to now."""
        return sum(self._handshakes)

    def second(self) -> Counts:
        """Wait for what all of them say of the next second. Raises RuntimeError when one of them has ended."""
        merged = Counts()
        for place, pipe in enumerate(self.pipes):
            try:
                counts, self._handshakes[place] = pipe.recv()
            except EOFError:
                raise RuntimeError("a process of the generator has ended: see its words above") from None
            _add(merged, counts)
        self.seconds.append(merged)
        return merged

    def tell(self, word: str, numbers: Sequence[int] = ()) -> None:
        """Tell all of them."""
        for pipe in self.pipes:
            pipe.send((word, tuple(numbers)))

    def cpu_s(self) -> float:
        """What they used, seconds; this process, which asks etcd how it is, with them."""
        used = [psutil.Process(one.pid).cpu_times() for one in self._processes] + [psutil.Process().cpu_times()]
        return sum(one.user + one.system for one in used)

    def close(self) -> None:
        """End them."""
        for pipe, process in zip(self.pipes, self._processes, strict=True):
            with contextlib.suppress(BrokenPipeError):  # it has ended by itself
                pipe.send(("stop", ()))
            while process.is_alive():  # it may be telling something that nobody hears any more
                while pipe.poll():
                    try:
                        pipe.recv()
                    except EOFError:
                        break
                process.join(0.2)
            pipe.close()


class Stretch:
    """What a stretch of time cost: from when it is made to `cost`."""

    def __init__(self, etcd: Etcd, generator: Generator) -> None:
        self._etcd, self._generator = etcd, generator
        self._began_s, self._metrics = time.monotonic(), etcd.metrics()
        self._cpu, self._own, self._idle = _cpu(etcd), generator.cpu_s(), psutil.cpu_times().idle
        self._first, self._shaken = len(generator.seconds), generator.handshakes

    def cost(self) -> dict[str, Any]:
        """Figures: rates a second, CPU in cores, latencies and fsync in ms, sizes in bytes."""
        metrics, spent_s = self._etcd.metrics(), time.monotonic() - self._began_s
        counts = Counts()
        for second in self._generator.seconds[self._first :]:
            _add(counts, second)
        cpu, own = _cpu(self._etcd), self._generator.cpu_s()
        leader = self._etcd.leader()
        return {
            "seconds": round(spent_s, 1),
            "transactions_a_second": round(counts.sent / spent_s, 1),
            "events_a_second": round(counts.events / spent_s, 1),
            "reads_a_second": round(counts.reads / spent_s, 1),
            "handshakes": self._generator.handshakes - self._shaken,
            "renewal_ms": _spread(counts.renewed),
            "timeouts": counts.timeouts,
            "watched_again": counts.watched_again,
            "lost": counts.lost,
            "overlaps": counts.overlaps,
            "errors": counts.errors,
            "etcd_cores": [round((now - was) / spent_s, 3) for now, was in zip(cpu, self._cpu, strict=True)],
            "generator_cores": round((own - self._own) / spent_s, 3),
            "idle_cores": round((psutil.cpu_times().idle - self._idle) / spent_s, 3),
            "leader": leader,
            "leader_changes": _sum(metrics, LEADERS) - _sum(self._metrics, LEADERS),
            "fsync_ms": _disk(metrics, self._metrics, HISTOGRAMS[0]),
            "commit_ms": _disk(metrics, self._metrics, HISTOGRAMS[1]),
            "in_use_bytes": max(one.numbers[IN_USE] for one in metrics),
            "file_bytes": max(one.numbers[SIZE] for one in metrics),
            "memory_bytes": [one.numbers[MEMORY] for one in metrics],
        }


def run(directory: Path, plan: Plan) -> dict[str, Any]:
    """Run it, below `directory`, which is empty. Raises RuntimeError when it could not be begun."""
    allow_files()
    etcd = Etcd(directory, plan.version)
    generator = None
    try:
        began_s = time.monotonic()
        etcd.open([f"c{number:05}" for number in range(plan.clusters)])
        plan.say(f"etcd {plan.version}: {plan.clusters} users and roles in {time.monotonic() - began_s:.0f} s")
        generator = Generator(etcd, plan)
        start = started(etcd, generator, plan)
        costs = steady(etcd, generator, plan)
        failovers = [failover(etcd, generator, plan, share) for share in plan.failovers]
    finally:
        try:
            if generator is not None:
                generator.close()
        finally:
            etcd.close()
    return {
        "clusters": plan.clusters,
        "version": plan.version,
        "timing": asdict(plan.timing),
        "processes": plan.processes,
        "start": start,
        **costs,
        "failovers": failovers,
    }


def started(etcd: Etcd, generator: Generator, plan: Plan) -> dict[str, Any]:
    stretch, ready, watching = Stretch(etcd, generator), 0, 0
    end_s = time.monotonic() + START_S
    while ready < plan.clusters or watching < 4 * plan.clusters:
        second = generator.second()
        ready, watching = ready + second.ready, watching + second.watching
        plan.say(f"{ready} clusters have a primary, {watching} watches {_words(second)}")
        if time.monotonic() > end_s:
            raise RuntimeError(f"after {START_S:.0f} s {ready} of {plan.clusters} clusters, {watching} watches")
    return stretch.cost()


def steady(etcd: Etcd, generator: Generator, plan: Plan) -> dict[str, Any]:
    """The steady state, and how much each second took."""
    settled(generator, plan)
    stretch, rows, end_s = Stretch(etcd, generator), [], time.monotonic() + plan.steady_s
    cpu, own, at_s = _cpu(etcd), generator.cpu_s(), time.monotonic()
    while time.monotonic() < end_s:
        second = generator.second()
        now_s, now_cpu, now_own = time.monotonic(), _cpu(etcd), generator.cpu_s()
        spent_s = now_s - at_s
        row = {
            "transactions": second.sent,
            "events": second.events,
            "reads": second.reads,
            "timeouts": second.timeouts,
            "lost": second.lost,
            "renewal_ms": _spread(second.renewed),
            "etcd_cores": [round((now - was) / spent_s, 2) for now, was in zip(now_cpu, cpu, strict=True)],
            "generator_cores": round((now_own - own) / spent_s, 2),
        }
        if len(rows) % 5 == 0:
            row["in_use_bytes"] = max(one.numbers[IN_USE] for one in etcd.metrics())
        rows.append(row)
        if len(rows) % 10 == 1 or second.lost:
            plan.say(f"{len(rows)} s: {json.dumps(row)}{_words(second)}")
        cpu, own, at_s = now_cpu, now_own, now_s
    cost = stretch.cost()
    if plan.profile is not None:  # afterwards: it costs etcd some CPU of its own
        profiling = threading.Thread(target=_profiled, args=(etcd, cost["leader"], plan.profile))
        profiling.start()
        while profiling.is_alive():
            generator.second()
    return {"steady": cost, "by_second": rows}


def _profiled(etcd: Etcd, member: int, file: Path) -> None:
    file.write_bytes(etcd.profile(member, PROFILE_S))


def settled(generator: Generator, plan: Plan) -> int:
    """Wait; how many lost a lease meanwhile."""
    end_s, lost = time.monotonic() + plan.settle_s, 0
    while time.monotonic() < end_s:
        lost += generator.second().lost
    return lost


def failover(etcd: Etcd, generator: Generator, plan: Plan, share: str) -> dict[str, Any]:
    """Silence the primaries of a share of the clusters at once; wait until each has another."""
    part = 100.0 if share == "all" else float(share.rstrip("%"))
    count = max(1, round(plan.clusters * part / 100))
    numbers = random.Random(share).sample(range(plan.clusters), count)  # noqa: S311 - the same ones in each run
    stretch, taken = Stretch(etcd, generator), {}
    generator.tell("fail", numbers)
    end_s = time.monotonic() + 20 * plan.timing.ttl_ms / 1000
    others_lost = 0
    while len(taken) < count and time.monotonic() < end_s:
        second = generator.second()
        others_lost += second.lost
        for number, renewed_ms, failed_ms in second.taken:
            taken.setdefault(number, (renewed_ms, failed_ms))
        plan.say(f"{share}: {len(taken)} of {count} have a new primary {_words(second)}")
    cost = stretch.cost()
    generator.tell("heal", numbers)
    others_lost += settled(generator, plan)
    return {
        "share": share,
        "clusters": count,
        "without_a_new_primary": count - len(taken),
        "from_the_last_renewal_ms": _spread([one for one, _ in taken.values()]),
        "from_the_fault_ms": _spread([one for _, one in taken.values()]),
        "others_lost": others_lost,
        "cost": cost,
    }


def _words(counts: Counts) -> str:
    errors = f" {counts.errors}" if counts.errors else ""
    return f"({counts.sent} swaps, {counts.events} events, {counts.reads} reads, {counts.timeouts} timeouts{errors})"


def _add(to: Counts, more: Counts) -> None:
    for name in ("sent", "timeouts", "lost", "reads", "events", "overlaps", "ready", "watching", "watched_again"):
        setattr(to, name, getattr(to, name) + getattr(more, name))
    to.renewed += more.renewed
    to.taken += more.taken
    for why, count in more.errors.items():
        to.errors[why] = to.errors.get(why, 0) + count


def _cpu(etcd: Etcd) -> list[float]:
    return [sum(one.cpu_times()[:2]) for one in etcd.processes()]


def _sum(metrics: list[Metrics], name: str) -> int:
    return round(sum(one.numbers.get(name, 0.0) for one in metrics))


def _disk(now: list[Metrics], since: list[Metrics], name: str) -> dict[str, float]:
    """The worst member's."""
    each = [one.quantiles(was, name, 0.5, 0.99) for one, was in zip(now, since, strict=True)]
    return {"p50": round(max(p50 for p50, _ in each), 2), "p99": round(max(p99 for _, p99 in each), 2)}


def _spread(values: list[float]) -> dict[str, float]:
    if not values:
        return {"count": 0}
    ordered = sorted(values)
    at = {"p50": 0.5, "p99": 0.99, "p999": 0.999}
    spread = {name: round(ordered[min(len(ordered) - 1, int(len(ordered) * share))], 1) for name, share in at.items()}
    return {"count": len(ordered), **spread, "max": round(ordered[-1], 1)}
