"""The node's own clock: CLOCK_BOOTTIME, which nobody sets and which goes on while the machine sleeps."""

from __future__ import annotations

import time


class BootClock:
    """`ports.Clock` of the kernel."""

    def now_ms(self) -> int:
        """Milliseconds since boot, suspended time included."""
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000
