"""Why replication stands still, and whether starting it again can help.

The server's own number says it, and for 1236 (MySQL: 13114) its text. Two kinds of cause: those that pass, where FOLLOW
starts the thread again at each retry and loses nothing by it; and those in the data itself, where the same event fails
the same way for ever. The second kind is never started again by failoverd, and never skipped: only a rebuild ends it,
or a person who has put it right and starts the thread by hand.
"""

from __future__ import annotations

from dataclasses import dataclass

from failoverd.core.model import MORE_THAN_SOURCE, UNKNOWN_TO_SOURCE, Replication, Thread

CODES = {
    "REPL_NETWORK": "the node's replication does not reach the primary",
    "REPL_CREDENTIALS": "the primary refuses the replication account",
    "REPL_PURGED": "the primary no longer has what the node needs next",
    "REPL_DIVERGED": "the node's data differ from the primary's",
    "REPL_STORAGE": "the node's replication cannot write",
    "REPL_LOCKED": "the node's replication waited for a lock for too long",
    "REPL_OTHER": "the node's replication stopped for another reason",
}

# Of either thread. A number that is not here may pass: it is tried again, under an alarm.
_NUMBERS = {
    **dict.fromkeys((1129, 1130, 1158, 1159, 1160, 1161, 2002, 2003, 2005, 2006, 2013, 2026), "REPL_NETWORK"),
    **dict.fromkeys((1044, 1045, 1142, 1227, 1698), "REPL_CREDENTIALS"),
    # Rows or objects that should be there and are not, or the other way round; 1950 is the same number used twice.
    **dict.fromkeys((1007, 1008, 1032, 1050, 1051, 1054, 1060, 1061, 1062, 1091, 1146), "REPL_DIVERGED"),
    **dict.fromkeys((1396, 1677, 1950), "REPL_DIVERGED"),
    **dict.fromkeys((3, 28, 30, 1021, 1026, 1036, 1114), "REPL_STORAGE"),
    **dict.fromkeys((1205, 1213), "REPL_LOCKED"),
}
_BY_NUMBER = {str(number): code for number, code in _NUMBERS.items()}  # text: a peer's report is not to be trusted
_FATAL_READ = {"1236", "13114"}  # of the source's binary log (MySQL: 13114); many causes, only the text tells which
_PURGED = ("could not find GTID state requested by slave", "have been purged", "purged required binary logs")
_TO_REBUILD = frozenset({"REPL_PURGED", "REPL_DIVERGED"})


@dataclass(frozen=True, slots=True)
class Cause:
    """One thread's trouble. `error` is the server's number and text."""

    code: str
    error: str

    @property
    def to_rebuild(self) -> bool:
        """Starting the thread again cannot help."""
        return self.code in _TO_REBUILD


def causes(replication: Replication) -> tuple[Cause, ...]:
    """What keeps each thread that does not run, the receiver's first.

    A thread that stands still without an error was stopped on purpose: that is no trouble of its own. An error of a
    thread that runs is over.
    """
    threads = ((replication.receiver, replication.receiver_error), (replication.applier, replication.applier_error))
    return tuple(Cause(_code(error), error) for thread, error in threads if thread is not Thread.RUNNING and error)


def to_rebuild(replication: Replication) -> bool:
    """A thread has stopped for a cause that starting it again cannot end."""
    return any(cause.to_rebuild for cause in causes(replication))


def _code(error: str) -> str:
    number, _, _ = error.partition(":")
    if number not in _FATAL_READ:
        return _BY_NUMBER.get(number, "REPL_OTHER")
    if UNKNOWN_TO_SOURCE in error or MORE_THAN_SOURCE in error:
        return "REPL_DIVERGED"
    return "REPL_PURGED" if any(words in error for words in _PURGED) else "REPL_OTHER"
