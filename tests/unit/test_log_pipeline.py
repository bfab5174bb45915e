"""config/filebeat and config/logstash on what the program really logs and records; no Filebeat, no Logstash."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
from contextlib import closing
from datetime import UTC, datetime
from fnmatch import fnmatch
from pathlib import Path

import pytest
import structlog
from outside.logstash import Filter
from outside.shipped import LOGSTASH, flat, inputs, sent, wrong
from pydantic import SecretStr

from failoverd.audit import layout
from failoverd.audit.file import AuditFile
from failoverd.audit.reading import NAME
from failoverd.core.effects import Entry
from failoverd.core.health import Sendings
from failoverd.core.machine import State
from failoverd.core.model import Node, NodeKind, NodeName
from failoverd.core.policy import Policy
from failoverd.core.view import View
from failoverd.runtime import logging
from failoverd.runtime.clock import BootClock
from failoverd.runtime.daemon import Daemon
from failoverd.runtime.executor import Worker
from failoverd.runtime.outbox import Outbox

TREE = Path(__file__).resolve().parents[2]
SECRET = "hunter2hunter2"
ME = Node(NodeName("mail1"), NodeKind.DATA, "10.89.1.11")
VIEW = View(ME, (ME,), Policy((), "mariadb.service", 3), "", 1000, Sendings("p"))
DECIDED = Entry("decision", 7, "primary-serves", "serve: this node holds the lease", view=VIEW)
REFUSED = Entry("request-refused", 7, "", "promote mail2", code="BLK_LAG", detail=(("request", "r-1"), ("by", "anna")))


async def work(audit: AuditFile, broken: AuditFile) -> None:
    """A daemon notes two entries; then one whose audit takes nothing."""
    for sink in (audit, broken):
        daemon = Daemon(
            state=State(VIEW, "0"),
            clock=BootClock(),
            store=None,  # type: ignore[arg-type] # never asked: the daemon does not run
            lease=None,  # type: ignore[arg-type] # likewise
            push=lambda _report: None,
            watch_primary=lambda _primary: None,
            alive=lambda: None,
        )
        daemon.outbox = Outbox(
            worker=Worker("audit"),
            audit=sink,
            remember=lambda _memory: None,
            perform=lambda _effect: None,
            refuse=lambda _effect, _reason: None,
        )
        daemon.note(DECIDED)
        daemon.note(REFUSED)
        await daemon.outbox.close()


@pytest.fixture
def written(tmp_path: Path) -> tuple[list[str], list[str]]:
    """The lines of the log as the journal has them, and those of the audit, as the program writes both."""
    log, file = tmp_path / "log", tmp_path / NAME
    with log.open("w") as stream:
        status = os.fstat(stream.fileno())
        journal = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        stop = logging.start([SecretStr(SECRET)], stream=stream, environment=journal)
        broken = AuditFile(tmp_path / "gone" / NAME, "mail1", BootClock())
        broken.close()
        shutil.rmtree(tmp_path / "gone")
        (tmp_path / "gone").touch()  # no directory any more
        with closing(AuditFile(file, "mail1", BootClock())) as audit:
            asyncio.run(work(audit, broken))
        try:
            raise OSError(SECRET)  # noqa: TRY301 - its traceback is what is wanted
        except OSError:
            structlog.get_logger().exception("failed", password=SECRET)
        stop()
    with file.open("ab") as torn:
        torn.write(b'{"v":1,"seq"')
    AuditFile(file, "mail1", BootClock()).close()  # it says that it was repaired
    journal_has = [re.sub("^<[0-7]>", "", line) for line in log.read_text().splitlines()]
    return journal_has, file.read_text().splitlines()


def test_filebeat_reads_what_failoverd_writes(written: tuple[list[str], list[str]]) -> None:
    log, audit = written
    assert inputs().keys() == {"journald", "filestream"}
    unit = TREE / "systemd" / inputs()["journald"]["include_matches.match"][0].removeprefix("_SYSTEMD_UNIT=")
    assert unit.is_file()
    assert inputs()["filestream"]["paths"] == [f"/var/lib/failoverd/audit/{name}" for name in (NAME, "audit-*.jsonl")]
    assert fnmatch(layout.name_of(4712), "audit-*.jsonl")
    assert all(isinstance(sent("journald", line)["failoverd"], dict) for line in log)
    assert any("view" in json.loads(line).get("input", {}) for line in audit), "there is something to drop"
    assert not any("view" in sent("filestream", line)["failoverd"].get("input", {}) for line in audit)


def test_each_line_of_the_log_gets_its_names_and_its_time(written: tuple[list[str], list[str]]) -> None:
    events = [flat(Filter(LOGSTASH)(sent("journald", line))) for line in written[0]]
    assert [event["message"] for event in events][:2] == [DECIDED.text, REFUSED.text]
    assert (
        events[1].items()
        >= {
            "log.level": "info",
            "event.action": "request-refused",
            "event.code": "BLK_LAG",
            "event.dataset": "failoverd.log",
            "failoverd.term": 7,
        }.items()
    )
    lost = next(event for event in events if event.get("event.code") == "AUDIT_FAILED")
    assert "File exists" in str(lost["event.reason"])
    assert "OSError: ***" in str(events[-1]["error.stack_trace"])


def test_each_record_of_the_audit_gets_its_names_and_its_time(written: tuple[list[str], list[str]]) -> None:
    records = [json.loads(line) for line in written[1]]
    events = [flat(Filter(LOGSTASH)(sent("filestream", line))) for line in written[1]]
    assert [event["message"] for event in events] == [
        DECIDED.text,
        REFUSED.text,
        records[-1]["text"],
    ]
    assert [event["event.sequence"] for event in events] == [1, 2, 3]
    assert [event["@timestamp"] for event in events] == [datetime.fromisoformat(record["time"]) for record in records]
    assert events[0]["rule.name"] == "primary-serves"
    assert events[0]["failoverd.input.digest"] == records[0]["input"]["digest"]
    assert events[1]["labels"] == {"request": "r-1", "by": "anna"}


def test_every_name_is_one_of_ecs_or_below_our_own(written: tuple[list[str], list[str]]) -> None:
    lines = [("journald", line) for line in written[0]] + [("filestream", line) for line in written[1]]
    for kind, line in lines:
        assert wrong(flat(Filter(LOGSTASH)(sent(kind, line)))) == []


def test_what_the_pipeline_names_is_there_and_no_secret_passes(written: tuple[list[str], list[str]]) -> None:
    pipeline = Filter(LOGSTASH)
    for kind, lines in zip(("journald", "filestream"), written, strict=True):
        for line in lines:
            assert SECRET not in str(pipeline(sent(kind, line)))
    # What it removes as a precaution is not there: Filebeat drops the view, and Logstash itself makes event.original.
    assert pipeline.named() - pipeline.applied == {"[event][original]", "[failoverd][input][view]"}
    bare = Filter(LOGSTASH)({"event": {"module": "failoverd"}, "failoverd": {"input": {"view": "eJzt"}, "term": 7}})
    assert "view" not in str(bare)


def test_what_is_no_json_passes_as_text() -> None:
    words = "Fatal Python error: Aborted"
    event = flat(Filter(LOGSTASH)(sent("journald", words)))
    assert event["message"] == words
    assert event["service.name"] == "failoverd"
    now = datetime.now(UTC)
    other = {"event": {"module": "nginx"}, "message": "GET /", "@timestamp": now}
    assert Filter(LOGSTASH)(dict(other)) == other
