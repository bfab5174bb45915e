"""The switch of the data on an overlay, as below a container's root: what its image brought cannot be renamed there."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from failoverd.rebuild import switch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """A mounted overlay, whose lower layer has a server's data."""
    subprocess.run(["mount", "-t", "tmpfs", "layers", str(tmp_path)], check=True)
    try:
        lower, merged = tmp_path / "lower", tmp_path / "merged"
        for name in ("upper", "work", "merged"):
            (tmp_path / name).mkdir()
        for name in ("ibdata1", "app/writes.ibd", "app/writes.frm", "mysql/db.opt"):
            put(lower / "mysql" / name, f"old {name}")
        layers = f"lowerdir={lower},upperdir={tmp_path / 'upper'},workdir={tmp_path / 'work'},redirect_dir=off"
        subprocess.run(["mount", "-t", "overlay", "root", "-o", layers, str(merged)], check=True)
        yield merged
        subprocess.run(["umount", str(merged)], check=True)
    finally:
        subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


def files(place: Path) -> dict[str, str]:
    return {str(path.relative_to(place)): path.read_text() for path in place.rglob("*") if path.is_file()}


@pytest.mark.root
@pytest.mark.parametrize("interrupted", [False, True])
def test_what_the_image_brought_is_moved_out_by_parts(root: Path, *, interrupted: bool) -> None:
    data = root / "mysql"
    old = files(data)
    work = switch.work_directory(data)
    new = switch.begin_anew(work, data)
    put(new / "ibdata1", "new")
    put(new / "app/writes.ibd", "new")
    if interrupted:  # in the middle of a directory
        (work / "old/app").mkdir(parents=True)
        (data / "app/writes.frm").rename(work / "old/app/writes.frm")
    switch.move_out(data, work)
    assert switch.contents(data) == []
    assert files(work / "old") == old
    switch.move_in(data, work)
    assert files(data) == {"ibdata1": "new", "app/writes.ibd": "new"}
    assert files(new) == {}
