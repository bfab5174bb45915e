"""`failoverctl check`: is this cluster fit to fail over, and if not, what to do about it.

mail2 BLOCKS  SET_SYNC_BINLOG  sync_binlog = 0; allowed: 1
              means  the binary log is not on disk when a client is told of its commit: ...
              fix    set sync_binlog = 1, in the server's configuration file and by SET GLOBAL
              page   runbooks/codes/SET_SYNC_BINLOG.md
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from failoverd.ctl import options, printed
from failoverd.ctl.client import Client
from failoverd.ctl.exits import Exit
from failoverd.runtime.document import CheckDocument, from_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from failoverd.ctl.place import Place
    from failoverd.runtime.document import CheckedFinding


@click.command()
@options.socket
@options.output
@options.watch
def check(socket: Place, output: str) -> Exit:
    """Say whether this cluster is fit to fail over: every finding of every node, what it means and how to fix it.

    Ends with 0 when it is, 1 when something blocks, 6 when there are warnings only.
    """
    code, body = Client(socket).get("/v1/check")
    if code != 200:
        click.echo(f"failoverctl: {code} {body.decode(errors='replace')}", err=True)
        return Exit.FAILED
    document = from_json(CheckDocument, body)
    if output != "table":
        printed.document(body, output)
    else:
        click.echo("\n".join(_lines(document)))
    if not document.fit:
        return Exit.FAILED
    told = any(not finding.maintenance for finding in document.findings)
    return Exit.WARNINGS if told or document.unseen else Exit.DONE


def _lines(document: CheckDocument) -> Iterator[str]:
    failover = document.failover
    quiet = sum(finding.maintenance for finding in document.findings)
    blocking = sum(finding.blocks and not finding.maintenance for finding in document.findings)
    warnings = len(document.findings) - blocking - quiet
    verdict = "fit to fail over" if document.fit else "NOT fit to fail over"
    counts = f"{blocking} block, {warnings} warn" if document.findings else "no findings"
    counts += f", {quiet} in maintenance" if quiet else ""
    yield f"{document.cluster}   {verdict}   {counts}   seen from {document.node}"
    for finding in sorted(document.findings, key=lambda finding: (finding.maintenance, not finding.blocks)):
        yield ""
        yield from _finding(finding)
    yield ""
    yield f"Failover  {f'possible, to {failover.candidate}' if failover.possible else 'NOT possible now'}"
    for reason in failover.blockers:
        yield f"          {reason.code}  {reason.reason}"
    for reason in failover.rejected:
        yield f"          not {reason.node}  {reason.code}  {reason.reason}"
    for reason in document.unseen:
        yield f"Not seen  {reason.node or 'cluster'}  {reason.code}  {reason.reason}"


def _finding(finding: CheckedFinding) -> Iterator[str]:
    word = "in maintenance" if finding.maintenance else "BLOCKS" if finding.blocks else "warns "
    head = f"{finding.node} {word}"
    yield f"{head}  {finding.code}  {finding.reason}"
    for name, text in (("means", finding.meaning), ("fix", finding.fix), ("page", finding.page)):
        yield f"{'':{len(head)}}  {name:<5}  {text}"
