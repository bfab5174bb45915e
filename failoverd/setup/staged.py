"""A configuration, read by the real loader before it is put in place: with its files, but in a directory of its own."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from failoverd.config import ConfigError, load
from failoverd.setup.files import File, put

if TYPE_CHECKING:
    from collections.abc import Iterable

    from failoverd.config import Config


def check(files: Iterable[File], directory: Path, node: str) -> Config:
    """Read `directory/failoverd.yaml` of `files` as `node` would.

    Raises ValueError, in the words of the loader and with the final paths.
    """
    with tempfile.TemporaryDirectory(prefix="failoverd-setup-") as made:  # mode 0700
        stage = Path(made)
        below = [file for file in files if file.path.is_relative_to(directory)]
        put(_moved(file, directory, stage) for file in below)
        try:
            return load(stage / "failoverd.yaml", node)
        except ConfigError as error:
            raise ValueError(str(error).replace(str(stage), str(directory))) from None


def _moved(file: File, directory: Path, stage: Path) -> File:
    content = file.content
    if file.path == directory / "failoverd.yaml":
        content = content.replace(f"{directory}/".encode(), f"{stage}/".encode())
    return File(stage / file.path.relative_to(directory), content, file.secret)
