"""How much one client may ask of a server: a bucket of tokens for each, refilled as time goes on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rate:
    """`a_second` for as long as one likes, and `burst` at once after a rest."""

    a_second: float
    burst: int


class Buckets:
    """A bucket for each name. Names are a bounded number: whoever is forgotten had a full one, or makes room."""

    KEPT = 1024

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._left: dict[str, tuple[float, float]] = {}  # name -> (tokens, when), newest use last

    def take(self, name: str, now_s: float) -> bool:
        """Whether one more is within the rate. One that is not costs nothing further."""
        left, since = self._left.pop(name, (float(self._rate.burst), now_s))
        left = min(self._rate.burst, left + (now_s - since) * self._rate.a_second)
        within = left >= 1
        self._left[name] = (left - 1 if within else left, now_s)
        if len(self._left) > self.KEPT:
            del self._left[next(iter(self._left))]
        return within
