"""etcd as the cluster's store: three members as Debian's package runs them, on mail1, mail2 and the arbiter.

    etcd-HASH        the layer with etcdctl, on every host                             (built once, cached)
    STATE/etcd       the certificates, and what `etcdctl` on the client host needs
    /etc/default/etcd, /etc/etcd          a member's settings and certificates, on its host
    /etc/failoverd/tls/etcd*, .../secrets/etcd    what failoverd logs in with, on each host

Clients and members show certificates of the lab's CA, and authentication is on: failoverd has a user whose role has the
keys of its own cluster and nothing else. Timings are etcd's own, so that an election takes what it takes elsewhere.
"""

from __future__ import annotations

import http.client
import inspect
import json
import shutil
import ssl
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from . import containers, debian, layout, pki, venv
from .layers import digest, layer, overlay, run_in_root
from .rootfiles import enable, write
from .shell import LabError, run, wait_for

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from .lab import Lab

MEMBERS = ("mail1", "mail2", layout.ARBITER)
UNIT = "etcd.service"
PORT, PEER_PORT = 2379, 2380
HOME = "/var/lib/etcd"
DATA = f"{HOME}/default"
CLUSTER = "lab"
PREFIX = "/failoverd/"
RECORD = f"{PREFIX}{CLUSTER}/record"
USER, PASSWORD, ROOT_PASSWORD = "lab", "etcd-lab-password", "etcd-root-lab-password"
# As runbooks/etcd.md wants them, and as the tests without the lab have them (tests/etcd_members.py).
FLAGS = ("--auto-compaction-mode=periodic", "--auto-compaction-retention=1m", "--pre-vote", "--log-level=warn")
EMBEDDED = "store: {kind: embedded, node: arbiter}\n"
_PLACE = layout.STATE / "etcd"
_ETCDCTL = _PLACE / "etcdctl"
_HEALTHY_S = 30.0
_INSTALL = """
apt-get -qq update
apt-get -qq -y --no-install-recommends install etcd-client >/dev/null
apt-get clean
rm -rf /var/lib/apt/lists/*
"""


def url(host: str) -> str:
    """Where clients reach the member."""
    return f"https://{layout.ADDRESSES[host]}:{PORT}"


def disk(host: str) -> str:
    """Name the disk of its own that a member's data may have (disks.py)."""
    return f"etcd-{host}"


def configured(text: str) -> str:
    """Give failoverd's configuration with this store in place of the shipped one."""
    if text.count(EMBEDDED) != 1:
        raise LabError(f"the shipped configuration does not say {EMBEDDED.strip()!r} once")
    return text.replace(
        EMBEDDED,
        "store:\n"
        "  kind: etcd\n"
        f"  endpoints: [{', '.join(map(url, MEMBERS))}]\n"
        "  ca: /etc/failoverd/tls/etcd-ca.pem\n"
        "  certificate: /etc/failoverd/tls/etcd.pem\n"
        "  key: /etc/failoverd/tls/etcd.key\n"
        f"  user: {USER}\n"
        "  password_file: /etc/failoverd/secrets/etcd\n"
        f"  prefix: {PREFIX}\n",
    )


def is_installed() -> bool:
    """Tell whether the lab that stands has been put up with etcd."""
    return _PLACE.exists()


# ---- before the hosts are on -------------------------------------------------------------------------------------


def client(say: Callable[[str], None]) -> Path:
    """Give the layer with etcdctl, which the usual lab does without."""
    key = digest(debian.base_key(), _INSTALL, inspect.getsource(_build))
    return layer("etcd", key, say, lambda place: _build(place, debian.base(say)))


def _build(place: Path, base_root: Path) -> None:
    with overlay([base_root], place) as root:
        run_in_root(root, _INSTALL, *venv.machine_settings(), timeout_s=300)


def install(layer_of_client: Path, ca: Path) -> None:
    """Write certificates, settings and passwords to the disks of all hosts; a member's etcd starts with its host."""
    _PLACE.mkdir()
    _ETCDCTL.symlink_to(layer_of_client / "usr/bin/etcdctl")
    for name in ("ca.crt", "ca.key"):
        shutil.copy(ca / name, _PLACE / name)
    # Without a CN: with authentication on, etcd's JSON gateway refuses a client whose certificate has one.
    pki.issue(_PLACE, "client", ["DNS:failoverd"], common_name="")
    for host in layout.HOSTS:
        root = layout.STATE / "hosts" / host / "root"
        for source, name in (("ca.crt", "etcd-ca.pem"), ("client.crt", "etcd.pem"), ("client.key", "etcd.key")):
            write(root / "etc/failoverd/tls" / name, (_PLACE / source).read_text(), mode=0o600)
        write(root / "etc/failoverd/secrets/etcd", f"{PASSWORD}\n", mode=0o600)
    for host in MEMBERS:
        pki.issue(_PLACE, host, [f"DNS:{host}", f"IP:{layout.ADDRESSES[host]}"])
        _install_member(layout.STATE / "hosts" / host / "root", host)


