"""What this node has and the primary lacks, saved as SQL before the node's data are given up.

Nobody was told that it had succeeded (or somebody forced a promotion): whether any of it is put into the primary by
hand is a person's decision, who needs the SQL, a count, and the tables. From the binary log's files, so that it works
with a server that does not start.

    binary log ── groups whose number the primary's gtid_binlog_state does not cover ── mariadb-binlog, by position
                                                                                          └ events.sql, summary.json

The SQL can be run as it is, on the primary or on a scratch server: the events' own numbers stand there as comments,
since a server in strict mode would refuse them. A directory appears under its final name when all of it is on disk.
"""

from __future__ import annotations

import collections
import datetime as dt
import hashlib
import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from failoverd.core.gtid import GtidSet
from failoverd.databases.mariadb_facts import by_server
from failoverd.durable import sync_directory
from failoverd.rebuild import RebuildError, binlog, programs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from failoverd.rebuild.binlog import Group

LINE = 64 * 1024  # bytes of a line that are looked at; a longer one is passed on in pieces
_TABLE = re.compile(rb"^#.*\tTable_map: (.+) mapped to number \d+")
_NUMBERING = re.compile(rb"^/\*M?!100\d\d\d SET @@session\.(?:gtid_domain_id|gtid_seq_no|server_id)=\d+\*//\*!\*/;$")


@dataclass(frozen=True, slots=True)
class Ahead:
    """What there is to save: in the binary log's order, neighbours as one range."""

    ranges: tuple[tuple[Path, int, int], ...]
    gtids: GtidSet
    transactions: int
    ddl: int


def groups_here(index: Path) -> Iterator[Group]:
    """Yield all that a data directory holds: its binary log, then what its relay logs have beyond. Raises RebuildError.

    What was received and not applied belongs to the source's history, and to no other node's after a forced promotion.
    """
    last: dict[int, int] = {}
    for group in binlog.groups(index):
        last[group.domain] = max(last.get(group.domain, 0), group.number)
        yield group
    for relay in binlog.relay_logs(index.parent, index):
        for group in binlog.received(relay):
            if group.number > last.get(group.domain, 0):
                last[group.domain] = group.number
                yield group


def find(index: Path, covered: Callable[[Group], bool]) -> Ahead:
    """Look through all that is logged here for groups that are not covered. Raises RebuildError."""
    ranges: list[tuple[Path, int, int]] = []
    numbers: dict[str, list[tuple[int, int]]] = {}
    transactions = ddl = 0
    for group in groups_here(index):
        if covered(group):
            continue
        if ranges and ranges[-1][0] == group.file and ranges[-1][2] == group.start:
            ranges[-1] = (group.file, ranges[-1][1], group.stop)
        else:
            ranges.append((group.file, group.start, group.stop))
        runs = numbers.setdefault(group.source, [])
        if runs and runs[-1][1] + 1 == group.number:
            runs[-1] = (runs[-1][0], group.number)
        else:
            runs.append((group.number, group.number))
        transactions += not group.standalone
        ddl += group.standalone
    return Ahead(tuple(ranges), GtidSet.of(numbers), transactions, ddl)


def covered_by(binlog_state: str, since: str = "") -> Callable[[Group], bool]:
    """Tell what a server with that gtid_binlog_state has; with `since`, nothing after that GTID in its domain."""
    last = {source: intervals[-1][1] for source, intervals in by_server(binlog_state).parts}
    domain, _, number = since.split("-") if since else ("", "", "0")

    def covered(group: Group) -> bool:
        if since and str(group.domain) == domain and group.number > int(number):
            return False
        return group.number <= last.get(group.source, 0)

    return covered


def newer(index: Path, covered: Callable[[Group], bool], position: GtidSet) -> Group | None:
    """Return a group that the primary has and that data at `position` (by domain) lack. Raises RebuildError."""
    last = {domain: intervals[-1][1] for domain, intervals in position.parts}
    for group in groups_here(index):
        if covered(group) and group.number > last.get(str(group.domain), 0):
            return group
    return None


def save(ahead: Ahead, root: Path, tools: programs.Programs, *, node: str, primary: str) -> Path:
    """Write it below `root`; return the directory, complete and on disk. Raises RebuildError."""
    incomplete = root / f".{node}.incomplete"
    try:
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        shutil.rmtree(incomplete, ignore_errors=True)  # of a run that was interrupted
        incomplete.mkdir(mode=0o700)
        summary = _write(ahead, incomplete, tools) | {"node": node, "primary": primary}
        with (incomplete / "summary.json").open("w") as file:
            json.dump(summary, file, indent=2)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        sync_directory(incomplete)
        final = _free_name(root, f"{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%SZ}-{node}")
        incomplete.rename(final)
        sync_directory(root)
    except OSError as error:
        raise RebuildError("AHEAD_NOT_SAVED", f"{error.filename or root}: {error.strerror}") from None
    return final


def _free_name(root: Path, name: str) -> Path:
    candidates = (root / (name if n == 0 else f"{name}-{n}") for n in range(1000))
    return next(path for path in candidates if not path.exists())


def _write(ahead: Ahead, directory: Path, tools: programs.Programs) -> dict[str, object]:
    tables: collections.Counter[str] = collections.Counter()
    digest = hashlib.sha256()
    with (directory / "events.sql").open("wb") as sql:
        for path, start, stop in ahead.ranges:
            for line in _decoded(tools, path, start, stop):
                if found := _TABLE.match(line):
                    tables[found[1].replace(b"`", b"").decode(errors="replace")] += 1
                kept = b"-- " + line if _NUMBERING.match(line) else line
                digest.update(kept)
                sql.write(kept)
        sql.flush()
        os.fsync(sql.fileno())
    return {
        "transactions": ahead.transactions,
        "ddl": ahead.ddl,
        "gtids": str(ahead.gtids),
        "tables": dict(sorted(tables.items())),
        "sql": "events.sql",
        "sha256": digest.hexdigest(),
    }


def _decoded(tools: programs.Programs, path: Path, start: int, stop: int) -> Iterable[bytes]:
    """Yield mariadb-binlog's lines. Raises RebuildError when it fails: then what came is not all."""
    child = tools.start(
        "mariadb-binlog",
        "--no-defaults",
        "--verify-binlog-checksum",
        f"--start-position={start}",
        f"--stop-position={stop}",
        str(path),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,  # its errors come last, and it has failed then
        code="AHEAD_NOT_SAVED",
    )
    last = b""
    try:
        if child.stdout is None:
            raise AssertionError("it is a pipe")
        with open(child.stdout.fileno(), "rb", closefd=False) as lines:
            while line := lines.readline(LINE):
                last = line
                yield line
        code = child.wait()
    finally:
        programs.end(child)
    if code != 0:
        raise RebuildError("AHEAD_NOT_SAVED", f"mariadb-binlog ended with {code}: {programs.last_line(last)}")
