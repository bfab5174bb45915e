"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path

import click

from failoverd.ctl.completing import nodes as nodes  # noqa: PLC0414 - offered here, beside the options
from failoverd.ctl.watching import watch as watch  # noqa: PLC0414 - likewise

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
    type=click.Choice(["table", "json", "yaml"]),
    default="table",
    show_default=True,
    help="For people or for programs.",
)
config_file = click.option(
    "--config",
    type=click.Path(path_type=Path),
    envvar="FAILOVERD_CONFIG",
    default="/etc/failoverd/failoverd.yaml",
    show_default=True,
    show_envvar=True,
    metavar="FILE",
    help="The configuration file, for who else can be asked where the daemon does not answer.",
)
directory = click.option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    default="/etc/failoverd",
    show_default=True,
    metavar="DIR",
    help="Where the configuration, certificates and secrets of this host lie.",
)
