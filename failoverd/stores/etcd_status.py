"""What an etcd member says of itself, and the question what one may do there: bytes in and out, no I/O.

The question is a transaction that is never done: it asks for a key that both is and is not there. etcd looks at the
rights of the whole of a transaction before it looks at its conditions. (And were it done, it would put what stands.)
"""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from failoverd.stores.etcd_requests import EtcdAnswerError

if TYPE_CHECKING:
    from collections.abc import Iterable

METRICS = "/metrics"
_ALARM = re.compile(r"alarm:([A-Z]{1,16})")
_QUOTA = re.compile(r"^etcd_server_quota_backend_bytes ([0-9.e+]{1,30})$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Status:
    """A member's own words. `leader`: a member's id, 0 where it knows of none; sizes in bytes."""

    version: str
    cluster: int
    member: int
    leader: int
    learner: bool
    size: int
    in_use: int
    alarms: tuple[str, ...]


def status_of(body: bytes) -> Status:
    """The answer of /v3/maintenance/status. Raises EtcdAnswerError."""
    try:
        said = json.loads(body)
        header = said["header"]
        return Status(
            version=str(said["version"])[:20],
            cluster=int(header["cluster_id"]),
            member=int(header["member_id"]),
            leader=int(said.get("leader", 0)),
            learner=said.get("isLearner") is True,
            size=int(said.get("dbSize", 0)),
            in_use=int(said.get("dbSizeInUse", 0)),
            alarms=tuple(sorted({name for words in said.get("errors", ()) for name in _ALARM.findall(str(words))})),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise EtcdAnswerError(f"no status: {type(error).__name__}: {error}"[:200]) from None


def quota_of(metrics: str) -> int | None:
    """How large the database may become, in bytes, by the member's metrics; None where they do not say."""
    match = _QUOTA.search(metrics)
    try:
        return int(float(match[1])) if match else None
    except (ValueError, OverflowError):
        return None


def may_write(keys: Iterable[bytes]) -> bytes:
    """A transaction that puts these keys, and that is never done: refused where one of them may not be written."""
    texts = [base64.b64encode(key).decode() for key in keys]
    never = [
        {"key": texts[0], "target": "CREATE", "result": result, "create_revision": "0"}
        for result in ("EQUAL", "GREATER")
    ]
    puts = [{"request_put": {"key": text, "ignore_value": True}} for text in texts]
    return json.dumps({"compare": never, "success": puts}).encode()
