"""Is everything there, once, and the same everywhere: rows at one transaction, mails, what was acknowledged.

Asked while the cluster works: nothing is stopped but commits, for some 100 ms at a time (tables.py).
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from failoverd.drill import DrillError, accounts, model
from failoverd.drill.calls import all_of
from failoverd.drill.model import (
    Acknowledged,
    ComparedTable,
    Consistency,
    Counter,
    CountersDone,
    MailboxesDone,
    TablesDone,
)
from failoverd.drill_files import LEDGER

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from pathlib import Path

    from failoverd.config import Config
    from failoverd.drill.calls import Agents, Job
    from failoverd.drill.model import LoadDone

ATTEMPTS = 20
PAUSE_S = 0.5
ROUNDS = 3  # that a table may change in, each time, before it is left out
NAMED = 100


class Comparison:
    """All nodes' data, asked of their agents. Raises DrillError where it could not be compared."""

    def __init__(self, config: Config, agents: Agents, drill: str, tell: Callable[[str], None]) -> None:
        self._config, self._agents, self._drill, self._tell = config, agents, drill, tell
        load = config.drill.load.accounts
        self._accounts = list(accounts.read(load)) if load is not None else []

    async def tables(self, nodes: Sequence[str], primary: str) -> list[TablesDone]:
        """Every node's sums at one transaction. Raises DrillError where they do not meet at one.

        Tables that somebody has altered, made or dropped meanwhile are summed up again, at another transaction.
        """
        found = await self._tables(nodes, primary, None)
        for _ in range(ROUNDS - 1):
            again = unsettled(found)
            if not again:
                break
            self._tell(f"changed while they were summed up, and done again: {', '.join(sorted(again)[:NAMED])}")
            newer = await self._tables(nodes, primary, again)
            found = [_with_newer(old, new, again) for old, new in zip(found, newer, strict=True)]
        return found

    async def _tables(self, nodes: Sequence[str], primary: str, only: Collection[str] | None) -> list[TablesDone]:
        arguments = {"only": sorted(only) if only is not None else None}
        jobs = {node: await self._agents.start(node, self._drill, "tables", arguments) for node in nodes}
        for attempt in range(ATTEMPTS):
            if await self._at_one(jobs, jobs[primary], attempt):
                break
            await asyncio.sleep(PAUSE_S)  # clients commit meanwhile
        else:
            raise DrillError("DRILL_DIFFERS", f"in {ATTEMPTS} attempts the nodes were never at one transaction")
        for job in jobs.values():
            await job.tell({"sum": True})
        return list(await all_of(*(job.result(TablesDone, self._tell) for job in jobs.values())))

    @staticmethod
    async def _at_one(jobs: Mapping[str, Job], primary: Job, attempt: int) -> bool:
        await primary.tell({"hold": attempt})
        held = (await primary.progress())["held"]
        if not held:
            return False
        try:
            for job in jobs.values():
                await job.tell({"open": attempt} if job is primary else {"open": attempt, "at": held})
            opened = [(await job.progress())["opened"] for job in jobs.values()]
        finally:
            await primary.tell({"let_go": attempt})
        return len({_sorted(gtid) for gtid in opened}) == 1

    async def mailboxes(self, nodes: Sequence[str]) -> list[MailboxesDone]:
        """Every node's view of the drill's accounts."""
        arguments = {"drill": self._drill, "accounts": self._accounts}
        jobs = [await self._agents.start(node, self._drill, "mailboxes", arguments) for node in nodes]
        return list(await all_of(*(job.result(MailboxesDone, self._tell) for job in jobs)))

    async def clean(self, node: str) -> None:
        """Remove the drill's mails, by one node: all see the same store."""
        job = await self._agents.start(node, self._drill, "clean", {"drill": self._drill, "accounts": self._accounts})
        await job.result(dict, self._tell)


def _sorted(gtid: str) -> str:
    return ",".join(sorted(part.strip() for part in gtid.split(",")))


def ledger(place: Path) -> list[Acknowledged]:
    """What servers took responsibility for. A last line that a crash has cut off was not acknowledged to anybody."""
    try:
        lines = (place / LEDGER).read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    return [model.load(Acknowledged, line) for line in lines[:-1] if line.strip()]


