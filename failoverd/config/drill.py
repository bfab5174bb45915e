"""Section `drill`: whether and when this cluster practises a failover, with what load, and how well it has to go."""

import re
from datetime import time
from pathlib import Path
from typing import Annotated, Literal, Self, get_args

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from failoverd.config.error import wrong
from failoverd.config.http import Networks
from failoverd.config.section import Section
from failoverd.config.values import (
    AbsolutePath,
    DataNodeSecretFile,
    Port,
    PrivateFile,
    Text,
    duration,
    percentage,
)

ScenarioName = Literal[
    "switchover",
    "primary-crash",
    "service-death",
    "service-hang",
    "disk-failure",
    "network-isolation",
    "replication-break",
    "database-crash",
    "arbiter-loss",
]
SCENARIOS: tuple[ScenarioName, ...] = get_args(ScenarioName)
_WINDOW = re.compile(r"([0-9]{2}):([0-9]{2})-([0-9]{2}):([0-9]{2})")


def window(text: object) -> tuple[time, time] | None:
    """Return when a window begins and ends: 22:00-04:00 ends on the next day, `always` is None. Raises `wrong(...)`."""
    if text == "always":
        return None
    match = _WINDOW.fullmatch(text) if isinstance(text, str) else None
    allowed = "HH:MM-HH:MM in local time, or always"
    if match is None:
        raise wrong("is no window of a day", allowed)
    begin_h, begin_m, end_h, end_m = map(int, match.groups())
    if max(begin_h, end_h) > 23 or max(begin_m, end_m) > 59 or (begin_h, begin_m) == (end_h, end_m):
        raise wrong("is no window of a day", allowed)
    return time(begin_h, begin_m), time(end_h, end_m)


def _is_window(text: str) -> str:
    window(text)
    return text


class Load(Section):
    """Who is simulated, and how much of the whole traffic that may be."""

    users: Annotated[int, Field(ge=0, le=5000)] = 500
    duration_ms: Annotated[int, duration("10s", "24h"), Field(alias="duration")] = 1_200_000
    ramp_ms: Annotated[int, duration("1s", "1h"), Field(alias="ramp")] = 60_000
    accounts: Annotated[PrivateFile | None, Field(alias="accounts_file")] = None
    port: Port = 587
    tls: Literal["implicit", "starttls", "none"] = "starttls"
    share_percent: Annotated[float, percentage(1, 100), Field(alias="share")] = 90.0
    least: Annotated[int, Field(ge=0, le=5000)] = 50


class Backup(Section):
    """Where the backup before each drill lies, on the replica that makes it."""

    kind: Literal["full", "incremental", "none"] = "full"
    directory: AbsolutePath = Path("/var/backups/failoverd")
    keep: Annotated[int, Field(ge=1, le=100)] = 2
    limit_ms: Annotated[int, duration("1m", "999h"), Field(alias="limit")] = 21_600_000


class Objectives(Section):
    """How well it has to go. Of the outage that clients see, and of the time after it."""

    outage_ms: Annotated[int, duration("100ms", "10m"), Field(alias="outage")] = 10_000
    p50_ms: Annotated[int, duration("1ms", "1m"), Field(alias="p50")] = 500
    p95_ms: Annotated[int, duration("1ms", "1m"), Field(alias="p95")] = 2_000
    p99_ms: Annotated[int, duration("1ms", "1m"), Field(alias="p99")] = 5_000
    errors_percent: Annotated[float, percentage(0, 100), Field(alias="errors")] = 0.1


class Abort(Section):
    """When real clients suffer too much: measured by the cluster's own looks, outside of the expected outage."""

    latency_ms: Annotated[int, duration("100ms", "1m"), Field(alias="latency")] = 3_000
    down_ms: Annotated[int, duration("1s", "10m"), Field(alias="down")] = 30_000
    errors_percent: Annotated[float, percentage(1, 100), Field(alias="errors")] = 20.0


class DrillSchedule(Section):
    """Which node begins it by itself, and how often. Looked at each day, when the window begins."""

    node: str
    scenario: ScenarioName = "primary-crash"
    days: Annotated[int, Field(ge=1, le=1000)] = 90
    overdue_days: Annotated[int, Field(ge=1, le=2000)] = 100


class Drill(Section):
    """Nothing of it is done by itself unless `schedule` is given; nothing at all unless `enabled`."""

    enabled: bool = False
    allow: Annotated[tuple[ScenarioName, ...], Field(strict=False)] = SCENARIOS
    port: Port = 7402
    window: Annotated[str, AfterValidator(_is_window)] = "01:00-05:00"
    user: Text = "failoverd_drill"
    password: Annotated[DataNodeSecretFile | None, Field(alias="password_file")] = None
    max_lag_ms: Annotated[int, duration("100ms", "1m"), Field(alias="max_lag")] = 500
    load: Load = Load()
    backup: Backup = Backup()
    # What `disk-failure` freezes: a mount point of its own.
    disk: AbsolutePath | None = None
    # What `network-isolation` and `arbiter-loss` leave open: where administrators come from.
    management: Annotated[Networks | None, BeforeValidator(lambda value: value)] = None
    objectives: Objectives = Objectives()
    abort: Abort = Abort()
    schedule: DrillSchedule | None = None

    @model_validator(mode="after")
    def _overdue_after_due(self) -> Self:
        if self.schedule is not None and self.schedule.overdue_days < self.schedule.days:
            raise wrong(
                f"is less than days, {self.schedule.days}",
                f"{self.schedule.days} or more",
                key=("drill", "schedule", "overdue_days"),
            )
        return self
