"""The node's own clock: CLOCK_BOOTTIME, which nobody sets and which goes on while the machine sleeps.

Where people name a moment, the wall clock is asked as well, by what it was at this clock's zero.
"""

from __future__ import annotations

import time


class BootClock:
    """`ports.Clock` of the kernel."""

    def now_ms(self) -> int:
        """Milliseconds since boot, suspended time included."""
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


def epoch_ms() -> int:
    """What the wall clock was when CLOCK_BOOTTIME was 0, in milliseconds since 1970; another one once it is set.

    Whoever stands still between the two readings gets a wrong answer, which nothing but an end or a due time rests on.
    """
    return (time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)) // 1_000_000
