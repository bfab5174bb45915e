"""A connection to the local server that never waits longer than its deadline, whatever the server does.

pymysql's own calls send and wait in one. Here they are apart, so that a caller can look after other things meanwhile,
stop waiting, or leave the answer for later:

    send ──> wait (bounded) ──> finish
                └── no answer: the caller decides; the statement goes on in the server

The bound is a poll of the socket, not a limit that the server would have to keep. `shut` ends the wait from any other
thread.
"""

from __future__ import annotations

import contextlib
import re
import select
import socket
import struct
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pymysql
from pymysql.constants import CLIENT, COMMAND, CR, ER

from failoverd.core.model import Outcome
from failoverd.hiding import hidden

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    _Base = pymysql.connections.Connection[pymysql.cursors.Cursor]
else:  # generic in the stubs only
    _Base = pymysql.connections.Connection

_NEAR = re.compile(r" near '.*", re.DOTALL)  # as both servers tell where they did not understand
_UCRED = struct.Struct("=iII")  # struct ucred {pid, uid, gid}
STARTED = 19  # of the fields of /proc/PID/stat behind the name: clock ticks since boot
SHORTEST_S = 0.001  # pymysql takes no time-out of 0

# The server's error numbers that have a code of their own.
_CODES: dict[int, tuple[str, Outcome]] = {
    ER.ACCESS_DENIED_ERROR: ("DB_AUTH", Outcome.FAILED),
    1698: ("DB_AUTH", Outcome.FAILED),  # ER_ACCESS_DENIED_NO_PASSWORD_ERROR
    ER.CON_COUNT_ERROR: ("DB_CONNECTIONS", Outcome.FAILED),
    ER.SPECIFIC_ACCESS_DENIED_ERROR: ("DB_DENIED", Outcome.FAILED),
    ER.TABLEACCESS_DENIED_ERROR: ("DB_DENIED", Outcome.FAILED),
    ER.COLUMNACCESS_DENIED_ERROR: ("DB_DENIED", Outcome.FAILED),
    ER.DBACCESS_DENIED_ERROR: ("DB_DENIED", Outcome.FAILED),
    ER.KILL_DENIED_ERROR: ("DB_DENIED", Outcome.FAILED),
    ER.NO_SUCH_TABLE: ("DB_SCHEMA", Outcome.FAILED),
    ER.BAD_DB_ERROR: ("DB_SCHEMA", Outcome.FAILED),
    ER.OPTION_PREVENTS_STATEMENT: ("DB_READ_ONLY", Outcome.FAILED),
    1969: ("DB_TIMEOUT", Outcome.FAILED),  # ER_STATEMENT_TIMEOUT: the server itself gave up
    ER.LOCK_WAIT_TIMEOUT: ("DB_TIMEOUT", Outcome.FAILED),
    ER.SERVER_SHUTDOWN: ("DB_LOST", Outcome.UNKNOWN),
    1927: ("DB_LOST", Outcome.UNKNOWN),  # ER_CONNECTION_KILLED: MariaDB
    3169: ("DB_LOST", Outcome.UNKNOWN),  # ER_SESSION_WAS_KILLED: MySQL
    CR.CR_SERVER_LOST: ("DB_LOST", Outcome.UNKNOWN),
    CR.CR_SERVER_GONE_ERROR: ("DB_LOST", Outcome.UNKNOWN),
}


# pymysql takes packets apart without looking whether they are whole; RuntimeError: a file of ours was asked for.
_NO_ANSWER = (
    struct.error,
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    AssertionError,
    ArithmeticError,  # decimal's among them
    RuntimeError,
    NameError,  # a value that it would have read out of one
)


@cache
def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text()


class Failure(Exception):  # noqa: N818 - it carries a result, and ends nothing but the sequence it is raised in
    """A step of a sequence that did not succeed."""

    def __init__(self, code: str, reason: str, outcome: Outcome = Outcome.FAILED, number: int = 0) -> None:
        super().__init__(f"{code}: {reason}")
        self.number = number  # the server's own, where it is an error of the server
        self.code = code
        self.reason = reason
        self.outcome = outcome


@contextlib.contextmanager
def understood() -> Iterator[None]:
    """Take an answer apart: what is not there, or is of another kind, is a Failure of the server, and no bug here."""
    try:
        yield
    except (ArithmeticError, LookupError, TypeError, ValueError, AttributeError) as error:
        words = f"an answer of the server is not as expected: {type(error).__name__}: {error}"
        raise Failure("DB_SQL", words) from None


class Deadline:
    """A point of this process's monotonic clock."""

    def __init__(self, after_ms: int) -> None:
        self.after_ms = after_ms
        self._end = time.monotonic() + after_ms / 1000

    @property
    def left_s(self) -> float:
        """Seconds left, never negative."""
        return max(self._end - time.monotonic(), 0.0)

    def check(self, what: str) -> None:
        """Raise the Failure of a deadline that has passed."""
        if self.left_s <= 0:
            raise self.passed(what)

    def passed(self, what: str) -> Failure:
        """Say what did not end in time."""
        return Failure("DB_TIMEOUT", f"{what} did not end within {self.after_ms} ms", Outcome.UNKNOWN)


