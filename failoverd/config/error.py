"""How the configuration says no: one message, always in the same form.

FILE:LINE: key.path: value 'x': what is wrong; allowed: what would be right

The parts that do not exist (a file that cannot be read has no line, a missing key no value) are left out.
"""

from pathlib import Path

from pydantic_core import PydanticCustomError

LONGEST_SHOWN = 80  # characters of a value: a message stays one line


class ConfigError(Exception):
    """The configuration cannot be used. `str()` is the one message; `path`, `line` and `key` say where."""

    def __init__(
        self,
        path: Path,
        problem: str,
        *,
        allowed: str = "",
        line: int | None = None,
        key: str = "",
        value: str | None = None,
    ) -> None:
        self.path = path
        self.line = line
        self.key = key
        place = f"{path}:" if line is None else f"{path}:{line}:"
        parts = [place]
        if key:
            parts.append(f"{key}:")
        if value is not None:
            parts.append(f"value {shown(value)}:")
        parts.append(f"{problem}; allowed: {allowed}" if allowed else problem)
        super().__init__(" ".join(parts))


def shown(value: str) -> str:
    """Quote a value for one line of a terminal: no control characters, not longer than reads well."""
    return repr(value if len(value) <= LONGEST_SHOWN else value[: LONGEST_SHOWN - 1] + "…")


def wrong(problem: str, allowed: str, *, key: tuple[str | int, ...] = (), hide: bool = False) -> PydanticCustomError:
    """Return what a validator raises. `key` places it elsewhere than at the value looked at; `hide` shows no value."""
    return PydanticCustomError("failoverd", "wrong", {"problem": problem, "allowed": allowed, "key": key, "hide": hide})
