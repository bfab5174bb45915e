"""Which parts of a report are decided on: one that differs in none of them is no reason to decide anew.

Most reports say what the one before said, only later. That it is later makes it count for longer, and no answer waits
for that: the quiet ends when the former one would have been too old.
"""

from __future__ import annotations

from dataclasses import fields
from operator import attrgetter

from failoverd.core.model import Report

# What is only shown to an operator, or was looked at when the report was absorbed; a field that is not named here
# counts.
_SHOWN = frozenset(
    ("number", "heard", "software", "vip", "host", "units", "rule", "doing", "beat", "rebuild", "floor", "monitoring")
)
# What few questions ask: it counts where one of them was asked. By the name of what answers it in `Known`.
SELDOM = {"version": "versions", "hears": "heard_elsewhere"}
_ALWAYS = attrgetter(*(f.name for f in fields(Report) if f.name not in {*_SHOWN, *SELDOM, "claims"}))
ANY = "fresh"  # asked of wherever a report is looked into


def says_the_same(before: Report, after: Report, asked: frozenset[str]) -> bool:
    """Whether nothing that was `asked` has another answer in the newer report of the same node."""
    if any(answer in asked and getattr(before, name) != getattr(after, name) for name, answer in SELDOM.items()):
        return False
    told: tuple[object, ...] = _ALWAYS(before)
    return told == _ALWAYS(after) and before.claims_by_name == after.claims_by_name
