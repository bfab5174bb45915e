"""The daemon's control socket, from the operator's side. See runtime/control.py for what it speaks.

The standard library's HTTP client over a Unix socket: it is there in 50 ms less than any other.
"""

from __future__ import annotations

import http.client
import json
import socket
from typing import TYPE_CHECKING

from failoverd.ctl.exits import UnclearError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

ANSWER_S = 5.0  # a daemon answers in milliseconds; one that does not within this hangs


class _Connection(http.client.HTTPConnection):
    """HTTP to a Unix socket."""

    def __init__(self, path: Path, answer_s: float) -> None:
        super().__init__("localhost", timeout=answer_s)
        self._path = path
        self._answer_s = answer_s

    def connect(self) -> None:
        """Connect. Raises UnreachableError: nothing has been asked yet."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self._answer_s)
        try:
            self.sock.connect(str(self._path))
        except OSError as error:
            self.sock.close()
            raise UnreachableError(f"{self._path}: {_hint(error)}") from error


def _hint(error: OSError) -> str:
    match error:
        case FileNotFoundError():
            return "no such socket: failoverd does not run here, or --socket names another place"
        case ConnectionRefusedError():
            return "nobody listens: failoverd has ended; `systemctl status failoverd` says how"
        case PermissionError():
            return "permission denied: become root, or a member of the socket's group"
        case TimeoutError():
            return f"failoverd does not accept within {ANSWER_S:.0f} s: it hangs"
        case _:
            return error.strerror or str(error)


class Client:
    """One daemon, by its socket."""

    def __init__(self, path: Path, answer_s: float = ANSWER_S) -> None:
        self._path = path
        self._answer_s = answer_s

    def get(self, path: str) -> tuple[int, bytes]:
        """Status and body. Raises UnreachableError."""
        connection = _Connection(self._path, self._answer_s)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except TimeoutError as error:
            raise UnreachableError(f"{self._path}: failoverd does not answer within {self._answer_s:g} s") from error
        except (OSError, http.client.HTTPException) as error:
            raise UnreachableError(f"{self._path}: failoverd ended while answering ({error})") from error
        finally:
            connection.close()

    def post(self, path: str, document: Mapping[str, str | bool | int]) -> tuple[int, bytes]:
        """Status and body. Raises UnreachableError when nothing was sent, UnclearError when no answer came."""
        connection = _Connection(self._path, self._answer_s)
        try:
            connection.connect()
            connection.request("POST", path, json.dumps(document), {"content-type": "application/json"})
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise UnclearError(
                f"{self._path}: sent, and no answer came ({str(error) or type(error).__name__})"
            ) from error
        finally:
            connection.close()

    def lines(self, path: str) -> Iterator[bytes]:
        """Each line of a stream that is not empty, until it ends.

        Raises UnreachableError when it does not begin, UnclearError when it breaks off or falls silent, LookupError
        when there is no such thing.
        """
        connection = _Connection(self._path, self._answer_s)
        try:
            connection.connect()
            connection.request("GET", path)
            answer = connection.getresponse()
            if answer.status == 404:
                raise LookupError(answer.read().decode(errors="replace"))
            if answer.status != 200:
                raise UnclearError(f"{self._path}: {answer.status} {answer.read().decode(errors='replace')}")
            while line := answer.readline():
                if line.strip():
                    yield line
        except (OSError, http.client.HTTPException) as error:
            raise UnclearError(f"{self._path}: broke off ({str(error) or type(error).__name__})") from error
        finally:
            connection.close()
