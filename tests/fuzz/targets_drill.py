"""Drills: their files on disk, their reports of any version, what jobs and generators say, what agents answer."""

from __future__ import annotations

import asyncio
import functools
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast
from unittest.mock import Mock

import control_stage
import drill_stage
import httpx
from places import TREE, config_file, directory, place, run, written
from pydantic import TypeAdapter
from target import Target

from failoverd.audit.layout import NAME
from failoverd.config import load
from failoverd.drill import DrillError, calls, job, model
from failoverd.drill import main as conducting
from failoverd.drill.book import Book
from failoverd.drill.generator import LINE_BYTES, Generator
from failoverd.drill.load.main import OrderError, _json, _plan
from failoverd.drill.local import LocalDaemon
from failoverd.drill.model import LoadNow, MailboxesDone, MailboxSum
from failoverd.drill.report import compare, kept, page, summary
from failoverd.drill_files import CURRENT, DIRECTORY, LAST, REQUEST, STATE, WANTED
from failoverd.runtime import drilling, drills_past
from failoverd.runtime.document import StatusDocument

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from failoverd.config import Config
    from failoverd.drill.collecting import Collector

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
ID = drill_stage.ASKED.id


@functools.cache
def _config() -> Config:
    return load(config_file(), "mail1")


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
    try:
        json.dumps(drilling._state_in(where / ID / STATE))
    except ValueError as error:  # as the daemon's list of drills says it
        str(error).encode()
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
        waiting = calls.Job(cast("calls.Agents", None), "mail1", "/", lines())
        await waiting.progress()
        return await waiting.result(MailboxesDone, lambda _: None)

    return run(waited())


def _job_told(data: bytes) -> object:
    """A job's kind, then what a member's coordinator says of it. Only the audit is read: the rest asks of servers."""
    kind, _, body = data.partition(b"\n")
    try:
        arguments = json.loads(body)
    except (ValueError, RecursionError):  # the agent has understood it, and passes on an object
        arguments = {}
    asked = job.told(kind.decode("latin-1"), arguments if isinstance(arguments, dict) else {})
    if not isinstance(asked, job.KINDS["audit"]):
        return asked
    config = _config()
    where = place("drill-audit")
    (where / NAME).write_bytes(b'{"seq": 1, "time": "2026-11-29T12:00:00Z", "input": {"view": "x", "digest": "y"}}\n')
    audit = config.audit.model_copy(update={"directory": where})
    return model.dump(job._run(config.model_copy(update={"audit": audit}), asked, iter(())))


def _generator(data: bytes) -> object:
    """What the load's generator says."""

    class _Found:
        def second(self, second: object) -> None:
            """Take it."""

    class _Process:
        stdout: asyncio.StreamReader

    async def listened() -> object:
        generator, process = Generator(_PLAN, cast("Book", None), cast("Collector", _Found())), _Process()
        process.stdout = asyncio.StreamReader(limit=LINE_BYTES)
        process.stdout.feed_data(data)
        process.stdout.feed_eof()
        await generator._listen(cast("asyncio.subprocess.Process", process))
        return generator.sessions

    return run(listened())


def _asked(data: bytes) -> object:
    """What a coordinator finds that was asked of it."""
    where = place("drill-asked")
    (where / REQUEST).write_bytes(data)
    try:
        return conducting._asked(_config(), where, where)
    finally:
        assert not (where / REQUEST).exists(), "it is taken once"


def _daemon(data: bytes) -> object:
    """A status line, then the body: what the daemon here, of whatever version, answers to a coordinator."""
    line, _, body = data.partition(b"\n")
    status = int(line) if line in (b"202", b"403", b"409", b"500", b"503") else 200

    async def handle(_: httpx.Request) -> httpx.Response:
        return httpx.Response(status, content=body)

    async def asked() -> object:
        daemon = LocalDaemon(directory() / "none.sock")
        daemon._client = httpx.AsyncClient(transport=httpx.MockTransport(handle), base_url="http://localhost")
        found: list[object] = []
        async with daemon:
            for question in (daemon.status(), daemon.check(), daemon.history(), daemon.promote("mail2", "x")):
                try:
                    found.append(await question)
                except DrillError as error:
                    found.append(str(error).encode())
        return found

    return run(asked())


def _order(data: bytes) -> object:
    """What a generator is told."""
    _json(data)
    return _plan(data)


_PLAN = model.LoadPlan(
    drill=ID, address="10.0.0.100", server_name="m", ca="/x", imap_port=993, imap_tls="implicit", smtp_port=587,
    smtp_tls="starttls", accounts_file="/x", directory="/x", users=3, ramp_s=1,
)  # fmt: skip
_TOLD = (
    'audit\n{"since_ms": 1790000000000, "until_ms": 1800000000000}',
    f'backup\n{{"drill": "{ID}", "kind": "full"}}',
    'tables\n{"only": ["mail.users"]}',
    f'counters\n{{"drill": "{ID}", "accounts": ["a@b"], "since_ms": 0, "late_ms": 1000}}',
    f'clean\n{{"drill": "{ID}", "accounts": ["a@b"]}}',
)
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
    Target("drill-asked", "what is asked of a coordinator", _asked, lambda: [model.dump(drill_stage.ASKED)],
           (DrillError,)),
    Target("drill-daemon", "what the daemon answers to a coordinator", _daemon,
           lambda: [b'409\n{"reasons": [{"code": "BLK_LAG", "reason": "x", "node": null}], "last_resort": ""}',
                    b"200\n" + TypeAdapter(StatusDocument).dump_json(control_stage.HEALTHY), b"202\n{}"]),
    Target("agent-answer", "what a drill agent answers", _agent,
           lambda: [b"200\n" + model.dump(drill_stage.FAULT), b'201\n{"job": "x"}',
                    b'409\n{"id": "x", "by": "a", "node": "mail2"}', b'500\n{"code": "DRILL_BUG", "reason": "x"}']),
    Target("job-told", "what a job of an agent is told", _job_told, lambda: [line.encode() for line in _TOLD],
           (DrillError,)),
    Target("job-lines", "what a job of an agent says", _job, lambda: [_LINES], (DrillError,)),
    Target("generator-lines", "what the load's generator says", _generator,
           lambda: [b'{"now": ' + model.dump(LoadNow(users=3, sessions=2, overdue=0)) + b"}\n"], (DrillError,)),
    Target("generator-order", "what a generator is told", _order,
           lambda: [b'{"plan": ' + model.dump(_PLAN) + b"}"], (OrderError,)),
]  # fmt: skip
