"""`failoverctl man [PAGE]`: the manual, made from the programs themselves.

failoverctl man | man -l -                       read failoverctl(8)
failoverctl man failoverd.yaml | man -l -        the configuration file
failoverctl man --directory /usr/share/man       all of them, for a package: man8/failoverctl.8 …
"""

from __future__ import annotations

from pathlib import Path

import click

from failoverd.ctl.exits import Exit

PAGES = ("failoverctl", "failoverd", "failoverd.yaml")


@click.command()
@click.argument("page", type=click.Choice(PAGES), default=PAGES[0])
@click.option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Write all pages below DIR, as man8/ and man5/ of it.",
)
def man(page: str, directory: Path | None) -> Exit:
    """Print a manual page, failoverctl(8) where none is named; read it by `failoverctl man | man -l -`."""
    from failoverd.ctl import man_pages  # noqa: PLC0415 - it loads every command, and the configuration's model

    made = man_pages.made()
    if directory is None:
        click.echo(made[page](), nl=False)
        return Exit.DONE
    try:
        for name, section in man_pages.PAGES.items():
            path = directory / f"man{section}" / f"{name}.{section}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(made[name](), encoding="ascii")
            click.echo(str(path))
    except OSError as error:
        click.echo(f"failoverctl: {error.filename}: {error.strerror}", err=True)
        return Exit.FAILED
    return Exit.DONE
