"""How long, and when, as people write it on a command line; and the same back for them to read.

2h   90m   1d12h           a duration
+2h   03:00   2026-03-01T03:00   2026-03-01T03:00Z      a moment: the next such time here, unless a zone is named
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta

import click

_DURATION = re.compile(r"(?:(\d{1,4})d)?(?:(\d{1,4})h)?(?:(\d{1,5})m)?(?:(\d{1,6})s)?")
_CLOCK = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)(?::([0-5]\d))?")


def duration_ms(text: str) -> int | None:
    """Milliseconds of `1d2h3m4s`, any of them; None where it is none, or nothing."""
    found = _DURATION.fullmatch(text.strip())
    if found is None or not text.strip():
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return (((days * 24 + hours) * 60 + minutes) * 60 + seconds) * 1000 or None


def moment(text: str, now: datetime) -> datetime | None:
    """The moment that `text` means to who says it at `now`, in this machine's zone; None where it is none."""
    text = text.strip()
    if text.startswith("+"):
        after_ms = duration_ms(text[1:])
        return now + timedelta(milliseconds=after_ms) if after_ms is not None else None
    clock = _CLOCK.fullmatch(text)
    if clock is not None:
        hour, minute, second = (int(part or 0) for part in clock.groups())
        # Without its zone: the offset of that hour may be another than that of now.
        here = now.replace(hour=hour, minute=minute, second=second, microsecond=0, tzinfo=None)
        due = here.astimezone()
        return due if due > now else (here + timedelta(days=1)).astimezone()
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found.astimezone() if found.tzinfo is None else found


class _Duration(click.ParamType[int]):
    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Milliseconds."""
        if isinstance(value, int):
            return value
        found = duration_ms(str(value))
        if found is None:
            self.fail(f"{value!r} is no duration; allowed: 90s, 30m, 2h, 1d, 1d12h", param, ctx)
        return found


class _Moment(click.ParamType[datetime]):
    name = "moment"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """With a zone."""
        if isinstance(value, datetime):
            return value
        now = datetime.now().astimezone()
        found = moment(str(value), now)
        if found is None:
            self.fail(f"{value!r} is no time; allowed: +2h, 03:00, 2026-03-01T03:00, 2026-03-01T03:00Z", param, ctx)
        if found <= now:
            self.fail(f"{value!r} is past: {shown(found)}", param, ctx)
        return found


DURATION = _Duration()
MOMENT = _Moment()


def shown(at: datetime) -> str:
    """A moment for people: in the zone of this machine, with its offset."""
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S %z")


def shown_iso(text: str) -> str:
    """The same of a document's moment; what is not understood is shown as it is."""
    try:
        return shown(datetime.fromisoformat(text))
    except ValueError:
        return text
