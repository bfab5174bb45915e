"""One trial of one row: the lab is well, a client writes, the fault comes and goes, all is counted.

    settled ── steady ── fault ── (outcome) ── lasts ── healed ── settled ── client ends ── queues drained ── counted

The outage of a protocol is its longest time without an acknowledgement from just before the fault to the end, healing
included. What does not come by its deadline is a problem, and the trial goes on as far as it can: its figures say what
there is.
"""

from __future__ import annotations

import math
import shutil
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hosts import LabError, layout
from hosts.shell import wait_for
from trials import figures
from trials.cluster import SETTLED, Cluster, Terms, audit_of
from trials.lost import Auditor
from trials.story import Story
from trials.watch import LATELY, Watch, now_ms

from faultmatrix import stage_etcd
from faultmatrix.rebuilds import Rebuilds
from faultmatrix.row import Outcome, Row
from faultmatrix.scene import FAILOVERD, Scene

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from hosts import Lab

OUTCOME_S = 40.0
STEADY_ATTEMPTS = 4
SETTLED_S = 90.0
RETURN_S = 60.0
_SERVED_FOR_MS = 1000.0
_TWO = {"vip": "two_vip", "writable": "two_writable", "reachable": "two_reachable"}


@dataclass(slots=True)
class Result:
    """All figures of one trial, as they go into the file of results. `inf` is an outage without end."""

    row: str
    number: int
    victim: str = ""
    primary: str = ""  # in the end
    outage_ms: dict[str, float] = field(default_factory=dict)
    two_vip_ms: float = 0.0
    two_writable_ms: float = 0.0
    two_reachable_ms: float = 0.0
    acknowledged: int = 0
    lost: int = -1  # -1: could not be counted
    queued: int = 0
    duplicates: int = 0
    term_changes: int = 0
    problems: list[str] = field(default_factory=list)
    took_s: float = 0.0
    home_s: float = -1.0  # from healing to all well, the one that was lost at home; -1: it did not come to that
    rebuild_s: float = -1.0  # of the longest rebuild of a database; -1: there was none
    store: str = "embedded"
    election_s: float = -1.0  # how long etcd had no leader; -1: its leader was not lost, or nobody looked
    broken: bool = False  # the lab did not settle: the next trial needs another one

    @property
    def safe(self) -> bool:
        """No two at once, nothing lost."""
        return self.two_vip_ms == self.two_writable_ms == self.two_reachable_ms == self.lost == 0

    @property
    def good(self) -> bool:
        """Safe, and the documented outcome."""
        return self.safe and not self.problems


