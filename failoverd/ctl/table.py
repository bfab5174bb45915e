"""The status document as one screen.

    lab   term 7   primary mail1, lease 2.4 s left   store arbiter, version 4711              seen from mail2

    NODE      ROLE             SERVES   IMAP  SMTP  SQL  REPLICATION     LAG     POSITION   HEARD
    mail1     primary          ● VIP    up    up    rw   2 acknowledge           0-1-512    0.3 s
    mail2     replica          ○        up    up    ro   ← mail1         12 ms   0-1-512    here
    mail3     fenced→replica   ○        up    down  ro   ← mail1         4.1 s   0-1-498 -14  0.2 s
    arbiter   arbiter                                                                       0.4 s

    Failover  possible, to mail2
    Now       primary-serves: the lease is held and the services answer

    ! mail3   SMTP_REFUSED  …                                    only news

Colour says how urgent, words say what: nothing is said by colour alone. In a pipe the same table comes without colour
and without a width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from failoverd.ctl import printed, when

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from failoverd.runtime.document import BoundStatus, DatabaseStatus, NodeStatus, ScheduledStatus, StatusDocument

_VERDICT_STYLE = {"up": "green", "down": "bold red", "degraded": "yellow", "unknown": "dim"}
_GAP = 2
_TERM_APART = 100_000  # transactions; databases/mariadb_promote.py leaves out at least as many
_SHORTEST_POSITION = 12
_PLAIN_WIDTH = 1000  # in a pipe nothing is cut or folded
_DISK_LOW_PERCENT = 10.0  # told before `host.disk_min_free` makes a finding of it


def show(document: StatusDocument) -> None:
    """Print the document to standard output."""
    printed.screen(lambda console: _print(console, document))


def _print(console: Console, document: StatusDocument) -> None:
    console.print(_header(document), soft_wrap=True)
    console.print()
    console.print(_fitted(console, document), crop=False, no_wrap=True)
    console.print()
    console.print(_answers(document))
    news = list(_news(document))
    if news:
        console.print()
        grid = _grid()
        for where, what, words in news:
            grid.add_row(Text("!", "bold yellow"), Text(where), Text(what, "yellow"), Text(words))
        console.print(grid)
    found = sum(len(node.findings) for node in document.nodes) + len(document.refused)
    if found:
        console.print()
        console.print(Text(f"{found} finding{'s' if found > 1 else ''}: failoverctl check says what to do", "dim"))


def _grid() -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    return grid


# ---- the first line ---------------------------------------------------------------------------------------------


def _header(document: StatusDocument) -> Text:
    parts = [Text(document.cluster, "bold"), Text(f"term {document.term}"), _holder(document), _store(document)]
    parts.append(Text(f"seen from {document.node}", "dim"))
    return Text("   ").join(parts)


def _holder(document: StatusDocument) -> Text:
    lease, holder = document.lease, document.holder
    if holder is None:
        return Text("no primary", "bold red")
    left = "" if lease.left_ms is None else f" {duration(lease.left_ms)} left"
    nobody = {
        "revoked": f"{holder} gave its lease back",
        "ended": f"the lease of {holder} has ended",
        "off": f"{holder} has no power ({lease.by})",
    }
    if lease.state in nobody:
        return Text.assemble(("no primary", "bold red"), f", {nobody[lease.state]}")
    match lease.state:
        case "held":
            return Text.assemble("primary ", (holder, "bold green"), f", lease{left}")
        case "none":
            return Text("no primary yet", "bold red")
        case "condemned":
            return Text.assemble("primary ", (holder, "bold red"), f", {lease.by} has its power cut, lease{left}")
        case _:
            return Text.assemble("primary ", (holder, "bold yellow"), f", lease {lease.state}{left}")


def _store(document: StatusDocument) -> Text:
    store = document.store
    where = f"store {store.node or store.kind}"
    if not store.reachable:
        return Text.assemble(f"{where} ", ("unreachable", "bold red"))
    return Text(f"{where}, version {store.version}")


# ---- a row a node -----------------------------------------------------------------------------------------------


def _fitted(console: Console, document: StatusDocument) -> Table:
    """The table as the terminal has room for it: POSITION is cut first, then left out; nothing else ever is."""
    longest = max((len(_position(node.database)) for node in document.nodes), default=0)
    unbounded = console.options.update(width=_PLAIN_WIDTH)
    others = Measurement.get(console, unbounded, _nodes(document, 0)).maximum
    room = console.width - others - _GAP
    if room >= min(longest, _SHORTEST_POSITION):
        return _nodes(document, min(room, max(longest, len("POSITION"))))
    table = _nodes(document, 0)
    table.width = others
    return table


def _nodes(document: StatusDocument, position_width: int) -> Table:
    table = Table(box=None, padding=(0, _GAP, 0, 0), header_style="dim", pad_edge=False)
    services = sorted({name for node in document.nodes for name in node.services})
    # A column only where they do not all say the same, which the first line has.
    terms = any(node.term not in {None, document.term} for node in document.nodes)
    titles = ("NODE", "ROLE", *(("TERM",) if terms else ()), "SERVES", *(name.upper() for name in services))
    for title in (*titles, "SQL", "REPLICATION"):
        table.add_column(title, no_wrap=True)
    table.add_column("LAG", no_wrap=True, justify="right")
    if position_width:
        table.add_column(
            "POSITION", no_wrap=True, overflow="ellipsis", min_width=position_width, max_width=position_width
        )
    table.add_column("HEARD", no_wrap=True, justify="right")
    names = {node.address: node.name for node in document.nodes}
    for node in document.nodes:
        here = node.name == document.node
        replication, lag = _replication(node.database, names, meant=document.bound is not None)
        table.add_row(
            Text(node.name, "bold" if node.name == document.holder else ""),
            _dated(node, _role(node)),
            *([_term(node, document.term)] if terms else []),
            _dated(node, _serves(node)),
            *(_verdict(node, name) for name in services),
            _dated(node, _sql(node)),
            replication,
            lag,
            *([_position(node.database)] if position_width else []),
            Text("here") if here else _heard(node),
            style="" if node.fresh else "dim",
        )
    return table


def _dated(node: NodeStatus, cell: Text) -> Text:
    """What a node said of itself, with a mark when it said it too long ago to be taken for true."""
    return cell if node.fresh or cell.plain in {"", "?"} else cell.append("?")


def _role(node: NodeStatus) -> Text:
    actual = node.actual or "?"
    style = {"primary": "bold green", "fenced": "yellow"}.get(actual, "")
    if node.desired is None or node.desired == node.actual:
        return Text(actual, style)
    return Text.assemble((actual, style), ("→", "bold yellow"), (node.desired, "yellow"))


def _term(node: NodeStatus, newest: int) -> Text:
    if node.term is None:
        return Text("")
    return _dated(node, Text(str(node.term), "" if node.term == newest else "yellow"))


def _serves(node: NodeStatus) -> Text:
    if node.kind == "arbiter":
        return Text("")
    has_vip = node.vip is not None and node.vip.present
    match node.serving, has_vip:
        case None, _:
            return Text("?", "dim")
        case True, True:
            return Text("● VIP", "green")
        case True, False:
            return Text("● no VIP", "bold red")
        case False, True:
            return Text("○ VIP", "bold red")
        case _:
            return Text("○", "dim")


def _verdict(node: NodeStatus, service: str) -> Text:
    status = node.services.get(service)
    if status is None:
        return Text("")
    return Text("?" if status.verdict == "unknown" else status.verdict, _VERDICT_STYLE.get(status.verdict, ""))


def _sql(node: NodeStatus) -> Text:
    if node.kind == "arbiter":
        return Text("")
    if node.database is None:
        return Text("?" if not node.fresh else "down", "dim" if not node.fresh else "bold red")
    expected = node.actual == "primary"
    if node.database.read_only:
        return Text("ro", "yellow" if expected else "")
    return Text("rw", "green" if expected else "bold red")


def _replication(database: DatabaseStatus | None, names: dict[str, str], *, meant: bool) -> tuple[Text, Text]:
    """The columns REPLICATION and LAG. `meant`: commits are to wait for no replica."""
    if database is None:
        return Text(""), Text("")
    replication, semi_sync = database.replication, database.semi_sync
    if replication is None:
        if database.read_only:
            return Text("none", "yellow"), Text("")
        if not semi_sync.source:
            return Text("asynchronous", "" if meant else "bold red"), Text("")
        return Text(f"{semi_sync.clients} acknowledge", "" if semi_sync.clients else "bold red"), Text("")
    source = Text(f"← {names.get(replication.source, replication.source)}")
    threads = (("receiver", replication.receiver), ("applier", replication.applier))
    for thread, state in threads:
        if state != "running":
            source.append(f" {thread} {state}", "bold red")
    if not semi_sync.replica:
        source.append(" no ack", "yellow")
    lag = Text("?", "yellow") if replication.lag_ms is None else Text(duration(replication.lag_ms))
    return source, lag


def _position(database: DatabaseStatus | None) -> Text:
    if database is None:
        return Text("")
    position = Text(database.position)
    if database.behind:
        # A term begins with a number of its own, far beyond: whoever lacks that lacks the term so far.
        position.append(f" -{database.behind}" if database.behind < _TERM_APART else " -1 term", "yellow")
    return position


def _heard(node: NodeStatus) -> Text:
    if node.last_heard_ms is None:
        return Text("never", "bold red")
    return Text(duration(node.last_heard_ms), "" if node.fresh else "bold red")


# ---- the answers, and the news ----------------------------------------------------------------------------------


def _answers(document: StatusDocument) -> Table:
    grid = _grid()
    if document.paused:
        paused = Text.assemble(
            (f"by {document.paused}", "bold yellow"),
            f", until {when.shown_iso(document.paused_until)}" if document.paused_until else "",
            "  (nothing acts by itself: failoverctl resume)",
        )
        grid.add_row(Text("Paused", "bold yellow"), paused)
    if document.unproven:
        grid.add_row(Text("RPO", "bold red"), Text.assemble(("UNPROVEN", "bold red"), f"  {document.unproven}"))
    if document.bound is not None:
        grid.add_row(Text("RPO", "dim"), _bound(document.bound))
    _failover(grid, document)
    for words in _afford(document):
        grid.add_row(Text("Afford", "dim"), words)
    grid.add_row(Text("Now", "dim"), Text(f"{document.rule.id}: {document.rule.why}"))
    for node in document.nodes:
        if node.rebuild is not None and node.rebuild.under_way:
            grid.add_row(Text("Rebuild", "bold yellow"), Text(f"{node.name}  {node.rebuild.words}", "bold"))
    _ordered(grid, document)
    if document.request is not None:
        request = document.request
        why = f', "{request.reason}"' if request.reason else ""
        step = f": {request.text}" if request.text else ""
        grid.add_row(Text("Request", "dim"), Text(f"promote {request.target} (by {request.by}{why}){step}", "bold"))
    return grid


def _failover(grid: Table, document: StatusDocument) -> None:
    failover = document.failover
    if failover.possible:
        verdict = Text.assemble(("possible", "green"), f", to {failover.candidate}")
    else:
        verdict = Text("NOT possible now", "bold red")
    grid.add_row(Text("Failover", "dim"), verdict)
    for blocker in failover.blockers:
        grid.add_row("", Text.assemble((blocker.code, "yellow"), f"  {blocker.reason}"))
    for reason in failover.rejected:
        grid.add_row("", Text.assemble(f"not {reason.node}  ", (reason.code, "yellow"), f"  {reason.reason}"))


def _ordered(grid: Table, document: StatusDocument) -> None:
    """What operators have ordered, and what ends by itself or is still to come."""
    for node in document.nodes:
        if node.maintenance is not None:
            known = node.maintenance
            until = f", until {when.shown_iso(known.until)}" if known.until else ""
            words = Text.assemble((node.name, "yellow"), f"  by {known.by}: {known.reason}{until}")
            grid.add_row(Text("Maintenance", "yellow"), words)
    if document.scheduled is not None:
        grid.add_row(Text("Scheduled", "yellow"), _scheduled(document.scheduled))


def _scheduled(scheduled: ScheduledStatus) -> Text:
    why = f', "{scheduled.reason}"' if scheduled.reason else ""
    text = Text(f"promote {scheduled.target} at {when.shown_iso(scheduled.at)} (by {scheduled.by}{why})")
    if scheduled.unfit is not None:
        text.append(f"  as it is now it would be dropped: {scheduled.unfit.code} {scheduled.unfit.reason}", "yellow")
    return text


def _afford(document: StatusDocument) -> Iterator[Text]:
    """What can be lost besides the primary, and what that would cost; nothing where nobody serves."""
    if not any(loss.serves for loss in document.afford):
        return
    kinds = (
        (True, True, "", "the primary serves on, and could still be replaced"),
        (True, False, "", "the primary serves on, and could not be replaced until it is back"),
        (False, True, "yellow", "the primary could not go on, and another takes over"),
        (False, False, "bold red", "clients would wait until it is back"),
    )
    for serves, replaceable, style, words in kinds:
        named = [loss.node for loss in document.afford if (loss.serves, loss.replaceable) == (serves, replaceable)]
        if named:
            text = ", ".join(named[:-1]) + (" or " if named[:-1] else "") + named[-1]
            yield Text.assemble((f"without {text}", style), f"  {words}")


def _bound(bound: BoundStatus) -> Text:
    text = Text(f"bounded {duration(bound.limit_ms)}")
    if bound.nearest is not None and bound.lag_ms is not None:
        text.append(f"  {bound.nearest} is {duration(bound.lag_ms)} behind", "dim")
    if not bound.within:
        text.append("  no replica is within it", "bold red")
    return text


def _news(document: StatusDocument) -> Iterator[tuple[str, str, str]]:
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
    told = {finding.code.partition("_")[0] for finding in node.findings}
    if node.host is not None and node.host.disk_free_percent < _DISK_LOW_PERCENT and "DISK" not in told:
        yield "disk", f"{node.host.fullest_disk} has {node.host.disk_free_percent:g} % free"
    if node.vip is not None and node.vip.others:
        yield "VIP", f"also answered by {', '.join(node.vip.others)}"
    replication = node.database.replication if node.database is not None else None
    if replication is not None:
        for thread, words in (("receiver", replication.receiver_error), ("applier", replication.applier_error)):
            if words:
                yield thread, words
    if node.rebuild is not None and node.rebuild.code:
        yield node.rebuild.code, f"the last rebuild failed: {node.rebuild.reason}"
    for finding in node.findings:
        yield finding.code, finding.reason


def duration(ms: int) -> str:
    """`ms` as a person says it: 12 ms, 1.3 s, 4 min, 3 h."""
    if ms < 100:
        return f"{ms} ms"
    if ms < 10_000:
        return f"{ms / 1000:.1f} s"
    if ms < 120_000:
        return f"{ms // 1000} s"
    if ms < 7_200_000:
        return f"{ms // 60_000} min"
    return f"{ms // 3_600_000} h"
