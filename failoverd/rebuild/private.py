"""A received backup becomes a data directory that a server has started from once, in private.

mariadb-backup copies no binary log, so the new server would not know from where to follow, nor what its data hold of
whom: another node would then look as if it held something extra. Both are set here, on a server that nobody can
reach, before anything of the old data is touched: a backup that does not start costs nothing, and the daemon, which
makes a server follow as soon as it answers, never sees one without its positions.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from failoverd.databases.connection import Failure
from failoverd.rebuild import RebuildError, local, programs, protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from failoverd.config import Config, Database
    from failoverd.rebuild.programs import Programs

PREPARE_S = 6 * 3600  # all that was written during the backup is applied
START_S = 300
STOP_S = 300
INFO = ("xtrabackup_binlog_info", "mariadb_backup_binlog_info")  # until 10.11, and since 11.1
_DIRECTORIES = ("innodb-data-home-dir", "innodb-log-group-home-dir", "innodb-undo-directory", "aria-log-dir-path")
_POOL = "--innodb-buffer-pool-size=64M"  # the old server may still run beside it


def prepare(new: Path, tools: Programs) -> str:
    """Make a backup consistent; return its GTID position. Raises RebuildError."""
    tools.run("mariadb-backup", "--prepare", f"--target-dir={new}", code="REBUILD_PREPARE_FAILED", limit_s=PREPARE_S)
    return position(new)


def position(new: Path) -> str:
    """The GTID position that a backup has noted. Raises RebuildError."""
    for name in INFO:
        if (new / name).is_file():
            words = (new / name).read_text(errors="replace").split()
            # file, offset, GTID position; the last is missing on a server whose binary log never held anything
            noted = "".join(words[2:])
            if not protocol.POSITION.fullmatch(noted):
                raise RebuildError("REBUILD_PREPARE_FAILED", f"the backup's {name} has no position: {noted[:80]!r}")
            return noted
    raise RebuildError("REBUILD_PREPARE_FAILED", f"the backup has no {INFO[0]}: the donor keeps no binary log")


def state(position: str, before: str, after: str) -> str:
    """Return the gtid_binlog_state that belongs to data at `position`.

    `before` and `after` are the donor's own around the backup. Of each server it is the last number that the data
    hold: numbers grow within a domain, so it is the one seen after, where that is not beyond the position.
    """
    reached = {domain: number for domain, _, number in _split(position)}
    found: dict[tuple[str, str], int] = {}
    for text in (before, after, position):
        for domain, server, number in _split(text):
            if number <= reached.get(domain, 0):
                found[domain, server] = max(found.get((domain, server), 0), number)
    return ",".join(f"{domain}-{server}-{number}" for (domain, server), number in sorted(found.items()))


def _split(gtids: str) -> list[tuple[str, str, int]]:
    parts = (part.strip().split("-") for part in gtids.split(",") if part.strip())
    return [(domain, server, int(number)) for domain, server, number in parts]


def own(new: Path, like: Path) -> None:
    """Give all of it to the data directory's owner."""
    wanted = like.stat()
    for directory, _, names in os.walk(new):
        for path in (Path(directory), *(Path(directory, name) for name in names)):
            os.chown(path, wanted.st_uid, wanted.st_gid, follow_symlinks=False)


def start_once(new: Path, work: Path, config: Config, tools: Programs, *, position: str, binlog_state: str) -> None:
    """Start a server on `new`, set its positions, end it. Raises RebuildError."""
    with (
        served(new, work, config, tools) as path,
        local.opened(path, config.database, 30_000) as (connection, deadline),
    ):
        connection.run(deadline, "SET GLOBAL gtid_binlog_state = %s", binlog_state)
        connection.run(deadline, "SET GLOBAL gtid_slave_pos = %s", position)


@contextlib.contextmanager
def served(new: Path, work: Path, config: Config, tools: Programs) -> Iterator[Path]:
    """Run a server on `new` that nobody else can reach; give its socket. It has ended well afterwards.

    Raises RebuildError; what is raised within as a Failure of the server as well.
    """
    path = work / "sock"
    log = work / "private.log"
    path.unlink(missing_ok=True)
    child = tools.start(
        "mariadbd",
        f"--datadir={new}",
        f"--socket={path}",
        f"--pid-file={work / 'pid'}",
        f"--log-error={log}",
        f"--user={pwd.getpwuid(new.stat().st_uid).pw_name}",
        # The configuration may name these with the path of the old data, which another server still writes to.
        f"--log-bin={config.rebuild.binlog}",
        *(f"--{name}={new}" for name in _DIRECTORIES),
        "--skip-networking",
        "--skip-slave-start",
        "--read-only=ON",
        "--event-scheduler=OFF",
        _POOL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        code="REBUILD_PREPARE_FAILED",
    )
    try:
        _await_answer(child, path, config.database, log)
        yield path
        child.send_signal(signal.SIGTERM)
        code = child.wait(STOP_S)
    except Failure as failure:
        raise RebuildError("REBUILD_PREPARE_FAILED", f"a server on the new data: {failure}") from None
    except subprocess.TimeoutExpired:
        raise RebuildError("REBUILD_PREPARE_FAILED", f"a server on the new data did not end in {STOP_S} s") from None
    finally:
        programs.end(child)
    if code != 0:
        raise RebuildError("REBUILD_PREPARE_FAILED", f"a server on the new data ended with {code}: {_end_of(log)}")


def _await_answer(child: subprocess.Popen[bytes], path: Path, database: Database, log: Path) -> None:
    end = time.monotonic() + START_S
    while True:
        try:
            with local.opened(path, database, 1000):
                return
        except Failure as failure:
            if failure.code not in {"DB_REFUSED", "DB_HUNG"} or time.monotonic() > end:
                raise
        if child.poll() is not None:
            words = f"mariadbd ended with {child.returncode}: {_end_of(log)}"
            raise RebuildError("REBUILD_PREPARE_FAILED", f"a server does not start on the new data: {words}")
        time.sleep(0.1)


def _end_of(log: Path) -> str:
    try:
        return programs.last_line(log.read_bytes())
    except OSError:
        return "no log"
