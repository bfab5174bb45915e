"""Small helpers that write files into a root that does not run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import layout

if TYPE_CHECKING:
    from pathlib import Path


def render(name: str, **values: str) -> str:
    """Read a file of tests/lab/files and put the values where it says @NAME@."""
    text = (layout.FILES / name).read_text()
    for key, value in values.items():
        text = text.replace(f"@{key}@", value)
    return text


def write(path: Path, text: str, *, mode: int = 0o644) -> None:
    """Write a file and the directories above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=mode)
    path.chmod(mode)
    path.write_text(text)


def enable(root: Path, unit: str, target: str = "multi-user.target", *, where: str = "/etc/systemd/system") -> None:
    """Enable a unit in a root that does not run, as `systemctl enable` would."""
    wants = root / f"etc/systemd/system/{target}.wants/{unit}"
    wants.parent.mkdir(parents=True, exist_ok=True)
    wants.unlink(missing_ok=True)
    wants.symlink_to(f"{where}/{unit}")
