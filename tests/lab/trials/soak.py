"""Nothing is wrong: a client writes for some minutes, and the role must stay where it is.

With --stress, beside one busy loop on each core. Any new term in any host's audit is a failure: a failover without a
fault is worse than a slow one. Exit code 0 only without one, with nothing lost; 1 if not; 2 for wrong usage.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from hosts import Lab, LabError

from trials import figures
from trials.cluster import Cluster
from trials.lost import Auditor
from trials.sole import sole_use
from trials.watch import Watch, now_ms

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOOK_S = 1.0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10.0, metavar="M", help="how long (default 10)")
    parser.add_argument("--stress", action="store_true", help="beside a busy loop on each core")
    parser.add_argument("--keep", action="store_true", help="leave the lab up")
    parser.add_argument("--here", action="store_true", help="in the lab as it is up now, instead of a new one")
    return parser.parse_args()


@contextlib.contextmanager
def busy_cores(seconds: float) -> Iterator[None]:
    """Keep each core busy at normal priority; the loops end by themselves should this program die."""
    command = ["timeout", f"{seconds:.0f}", sys.executable, "-c", "while True: pass"]
    loops = [subprocess.Popen(command) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for loop in loops:
            loop.terminate()  # `timeout` passes it on
            loop.wait()


def _soak(lab: Lab, arguments: argparse.Namespace, directory: Path) -> bool:
    cluster = Cluster(lab)
    cluster.wait_until_settled()
    primary, began_term = cluster.primary(), cluster.term()
    print(
        f"{primary} is primary in term {began_term}; {arguments.minutes:g} minutes of client load"
        + (", each core busy" if arguments.stress else ""),
        flush=True,
    )
    with Watch(lab, directory, "soak") as watch:
        watch.wait_until_steady()
        began = now_ms()
        with busy_cores(arguments.minutes * 60 + 60) if arguments.stress else contextlib.nullcontext():
            lease_left_ms = _look_on(watch, cluster, began_term, began + arguments.minutes * 60_000)
        ended = now_ms()
        watch.stop_client()
        ended_term = cluster.term()
        fates = Auditor(lab).fates(watch.attempts, cluster.primary())
    for protocol in figures.PROTOCOLS:
        some = [attempt for attempt in watch.attempts if attempt.protocol == protocol]
        failed = [attempt for attempt in some if not attempt.ok]
        print(
            f"{protocol:5} {len(some)} attempts, {len(failed)} failed, longest without an acknowledgement "
            f"{figures.outage_ms(watch.attempts, protocol, began, ended):.0f} ms, lost {len(fates[protocol].lost)}"
            + (f"; the first failure: {failed[0].error}" if failed else "")
        )
    print(
        f"client at most {figures.lateness_ms(watch.attempts, began, ended):.0f} ms late; "
        + "; ".join(f"{part} {watch.summaries[part]['cpu_percent']} % of a core" for part in watch.summaries)
    )
    print(f"the least that was left of the lease, looked at each second: {lease_left_ms} ms")
    changes = ended_term - began_term
    lost = sum(len(fate.lost) for fate in fates.values())
    two_ms = watch.overlap_ms("reachable", began, ended)
    print(f"changes of term: {changes}; lost: {lost}; two primaries: {two_ms / 1000:.2f} s")
    return changes == 0 and lost == 0 and two_ms == 0


def _look_on(watch: Watch, cluster: Cluster, term: int, until: float) -> int | None:
    """Look each second until the end or a change of term; give the least that the primary had left of its lease."""
    told, least = now_ms(), None
    while now_ms() < until:
        time.sleep(_LOOK_S)
        watch.read()
        left = cluster.lease_left_ms()
        least = left if least is None or (left is not None and left < least) else least
        if cluster.term() != term:
            print("the term has changed", flush=True)
            break
        if now_ms() - told > 60_000:
            told = now_ms()
            tried, failed = len(watch.attempts), sum(not attempt.ok for attempt in watch.attempts)
            print(f"  {(until - told) / 60_000:5.1f} minutes to go, {tried} attempts, {failed} failed", flush=True)
    return least


def main() -> int:
    """Run it."""
    arguments = _arguments()
    lab = Lab(lambda words: print(f"  {words}", flush=True))
    try:
        with (
            sole_use("soak", lambda words: print(f"  {words}", flush=True)),
            tempfile.TemporaryDirectory(prefix="failoverd-soak-") as directory,
        ):
            if not arguments.here:
                lab.up()
            good = _soak(lab, arguments, Path(directory))
            if not (arguments.keep or arguments.here):
                lab.down()
    except LabError as error:
        print(f"soak: {error}", file=sys.stderr)
        return 1
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
