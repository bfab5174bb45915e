"""One trial: the primary loses its power, comes home, and gets the role back on purpose; a client is there throughout.

    steady ── power cut ── (failover) ── power on ── (rejoin) ── promote ── (switchover) ── steady ── queues drained

Each part ends when the thing has happened, never after a time. A part that does not get there by its deadline is a
problem of the trial, and the trial goes on as far as it can: its figures say what there is.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hosts import LabError
from hosts.shell import wait_for

from trials import figures
from trials.cluster import Cluster
from trials.lost import Auditor, Fate
from trials.story import Story
from trials.watch import Watch, now_ms

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from hosts import Lab

FAILOVER_S = 30.0
REJOIN_S = 60.0
SWITCHOVER_S = 30.0
HOME_HOLDS_MS = 2000.0
_AFTERWARDS_MS = 1500.0  # how long mail must have been served again before a part is over


@dataclass(slots=True)
class Part:
    """One part of a trial: what clients noticed, and what the client itself may have added."""

    outages: dict[str, float]
    client_late_ms: float


@dataclass(slots=True)
class Trial:
    """All figures of one trial."""

    parts: dict[str, Part] = field(default_factory=dict)
    steady: dict[str, float] = field(default_factory=dict)
    two_ms: dict[str, float] = field(default_factory=dict)
    fates: dict[str, Fate] = field(default_factory=dict)
    roles: list[str] = field(default_factory=list)
    terms: list[int] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    summaries: dict[str, dict[str, object]] = field(default_factory=dict)

    @property
    def two_primary_ms(self) -> float:
        """How long clients could reach two hosts under the virtual IP at once."""
        return self.two_ms.get("reachable", 0.0)

    @property
    def lost(self) -> int:
        """How many acknowledged writes are nowhere."""
        return sum(len(fate.lost) for fate in self.fates.values())

    @property
    def good(self) -> bool:
        """Both changes happened, no two primaries, nothing lost."""
        return not self.problems and bool(self.fates) and self.two_primary_ms == 0 and self.lost == 0


class Trials:
    """Runs trials in one lab, one after the other."""

    def __init__(self, lab: Lab, directory: Path, say: Callable[[str], None]) -> None:
        self._lab, self._directory, self._say = lab, directory, say
        self._cluster = Cluster(lab)
        self._auditor = Auditor(lab)
        self._number = 0

    def run(self, victim: str) -> Trial:
        """Cut the victim's power, bring it home, promote it again."""
        self._number += 1
        trial = Trial()
        with Watch(self._lab, self._directory, f"trial-{self._number}") as watch:
            try:
                self._run(victim, watch, trial)
            except LabError as error:
                trial.problems.append(str(error))
                self._say(f"  !! {error}")
            watch.stop_client()
            try:
                primary = self._cluster.primary()
                trial.fates = self._auditor.fates(watch.attempts, primary)
            except LabError as error:
                trial.problems.append(f"what was acknowledged could not be looked up: {error}")
            watch.stop()
            trial.two_ms = {what: watch.overlap_ms(what, 0.0, now_ms()) for what in ("vip", "writable", "reachable")}
            trial.summaries = watch.summaries
        return trial

    def _run(self, victim: str, watch: Watch, trial: Trial) -> None:
        watch.wait_until_steady()
        story = Story(watch, self._say)
        trial.terms.append(self._cluster.term())
        self._say(self._rate(watch))

        self._say(f"\n[3/5] Power cut of {victim}, the primary")
        cut_at = now_ms()
        trial.steady = {protocol: figures.steady_ms(watch.attempts, protocol, cut_at) for protocol in figures.PROTOCOLS}
        self._lab.kill(victim)
        story.begin(cut_at, f"the power of {victim} is cut")
        self._until_served(watch, story, cut_at, FAILOVER_S)
        self._close_part(trial, "power cut", watch, cut_at)
        successor = self._cluster.primary()
        trial.roles.append(successor)
        trial.terms.append(self._cluster.term())
        if successor == victim or trial.terms[-1] <= trial.terms[-2]:
            trial.problems.append("there was no failover")

        self._say(f"\n[4/5] {victim} is switched on again")
        on_at = now_ms()
        story.begin(on_at, f"{victim} has power")
        self._lab.boot(victim, wait=False)
        self._until_home(victim, story)
        story.note(f"{victim} is a healthy replica of {successor}")
        self._until_served(watch, story, now_ms(), FAILOVER_S)
        self._close_part(trial, "return", watch, on_at)

        self._say(f"\n[5/5] Planned switchover back: failoverctl promote --node {victim}")
        asked_at = now_ms()
        story.begin(asked_at, "asked")
        self._promote(victim, successor, story)
        self._until_served(watch, story, now_ms(), SWITCHOVER_S)
        self._close_part(trial, "switchover", watch, asked_at)
        trial.roles.append(self._cluster.primary())
        trial.terms.append(self._cluster.term())
        if trial.roles[-1] != victim or trial.terms[-1] <= trial.terms[-2]:
            trial.problems.append("there was no switchover")

    def _until_home(self, victim: str, story: Story) -> None:
        """Wait until the victim is a healthy replica, and has been at each look for two seconds.

        Each service is looked at once a second, and what has just booted may pass its first look and fail the next:
        a switchover to it would then be refused, rightly.
        """
        since = now_ms()

        def home() -> bool:
            nonlocal since
            if not self._cluster.is_healthy_replica(victim):
                since = now_ms()
            return now_ms() - since >= HOME_HOLDS_MS

        self._until(story, f"{victim} a healthy replica", home, REJOIN_S)

    def _promote(self, node: str, through: str, story: Story) -> None:
        """Run failoverctl on the present primary, as its administrator would, and pass on what it prints."""
        command = self._lab.command(through, "env", "COLUMNS=110", "failoverctl", "promote", "--node", node)
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            for line in process.stdout or ():
                self._say(f"  | {line.rstrip()}")
            story.leave_out_reasons()
            story.tell_all()
            if process.wait() != 0:
                raise LabError(f"failoverctl promote --node {node} ended with {process.returncode}")

    def _until_served(self, watch: Watch, story: Story, moment: float, deadline_s: float) -> None:
        """Wait until each protocol is served again after the moment, and still is a little later."""
        since = moment

        def served() -> bool:
            nonlocal since
            if not watch.served_since(since):
                return False
            if since == moment:
                since = now_ms() + _AFTERWARDS_MS
            return watch.served_since(since)

        self._until(story, "mail served on all three protocols", served, deadline_s)

    @staticmethod
    def _until(story: Story, what: str, done: Callable[[], bool], deadline_s: float) -> None:
        def looked() -> bool:
            story.tell()
            return done()

        wait_for(what, looked, deadline_s)

    @staticmethod
    def _close_part(trial: Trial, name: str, watch: Watch, since: float) -> None:
        until = now_ms()
        trial.parts[name] = Part(watch.outages(since, until), figures.lateness_ms(watch.attempts, since, until))

    @staticmethod
    def _rate(watch: Watch) -> str:
        took = {protocol: figures.latency_ms(watch.attempts, protocol) for protocol in figures.PROTOCOLS}
        words = ", ".join(f"{protocol.upper()} {ms:.0f} ms" for protocol, ms in took.items())
        return f"  served; an attempt takes {words} (median)"
