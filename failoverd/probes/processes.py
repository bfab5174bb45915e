"""What Postfix and Dovecot use: Postfix's share of a core, and a process whose memory only grows.

Whose a process is, its cgroup says: systemd put it below its unit, whoever its parent is now.

**CPU.** The sum over Postfix's processes of what each used itself and what its ended children used, as the kernel
keeps it: a process that came and went between two samples is in its parent's account. The share of one core is the
sum's growth over the window.

**Memory only grows.** The window is cut into six. Of each process (its number and when it began) the least resident
memory in each sixth is kept: a peak that was given back is not in it. It only grows where every sixth's least is above
the one before, and the last is above the first by so many megabytes and so many percent. A process younger than the
window is not judged, nor one that found its size: one sixth without growth ends it.
"""

from __future__ import annotations

import itertools
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from failoverd.core.model import Health, Reading
from failoverd.core.monitoring import ProcessFacts
from failoverd.probes.aside import Aside, ThreadRefusedError
from failoverd.probes.deadline import current

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from failoverd.config import Memory, PostfixCpu
    from failoverd.ports import Target

PARTS = 6
FOLLOWED = 4096  # processes
NAMED = 3  # in one reason
MB = 1_000_000


@dataclass(frozen=True, slots=True)
class Sample:
    """One process. `cpu_s` with that of its ended children."""

    pid: int
    began: float
    name: str
    unit: str
    cpu_s: float
    rss: int

    @property
    def key(self) -> tuple[int, float]:
        """Names this process: its number may be another's later."""
        return self.pid, self.began


@dataclass(slots=True)
class _Growth:
    """The least memory of each part of the window, newest last; `part` is the number of that one."""

    name: str
    part: int
    least: deque[int] = field(default_factory=lambda: deque(maxlen=PARTS + 1))


