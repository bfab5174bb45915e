"""The hosts' root file system, in layers that are built once and cached outside the checkout.

    source      the tree's failoverd/, unit and configuration, copied anew at every `up`    (STATE/source)
    data-HASH   one directory a host: databases, accounts, certificates, mail settings      (provision.py)
    deps-HASH   /opt/failoverd: a venv with the dependencies of pyproject.toml              (venv.py)
    base-HASH   Debian 12 with systemd, MariaDB, Postfix, Dovecot                           (debian.py)

Each HASH covers what shapes the layer, so that a change builds anew that layer and what stands on it, nothing else.
A layer is built under another name and renamed when it is whole: a killed build leaves no half layer in use.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from . import cgroups, layout
from .shell import LabError, living, run, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_LAYERS_KEPT = 2  # of each kind, the one in use included


def digest(*parts: object) -> str:
    """Hash anything that JSON can hold, and the bytes of files; short, for a directory's name."""
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            total.update(part.name.encode() + b"\0" + part.read_bytes())
        else:
            total.update(json.dumps(part, sort_keys=True, default=str).encode())
        total.update(b"\0")
    return total.hexdigest()[:16]


def clear_half_built() -> None:
    """End and remove what a killed build has left; only for whoever holds the lock on building."""
    cgroups.kill(layout.BUILD_CGROUP)
    wait_for("the last build is gone", lambda: not living(cgroups.processes(layout.BUILD_CGROUP)), 15, every_s=0.01)
    unmount_below(layout.CACHE)
    for path in layout.CACHE.glob("*.partial*"):
        shutil.rmtree(path)
    cgroups.remove(layout.BUILD_CGROUP)


def layer(kind: str, key: str, say: Callable[[str], None], build: Callable[[Path], None]) -> Path:
    """Give the cached layer; build it first where it is not there, and drop the oldest of its kind."""
    place = layout.CACHE / f"{kind}-{key}"
    if not place.exists():
        say(f"building the {kind} layer (once)")
        partial = layout.CACHE / f"{kind}-{key}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True, mode=0o755)
        build(partial)
        partial.rename(place)
    os.utime(place)
    others = sorted(layout.CACHE.glob(f"{kind}-*"), key=lambda path: path.stat().st_mtime, reverse=True)
    for old in others[_LAYERS_KEPT:]:
        shutil.rmtree(old, ignore_errors=True)
    return place


@contextmanager
def overlay(lower: Sequence[Path], upper: Path) -> Iterator[Path]:
    """Mount `upper` over `lower` (topmost first) for a while, to fill it."""
    work = upper.with_name(upper.name + ".work")
    mounted = upper.with_name(upper.name + ".root")
    for path in (work, mounted):
        path.mkdir(exist_ok=True)
    mount_overlay(lower, upper, work, mounted)
    try:
        yield mounted
    finally:
        run("umount", str(mounted))
        mounted.rmdir()
        shutil.rmtree(work)


def unmount_below(place: Path) -> None:
    """Unmount whatever is mounted below a directory, the innermost first."""
    mounted = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for target in reversed(mounted):
        if target.startswith(f"{place}/"):
            run("umount", "--lazy", target)


def mount_overlay(lower: Sequence[Path], upper: Path, work: Path, target: Path) -> None:
    """Mount an overlay; the kernel's own words on failure are of little help, so add what was wanted."""
    layers = ":".join(str(path) for path in lower)
    done = run(
        "mount",
        "-t",
        "overlay",
        "overlay",
        "-o",
        f"lowerdir={layers},upperdir={upper},workdir={work}",
        str(target),
        check=False,
    )
    if done.returncode != 0:
        raise LabError(f"cannot mount an overlay on {target} (is {upper} on an overlay itself?): {done.stderr.strip()}")


def run_in_root(root: Path, script: str, *options: str, timeout_s: float) -> str:
    """Run a shell script in a root with the machine's own network; the container ends with it, mounts and all."""
    name = root.name.replace(".", "-")
    return run(
        *cgroups.joining(
            layout.BUILD_CGROUP,
            [
                "systemd-nspawn",
                "--quiet",
                "--register=no",
                "--keep-unit",
                f"--directory={root}",
                f"--machine=lab-{name}",
                "--as-pid2",
                "--console=pipe",
                "--settings=no",
                "--timezone=off",
                "--link-journal=no",
                *options,
                "/bin/sh",
                "-ec",
                script,
            ],
        ),
        timeout_s=timeout_s,
    ).stdout
