"""`failoverctl top`: the cluster on a whole terminal, as it changes. See top_screen.py for how it looks.

    status, each second ──┐                     ┌── keys
    history, now and then ┴──> newest picture ──┴──> screen      each look in a thread of its own

A daemon that does not answer ends nothing: it may be on its way back, and that is what is watched for. Until then the
last picture stays, dimmed, and the first line says since when. The terminal is given back as it was, however it ends.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import termios
import threading
import time
import tty
from typing import TYPE_CHECKING

import click

from failoverd.ctl import options
from failoverd.ctl.client import Client
from failoverd.ctl.exits import Exit, ForbiddenError, UnreachableError
from failoverd.runtime.document import DocumentError, StatusDocument, from_json
from failoverd.runtime.document_history import HistoryDocument

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from failoverd.ctl.place import Place
    from failoverd.ctl.top_screen import Picture

REDRAW_S = 0.5  # between looks: ages grow and the lease runs down
HISTORY_S = 5.0  # it asks every node
ANSWER_S = 2.0


class _Signals:
    """The newest signal that ends it. Not as an exception: one in the middle of drawing would leave the screen half."""

    ended = 0


@click.command()
@click.option(
    "--every",
    type=click.FloatRange(0.2, 60),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="How often to look.",
)
@options.socket
def top(every: float, socket: Place) -> Exit:
    """Show the cluster on the whole terminal as it changes: nodes, answers, news and the newest changes of primary.

    Keys: q ends it, p holds the picture, ? shows the keys. It goes on when the daemon does not answer, and says so.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()) or os.environ.get("TERM", "dumb") in {"dumb", "unknown"}:
        raise click.UsageError("top needs a terminal; elsewhere: failoverctl status --watch, or status -o json")
    from failoverd.ctl.top_screen import Picture  # noqa: PLC0415 - rich is slow to import and only needed here

    picture, signals = Picture(str(socket)), _Signals()
    with _wakened(signals) as (wake, wakes), _cbreak(sys.stdin.fileno()):
        _look_in_threads(picture, socket, every, wakes)
        _watch(picture, wake, signals)
    if signals.ended == signal.SIGTERM:  # the terminal is as it was: now the signal's own way
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)
    return Exit.DONE


def _watch(picture: Picture, wake: int, signals: _Signals) -> None:
    """Draw at each look, each key and each change of the terminal's size, until q or a signal ends it."""
    from rich.console import Console  # noqa: PLC0415 - as above
    from rich.live import Live  # noqa: PLC0415 - likewise

    # The terminal's own size, whatever COLUMNS says: it can change.
    console = Console(highlight=False, markup=False, emoji=False, _environ=_environment())
    keys = sys.stdin.fileno()
    with Live(picture, console=console, screen=True, auto_refresh=False, redirect_stderr=False) as live:
        while not signals.ended:
            live.refresh()
            ready, _, _ = select.select([keys, wake], [], [], REDRAW_S)
            if wake in ready:
                os.read(wake, 4096)
            if keys in ready:
                typed = os.read(keys, 64)
                if not typed or b"q" in typed or b"Q" in typed:  # nothing: the terminal is gone
                    return
                for key in typed.decode("ascii", "ignore"):
                    picture.key(key)


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "LINES"}}


# ---- the looks --------------------------------------------------------------------------------------------------


def _look_in_threads(picture: Picture, socket: Place, every_s: float, wake: int) -> None:
    def status() -> None:
        code, body = Client(socket, ANSWER_S).get("/v1/status")
        if code != 200:
            raise UnreachableError(f"{code} {body.decode(errors='replace')}")
        picture.saw(from_json(StatusDocument, body))

    def history() -> None:
        code, body = Client(socket, ANSWER_S).get("/v1/history")
        if code == 200:
            picture.changes = from_json(HistoryDocument, body).changes

    def again(look: object, each_s: float, *, tells: bool) -> None:
        while True:
            began = time.monotonic()
            try:
                look()  # type: ignore[operator] # one of the two above
            except (UnreachableError, ForbiddenError, DocumentError) as error:
                if tells:
                    picture.missed(str(error))
            with contextlib.suppress(OSError):  # it ends just now
                os.write(wake, b".")
            time.sleep(max(each_s - (time.monotonic() - began), 0.05))

    # Nobody waits for them at the end: one that hangs must not hold the terminal.
    for look, each_s in ((status, every_s), (history, max(HISTORY_S, every_s))):
        threading.Thread(target=again, args=(look, each_s), kwargs={"tells": look is status}, daemon=True).start()


# ---- the terminal -----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _cbreak(terminal: int) -> Iterator[None]:
    """Keys as they are pressed and unseen; Ctrl-C goes on to end it, Ctrl-Z would leave a full screen behind."""
    before = termios.tcgetattr(terminal)
    try:
        tty.setcbreak(terminal)
        changed = termios.tcgetattr(terminal)
        changed[6][termios.VSUSP] = b"\0"
        termios.tcsetattr(terminal, termios.TCSANOW, changed)
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSAFLUSH, before)


@contextlib.contextmanager
def _wakened(signals: _Signals) -> Iterator[tuple[int, int]]:
    """A pipe that becomes readable at a signal: Python writes a byte into it by itself."""

    def came(number: int, _frame: FrameType | None) -> None:
        if number != signal.SIGWINCH:  # for that one, to draw anew is all there is to do
            signals.ended = number

    read, write = os.pipe()
    os.set_blocking(read, False)
    os.set_blocking(write, False)
    woken = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    before = {number: signal.signal(number, came) for number in (signal.SIGWINCH, signal.SIGINT, signal.SIGTERM)}
    try:
        yield read, write
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(woken)