def _install_member(root: Path, host: str) -> None:
    place = root / "etc/etcd"
    for source, name in (("ca.crt", "ca.crt"), (f"{host}.crt", "member.crt"), (f"{host}.key", "member.key")):
        write(place / name, (_PLACE / source).read_text(), mode=0o600)
    run("chroot", str(root), "chown", "-R", "etcd:etcd", "/etc/etcd")
    settings = {
        "LISTEN_CLIENT_URLS": url(host),
        "ADVERTISE_CLIENT_URLS": url(host),
        "LISTEN_PEER_URLS": _peer_url(host),
        **{name.upper().replace("-", "_"): value for name, value in _identity(host).items()},
        "INITIAL_CLUSTER_STATE": "new",
        "CLIENT_CERT_AUTH": "true",
        "PEER_CLIENT_CERT_AUTH": "true",
    }
    for name, file in (("CERT", "member.crt"), ("KEY", "member.key"), ("TRUSTED_CA", "ca.crt")):
        settings |= {f"{name}_FILE": f"/etc/etcd/{file}", f"PEER_{name}_FILE": f"/etc/etcd/{file}"}
    lines = [f'ETCD_{name}="{value}"' for name, value in settings.items()]
    write(root / "etc/default/etcd", "\n".join([f'DAEMON_ARGS="{" ".join(FLAGS)}"', *lines]) + "\n")
    enable(root, UNIT, where="/lib/systemd/system")


def _identity(host: str) -> dict[str, str]:
    """What a member is told of the cluster, at its first start and when it is restored."""
    return {
        "initial-advertise-peer-urls": _peer_url(host),
        "initial-cluster": ",".join(f"{member}={_peer_url(member)}" for member in MEMBERS),
        "initial-cluster-token": "failoverd-lab",
    }


def _peer_url(host: str) -> str:
    return f"https://{layout.ADDRESSES[host]}:{PEER_PORT}"


# ---- while they are on -------------------------------------------------------------------------------------------


