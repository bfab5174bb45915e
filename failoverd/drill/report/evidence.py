"""What a report is made from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from failoverd.drill.model import (
        BackupDone,
        ChangeOfPrimary,
        Consistency,
        Counter,
        Drill,
        LagPoint,
        LoadDone,
        Second,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """All that a drill has found. None or empty: it did not come to that. `seconds` are in their order.

    `change` and `lag` are in ms of the drill, as they are reported; `seconds` and the generator's gaps are by
    CLOCK_REALTIME, as they were measured.
    """

    drill: Drill
    seconds: Sequence[Second] = ()
    generator: LoadDone | None = None
    change: ChangeOfPrimary | None = None
    lag: Sequence[LagPoint] = ()
    consistency: Consistency | None = None
    backup: BackupDone | None = None
    counters: Sequence[Counter] = ()
    audit: Sequence[dict[str, Any]] = ()
    software: Mapping[str, str]
    config_digest: str
