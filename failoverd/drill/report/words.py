"""How figures are said, the same in the page, the ten lines and the comparison."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from failoverd.drill.model import Objective

NOT_KNOWN = "not measured"
STAGES = {
    "baseline": "before the fault",
    "fault": "fault to service",
    "load": "under load",
    "ending": "while it was undone",
}


def duration(ms: float | None) -> str:
    """12 ms, 2.65 s, 2 s, 41 s, 20 min 5 s, 3 h 2 min."""
    if ms is None:
        return NOT_KNOWN
    if ms < 1000:
        return f"{number(ms, 1 if ms < 10 else 0)} ms"
    if ms < 9_995:
        return f"{number(ms / 1000, 2)} s"
    if ms < 59_950:
        return f"{number(ms / 1000, 1)} s"
    seconds = round(ms / 1000)
    hours, minutes, seconds = seconds // 3600, seconds // 60 % 60, seconds % 60
    if hours:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{minutes} min {seconds} s" if seconds else f"{minutes} min"


def number(value: float, places: int = 0) -> str:
    """1,234.5: without zeros at its end."""
    text = f"{value:,.{places}f}"
    return text.rstrip("0").rstrip(".") if places else text


def size(count: int) -> str:
    """In the unit in which it has at most four digits."""
    value, units = float(count), iter(("bytes", "kB", "MB", "GB", "TB", "PB"))
    unit = next(units)
    while value >= 9_999.5:
        value, unit = value / 1000, next(units, "EB")
    return f"{number(value)} {unit}"


def moment(text: str) -> str:
    """ISO 8601 in UTC, as a person reads it; anything else as it is."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return text
    return at.strftime("%Y-%m-%d %H:%M:%S") + (" UTC" if text.endswith(("Z", "+00:00")) else "")


def objective(value: float | None, unit: str) -> str:
    """A value of an objective with its unit."""
    if value is None:
        return NOT_KNOWN
    if unit in {"s", "ms"}:
        return duration(value * 1000 if unit == "s" else value)
    return f"{number(value, 2)} %" if unit == "%" else number(value, 2)


def wanted(one: Objective) -> str:
    """What an objective asks for."""
    return "none" if one.limit == 0 else f"at most {objective(one.limit, one.unit)}"


def was(one: Objective) -> str:
    """What came of it. An outage of nothing is one that beats of a tenth of a second did not see."""
    if one.unit == "s" and one.value == 0:
        return "less than 0.5 s"
    return "none" if one.value == 0 and one.limit == 0 else objective(one.value, one.unit)


def plural(count: int, one: str, more: str = "") -> str:
    """1 message, 2 messages."""
    return f"{number(count)} {one if count == 1 else more or one + 's'}"


def listed(names: list[str]) -> str:
    """A, B and C."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
