"""`--watch [SECONDS]`: a reading command again and again, until Ctrl-C.

On a terminal each look takes the place of the one before; in a pipe they follow one another. A daemon that is away is
no end: it may be on its way back, and that is what is watched for.
"""

from __future__ import annotations

import functools
import sys
import time
from typing import TYPE_CHECKING, TypeVar

import click

from failoverd.ctl.exits import Exit, UnclearError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable

F = TypeVar("F", bound="Callable[..., Exit]")

INTERVAL_S = 2.0
CLEAR = "\x1b[H\x1b[2J\x1b[3J"


def watch(command: F) -> Callable[..., Exit]:
    """Give a command, which shows something and touches nothing, the option `--watch`."""

    @functools.wraps(command)
    def repeated(*, watch: float | None, **options: object) -> Exit:
        return command(**options) if watch is None else _again_and_again(lambda: command(**options), watch)

    option = click.option(
        "-w",
        "--watch",
        type=click.FloatRange(0.2, 3600),
        is_flag=False,
        flag_value=INTERVAL_S,
        metavar="[SECONDS]",
        help=f"Again every so many seconds ({INTERVAL_S:g} where none are given), until Ctrl-C.",
    )
    return option(repeated)


def _again_and_again(look: Callable[[], Exit], interval_s: float) -> Exit:
    """Look until Ctrl-C. Ends as the newest look did."""
    terminal, ended = sys.stdout.isatty(), Exit.DONE
    try:
        while True:
            if terminal:
                sys.stdout.write(CLEAR)
            try:
                ended = look()
            except UnreachableError as error:
                click.echo(f"failoverctl: {error}", err=True)
                ended = Exit.UNREACHABLE
            except UnclearError as error:
                click.echo(f"failoverctl: {error}", err=True)
                ended = Exit.UNCLEAR
            sys.stdout.flush()
            time.sleep(interval_s)
    except KeyboardInterrupt:
        return ended
