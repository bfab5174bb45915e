"""Drills: their files on disk, their reports of any version, what jobs and generators say, what agents answer."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast
from unittest.mock import Mock

import drill_stage
import httpx
from places import TREE, place, run, written
from target import Target

from failoverd.drill import DrillError, calls, model
from failoverd.drill.book import Book
from failoverd.drill.generator import Generator
from failoverd.drill.load.main import OrderError, _json, _plan
from failoverd.drill.model import Asked, LoadNow, MailboxesDone, MailboxSum
from failoverd.drill.report import compare, kept, page, summary
from failoverd.drill_files import CURRENT, DIRECTORY, LAST, STATE, WANTED
from failoverd.runtime import drills_past

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from failoverd.drill.collecting import Collector

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
ID = drill_stage.ASKED.id


def _report(data: bytes) -> object:
    """A report that is opened again: compared, told and drawn."""
    report = kept.read(written("report.json", data))
    compare.as_json(compare.compare(report, report))
    return page.page(report), summary.lines(report)


def _states(data: bytes) -> object:
    """A drill's state, as the daemon looks back at it."""
    where = place("drills")
    (where / ID).mkdir()
    for path in (where / ID / STATE, where / LAST, where / WANTED):
        path.write_bytes(data)
    drills_past.wanted_since(where, NOW)
    return drills_past.read(where)


def _state(data: bytes) -> object:
    """A drill's state, as the coordinator reads it at its start."""
    where = place("drill-state")
    (where / DIRECTORY / ID).mkdir(parents=True)
    (where / DIRECTORY / CURRENT).write_text(ID + "\n")
    (where / DIRECTORY / ID / STATE).write_bytes(data)
    return Book.unfinished(where, print)


def _agent(data: bytes) -> object:
    """A status line, then the body: what an agent answers to each question."""
    line, _, body = data.partition(b"\n")
    status = int(line) if line in (b"200", b"201", b"204", b"403", b"409", b"500") else 200

    async def handle(_: httpx.Request) -> httpx.Response:
        return httpx.Response(status, content=body)

    async def asked() -> object:
        agents = calls.Agents.__new__(calls.Agents)
        agents._credentials = Mock()
        agents._nodes, agents._port, agents._streams = {"mail1": "10.0.0.1"}, 7402, []
        agents._client = httpx.AsyncClient(transport=httpx.MockTransport(handle))
        found: list[object] = []
        async with agents:
            cast_ = drill_stage.CAST
            for question in (
                agents.facts("mail1"),
                agents.inject("mail1", ID, "service-hang", cast_),
                agents.lock("mail1", ID, "anna", "mail2"),
                agents.start("mail1", ID, "tables", {}),
            ):
                try:
                    found.append(await question)
                except DrillError as error:
                    found.append(error)
        return found

    return run(asked())


def _job(data: bytes) -> object:
    """A job's lines, up to its end, as its waiter takes them."""

    async def lines() -> AsyncGenerator[dict[str, Any], None]:
        for line in data.splitlines():
            yield calls.said("mail1", line)

    async def waited() -> object:
        job = calls.Job(cast("calls.Agents", None), "mail1", "/", lines())
        await job.progress()
        return await job.result(MailboxesDone, lambda _: None)

    return run(waited())


def _generator(data: bytes) -> object:
    """What the load's generator says."""

    class _Found:
        def second(self, second: object) -> None:
            """Take it."""

    generator = Generator(_PLAN, cast("Book", None), cast("Collector", _Found()))
    try:
        for line in data.split(b"\n"):
            generator._take(json.loads(line))
    except (ValueError, RecursionError) as error:  # as its `_listen` does
        return error
    return generator.sessions


def _order(data: bytes) -> object:
    """What a generator is told."""
    _json(data)
    return _plan(data)


_PLAN = model.LoadPlan(
    drill=ID, address="10.0.0.100", server_name="m", ca="/x", imap_port=993, imap_tls="implicit", smtp_port=587,
    smtp_tls="starttls", accounts_file="/x", directory="/x", users=3, ramp_s=1,
)  # fmt: skip
_MAILBOXES = MailboxesDone(
    node="mail1", mailboxes=(MailboxSum(account="a", mailbox="b", messages=1, content="c", flags="d"),), found={},
    took_s=0.1,
)  # fmt: skip


def _report_made() -> list[bytes]:
    return [(TREE / "tests" / "unit" / "drill-report-v1.json").read_bytes()]


_LINES = b"\n".join(
    [b'{"progress": {"text": "mail3: it runs"}}', b'{"progress": {"held": "0-1-500"}}',
     b'{"done": ' + model.dump(_MAILBOXES) + b"}", b'{"failed": {"code": "DRILL_DIFFERS", "reason": "x"}}']
)  # fmt: skip

TARGETS = [
    Target("drill-report", "a report of any version", _report, _report_made, (kept.UnreadableError,), 64 * 1024),
    Target("drill-states", "states of past drills", _states, lambda: [model.dump(drill_stage.DRILL)]),
    Target("drill-state", "the state of one that did not end", _state, lambda: [model.dump(drill_stage.DRILL)],
           (ValueError,)),
    Target("drill-asked", "what is asked of a coordinator", lambda data: model.load(Asked, data),
           lambda: [model.dump(drill_stage.ASKED)], (ValueError,)),
    Target("agent-answer", "what a drill agent answers", _agent,
           lambda: [b"200\n" + model.dump(drill_stage.FAULT), b'201\n{"job": "x"}',
                    b'409\n{"id": "x", "by": "a", "node": "mail2"}', b'500\n{"code": "DRILL_BUG", "reason": "x"}']),
    Target("job-lines", "what a job of an agent says", _job, lambda: [_LINES], (DrillError,)),
    Target("generator-lines", "what the load's generator says", _generator,
           lambda: [b'{"now": ' + model.dump(LoadNow(users=3, sessions=2, overdue=0)) + b"}\n"]),
    Target("generator-order", "what a generator is told", _order,
           lambda: [b'{"plan": ' + model.dump(_PLAN) + b"}"], (OrderError,)),
]  # fmt: skip
