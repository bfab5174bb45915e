"""All clusters of an etcd as one screen, the worst first, and as one document.

    etcd at https://192.0.2.21:2379, below /failoverd/   1,000 clusters: 1 unreadable, 2 no primary, 1 paused, 996 well

    CLUSTER  STATE       PRIMARY  TERM  LEASE         WHY
    acme     unreadable                               record: Invalid JSON: expected value at line 1 column 1
    beta     no primary              7  silent 3.0 s  the lease of mail1 has ended: not renewed for its whole length
    gamma    paused      mail1       3  renewed       by anna: new switches
    ...
    and 990 more that are well

On a terminal what is well is cut off at its height; what is not, never.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from failoverd.ctl.durations import duration
from failoverd.fleet.states import BAD, State
from failoverd.runtime.document import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from failoverd.fleet.states import Cluster

_AROUND = 6  # lines: the first, the empty one, the titles, how many more, and the prompt with an empty one before it
FEWEST = 5  # clusters that are well, however low the terminal is


def document(clusters: Sequence[Cluster], endpoints: Sequence[str], prefix: str) -> dict[str, object]:
    """The same for programs: plain JSON types."""
    return {
        "store": {"kind": "etcd", "endpoints": list(endpoints), "prefix": prefix},
        "summary": {state.value.replace(" ", "_"): count for state, count in _counts(clusters).items()},
        "clusters": [
            {
                "cluster": cluster.name,
                "state": cluster.state.value.replace(" ", "_"),
                "term": cluster.term,
                "primary": cluster.primary or None,
                "holder": cluster.holder or None,
                "lease": {
                    "renewed": cluster.renewed,
                    "silent_ms": cluster.silent_ms,
                    "ttl_ms": cluster.ttl_ms,
                },
                "marks": [{"state": mark.state.value.replace(" ", "_"), "why": mark.why} for mark in cluster.marks],
            }
            for cluster in clusters
        ],
    }


def draw(console: Console, clusters: Sequence[Cluster], endpoints: Sequence[str], prefix: str) -> None:
    """Draw it as the terminal has room for it."""
    console.print(_header(clusters, endpoints, prefix), soft_wrap=True)
    if not clusters:
        return
    console.print()
    worse = sum(cluster.state is not State.WELL for cluster in clusters)
    most = max(worse, console.height - _AROUND, FEWEST) if console.is_terminal else len(clusters)
    console.print(_table(clusters[:most]), crop=False, no_wrap=True)
    if clusters[most:]:
        console.print(Text(f"and {len(clusters) - most:,} more that are well", "dim"))


def _counts(clusters: Sequence[Cluster]) -> dict[State, int]:
    counted = Counter(cluster.state for cluster in clusters)
    return {state: counted[state] for state in State}


def _header(clusters: Sequence[Cluster], endpoints: Sequence[str], prefix: str) -> Text:
    counts = [(state, count) for state, count in _counts(clusters).items() if count]
    text = Text(f"{len(clusters):,} cluster{'' if len(clusters) == 1 else 's'}", "bold")
    for at, (state, count) in enumerate(counts):
        text.append(": " if at == 0 else ", ").append(f"{count:,} {state.value}", _style(state))
    return text.append(f"   below {prefix} in etcd at {', '.join(endpoints)}", "dim")


def _table(clusters: Sequence[Cluster]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for title in ("CLUSTER", "STATE", "PRIMARY"):
        table.add_column(title, no_wrap=True)
    table.add_column("TERM", no_wrap=True, justify="right")
    table.add_column("LEASE", no_wrap=True)
    table.add_column("WHY", no_wrap=True, overflow="ellipsis")
    for cluster in clusters:
        first, *others = cluster.marks or (None,)
        table.add_row(
            Text(printable(cluster.name), "bold" if cluster.state in BAD else ""),
            Text(cluster.state.value, _style(cluster.state)),
            Text(cluster.primary),
            Text(str(cluster.term) if cluster.term else ""),
            _lease(cluster),
            Text(_line(first.why) if first else ""),
        )
        for mark in filter(None, others):
            table.add_row("", Text(mark.state.value, _style(mark.state)), "", "", "", Text(_line(mark.why)))
    return table


def _lease(cluster: Cluster) -> Text:
    if cluster.state is State.UNREADABLE or not cluster.holder:
        return Text("")
    if cluster.renewed and cluster.primary:
        return Text("renewed", "green")
    return Text(f"silent {duration(cluster.silent_ms)}", "bold red")


def _line(words: str) -> str:
    return printable(words).replace("\n", " ")


def _style(state: State) -> str:
    if state in BAD:
        return "bold red"
    return "green" if state is State.WELL else "yellow"
