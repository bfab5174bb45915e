"""What `failoverctl init` and `join` have in common: saying what stands in the way, showing, asking, doing."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from failoverd.ctl.exits import Exit

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from failoverd.setup.found import Found
    from failoverd.setup.steps import Plan

yes = click.option("--yes", is_flag=True, help="Do not ask; needed where nobody is at a terminal.")
dry_run = click.option("--dry-run", is_flag=True, help="Show what would be done, and change nothing.")
no_start = click.option("--no-start", is_flag=True, help="Leave failoverd's units, and the virtual IP, alone.")


def may_ask(*, yes: bool) -> bool:
    """Whether somebody is there to answer."""
    return not yes and sys.stdin.isatty()


def needs_root() -> None:
    """Raise UsageError where this cannot work."""
    if os.geteuid() != 0:
        raise click.UsageError("needs root: it looks at units and asks the database as root, and writes keys")


def refused(blockers: Iterable[tuple[str, str]]) -> bool:
    """Tell what stands in the way; whether something does."""
    found = list(blockers)
    for code, words in found:
        click.echo(f"failoverctl: {code}: {words}", err=True)
    if found:
        click.echo("refused, nothing was touched; pages: runbooks/codes/CODE.md", err=True)
    return bool(found)


def warned(warnings: Iterable[str]) -> None:
    """Tell what should be mended."""
    for words in warnings:
        click.echo(f"  ! {words}")


def carried_out(plan: Plan, found: Found, config: Path, *, yes: bool, dry_run: bool) -> Exit | None:
    """Show it, ask, do it. None where it is done, or nothing is to be done; else how to end."""
    from failoverd.setup import shown, steps  # noqa: PLC0415 - cryptography is slow to import and only needed here

    if plan.empty:
        click.echo("nothing to change")
        return None
    click.echo("\n".join(shown.plan(plan)))
    if dry_run:
        click.echo("dry run: nothing was changed")
        return Exit.DONE
    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError("nobody is at a terminal to be asked: --yes says that you have read it")
        if not click.confirm("Do it?"):
            click.echo("refused, nothing was touched: not confirmed", err=True)
            return Exit.REFUSED
    try:
        steps.carry_out(plan, lambda words: click.echo(f"  done  {words}"))
    except steps.StepError as error:
        click.echo(f"failoverctl: {error}", err=True)
        return Exit.FAILED
    # Where a daemon runs with the configuration as it was:
    if found.units.get("failoverd.service") == "active" and any(file.path == config for file in plan.last):
        click.echo(
            "failoverd runs with the file as it was: `failoverctl config diff`, then `systemctl reload failoverd`"
        )
    return None
