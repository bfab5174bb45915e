"""The stage of one trial: who is primary, the faults in a row's own words, and how each of them is undone.

Every verb that breaks something notes at once how it is put right. `heal` does that, newest first, whatever became of
the trial: a row says only what goes wrong, and no row can leave the next one a broken lab without it showing.
"""

from __future__ import annotations

import subprocess
import time
import uuid
from typing import TYPE_CHECKING

from hosts import LabError, disks, faults, layout, network, pressure
from hosts.shell import wait_for
from trials.cluster import Cluster

from faultmatrix.scene_etcd import EtcdFaults
from faultmatrix.trap import Trap

if TYPE_CHECKING:
    from collections.abc import Callable

    from hosts import Lab

_BREAK_S = 60  # seconds after which a held lock ends by itself
_HOME_S = 60.0
_ASK_S = 60
_REBUILD_S = 240.0  # some hundred MB at full load; the request ends by itself when it fails
_REFUSED = 3
_PROMOTE_ENDS = (0, 1, 3)  # done, taken back, refused: any other code says that its end is not known
# Connections that log in and then say nothing; one line, how many there are, and then it stays.
_CROWD = """
import sys, time, pymysql
address, user, password, number = sys.argv[1:]
held = []
try:
    while len(held) < int(number):
        held.append(pymysql.connect(host=address, user=user, password=password, ssl_disabled=True))
except pymysql.err.OperationalError:
    pass
print(len(held), flush=True)
time.sleep(60)
"""
FAILOVERD, MARIADB, DOVECOT, POSTFIX = "failoverd.service", "mariadb.service", "dovecot.service", "postfix@-.service"
# All that a gigabyte takes, written again and again, so that none of it can be taken back.
_HOG = "import time\nheld = []\nwhile len(held) < 64:\n    held.append(bytearray(b'x' * (16 << 20)))\ntime.sleep(5)\n"


