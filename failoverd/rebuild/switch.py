"""The new data take the old ones' place: file by file, each by one rename, in an order that can be resumed anywhere.

    /var/lib/mysql              stays the same directory: it may be a mount point, and keeps owner, mode and labels
    /var/lib/mysql.rebuild/     the work directory: new/ and old/; in the data directory where that is a mount point

A rename that has happened is simply not found again. While `hold` is there, systemd does not start the server.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from typing import TYPE_CHECKING

from failoverd.durable import sync_directory
from failoverd.rebuild import RebuildError

if TYPE_CHECKING:
    from pathlib import Path

INSIDE = ".failoverd-rebuild"
KEPT = "kept"
# Also what the daemon's disk probe leaves there each second: a new disk is empty all the same, and a file that comes
# and goes between a look and a rename must not hold up the switch.
_OURS = ".failoverd-"
_BY_PARTS = (errno.EXDEV, errno.ENOTEMPTY, errno.EEXIST)


def work_directory(data: Path) -> Path:
    """Return where the work is done: on the data directory's own file system. Raises RebuildError."""
    try:
        if not data.is_dir():
            raise RebuildError("REBUILD_DATA", f"{data} is no directory")
        beside = data.resolve().parent
        if os.path.ismount(data) or beside.stat().st_dev != data.stat().st_dev:
            return data / INSIDE
    except OSError as error:
        raise RebuildError("REBUILD_DATA", f"{data}: {error.strerror}") from None
    return beside / f"{data.resolve().name}.rebuild"


def contents(data: Path) -> list[Path]:
    """Return what lies in the data directory, but for what is not the server's."""
    names = (path for path in data.iterdir() if path.name != "lost+found")
    return sorted(path for path in names if not path.name.startswith(_OURS))


def server_runs(data: Path) -> bool:
    """Whether a server has these data open, however it was started: InnoDB locks its first file."""
    try:
        descriptor = os.open(data / "ibdata1", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return True
    finally:
        os.close(descriptor)
    return False


def begin_anew(work: Path, data: Path) -> Path:
    """Empty the work directory and return the one to receive into. Raises RebuildError.

    Without a journal, old files in it are what a rebuild was told to keep, and has marked so. Others are never thrown
    away: then a journal is missing, and they may be all there is.
    """
    if (work / "old").exists() and not (work / KEPT).exists():
        words = f"{work / 'old'} is of a rebuild that did not end, and no journal says how far it came"
        raise RebuildError("REBUILD_DATA", f"{words}: put the files back, or remove them")
    if work.exists():
        shutil.rmtree(work)
    wanted = data.stat()
    work.mkdir(mode=0o700)
    (work / "new").mkdir(mode=0o700)
    for path in (work, work / "new"):
        os.chown(path, wanted.st_uid, wanted.st_gid)
    return work / "new"


def keep_old(work: Path) -> None:
    """The old files stay until the next rebuild."""
    (work / KEPT).touch()
    sync_directory(work)


def move_out(data: Path, work: Path) -> None:
    """Take every old file out. Can be repeated until the first new one has moved in."""
    (work / "old").mkdir(mode=0o700, exist_ok=True)
    _move(contents(data), work / "old", data)


def move_in(data: Path, work: Path) -> None:
    """Put every new file in. Can be repeated."""
    _move(sorted((work / "new").iterdir()), data, work / "new")


def _move(paths: list[Path], there: Path, here: Path) -> None:
    for path in paths:
        try:
            path.rename(there / path.name)
        except OSError as error:
            if error.errno not in _BY_PARTS or not path.is_dir():
                raise
            _move_by_parts(path, there / path.name)
    sync_directory(there)
    sync_directory(here)


def _move_by_parts(directory: Path, there: Path) -> None:
    """An overlay, such as a container's root, cannot rename a directory that its image brought: what is in it can go.

    Interrupted, it is found again half empty beside its half full successor, and goes on.
    """
    was = directory.stat()
    there.mkdir(mode=0o700, exist_ok=True)
    os.chown(there, was.st_uid, was.st_gid)
    there.chmod(was.st_mode & 0o7777)
    _move(sorted(directory.iterdir()), there, directory)
    directory.rmdir()
