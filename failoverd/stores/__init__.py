"""The stores: who is primary in which term, under which lease. One file a kind, one line here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from failoverd.stores.embedded import EmbeddedStore
from failoverd.stores.etcd import EtcdStore
from failoverd.stores.memory import MemoryStore

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from failoverd.ports import Store
    from failoverd.stores.etcd_link import Endpoints


@dataclass(frozen=True, slots=True)
class Access:
    """What a node needs to reach its store: of the last four what its kind has."""

    cluster: str
    timeout_ms: int
    base_url: str = ""
    ssl_context: ssl.SSLContext | None = None
    endpoints: Endpoints | None = None
    prefix: str = ""


def _embedded(access: Access) -> Store:
    if access.ssl_context is None:
        raise TypeError("the embedded store is reached by TLS")
    return EmbeddedStore(access.base_url, access.ssl_context, access.timeout_ms, cluster=access.cluster)


def _etcd(access: Access) -> Store:
    if access.endpoints is None:
        raise TypeError("an etcd has endpoints")
    return EtcdStore(access.endpoints, access.timeout_ms, cluster=access.cluster, prefix=access.prefix)


def _memory(_: Access) -> Store:
    return MemoryStore()


STORES: dict[str, Callable[[Access], Store]] = {
    "embedded": _embedded,
    "etcd": _etcd,
    "memory": _memory,
}
