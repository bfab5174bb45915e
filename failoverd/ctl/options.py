"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path

import click

socket = click.option(
    "--socket",
    type=click.Path(path_type=Path),
    envvar="FAILOVERD_SOCKET",
    default="/run/failoverd/control.sock",
    show_default=True,
    show_envvar=True,
    metavar="PATH",
    help="The daemon's control socket.",
)
output = click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="For people or for programs.",
)
