"""How long a data node's database took to be made anew, as its own audit has it.

From `begins`, which is before anything is asked of the donor, to `is home`: the new data are in place and the server
answers. What the node does then, to catch up with what was written meanwhile, is part of the time to home.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hosts import layout
from trials.cluster import audit_of

if TYPE_CHECKING:
    from collections.abc import Iterable


class Rebuilds:
    """Those that began after this was made."""

    def __init__(self) -> None:
        self._tails = [audit_of(host) for host in layout.DATA_NODES]
        for tail in self._tails:
            tail.new()

    def longest_s(self) -> float:
        """Give the time of the one that took longest; -1 where none has come to its end. To be asked once."""
        return max([-1.0, *(took for tail in self._tails for took in took_s(tail.new()))])


def took_s(lines: Iterable[dict[str, object]]) -> list[float]:
    """The time of each rebuild in one node's audit that came home, by the node's own clock."""
    began: dict[object, float] = {}
    found = []
    for line in lines:
        detail = line.get("detail")
        if line.get("kind") != "rebuild" or not isinstance(detail, dict):
            continue
        request, text, at_ms = detail.get("request"), str(line.get("text")), float(str(line.get("boot_ms")))
        if text.startswith("begins"):
            began[request] = at_ms
        elif text.startswith("is home") and request in began:
            found.append(round((at_ms - began.pop(request)) / 1000, 1))
    return found
