"""A trap: when a node's audit says that it begins a certain step, its power goes.

The audit has a step on disk before the step begins, so the trap needs no help from the node. It stops the daemon within
a millisecond or two of the line and cuts the power then, which takes some tens of milliseconds: nothing that comes
after the step is done any more, and no connection is closed in good order.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from hosts import LabError, cgroups
from trials.cluster import audit_of

if TYPE_CHECKING:
    from types import TracebackType

    from hosts import Lab

_LOOK_S = 0.001
_UNIT = "/failoverd.service"


class Trap:
    """Set with `with`; `wait` gives the host that fell into it."""

    def __init__(self, lab: Lab, hosts: list[str], step: str, term: int) -> None:
        self._lab, self._step, self._term = lab, step, term
        self._tails = {host: audit_of(host) for host in hosts}
        self._daemons = {host: _daemon_of(host) for host in hosts}
        self._stopping = threading.Event()
        self._fell = ""
        self._error: LabError | None = None
        self._words = ""
        self._thread = threading.Thread(target=self._watch, name=f"trap for {step}", daemon=True)
        for tail in self._tails.values():
            tail.new()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join()

    def wait(self, deadline_s: float) -> str:
        """Wait until one has fallen into it."""
        self._thread.join(deadline_s)
        if self._error is not None:
            raise self._error
        if not self._fell:
            raise LabError(f"no candidate has begun {self._step} within {deadline_s:g} s")
        return self._fell

    def last_words(self) -> str:
        """What the host recorded last."""
        return self._words

    def _watch(self) -> None:
        while not self._stopping.is_set():
            for host, tail in self._tails.items():
                if any(self._is_it(line) for line in tail.new()):
                    for number in self._daemons[host]:
                        with suppress(ProcessLookupError):
                            os.kill(number, signal.SIGSTOP)
                    try:
                        self._lab.kill(host)
                    except LabError as error:
                        self._error = error
                        return
                    rest = [line for line in audit_of(host).new() if line.get("kind") != "observed"]
                    self._words = f"{rest[-1].get('kind')}: {rest[-1].get('text')}" if rest else "nothing"
                    self._fell = host
                    return
            time.sleep(_LOOK_S)

    def _is_it(self, line: dict[str, object]) -> bool:
        if self._step == "take-over":
            return line.get("kind") == "take-over"
        if line.get("kind") != "step" or str(line.get("text")).split(" ")[0] != self._step:
            return False
        early = self._step in {"freeze", "apply-relay-log"}  # these are done before the term is taken
        return early or int(str(line.get("term") or 0)) > self._term


def _daemon_of(host: str) -> set[int]:
    """Give the ids, seen from outside, of the processes of the host's failoverd."""
    found: set[int] = set()
    group = cgroups.group_of(host)
    for hierarchy in cgroups.hierarchies():
        for place in (hierarchy / group).rglob("cgroup.procs"):
            if str(place.parent).endswith(_UNIT):
                with suppress(OSError):
                    found.update(int(word) for word in place.read_text().split())
    return found - {0}
