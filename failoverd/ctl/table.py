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

from failoverd.ctl import printed
from failoverd.ctl.answers import answers, columns
from failoverd.ctl.durations import duration
from failoverd.ctl.news import news

if TYPE_CHECKING:
    from rich.console import Console

    from failoverd.runtime.document import DatabaseStatus, NodeStatus, StatusDocument

_VERDICT_STYLE = {"up": "green", "down": "bold red", "degraded": "yellow", "unknown": "dim"}
_GAP = 2
_TERM_APART = 100_000  # transactions; databases/mariadb_promote.py leaves out at least as many
_SHORTEST_POSITION = 12
_PLAIN_WIDTH = 1000  # in a pipe nothing is cut or folded


def show(document: StatusDocument) -> None:
    """Print the document to standard output."""
    printed.screen(lambda console: draw(console, document))


def draw(console: Console, document: StatusDocument) -> None:
    """Draw all of it."""
    console.print(header(document), soft_wrap=True)
    console.print()
    console.print(nodes(console, document), crop=False, no_wrap=True)
    console.print()
    console.print(answers(document))
    told = untoward(document)
    if told is not None:
        console.print()
        console.print(told)
    found = sum(len(node.findings) for node in document.nodes) + len(document.refused)
    if found:
        console.print()
        console.print(Text(f"{found} finding{'s' if found > 1 else ''}: failoverctl check says what to do", "dim"))


def untoward(document: StatusDocument) -> Table | None:
    """The news, a row each; None where all is as it should be."""
    rows = list(news(document))
    if not rows:
        return None
    grid = columns()
    for where, what, words in rows:
        grid.add_row(Text("!", "bold yellow"), Text(where), Text(what, "yellow"), Text(words))
    return grid


# ---- the first line ---------------------------------------------------------------------------------------------


def header(document: StatusDocument) -> Text:
    """The first line: the cluster, its term, who has the lease, and the store."""
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


def nodes(console: Console, document: StatusDocument) -> Table:
    """The table as the terminal has room for it: POSITION is cut first, then left out; nothing else ever is."""
    longest = max((len(_position(node.database)) for node in document.nodes), default=0)
    unbounded = console.options.update(width=_PLAIN_WIDTH)
    others = Measurement.get(console, unbounded, _rows(document, 0)).maximum
    room = console.width - others - _GAP
    if room >= min(longest, _SHORTEST_POSITION):
        return _rows(document, min(room, max(longest, len("POSITION"))))
    table = _rows(document, 0)
    table.width = others
    return table


def _rows(document: StatusDocument, position_width: int) -> Table:
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
