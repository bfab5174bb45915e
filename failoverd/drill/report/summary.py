"""The verdict as ten lines of text, for `failoverctl drill report ID` and the journal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from failoverd.drill.report import verdict
from failoverd.drill.report.element import seen
from failoverd.drill.report.words import STAGES, duration, listed, number, plural, was
from failoverd.drill.report.words import wanted as wanted_words

if TYPE_CHECKING:
    from failoverd.drill.model import Report

LINES = 10
_WIDE = 500  # characters of a line
_NAMED = 3


def lines(report: Report) -> list[str]:
    """Ten lines at most, none of which has a character that a terminal would obey."""
    missed = [one for one in report.objectives if not one.met]
    told = [f"{report.drill.asked.id}: {verdict.headline(report)}", *verdict.sentences(report)]
    if missed:
        some = [f"{one.name} {was(one)} (wanted: {wanted_words(one)})" for one in missed[:_NAMED]]
        more = f", and {len(missed) - _NAMED} more" if len(missed) > _NAMED else ""
        told.append(f"Not met: {'; '.join(some)}{more}.")
    told.append(_load(report))
    if report.generator is not None:
        late = duration(report.generator.late_p99_ms)
        told.append(f"The load generator was late by {late} at most in 99 of 100 operations.")
    codes = list(dict.fromkeys(one.code for one in report.advice if one.code))
    if codes:
        told.append(f"To be mended: {listed(codes)}; see runbooks/codes/.")
    return [seen(line)[:_WIDE] for line in told if line][:LINES]


def _load(report: Report) -> str:
    under = [one for one in report.protocols if one.stage == "load" and one.operations]
    said = [
        f"{one.protocol.upper()} {plural(one.operations, 'operation')}, p95 {duration(one.p95_ms)},"
        f" {number(one.failed + one.refused + one.rejected)} not good"
        for one in under
    ]
    return f"{STAGES['load'].capitalize()}: {'; '.join(said)}." if said else ""
