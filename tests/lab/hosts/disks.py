"""Disks of their own for the database of each data node, for the mail store and for etcd, and what can befall a disk.

    STATE/disks           in memory: as quick as a good disk, and no slower for what else this machine writes
    STATE/disks/NAME.img ── ext4 on a loop device ── STATE/disks/NAME/data    NAME: the host's name, `mail`, or
                                                           `etcd-` and a member's name

The lab's hosts live on an overlay, which cannot hang, fill up or become read-only by itself. `lab.up(disks=True)` puts
the data that matters on file systems that can; without it nothing here is mounted, and the lab is as quick as ever.
All of it is done from outside: the way out of a fault never needs the disk that has it.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from . import layout
from .shell import LabError, run

MAIL = "mail"
_SIZE, _ALL = "640M", "3G"
_INODE_EVERY = "4096"  # bytes: mail is many small files
_PLACE = layout.STATE / "disks"
_THROTTLE = Path("/sys/fs/cgroup/blkio/blkio.throttle.write_iops_device")


def data(name: str) -> Path:
    """Where the files of a disk are, seen from outside."""
    return _PLACE / name / "data"


def is_inserted(name: str) -> bool:
    """Tell whether there is such a disk."""
    return os.path.ismount(_PLACE / name)


def insert(name: str, source: Path) -> None:
    """Make the disk with a copy of what is in `source`, owner and all."""
    place, image = _PLACE / name, _PLACE / f"{name}.img"
    if not os.path.ismount(_PLACE):
        _PLACE.mkdir()
        run("mount", "-t", "tmpfs", "-o", f"size={_ALL},mode=0755", "tmpfs", str(_PLACE))
    place.mkdir()
    run("truncate", "--size", _SIZE, str(image))
    run("mkfs.ext4", "-q", "-F", "-m", "0", "-i", _INODE_EVERY, str(image))
    _mount(name)
    run("cp", "-a", str(source), str(data(name)))
    run("sync", "--file-system", str(_PLACE / name))  # what breaks this file system leaves nothing of what waits


def _mount(name: str) -> None:
    run("mount", "-o", "loop,errors=remount-ro", str(_PLACE / f"{name}.img"), str(_PLACE / name))


def hang(name: str) -> None:
    """Let every write block until `well`; reads go on."""
    run("fsfreeze", "--freeze", str(_PLACE / name), timeout_s=20)


def fill(name: str) -> None:
    """Leave no free block."""
    stat = os.statvfs(_PLACE / name)
    filler = _PLACE / name / "filler"
    run("fallocate", "--length", str(stat.f_bavail * stat.f_frsize), str(filler), check=False)
    with filler.open("ab", buffering=0) as file, suppress(OSError):  # what the allocation has left over
        while True:
            file.write(bytes(4096))


def break_read_only(name: str) -> None:
    """Let the file system meet an error of its own and become read-only, as ext4 does with `errors=remount-ro`."""
    trigger = Path("/sys/fs/ext4") / _device(name) / "trigger_fs_error"
    if not trigger.exists():
        raise LabError(f"this kernel has no {trigger}: it cannot be told that a disk fails")
    trigger.write_text("1")


def well(name: str) -> None:
    """End a hang and give the space back."""
    run("fsfreeze", "--unfreeze", str(_PLACE / name), check=False)
    (_PLACE / name / "filler").unlink(missing_ok=True)


def slow(name: str, writes: int) -> None:
    """Let the disk do no more than that many writes a second, until 0; whoever syncs a file waits for several."""
    if not _THROTTLE.exists():
        raise LabError(f"this kernel has no {_THROTTLE}: no disk can be made slow")
    device = Path("/sys/class/block") / _device(name) / "dev"
    _THROTTLE.write_text(f"{device.read_text().strip()} {writes}\n")


def _device(name: str) -> str:
    return Path(run("findmnt", "-n", "-o", "SOURCE", str(_PLACE / name)).stdout.strip()).name


def repair(name: str) -> None:
    """Check the file system and mount it anew, as one that became read-only needs; its host must be off.

    A copy is checked and mounted: the other hosts, booted while it was mounted, keep the broken one in the kernel.
    """
    broken, image = _PLACE / f"{name}.broken", _PLACE / f"{name}.img"
    image.rename(broken)
    run("cp", "--sparse=always", str(broken), str(image))
    run("umount", "--lazy", str(_PLACE / name))
    broken.unlink()
    done = run("e2fsck", "-f", "-y", str(image), check=False, timeout_s=60)
    if done.returncode > 1:  # 1: errors were corrected
        raise LabError(f"the disk of {name} cannot be repaired: {done.stdout.strip()}")
    _mount(name)


def release_all() -> None:
    """End every hang and every slowness: what waits for a hung disk cannot even be killed."""
    if _PLACE.exists():
        for place in _PLACE.iterdir():
            if place.is_dir() and os.path.ismount(place):
                run("fsfreeze", "--unfreeze", str(place), check=False)
                if _THROTTLE.exists():
                    slow(place.name, 0)
