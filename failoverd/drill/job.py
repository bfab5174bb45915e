"""`failoverd drill-job KIND`: one job of an agent, a process of its own. See jobs.py for what it says and is told.

backup     {drill, kind}                          BackupDone
tables     {only}, then orders (tables.py)        TablesDone
mailboxes  {drill, accounts}                      MailboxesDone
counters   {drill, accounts, since_ms, late_ms}   CountersDone
audit      {since_ms, until_ms}                   AuditDone
clean      {drill, accounts}                      {}

The agent passes on what the coordinator says: another node's words, which are looked at here before anything is done.
"""

from __future__ import annotations

import json
import signal
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from failoverd.audit import reading
from failoverd.drill import DrillError, counters, mailboxes, model
from failoverd.drill.backup import Backup
from failoverd.drill.model import AuditDone
from failoverd.drill.tables import Tables
from failoverd.rebuild.programs import Programs
from failoverd.runtime.drills_past import ID

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import FrameType

    from failoverd.config import Config

_Id = Annotated[str, Field(pattern=f"^{ID.pattern}$")]  # it becomes a directory's name
_Ms = Annotated[int, Field(ge=0, lt=253_402_300_800_000)]  # up to the year 9999


class Told(BaseModel):
    """What a job is told as it begins. A coordinator of a newer version may say more."""

    model_config = ConfigDict(strict=True)


class _Backup(Told):
    drill: _Id
    kind: Literal["full", "incremental"]


class _Tables(Told):
    only: list[str] | None = None


class _Accounts(Told):
    drill: _Id
    accounts: list[Annotated[str, Field(min_length=1)]]


class _Mailboxes(_Accounts):
    pass


class _Counters(_Accounts):
    since_ms: _Ms
    late_ms: _Ms


class _Audit(Told):
    since_ms: _Ms
    until_ms: _Ms


class _Clean(_Accounts):
    pass


KINDS: Mapping[str, type[Told]] = {
    "backup": _Backup,
    "tables": _Tables,
    "mailboxes": _Mailboxes,
    "counters": _Counters,
    "audit": _Audit,
    "clean": _Clean,
}


def domain_of(drill: str) -> str:
    """Return the right side of the Message-IDs of a drill: a name that cannot exist (RFC 2606)."""
    return f"{drill}.drill.invalid"


def main(config: Config, kind: str) -> int:
    """Entry point: 0 done, 1 failed, and the last line says why."""
    signal.signal(signal.SIGTERM, _told_to_end)
    lines = _lines()
    try:
        done = _run(config, told(kind, next(lines, {})), lines)
    except DrillError as error:
        _say({"failed": {"code": error.code, "reason": error.reason}})
        return 1
    _say({"done": json.loads(model.dump(done)) if done is not None else {}})
    return 0


def _told_to_end(number: int, _: FrameType | None) -> None:
    """End as an exception does: what was started is ended and what was copied removed, on the way out."""
    signal.signal(number, signal.SIG_IGN)  # once is enough, and the way out is not to be broken off
    raise SystemExit(128 + number)


def told(kind: str, arguments: dict[str, Any]) -> Told:
    """What it is told, as a value. Raises DrillError."""
    try:
        return KINDS[kind].model_validate(arguments)
    except KeyError:
        raise DrillError("DRILL_BUG", f"{kind!r} is no job") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        words = f"{'.'.join(map(str, first['loc'])) or 'its arguments'}: {first['msg']}"
        raise DrillError("DRILL_BUG", f"{kind}: {words} (is the coordinator of another version?)") from None


def _run(config: Config, asked: Told, lines: Iterator[dict[str, Any]]) -> object:
    node = str(config.this.name)
    match asked:
        case _Backup():
            return Backup(config, asked.drill, _progress, Programs(None, bound=True)).make(asked.kind)
        case _Tables():
            return Tables(config, _progress, asked.only).run(lines)
        case _Mailboxes():
            return mailboxes.look(node, asked.accounts, domain_of(asked.drill), _progress)
        case _Counters():
            domain, since_ms = domain_of(asked.drill), asked.since_ms
            return counters.look(node, set(asked.accounts), domain, since_ms=since_ms, late_ms=asked.late_ms)
        case _Audit():
            return _audit(config, asked.since_ms, asked.until_ms)
        case _Clean():
            mailboxes.expunge(asked.accounts, asked.drill)
            return None
    raise AssertionError(f"{type(asked).__name__} has no job")


def _audit(config: Config, since_ms: int, until_ms: int) -> AuditDone:
    found = []
    for read in reading.records(config.audit.directory, datetime.fromtimestamp(since_ms / 1000, UTC)):
        record = read.record
        if record is None or not since_ms <= _epoch_ms(record.get("time")) <= until_ms:
            continue
        asked = record.get("input")
        short = {name: value for name, value in asked.items() if name != "view"} if isinstance(asked, dict) else asked
        found.append({**record, "input": short} if short is not None else dict(record))
    return AuditDone(node=str(config.this.name), records=tuple(found))


def _epoch_ms(moment: object) -> float:
    try:
        return datetime.fromisoformat(str(moment)).timestamp() * 1000
    except ValueError:
        return -1.0


def _lines() -> Iterator[dict[str, Any]]:
    """What this process is told, until whoever tells it is gone."""
    for line in sys.stdin:
        value = json.loads(line)
        if isinstance(value, dict):
            yield value


def _progress(what: dict[str, Any]) -> None:
    _say({"progress": what})


def _say(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line, ensure_ascii=False) + "\n")
    sys.stdout.flush()
