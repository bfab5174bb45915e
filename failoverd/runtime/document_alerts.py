"""What `failoverctl alerts` shows, version v1; read by document.from_json."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAlert:
    """One alert that has fired and is not over. `since` is an ISO time; `told`: the receivers that have it."""

    code: str
    node: str | None
    blocks: bool
    reason: str
    since: str
    page: str
    told: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One attempt. `status` None: there was no answer of HTTP's; `reason` then says why."""

    at: str
    id: str
    taken: bool
    status: int | None = None
    code: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiverStatus:
    """One receiver, as the answering node has dealt with it: only the node that tells delivers."""

    name: str
    kind: str
    queued: int
    last: Delivery | None = None
    trouble: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertsDocument:
    """The telling, as `node` sees it.

    `speaker` is who tells, None: not known. `dropped`: what the full queue has left out. `problem`: why `node` cannot
    tell at all.
    """

    api: Literal["v1"] = "v1"
    cluster: str
    node: str
    speaker: str | None = None
    open: tuple[OpenAlert, ...] = ()
    receivers: tuple[ReceiverStatus, ...] = ()
    dropped: int = 0
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertTest:
    """What became of a test. `taken`: the receiver has it."""

    receiver: str
    taken: bool
    code: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertTests:
    """One test a receiver."""

    tests: tuple[AlertTest, ...]
