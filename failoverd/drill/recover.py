"""What a drill has left whose own process is gone: the fault away, the locks given back, a report that says so.

Run by systemd when failoverd-drill.service ends, however it ended, and at boot where a drill is unfinished. Nothing of
the drill is gone on with: what was broken is mended, and the drill has failed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from failoverd.drill import DrillError, model, power
from failoverd.drill.book import Book
from failoverd.drill.calls import Agents
from failoverd.drill.collecting import Collector
from failoverd.drill.holding import Holding
from failoverd.drill.local import LocalDaemon
from failoverd.drill.model import PhaseName, Second
from failoverd.drill_files import DIRECTORY, LOAD, STATE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from failoverd.config import Config
    from failoverd.drill.model import Cast

RELEASE_S = 60.0
GONE = "its own process ended in the middle"


async def recover(config: Config, state: Path, socket: Path, tell: Callable[[str], None]) -> bool:
    """Clear up. False where something of the drill may be left; it is tried again by whoever comes next."""
    try:
        book = Book.unfinished(state, tell)
    except ValueError as error:
        return await _unread(config, state, tell, error)
    if book is None:
        return True
    book.leniently()
    cast = book.drill.cast
    book.end("failed", "DRILL_ENDED", GONE)
    book.conclude("failed", "DRILL_ENDED", GONE)
    clean = True
    async with Agents(config) as agents, LocalDaemon(socket) as daemon:
        if cast is not None:
            nodes = (*cast.data_nodes, *cast.arbiters)
            holding = Holding(agents, nodes, book.drill.asked.id, book.drill.asked.by, cast.coordinator)

            def left(code: str, reason: str) -> None:
                _note_once(book, f"something of the drill may be left: {reason}", code)

            if cast.target and book.drill.fault is not None:
                await _powered(config, book, cast.target)
            clean = await holding.release(left, within_s=RELEASE_S)
        if clean:
            book.fault(None)
            if cast is not None and book.injected:
                await _acknowledged(book, daemon, cast)
        await _reported(book, Collector(config, book, agents, daemon), clean=clean)
    if clean:
        book.close()
    return clean


async def _reported(book: Book, found: Collector, *, clean: bool) -> None:
    """Write the report, or into the one that there is: it has all that was found, and only its end is another."""
    cast = book.drill.cast
    if not found.is_written():
        if book.drill.outcome == "passed":  # what proved it is gone with its process
            book.change(outcome="failed", code="DRILL_ENDED", reason=f"{GONE}, before its report was written")
        for line in _seconds(book):
            found.second(line, keep=False)
        book.begin(PhaseName.REPORT)
        await found.write(cast, clean=clean)
        book.end("passed")
    elif clean:
        await found.write_again(cast)


async def _unread(config: Config, state: Path, tell: Callable[[str], None], why: ValueError) -> bool:
    """Clear up where the state says nothing: its name is enough for the agents, and all nodes are asked.

    It is put aside, so that it stands in no later drill's way.
    """
    name = Book.current(state)
    path = state / DIRECTORY / name / STATE
    tell(f"DRILL_BUG: {path} cannot be read: {str(why).splitlines()[0]}")

    def left(code: str, reason: str) -> None:
        tell(f"{code}: something of the drill may be left: {reason}")

    async with Agents(config) as agents:
        holding = Holding(agents, map(str, config.nodes), name, "failoverd", str(config.this.name))
        clean = await holding.release(left, within_s=RELEASE_S)
    if clean:
        path.replace(path.with_name(f"{STATE}.unreadable"))
        Book.forget(state)
        tell(f"nothing of {name} is left by what the agents say; see that all nodes have power")
    return clean


async def _powered(config: Config, book: Book, node: str) -> None:
    """A node that was fenced because of the drill comes back with it."""
    try:
        if await power.given_back(config, node):
            book.note(f"{node} had been switched off by its fence agent: it has power again")
    except DrillError as error:
        _note_once(book, f"{node} may have no power: {error.reason}", error.code)


def _note_once(book: Book, text: str, code: str) -> None:
    """Where a node stays silent this is tried for days."""
    if not any(note.text == text for note in book.drill.notes):
        book.note(text, code)


async def _acknowledged(book: Book, daemon: LocalDaemon, cast: Cast) -> None:
    """The drill's own change of primary does not count towards BLK_FLAPPING. More than one are not its own alone."""
    try:
        if (await daemon.status()).term <= cast.term + 1:
            await daemon.acknowledge(f"drill {book.drill.asked.id}, begun by {book.drill.asked.by}")
    except DrillError as error:
        book.note(f"the drill's change of primary is not acknowledged: {error.reason}", error.code)


def _seconds(book: Book) -> list[Second]:
    """What the load had told. A last line that was cut off is none."""
    try:
        lines = (book.place / LOAD).read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    return [model.load(Second, line) for line in lines[:-1] if line]
