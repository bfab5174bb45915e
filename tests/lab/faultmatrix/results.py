"""The results: one JSON line a trial as it ends, so that a run that was stopped goes on; then a table of all rows."""

from __future__ import annotations

import json
import math
import statistics
from dataclasses import asdict
from typing import TYPE_CHECKING

from trials.figures import PROTOCOLS

from faultmatrix.row import Row, expected
from faultmatrix.table import ROWS
from faultmatrix.trial import Result, finite

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


PRIMARY, WITH_LEADER = "power-primary", "etcd-leader-and-primary"


class Results:
    """All trials of one directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lines = directory / "trials.jsonl"
        self.done: list[Result] = []
        if self._lines.exists():
            self.done = [_read(json.loads(line)) for line in self._lines.read_text().splitlines()]

    def has(self, row: Row, number: int) -> bool:
        """Tell whether this trial was done, in this run or an earlier one."""
        return any(result.row == row.name and result.number == number for result in self.done)

    def add(self, result: Result) -> None:
        """Write down one more."""
        self.done.append(result)
        with self._lines.open("a") as file:
            file.write(json.dumps(_plain(result), separators=(",", ":")) + "\n")

    def write(self) -> str:
        """Write matrix.json and matrix.md; give the table."""
        words = markdown(self.done)
        data = {
            "good": all(result.good for result in self.done),
            "rows": [_sum_up(row, results) for row, results in _by_row(self.done)],
            "trials": [_plain(result) for result in self.done],
        }
        (self._directory / "matrix.json").write_text(json.dumps(data, indent=1) + "\n")
        (self._directory / "matrix.md").write_text(words)
        return words


def _plain(result: Result) -> dict[str, object]:
    outages = {protocol: finite(value) for protocol, value in result.outage_ms.items()}
    return {**asdict(result), "outage_ms": outages, "good": result.good}


def _read(line: dict[str, object]) -> Result:
    line.pop("good")
    outages = line.pop("outage_ms")
    if not isinstance(outages, dict):
        raise TypeError(f"outage_ms: {outages!r}")
    endless = {protocol: math.inf if value is None else float(value) for protocol, value in outages.items()}
    return Result(**line, outage_ms=endless)  # type: ignore[arg-type] # the names are those that were written


def _by_row(done: Sequence[Result]) -> list[tuple[Row, list[Result]]]:
    pairs = [(row, [result for result in done if result.row == row.name]) for row in ROWS]
    return [(row, results) for row, results in pairs if results]


def _sum_up(row: Row, results: Sequence[Result]) -> dict[str, object]:
    outages = {protocol: _outages(results, protocol) for protocol in PROTOCOLS}
    return {
        "row": row.name,
        "words": row.words,
        "expected": expected(row),
        "trials": len(results),
        "outage_ms": {
            protocol: {"median": finite(statistics.median(values)), "max": finite(max(values))}
            for protocol, values in outages.items()
            if values
        },
        **{name: sum(getattr(result, name) for result in results) for name in ("two_vip_ms", "two_writable_ms")},
        "two_reachable_ms": sum(result.two_reachable_ms for result in results),
        "lost": _lost(results),
        "stored_twice": sum(result.duplicates for result in results),
        "home_s": {"median": statistics.median(homes), "max": max(homes)} if (homes := _homes(results)) else None,
        "election_s": {"median": statistics.median(times), "max": max(times)}
        if (times := _elections(results))
        else None,
        "rebuild_s": {"median": statistics.median(times), "max": max(times)} if (times := _rebuilds(results)) else None,
        "term_changes": [result.term_changes for result in results],
        "as_documented": sum(not result.problems for result in results),
        "good": all(result.good for result in results),
    }


def _outages(results: Sequence[Result], protocol: str) -> list[float]:
    return [result.outage_ms[protocol] for result in results if protocol in result.outage_ms]


def _homes(results: Sequence[Result]) -> list[float]:
    return [result.home_s for result in results if result.home_s >= 0]


def _rebuilds(results: Sequence[Result]) -> list[float]:
    return [result.rebuild_s for result in results if result.rebuild_s >= 0]


def _elections(results: Sequence[Result]) -> list[float]:
    return [result.election_s for result in results if result.election_s >= 0]


def _lost(results: Sequence[Result]) -> int | None:
    return None if any(result.lost < 0 for result in results) else sum(result.lost for result in results)


def markdown(done: Sequence[Result]) -> str:
    """Give the table: outages in seconds, median / max; times of two at once in seconds, summed up."""
    head = (
        "| fault | documented | trials | SQL | SMTP | IMAP | two VIPs | two writable | two reachable | lost | twice "
        f"| home | rebuild | changes of term | as documented |\n|{'---|' * 15}\n"
    )
    lines = [_line(row, results) for row, results in _by_row(done)]
    trials, good = len(done), sum(result.good for result in done)
    acknowledged, lost = sum(result.acknowledged for result in done), sum(max(result.lost, 0) for result in done)
    total = (
        f"\n{len(lines)} rows, {trials} trials, {good} good: two VIPs {_total(done, 'two_vip_ms')} s, two writable "
        f"{_total(done, 'two_writable_ms')} s, two reachable {_total(done, 'two_reachable_ms')} s; of {acknowledged} "
        f"acknowledged writes {lost} lost.\nOutages as the client saw them, in seconds, median / max: the longest time "
        "without an acknowledgement from the fault to the end, healing included. An attempt starts every 50 ms, so "
        "0.05 is none. *Twice*: mails that a mailbox has twice. *Home*: from healing to all well, in seconds. "
        "*Rebuild*: until a database that had to be made anew was, from when its node decided on it, in seconds.\n"
    )
    bad = [f"- {result.row} {result.number}: {problem}" for result in done for problem in _all_problems(result)]
    return head + "\n".join(lines) + "\n" + total + _with_leader(done) + ("\n" + "\n".join(bad) + "\n" if bad else "")


def _with_leader(done: Sequence[Result]) -> str:
    """Say what it costs that etcd's leader dies with the primary: nothing but etcd's own election is to be added."""
    alone, together = ([result for result in done if result.row == name] for name in (PRIMARY, WITH_LEADER))
    if not alone or not together:
        return ""
    cells = {
        protocol: f"{_spread(_outages(together, protocol))} ({_spread(_outages(alone, protocol))})"
        for protocol in PROTOCOLS
    }
    told = ", ".join(f"{protocol.upper()} {words}" for protocol, words in cells.items())
    elections = [seconds * 1000 for seconds in _elections(together)]
    return (
        f"\nPower cut of the primary with etcd's leader on its host (in brackets: elsewhere): {told} s. "
        f"From the cut to the next leader of etcd: {_spread(elections)} s.\n"
    )


def _all_problems(result: Result) -> list[str]:
    two = {
        "virtual IPs": result.two_vip_ms,
        "writable databases": result.two_writable_ms,
        "reachable primaries": result.two_reachable_ms,
    }
    found = [f"two {what} for {ms / 1000:.2f} s" for what, ms in two.items() if ms]
    found += [f"{result.lost} acknowledged writes lost"] if result.lost > 0 else []
    return found + result.problems


def _line(row: Row, results: Sequence[Result]) -> str:
    lost = _lost(results)
    changes = [result.term_changes for result in results]
    fitting = sum(not result.problems for result in results)
    cells = [
        row.words,
        expected(row),
        str(len(results)),
        *(_spread(_outages(results, protocol)) for protocol in PROTOCOLS),
        *(_total(results, name) for name in ("two_vip_ms", "two_writable_ms", "two_reachable_ms")),
        "?" if lost is None else str(lost),
        str(sum(result.duplicates for result in results)),
        f"{statistics.median(homes):.1f} / {max(homes):.1f}" if (homes := _homes(results)) else "-",
        f"{statistics.median(times):.1f} / {max(times):.1f}" if (times := _rebuilds(results)) else "",
        str(changes[0]) if len(set(changes)) == 1 else f"{min(changes)} to {max(changes)}",
        "yes" if fitting == len(results) else f"**{fitting} of {len(results)}**",
    ]
    return "| " + " | ".join(cells) + " |"


def _total(results: Sequence[Result], name: str) -> str:
    total = sum(getattr(result, name) for result in results) / 1000
    return f"{total:.2f}" if total else "0"


def _spread(values: Sequence[float]) -> str:
    return f"{_second(statistics.median(values))} / {_second(max(values))}" if values else "-"


def _second(value_ms: float) -> str:
    return f"{value_ms / 1000:.2f}" if math.isfinite(value_ms) else "no end"
