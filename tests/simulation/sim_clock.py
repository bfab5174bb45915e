"""A host's clocks: CLOCK_BOOTTIME with a rate of its own, and a wall clock that somebody may set.

Two hosts' rates differ by no more than the lease's margin allows for (design.md): that is the one thing about time
which the proof assumes. Nothing is assumed of the wall clock but that it is not set back while a thread of failoverd
stands between reading it and the kernel call: see `sim_kernel`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from world import World

MILLION = 1_000_000
WALL_MS = 1_700_000_000_000


class Clock:
    """Implements ports.Clock. `rate` is in millionths of true time."""

    __slots__ = ("_boot_at", "_boot_ms", "_wall_ms", "_world", "rate")

    def __init__(self, world: World, boot_ms: int) -> None:
        self._world = world
        self._boot_ms = boot_ms
        self._boot_at = world.now
        self._wall_ms = WALL_MS
        self.rate = MILLION

    def now_ms(self) -> int:
        """CLOCK_BOOTTIME."""
        return self._boot_ms + (self._world.now - self._boot_at) * self.rate // MILLION

    def wall_ns(self) -> int:
        """The wall clock's nanoseconds, as time.time_ns gives them."""
        return (self._wall_ms + self.now_ms()) * MILLION

    @property
    def epoch_ms(self) -> int:
        """What the wall clock was, or would have been, at 0 of the other."""
        return self._wall_ms

    def set_wall(self, by_ms: int) -> None:
        """Somebody sets the wall clock."""
        self._wall_ms += by_ms

    def reboot(self) -> None:
        """It starts anew; the wall clock is kept by a battery."""
        self._wall_ms += self.now_ms() - 1000
        self._boot_ms, self._boot_at = 1000, self._world.now

    def true_time(self, clock_ms: int) -> int:
        """The first moment of the world at which this clock says `clock_ms`."""
        return self._boot_at - (self._boot_ms - clock_ms) * MILLION // self.rate

    def true_time_of_wall(self, wall_ms: int) -> int:
        """The first moment of the world at which the wall clock says `wall_ms`, if nobody sets it meanwhile."""
        return self.true_time(wall_ms - self._wall_ms)
