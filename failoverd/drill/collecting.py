"""All that a drill finds while it goes on, and what is made of it at its end: comparison, verdict, report."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections import deque
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from failoverd.config import membership_digest
from failoverd.drill import DrillError, accounts, comparing, model
from failoverd.drill.counting import Counting
from failoverd.drill.model import (
    AuditDone,
    BackupDone,
    ChangeOfPrimary,
    ChangePhase,
    Consistency,
    Counter,
    Drill,
    LagPoint,
    LoadDone,
    PhaseName,
    Report,
    Second,
)
from failoverd.drill.report.evidence import Evidence
from failoverd.drill.report.figures import objectives, report
from failoverd.drill.report.page import page
from failoverd.drill_files import LAST, LOAD, PAGE, REPORT
from failoverd.durable import write_durably

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from failoverd.config import Config
    from failoverd.drill.book import Book
    from failoverd.drill.calls import Agents
    from failoverd.drill.local import LocalDaemon
    from failoverd.drill.model import Cast
    from failoverd.runtime.document import StatusDocument

RECENT = 10  # seconds whose errors count as "lately"
LAG_EVERY_MS = 1000
SETTLE_S, SETTLE_EVERY_S = 300.0, 5.0  # for queues to empty: Postfix waits that long before it tries again
BEFORE_MS = 5_000  # of the drill's beginning, in what is asked of journals and audits


class Collector:
    """One drill's. Called on the loop."""

    def __init__(self, config: Config, book: Book, agents: Agents, daemon: LocalDaemon) -> None:
        self._config, self._book, self._agents, self._daemon = config, book, agents, daemon
        self._seconds: list[Second] = []
        self._recent: deque[Second] = deque(maxlen=RECENT)
        self._lag: list[LagPoint] = []
        self._load_file = book.place / LOAD
        self._audit: list[dict[str, Any]] = []
        self._counters: list[Counter] = []
        self._counting: Counting | None = None
        self._consistency: Consistency | None = None
        self._change: ChangeOfPrimary | None = None
        self.software: dict[str, str] = {}
        self.backup: BackupDone | None = None
        self.load: LoadDone | None = None

    # ---- while it goes on -------------------------------------------------------------------------------------------

    def phase(self) -> PhaseName | None:
        """The one that is under way."""
        phases = self._book.drill.phases
        return phases[-1].name if phases and phases[-1].outcome == "under-way" else None

    def second(self, second: Second, *, keep: bool = True) -> None:
        """One more second of load. `keep`: on disk as well."""
        self._seconds.append(second)
        self._recent.append(second)
        if not keep:
            return
        with self._load_file.open("ab") as file:
            file.write(model.dump(second) + b"\n")

    async def count(self, cast: Cast) -> None:
        """Ask again and again what the servers count. Ends never; beside the phases that have load."""
        await self._counting_of(cast).runs()

    def _counting_of(self, cast: Cast) -> Counting:
        if self._counting is None:
            load = self._config.drill.load.accounts
            known = list(accounts.read(load)) if load is not None else []
            drill, since_ms = self._book.drill.asked.id, self._span()[0]
            self._counting = Counting(
                self._agents, drill, accounts=known, nodes=cast.data_nodes, since_ms=since_ms, tell=self._book.note
            )
        return self._counting

    def recent_errors_percent(self) -> float | None:
        """How much of the load has failed lately, beside the fault's own time; None where there was hardly any.

        Seconds are told late where operations hang: those of the outage come when it is long over.
        """
        lately = [second for second in self._recent if second.stage != "fault"]
        tallies = [tally for second in lately for tally in (second.imap, second.smtp)]
        bad = sum(tally.failed + tally.rejected + tally.unknown for tally in tallies)
        all_ = bad + sum(tally.ok + tally.refused for tally in tallies)
        return 100 * bad / all_ if all_ >= RECENT else None

    def saw(self, status: StatusDocument) -> None:
        """Keep the replicas' lag, once a second."""
        now_ms = self._book.now_ms()
        if self._lag and now_ms - self._lag[-1].at_ms < LAG_EVERY_MS:
            return
        lag: dict[str, int | None] = {}
        for node in status.nodes:
            if node.kind == "data" and node.name != status.holder:
                replication = node.database.replication if node.database is not None and node.fresh else None
                lag[node.name] = replication.lag_ms if replication is not None else None
        self._lag.append(LagPoint(at_ms=now_ms, lag_ms=lag))

    # ---- at its end -------------------------------------------------------------------------------------------------

    async def compare(self, cast: Cast) -> None:
        """Compare all nodes. Raises DrillError where something is lost, twice, or not the same."""
        status = await self._daemon.status()
        primary, nodes = str(status.holder), cast.data_nodes
        comparison = comparing.Comparison(self._config, self._agents, self._book.drill.asked.id, self._book.note)
        tables = await comparison.tables(nodes, primary)
        acknowledged = comparing.ledger(self._book.place)
        until = time.monotonic() + SETTLE_S
        while True:  # what was accepted may be on its way still, out of the queue of a node that has just come back
            boxes = await comparison.mailboxes(nodes)
            self._consistency = found = comparing.consistency(tables, boxes, acknowledged, primary)
            if not (found.lost_count or found.mailboxes_differ) or time.monotonic() > until:
                break
            apart = [f"{name} is not the same on all nodes" for name in found.mailboxes_differ[:1]]
            missing = [f"{found.lost_count} messages are not in their mailboxes yet, {name}" for name in found.lost[:1]]
            self._book.note(f"{'; '.join(missing + apart)}: looked at again")
            await asyncio.sleep(SETTLE_EVERY_S)
        if self.load is not None:
            servers = await self._counting_of(cast).all()
            held = next(box.found for box in boxes if box.node == primary)
            appended = sum(one.how == "append" and one.message_id in held for one in acknowledged)
            self._counters = comparing.counters(self.load, servers, held, appended)
        same = sum(table.same for table in found.tables)
        self._book.found(gtid=found.gtid, tables=len(found.tables), same=same, acknowledged=found.acknowledged,
                         lost=found.lost_count, twice=found.twice_count)  # fmt: skip
        if found.lost_count:
            raise DrillError("DRILL_LOST", f"{found.lost_count} acknowledged messages are missing: {found.lost[0]} …")
        if found.twice_count:
            raise DrillError("DRILL_TWICE", f"{found.twice_count} messages are there twice: {found.twice[0]} …")
        apart = [table.name for table in found.tables if not table.same] + list(found.mailboxes_differ)
        if apart:
            raise DrillError("DRILL_DIFFERS", f"not the same on all nodes: {', '.join(apart[:5])}")

    def _span(self) -> tuple[int, int]:
        """The drill's time, CLOCK_REALTIME in ms."""
        began = datetime.fromisoformat(self._book.drill.began).timestamp() * 1000
        return round(began) - BEFORE_MS, time.time_ns() // 1_000_000

    async def clean(self, cast: Cast | None) -> None:
        """Remove the drill's mails."""
        loaded = any(phase.name is PhaseName.BASELINE for phase in self._book.drill.phases)
        if cast is None or self._config.drill.load.accounts is None or not (loaded and self._book.drill.asked.users):
            return
        status = await self._daemon.status()
        comparison = comparing.Comparison(self._config, self._agents, self._book.drill.asked.id, self._book.note)
        await comparison.clean(status.holder or cast.primary)

    async def gather(self, cast: Cast | None) -> None:
        """Ask the nodes for what they noted: while their agents still know the drill."""
        if cast is None:
            return
        self._change = await self._newest_change(cast)
        since, until = self._span()
        for node in (*cast.data_nodes, *cast.arbiters):
            try:
                job = await self._agents.start(
                    node, self._book.drill.asked.id, "audit", {"since_ms": since, "until_ms": until}
                )
                done = await job.result(AuditDone, self._book.note)
            except DrillError as error:
                self._book.note(f"the audit of {node} is not in the report: {error.reason}", error.code)
            else:
                self._audit += done.records
        self._audit.sort(key=lambda record: str(record.get("time")))

    async def _newest_change(self, cast: Cast) -> ChangeOfPrimary | None:
        history = await self._daemon.history()
        began = datetime.fromisoformat(self._book.drill.began)
        for change in history.changes:
            if change.term <= cast.term:
                continue
            offset = round((datetime.fromisoformat(change.began) - began).total_seconds() * 1000)
            ended = None
            if change.ended is not None:
                ended = round((datetime.fromisoformat(change.ended) - began).total_seconds() * 1000)
            return ChangeOfPrimary(
                term=change.term,
                kind=change.kind,
                previous=change.previous,
                holder=change.holder,
                rule=change.rule,
                reason=change.reason,
                began_ms=offset,
                ended_ms=ended,
                outage_ms=change.outage_ms,
                phases=tuple(
                    ChangePhase(
                        name=phase.name,
                        node=phase.node,
                        began_ms=offset + phase.began_ms,
                        ended_ms=None if phase.ended_ms is None else offset + phase.ended_ms,
                        outcome=phase.outcome,
                        code=phase.code,
                    )
                    for phase in change.phases
                ),
            )
        return None

    def judge(self) -> None:
        """Decide how the drill ended, where nothing has failed: by its objectives."""
        missed = [
            one.name
            for one in objectives(self._evidence(self._book.drill), self._config.drill.objectives)
            if not one.met
        ]
        if missed:
            self._book.conclude("failed", "DRILL_OBJECTIVE", f"not met: {', '.join(missed)}")
        else:
            self._book.conclude("passed")

    def _evidence(self, drill: Drill) -> Evidence:
        return Evidence(
            drill=drill,
            seconds=self._seconds,
            generator=self.load,
            change=self._change,
            lag=self._lag,
            consistency=self._consistency,
            backup=self.backup,
            counters=self._counters,
            audit=self._audit,
            software=self.software,
            config_digest=membership_digest(self._config),
        )

    def is_written(self) -> bool:
        """Whether there is a report already."""
        return (self._book.place / REPORT).exists()

    async def write(self, cast: Cast | None, *, clean: bool) -> None:
        """Write the report here, and leave it on every node. Raises OSError.

        `clean`: nothing of the drill is left; the state says so only once this is written.
        """
        drill = replace(self._book.drill, clean=clean)
        await self._leave(report(self._evidence(drill), self._config.drill.objectives), cast)

    async def write_again(self, cast: Cast | None) -> None:
        """Nothing is left by now: say so in the report that there is, and keep its evidence. Raises OSError."""
        made = model.load(Report, (self._book.place / REPORT).read_bytes())
        await self._leave(replace(made, drill=replace(self._book.drill, clean=True)), cast)

    def _ended(self, *, clean: bool) -> Drill:
        """The drill as it is for the other nodes, which hear no more of it: where they have this, it is reported."""
        drill = self._book.drill
        *before, last = drill.phases
        if last.name is PhaseName.REPORT and last.outcome == "under-way":
            last = replace(last, ended_ms=self._book.now_ms(), outcome="passed")
        return replace(drill, clean=clean, phases=(*before, last))

    async def _leave(self, made: Report, cast: Cast | None) -> None:
        text, html = model.dump(made).decode(), page(made)
        write_durably(self._book.place / REPORT, text)
        write_durably(self._book.place / PAGE, html)
        digest = hashlib.sha256(text.encode()).hexdigest()
        self._book.note(f"the report is {self._book.place / PAGE}, SHA-256 of the JSON {digest}")
        if made.drill.outcome == "passed":
            last = {"id": made.drill.asked.id, "ended": made.drill.ended, "scenario": made.drill.asked.scenario}
            write_durably(self._book.place.parent / LAST, json.dumps(last) + "\n")
        nodes: Sequence[str] = (*cast.data_nodes, *cast.arbiters) if cast is not None else ()
        state = model.dump(self._ended(clean=made.drill.clean)).decode()
        for node in nodes:
            if cast is not None and node == cast.coordinator:
                continue
            try:
                await self._agents.keep(node, made.drill.asked.id, state=state, report=text, page=html)
            except DrillError as error:
                self._book.note(f"{node} does not keep the report: {error.reason}", error.code)
