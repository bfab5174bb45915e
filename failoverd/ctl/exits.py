"""How failoverctl ends. The numbers are an interface: scripts compare with them."""

from __future__ import annotations

from enum import IntEnum

EPILOG = """\b
Exit codes:
  0  done
  1  failed: it was tried and did not work
  2  usage: the command line was not understood
  3  refused: nothing was touched, the codes say why
  4  the daemon cannot be reached
  5  the outcome is not known here yet: it goes on in the daemon, ask `failoverctl status`
  6  warnings only: a failover would work, `failoverctl check` found something worse than it has to be
"""


class Exit(IntEnum):
    """See EPILOG."""

    DONE = 0
    FAILED = 1
    USAGE = 2  # click's own
    REFUSED = 3
    UNREACHABLE = 4
    UNCLEAR = 5
    WARNINGS = 6


class UnreachableError(Exception):
    """No daemon answered, and nothing was asked of it that it could have begun."""


class ForbiddenError(Exception):
    """The daemon does not let this caller do that. `code` has a page, `reason` says who it is and what is missing."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code, self.reason = code, reason


class UnclearError(Exception):
    """Something was asked, and whether it was taken is not known."""
