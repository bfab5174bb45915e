"""A look at every endpoint of an etcd by itself, as a cluster's node would use it: what would keep its store from it.

    status ──> a leader? a learner? an alarm? room?     no token is needed for it
    login  ──> token                                    where the configuration names a user
    range  ──> may read; the record as it stands
    txn    ──> may write; how long etcd takes for that  five, none of which is ever done (etcd_status.may_write)

The store itself goes to the next endpoint where one fails, so it hides what is wrong with one, and at the worst moment
shows it. Nothing is written, and no daemon is needed.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httpx

from failoverd import wire
from failoverd.stores import etcd_requests as etcd
from failoverd.stores import etcd_status

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from failoverd.core.model import Record
    from failoverd.stores.etcd_link import Endpoints

# Every code of this module, what it means, and what is done about it. Each has a page in runbooks/.
CODES: Mapping[str, tuple[str, str]] = {
    "ETCD_UNREACHED": (
        "an endpoint of the store does not answer",
        "start etcd there, or open the way to its client port",
    ),
    "ETCD_TLS": ("etcd's certificate is not taken", "store.ca: the CA of etcd; its certificate must name the address"),
    "ETCD_CLIENT_CERTIFICATE": (
        "etcd does not take this node's client certificate, or wants one",
        "store.certificate and store.key: of the CA that etcd trusts, without a CN, not expired",
    ),
    "ETCD_LOGIN": ("etcd does not take the user", "store.user and store.password_file, as etcd has them"),
    "ETCD_RIGHTS": ("the user may not do what the store needs", "failoverctl fleet add CLUSTER gives it the rights"),
    "ETCD_CLUSTERS": ("the endpoints belong to different etcds", "store.endpoints: the members of one etcd"),
    "ETCD_LEADER": ("etcd answers no read: it has no leader, or no quorum", "bring back a majority of its members"),
    "ETCD_LEARNER": (
        "an endpoint is a learner: it answers no read",
        "etcdctl member promote, or take it out of the list",
    ),
    "ETCD_ALARM": (
        "etcd has raised an alarm",
        "NOSPACE: compact, defragment, etcdctl alarm disarm; CORRUPT: see the page",
    ),
    "ETCD_SPACE": ("etcd's database is nearly full", "switch automatic compaction on, then etcdctl defrag"),
    "ETCD_SLOW": ("etcd is slow for this lease", "a faster disk for etcd, or a longer lease: lease.ttl, lease.renew"),
    "ETCD_ANSWER": ("something else than etcd 3.4 or later answers", "store.endpoints: etcd's client ports"),
    "ETCD_RECORD": ("what stands at the record's key is no record", "store.prefix: one that nobody else uses"),
}
TIMEOUT_S = 3.0  # for each answer: longer than an election
ELECTION_S = 2.0
TRANSACTIONS = 5
FULL = 0.8  # of the quota: from there on it is worth a word
_OK, _FORBIDDEN, _MISSING, _SERVERS_FAULT = 200, 403, 404, 500


@dataclass(frozen=True, slots=True)
class Trouble:
    """One thing that is wrong. `endpoint`: "" where it is none's alone."""

    code: str
    endpoint: str
    reason: str


@dataclass(slots=True)
class Looked:
    """What was seen at one endpoint, as far as that came. `usable`: the store could be kept through it."""

    url: str
    status: etcd_status.Status | None = None
    quota: int | None = None  # bytes
    record: Record | None = None
    write_ms: float | None = None
    usable: bool = False
    troubles: list[Trouble] = field(default_factory=list)


class _TroubleError(Exception):
    """Nothing more is to be seen at this endpoint."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


async def look(endpoints: Endpoints, *, cluster: str, prefix: str, slow_ms: float) -> tuple[Looked, ...]:
    """Look at all of them at once. `slow_ms`: from when on a transaction takes too long."""
    looks = (_Look(endpoints, url, cluster, prefix, slow_ms).done() for url in endpoints.urls)
    return tuple(await asyncio.gather(*looks))


def troubles(looks: Iterable[Looked]) -> tuple[Trouble, ...]:
    """All that is wrong: what is none's alone first."""
    looks = tuple(looks)
    of: dict[int, list[str]] = {}
    for one in looks:
        if one.status is not None:
            of.setdefault(one.status.cluster, []).append(one.url)
    found: list[Trouble] = []
    if len(of) > 1:
        words = "; ".join(f"{cluster:x}: {', '.join(urls)}" for cluster, urls in of.items())
        found.append(
            Trouble("ETCD_CLUSTERS", "", f"{len(of)} etcds, by the cluster's id that each member says: {words}")
        )
    return (*found, *(trouble for one in looks for trouble in one.troubles))