class Run:
    """Runs one trial. `directory` keeps the story, and the records of a trial that was not good."""

    def __init__(self, lab: Lab, row: Row, number: int, directory: Path) -> None:
        self._lab, self._row = lab, row
        self._cluster = Cluster(lab)
        self._result = Result(row.name, number)
        self._directory, self._name = directory, f"{row.name}-{number}"
        self._told: list[str] = []
        self._audits = {host: audit_of(host) for host in layout.HOSTS}
        self._at = 0.0

    def run(self) -> Result:
        """Do it; the lab must be settled."""
        began = time.monotonic()
        result = self._result
        if self._lab.etcd is not None:
            result.store = "etcd"
            stage_etcd.prepare(self._lab, self._lab.etcd, self._row, SETTLED_S)
        result.victim = self._cluster.primary()
        if self._row.fresh:
            self._lab.exec(result.victim, "systemctl", "restart", FAILOVERD)
            self._cluster.wait_until_settled(SETTLED_S)
        for tail in self._audits.values():
            tail.new()
        rebuilds = Rebuilds()
        for attempt in range(STEADY_ATTEMPTS):
            with Watch(self._lab, self._directory, self._name, writers=self._row.writers) as watch:
                if attempt < STEADY_ATTEMPTS - 1 and not self._is_steady(watch):
                    continue  # this machine had other work; nothing has been broken yet
                self._with(watch)
                break
        result.took_s = round(time.monotonic() - began, 1)
        result.rebuild_s = rebuilds.longest_s()
        self._keep_records()
        return result

    def _is_steady(self, watch: Watch) -> bool:
        try:
            watch.wait_until_steady()
        except LabError as error:
            self._told.append(f"not begun: {error}")
            watch.stop_client()
            self._cluster.wait_until_settled(SETTLED_S)
            self._result.victim = self._cluster.primary()
            return False
        return True

    def _with(self, watch: Watch) -> None:
        """The trial itself, and its figures."""
        result = self._result
        try:
            self._watched(watch)
        except LabError as error:
            self._problem(str(error))
        until = now_ms()  # what is counted then takes seconds, in which nobody asks for mail
        watch.stop_client()
        self._count(watch)
        watch.stop()
        for what, name in _TWO.items():
            setattr(result, f"{name}_ms", round(watch.overlap_ms(what, 0.0, now_ms()), 1))
        if self._at:
            result.outage_ms = watch.outages(self._at, until)
        for words in too_long(self._row, result.outage_ms):
            self._problem(words)

    def _watched(self, watch: Watch) -> None:
        watch.wait_until_steady()
        terms = Terms()
        term = terms.highest()
        story = Story(watch, self._told.append)
        self._at = now_ms()
        story.begin(self._at, self._row.words)
        scene = Scene(self._lab, self._result.victim, term, lambda words: self._told.append(self._stamped(words)))
        try:
            self._row.fault(scene)
            self._outcome(watch, story, scene)
            self._judge_role(terms, term)
        except LabError as error:
            self._problem(str(error))
        self._told.append(self._stamped("healed from here on"))
        for problem in scene.heal():
            self._problem(problem)
        self._settle(watch, story)
        story.tell_all()
        self._result.election_s = scene.etcd.election_s
        self._result.term_changes = terms.highest() - term
        if self._row.outcome is Outcome.STAYS and self._result.term_changes:
            self._problem(f"the role must not move: {self._result.term_changes} changes of term")

    def _outcome(self, watch: Watch, story: Story, scene: Scene) -> None:
        """Wait for what is documented, and for the end of the fault's time."""
        row, victim = self._row, self._result.victim
        since = now_ms() if row.outcome is Outcome.WAITS else self._at  # of several faults the last one counts
        end = since + row.lasts_s * 1000
        match row.outcome:
            case Outcome.MOVES | Outcome.SURVIVES:
                self._wait(
                    f"another node is primary and serves {_words(row.served)}",
                    story,
                    lambda: self._serves(watch, victim if row.outcome is Outcome.MOVES else "", row.served),
                )
                self._last(story, end)
            case Outcome.STAYS:
                self._last(story, end)
                self._wait(
                    f"{victim} serves {_words(row.served)}", story, lambda: self._acknowledged(watch, row.served)
                )
            case Outcome.WAITS:
                self._last(story, end)
                if holders := self._cluster.holders_of_vip():
                    self._problem(f"{' and '.join(holders)} had the virtual IP, where there can be no primary")
                if row.returns is not None:
                    row.returns(scene)
                self._wait(f"a primary serves after {row.until} returned", story, lambda: self._serves(watch, ""))
            case Outcome.SAFE:
                self._last(story, end)

    def _judge_role(self, terms: Terms, before: int) -> None:
        """What the role may have done by the end of the fault, before anything is healed."""
        changes = terms.highest() - before
        if self._row.outcome is Outcome.MOVES and changes != 1:
            self._problem(f"the role moves once: {changes} changes of term")

    def _serves(self, watch: Watch, but: str, served: tuple[str, ...] = figures.PROTOCOLS) -> bool:
        holders = self._cluster.holders_of_vip()
        return len(holders) == 1 and holders[0] != but and self._acknowledged(watch, served)

    @staticmethod
    def _acknowledged(watch: Watch, served: tuple[str, ...]) -> bool:
        """Tell whether each protocol has had an acknowledgement for an attempt of the last second, and none lately."""
        since = now_ms() - _SERVED_FOR_MS
        last = [attempt for attempt in watch.attempts[-LATELY:] if attempt.ok and attempt.start > since]
        return all(any(attempt.protocol == protocol for attempt in last) for protocol in served)

    def _wait(self, what: str, story: Story, done: Callable[[], bool], deadline_s: float = OUTCOME_S) -> None:
        def looked() -> bool:
            story.tell()
            return done()

        wait_for(what, looked, deadline_s)

    @staticmethod
    def _last(story: Story, end: float) -> None:
        while now_ms() < end:
            story.tell()
            time.sleep(0.05)

    def _settle(self, watch: Watch, story: Story) -> None:
        """Wait until all is well again and clients are served."""

        def settled() -> bool:
            story.tell()
            return self._cluster.is_settled() and self._acknowledged(watch, figures.PROTOCOLS)

        healed = now_ms()
        try:
            wait_for(f"healed: {SETTLED}", settled, SETTLED_S, why_not=lambda: "; ".join(self._cluster.unsettled()))
        except LabError as error:
            self._result.broken = True
            self._problem(str(error))
        else:
            self._result.home_s = round((now_ms() - healed) / 1000, 1)

    def _count(self, watch: Watch) -> None:
        result = self._result
        try:
            result.primary = self._cluster.primary()
            fates = Auditor(self._lab).fates(watch.attempts, result.primary).values()
        except LabError as error:
            result.broken = True
            self._problem(f"what was acknowledged could not be looked up: {error}")
            return
        result.acknowledged = sum(fate.acknowledged for fate in fates)
        result.lost = sum(len(fate.lost) for fate in fates)
        result.queued = sum(len(fate.queued) for fate in fates)
        result.duplicates = sum(fate.duplicates for fate in fates)
        if result.queued:
            self._problem(f"{result.queued} mails still wait in a queue")
        if result.duplicates and self._row.once:
            self._problem(f"{result.duplicates} mails are stored twice")
        for fate in fates:
            if fate.lost:
                self._told.append(f"lost: {' '.join(fate.lost)}")

    def _problem(self, words: str) -> None:
        self._result.problems.append(words)
        self._told.append(self._stamped(f"!! {words}"))

    def _stamped(self, words: str) -> str:
        return f"  {(now_ms() - self._at) / 1000:+8.3f} s  ** {words}"

    def _keep_records(self) -> None:
        """The story always; of a trial that was not good also every record, to chase it with."""
        logs = self._directory / "logs"
        logs.mkdir(exist_ok=True)
        (logs / f"{self._name}.log").write_text("\n".join(self._told) + "\n")
        for part in ("client.jsonl", "writers.jsonl", "referee.jsonl", "errors"):
            path = self._directory / f"{self._name}.{part}"
            if self._result.good or not path.exists():
                path.unlink(missing_ok=True)
            else:
                shutil.move(path, logs / path.name)
        if self._result.good:
            return
        for host, tail in self._audits.items():
            lines = [f"{line.get('boot_ms')} {line.get('kind')}: {line}" for line in tail.new()]
            (logs / f"{self._name}.audit-{host}").write_text("\n".join(lines) + "\n")
        for host in layout.HOSTS:
            if self._lab.pid(host) is not None:
                since = f"-{self._result.took_s + 5:.0f}s"
                journal = self._lab.exec(host, "journalctl", "-o", "short-precise", f"--since={since}", check=False)
                (logs / f"{self._name}.journal-{host}").write_text(journal.stdout)


def too_long(row: Row, outage_ms: Mapping[str, float]) -> list[str]:
    """Say which clients have waited for longer than the row allows."""
    return [
        f"{protocol.upper()} was not served for {ms / 1000:.2f} s, and {row.outage_s:.1f} s are allowed"
        for protocol, ms in outage_ms.items()
        if ms > row.outage_s * 1000
    ]


def empty_mailboxes(lab: Lab) -> None:
    """Throw away the mail of a trial that was counted: a full mailbox slows down those after it."""
    for user in layout.USERS:
        name, _, domain = user.partition("@")
        shutil.rmtree(lab.mail_store / domain / name / "Maildir", ignore_errors=True)


def _words(served: tuple[str, ...]) -> str:
    return ", ".join(served).upper() or "nobody"


def finite(value: float) -> float | None:
    """Give None for an outage without end: JSON has no infinity."""
    return value if math.isfinite(value) else None
