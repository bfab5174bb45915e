"""A daemon, from the operator's side: by its control socket, or from elsewhere by HTTPS. See runtime/control.py.

The standard library's HTTP client: it is there in 50 ms less than any other.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from pathlib import Path
from typing import TYPE_CHECKING

from failoverd.ctl.exits import ForbiddenError, UnclearError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from failoverd.ctl.place import Place, Remote

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


class _RemoteConnection(http.client.HTTPSConnection):
    """HTTPS to a node, which must be one of the cluster's CA and called what was dialled."""

    def __init__(self, remote: Remote, answer_s: float) -> None:
        self._remote = remote
        super().__init__(remote.host, remote.port, timeout=answer_s, context=_context(remote))

    def connect(self) -> None:
        """Connect, and have it proven on both sides. Raises UnreachableError: nothing has been asked yet.

        In TLS 1.3 a client knows whether its certificate was taken by the first answer only. So it asks something that
        changes nothing: what is sent afterwards is understood.
        """
        try:
            super().connect()
            self.request("GET", "/v1/version")
            answer = self.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as error:  # ssl.SSLError is an OSError
            self.close()
            raise UnreachableError(f"{self._remote}: {_hint_elsewhere(error, self._remote)}") from error
        _check(answer.status, body)


def _context(remote: Remote) -> ssl.SSLContext:
    from failoverd.tls import client_context  # noqa: PLC0415 - only needed here

    for path in (remote.ca, remote.certificate, remote.key):
        try:
            path.read_bytes()
        except OSError as error:
            raise UnreachableError(f"{path}: {error.strerror}") from None
    try:
        return client_context(ca=remote.ca, certificate=remote.certificate, key=remote.key)
    except ssl.SSLError as error:
        words = f"{remote.ca}, {remote.certificate} and {remote.key} are no CA, certificate and key of it"
        raise UnreachableError(f"{words} ({error.reason or error})") from None


def _hint(error: OSError) -> str:
    match error:
        case FileNotFoundError():
            return "no such socket: failoverd does not run here, or --socket names another place"
        case ConnectionRefusedError():
            return "nobody listens: failoverd has ended; `systemctl status failoverd` says how"
        case PermissionError():
            return "permission denied: become root, or have section access of the configuration name you"
        case TimeoutError():
            return f"failoverd does not accept within {ANSWER_S:.0f} s: it hangs"
        case _:
            return error.strerror or str(error)


def _hint_elsewhere(error: Exception, remote: Remote) -> str:
    match error:
        case ssl.SSLCertVerificationError():
            return f"it does not prove to be {remote.host} of {remote.ca}: {error.verify_message}"
        case ssl.SSLError() if "ALERT" in (error.reason or ""):
            return f"it does not take {remote.certificate}: {(error.reason or '').rpartition('ALERT_')[2].lower()}"
        case ConnectionResetError() | http.client.RemoteDisconnected() | ssl.SSLEOFError():
            # asyncio ends a connection whose certificate it refuses without the alert that would say why.
            return (
                f"it ends the connection: it does not take {remote.certificate} (of another CA, or expired), or stops"
            )
        case ConnectionRefusedError():
            return "nobody listens: access.remote is not enabled there, or failoverd has ended"
        case TimeoutError():
            return "no answer"
        case _:
            return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _check(status: int, body: bytes) -> None:
    """Raise ForbiddenError where the caller may not."""
    if status != http.client.FORBIDDEN:
        return
    try:
        said = json.loads(body)
        raise ForbiddenError(str(said["code"]), str(said["reason"]))
    except (ValueError, KeyError, TypeError):
        raise ForbiddenError("ACCESS_DENIED", body.decode(errors="replace") or "no reason is given") from None


class Client:
    """One daemon, by its socket or elsewhere. Everything raises ForbiddenError where the caller may not."""

    def __init__(self, place: Place, answer_s: float = ANSWER_S, elsewhere_s: float = ANSWER_S) -> None:
        """`answer_s`: how long a daemon of this host may take for anything; `elsewhere_s`: one elsewhere."""
        self._place = place
        self._answer_s = answer_s if isinstance(place, Path) else elsewhere_s

    def _connection(self) -> http.client.HTTPConnection:
        if isinstance(self._place, Path):
            return _Connection(self._place, self._answer_s)
        return _RemoteConnection(self._place, self._answer_s)

    def get(self, path: str) -> tuple[int, bytes]:
        """Status and body. Raises UnreachableError."""
        connection = self._connection()
        try:
            connection.connect()
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read()
        except TimeoutError as error:
            raise UnreachableError(f"{self._place}: failoverd does not answer within {self._answer_s:g} s") from error
        except (OSError, http.client.HTTPException) as error:
            raise UnreachableError(f"{self._place}: failoverd ended while answering ({error})") from error
        finally:
            connection.close()
        _check(answer.status, body)
        return answer.status, body

    def post(self, path: str, document: Mapping[str, str | bool | int]) -> tuple[int, bytes]:
        """Status and body. Raises UnreachableError when nothing was sent, UnclearError when no answer came."""
        connection = self._connection()
        try:
            connection.connect()
            connection.request("POST", path, json.dumps(document), {"content-type": "application/json"})
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise UnclearError(
                f"{self._place}: sent, and no answer came ({str(error) or type(error).__name__})"
            ) from error
        finally:
            connection.close()
        _check(answer.status, body)
        return answer.status, body

    def lines(self, path: str) -> Iterator[bytes]:
        """Each line of a stream that is not empty, until it ends.

        Raises UnreachableError when it does not begin, UnclearError when it breaks off or falls silent, LookupError
        when there is no such thing.
        """
        connection = self._connection()
        try:
            connection.connect()
            connection.request("GET", path)
            answer = connection.getresponse()
            if answer.status == http.client.NOT_FOUND:
                raise LookupError(answer.read().decode(errors="replace"))
            if answer.status != http.client.OK:
                body = answer.read()
                _check(answer.status, body)
                raise UnclearError(f"{self._place}: {answer.status} {body.decode(errors='replace')}")
            while line := answer.readline():
                if line.strip():
                    yield line
        except (OSError, http.client.HTTPException) as error:
            raise UnclearError(f"{self._place}: broke off ({str(error) or type(error).__name__})") from error
        finally:
            connection.close()
