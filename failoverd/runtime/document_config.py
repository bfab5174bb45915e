"""What the daemon says of its configuration: what is in force, what a file has otherwise, what a reload came to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigStatus:
    """The configuration in force. `digest` is of all values but the secrets; `membership` of what all nodes agree on.

    `read`: when the file was read last and taken, ISO 8601 in UTC. `refused`: why a newer file was not taken.
    """

    api: str = "v1"
    cluster: str
    node: str
    path: str
    read: str
    digest: str
    membership: str
    refused: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyChange:
    """One key with its values as a file has them (JSON); secrets are not shown.

    `restart`: why a reload does not put it in force, "" where it does. `same_everywhere`: all nodes must agree on it.
    """

    key: str
    old: str
    new: str
    restart: str = ""
    same_everywhere: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ReloadDocument:
    """What a reload came to, or (`asked`: False) would come to.

    applied    what needs no restart is in force
    waiting    likewise, but for thresholds that wait for the end of a change of primary
    unchanged  nothing that a reload applies is otherwise
    refused    nothing was touched: `code` and `reason` say why
    """

    api: str = "v1"
    node: str
    path: str
    asked: bool
    outcome: Literal["applied", "waiting", "unchanged", "refused"]
    changes: tuple[KeyChange, ...] = ()
    code: str = ""
    reason: str = ""
