"""What is not as it should be, of a whole cluster: nothing where all is well."""

from __future__ import annotations

from typing import TYPE_CHECKING

from failoverd.ctl.durations import duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from failoverd.runtime.document import NodeStatus, StatusDocument

_DISK_LOW_PERCENT = 10.0  # told before `host.disk_min_free` makes a finding of it


def news(document: StatusDocument) -> Iterator[tuple[str, str, str]]:
    """What is not as it should be: (where, code or what, words)."""
    if not document.store.reachable:
        yield document.store.node or "store", "store", document.store.error or "does not answer"
    versions = {node.software for node in document.nodes if node.software is not None}
    for node in document.nodes:
        yield from _news_of(node)
        if len(versions) > 1 and node.software is not None:
            yield node.name, "software", node.software
    holders = [node.name for node in document.nodes if node.fresh and node.vip is not None and node.vip.present]
    if len(holders) > 1:
        yield "cluster", "VIP", f"on {' and '.join(holders)}"


def _news_of(node: NodeStatus) -> Iterator[tuple[str, str, str]]:
    if not node.fresh:
        age = None if node.last_heard_ms is None else duration(node.last_heard_ms)
        said = f"last heard {age} ago; what it said of itself is from then" if age else "never heard"
        yield node.name, "silent", said
    for name, service in sorted(node.services.items()):
        if service.verdict != "up" and (service.verdict != "unknown" or node.fresh):
            against = [f"{who}: {words}" for who, words in sorted(service.votes.items()) if words != "ok"]
            yield node.name, f"{name} {service.verdict}", "; ".join(against) or "nobody has looked yet"
    for what, words in _said_of_itself(node):
        yield node.name, what, words.partition("\n")[0]


def _said_of_itself(node: NodeStatus) -> Iterator[tuple[str, str]]:
    for unit in node.units:
        if unit.active != "active":
            yield unit.unit, f"{unit.active} ({unit.sub})"
    if node.fresh and node.ready is False:
        yield "not ready", "its own services do not all answer its own probes"
    yield from _disk(node)
    if node.vip is not None and node.vip.others:
        yield "VIP", f"also answered by {', '.join(node.vip.others)}"
    yield from _replication(node)
    if node.rebuild is not None and node.rebuild.code:
        yield node.rebuild.code, f"the last rebuild failed: {node.rebuild.reason}"
    for finding in node.findings:
        yield finding.code, finding.reason


def _disk(node: NodeStatus) -> Iterator[tuple[str, str]]:
    """One that fills, before it is a finding."""
    found = any(finding.code.startswith("DISK_") for finding in node.findings)
    if node.host is not None and node.host.disk_free_percent < _DISK_LOW_PERCENT and not found:
        yield "disk", f"{node.host.fullest_disk} has {node.host.disk_free_percent:g} % free"


def _replication(node: NodeStatus) -> Iterator[tuple[str, str]]:
    replication = node.database.replication if node.database is not None else None
    if replication is None:
        return
    for thread, words in (("receiver", replication.receiver_error), ("applier", replication.applier_error)):
        if words:
            yield thread, words
