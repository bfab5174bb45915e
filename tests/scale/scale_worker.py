"""One process of the generator: some of the clusters, on a loop of its own; told what to do, and telling, by a pipe."""

from __future__ import annotations

import gc
import resource
import selectors
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scale_agents import Cluster, Counts, Timing, World
from scale_wire import Wire

from failoverd import tls

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from pathlib import Path

FILES = 65_536


@dataclass(frozen=True, slots=True)
class Task:
    """What a process of the generator has to do. `numbers` are its clusters'; one starts each 1 / `a_second`."""

    numbers: tuple[int, ...]
    members: tuple[tuple[str, int], ...]
    timing: Timing
    prefix: str
    password: str
    ca: Path
    certificate: Path
    key: Path
    a_second: float


def allow_files() -> None:
    """A connection is a file: four nodes of a cluster have eight."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if most == resource.RLIM_INFINITY else min(FILES, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


class Worker:
    """Runs a task until it is told to stop."""

    def __init__(self, pipe: Connection, task: Task) -> None:
        self._pipe = pipe
        self._wire = Wire(tls.store_context(ca=task.ca, certificate=task.certificate, key=task.key))
        self._world = World(self._wire, task.members, task.timing, task.prefix, task.password)
        self._clusters = {number: Cluster(self._world, number) for number in task.numbers}
        self._stopped = False
        now_s = time.monotonic()
        for place, cluster in enumerate(self._clusters.values()):
            self._wire.at(now_s + place / task.a_second, cluster.start)
        self._next_s = now_s
        self._tell()
        self._wire.watch_socket(pipe.fileno(), selectors.EVENT_READ, self._hear)

    def run(self) -> None:
        """Work."""
        gc.freeze()
        gc.disable()  # nothing here refers to itself that is made again and again
        self._wire.run(lambda: not self._stopped)
        self._wire.close()

    def _hear(self) -> None:
        try:
            word, numbers = self._pipe.recv()
        except EOFError:  # whoever started it is gone
            self._stopped = True
            return
        if word == "stop":
            self._stopped = True
        for number in numbers:
            if number in self._clusters:
                cluster = self._clusters[number]
                if word == "fail":
                    cluster.fail()
                elif word == "heal":
                    cluster.heal()

    def _tell(self) -> None:
        """Each second: what happened in it."""
        counts, self._world.counts = self._world.counts, Counts()
        self._pipe.send((counts, self._wire.handshakes))
        self._next_s += 1.0
        self._wire.at(self._next_s, self._tell)


def work(pipe: Connection, task: Task) -> None:
    """Begin of the process."""
    allow_files()
    Worker(pipe, task).run()
