"""A process that holds passwords is never dumped."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import ctypes
from failoverd.runtime import host
libc = ctypes.CDLL(None)
before = libc.prctl(3, 0, 0, 0, 0)  # PR_GET_DUMPABLE
host.harden(realtime=False)
print(before, libc.prctl(3, 0, 0, 0, 0))
"""


def test_the_kernel_dumps_nothing_of_it() -> None:
    ended = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=60)
    assert ended.stdout.split() == ["1", "0"]