def fit(looks: Iterable[Looked]) -> bool:
    """Whether a node could keep its lease there: one endpoint is enough, two etcds are none."""
    looks = tuple(looks)
    return any(one.usable for one in looks) and not any(t.code == "ETCD_CLUSTERS" for t in troubles(looks))


class _Look:
    def __init__(self, endpoints: Endpoints, url: str, cluster: str, prefix: str, slow_ms: float) -> None:
        self._endpoints, self._slow_ms = endpoints, slow_ms
        self._key = etcd.key_of(prefix, cluster, "record")
        self._below = etcd.key_of(prefix, cluster, "")
        self._anchors = etcd.key_of(prefix, cluster, "anchors", "")
        self._token = ""
        self._seen = Looked(url)

    async def done(self) -> Looked:
        if await self._tried() == "ETCD_LEADER":  # it may have none for an election, and elect one just now
            await asyncio.sleep(ELECTION_S)
            self._seen, self._token = Looked(self._seen.url), ""
            await self._tried()
        return self._seen

    async def _tried(self) -> str:
        """Look, and give the code of what ended it too early; "" where nothing did."""
        async with httpx.AsyncClient(
            verify=self._endpoints.ssl_context, trust_env=False, timeout=TIMEOUT_S, base_url=self._seen.url
        ) as client:
            try:
                await self._all(client)
            except _TroubleError as trouble:
                self._note(trouble.code, trouble.reason)
                return trouble.code
        return ""

    def _note(self, code: str, reason: str) -> None:
        self._seen.troubles.append(Trouble(code, self._seen.url, reason))

    async def _all(self, client: httpx.AsyncClient) -> None:
        seen = self._seen
        try:
            status = seen.status = etcd_status.status_of(await self._asked(client, etcd.STATUS, b"{}"))
        except etcd.EtcdAnswerError as error:
            raise _TroubleError("ETCD_ANSWER", str(error)) from None
        for alarm in status.alarms:
            self._note("ETCD_ALARM", f"{alarm}, as it says of itself or of another member")
        await self._room(client, status)
        if status.learner:
            raise _TroubleError("ETCD_LEARNER", f"member {status.member:x} is a learner")
        if status.leader == 0:
            raise _TroubleError("ETCD_LEADER", f"member {status.member:x} knows of no leader")
        if self._endpoints.user:
            self._token = await self._login(client)
        await self._read(client)
        await self._written(client)
        seen.usable = not status.alarms

    async def _room(self, client: httpx.AsyncClient, status: etcd_status.Status) -> None:
        try:
            answer = await client.get(etcd_status.METRICS)
        except httpx.HTTPError:
            return  # they may be served elsewhere, or to nobody
        quota = self._seen.quota = etcd_status.quota_of(answer.text)
        if quota and status.size >= FULL * quota:
            sizes = f"{status.size / 1e6:.0f} MB of {quota / 1e6:.0f} MB, {status.in_use / 1e6:.0f} MB of that in use"
            self._note("ETCD_SPACE", f"the database has {sizes}")

    async def _login(self, client: httpx.AsyncClient) -> str:
        user = self._endpoints.user
        try:
            body = etcd.authenticate(user, self._endpoints.password)
            return etcd.token_of(await self._asked(client, etcd.AUTHENTICATE, body))
        except etcd.EtcdAnswerError as error:
            raise _TroubleError("ETCD_ANSWER", f"login of {user}: {error}") from None

    async def _read(self, client: httpx.AsyncClient) -> None:
        """The record, and whether all of the cluster's keys may be read."""
        await self._asked(client, etcd.RANGE, etcd.read_below(self._below, keys_only=True, limit=1), may="read")
        answer = await self._asked(client, etcd.RANGE, etcd.read(self._key), may="read")
        try:
            found = etcd.said(answer).found
            self._seen.record = wire.decode_stamped(found[0].value)[0] if found else None
        except (wire.WireError, etcd.EtcdAnswerError) as error:
            raise _TroubleError("ETCD_RECORD", f"{self._key.decode()}: {error}") from None

    async def _written(self, client: httpx.AsyncClient) -> None:
        took: list[float] = []
        for _ in range(TRANSACTIONS):
            begun = time.perf_counter()
            await self._asked(client, etcd.TXN, etcd_status.may_write((self._key, self._anchors)), may="write")
            took.append((time.perf_counter() - begun) * 1000)
        median = self._seen.write_ms = statistics.median(took)
        if median >= self._slow_ms:
            words = (
                f"the middle one of {TRANSACTIONS} transactions took {median:.0f} ms, allowed {self._slow_ms:.0f} ms"
            )
            self._note("ETCD_SLOW", words)

    async def _asked(self, client: httpx.AsyncClient, path: str, body: bytes, *, may: str = "") -> bytes:
        """POST and give the answer. `may`: the right it takes. Raises _TroubleError for whatever it comes to else."""
        headers = {"authorization": self._token} if self._token else {}
        try:
            answer = await client.post(path, content=body, headers=headers)
        except httpx.TimeoutException:
            if self._seen.status is None:
                raise _TroubleError("ETCD_UNREACHED", f"no answer within {TIMEOUT_S:.0f} s") from None
            raise _TroubleError("ETCD_LEADER", f"no answer to {path} within {TIMEOUT_S:.0f} s: no quorum?") from None
        except httpx.HTTPError as error:
            raise _of_transport(error, first=self._seen.status is None) from None
        if answer.status_code == _OK:
            return answer.content
        raise self._refused(answer.status_code, etcd.error_of(answer.content).strip(), path, may)

    def _refused(self, status: int, words: str, path: str, may: str) -> _TroubleError:
        user = self._endpoints.user
        code, reason = "ETCD_LEADER" if self._seen.status else "ETCD_ANSWER", f"{path}: {status} {words}"
        if "CommonName" in words:
            code = "ETCD_CLIENT_CERTIFICATE"
            reason = "it has a CN: etcd's gateway refuses such a one where authentication is on"
        elif path == etcd.AUTHENTICATE and status < _SERVERS_FAULT:
            code, reason = "ETCD_LOGIN", f"{user}: {words}"
        elif "user name is empty" in words:
            code, reason = "ETCD_LOGIN", "authentication is on, and no store.user is given"
        elif status == _FORBIDDEN:
            who = user or "whoever gives no user"
            code, reason = "ETCD_RIGHTS", f"{who} may not {may} below {self._below.decode()}: {words}"
        elif "space exceeded" in words or "corrupt" in words:
            code = "ETCD_ALARM"
        elif status == _MISSING:
            code = "ETCD_ANSWER"
        return _TroubleError(code, reason)


def _of_transport(error: httpx.HTTPError, *, first: bool) -> _TroubleError:
    words = str(error) or type(error).__name__
    if "CERTIFICATE_VERIFY_FAILED" in words:
        return _TroubleError("ETCD_TLS", words.partition("certificate verify failed: ")[2].partition(" (_ssl")[0])
    if "ALERT" in words:
        alert = words.partition("] ")[2].partition(" (_ssl")[0] or words
        return _TroubleError("ETCD_CLIENT_CERTIFICATE", f"to store.certificate, or to none, it says: {alert}")
    if "SSL" in words:
        return _TroubleError("ETCD_TLS", words)
    if first and not isinstance(error, httpx.ConnectError):
        # TLS 1.3: it sees this node's certificate after the handshake, and its alert may be overtaken by the end.
        words = "it ends the connection after the handshake: store.certificate is refused, or none is given"
        return _TroubleError("ETCD_CLIENT_CERTIFICATE", words)
    return _TroubleError("ETCD_UNREACHED", words)
