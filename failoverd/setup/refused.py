"""How setting up says no: a code, the place, the value found there, what is wrong with it and what is allowed."""

from __future__ import annotations

from failoverd.config.error import shown


class Refused(Exception):  # noqa: N818 - the answer to a question, as `databases.connection.Failure` is
    """Nothing was touched but what `str()` says. `code` has a page in runbooks/codes/."""

    def __init__(self, code: str, place: str, problem: str, *, allowed: str = "", value: str | None = None) -> None:
        self.code = code
        parts = [f"{code}: {place}:"]
        if value is not None:
            parts.append(f"value {shown(value)}:")
        parts.append(f"{problem}; allowed: {allowed}" if allowed else problem)
        super().__init__(" ".join(parts))
