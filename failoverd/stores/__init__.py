"""The stores: who is primary in which term, under which lease. One file a kind, one line here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from failoverd.stores.embedded import EmbeddedStore
from failoverd.stores.memory import MemoryStore

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from failoverd.ports import Store


@dataclass(frozen=True, slots=True)
class Access:
    """What a node needs to reach its store."""

    cluster: str
    base_url: str
    ssl_context: ssl.SSLContext
    timeout_ms: int


def _embedded(access: Access) -> Store:
    return EmbeddedStore(access.base_url, access.ssl_context, access.timeout_ms, cluster=access.cluster)


def _memory(_: Access) -> Store:
    return MemoryStore()


STORES: dict[str, Callable[[Access], Store]] = {
    "embedded": _embedded,
    "memory": _memory,
}
