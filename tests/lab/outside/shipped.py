"""What config/filebeat sends of a line, and what becomes of it in config/logstash: events with names of ECS.

Neither program could be had: of Filebeat's settings those that change an event are carried out here, of Logstash's the
filter (logstash.py).
"""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import TYPE_CHECKING, Any

import yaml
from hosts import LabError, layout

from outside.logstash import Filter

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hosts import Lab

    from outside.logstash import Event

FILEBEAT = layout.TREE / "config/filebeat/filebeat.yml"
LOGSTASH = layout.TREE / "config/logstash/failoverd.conf"
SECRETS = (layout.CANARY_PASSWORD, layout.USER_PASSWORD, layout.DATABASE_PASSWORD, layout.REPLICATION_PASSWORD)
# The fields of the Elastic Common Schema, 8.x, that are used; @timestamp and labels are base fields like message.
ECS = {
    "@timestamp": datetime,
    "message": str,
    "labels": dict,
    "log.level": str,
    "error.stack_trace": str,
    "event.action": str,
    "event.code": str,
    "event.dataset": str,
    "event.kind": str,
    "event.module": str,
    "event.reason": str,
    "event.sequence": int,
    "rule.name": str,
    "service.name": str,
    "service.type": str,
}


def settings() -> dict[str, Any]:
    """Filebeat's."""
    found = yaml.safe_load(FILEBEAT.read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


def inputs() -> dict[str, dict[str, Any]]:
    """The inputs of Filebeat by their kind."""
    return {one["type"]: one for one in settings()["filebeat.inputs"]}


def sent(kind: str, line: str) -> Event:
    """What Filebeat sends of a line: of the journal as journald has it, or of the audit file."""
    given = inputs()[kind]
    event: Event = {"@timestamp": "when it was read", "event": {}}
    for name, value in given["fields"].items():
        assert name.startswith("event.")
        event["event"][name.removeprefix("event.")] = value
    if kind == "filestream":
        ((parser,),) = (parser.values() for parser in given["parsers"])
        event[parser["target"]] = json.loads(line)
    else:
        (decoding,) = (processor["decode_json_fields"] for processor in given["processors"])
        event["message"] = line
        if re.search(decoding["when.regexp.message"], line):
            event[decoding["target"]] = json.loads(line)
    for processor in settings()["processors"]:
        for field in processor["drop_fields"]["fields"]:
            *above, last = field.split(".")
            inside = event
            for name in above:
                inside = inside.get(name, {})
            inside.pop(last, None)
    return event


def flat(event: Event, above: str = "") -> dict[str, Any]:
    """Its fields by their names with dots, but for those of other people's making."""
    found: dict[str, Any] = {}
    for name, value in event.items():
        path = f"{above}{name}"
        found.update(flat(value, f"{path}.") if isinstance(value, dict) and path != "labels" else {path: value})
    return found


def wrong(event: dict[str, Any]) -> list[str]:
    """The names of a flat event that are neither ECS's nor below our own, or of another type than there."""
    return [
        f"{name}={value!r}"
        for name, value in event.items()
        if not name.startswith("failoverd.") and value is not None and not isinstance(value, ECS.get(name, ()))
    ]


def carried(lab: Lab, hosts: Iterable[str]) -> dict[str, int]:
    """Let all that the hosts have logged and recorded through; counts the lines. Raises LabError for a wrong one."""
    pipeline, counts = Filter(LOGSTASH), dict.fromkeys(inputs(), 0)
    for host in hosts:
        (match,) = inputs()["journald"]["include_matches.match"]
        (audit,) = inputs()["filestream"]["paths"]
        read = {
            "journald": lab.exec(host, "journalctl", "--output=cat", "--quiet", match).stdout,
            "filestream": lab.exec(host, "cat", audit).stdout,
        }
        for kind, text in read.items():
            for line in text.splitlines():
                event = flat(pipeline(sent(kind, line)))
                if event["@timestamp"] == "when it was read":
                    del event["@timestamp"]
                    if kind == "filestream" or line.startswith("{"):
                        raise LabError(f"{host}: no time of its own: {line}")
                if found := wrong(event):
                    raise LabError(f"{host}: {', '.join(found)} in what became of {line}")
                if "failoverd.input.view" in event or any(secret in str(event) for secret in SECRETS):
                    raise LabError(f"{host}: what must not leave it is in what became of {line}")
                counts[kind] += 1
    if not all(counts.values()):
        raise LabError(f"nothing was logged, or recorded: {counts}")
    return counts
