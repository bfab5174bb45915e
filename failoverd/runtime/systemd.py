"""What failoverd tells systemd: ready, alive, what it is at, going down. The protocol is sd_notify(3).

One datagram a message to the socket that systemd names in NOTIFY_SOCKET; without it nothing is sent. Sending never
waits: a systemd that does not read must not stand in the lease's way, and a lost WATCHDOG=1 is followed by the next.
"""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class Notifier:
    """Speaks to the service manager named in `environment`, or to nobody. Each method says whether it was sent."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        name = environment.get("NOTIFY_SOCKET", "")
        self._address = f"\0{name[1:]}" if name.startswith("@") else name  # @: Linux's abstract namespace
        self._watchdog_ms: int | None = None
        with suppress(ValueError):
            if int(environment.get("WATCHDOG_PID") or os.getpid()) == os.getpid():
                self._watchdog_ms = int(environment.get("WATCHDOG_USEC", "")) // 1000

    @property
    def watchdog_interval_ms(self) -> int | None:
        """How often to call `watchdog`: a third of what systemd waits for it. None when it does not."""
        return max(self._watchdog_ms // 3, 1) if self._watchdog_ms else None

    def ready(self, status: str = "") -> bool:
        """Start-up is over, or a reload is."""
        return self._send("READY=1", *_status(status))

    def status(self, text: str) -> bool:
        """Tell what `systemctl status` shows."""
        return self._send(*_status(text))

    def watchdog(self) -> bool:
        """Say that the loop turns."""
        return self._send("WATCHDOG=1")

    def reloading(self) -> bool:
        """Say that a reload begins; `ready` ends it."""
        return self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self, status: str = "") -> bool:
        """Say that the end begins."""
        return self._send("STOPPING=1", *_status(status))

    def _send(self, *lines: str) -> bool:
        if not self._address:
            return False
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.settimeout(0)
                sender.sendto("\n".join(lines).encode(errors="replace"), self._address)
        except (OSError, ValueError):
            return False  # a name too long, nobody there, or a full socket: failoverd goes on without systemd
        return True


def _status(text: str) -> list[str]:
    return [f"STATUS={' '.join(text.split())}"] if text else []
