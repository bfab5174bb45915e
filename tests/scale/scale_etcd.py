"""The real etcd of the scale benchmark: three members, authentication on; a user, role and prefix for each cluster."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import httpx
import psutil
from etcd_members import Members
from node_certificates import Authority

from failoverd import tls
from failoverd.stores import etcd_requests as etcd

if TYPE_CHECKING:
    from pathlib import Path

PREFIX = "/failoverd/"
PASSWORD = "scale-password"
# A password's hash costs etcd a tenth of a second of one core on purpose, for each node that starts. 4 is the least it
# allows: a thousand clusters are to be there in a minute, and only the start pays for it.
FLAGS = ("--bcrypt-cost=4", "--enable-pprof")
HISTOGRAMS = ("etcd_disk_wal_fsync_duration_seconds", "etcd_disk_backend_commit_duration_seconds")
IN_USE = "etcd_mvcc_db_total_size_in_use_in_bytes"
SIZE = "etcd_mvcc_db_total_size_in_bytes"
MEMORY = "process_resident_memory_bytes"
LEADERS = "etcd_server_leader_changes_seen_total"


class Etcd:
    """Start it with `open`, end it with `close`."""

    def __init__(self, directory: Path, version: str) -> None:
        self._members = Members(directory, Authority(directory), count=3, version=version, flags=FLAGS)
        files = self.client = self._members.client
        context = tls.store_context(ca=files.ca, certificate=files.certificate, key=files.key)
        self._http = httpx.Client(verify=context, trust_env=False, timeout=30.0)

    @property
    def addresses(self) -> tuple[tuple[str, int], ...]:
        """Where clients reach the members."""
        return tuple(("127.0.0.1", member.client_port) for member in self._members.members)

    def open(self, clusters: list[str]) -> None:
        """Start the members and let each cluster read and write below its prefix, and nothing else."""
        self._members.start()
        for cluster in clusters:
            below = etcd.key_of(PREFIX, cluster, "")
            bounds = {"key": _text(below), "range_end": _text(etcd.end_of(below))}
            self._post("role/add", {"name": cluster})
            self._post("role/grant", {"name": cluster, "perm": {"permType": "READWRITE", **bounds}})
            self._post("user/add", {"name": cluster, "password": PASSWORD})
            self._post("user/grant", {"user": cluster, "role": cluster})
        self._members.enable_auth(PASSWORD)

    def _post(self, what: str, body: dict[str, object]) -> None:
        answer = self._http.post(f"{self._members.urls[0]}/v3/auth/{what}", json=body)
        if answer.status_code != httpx.codes.OK:
            raise RuntimeError(f"{what}: {answer.status_code} {answer.text}")

    def close(self) -> None:
        """End the members; their files stay."""
        self._http.close()
        self._members.close()

    def leader(self) -> int:
        """Which member leads."""
        return self._members.members.index(self._members.leader())

    def processes(self) -> list[psutil.Process]:
        """The members'."""
        return [psutil.Process(one.process.pid) for one in self._members.members if one.process is not None]

    def metrics(self) -> list[Metrics]:
        """What each member says of itself."""
        return [Metrics(self._http.get(f"{url}/metrics").text) for url in self._members.urls]

    def compact(self) -> None:
        """Forget all history now, as etcd does by itself each minute; come back when it is done."""
        status = json.loads(self._members.etcdctl("endpoint", "status", "-w", "json"))
        revision = max(one["Status"]["header"]["revision"] for one in status)
        self._members.etcdctl("compact", "--physical", str(revision))

    def profile(self, member: int, seconds: int) -> bytes:
        """A CPU profile of a member, as Go's pprof writes it."""
        url = f"{self._members.urls[member]}/debug/pprof/profile?seconds={seconds}"
        return self._http.get(url, timeout=seconds + 30.0).content


class Metrics:
    """One reading of a member's /metrics: of a histogram the counts below each bound, else the number."""

    def __init__(self, text: str) -> None:
        self.numbers: dict[str, float] = {}
        self.below: dict[str, dict[float, float]] = {name: {} for name in HISTOGRAMS}
        for line in text.splitlines():
            if not line.startswith(("etcd_disk_", "etcd_mvcc_db", "process_res", "etcd_server_leader_ch")):
                continue
            name, _, number = line.rpartition(" ")
            base, _, labels = name.partition("_bucket{le=")
            if labels and base in self.below:
                self.below[base][float(labels.strip('"}').replace("+Inf", "inf"))] = float(number)
            else:
                self.numbers[name] = float(number)

    def quantiles(self, since: Metrics, name: str, *shares: float) -> list[float]:
        """Of what a histogram counted since then, in ms, by linear interpolation as Prometheus does it."""
        counted = [
            (bound, count - since.below[name].get(bound, 0.0)) for bound, count in sorted(self.below[name].items())
        ]
        return [_quantile(counted, share) * 1000 for share in shares]


def _quantile(counted: list[tuple[float, float]], share: float) -> float:
    total = counted[-1][1] if counted else 0.0
    rank, lower, below = share * total, 0.0, 0.0
    for bound, count in counted:
        if count >= rank and count > below:
            return lower if bound == float("inf") else lower + (bound - lower) * (rank - below) / (count - below)
        lower, below = bound, count
    return 0.0


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
