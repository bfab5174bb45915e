"""Where failoverctl reads the audit: the file on this host, or, where that may not be read, through the daemon.

The files first: they are all that there is when the daemon does not run, which is when it is most asked for.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from failoverd.audit import layout, reading
from failoverd.ctl.client import Client
from failoverd.ctl.exits import UnreachableError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from failoverd.ctl.place import Place

DIRECTORY = "/var/lib/failoverd/audit"
LOOKS = (4 << 20, 64 << 20)  # bytes from the end
NEWEST_BYTES = 4 << 20  # more is not written between two looks

audit = click.option(
    "--audit",
    "directory",
    type=click.Path(path_type=Path),
    envvar="FAILOVERD_AUDIT",
    default=DIRECTORY,
    show_default=True,
    show_envvar=True,
    metavar="DIR",
    help="This node's audit, read as it is; through the daemon where it cannot be.",
)


def records(directory: Path, socket: Place, after: int = 0, since: datetime | None = None) -> Iterator[reading.Record]:
    """The audit's records, oldest first; lines that are none are left to `audit verify`. Raises UnreachableError.

    `after`: only newer ones than the one of that number, of which there are few: the file's end is looked at. `since`:
    those of files that end before it may be left out.
    """
    if not isinstance(socket, Path):  # elsewhere: the files here are another node's
        yield from (record for record in _through_daemon(socket) if _newer(record, after))
        return
    try:
        readable(directory)
    except OSError as error:
        try:
            yield from (record for record in _through_daemon(socket) if _newer(record, after))
        except UnreachableError as unreachable:
            raise UnreachableError(f"{directory}: {error.strerror or error}; and {unreachable}") from None
        return
    if after:
        yield from (record for record, _ in reading.tail(directory, NEWEST_BYTES) if _newer(record, after))
        return
    for read in reading.records(directory, since):
        if read.record is not None:
            yield read.record


def newest(directory: Path, socket: Place, wanted: reading.Wanted, number: int) -> tuple[list[reading.Record], int]:
    """The newest `number` records that are wanted, oldest first, and the number of the newest of all.

    The end of an audit of years is looked at first: most ask for what has just been. Raises UnreachableError.
    """
    for size in LOOKS if isinstance(socket, Path) else ():
        with suppress(OSError):  # `records` has the words for it
            kept, last = _kept((record for record, _ in reading.tail(directory, size)), wanted, number)
            if len(kept) == number:
                return kept, last
    return _kept(records(directory, socket, since=wanted.since), wanted, number)


def _kept(records: Iterable[reading.Record], wanted: reading.Wanted, number: int) -> tuple[list[reading.Record], int]:
    kept: deque[reading.Record] = deque(maxlen=number)
    last = 0
    for record in records:
        seq = record.get("seq")
        last = max(last, seq) if isinstance(seq, int) else last
        if wanted.has(record):
            kept.append(record)
    return list(kept), last


def _newer(record: reading.Record, after: int) -> bool:
    number = record.get("seq")
    return not after or (isinstance(number, int) and number > after)


def readable(directory: Path) -> None:
    """Look whether the audit can be read. Raises OSError where there is none, or one of its files cannot."""
    paths = layout.paths(directory)
    if not paths:
        raise FileNotFoundError(2, f"no {reading.NAME} there")
    for path in paths:
        layout.opened(path).close()


def _through_daemon(socket: Place) -> Iterator[reading.Record]:
    try:
        for line in Client(socket).lines("/v1/audit"):
            record, _ = reading.parse(line)
            if record is not None:
                yield record
    except LookupError as error:
        raise UnreachableError(f"{socket}: {error}") from None
