"""`failoverd donor`: gives a backup of this node's database to another node of the cluster, and to nobody else.

A process of its own, with little memory and low priority: the daemon must not carry gigabytes beside the lease.

    accept ── TLS, the CN is a data node of the file ── ASK ── "standing": one answer
         │                                                   └ "backup": mariadb-backup, one at a time
         └── else refused, and counted: the daemon tells of it (refusals_spool.py)

Each address has a few places of its own, those of no member one half of all: who connects and says nothing, which takes
five seconds to be seen, keeps no member out.

A primary's disks are needed for clients: it gives a backup only where that is asked for explicitly, and a replica that
becomes primary meanwhile stops giving one. The backup ends with whoever asked for it.
"""

from __future__ import annotations

import fcntl
import os
import select
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from failoverd.credentials import CredentialsError
from failoverd.databases.connection import Failure
from failoverd.rebuild import RebuildError, local, programs, protocol
from failoverd.rebuild.protocol import ALIVE, ANSWER, ASK, CHUNK, DATA, END
from failoverd.refusals import why
from failoverd.refusals_spool import DONOR, Spool
from failoverd.runtime.ours import credentials_of
from failoverd.runtime.systemd import Notifier
from failoverd.tls import node_name

if TYPE_CHECKING:
    import argparse
    import ssl

    from failoverd.config import Config
    from failoverd.credentials import Credentials
    from failoverd.rebuild.local import Standing

CONNECTIONS = 16  # at once: two other nodes, each asking once or twice
OF_MEMBER, OF_STRANGERS = 4, 8
# Not yet accepted, to be answered or turned away: this process has the lowest priority of all, and while it waits for a
# processor a full queue would keep members out as well.
WAITING = 128
PORT = "rebuild"  # as refusals are told
_NO_DATA = (".index", ".state", ".pid", ".err")  # in the data directory, and in no backup


def main(config: Config, options: argparse.Namespace) -> int:
    """Serve until the end. Exit codes: see `failoverd.__main__`."""
    try:
        credentials = credentials_of(config)
        listener = listening(config.this.address, config.peer.rebuild_port)
    except (OSError, CredentialsError) as error:
        sys.stderr.write(f"failoverd donor: {error}\n")
        return 1
    Spool(options.runtime / DONOR, credentials.refusals, _say)
    with listener:
        Notifier().ready("waiting")
        Donor(config, credentials, programs.Programs(options.programs)).serve(listener)
    return 0


def listening(address: str, port: int) -> socket.socket:
    """Its socket. Raises OSError."""
    return socket.create_server((address, port), backlog=WAITING)


class Donor:
    """Answers the other data nodes of `config`."""

    def __init__(self, config: Config, credentials: Credentials, tools: programs.Programs) -> None:
        self._config = config
        self._credentials = credentials
        self._programs = tools
        self._places: dict[str, int] = {}  # taken, by a member's address, or by nobody's
        self._lock = threading.Lock()
        self._backup_runs = threading.Lock()

    def serve(self, listener: socket.socket) -> None:
        """Accept for ever."""
        while True:
            try:
                connection, (address, *_) = listener.accept()
            except OSError as error:
                _say(f"accept: {error}")
                time.sleep(0.1)  # out of descriptors: they come back as connections end
                continue
            if self._take_place(address):
                threading.Thread(target=self._answer, args=(connection, address), daemon=True).start()
            else:
                connection.close()
                self._credentials.refusals.note("PEER_LIMIT", PORT, address, "more connections than it may have")

    def _whose(self, address: str) -> str:
        return address if address in self._credentials.refusals.members else ""

    def _take_place(self, address: str) -> bool:
        whose = self._whose(address)
        with self._lock:
            taken = self._places.get(whose, 0)
            if taken >= (OF_MEMBER if whose else OF_STRANGERS) or sum(self._places.values()) >= CONNECTIONS:
                return False
            self._places[whose] = taken + 1
            return True

    def _give_place(self, address: str) -> None:
        with self._lock:
            self._places[self._whose(address)] -= 1

    def _answer(self, plain: socket.socket, address: str) -> None:
        try:
            with plain:
                connection = self._shaken(plain, address)
                if connection is None:
                    return
                with connection:
                    protocol.keep_alive(connection, protocol.SLOW_S)
                    self._converse(connection, address)
        except (OSError, RebuildError) as error:  # of the connection: there is nobody left to be told
            _say(f"{address}: {error}")
        finally:
            self._give_place(address)

    def _shaken(self, plain: socket.socket, address: str) -> ssl.SSLSocket | None:
        """TLS by what the certificate files have now; None where it was refused, which is counted and no news here."""
        self._credentials.renew()
        plain.settimeout(protocol.HANDSHAKE_S)
        try:
            return self._credentials.server.wrap_socket(plain, server_side=True)
        except OSError as error:
            code, reason = why(error)
            self._credentials.refusals.note(code, PORT, address, reason)
            return None

    def _converse(self, connection: ssl.SSLSocket, address: str) -> None:
        name = node_name(connection.getpeercert())
        question = protocol.Reader(connection, within_s=protocol.HANDSHAKE_S).message(ASK)
        connection.settimeout(protocol.SLOW_S)
        try:
            self._answer_to(name, question, connection, f"{name} ({address})")
        except RebuildError as error:
            if error.code == "REBUILD_STRANGER":
                self._credentials.refusals.note("PEER_STRANGER", PORT, address, error.reason)
            _say(f"{name} ({address}): {error}")
            protocol.tell(connection, ANSWER, {"code": error.code, "reason": error.reason})

    def _answer_to(self, name: str | None, question: dict[str, object], connection: ssl.SSLSocket, asker: str) -> None:
        member = self._config.members.get(name or "")
        if member is None or member.kind != "data" or name == self._config.this.name:
            raise RebuildError("REBUILD_STRANGER", f"{name!r} is no other data node of the configuration here")
        if question.get("what") == "standing":
            protocol.tell(connection, ANSWER, self._standing().message())
        elif question.get("what") == "backup":
            self._back_up(connection, asker, from_primary=question.get("from_primary") is True)
        else:
            raise RebuildError("REBUILD_STREAM", "a question that is not known here: another version of failoverd?")

    def _standing(self) -> Standing:
        try:
            return local.standing(self._config.database)
        except Failure as failure:
            raise RebuildError("REBUILD_DONOR_UNFIT", f"the server here: {failure}") from None

    # ---- a backup ---------------------------------------------------------------------------------------------------

    def _back_up(self, connection: ssl.SSLSocket, asker: str, *, from_primary: bool) -> None:
        if not self._backup_runs.acquire(blocking=False):
            raise RebuildError("REBUILD_BUSY", "a backup for another node is under way here")
        try:
            before = self._standing()
            if not before.read_only and not from_primary:
                raise RebuildError("REBUILD_FROM_PRIMARY", "the database here is writable")
            protocol.tell(connection, ANSWER, before.message() | {"bytes": _size(Path(before.data))})
            _say(f"{asker}: a backup begins")
            try:
                sent = self._stream(connection, before, from_primary=from_primary)
                after = self._standing()
            except RebuildError as error:
                _say(f"{asker}: {error}")
                protocol.tell(connection, END, {"code": error.code, "reason": error.reason})
                return
            end = {"bytes": sent, "state_before": before.binlog_state, "state_after": after.binlog_state}
            protocol.tell(connection, END, end)
            _say(f"{asker}: a backup of {sent} bytes ended")
        finally:
            self._backup_runs.release()

    def _stream(self, connection: ssl.SSLSocket, standing: Standing, *, from_primary: bool) -> int:
        """Run mariadb-backup into the connection; return the bytes. Raises RebuildError, OSError: it is ended then."""
        database = self._config.database
        with (
            programs.credentials(database.user, database.password.get_secret_value()) as options,
            tempfile.TemporaryDirectory(prefix="failoverd-donor-") as scratch,
        ):
            child = self._programs.start(
                "mariadb-backup",
                f"--defaults-extra-file=/proc/self/fd/{options}",
                "--backup",
                "--stream=mbstream",
                f"--target-dir={scratch}",
                f"--socket={database.socket}",
                f"--datadir={standing.data}",
                f"--throttle={self._config.rebuild.throttle}",
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=[options],
                code="REBUILD_BACKUP_FAILED",
            )
            try:
                return _Pump(self, connection, child, from_primary=from_primary).run()
            finally:
                programs.end(child)

    def must_stop(self) -> bool:
        """Whether this node has become the primary meanwhile. A server that does not answer just now has not."""
        try:
            return local.is_writable(self._config.database)
        except Failure:
            return False


