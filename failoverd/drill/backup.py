"""The backup before a drill, on a replica: made, checksummed, and shown to be one by starting a server on a copy of it.

    mariadb-backup ──> .ID.part ── every file's SHA-256 ──> manifest ──> ID          kept, as it was made
                                                                         │ copy (reflinks where there are)
                                  scratch server, in private <── prepare ┴──> .ID.trial      removed

An incremental one lies on the newest full one that is kept, and is tried together with it. What has not been started is
no backup: it is not kept under its name. Started means that the scratch server holds the tables and the position that
the replica had, and has read every row of every table.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import stat
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from failoverd.databases.connection import Connection, Deadline, Failure
from failoverd.drill import DrillError
from failoverd.drill.model import BackupDone
from failoverd.rebuild import RebuildError, local, private, programs
from failoverd.rebuild.journal import sync_file_system

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from failoverd.config import Config
    from failoverd.rebuild.programs import Programs

MANIFEST = "failoverd-manifest.json"
_CHUNK = 1 << 20
_SPARE = 1.2
_SPARE_BYTES = 256 << 20
_LOG_IN_MS, _LIST_MS = 5_000, 60_000
_ASK_MS = 6 * 3_600_000  # all rows are read
_SOUND = {"OK", "Table is already up to date"}


class Backup:
    """One backup of this node's database. Blocks; raises DrillError."""

    def __init__(self, config: Config, drill: str, tell: Callable[[dict[str, Any]], None], tools: Programs) -> None:
        self._config, self._drill, self._tell, self._tools = config, drill, tell, tools
        self._place = config.drill.backup.directory
        self._part, self._trial = self._place / f".{drill}.part", self._place / f".{drill}.trial"

    def make(self, kind: str) -> BackupDone:
        """Make it, try it, keep it, and let the oldest go."""
        if not self._place.exists():
            self._place.mkdir(parents=True)
            self._place.chmod(0o711)  # whatever the umask is: to be passed through, and not to be looked into
        self._reachable()
        self._clear()
        base = self._newest_full() if kind == "incremental" else None
        self._room(base)
        try:
            done = self._made(base)
        finally:
            self._clear()
        self._let_go()
        return done

    def _reachable(self) -> None:
        """The server that is tried runs as the database's user, who has to get there, and nothing else there is his."""
        owner = self._config.rebuild.data.stat().st_uid
        for place in (self._place, *self._place.parents):
            found = place.stat()
            if not found.st_mode & (stat.S_IXUSR if found.st_uid == owner else stat.S_IXOTH):
                why = f"{place} lets the database's user not through, and a server is to start on a copy below it"
                raise DrillError("DRILL_BACKUP_FAILED", f"{why}: chmod o+x {place}, or another drill.backup.directory")

    def _clear(self) -> None:
        """Remove what a run that was ended has left, whosever it was: one drill has the cluster at a time."""
        for left in [*self._place.glob(".*.part"), *self._place.glob(".*.trial")]:
            shutil.rmtree(left)

    def _newest_full(self) -> Path | None:
        """What an incremental one lies on; None: it has to be a full one, since another node makes it each time."""
        full = [place for place in self._kept() if _manifest(place)["kind"] == "full"]
        for place in reversed(full):
            damaged = _damaged(place)
            if not damaged:
                return place
            self._tell({"text": f"{place} is not what its manifest says, and no base: {damaged}"})
        self._tell({"text": f"{self._place} has no full backup for an incremental one to lie on: it is a full one"})
        return None

    def _kept(self) -> list[Path]:
        return sorted(path.parent for path in self._place.glob(f"[0-9]*/{MANIFEST}"))

    def _room(self, base: Path | None) -> None:
        data = _size(self._config.rebuild.data)
        copies = data + _size(base) if base is not None else 2 * data
        needed, free = int(copies * _SPARE) + _SPARE_BYTES, shutil.disk_usage(self._place).free
        if free < needed:
            gigabytes = f"{needed / 1e9:.1f} GB are needed for it and its trial, {free / 1e9:.1f} GB are free"
            raise DrillError("DRILL_SPACE", f"{self._place}: {gigabytes}")

    def _made(self, base: Path | None) -> BackupDone:
        began = time.monotonic()
        self._tell({"text": "mariadb-backup runs"})
        before = self._stands(self._config.database.socket)
        self._copy_out(base)
        after = self._stands(self._config.database.socket)
        files = checksums(self._part)
        manifest = {"kind": "incremental" if base else "full", "base": base.name if base else "", "files": files}
        text = json.dumps(manifest, indent=1, sort_keys=True)
        (self._part / MANIFEST).write_text(text)
        sync_file_system(self._place)
        made = time.monotonic()

        self._tell({"text": "it is prepared, on a copy"})
        try:
            whole = self._copy(base or self._part)
            gtid = private.prepare(whole, self._tools)
            if base is not None:
                gtid = self._apply(whole)
            private.own(whole, self._config.rebuild.data)
            prepared = time.monotonic()
            self._tell({"text": "a server starts on it"})
            server, tables, rows = self._start(whole, gtid, before, after)
        except RebuildError as error:
            raise DrillError("DRILL_BACKUP_UNVERIFIED", f"{error.code}: {error.reason}") from None
        started = time.monotonic()
        final = self._place / self._drill
        self._part.rename(final)
        sync_file_system(self._place)
        return BackupDone(
            node=self._config.this.name,
            kind="incremental" if base is not None else "full",
            directory=str(final),
            bytes=_size(final),
            sha256=hashlib.sha256(text.encode()).hexdigest(),
            gtid=gtid,
            server=server,
            tables=tables,
            made_s=round(made - began, 3),
            prepared_s=round(prepared - made, 3),
            started_s=round(started - prepared, 3),
            rows=rows,
        )

    def _stands(self, path: Path) -> _Stands:
        """Ask a server how it stands, as the drill's own account: failoverd's does not see every table."""
        try:
            with self._reader(path) as connection:
                return _stands(connection)
        except Failure as failure:
            raise DrillError("DRILL_BACKUP_FAILED", f"{failure.code}: {failure.reason}") from None

    @contextlib.contextmanager
    def _reader(self, path: Path) -> Iterator[Connection]:
        if self._config.drill.password is None:
            raise DrillError("DRILL_BACKUP_FAILED", "drill.password_file is missing: nobody may read the rows")
        connection = Connection(self._config.drill.user, self._config.drill.password.get_secret_value())
        try:
            connection.log_in(str(path), Deadline(_LOG_IN_MS), lambda _: None)
            yield connection
        finally:
            connection.drop()

    def _copy_out(self, base: Path | None) -> None:
        database = self._config.database
        try:
            standing = local.standing(database)
            if not standing.read_only:
                raise DrillError("DRILL_BACKUP_FAILED", "the database here is writable: backups are a replica's work")
            with programs.credentials(database.user, database.password.get_secret_value()) as options:
                child = self._tools.start(
                    "mariadb-backup",
                    f"--defaults-extra-file=/proc/self/fd/{options}",
                    "--backup",
                    f"--target-dir={self._part}",
                    f"--socket={database.socket}",
                    f"--datadir={standing.data}",
                    f"--throttle={self._config.rebuild.throttle}",
                    *([f"--incremental-basedir={base}"] if base is not None else []),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    pass_fds=[options],
                    code="REBUILD_BACKUP_FAILED",
                )
                try:
                    _, words = child.communicate(timeout=self._config.drill.backup.limit_ms / 1000)
                finally:
                    programs.end(child)
        except (RebuildError, Failure) as error:
            raise DrillError("DRILL_BACKUP_FAILED", f"{error.code}: {error.reason}") from None
        except subprocess.TimeoutExpired:
            limit_s = self._config.drill.backup.limit_ms // 1000
            raise DrillError("DRILL_BACKUP_FAILED", f"mariadb-backup did not end within {limit_s} s") from None
        if child.returncode != 0:
            raise DrillError(
                "DRILL_BACKUP_FAILED", f"mariadb-backup ended with {child.returncode}: {programs.last_line(words)}"
            )

    def _copy(self, source: Path) -> Path:
        """Copy what is prepared: preparing changes it, and what is kept stays as its checksums say."""
        self._trial.mkdir(mode=0o700)
        data = self._config.rebuild.data.stat()
        os.chown(self._trial, data.st_uid, data.st_gid)
        whole = self._trial / "data"
        self._tools.run("cp", "-a", "--reflink=auto", str(source), str(whole), code="REBUILD_STORAGE", limit_s=6 * 3600)
        (whole / MANIFEST).unlink()
        return whole

    def _apply(self, whole: Path) -> str:
        """Apply the incremental part, on a copy as well; return its position."""
        part = self._trial / "part"
        self._tools.run(
            "cp", "-a", "--reflink=auto", str(self._part), str(part), code="REBUILD_STORAGE", limit_s=6 * 3600
        )
        self._tools.run(
            "mariadb-backup",
            "--prepare",
            f"--target-dir={whole}",
            f"--incremental-dir={part}",
            code="REBUILD_PREPARE_FAILED",
            limit_s=private.PREPARE_S,
        )
        for name in private.INFO:
            if (part / name).is_file():
                return "".join((part / name).read_text().split()[2:])
        raise RebuildError("REBUILD_PREPARE_FAILED", f"the incremental backup has no {private.INFO[0]}")

    def _start(self, whole: Path, gtid: str, before: _Stands, after: _Stands) -> tuple[str, int, int]:
        """Start a server on it and have it read every row. Return its version, how many tables and how many rows."""
        with private.served(whole, self._trial, self._config, self._tools) as path, self._reader(path) as connection:
            deadline = Deadline(_ASK_MS)
            version = str(connection.run(deadline, "SELECT @@GLOBAL.version AS v")[0]["v"])
            found = _stands(connection)
            if wrong := _wrong(found, gtid, before, after):
                raise DrillError("DRILL_BACKUP_UNVERIFIED", f"a server starts on it, but {wrong}")
            terms = connection.run(deadline, "SELECT COUNT(*) AS n FROM failoverd.journal")[0]["n"]
            if not terms:
                raise DrillError("DRILL_BACKUP_UNVERIFIED", "a server starts on it, and knows of no term")
            rows = 0
            for number, (schema, name) in enumerate(sorted(found.tables), 1):
                self._tell({"table": f"{schema}.{name}", "number": number, "of": len(found.tables)})
                rows += _read(connection, deadline, schema, name)
        return version, len(found.tables), rows

    def _let_go(self) -> None:
        """Keep the newest ones, and the full ones that they lie on."""
        kept = self._kept()
        newest = kept[-self._config.drill.backup.keep :]
        needed = {_manifest(place)["base"] for place in newest} | {place.name for place in newest}
        for place in kept:
            if place.name not in needed:
                shutil.rmtree(place)


