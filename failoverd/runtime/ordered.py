"""What stands in the record by operators' orders, as parts of a status document."""

from __future__ import annotations

from typing import TYPE_CHECKING

from failoverd.core import candidates
from failoverd.runtime import document as doc
from failoverd.runtime.moment import iso

if TYPE_CHECKING:
    from failoverd.core.model import NodeName
    from failoverd.core.view import View


def paused_until(view: View) -> str | None:
    """When the pause ends by itself."""
    record = view.record
    return iso(record.paused_until_ms) if record is not None and record.paused and record.paused_until_ms else None


def maintenance_of(view: View, name: NodeName) -> doc.MaintenanceStatus | None:
    """Who works on a node."""
    known = view.maintenance_of(name)
    if known is None:
        return None
    return doc.MaintenanceStatus(
        by=known.by, reason=known.reason, until=iso(known.until_ms) if known.until_ms else None
    )


def scheduled(view: View) -> doc.ScheduledStatus | None:
    """The switchover that is to come, and what speaks against it as of now."""
    known = view.record.scheduled if view.record is not None else None
    if known is None:
        return None
    why = candidates.planned_rejection(view, known.target)
    return doc.ScheduledStatus(
        id=known.id,
        target=known.target,
        by=known.by,
        reason=known.reason,
        at=iso(known.at_ms),
        unfit=doc.Reason(code=why.code, reason=why.reason, node=why.node) if why is not None else None,
    )


def nobody_left(view: View) -> doc.Reason | None:
    """Every node that could take over is worked on."""
    others = [node.name for node in view.data_nodes if node.name != view.holder]
    if not others or any(view.maintenance_of(name) is None for name in others):
        return None
    text = f"nobody is left to take over: {' and '.join(others)} are in maintenance"
    return doc.Reason(code="BLK_MAINTENANCE", reason=text)
