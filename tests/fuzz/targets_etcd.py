"""An etcd: what it answers to a store, to whoever looks at all clusters, and to whoever gives one its place."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, cast

from places import run
from target import Target
from targets_store import ANCHORS, RECORD

from failoverd import wire
from failoverd.fleet import granting, reading, roles
from failoverd.ports import StoreUnavailableError
from failoverd.stores import etcd_requests as etcd
from failoverd.stores.etcd import EtcdStore

if TYPE_CHECKING:
    from failoverd.stores.etcd_link import EtcdLink

STAMPED = wire.encode_stamped(RECORD, "0123456789abcdef")
PREFIX = "/failoverd/"


class OtherEtcd:
    """In the place of an `EtcdLink`: each question gets the next paragraph, and at last none."""

    def __init__(self, data: bytes) -> None:
        self._answers = data.split(b"\n\n")[:40]

    async def ask(self, path: str, body: bytes, *, deadline_ms: int) -> bytes:
        """As a link's."""
        assert path.startswith("/v3/")
        assert isinstance(json.loads(body), dict)
        assert deadline_ms > 0
        if not self._answers:
            raise StoreUnavailableError("it is gone")
        return self._answers.pop(0)


def _text(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _kvs(*found: tuple[str, bytes]) -> dict[str, object]:
    kvs = [{"key": _text(key.encode()), "value": _text(value), "mod_revision": "7"} for key, value in found]
    return {"kvs": kvs, "count": str(len(kvs))}


def _answer(**more: object) -> bytes:
    return json.dumps({"header": {"cluster_id": "1", "revision": "7", "raft_term": "2"}, **more}).encode()


RANGED = _answer(**_kvs(("/failoverd/lab/record", STAMPED)))
SWAPPED = _answer(succeeded=True, responses=[{"response_put": {"header": {"revision": "8"}}}])
NOT_SWAPPED = _answer(responses=[{"response_range": _kvs(("/failoverd/lab/record", STAMPED))}])
ANCHORED = _answer(**_kvs(("/failoverd/lab/anchors/7/mail2/begin/first", ANCHORS)))
WATCHED = [
    b'{"result":{"header":{"revision":"7"},"created":true}}',
    json.dumps({"result": {"header": {"revision": "8"}, "events": [{"kv": _kvs(("k", STAMPED))["kvs"][0]}]}}).encode(),  # type: ignore[index]
    b'{"result":{"header":{"revision":"9"},"events":[{"type":"DELETE","kv":{"key":"aw=="}}]}}',
    b'{"result":{"header":{"revision":"9"},"canceled":true,"compact_revision":"5"}}',
    b'{"error":{"grpc_code":14,"http_code":503,"message":"etcdserver: no leader","http_status":"Service Unavailable"}}',
]


def _words(data: bytes) -> object:
    """What one answer is good for besides: an error, a token, a status."""
    found: list[object] = [etcd.error_of(data)]
    for read in (etcd.token_of, etcd.applied_of):
        try:
            found.append(read(data))
        except etcd.EtcdAnswerError as error:
            found.append(str(error))
    return found


def _store(data: bytes) -> object:
    """A read, a swap, and the anchors."""
    store = EtcdStore.__new__(EtcdStore)
    store._link = cast("EtcdLink", OtherEtcd(data))
    store._timeout_ms, store._revision, store._newest, store._seen = 500, 0, 0, {}
    store._answered_s = 0.0
    store._key, store._anchors = etcd.key_of(PREFIX, "lab", "record"), etcd.key_of(PREFIX, "lab", "anchors", "")

    async def asked_all() -> list[object]:
        found: list[object] = []
        for work in (store.read(), store.compare_and_swap(RECORD.version, RECORD), store.anchors()):
            try:
                found.append(await work)
            except StoreUnavailableError as error:
                found.append(str(error))
        return found

    return run(asked_all())


def _fleet(data: bytes) -> object:
    link = cast("EtcdLink", OtherEtcd(data))

    async def looked() -> object:
        return await reading.records(link, PREFIX, await reading.names(link, PREFIX))

    return run(looked())


def _standing(data: bytes) -> object:
    return run(granting.standing(cast("EtcdLink", OtherEtcd(data)), roles.of_cluster(PREFIX, "lab")))


TARGETS = [
    Target(
        "etcd-said",
        "etcd's answer to a range or a transaction",
        etcd.said,
        lambda: [RANGED, SWAPPED, NOT_SWAPPED, ANCHORED],
        (etcd.EtcdAnswerError,),
    ),
    Target("etcd-watched", "a message of etcd's watch", etcd.watched, lambda: WATCHED, (etcd.EtcdAnswerError,)),
    Target(
        "etcd-words",
        "etcd's errors, tokens and status",
        _words,
        lambda: [
            WATCHED[-1],
            b'{"error":"etcdserver: permission denied","message":"etcdserver: permission denied","code":7}',
            b'{"header":{"revision":"7"},"token":"abc.12"}',
            b'{"header":{"revision":"7"},"version":"3.4.23","raftAppliedIndex":"12"}',
            b"CommonName of client sending a request against gateway will be ignored and not used as expected",
        ],
    ),
    Target(
        "etcd-store",
        "what an etcd answers to a cluster's store",
        _store,
        lambda: [b"\n\n".join([RANGED, SWAPPED, ANCHORED]), b"\n\n".join([RANGED, NOT_SWAPPED, ANCHORED])],
    ),
    Target(
        "etcd-fleet",
        "what an etcd answers to who looks at all clusters",
        _fleet,
        lambda: [
            b"\n\n".join([RANGED, _answer(responses=[{"response_range": _kvs(("/failoverd/lab/record", STAMPED))}])])
        ],
        (StoreUnavailableError,),
    ),
    Target(
        "etcd-standing",
        "what an etcd says of users and roles",
        _standing,
        lambda: [
            b"\n\n".join(
                [
                    b'{"roles":["failoverd-lab","root"]}',
                    b'{"users":["failoverd-lab"]}',
                    json.dumps(
                        {
                            "perm": [
                                {"permType": "READWRITE", "key": _text(b"/failoverd/lab/"), "range_end": _text(b"x")}
                            ]
                        }
                    ).encode(),
                    b'{"roles":["failoverd-lab"]}',
                ]
            )
        ],
        (StoreUnavailableError,),
    ),
]
