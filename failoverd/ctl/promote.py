"""`failoverctl promote`: a planned switchover, each step as it happens; or, the primary lost, a forced takeover.

  0.000 s  mail2  asked: promote mail2 (root)
  0.214 s  mail1  gate closed
  ...
  0.731 s  mail2  proven through the VIP: imap, smtp
done: mail2 is primary

What cannot be proven lossless is refused. `--force --allow-data-loss --reason` goes past that and past nothing else:
two flags and a reason, since what is given up so does not come back, and a name stands beside it.

`--at` puts the switchover into the record, and whoever is primary then begins it; `--cancel` takes it out again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from failoverd.ctl import options, request, when
from failoverd.ctl.client import Client
from failoverd.ctl.exits import Exit
from failoverd.runtime.document import Preview, from_json

if TYPE_CHECKING:
    from datetime import datetime

    from failoverd.ctl.place import Place


@click.command()
@click.option(
    "-n", "--node", default="", metavar="NODE", shell_complete=options.nodes, help="The node that shall be primary."
)
@click.option("-r", "--reason", default="", metavar="TEXT", help="Why, for the record.")
@click.option("--force", is_flag=True, help="The primary is gone for good: go past what protects from loss.")
@click.option("--allow-data-loss", is_flag=True, help="And what NODE lacks may be lost. Both or neither.")
@click.option("--dry-run", is_flag=True, help="Say what would come of it; nothing is asked.")
@click.option("--at", "at", type=when.MOMENT, metavar="TIME", help="Not now: 03:00, +2h, 2026-03-01T03:00.")
@click.option("--cancel", is_flag=True, help="Forget the one that is scheduled; without --node.")
@options.socket
def promote(
    node: str,
    reason: str,
    *,
    force: bool,
    allow_data_loss: bool,
    dry_run: bool,
    at: datetime | None,
    cancel: bool,
    socket: Place,
) -> Exit:
    """Hand the primary's role to NODE. Goes on in the daemon when this terminal closes.

    Refused with its blocker codes, and nothing touched, when NODE could not take over without loss. When the primary
    is gone and nothing can prove that, --force --allow-data-loss --reason is the last resort. It never goes past the
    lease, a fence that is required, or a pause.

    With --at it is begun then by whoever is primary, at most ten minutes late, and dropped where NODE is not fit or the
    role has moved meanwhile: failoverctl status shows it, the audit says what became of it.
    """
    if cancel:
        if node or at is not None or force or allow_data_loss or dry_run:
            raise click.UsageError("--cancel stands alone: there is one scheduled switchover at most")
        return _cancel(socket)
    if not node:
        raise click.UsageError("--node NODE is needed: who shall be primary")
    if at is not None and (force or allow_data_loss or dry_run):
        raise click.UsageError("--at goes with a planned switchover only, and is checked again when it is due")
    if at is not None:
        return _schedule(socket, node, reason, at)
    _complete(force=force, allow_data_loss=allow_data_loss, reason=reason)
    if dry_run:
        return _would(socket, node, allow_loss=force)
    return request.ask(
        socket,
        "/v1/promote-forced" if force else "/v1/promote",
        {"node": node, "reason": reason},
        refused=f"{node} cannot become primary now" + (", not even by force" if force else ""),
        done=f"{node} is primary",
        failed=f"{node} is not primary",
    )


def _schedule(socket: Place, node: str, reason: str, at: datetime) -> Exit:
    return request.ask(
        socket,
        "/v1/schedule",
        {"node": node, "reason": reason, "at_ms": round(at.timestamp() * 1000)},
        refused=f"a switchover to {node} cannot be scheduled now",
        done=f"{node} becomes primary at {when.shown(at)}; failoverctl promote --cancel takes it back",
        failed="not known to be scheduled",
    )


def _cancel(socket: Place) -> Exit:
    return request.ask(
        socket,
        "/v1/cancel-scheduled",
        {},
        refused="there is nothing to cancel",
        done="no switchover is scheduled",
        failed="not known to be cancelled",
    )


def _complete(*, force: bool, allow_data_loss: bool, reason: str) -> None:
    """Raise UsageError unless force comes with all that makes it one."""
    if not (force or allow_data_loss):
        return
    missing = [
        words
        for there, words in (
            (force, "--force"),
            (allow_data_loss, "--allow-data-loss"),
            (reason.strip(), '--reason "…" (not empty)'),
        )
        if not there
    ]
    if missing:
        raise click.UsageError(
            f"a forced promotion also needs {' and '.join(missing)}: "
            "it may lose what clients were told is safe, and the record says who wanted that and why"
        )


def _would(socket: Place, node: str, *, allow_loss: bool) -> Exit:
    """Print what a promotion would come to now."""
    code, body = Client(socket).post("/v1/would-promote", {"node": node, "allow_loss": allow_loss})
    if code != 200:
        click.echo(f"failoverctl: {code} {body.decode(errors='replace')}", err=True)
        return Exit.USAGE if code == 400 else Exit.FAILED
    preview = from_json(Preview, body)
    if preview.refused:
        click.echo(
            f"would be refused: {node} cannot become primary now" + (", not even by force" if allow_loss else "")
        )
        for why in preview.refused:
            click.echo(f"  {why.code}  {why.reason}")
        return Exit.REFUSED
    if not preview.passed:
        click.echo(f"would be begun: {node} becomes primary, and nothing acknowledged is lost")
        return Exit.DONE
    click.echo(f"would be forced: {node} becomes primary past")
    for why in preview.passed:
        click.echo(f"  {why.code}  {why.reason}")
    click.echo("and this may be lost:")
    for lost in preview.lost or ("nothing that is known",):
        click.echo(f"  {lost}")
    return Exit.DONE
