"""The backup before a drill, on a replica: made, checksummed, and shown to be one by starting a server on a copy of it.

    mariadb-backup ──> .ID.part ── every file's SHA-256 ──> manifest ──> ID          kept, as it was made
                                                                         │ copy (reflinks where there are)
                                  scratch server, in private <── prepare ┴──> .ID.trial      removed

An incremental one lies on the newest full one that is kept, and is tried together with it. What has not been started is
no backup: it is not kept under its name.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from failoverd.databases.connection import Failure
from failoverd.drill import DrillError
from failoverd.drill.model import BackupDone
from failoverd.rebuild import RebuildError, local, private, programs
from failoverd.rebuild.journal import sync_file_system

if TYPE_CHECKING:
    from collections.abc import Callable

    from failoverd.config import Config
    from failoverd.rebuild.programs import Programs

MANIFEST = "failoverd-manifest.json"
_CHUNK = 1 << 20
_SPARE = 1.2
_SPARE_BYTES = 256 << 20
_ASK_MS = 3_600_000


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
        if not full:
            self._tell({"text": f"{self._place} has no full backup for an incremental one to lie on: it is a full one"})
        return full[-1] if full else None

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
        self._copy_out(base)
        files = checksums(self._part)
        manifest = {"kind": "incremental" if base else "full", "base": base.name if base else "", "files": files}
        text = json.dumps(manifest, indent=1, sort_keys=True)
        (self._part / MANIFEST).write_text(text)
        sync_file_system(self._place)
        made = time.monotonic()

        self._tell({"text": "it is prepared, on a copy"})
        whole = self._copy(base or self._part)
        try:
            gtid = private.prepare(whole, self._tools)
            if base is not None:
                gtid = self._apply(whole)
            private.own(whole, self._config.rebuild.data)
            prepared = time.monotonic()
            self._tell({"text": "a server starts on it"})
            server, tables = self._start(whole)
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
        )

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

    def _start(self, whole: Path) -> tuple[str, int]:
        """Start a server on it and let it answer for every table. Return its version and how many there are."""
        database = self._config.database
        with (
            private.served(whole, self._trial, self._config, self._tools) as path,
            local.opened(path, database, _ASK_MS) as (connection, deadline),
        ):
            version = str(connection.run(deadline, "SELECT @@GLOBAL.version AS v")[0]["v"])
            terms = connection.run(deadline, "SELECT COUNT(*) AS n FROM failoverd.journal")[0]["n"]
            if not terms:
                raise DrillError("DRILL_BACKUP_UNVERIFIED", "a server starts on it, and knows of no term")
            # Opening each table is what finds one that is missing or broken; its rows are read where we may.
            tables = connection.run(
                deadline,
                "SELECT TABLE_SCHEMA AS s, TABLE_NAME AS t, TABLE_ROWS AS r, TABLE_COMMENT AS c"
                " FROM information_schema.TABLES WHERE TABLE_TYPE = 'BASE TABLE'"
                " AND TABLE_SCHEMA NOT IN ('mysql', 'information_schema', 'performance_schema', 'sys')",
            )
            broken = [f"{table['s']}.{table['t']}: {table['c']}" for table in tables if table["r"] is None]
            if broken:
                raise DrillError("DRILL_BACKUP_UNVERIFIED", f"a server starts on it, and cannot open {broken[0]}")
        return version, len(tables)

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


def _manifest(place: Path) -> dict[str, Any]:
    value = json.loads((place / MANIFEST).read_text())
    if not isinstance(value, dict):
        raise DrillError("DRILL_BACKUP_FAILED", f"{place / MANIFEST} is no manifest")
    return value


def _size(place: Path | None) -> int:
    if place is None:
        return 0
    return sum(path.lstat().st_size for path in place.rglob("*") if path.is_file())