class _Pump:
    """From the program's pipe into the connection, with one buffer."""

    def __init__(
        self, donor: Donor, connection: ssl.SSLSocket, child: subprocess.Popen[bytes], *, from_primary: bool
    ) -> None:
        if child.stdout is None or child.stderr is None:
            raise AssertionError("both are pipes")
        self._donor = donor
        self._connection = connection
        self._child = child
        self._from_primary = from_primary
        self._data, self._words = child.stdout.fileno(), child.stderr.fileno()
        fcntl.fcntl(self._data, fcntl.F_SETPIPE_SZ, protocol.PIPE)
        self._buffer = memoryview(bytearray(CHUNK))
        self._last_words = b""

    def run(self) -> int:
        """Until both pipes have ended. Raises RebuildError, OSError."""
        poll = select.poll()
        for descriptor in (self._data, self._words, self._connection.fileno()):
            poll.register(descriptor, select.POLLIN)
        sent, still_open, looked = 0, 2, time.monotonic()
        while still_open:
            for descriptor, _ in poll.poll(protocol.ALIVE_S * 1000):
                if descriptor == self._connection.fileno():
                    raise RebuildError("REBUILD_STREAM", "whoever asked for the backup is gone")
                count = os.readv(descriptor, [self._buffer])
                if count == 0:
                    poll.unregister(descriptor)
                    still_open -= 1
                elif descriptor == self._data:
                    protocol.send(self._connection, DATA, self._buffer[:count])
                    sent += count
                else:
                    self._last_words = (self._last_words + self._buffer[:count])[-programs.LAST_BYTES :]
            if time.monotonic() - looked >= protocol.ALIVE_S:
                looked = time.monotonic()
                protocol.send(self._connection, ALIVE)
                if not self._from_primary and self._donor.must_stop():
                    raise RebuildError("REBUILD_FROM_PRIMARY", "the database here has become writable meanwhile")
        code = self._child.wait()
        if code != 0:
            words = programs.last_line(self._last_words)
            raise RebuildError("REBUILD_BACKUP_FAILED", f"mariadb-backup ended with {code}: {words}")
        return sent


def _size(data: Path) -> int:
    """About how much a backup of it will be: what lies there but logs of replication. 0 where it cannot be seen."""
    index = {path.name.removesuffix(".index") for path in data.glob("*.index")}
    total = 0
    for directory, _, names in os.walk(data):
        for name in names:
            if name.endswith(_NO_DATA) or name.rpartition(".")[0] in index:
                continue
            try:
                total += Path(directory, name).lstat().st_size
            except FileNotFoundError:  # a temporary table's, gone meanwhile
                continue
    return total


def _say(text: str) -> None:
    sys.stderr.write(f"donor: {text}\n")
    sys.stderr.flush()
