"""From records to figures: what an outage is, and how long two were primary.

An *outage* of a protocol around a fault is the longest time without an acknowledgement: from the end of one
successful attempt to the end of the next one to succeed, in order of their ends. Nothing is subtracted: since an
attempt starts every 50 ms, about 50 ms is what a healthy service shows (`steady`). An attempt that hung through the
outage and was answered at its end counts at its end. A service that has not come back has an infinite outage; one that
has been silent for less than a second when the client is told to stop has one of so long at least.

The client's own stalls are no outage of the service: `lateness` says how late its attempts were started meanwhile.
"""

from __future__ import annotations

import json
import math
import statistics
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

PROTOCOLS = ("sql", "smtp", "imap")
STEADY_OVER_MS = 10_000


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt of the client; times are CLOCK_MONOTONIC in ms."""

    ident: str
    protocol: str
    start: float
    end: float
    late: float
    ok: bool
    error: str = ""


class Tail:
    """A file of JSON lines that grows: each call of `new` gives what has come since, also over one closing of it."""

    def __init__(self, path: Path) -> None:
        self._path, self._at, self._file = path, 0, 0

    def new(self) -> list[dict[str, object]]:
        """Give the complete lines that were not given before; none while there is no file."""
        try:
            file = self._path.stat().st_ino
        except FileNotFoundError:
            return []
        found: list[dict[str, object]] = []
        if self._file and file != self._file:  # an audit is closed each day: it has another name then
            closed = (path for path in self._path.parent.glob("*.jsonl") if path.stat().st_ino == self._file)
            found = [line for path in closed for line in self._rest(path)]
            self._at = 0
        self._file = file
        return found + self._rest(self._path)

    def _rest(self, path: Path) -> list[dict[str, object]]:
        with path.open("rb") as file:
            file.seek(self._at)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._at += len(whole)
        return [json.loads(line) for line in whole.splitlines()]


def attempts(lines: Iterable[dict[str, object]]) -> list[Attempt]:
    """Read the client's lines; its summary is left out."""
    return [
        Attempt(
            ident=str(line["id"]),
            protocol=str(line["protocol"]),
            start=float(str(line["start"])),
            end=float(str(line["end"])),
            late=float(str(line["late"])),
            ok=line["ok"] is True,
            error=str(line.get("error", "")),
        )
        for line in lines
        if "id" in line
    ]


def outage_ms(all_attempts: Sequence[Attempt], protocol: str, since: float, until: float) -> float:
    """Give the longest time without an acknowledgement that reaches into [since, until]."""
    ends = sorted(attempt.end for attempt in all_attempts if attempt.protocol == protocol and attempt.ok)
    if not ends or ends[-1] < since or (ends[-1] < until - 1000 and _tried_after(all_attempts, protocol, ends[-1])):
        return math.inf
    gaps = [after - before for before, after in pairwise(ends) if after > since and before < until]
    if until - 1000 <= ends[-1] < until:
        gaps.append(until - ends[-1])
    return max(gaps, default=math.inf)


def _tried_after(all_attempts: Sequence[Attempt], protocol: str, moment: float) -> bool:
    return any(attempt.protocol == protocol and attempt.start > moment for attempt in all_attempts)


def steady_ms(all_attempts: Sequence[Attempt], protocol: str, until: float) -> float:
    """Give the longest time without an acknowledgement in the 10 s before a fault: what is there without any."""
    return outage_ms(
        [attempt for attempt in all_attempts if until - STEADY_OVER_MS < attempt.end < until],
        protocol,
        until - STEADY_OVER_MS,
        until,
    )


def latency_ms(all_attempts: Iterable[Attempt], protocol: str) -> float:
    """Give the median time from the start of an attempt to its acknowledgement."""
    took = [attempt.end - attempt.start for attempt in all_attempts if attempt.protocol == protocol and attempt.ok]
    return statistics.median(took) if took else math.inf


def lateness_ms(all_attempts: Iterable[Attempt], since: float, until: float) -> float:
    """Give by how much the client itself missed its schedule at worst within [since, until]."""
    return max((attempt.late for attempt in all_attempts if since <= attempt.start <= until), default=0.0)


def spread(values: Sequence[float]) -> dict[str, float]:
    """Give min, median and max."""
    return {"min": min(values), "median": statistics.median(values), "max": max(values)}
