"""What is answered to those who may not."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Forbidden:
    """403. `who`: the caller, as this node knows it; `role`: what it may, "" nothing; `needs`: what this takes.

    `key`: the key of the configuration that would give it.
    """

    api: str = "v1"
    code: str = "ACCESS_DENIED"
    reason: str
    who: str
    role: str
    needs: str
    key: str
