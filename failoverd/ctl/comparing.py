"""A file of the operator's choice against what a daemon has in force, as far as that shows it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from failoverd.config import ConfigError, load
from failoverd.config.plain import plain
from failoverd.config.reload import handling, same_everywhere

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def compared(file: Path, shown: dict[str, object]) -> bytes:
    """A ReloadDocument as JSON. `shown`: the daemon's /v1/config."""
    document: dict[str, object] = {"node": shown["node"], "path": str(file), "asked": False, "outcome": "unchanged"}
    try:
        new = plain(load(file, str(shown["node"])))
    except ConfigError as error:
        document |= {"outcome": "refused", "code": "CONFIG_REFUSED", "reason": str(error)}
        return json.dumps(document).encode()
    changes = [
        {
            "key": key,
            "old": json.dumps(old, ensure_ascii=False),
            "new": json.dumps(value, ensure_ascii=False),
            "restart": handling(key),
            "same_everywhere": same_everywhere(key),
        }
        for key, old, value in _differences(shown["values"], new, "")
    ]
    applies = any(not change["restart"] for change in changes)
    return json.dumps(document | {"changes": changes, "outcome": "applied" if applies else "unchanged"}).encode()


def _differences(old: object, new: object, place: str) -> Iterator[tuple[str, object, object]]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in dict.fromkeys([*old, *new]):
            yield from _differences(old.get(key), new.get(key), f"{place}.{key}" if place else str(key))
    elif old != new:
        yield place, old, new
