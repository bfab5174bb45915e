"""What a look at this host gives: something, or why not."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Found:
    """In words, and as plain JSON. `bad`: an operator should look at it."""

    words: str
    detail: dict[str, object] = field(default_factory=dict)
    bad: bool = False


class UnknownError(Exception):
    """It cannot be known here; the text says why."""


def refused(error: OSError, what: str) -> UnknownError:
    """An error of the system, as the reason why something is not known."""
    return UnknownError("needs root" if isinstance(error, PermissionError) else f"{what}: {error.strerror or error}")