class Memories:
    """Finds the processes whose memory only grows."""

    def __init__(self, limit: Memory) -> None:
        self._limit = limit
        self._part_ms = max(1, limit.window_ms // PARTS)
        self._growths: dict[tuple[int, float], _Growth] = {}

    def add(self, now_ms: int, samples: list[Sample]) -> None:
        """One look at all of them; who is not in it has ended."""
        part = now_ms // self._part_ms
        alive = {sample.key for sample in samples}
        self._growths = {key: growth for key, growth in self._growths.items() if key in alive}
        for sample in samples:
            known = self._growths.get(sample.key)
            if known is None:
                if len(self._growths) < FOLLOWED:
                    self._growths[sample.key] = _Growth(sample.name, part, deque([sample.rss], maxlen=PARTS + 1))
            elif known.part == part:
                known.least[-1] = min(known.least[-1], sample.rss)
            else:
                if part != known.part + 1:
                    known.least.clear()  # nobody looked for a whole part
                known.part = part
                known.least.append(sample.rss)

    def growing(self) -> Iterator[tuple[str, int, int, int]]:
        """(name, pid, bytes at first, bytes now) of each one. Its newest part, which is not over, is left out."""
        for (pid, _), growth in self._growths.items():
            whole = list(growth.least)[:-1]
            if len(whole) < PARTS or any(after <= before for before, after in itertools.pairwise(whole)):
                continue
            first, last = whole[0], whole[-1]
            if last - first >= self._limit.megabytes * MB and last >= first * (1 + self._limit.grows_percent / 100):
                yield growth.name, pid, first, last


class CpuShare:
    """The growth of a sum over a window, as percent of one core."""

    def __init__(self, window_ms: int) -> None:
        self._window_ms = window_ms
        self._sums: deque[tuple[int, float]] = deque()

    def add(self, now_ms: int, cpu_s: float | None) -> None:
        """One sample; None where no process is. A sum that shrinks is another start of the server: begin anew."""
        if cpu_s is None or (self._sums and cpu_s < self._sums[-1][1]):
            self._sums.clear()
        if cpu_s is not None:
            self._sums.append((now_ms, cpu_s))
        while len(self._sums) > 2 and self._sums[1][0] <= now_ms - self._window_ms:
            self._sums.popleft()

    @property
    def percent(self) -> float | None:
        """Over what is known of the window; None before two samples."""
        if len(self._sums) < 2:
            return None
        (first_ms, first), (last_ms, last) = self._sums[0], self._sums[-1]
        return round(100_000 * (last - first) / max(last_ms - first_ms, 1), 1)

    @property
    def whole(self) -> bool:
        """The window is full: a peak at its start is no average."""
        return len(self._sums) > 1 and self._sums[-1][0] - self._sums[0][0] >= self._window_ms * 9 // 10


def processes_of(units: frozenset[str], proc: Path = Path("/proc")) -> list[Sample]:
    """All processes of these units. Blocking, some 20 µs a process of the host."""
    found = []
    for pid in psutil.pids():
        unit = unit_of(pid, units, proc)
        if unit is None:
            continue
        try:
            process = psutil.Process(pid)
            with process.oneshot():
                used = process.cpu_times()
                cpu_s = used.user + used.system + used.children_user + used.children_system
                rss = process.memory_info().rss
                found.append(Sample(pid, process.create_time(), process.name(), unit, cpu_s, rss))
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue  # it ended meanwhile
    return found


def unit_of(pid: int, units: frozenset[str], proc: Path) -> str | None:
    """Which of the units a process is in: a part of its cgroup's path, in whichever hierarchy."""
    try:
        with (proc / str(pid) / "cgroup").open("rb") as file:
            lines = file.read(65_536)
    except OSError:
        return None  # it ended meanwhile
    for line in lines.split(b"\n"):
        if b".service" in line:
            for part in line.split(b":", 2)[-1].split(b"/"):
                name = part.decode(errors="replace")
                if name in units:
                    return name
    return None


class ProcessesProbe:
    """Reads `ProcessFacts`: MON_POSTFIX_CPU and MON_MEMORY_GROWS."""

    def __init__(  # noqa: PLR0917 - all that it needs
        self,
        smtp_unit: str,
        imap_unit: str,
        cpu: PostfixCpu | None,
        memory: Memory | None,
        look: Callable[[frozenset[str]], list[Sample]] = processes_of,
        clock: Callable[[], int] = lambda: time.monotonic_ns() // 1_000_000,
    ) -> None:
        self._smtp_unit = smtp_unit
        self._units = frozenset({smtp_unit, imap_unit} - {""})
        self._cpu_limit = cpu
        self._cpu = CpuShare(cpu.window_ms if cpu else 60_000)
        self._memory_limit = memory
        self._memories = Memories(memory) if memory else None
        self._look = look
        self._clock = clock
        self._aside = Aside("probe processes")

    async def read(self, target: Target) -> Reading:  # noqa: ARG002 - it only ever looks at this node
        """Look once; see `ports.Probe`."""
        if self._aside.busy:
            return Reading(Health.UNKNOWN, "MON_NO_PROCESSES", "an earlier look at the processes has not come back")
        current().stage("MON_NO_PROCESSES", "the kernel did not list its processes", Health.UNKNOWN)
        try:
            return await self._aside.run(self._measure)
        except ThreadRefusedError as error:
            return Reading(Health.UNKNOWN, "PROBE_EXHAUSTED", f"this node: {error}")

    def _measure(self) -> Reading:
        """In a thread: the look, and the sums."""
        samples, now_ms = self._look(self._units), self._clock()
        postfix = [sample.cpu_s for sample in samples if sample.unit == self._smtp_unit]
        self._cpu.add(now_ms, sum(postfix) if postfix else None)
        found = [*self._busy()]
        if self._memories is not None:
            self._memories.add(now_ms, samples)
            found += self._growing(self._memories)
        facts = ProcessFacts(self._cpu.percent, tuple(found))
        if not found:
            return Reading(Health.OK, facts=facts)
        return Reading(Health.FAILED, found[0][0], "; ".join(reason for _, reason in found), facts)

    def _busy(self) -> Iterator[tuple[str, str]]:
        limit, percent = self._cpu_limit, self._cpu.percent
        if limit is not None and percent is not None and self._cpu.whole and percent > limit.above_percent:
            over = f"over {limit.window_ms // 1000} s > {limit.above_percent:g} %"
            yield "MON_POSTFIX_CPU", f"Postfix uses {percent:.0f} % of one core on average {over}"

    def _growing(self, memories: Memories) -> Iterator[tuple[str, str]]:
        grown = sorted(memories.growing(), key=lambda one: one[2] - one[3])
        if grown and self._memory_limit is not None:
            named = ", ".join(
                f"{name} (pid {pid}) from {first // MB} to {last // MB} MB" for name, pid, first, last in grown[:NAMED]
            )
            more = f" and {len(grown) - NAMED} more" if len(grown) > NAMED else ""
            within = self._memory_limit.window_ms // 1000
            yield "MON_MEMORY_GROWS", f"memory only grows, over {within} s: {named}{more}"
