"""A journal in a directory, as journald would have written it."""

from __future__ import annotations

import subprocess
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

REMOTE = "/lib/systemd/systemd-journal-remote"  # Debian: systemd-journal-remote; it writes a journal from a text


class Written:
    """A journal of its own. `write` is what journald would have written for a unit."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._files = directory / ("cd" * 16)  # journalctl looks into directories that are named like a machine
        self._files.mkdir()
        self._number = 0

    @property
    def source(self) -> tuple[str, ...]:
        """For journalctl."""
        return (f"--directory={self.directory}",)

    def write(self, *lines: tuple[str, str, str | bytes], ago_s: float = 0) -> None:
        """(unit, identifier, message)."""
        entries = []
        for unit, identifier, message in lines:
            self._number += 1
            text = message.encode() if isinstance(message, str) else message
            us = int((time.time() - ago_s) * 1_000_000) + self._number
            entries.append(
                f"__REALTIME_TIMESTAMP={us}\n__MONOTONIC_TIMESTAMP={time.monotonic_ns() // 1000}\n"
                f"_BOOT_ID={'ab' * 16}\n_SYSTEMD_UNIT={unit}\nSYSLOG_IDENTIFIER={identifier}\nMESSAGE\n".encode()
                + len(text).to_bytes(8, "little")
                + text
                + b"\n\n"
            )
        command = [REMOTE, f"--output={self._files}/system.journal", "--split-mode=none", "-"]
        subprocess.run(command, input=b"".join(entries), check=True, capture_output=True)
