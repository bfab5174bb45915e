"""`failoverd drill-job KIND`: one job of an agent, a process of its own. See jobs.py for what it says and is told.

backup     {drill, kind}                          BackupDone
tables     {only}, then orders (tables.py)        TablesDone
mailboxes  {drill, accounts}                      MailboxesDone
counters   {drill, accounts, since_ms, late_ms}   CountersDone
clean      {drill, accounts}                      {}
"""

from __future__ import annotations

import json
import signal
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from failoverd.audit import reading
from failoverd.drill import DrillError, counters, mailboxes, model
from failoverd.drill.backup import Backup
from failoverd.drill.model import AuditDone
from failoverd.drill.tables import Tables
from failoverd.rebuild.programs import Programs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from failoverd.config import Config


def domain_of(drill: str) -> str:
    """Return the right side of the Message-IDs of a drill: a name that cannot exist (RFC 2606)."""
    return f"{drill}.drill.invalid"


def main(config: Config, kind: str) -> int:
    """Entry point: 0 done, 1 failed, and the last line says why."""
    signal.signal(signal.SIGTERM, _told_to_end)
    lines = _lines()
    try:
        done = _run(config, kind, next(lines, {}), lines)
    except DrillError as error:
        _say({"failed": {"code": error.code, "reason": error.reason}})
        return 1
    _say({"done": json.loads(model.dump(done)) if done is not None else {}})
    return 0


def _told_to_end(number: int, _: FrameType | None) -> None:
    """End as an exception does: what was started is ended and what was copied removed, on the way out."""
    signal.signal(number, signal.SIG_IGN)  # once is enough, and the way out is not to be broken off
    raise SystemExit(128 + number)


def _run(config: Config, kind: str, asked: dict[str, Any], lines: Iterator[dict[str, Any]]) -> object:
    node = str(config.this.name)
    match kind:
        case "backup":
            return Backup(config, str(asked["drill"]), _progress, Programs(None, bound=True)).make(str(asked["kind"]))
        case "tables":
            return Tables(config, _progress, asked.get("only")).run(lines)
        case "mailboxes":
            return mailboxes.look(node, asked["accounts"], domain_of(asked["drill"]), _progress)
        case "counters":
            domain = domain_of(asked["drill"])
            return counters.look(
                node, set(asked["accounts"]), domain, since_ms=asked["since_ms"], late_ms=asked["late_ms"]
            )
        case "audit":
            return _audit(config, asked["since_ms"], asked["until_ms"])
        case "clean":
            mailboxes.expunge(asked["accounts"], str(asked["drill"]))
            return None
        case _:
            raise DrillError("DRILL_BUG", f"{kind!r} is no job")


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
