"""The last thing that a trial prints: its figures in one table, and the same as JSON."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import TYPE_CHECKING

from rich.table import Table

from trials import figures

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from trials.trial import Trial

PARTS = {"power cut": "power cut", "return": "its return", "switchover": "planned switchover"}


def table(trials: Sequence[Trial]) -> Table:
    """Give the final table; of several trials min, median and max."""
    many = len(trials) > 1
    shown = Table(
        title=f"failoverd, {len(trials)} trials: min / median / max" if many else "failoverd, one trial",
        title_justify="left",
    )
    shown.add_column("as the client saw it")
    for protocol in figures.PROTOCOLS:
        shown.add_column(protocol.upper(), justify="right")
    for part, words in PARTS.items():
        shown.add_row(
            f"outage at {words}, s", *(_seconds(_outages(trials, part, protocol)) for protocol in figures.PROTOCOLS)
        )
    shown.add_row(
        "… without any fault, s",
        *(_seconds([trial.steady[protocol] for trial in trials if trial.steady]) for protocol in figures.PROTOCOLS),
    )
    shown.add_section()
    shown.add_row("writes acknowledged", *_sums(trials, lambda trial, protocol: trial.fates[protocol].acknowledged))
    shown.add_row("… and lost", *_sums(trials, lambda trial, protocol: len(trial.fates[protocol].lost)), style="bold")
    shown.add_row("… and still queued", *_sums(trials, lambda trial, protocol: len(trial.fates[protocol].queued)))
    shown.add_row("stored twice", *_sums(trials, lambda trial, protocol: trial.fates[protocol].duplicates))
    shown.add_section()
    shown.add_row("two primaries, s", f"{sum(trial.two_primary_ms for trial in trials) / 1000:.2f}", style="bold")
    for what, words in (("vip", "two virtual IPs, s"), ("writable", "two writable databases, s")):
        shown.add_row(words, f"{sum(trial.two_ms.get(what, 0.0) for trial in trials) / 1000:.2f}")
    return shown


def notes(trials: Sequence[Trial]) -> list[str]:
    """Say how far the measurement can be trusted."""
    late = [part.client_late_ms for trial in trials for part in trial.parts.values()]
    blind = [float(str(trial.summaries["referee"]["blind_max_ms"])) for trial in trials if "referee" in trial.summaries]
    cpu = {
        part: [float(str(trial.summaries[part]["cpu_percent"])) for trial in trials if part in trial.summaries]
        for part in ("client", "referee")
    }
    return [
        "An outage is the longest time without an acknowledgement; an attempt starts every 50 ms, so 0.05 is none.",
        f"The client started its attempts at most {max(late, default=math.nan):.0f} ms late, the referee was blind for "
        f"at most {max(blind, default=math.nan):.0f} ms; of one core they took "
        + " and ".join(f"{max(values, default=math.nan):.0f} %" for values in cpu.values())
        + ".",
    ]


def write(path: Path, trials: Sequence[Trial]) -> None:
    """Write all figures as JSON; an outage without end is null."""
    data = {
        "trials": [
            {**asdict(trial), "two_primary_ms": trial.two_primary_ms, "lost": trial.lost, "good": trial.good}
            for trial in trials
        ],
        "outage_ms": {
            part: {protocol: figures.spread(_outages(trials, part, protocol)) for protocol in figures.PROTOCOLS}
            for part in PARTS
            if any(part in trial.parts for trial in trials)
        },
        "two_primary_ms": sum(trial.two_primary_ms for trial in trials),
        "lost": sum(trial.lost for trial in trials),
        "good": all(trial.good for trial in trials),
    }
    path.write_text(json.dumps(_finite(data), indent=1) + "\n")


def _outages(trials: Sequence[Trial], part: str, protocol: str) -> list[float]:
    return [trial.parts[part].outages[protocol] for trial in trials if part in trial.parts]


def _finite(value: object) -> object:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _seconds(values_ms: Sequence[float]) -> str:
    if not values_ms:
        return "-"
    if len(values_ms) == 1:
        return _second(values_ms[0])
    return " / ".join(_second(value) for value in figures.spread(values_ms).values())


def _second(value_ms: float) -> str:
    return f"{value_ms / 1000:.2f}" if math.isfinite(value_ms) else "no end"


def _sums(trials: Sequence[Trial], pick: Callable[[Trial, str], int]) -> list[str]:
    known = [trial for trial in trials if trial.fates]
    return [str(sum(pick(trial, protocol) for trial in known)) if known else "?" for protocol in figures.PROTOCOLS]
