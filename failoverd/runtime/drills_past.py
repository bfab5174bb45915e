"""What this node's disk says of past drills: when the newest passed, and whether a due one did not begin since.

Its own drills and those that another node conducted: each node keeps the states of all (`drill.node.keep_report`). All
of it blocks for the disk; the daemon asks in a thread (drills_due.py), the coordinator where it may wait.

What cannot be read is no evidence of a drill that passed: it is as if it had not been there.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from failoverd.drill_files import LAST, STATE, WANTED

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ID = re.compile(r"[0-9]{8}-[0-9]{6}-[a-z-]{1,40}")


@dataclass(frozen=True, slots=True)
class Past:
    """`passed`: when the newest that passed ended. `skipped`: of the due one that did not begin, and "" if none."""

    passed: datetime | None = None
    skipped: str = ""


def names(place: Path) -> list[str]:
    """The drills that are known in `place`, newest first: their names begin with their time."""
    try:
        return sorted((path.name for path in place.iterdir() if ID.fullmatch(path.name)), reverse=True)
    except FileNotFoundError:
        return []


def read(place: Path) -> Past:
    """Look at all of them. Raises OSError."""
    passed, skipped, began = _moment(_document(place / LAST)), "", False
    for state in _states(place):
        outcome, asked = state.get("outcome"), state.get("asked")
        if outcome == "passed" and (moment := _moment(state)) is not None:
            passed = moment if passed is None else max(passed, moment)
            break  # older ones passed earlier, and what was skipped before it is over
        if outcome != "skipped":
            began = True
        elif not began and not skipped and isinstance(asked, dict) and asked.get("scheduled"):
            skipped = f"{asked.get('id')}: {state.get('code')}: {state.get('reason')}"
    return Past(passed, skipped)


def wanted_since(place: Path, now: datetime) -> datetime:
    """Since when drills are wanted here: noted when it is first asked for. Raises OSError."""
    with suppress(FileNotFoundError, ValueError):  # one that is half written is written again
        return datetime.fromisoformat((place / WANTED).read_text().strip())
    place.mkdir(mode=0o750, parents=True, exist_ok=True)
    temporary = place / f".{WANTED}.new"
    temporary.write_text(now.isoformat() + "\n")
    temporary.replace(place / WANTED)
    return now


def not_wanted(place: Path) -> None:
    """Forget since when they were wanted: the next schedule begins to count anew. Raises OSError."""
    (place / WANTED).unlink(missing_ok=True)


def _states(place: Path) -> Iterator[dict[str, Any]]:
    for name in names(place):
        if state := _document(place / name / STATE):
            yield state


def _document(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _moment(document: dict[str, Any]) -> datetime | None:
    try:
        moment = datetime.fromisoformat(str(document.get("ended")))
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None  # it could not be compared
