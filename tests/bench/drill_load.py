"""What the drill's load costs and how honest it is: hundreds of people with a real Dovecot and a real Postfix.

    tests/bench/drill_load                                 500 people, held for a minute once all are there
    tests/bench/drill_load --sessions N --seconds N        other numbers
    --accounts N                                           that they share (100)
    --appends N --fetches N --submits N                    of each person a minute (1, 6, 1)

Needs root and the lab's binaries; all is in a network of its own. What it sets on this machine, and sets back:
fs.inotify.max_user_instances, since Dovecot's sessions all wait as one user, each with an instance of its own.

Exit code 1 where a figure is not as it has to be: all sessions held, 512 MiB, 2 cores, counts within 5 percent.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "adapters"), str(HERE.parent / "core"), str(HERE.parent / "lab")]

from hosts.inotify import instances  # noqa: E402 - they lie where tests do
from load_stage import Running, Servers, staged  # noqa: E402 - likewise

from failoverd.drill.report.measured import percentile  # noqa: E402 - likewise

if TYPE_CHECKING:
    from collections.abc import Iterator

    from failoverd.drill.model import LoadDone, Second

MOST_RSS_MIB, MOST_CORES, MOST_APART_PERCENT = 512, 2.0, 5.0
RAMP_PER_S = 20
_STORED = re.compile(r"^.* lmtp\(.*saved mail to INBOX$", re.MULTILINE)


def main() -> int:
    """Measure."""
    parser = argparse.ArgumentParser(
        prog="tests/bench/drill_load", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default, words in (
        ("sessions", 500, "people, each with an IMAP session"),
        ("seconds", 60, "for which all are there"),
        ("accounts", 100, "that they share"),
    ):
        parser.add_argument(f"--{name}", type=int, default=default, help=words)
    for name, rate in (("appends", 1.0), ("fetches", 6.0), ("submits", 1.0)):
        parser.add_argument(f"--{name}", type=float, default=rate, help="of each person a minute")
    options = parser.parse_args()
    accounts = {f"drill{number}@example.test": "secret" for number in range(1, options.accounts + 1)}
    with tempfile.TemporaryDirectory() as directory, instances(options.sessions):
        places = [Path(directory) / name for name in ("stage", "above", "run")]
        for place in places:
            place.mkdir()
        with contextlib.contextmanager(staged)(places[0], places[1], accounts) as servers:
            return measure(servers, places[2], options)


def measure(servers: Servers, place: Path, options: argparse.Namespace) -> int:
    """Run them; print what they cost and counted. Return the exit code."""
    plan = servers.plan(
        place,
        users=options.sessions,
        ramp_s=max(1, options.sessions // RAMP_PER_S),
        appends=options.appends,
        fetches=options.fetches,
        submits=options.submits,
    )
    load = Running(plan, servers.network)
    try:
        within_s = 60 + 3 * plan.ramp_s
        load.until(lambda: load.sessions >= options.sessions, seconds=within_s, name=f"{options.sessions} sessions")
        process = psutil.Process(load.process.pid)
        before, began, first = process.cpu_times(), time.monotonic(), len(load.now)
        began_ms = time.time() * 1000
        load.until(lambda: time.monotonic() - began >= options.seconds, seconds=options.seconds + 30, name="the time")
        after, took_s, ended_ms = process.cpu_times(), time.monotonic() - began, time.time() * 1000
        held = min(now.sessions for now in load.now[first:])
        done = load.stop()
    finally:
        load.kill()
    cores = (after.user + after.system - before.user - before.system) / took_s
    seconds = [one for one in load.seconds if one.at_ms >= began_ms and one.at_ms + 1000 <= ended_ms]
    sessions = [f"{held} of {options.sessions} sessions held for {took_s:.0f} s"], held >= options.sessions
    rss_mib = done.rss_max_bytes / (1 << 20)
    figures = [
        sessions,
        ([f"memory of the generator, peak   {rss_mib:8.1f} MiB"], rss_mib <= MOST_RSS_MIB),
        ([f"CPU of the generator            {cores:8.2f} cores"], cores <= MOST_CORES),
        (lateness(done), True),
        (operations(seconds), True),
        *counts(servers, load, done),
    ]
    for lines, met in figures:
        for line in lines:
            print(line if met else f"{line}   NOT MET")
    return 0 if all(met for _, met in figures) else 1


def lateness(done: LoadDone) -> list[str]:
    """How late it was with what depends on nobody else."""
    named = (("min", 0), ("median", 50), ("p95", 95), ("p99", 99))
    told = "  ".join(f"{name} {percentile(done.late, percent) or 0.0:g}" for name, percent in named)
    return [f"own scheduling delay            {told}  max {done.late_max_ms:g} ms   (upper bounds of buckets)"]


def operations(seconds: list[Second]) -> list[str]:
    """What people did, and what became of it."""
    lines = []
    for protocol in ("imap", "smtp"):
        tallies = [getattr(second, protocol) for second in seconds]
        total = {
            name: sum(getattr(tally, name) for tally in tallies)
            for name in ("ok", "failed", "refused", "rejected", "unknown", "beats_ok", "beats_failed")
        }
        latency: dict[str, int] = {}
        for tally in tallies:
            for bound, number in tally.latency.items():
                latency[bound] = latency.get(bound, 0) + number
        p50, p95, p99 = (percentile(latency, percent) for percent in (50, 95, 99))
        rate, counted = total["ok"] / max(len(seconds), 1), ", ".join(f"{name} {n}" for name, n in total.items())
        lines.append(f"{protocol.upper():32}{rate:8.1f} operations a second, p50 {p50} p95 {p95} p99 {p99} ms")
        lines.append(f"      {counted}")
    return lines


def counts(servers: Servers, load: Running, done: LoadDone) -> Iterator[tuple[list[str], bool]]:
    """Give ours beside the servers' own."""
    servers.delivered()
    counted = servers.counted()
    stored = len(_STORED.findall(servers.log()))
    held = servers.stored()
    unknown = f"never answered: {done.submits_unknown} submitted, {done.appends_unknown} appended"
    yield ["", f"{'':24}{'generator':>10}{'servers':>10}{'ratio':>8}   ({unknown})"], True
    for name, ours, theirs in (
        ("IMAP logins", done.logins, counted.logins),
        ("messages submitted", done.submitted, len(counted.submitted)),
        ("messages delivered", done.submitted, stored),
        ("messages in INBOX", done.submitted, held["INBOX"]),
        ("messages appended", done.appended, held["Drill"]),
        ("lines of the ledger", done.submitted + done.appended, len(load.ledger())),
    ):
        ratio = ours / theirs if theirs else 0.0
        yield [f"{name:24}{ours:10}{theirs:10}{ratio:8.4f}"], abs(1 - ratio) * 100 <= MOST_APART_PERCENT


if __name__ == "__main__":
    sys.exit(main())