def consistency(
    tables: Sequence[TablesDone], boxes: Sequence[MailboxesDone], acknowledged: Sequence[Acknowledged], primary: str
) -> Consistency:
    """Put together what nodes found. Pure."""
    found = next(box.found for box in boxes if box.node == primary) if boxes else {}
    wanted = {one.message_id for one in acknowledged}
    lost = sorted(wanted - found.keys())
    twice = sorted(name for name, count in found.items() if count > 1)
    sums = [
        (box.account, box.mailbox, box.content, box.flags, box.messages, of.node)
        for of in boxes
        for box in of.mailboxes
    ]
    by_box: dict[tuple[str, str], set[tuple[str, str]]] = {}
    for account, mailbox, content, flags, _, _ in sums:
        by_box.setdefault((account, mailbox), set()).add((content, flags))
    counts = {name: sum(1 for one in sums if one[:2] == name) for name in by_box}
    differ = sorted(
        f"{account} {mailbox}"
        for (account, mailbox), seen in by_box.items()
        if len(seen) > 1 or counts[account, mailbox] != len(boxes)
    )
    return Consistency(
        gtid=tables[0].gtid if tables else "",
        tables=tuple(compared(tables)),
        mailboxes=len(by_box),
        messages=sum(box.messages for node in boxes if node.node == primary for box in node.mailboxes),
        mailboxes_differ=tuple(differ),
        acknowledged=len(wanted),
        lost=tuple(lost[:NAMED]),
        lost_count=len(lost),
        twice=tuple(twice[:NAMED]),
        twice_count=len(twice),
        left_out=left_out(tables),
    )


def compared(tables: Sequence[TablesDone]) -> Iterable[ComparedTable]:
    """Each table that any node has and that did not change; a node that lacks it has no digest. Pure."""
    changed = {table.name for node in tables for table in node.tables if table.changed}
    names = sorted({table.name for node in tables for table in node.tables} - changed)
    for name in names:
        digests = {node.node: next((t.digest for t in node.tables if t.name == name), "") for node in tables}
        rows = max(t.rows for node in tables for t in node.tables if t.name == name)
        yield ComparedTable(name=name, rows=rows, digests=digests, same=len(set(digests.values())) == 1)


def left_out(tables: Sequence[TablesDone]) -> dict[str, str]:
    """Return tables that were not compared, and why. Pure."""
    found = {name: why for node in tables for name, why in node.left_out.items()}
    for node in tables:
        found |= {table.name: f"changed meanwhile ({table.changed})" for table in node.tables if table.changed}
    return dict(sorted(found.items()))


def unsettled(tables: Sequence[TablesDone]) -> set[str]:
    """Return tables that have changed on a node, or that are not the same ones on all: DDL may be on its way. Pure.

    Rows that differ in tables of one shape do so for good: they are not asked for again.
    """
    shapes: dict[str, set[str]] = {}
    counts: dict[str, int] = {}
    for node in tables:
        for table in node.tables:
            shapes.setdefault(table.name, set()).add(table.shape)
            counts[table.name] = counts.get(table.name, 0) + 1
    changed = {table.name for node in tables for table in node.tables if table.changed}
    return changed | {name for name, seen in shapes.items() if len(seen) > 1 or counts[name] < len(tables)}


def _with_newer(old: TablesDone, new: TablesDone, names: Collection[str]) -> TablesDone:
    """Put the newer sums of some tables in the place of the older ones."""
    kept = [table for table in old.tables if table.name not in names]
    tables = tuple(sorted((*kept, *new.tables), key=lambda table: table.name))
    return replace(old, tables=tables, left_out=old.left_out | new.left_out, took_s=round(old.took_s + new.took_s, 3))


def counters(ours: LoadDone, servers: Sequence[CountersDone], found: Mapping[str, int], appended: int) -> list[Counter]:
    """Ours beside the servers'. `found`: Message-IDs in the mailboxes, of which `appended` were appended.

    What was never answered counts as the servers say: both are right about it.
    """
    logins = sum(node.logins for node in servers)
    taken = {name for node in servers for name in node.submitted}
    both, unknown = ours.submitted + ours.appended, ours.submits_unknown + ours.appends_unknown
    return [
        Counter(name="IMAP logins", ours=_with(ours.logins, ours.logins_unknown, logins), servers=logins),
        Counter(
            name="messages submitted", ours=_with(ours.submitted, ours.submits_unknown, len(taken)), servers=len(taken)
        ),
        Counter(name="messages in the mailboxes", ours=_with(both, unknown, len(found)), servers=len(found)),
        Counter(name="messages appended", ours=ours.appended, servers=appended),
    ]


def _with(ours: int, unknown: int, servers: int) -> int:
    return min(max(ours, servers), ours + unknown)
