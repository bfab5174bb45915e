"""`failoverctl units`: the units of systemd, with the path of the installation that this is.

The Debian package brings them along. An installation by pip or pipx may lie anywhere, and systemd wants whole paths:

failoverctl units --directory /etc/systemd/system && systemctl daemon-reload
"""

from __future__ import annotations

import sysconfig
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import click

from failoverd.ctl.exits import Exit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from importlib.resources.abc import Traversable

SHIPPED = "/opt/failoverd/bin/"  # where the units of the tree look for the programs
# What ProtectHome= hides from a unit: a program there could not be started by it.
HIDDEN = ("/home", "/root", "/run/user")


@click.command()
@click.option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Write them there, /etc/systemd/system for instance. Without it: say what would be written.",
)
def units(directory: Path | None) -> Exit:
    """Write failoverd's units for systemd, for an installation that did not come as a Debian package.

    Nothing is enabled or started. What you change of a unit belongs into a drop-in: this writes the units anew.
    """
    programs = Path(sysconfig.get_path("scripts"))
    if any(programs.is_relative_to(place) for place in HIDDEN):
        click.echo(
            f"failoverctl: the units cannot start a program in {programs}: they do not see {', '.join(HIDDEN)}."
            " Install it elsewhere, such as /opt/failoverd",
            err=True,
        )
        return Exit.FAILED
    try:
        for name, text in made(programs):
            if directory is not None:
                path = directory / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
            click.echo(name if directory is None else str(directory / name))
    except OSError as error:
        click.echo(f"failoverctl: {error.filename}: {error.strerror}", err=True)
        return Exit.FAILED
    return Exit.DONE


def made(programs: Path) -> Iterator[tuple[str, str]]:
    """Each unit and drop-in, by its name below systemd's directory, as it starts the programs of `programs`."""
    for name, file in _files(resources.files("failoverd") / "units"):
        yield name, file.read_text(encoding="utf-8").replace(SHIPPED, f"{programs}/")


def _files(directory: Traversable, above: str = "") -> Iterator[tuple[str, Traversable]]:
    for entry in sorted(directory.iterdir(), key=lambda each: each.name):
        if entry.name.endswith(".d") and entry.is_dir():
            yield from _files(entry, f"{entry.name}/")
        elif entry.name.endswith((".service", ".timer", ".socket")) or above:
            yield above + entry.name, entry
