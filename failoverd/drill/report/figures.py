"""From what a drill has found to its report. Pure.

The coordinator asks twice: `objectives` first, since whether all were met decides how the drill ended; then `report`,
with the drill as it has ended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from failoverd.drill.model import Report
from failoverd.drill.report.evidence import Evidence
from failoverd.drill.report.measured import epoch_ms, gaps, points, protocols, since
from failoverd.drill.report.objectives import advice, objectives

if TYPE_CHECKING:
    from failoverd.config.drill import Objectives

__all__ = ["Evidence", "objectives", "report"]


def report(evidence: Evidence, wanted: Objectives) -> Report:
    """Put it all together."""
    met = objectives(evidence, wanted)
    began_ms = epoch_ms(evidence.drill.began)
    return Report(
        drill=evidence.drill,
        software=dict(evidence.software),
        config_digest=evidence.config_digest,
        objectives=met,
        protocols=protocols(evidence),
        gaps=tuple(since(gap, began_ms) for gap in gaps(evidence)),
        change=evidence.change,
        points=tuple(points(evidence.seconds, began_ms)),
        lag=tuple(evidence.lag),
        consistency=evidence.consistency,
        backup=evidence.backup,
        counters=tuple(evidence.counters),
        generator=evidence.generator,
        audit=tuple(evidence.audit),
        advice=tuple(advice(evidence, met)),
    )
