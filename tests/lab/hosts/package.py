"""The Debian package of the tree, built once for each state of what goes into it; and the release after it."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from . import layout
from .layers import digest
from .shell import LabError, run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BUILD = layout.TREE / "systemd/debian/build"
PARTS = ("pyproject.toml", "README.md", "CHANGELOG.md", "failoverd", "config", "runbooks", "systemd")
NEWER = "0.1.1"
_KEPT = 2


def package(say: Callable[[str], None]) -> Path:
    """Give the .deb as `systemd/debian/build` makes it; 40 s where the tree has changed.

    Not a layer: it may be built while a lab that runs clears what a killed one has left half-built.
    """
    key = digest(*(part for name in PARTS for part in _content(layout.TREE / name)))
    made = layout.CACHE / f"package-{key}.deb"
    if not made.exists():
        say("building the Debian package (once)")
        layout.CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="package-", dir=layout.CACHE) as place:
            done = subprocess.run([BUILD, "--output", place], capture_output=True, text=True, check=False, timeout=400)
            if done.returncode != 0:
                raise LabError(f"the package was not built:\n{done.stderr[-3000:]}")
            (deb,) = Path(place).glob("failoverd_*.deb")
            deb.rename(made)
        for old in sorted(layout.CACHE.glob("package-*.deb"), key=lambda path: path.stat().st_mtime)[:-_KEPT]:
            old.unlink(missing_ok=True)
    return made


def newer(deb: Path, place: Path) -> Path:
    """Make the release after this one: the same package, whose version and whose program's own word for it are NEWER.

    Not built anew, which would take half a minute: one file differs, as in a small release.
    """
    root = place / "root"
    run("dpkg-deb", "--raw-extract", str(deb), str(root), timeout_s=60)
    control = root / "DEBIAN/control"
    old = next(line for line in control.read_text().splitlines() if line.startswith("Version: "))
    control.write_text(control.read_text().replace(old, f"Version: {NEWER}"))
    (program,) = root.glob("opt/failoverd/lib/python3*/site-packages/failoverd/__init__.py")
    word = f'__version__ = "{old.removeprefix("Version: ")}"'
    if word not in program.read_text():
        raise LabError(f"{program.name} has no {word}")
    program.write_text(program.read_text().replace(word, f'__version__ = "{NEWER}"'))
    # Of another size and time than the one that was compiled: Python reads the source.
    made = place / f"failoverd_{NEWER}.deb"
    run("dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "--build", str(root), str(made), timeout_s=60)
    shutil.rmtree(root)
    return made


def _content(path: Path) -> Iterator[object]:
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    for file in files:
        if file.is_file() and "__pycache__" not in file.parts:
            yield str(file.relative_to(layout.TREE))
            yield file
