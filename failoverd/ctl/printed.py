"""What several commands print alike: documents for programs, tables for people."""

from __future__ import annotations

import json
import sys
from datetime import datetime
from typing import TYPE_CHECKING

import click

from failoverd.runtime.document import printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console, RenderableType

_PLAIN_WIDTH = 1000  # in a pipe nothing is cut or folded
_ASCII = str.maketrans({"●": "*", "○": "-", "←": "<", "→": ">", "·": "|", "█": "#", "▏": "|", "…": "~"})


def document(value: object, output: str) -> None:
    """Print `value`, plain JSON types or the bytes of a JSON document, as `json` or `yaml`."""
    if isinstance(value, bytes):
        value = json.loads(value)
    if output == "json":
        click.echo(json.dumps(value, indent=2, ensure_ascii=False))
        return
    import yaml  # noqa: PLC0415 - slow to import and only needed here

    # A document each, also where one follows another (--watch).
    click.echo(yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=1000, explicit_start=True), nl=False)


def table(*parts: RenderableType) -> None:
    """Print renderables of rich, as `screen` does."""

    def draw(console: Console) -> None:
        for part in parts:
            console.print(part)

    screen(draw)


def screen(draw: Callable[[Console], None]) -> None:
    """Print what `draw` draws: in colour on a terminal (NO_COLOR: without), as wide as that is; plain and uncut in a
    pipe; in ASCII where no more goes.
    """  # noqa: D205 - one sentence
    from rich.console import Console  # noqa: PLC0415 - slow to import and only needed here

    terminal = sys.stdout.isatty()
    console = Console(width=None if terminal else _PLAIN_WIDTH, highlight=False, markup=False, emoji=False)
    with console.capture() as captured:
        draw(console)
    text = captured.get()
    if not terminal:
        text = "".join(line.rstrip() + "\n" for line in text.splitlines())
    if "utf" not in (sys.stdout.encoding or "").lower():
        text = ascii_of(text)
    sys.stdout.write(text)


def ascii_of(text: str) -> str:
    """The same for a terminal that knows no more."""
    return text.translate(_ASCII).encode("ascii", "replace").decode("ascii")


def line(text: str) -> None:
    """Print one line: of the words of others that are in it, none begins another one, or moves the terminal."""
    click.echo(printable(text).replace("\n", "?"))


def local(moment: str, *, precise: bool = False) -> str:
    """A moment of a document, ISO 8601, as this host's clock on the wall would show it."""
    try:
        here = datetime.fromisoformat(moment).astimezone()
    except (ValueError, OverflowError):  # the latter at the first and last day that there are
        return moment
    return here.strftime("%Y-%m-%d %H:%M:%S") + (f".{here.microsecond // 1000:03}" if precise else "")


def seconds(duration_ms: int | None) -> str:
    """How long, in seconds; a question mark where that is not known."""
    return "?" if duration_ms is None else f"{duration_ms / 1000:.3f} s"
