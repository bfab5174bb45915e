"""`failoverctl explain`: why this, and why nothing else; of now, or of any decision that the audit has.

failoverctl explain now               the rule in force here, what each earlier one lacks, what would change it
failoverctl explain why-not mail3     why mail3 is not primary, and could not become it
failoverctl explain 4711              record 4711 of this node's audit, decided again from the input that it keeps
failoverctl explain term-7            how this node came to take, or give away, the role when term 7 began
failoverctl explain 0f3c9a            a request, by its id

The rules are asked here, not in the daemon: the same code on the same values. What a record keeps was made by the
version that it names; where this one would decide otherwise, that is said.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from failoverd.ctl import options, source

if TYPE_CHECKING:
    from pathlib import Path

    from failoverd.ctl.exits import Exit
    from failoverd.ctl.place import Place


@click.command()
@click.argument("event")
@click.argument("node", required=False, shell_complete=options.nodes)
@source.audit
@options.socket
@options.output
def explain(event: str, node: str | None, *, directory: Path, socket: Place, output: str) -> Exit:
    """Explain EVENT: `now`, `why-not NODE`, a record's number, a term (term-7) or a request's id.

    Prints which rule fires and why, what each earlier rule lacks, and which single facts, were they otherwise, would
    change the decision. Of a record the stored input is decided again; ends with 1 where this version decides
    otherwise than the one that wrote it.
    """
    if (event == "why-not") != (node is not None):
        raise click.UsageError("`explain why-not NODE` names a node, nothing else does")
    from failoverd.ctl.explaining import run  # noqa: PLC0415 - pydantic is slow to import and only needed here

    return run(event, node, directory, socket, output)
