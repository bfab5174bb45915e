"""The quarterly drill on the four hosts: every scenario from preflight to report, and what is left of it.

    drills                     each scenario once, with 40 people for 15 s
    drills SCENARIO…           these
    drills --aborts            ended by an operator in every phase of two scenarios: gone and healthy within 30 s
    drills --kills             the same with its process killed, so that systemd and the agents take it back
    drills --full              as users run it: 500 people, 20 minutes, the primary without power

Databases and mail store have file systems of their own, since one of them is frozen. Exit code 0 only if each drill
passed (or ended as it was made to), lost nothing, doubled nothing, differed nowhere, and left four healthy hosts with
nothing of it on any of them.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hosts import Lab, LabError, layout
from hosts.inotify import instances
from hosts.power_switch import PowerSwitch
from hosts.shell import wait_for

from trials.cluster import Cluster
from trials.drilling import ROOT, RUN_S, Drills, configured
from trials.sole import sole_use

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SCENARIOS = (
    "switchover",
    "service-death",
    "service-hang",
    "database-crash",
    "replication-break",
    "arbiter-loss",
    "network-isolation",
    "disk-failure",
    "primary-crash",
)
ENDED = ("service-death", "primary-crash")  # a fault of a unit, and one of power
PHASES = ("preflight", "backup", "baseline", "inject", "observe", "load", "recover", "rejoin", "consistency", "report")
GONE_S = 30.0
BACK_S = 120.0


@dataclass(frozen=True)
class Wanted:
    """How large each drill is."""

    users: int
    duration_s: int
    backup: str

    @property
    def options(self) -> tuple[str, ...]:
        """For failoverctl."""
        return "--load", str(self.users), "--duration", f"{self.duration_s}s", "--backup", self.backup


FULL = Wanted(500, 1200, "full")


class Bench:
    """The lab, and one drill after the other in it."""

    def __init__(self, lab: Lab, keep: Path | None) -> None:
        self._lab, self._keep = lab, keep
        self.cluster = Cluster(lab)
        self.drills = Drills(lab, self.cluster)

    def conduct(self, scenario: str, wanted: Wanted) -> list[str]:
        """Conduct one to its end; give what is wrong."""
        self.cluster.wait_until_settled(BACK_S)
        host, term = self.drills.coordinator(scenario), self.cluster.term()
        before, began = len(self.drills.states(host)), time.monotonic()
        process = self.drills.begin(host, scenario, *wanted.options)
        try:
            words, _ = process.communicate(timeout=RUN_S * 2 + wanted.duration_s)
        finally:
            process.kill()
        took_s = time.monotonic() - began
        print("".join(f"    {line}\n" for line in words.splitlines()), end="", flush=True)
        states = self.drills.states(host)
        if len(states) == before:
            return [f"no drill was begun: {words}"]
        wrong = [] if process.returncode == 0 else [f"exit code {process.returncode}: {words.splitlines()[-1]}"]
        report = self.drills.report(host, states[0]["asked"]["id"])
        wrong += list(_of_report(report, users=wanted.users))
        wrong += self._afterwards(report["drill"]["asked"]["id"])
        moved = self.cluster.term() - term
        if moved not in {0, 1}:
            wrong.append(f"the term has moved by {moved}")
        print(f"  {scenario}: {took_s:.0f} s, {_figures(report)}")
        self._kept(host, report["drill"]["asked"]["id"])
        return wrong

    def _afterwards(self, drill: str) -> list[str]:
        self.cluster.wait_until_settled(GONE_S)
        without = [host for host in layout.HOSTS if not self._lab.path(host, f"{ROOT}/{drill}/report.html").exists()]
        return self.drills.left() + [f"{host} does not keep the report" for host in without]

    def _kept(self, host: str, drill: str) -> None:
        if self._keep is not None:
            shutil.copytree(self._lab.path(host, f"{ROOT}/{drill}"), self._keep / drill)

    def end_in(self, scenario: str, phase: str, wanted: Wanted, *, kill: bool) -> list[str]:
        """Begin one, end it in a phase, and see how long it takes until nothing of it is left."""
        self.cluster.wait_until_settled(BACK_S)
        host = self.drills.coordinator(scenario)
        before = len(self.drills.states(host))
        process = self.drills.begin(host, scenario, *wanted.options)
        try:
            reached = self.drills.wait_for(host, before, lambda state: _is_in(state, phase), RUN_S)
            if not reached:
                return [f"{phase} was not reached: {process.communicate(timeout=RUN_S)[0]}"]
            ended = time.monotonic()
            if not self._end(host, kill=kill) and phase != PHASES[-1]:
                return [f"it was over before it could be ended in {phase}"]
            gone_s = self._seconds_without(self.drills.left, ended)
            healthy_s = self._seconds_without(self.cluster.unsettled, ended)
            words, _ = process.communicate(timeout=RUN_S)
        except LabError:
            print(self.drills.journal(host), flush=True)
            raise
        finally:
            process.kill()
        state = self.drills.states(host)[0]
        hit = next((one["name"] for one in state["phases"] if one["outcome"] != "passed"), "none")
        how = f"{'killed' if kill else 'aborted'} in {phase} (hit: {hit})"
        print(f"  {scenario}, {how}: gone after {gone_s:.1f} s, healthy after {healthy_s:.1f} s; {state['outcome']}")
        wrong = []
        if max(gone_s, healthy_s) > GONE_S:
            wrong.append(f"gone after {gone_s:.1f} s, healthy after {healthy_s:.1f} s: more than {GONE_S:.0f} s")
        if not state["clean"]:
            wrong.append(f"the drill is not clean: {words}")
        if state["outcome"] == "under-way":
            wrong.append("the drill has no end")
        if not self._lab.path(host, f"{ROOT}/{state['asked']['id']}/report.json").exists():
            wrong.append("there is no report")
        return wrong

    def _end(self, host: str, *, kill: bool) -> bool:
        """End it; return False where it had ended by itself just before."""
        if kill:
            return self.drills.kill(host)
        return self._lab.exec(host, "failoverctl", "drill", "abort", check=False).returncode == 0

    @staticmethod
    def _seconds_without(wrong: Callable[[], list[str]], since: float) -> float:
        wait_for(
            "nothing of the drill is left, and all is well", lambda: not wrong(), BACK_S, why_not=lambda: f"{wrong()}"
        )
        return time.monotonic() - since


def _is_in(state: dict[str, Any], phase: str) -> bool:
    return bool(state["phases"]) and state["phases"][-1]["name"] == phase


def _of_report(report: dict[str, Any], *, users: int) -> Iterator[str]:
    drill, found = report["drill"], report["consistency"]
    if drill["outcome"] != "passed":
        yield f"{drill['outcome']}: {drill['code']}: {drill['reason']}"
    if not drill["clean"]:
        yield "it is not clean"
    if found is None:
        yield "nothing was compared"
        return
    if found["lost_count"] or found["twice_count"]:
        yield f"{found['lost_count']} lost, {found['twice_count']} twice"
    if users and not found["acknowledged"]:
        yield "nothing was acknowledged"
    yield from (f"{table['name']} differs" for table in found["tables"] if not table["same"])
    yield from (f"mailbox {name} differs" for name in found["mailboxes_differ"])
    if not found["tables"]:
        yield "no table was compared"
    for counter in report["counters"] if users else ():
        ours, servers = counter["ours"], counter["servers"]
        if abs(ours - servers) * 20 > servers:
            yield f"{counter['name']}: the generator counts {ours}, the servers {servers}"
    if users and not report["counters"]:
        yield "the servers' counters were not asked"


def _figures(report: dict[str, Any]) -> str:
    outages = {one["protocol"]: one["outage_ms"] for one in report["protocols"] if one["stage"] == "fault"}
    load = {one["protocol"]: one for one in report["protocols"] if one["stage"] == "load"}
    parts = [f"{protocol} away {ms} ms" for protocol, ms in outages.items()]
    parts += [
        f"{name} load p50 {one['p50_ms']} p95 {one['p95_ms']} p99 {one['p99_ms']} ms, {one['operations']} operations,"
        f" {one['failed']} failed"
        for name, one in load.items()
    ]
    found = report["consistency"]
    if found is not None:
        parts.append(f"{found['acknowledged']} acknowledged, {found['lost_count']} lost, {found['twice_count']} twice")
    return "; ".join(parts)


def _work(arguments: argparse.Namespace) -> Iterator[tuple[str, list[str]]]:
    lab = Lab(lambda words: print(f"  lab: {words}"))
    with sole_use("drills", print), instances(FULL.users), PowerSwitchedLab(lab):
        bench = Bench(lab, arguments.keep)
        bench.cluster.wait_until_settled(BACK_S)
        bench.drills.enable()
        if arguments.full:
            yield "full length", bench.conduct("primary-crash", FULL)
        elif arguments.aborts or arguments.kills:
            for scenario in arguments.scenarios or ENDED:
                for phase in arguments.phase or PHASES:
                    wrong = bench.end_in(scenario, phase, Wanted(20, 10, "full"), kill=arguments.kills)
                    yield f"{scenario} in {phase}", wrong
        else:
            for number, scenario in enumerate(arguments.scenarios or SCENARIOS):
                kind = arguments.backup or ("incremental" if number else "full")
                wanted = Wanted(arguments.users, arguments.duration, kind)
                yield scenario, bench.conduct(scenario, wanted)


class PowerSwitchedLab:
    """The lab with its switch, from `with` to its end."""

    def __init__(self, lab: Lab) -> None:
        self._lab, self._switch = lab, PowerSwitch(lab)

    def __enter__(self) -> None:
        self._lab.up(failoverd=True, disks=True, configure=configured)
        self._switch.__enter__()

    def __exit__(self, *_: object) -> None:
        self._switch.__exit__(None, None, None)
        self._lab.down()


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(
        prog="drills", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scenarios", nargs="*", choices=[[], *SCENARIOS], metavar="SCENARIO")
    parser.add_argument("--users", type=int, default=40)
    parser.add_argument("--duration", type=int, default=15, metavar="SECONDS")
    parser.add_argument("--backup", choices=("full", "incremental", "none"), help="instead of a full one, then others")
    parser.add_argument("--aborts", action="store_true")
    parser.add_argument("--kills", action="store_true")
    parser.add_argument("--phase", action="append", choices=PHASES, help="with --aborts or --kills: only this one")
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--keep", type=Path, metavar="DIRECTORY", help="copy each drill's evidence here")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        print("drills: the lab needs root")
        return 1
    results: list[tuple[str, list[str]]] = []
    try:
        for name, wrong in _work(arguments):
            results.append((name, wrong))
            print(f"{name}: {'good' if not wrong else 'NOT good'}", *wrong, sep="\n  ", flush=True)
    except LabError as error:
        print(f"drills: {error}")
        return 1
    bad = [name for name, wrong in results if wrong]
    print(f"{len(results) - len(bad)} of {len(results)} good" + (f"; not: {', '.join(bad)}" if bad else ""))
    return 1 if bad or not results else 0


if __name__ == "__main__":
    sys.exit(main())