class Connection(_Base):
    """One authenticated session. Used by one thread at a time, except for `shut`."""

    def __init__(self, user: str, password: str, secrets: tuple[str, ...] = ()) -> None:
        super().__init__(
            user=user,
            password=password,
            defer_connect=True,
            autocommit=True,
            charset="utf8mb4",
            client_flag=CLIENT.FOUND_ROWS,  # an update that changes nothing still counts the row that it found
            program_name="failoverd",
            ssl_disabled=True,  # a Unix socket; loading the machine's CAs would cost 20 ms a connection
            read_timeout=1,
            write_timeout=1,
        )
        self._secrets = tuple(secret for secret in (password, *secrets) if secret)
        # A Unix socket, which pymysql cannot see where the socket is given: MySQL's caching_sha2_password may then be
        # told the password itself, and no RSA key (and no library for it) is needed.
        self._secure = True
        self._socket: socket.socket | None = None
        self._statement, self._has_values = "", False
        self._run: str | None = None
        self.name = user
        self.affected = 0

    def log_in(self, path: str, deadline: Deadline, register: Callable[[Connection], None]) -> None:
        """Connect and log in. `register` is called as soon as there is a socket that `shut` can end."""
        self._socket = connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        register(self)
        self._read_timeout = self._write_timeout = max(deadline.left_s, SHORTEST_S)
        try:
            connection.settimeout(self._read_timeout)
            connection.connect(path)
        except (TimeoutError, BlockingIOError):  # its queue of waiting connections is full
            connection.close()
            raise Failure("DB_HUNG", f"accepted no connection within {deadline.after_ms} ms", Outcome.UNKNOWN) from None
        except OSError as error:
            connection.close()
            raise Failure("DB_REFUSED", f"{path}: {error.strerror or error}") from None
        try:
            self.connect(connection)
        except (pymysql.err.MySQLError, *_NO_ANSWER) as error:
            connection.close()
            if deadline.left_s <= SHORTEST_S:
                words = f"connected, but no greeting and login within {deadline.after_ms} ms"
                raise Failure("DB_HUNG", words, Outcome.UNKNOWN) from None
            raise self._failure(error) from None

    @property
    def number(self) -> int:
        """The server's number for this session, as KILL takes it."""
        return int(self.server_thread_id[0])  # type: ignore[attr-defined]  # from the greeting

    @property
    def server_pid(self) -> int:
        """The process that listens."""
        return self._peer()[0]

    @property
    def peer_uid(self) -> int:
        """The user that the server runs as."""
        return self._peer()[1]

    def _peer(self) -> tuple[int, int, int]:
        if self._socket is None:
            raise AssertionError("asked before log_in")
        pid, uid, gid = _UCRED.unpack(self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
        return pid, uid, gid

    @property
    def server_run(self) -> str:
        """Which start of the server this is: boot, process and when that began. "" where that cannot be known.

        Not known where the process that listens is not the server's own (systemd's socket activation), or cannot be
        seen from here (another PID namespace).
        """
        if self._run is None:
            pid = self._peer()[0]
            try:
                words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                self._run = f"{_boot()[:8]}-{pid}-{words[STARTED]}" if pid > 1 else ""
            except OSError:
                self._run = ""
        return self._run

    def run(self, deadline: Deadline, statement: str, *values: object) -> list[dict[str, Any]]:
        """Run one statement and return its rows by column name."""
        self.send(deadline, statement, *values)
        if not self.wait(deadline.left_s):
            raise deadline.passed(self._statement)
        return self.finish(deadline)

    def send(self, deadline: Deadline, statement: str, *values: object) -> None:
        """Send one statement; its answer must be finished before the next."""
        self._statement, self._has_values = " ".join(statement.split()[:3]), bool(values)  # never its values
        self._write_timeout = max(deadline.left_s, SHORTEST_S)
        try:
            text = self.cursor().mogrify(statement, values) if values else statement
            self._execute_command(COMMAND.COM_QUERY, text)  # type: ignore[attr-defined]  # pymysql's own half of query()
        except (pymysql.err.MySQLError, OSError) as error:
            raise self._failure(error) from None

    def wait(self, seconds: float) -> bool:
        """Whether an answer, or the end of the connection, is there within `seconds`."""
        if self._socket is None or self._socket.fileno() < 0:
            return True  # finish says what happened
        waiting = select.poll()
        waiting.register(self._socket, select.POLLIN)
        return bool(waiting.poll(max(seconds, 0) * 1000))

    def finish(self, deadline: Deadline) -> list[dict[str, Any]]:
        """Take the answer that `wait` saw."""
        self._read_timeout = max(deadline.left_s, SHORTEST_S)
        try:
            self._read_query_result()  # type: ignore[attr-defined]  # ... and the other half
        except (pymysql.err.MySQLError, OSError, *_NO_ANSWER) as error:
            raise self._failure(error) from None
        result = self._result  # type: ignore[attr-defined]  # as its cursors take it
        self.affected = int(result.affected_rows)
        if not result.description:
            return []
        names = [column[0] for column in result.description]
        return [dict(zip(names, row, strict=True)) for row in result.rows]

    def shut(self) -> None:
        """End the conversation, from any thread: whoever waits for an answer learns at once that none comes."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def drop(self) -> None:
        """Close without a farewell, which could block."""
        self._force_close()  # type: ignore[attr-defined]  # pymysql's close() says goodbye first
        if self._socket is not None:
            self._socket.close()

    def _failure(self, error: Exception) -> Failure:
        number = error.args[0] if error.args and isinstance(error.args[0], int) else 0
        text = str(error.args[1] if len(error.args) > 1 else error)
        # The server quotes statements that it does not understand; of one with values, nothing is told again.
        text = hidden(_NEAR.sub(" near …", text) if self._has_values else text, self._secrets)
        if isinstance(error, _NO_ANSWER):
            number, text = 0, f"it sent what is no answer ({type(error).__name__})"
        code, outcome = _CODES.get(number, ("DB_SQL", Outcome.FAILED))
        if isinstance(error, (pymysql.err.InterfaceError, OSError, *_NO_ANSWER)) and not number:
            code, outcome = "DB_LOST", Outcome.UNKNOWN
        return Failure(code, f"{self._statement or 'login'}: {text}", outcome, number)
