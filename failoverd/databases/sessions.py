"""Connections to the local server: one a sequence, some that are kept, one beside another, and how all are ended.

Every one is opened within the caller's deadline. `cancel` shuts whatever a thread works on now, and who started before
it is told DB_CANCELLED, whatever the shut socket looked like.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, TypeVar

from failoverd.core.model import Outcome
from failoverd.databases.connection import Connection, Deadline, Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")
# A client that is told that the server is full has the place kept for administrators until it is gone.
PLACE_TRIES, PLACE_AGAIN_S = 10, 0.02
_MAY_BE_OURS = {"DB_LOST", "DB_HUNG", "DB_TIMEOUT"}  # what a shut socket looks like


class Sessions:
    """What opens connections as `user`, and ends them. `secrets` are never told in an error."""

    def __init__(self, socket: str, user: str, password: str, secrets: tuple[str, ...] = ()) -> None:
        self._socket = socket
        self._user = user
        self._password = password
        self._secrets = secrets
        self._guard = threading.Lock()
        self._busy: set[Connection] = set()
        self._cancelled = 0  # how often; whoever started before a later one is done with

    @property
    def token(self) -> int:
        """Whoever starts now keeps it: it is how a later `cancel` is known to be meant for them."""
        return self._cancelled

    def cancel(self) -> None:
        """Shut every socket that a thread works on now. Kept connections that lie idle are left alone."""
        with self._guard:
            self._cancelled += 1
            for connection in self._busy:
                connection.shut()

    def over(self, kept: Kept, deadline: Deadline, token: int, work: Callable[[Connection], T]) -> T:
        """Do `work` over a kept connection, a new one where that broke while it lay idle."""
        with kept.held(deadline):
            if kept.connection is not None and not kept.pending and kept.connection.wait(0):
                kept.drop()  # nothing was asked, so this is the server's farewell
            try:
                if kept.connection is None:
                    kept.connection = self.open(deadline, token)
                with self.working(kept.connection, token):
                    return work(kept.connection)
            except Failure as failure:
                if failure.code != "DB_NO_ACK":  # its answer is still to come
                    kept.drop()
                raise

    def open(self, deadline: Deadline, token: int) -> Connection:
        """Log in; into the last place of a full server, at more than one attempt."""
        for _ in range(PLACE_TRIES):
            try:
                return self._open(deadline, token)
            except Failure as failure:
                if failure.code != "DB_CONNECTIONS" or deadline.left_s <= PLACE_AGAIN_S:
                    raise
            time.sleep(PLACE_AGAIN_S)
        return self._open(deadline, token)

    def _open(self, deadline: Deadline, token: int) -> Connection:
        connection = Connection(self._user, self._password, self._secrets)
        try:
            connection.log_in(self._socket, deadline, lambda opened: self._register(opened, token))
        except Failure as failure:
            connection.drop()
            raise self._explained(failure, token) from None
        finally:
            self._forget(connection)
        return connection

    @contextlib.contextmanager
    def second(self, deadline: Deadline) -> Iterator[Connection | None]:
        """Another connection beside the one that waits; None where the server gives none."""
        token = self._cancelled
        try:
            second = self._open(deadline, token)  # whoever is beside it has a place, and goes on without
        except Failure:
            yield None
            return
        try:
            with self.working(second, token):
                yield second
        finally:
            second.drop()

    @contextlib.contextmanager
    def working(self, connection: Connection, token: int) -> Iterator[None]:
        """While it lasts, `cancel` ends what this connection waits for."""
        self._register(connection, token)
        try:
            yield
        except Failure as failure:
            raise self._explained(failure, token) from None
        finally:
            self._forget(connection)

    def _register(self, connection: Connection, token: int) -> None:
        with self._guard:
            if token != self._cancelled:
                raise Failure("DB_CANCELLED", "ended by failoverd itself", Outcome.UNKNOWN)
            self._busy.add(connection)

    def _forget(self, connection: Connection) -> None:
        with self._guard:
            self._busy.discard(connection)

    def _explained(self, failure: Failure, token: int) -> Failure:
        if token != self._cancelled and failure.code in _MAY_BE_OURS:
            return Failure("DB_CANCELLED", f"ended by failoverd itself: {failure.reason}", Outcome.UNKNOWN)
        return failure


class Kept:
    """A connection that outlives its statement, for one thread at a time. `pending`: an answer is still to come."""

    def __init__(self) -> None:
        self.connection: Connection | None = None
        self.pending = False
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def held(self, deadline: Deadline) -> Iterator[None]:
        """Have it alone."""
        if not self._lock.acquire(timeout=deadline.left_s):
            raise Failure("DB_HUNG", f"an earlier question has not come back after {deadline.after_ms} ms")
        try:
            yield
        finally:
            self._lock.release()

    def drop(self) -> None:
        """Give it up."""
        if self.connection is not None:
            self.connection.drop()
        self.connection, self.pending = None, False
