"""Advisory monitoring: from where on something is told. Nothing of it ever moves the role."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from failoverd.config.error import wrong
from failoverd.config.section import Section
from failoverd.config.values import duration, percentage


def _switch(value: object) -> object:
    """`off` is None, `on` is a section with its defaults."""
    if isinstance(value, str):
        if value not in {"on", "off"}:
            raise wrong("is no mapping", "a mapping, `key: value`, or off")
        return {} if value == "on" else None
    return value


def _off(value: object) -> object:
    return None if value == "off" else value


# Each of them may be switched off by itself: `latency: off`.
Switch = BeforeValidator(_switch, json_schema_input_type=Any)
Off = BeforeValidator(_off, json_schema_input_type=Any)
Window = duration("10s", "24h")


class Latency(Section):
    """Seconds from a connection to a login and an open mailbox, or to an accepted recipient, on average."""

    above_ms: Annotated[int, duration("100ms", "1m"), Field(alias="above")] = 3000
    window_ms: Annotated[int, Window, Field(alias="window")] = 60_000


class AuthFailures(Section):
    """Which share of all logins fails, where there are `least` of them in the window."""

    above_percent: Annotated[float, percentage(1, 99), Field(alias="above")] = 50.0
    least: Annotated[int, Field(ge=1, le=1_000_000)] = 20
    window_ms: Annotated[int, Window, Field(alias="window")] = 300_000


class AuthSource(Section):
    """How many failed logins come from one address."""

    above: Annotated[int, Field(ge=1, le=1_000_000)] = 50
    window_ms: Annotated[int, Window, Field(alias="window")] = 3_600_000


class PostfixCpu(Section):
    """What all of Postfix's processes use together, in percent of one core."""

    above_percent: Annotated[float, percentage(1, 999), Field(alias="above")] = 80.0
    window_ms: Annotated[int, Window, Field(alias="window")] = 60_000


class Memory(Section):
    """By how much the memory of one mail process grows, without ever shrinking, over the whole window."""

    grows_percent: Annotated[float, percentage(1, 999), Field(alias="grows")] = 50.0
    megabytes: Annotated[int, Field(ge=1, le=1_000_000)] = 64
    window_ms: Annotated[int, Window, Field(alias="window")] = 3_600_000


class SlowQueries(Section):
    """How many statements took longer than that within the window, or still run."""

    above_ms: Annotated[int, duration("100ms", "1h"), Field(alias="above")] = 1000
    least: Annotated[int, Field(ge=1, le=1_000_000)] = 1
    window_ms: Annotated[int, Window, Field(alias="window")] = 300_000


class Monitoring(Section):
    """What is watched beside what a failover is decided on. None: off."""

    interval_ms: Annotated[int, duration("1s", "1m"), Field(alias="interval")] = 10_000
    latency: Annotated[Latency | None, Switch] = Latency()
    auth_failures: Annotated[AuthFailures | None, Switch] = AuthFailures()
    auth_source: Annotated[AuthSource | None, Switch] = AuthSource()
    postfix_cpu: Annotated[PostfixCpu | None, Switch] = PostfixCpu()
    memory: Annotated[Memory | None, Switch] = Memory()
    slow_queries: Annotated[SlowQueries | None, Switch] = SlowQueries()
    gauges: Annotated[Literal["on"] | None, Off] = "on"

    @property
    def journal(self) -> bool:
        """Something needs what Postfix and Dovecot write to the journal."""
        return self.auth_failures is not None or self.auth_source is not None or self.gauges is not None
