"""Options that several commands share."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from failoverd.ctl import place
from failoverd.ctl.completing import nodes as nodes  # noqa: PLC0414 - offered here, beside the options
from failoverd.ctl.watching import watch as watch  # noqa: PLC0414 - likewise

if TYPE_CHECKING:
    from collections.abc import Callable

    from failoverd.ctl.exits import Exit

F = TypeVar("F", bound="Callable[..., Exit]")

_PLACE = (
    click.option(
        "--socket",
        type=click.Path(path_type=Path),
        envvar="FAILOVERD_SOCKET",
        show_envvar=True,
        metavar="PATH",
        help=f"The daemon's control socket.  [default: {place.SOCKET}]",
    ),
    click.option(
        "--host",
        envvar="FAILOVERD_HOST",
        show_envvar=True,
        metavar="ADDRESS[:PORT]",
        help="A daemon elsewhere instead (access.remote of its configuration).",
    ),
    *(
        click.option(
            name,
            type=click.Path(path_type=Path),
            envvar=envvar,
            show_envvar=True,
            metavar="FILE",
            help=words,
        )
        for name, envvar, words in (
            ("--certificate", "FAILOVERD_CERTIFICATE", "With --host: one's own certificate."),
            ("--key", "FAILOVERD_KEY", "With --host: its key."),
            ("--ca", "FAILOVERD_CA", "With --host: the CA of the cluster's nodes."),
        )
    ),
)


def socket(command: F) -> Callable[..., Exit]:
    """Give a command the options that say which daemon is meant: its parameter `socket` is a `place.Place`."""

    @functools.wraps(command)
    def placed(
        *arguments: Any,  # noqa: ANN401 - a command's own
        socket: Path | None,
        host: str | None,
        certificate: Path | None,
        key: Path | None,
        ca: Path | None,
        **options: Any,  # noqa: ANN401 - likewise
    ) -> Exit:
        given = {"certificate": certificate, "key": key, "ca": ca}
        return command(*arguments, socket=place.chosen(socket, host, given), **options)

    for option in reversed(_PLACE):
        placed = option(placed)
    return placed


def _not_elsewhere(_: click.Context, __: click.Parameter, value: str | None) -> None:
    if value is not None:
        raise click.UsageError("this reads files of the node itself: run it there, without --host")


# For a command that no daemon is asked by.
here = click.option("--host", expose_value=False, callback=_not_elsewhere, hidden=True)
# For one that asks it for more than is in this node's files, and goes on without it.
socket_here = click.option(
    "--socket",
    type=click.Path(path_type=Path),
    envvar="FAILOVERD_SOCKET",
    default=place.SOCKET,
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