def checksums(place: Path) -> dict[str, str]:
    """SHA-256 of each file below it, by its name there."""
    found = {}
    for directory, _, names in os.walk(place):
        for name in sorted(names):
            path = Path(directory, name)
            digest = hashlib.sha256()
            with path.open("rb") as file:
                while chunk := file.read(_CHUNK):
                    digest.update(chunk)
            found[str(path.relative_to(place))] = digest.hexdigest()
    return found


def _damaged(place: Path) -> str:
    """Say what is not as its manifest says; "" where all is."""
    wanted: dict[str, str] = _manifest(place)["files"]
    found = checksums(place)
    found.pop(MANIFEST, None)
    apart = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    return f"{apart[0]} and {len(apart) - 1} more" if len(apart) > 1 else "".join(apart)


@dataclass(frozen=True, slots=True)
class _Stands:
    """What a server holds at a moment. Positions by domain."""

    tables: frozenset[tuple[str, str]]
    replicated: dict[str, int]
    written: dict[str, int]


def _stands(connection: Connection) -> _Stands:
    deadline = Deadline(_LIST_MS)
    rows = connection.run(
        deadline,
        "SELECT TABLE_SCHEMA AS s, TABLE_NAME AS t FROM information_schema.TABLES"
        " WHERE TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED')"
        " AND TABLE_SCHEMA NOT IN ('mysql', 'information_schema', 'performance_schema', 'sys')",
    )
    at = connection.run(deadline, "SELECT @@GLOBAL.gtid_slave_pos AS r, @@GLOBAL.gtid_binlog_pos AS w")[0]
    tables = frozenset((str(row["s"]), str(row["t"])) for row in rows)
    return _Stands(tables=tables, replicated=_reached(str(at["r"] or "")), written=_reached(str(at["w"] or "")))