class Etcd:
    """The three members, as their administrator works with them: by etcdctl, and by systemctl on their hosts."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab

    def lay_out(self) -> None:
        """Switch authentication on, with a user for the cluster's keys; what an administrator does once."""
        self.wait_until_healthy(auth=False)
        for words in (
            ("user", "add", f"root:{ROOT_PASSWORD}"),
            ("user", "grant-role", "root", "root"),
            ("role", "add", USER),
            ("role", "grant-permission", USER, "--prefix=true", "readwrite", f"{PREFIX}{CLUSTER}/"),
            ("user", "add", f"{USER}:{PASSWORD}"),
            ("user", "grant-role", USER, USER),
            ("auth", "enable"),
        ):
            self.ctl(*words, auth=False)

    def ctl(self, *words: str, members: Iterable[str] = MEMBERS, auth: bool = True) -> str:
        """What etcdctl prints, asked on the client host as etcd's root."""
        return self._ctl(words, members, auth=auth).stdout

    def _ctl(
        self, words: tuple[str, ...], members: Iterable[str], *, auth: bool = True, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        command = self._lab.client_command(
            str(_ETCDCTL),
            f"--endpoints={','.join(map(url, members))}",
            f"--cacert={_PLACE / 'ca.crt'}",
            f"--cert={_PLACE / 'client.crt'}",
            f"--key={_PLACE / 'client.key'}",
            "--command-timeout=3s",
            "--dial-timeout=2s",
            *([f"--user=root:{ROOT_PASSWORD}"] if auth else []),
            *words,
        )
        return run(*command, check=check, timeout_s=20)

    def status(self, host: str) -> dict[str, Any] | None:
        """What a member says of itself; none where it does not answer."""
        # Without a user: who logs in needs a leader, and this is asked while there is none.
        asked = self._ctl(("endpoint", "status", "-w", "json"), [host], auth=False, check=False)
        if asked.returncode != 0:
            return None
        status: dict[str, Any] = json.loads(asked.stdout)[0]["Status"]
        return status

    def states(self) -> dict[str, str]:
        """Each member's word: `leader`, `follower`, `no leader`; `no answer` where it is down, frozen or cut off."""
        with ThreadPoolExecutor() as pool:
            return dict(zip(MEMBERS, map(_state, pool.map(self.status, MEMBERS)), strict=True))

    def leader(self) -> str:
        """Give the member that leads now."""
        found = [host for host, state in self.states().items() if state == "leader"]
        if len(found) != 1:
            raise LabError(f"etcd is led by {' and '.join(found) or 'nobody'}")
        return found[0]

    def lead(self, host: str) -> None:
        """Let this member lead."""
        now = self.leader()
        if now != host:
            status = self.status(host)
            if status is None:
                raise LabError(f"etcd of {host} does not answer")
            self.ctl("move-leader", f"{status['header']['member_id']:x}", members=[now])
            wait_for(f"etcd of {host} leads", lambda: self.states()[host] == "leader", 10)

    @contextmanager
    def asking(self, host: str) -> Iterator[Callable[[], dict[str, Any]]]:
        """Keep a connection to a member, over which its status costs the hosts next to nothing."""
        context = ssl.create_default_context(cafile=str(_PLACE / "ca.crt"))
        context.load_cert_chain(_PLACE / "client.crt", _PLACE / "client.key")
        connection = http.client.HTTPSConnection(layout.ADDRESSES[host], PORT, timeout=2, context=context)
        try:
            with self._lab.client_network():
                connection.connect()

            def status() -> dict[str, Any]:
                connection.request("POST", "/v3/maintenance/status", "{}")
                told: dict[str, Any] = json.loads(connection.getresponse().read())
                return told

            yield status
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise LabError(f"etcd of {host} does not say who leads: {error}") from error
        finally:
            connection.close()

    def wait_until_healthy(self, deadline_s: float = _HEALTHY_S, *, auth: bool = True) -> None:
        """Wait until each member answers a read that needs a leader."""

        def healthy(host: str) -> bool:
            return self._ctl(("get", "failoverd-health"), [host], auth=auth, check=False).returncode == 0

        for host in MEMBERS:
            wait_for(f"etcd of {host} answers", lambda host=host: healthy(host), deadline_s, every_s=0.1)  # type: ignore[misc]

    def record(self) -> dict[str, Any]:
        """The cluster's record as etcd has it."""
        text = self.ctl("get", RECORD, "--print-value-only")
        if not text.strip():
            raise LabError(f"etcd has no {RECORD}")
        record: dict[str, Any] = json.loads(text)["record"]
        return record

    def compact(self) -> None:
        """Forget what was before now."""
        status = self.status(self.leader())
        if status is None:
            raise LabError("etcd's leader does not answer")
        self.ctl("compact", str(status["header"]["revision"]))

    def stop(self, hosts: Iterable[str] = MEMBERS) -> None:
        """End members in good order."""
        for host in hosts:
            self._lab.exec(host, "systemctl", "stop", UNIT)

    def start(self, hosts: Iterable[str] = MEMBERS) -> None:
        """Start members whose host is on; each says that it has started once it has found a leader."""
        for host in hosts:
            if containers.pid(host) is not None:
                self._lab.exec(host, "systemctl", "start", "--no-block", UNIT)

    def save(self, name: str) -> None:
        """Take a snapshot, to be brought back by this name."""
        self.ctl("snapshot", "save", str(_PLACE / name), members=[self.leader()])

    def restore(self, name: str) -> None:
        """Bring a snapshot back, as an administrator does: all members end, each is made anew, all start.

        What they had before is kept beside it, for `put_back`.
        """
        self.stop()
        for host in MEMBERS:
            inside = f"/root/{name}"
            shutil.copy(_PLACE / name, self._lab.path(host, inside))
            told = {"name": host, "data-dir": DATA, **_identity(host)}
            options = [f"--{key}={value}" for key, value in told.items()]
            self._lab.exec(host, "sh", "-ec", f"rm -rf {HOME}/newest; mv {DATA} {HOME}/newest")
            self._lab.exec(host, "etcdctl", "snapshot", "restore", inside, *options)
            self._lab.exec(host, "chown", "-R", "etcd:etcd", DATA)
        self.start()
        self.wait_until_healthy()

    def put_back(self) -> None:
        """Give every member what it had before `restore`."""
        self.stop()
        for host in MEMBERS:
            self._lab.exec(host, "sh", "-ec", f"rm -rf {DATA}; mv {HOME}/newest {DATA}")
        self.start()
        self.wait_until_healthy()

    def log_sync_ms(self, host: str) -> tuple[float, float]:
        """How often the member has synced its log so far, and how long that took in all, in ms."""
        files = ("--cacert", "/etc/failoverd/tls/etcd-ca.pem", "--cert", "/etc/failoverd/tls/etcd.pem")
        key = ("--key", "/etc/failoverd/tls/etcd.key")
        told = self._lab.exec(host, "curl", "-sS", "--max-time", "5", *files, *key, f"{url(host)}/metrics").stdout
        values = dict(line.rsplit(" ", 1) for line in told.splitlines() if not line.startswith("#"))
        count, total = (float(values[f"etcd_disk_wal_fsync_duration_seconds_{what}"]) for what in ("count", "sum"))
        return count, total * 1000


def _state(status: dict[str, Any] | None) -> str:
    if status is None:
        return "no answer"
    if not status.get("leader"):
        return "no leader"
    return "leader" if status["leader"] == status["header"]["member_id"] else "follower"
