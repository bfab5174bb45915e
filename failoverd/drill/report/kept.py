"""report.json of any version of failoverd, as this one reads it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from failoverd.drill.model import Report, load

if TYPE_CHECKING:
    from pathlib import Path

API = "v1"
LARGEST = 1e18  # of a figure: milliseconds of the wall clock have 13 digits, and bytes of a large site 16


class UnreadableError(Exception):
    """It is no report that this version could read; the text says why."""


def _figure(digits: str) -> float:
    """One of the report's. Raises ValueError for what is none, so that nobody has to draw or add it up."""
    if not abs(figure := float(digits)) < LARGEST:
        raise ValueError(f"a figure of {digits[:20]}")
    return figure


def read(path: Path) -> Report:
    """Read one. Fields that an earlier version did not write have their defaults; those of a later one are left."""
    try:
        body = path.read_bytes()
        api = json.loads(body, parse_int=_figure, parse_float=_figure, parse_constant=_figure).get("api")
    except OSError as error:
        raise UnreadableError(f"{path}: {error.strerror}") from error
    except (ValueError, AttributeError, RecursionError) as error:
        raise UnreadableError(f"{path} is no report: {error}") from error
    if api != API:
        raise UnreadableError(f"{path} is of version {api!r}; this failoverd reads {API}: a later one is needed")
    try:
        return load(Report, body, strict=True)
    except ValueError as error:
        raise UnreadableError(f"{path} is no whole report: {error}") from error
