"""What this host knows by itself, on a screen.

This host, without its daemon
  unit      failed (exit-code, exited 78) for 3 min; failoverd-guard.service active (running) for 2 h
  lease     of term 7, over for 3 min: the kernel keeps nothing open any more
  gate      not known: needs root
  ...
  mail2     answers on 10.89.1.12
  mail3     no answer within 150 ms

The cluster, seen from mail2:
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from failoverd.ctl import printed, table
from failoverd.ctl.answers import columns

if TYPE_CHECKING:
    from rich.console import Console

    from failoverd.ctl.alone import Alone
    from failoverd.ctl.alone_found import Found


def show(alone: Alone) -> None:
    """Print it to standard output."""
    printed.screen(lambda console: _print(console, alone))


def _print(console: Console, alone: Alone) -> None:
    grid = columns()
    for name, found in alone.host.items():
        for index, words in enumerate(_words(name, found)):
            grid.add_row(Text("" if index else f"  {name}", "dim"), words)
    for node in alone.nodes:
        said = f"answers on {node.address}" if node.status else f"{node.why} ({node.address})"
        grid.add_row(Text(f"  {node.name}"), Text(said, "" if node.status else "yellow"))
    if alone.config:
        grid.add_row(Text("  nodes", "dim"), Text(f"not known: {alone.config}", "yellow"))
    console.print(Text("This host, without its daemon", "bold"))
    console.print(grid)
    seen = alone.seen
    console.print()
    if seen is None or seen.status is None:
        console.print(Text("The cluster is not known from here: ask failoverctl status on another node", "bold red"))
        return
    console.print(Text.assemble("The cluster, seen from ", (seen.name, "bold"), ":"))
    console.print()
    table.draw(console, seen.status)


def _words(name: str, found: Found | str) -> list[Text]:
    if isinstance(found, str):
        return [Text(f"not known: {found}", "yellow")]
    records = found.detail.get("records")
    if name != "audit" or not isinstance(records, list) or not records:
        return [Text(found.words, "yellow" if found.bad else "")]
    return [Text("  ".join(_record(record))) for record in records]


def _record(record: dict[str, object]) -> list[str]:
    said = [printed.local(str(record.get("time"))), f"[{record.get('term', '-')}]"]
    return said + [str(record[key]) for key in ("kind", "rule", "code", "text") if key in record]