class Scene:
    """Who is who at the beginning, and what can befall them."""

    def __init__(self, lab: Lab, primary: str, term: int, note: Callable[[str], None]) -> None:
        self._lab, self._note = lab, note
        self.primary, self.term = primary, term
        self.replicas = [host for host in layout.DATA_NODES if host != primary]  # the better candidate first
        self.arbiter = layout.ARBITER
        self._undo: list[Callable[[], object]] = []
        self.etcd = EtcdFaults(lab, note, self._undo)

    def heal(self) -> list[str]:
        """Put right all that was broken; give what could not be."""
        problems = []
        for undo in (*reversed(self._undo), self._start_all):
            try:
                undo()
            except LabError as error:
                problems.append(f"healing: {error}")
        self._undo.clear()
        return problems

    def _start_all(self) -> None:
        """Start what failoverd has ended for good reason: systemd would do so, too, but only within the minute.

        A unit that waits for that takes no `start`, only a `restart`.
        """
        for host in layout.DATA_NODES:
            if self._lab.pid(host) is None:
                continue
            for unit in (MARIADB, DOVECOT, POSTFIX):
                if self._is_down(host, unit):
                    self._lab.exec(host, "systemctl", "restart", "--no-block", unit, check=False)

    def _is_down(self, host: str, unit: str) -> bool:
        state = self._lab.exec(host, "systemctl", "show", "--property=SubState", "--value", unit, check=False)
        return state.stdout.strip() in {"auto-restart", "failed"}

    @staticmethod
    def settle(seconds: float) -> None:
        """Let the first of two faults have its effect before the second comes."""
        time.sleep(seconds)

    # ---- power, cable, freeze --------------------------------------------------------------------------------

    def cut_power(self, host: str) -> None:
        """Cut the host's power; it comes back with `power_on` or when all is healed."""
        self._undo.append(lambda: self._boot(host))
        self._lab.kill(host)
        self._note(f"the power of {host} is cut")

    def power_on(self, host: str) -> None:
        """Switch the host on."""
        self._lab.boot(host, wait=False)
        self._note(f"{host} has power")

    def _boot(self, host: str) -> None:
        if self._lab.pid(host) is None:
            self.power_on(host)

    def freeze(self, host: str) -> None:
        """Freeze every process of the host."""
        self._undo.append(lambda: self._lab.resume(host))
        self._lab.pause(host)
        self._note(f"{host} is frozen")

    def pull_cable(self, host: str) -> None:
        """Pull the host's cable."""
        self._undo.append(lambda: self._lab.heal(host))
        self._lab.cut(host)
        self._note(f"the cable of {host} is out")

    def plug_cable(self, host: str) -> None:
        """Plug the host's cable in."""
        self._lab.heal(host)
        self._note(f"the cable of {host} is in")

    def flap_cable(self, host: str, out_s: float, in_s: float, times: int) -> None:
        """Pull and plug the host's cable again and again."""
        self._undo.append(lambda: self._lab.heal(host))
        for _ in range(times):
            self._lab.cut(host)
            self._note(f"the cable of {host} is out")
            time.sleep(out_s)
            self.plug_cable(host)
            time.sleep(in_s)

    # ---- network ---------------------------------------------------------------------------------------------

    def deafen(self, host: str, *peers: str) -> None:
        """Let the host no longer hear the peers; they still hear it."""
        self._undo.append(lambda: self._lab.allow(host))
        self._lab.deny(host, *peers)
        self._note(f"{host} does not hear {' and '.join(peers)}")

    def deafen_client(self, *peers: str) -> None:
        """Let the client no longer hear the peers."""
        self._undo.append(lambda: faults.allow("client"))
        faults.deny("client", list(peers))
        self._note(f"the client does not hear {' and '.join(peers)}")

    def lose_packets(self, host: str, percent: int) -> None:
        """Lose packets of the host at random, in both directions."""
        self._undo.append(lambda: faults.lose(host, 0))
        faults.lose(host, percent)
        self._note(f"{percent} % of the packets of {host} are lost")

    def stranger_claims_vip(self) -> None:
        """Let a machine that is no member have the virtual IP."""
        self._undo.append(network.stranger_down)
        network.stranger_up()
        self._note("a stranger has the virtual IP and announces it")

    # ---- processes -------------------------------------------------------------------------------------------

    def kill(self, host: str, unit: str) -> None:
        """SIGKILL to every process of the unit."""
        self._undo.append(lambda: self._start(host, unit))
        self._signal(host, unit, "KILL")
        self._note(f"kill -9 {unit} on {host}")

    def stop(self, host: str, unit: str) -> None:
        """SIGSTOP to every process of the unit."""
        self._undo.append(lambda: self._start(host, unit))
        self._undo.append(lambda: self._signal(host, unit, "CONT"))
        self._signal(host, unit, "STOP")
        self._note(f"kill -STOP {unit} on {host}")

    def restart(self, host: str, unit: str) -> None:
        """Restart the unit, as after an upgrade."""
        self._note(f"systemctl restart {unit} on {host}")
        self._lab.exec(host, "systemctl", "restart", unit)

    def _signal(self, host: str, unit: str, name: str) -> None:
        self._lab.exec(host, "systemctl", "kill", f"--signal={name}", unit, check=name != "CONT")

    def _start(self, host: str, unit: str) -> None:
        verb = "restart" if self._is_down(host, unit) else "start"
        self._lab.exec(host, "systemctl", "reset-failed", unit, check=False)
        self._lab.exec(host, "systemctl", verb, unit, timeout_s=90)

    def exhaust_memory(self, host: str, spare_mb: int) -> None:
        """Leave the host little memory, and let a program of its own ask for a gigabyte, again and again."""
        self._undo.append(lambda: pressure.release(host))
        pressure.squeeze(host, spare_mb)
        self._note(f"{host} has {spare_mb} MB of memory left, and a program takes all of it")
        again = ("--property=Restart=always", "--property=RestartSec=200ms", "--property=StartLimitIntervalSec=0")
        hog = ["systemd-run", "--quiet", "--collect", "--unit=hog", *again, "python3", "-c", _HOG]
        self._undo.append(lambda: self._lab.exec(host, "systemctl", "stop", "hog.service", check=False))
        self._lab.exec(host, *hog)

    # ---- database --------------------------------------------------------------------------------------------

    def break_replication(self, host: str) -> None:
        """Take from a replica the table that the client writes to, so that its applier stops with an error."""
        self._undo.append(lambda: self._mend_replication(host))
        self._lab.sql(host, "SET sql_log_bin = 0; RENAME TABLE app.writes TO app.writes_away;")
        self._note(f"replication on {host} is broken: its applier finds no table")

    def _mend_replication(self, host: str) -> None:
        self._lab.sql(host, "SET sql_log_bin = 0; RENAME TABLE app.writes_away TO app.writes; START SLAVE;")

    def hold_up_applier(self, host: str, seconds: float = _BREAK_S) -> None:
        """Lock a replica's table, so that what it receives waits in its relay log."""
        lock = f"LOCK TABLES app.writes READ; SELECT SLEEP({seconds});"
        holder = subprocess.Popen(
            [*self._lab.command(host, "mariadb", "-e", lock)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self._undo.append(lambda: _end(holder))
        self._note(f"the applier of {host} waits for a lock")

    def hold(self, host: str, statements: str) -> None:
        """Let a session on the host run these statements, and stay."""
        session = subprocess.Popen(
            [*self._lab.command(host, "mariadb", "-e", f"{statements}; SELECT SLEEP({_BREAK_S});")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._undo.append(lambda: _end(session))
        time.sleep(0.3)
        self._note(f"on {host} a session stays after: {statements}")

    def connect_idle(self, host: str, number: int) -> None:
        """Hold that many connections of the application on the host; fewer where the server gives no more."""
        arguments = [layout.ADDRESSES[host], layout.APP_USER, layout.APP_PASSWORD, str(number)]
        command = self._lab.command(host, "/opt/failoverd/bin/python", "-c", _CROWD, *arguments)
        crowd = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self._undo.append(lambda: _end(crowd))
        found = crowd.stdout.readline().strip() if crowd.stdout is not None else ""
        if not found:
            raise LabError(f"no idle connections on {host}")
        self._note(f"{found} idle connections on {host}")

    def switch_over(self, target: str) -> None:
        """Ask for a switchover, and wait until it is done, refused or taken back: it must say which."""
        asked = self._lab.exec(self.primary, "failoverctl", "promote", "--node", target, check=False, timeout_s=_ASK_S)
        last = (asked.stdout.strip().splitlines() or [asked.stderr.strip()])[-1]
        self._note(f"promote ended with {asked.returncode}: {last}")
        if asked.returncode not in _PROMOTE_ENDS:
            raise LabError(f"promote ended with {asked.returncode}: {last}")

    def await_home(self, host: str) -> None:
        """Wait until a replica that was switched on is one again."""
        cluster = Cluster(self._lab)
        wait_for(f"{host} is a replica again", lambda: cluster.is_healthy_replica(host), _HOME_S)
        self._note(f"{host} is a replica again")

    def await_store_seen(self, host: str) -> None:
        """Wait until a host has seen a newer version of the store's record than the primary has by now."""
        cluster = Cluster(self._lab)
        now = _version(cluster, self.primary)
        wait_for(f"{host} sees what is written to the store", lambda: _version(cluster, host) > now, _HOME_S)
        self._note(f"{host} sees what is written to the store")

    def write_on(self, host: str) -> str:
        """Write a row on a replica itself, which no primary has: it has diverged. Give the row's id.

        With the administrator's right to write in spite of `read_only`: taken off, two hosts would be writable at once,
        which is what the referee looks for. The next transaction of the primary then stops the applier.
        """
        row = f"written on {host} {uuid.uuid4().hex}"
        insert = f"INSERT INTO app.writes VALUES ('{row}', 1)"  # noqa: S608 - our own
        self._undo.append(lambda: self._rejoin_if_diverged(host, row))
        self._lab.sql(host, insert)
        self._note(f"{host} was written to")
        return row

    def rejoin(self, host: str) -> None:
        """Ask for the host to be made anew, as its administrator would, and wait for the end of it.

        Refused while no replica is near enough to be copied, as at full load for a moment: then asked again.
        """
        end = time.monotonic() + _ASK_S
        while True:
            command = ("failoverctl", "rejoin", host, "--rebuild", "--yes")
            asked = self._lab.exec(self.primary, *command, check=False, timeout_s=_REBUILD_S)
            last = (asked.stderr.strip() or asked.stdout.strip()).splitlines()[-1:]
            self._note(f"rejoin ended with {asked.returncode}: {' '.join(last)}")
            if asked.returncode == 0:
                return
            if asked.returncode != _REFUSED or time.monotonic() > end:
                raise LabError(f"rejoin ended with {asked.returncode}: {' '.join(last)}")
            time.sleep(1)

    def _rejoin_if_diverged(self, host: str, row: str) -> None:
        if self._has(host, row):
            self.rejoin(host)

    def _has(self, host: str, row: str) -> bool:
        return self._lab.sql(host, f"SELECT COUNT(*) FROM app.writes WHERE id = '{row}'") != [["0"]]  # noqa: S608 - likewise

    def expect_saved(self, host: str, row: str) -> None:
        """What was written on the host is kept for a person to decide on, and is in no database."""
        saved = self._lab.exec(host, "grep", "-rlF", row, "/var/lib/failoverd/ahead", check=False).stdout
        if "events.sql" not in saved:
            raise LabError(f"what was written on {host} is not under /var/lib/failoverd/ahead")
        found = [name for name in layout.DATA_NODES if self._has(name, row)]
        if found:
            raise LabError(f"what was written on {host} is in the database of {' and '.join(found)}")
        self._note(f"what was written on {host} is saved, and in no database")

    # ---- disks -----------------------------------------------------------------------------------------------

    def disk_hangs(self, name: str) -> None:
        """Let every write to the disk block."""
        self._undo.append(lambda: disks.well(name))
        disks.hang(name)
        self._note(f"the disk of {name} hangs")

    def disk_is_full(self, name: str) -> None:
        """Fill the disk."""
        self._undo.append(lambda: disks.well(name))
        disks.fill(name)
        self._note(f"the disk of {name} is full")

    def disk_breaks(self, host: str) -> None:
        """Let the file system under the database become read-only; only a check mends that, so power goes first."""
        self._undo.append(lambda: self._repair(host))
        disks.break_read_only(host)
        self._note(f"the disk of {host} is read-only after an error")

    def _repair(self, host: str) -> None:
        if self._lab.pid(host) is not None:
            self._lab.kill(host)
        disks.repair(host)
        self._boot(host)

    def store_is_read_only(self, host: str) -> None:
        """Let one host have the mail store read-only, as a client of a file server may."""
        mount = ("mount", "-o", "remount,bind,{}", "/srv/mail")
        self._undo.append(lambda: self._lab.exec(host, *(word.format("rw") for word in mount)))
        end = time.monotonic() + 10
        while self._lab.exec(host, *(word.format("ro") for word in mount), check=False).returncode != 0:
            if time.monotonic() > end:  # a file was open for writing at each attempt
                raise LabError(f"the mail store of {host} could not be made read-only")
        self._note(f"the mail store is read-only for {host}")

    # ---- a candidate that dies -------------------------------------------------------------------------------

    def candidate_dies_at(self, step: str, *, returns_after_s: float = 2.0) -> None:
        """Cut the primary's power, and the candidate's as it begins this step; then the primary's power comes back."""
        before_election = step in {"freeze", "apply-relay-log"}
        watched = self.replicas[:1] if before_election else self.replicas
        with Trap(self._lab, watched, step, self.term) as trap:
            self.cut_power(self.primary)
            candidate = trap.wait(30.0)
        self._undo.append(lambda: self._boot(candidate))
        self._note(f"{candidate} has begun {step}: its power is cut; the last that it recorded: {trap.last_words()}")
        time.sleep(returns_after_s)
        self.power_on(self.primary)


def _version(cluster: Cluster, host: str) -> int:
    status = cluster.status(host)
    return int(status["store"]["version"] or 0) if status is not None else 0


def _end(process: subprocess.Popen[str] | subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