def _reached(gtids: str) -> dict[str, int]:
    parts = (part.strip().split("-") for part in gtids.split(",") if part.strip())
    return {domain: int(number) for domain, _, number in parts}


def _wrong(found: _Stands, gtid: str, before: _Stands, after: _Stands) -> str:
    """Say what cannot be of a backup made between two moments; "" where all can."""
    missing = (before.tables & after.tables) - found.tables
    if missing:
        return f"lacks {len(missing)} tables: {'.'.join(min(missing))} …"
    foreign = found.tables - before.tables - after.tables
    if foreign:
        return f"has {len(foreign)} tables that the database had not: {'.'.join(min(foreign))} …"
    for what, position, first, last in (
        ("says that it is", _reached(gtid), before.written, after.written),
        ("is", found.replicated, before.replicated, after.replicated),
    ):
        for domain in first.keys() | last.keys() | position.keys():
            at = position.get(domain, 0)
            if not first.get(domain, 0) <= at <= last.get(domain, 0):
                between = f"{first.get(domain, 0)} and {last.get(domain, 0)}"
                return f"{what} at transaction {at} of domain {domain}, and the database was between {between}"
    return ""


def _read(connection: Connection, deadline: Deadline, schema: str, name: str) -> int:
    """Have every row and every index of a table read; return how many rows it has."""
    table = ".".join("`" + word.replace("`", "``") + "`" for word in (schema, name))
    for said in connection.run(deadline, f"CHECK TABLE {table}"):
        kind, text = str(said["Msg_type"]).lower(), str(said["Msg_text"])
        if kind in {"error", "warning"} or (kind == "status" and text not in _SOUND):
            raise DrillError("DRILL_BACKUP_UNVERIFIED", f"a server starts on it, and {schema}.{name} is broken: {text}")
    return int(connection.run(deadline, f"SELECT COUNT(*) AS n FROM {table}")[0]["n"])  # noqa: S608 - names, quoted


def _manifest(place: Path) -> dict[str, Any]:
    value = json.loads((place / MANIFEST).read_text())
    if not isinstance(value, dict):
        raise DrillError("DRILL_BACKUP_FAILED", f"{place / MANIFEST} is no manifest")
    return value


def _size(place: Path | None) -> int:
    if place is None:
        return 0
    return sum(path.lstat().st_size for path in place.rglob("*") if path.is_file())
