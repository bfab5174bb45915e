"""report.json of any version of failoverd, as this one reads it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from failoverd.drill.model import Report, load

if TYPE_CHECKING:
    from pathlib import Path

API = "v1"


class UnreadableError(Exception):
    """It is no report that this version could read; the text says why."""


def read(path: Path) -> Report:
    """Read one. Fields that an earlier version did not write have their defaults; those of a later one are left."""
    try:
        body = path.read_bytes()
        api = json.loads(body).get("api")
    except OSError as error:
        raise UnreadableError(f"{path}: {error.strerror}") from error
    except (ValueError, AttributeError, RecursionError) as error:
        raise UnreadableError(f"{path} is no report: {error}") from error
    if api != API:
        raise UnreadableError(f"{path} is of version {api!r}; this failoverd reads {API}: a later one is needed")
    try:
        return load(Report, body)
    except ValueError as error:
        raise UnreadableError(f"{path} is no whole report: {error}") from error
