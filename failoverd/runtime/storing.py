"""The store that a node's configuration names, as this node reaches it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from failoverd.core.model import NodeName
from failoverd.stores import STORES, Access
from failoverd.stores.etcd_link import Endpoints
from failoverd.tls import store_context

if TYPE_CHECKING:
    import ssl

    from failoverd.config import Config
    from failoverd.ports import Store


def store_of(config: Config, outgoing: ssl.SSLContext) -> Store:
    """`outgoing`: what members are dialled with. Raises OSError where a file of the store's TLS cannot be used."""
    return STORES[config.store.kind](access_of(config, outgoing))


def access_of(config: Config, outgoing: ssl.SSLContext) -> Access:
    """What `config` says of reaching its store."""
    store = config.store
    if store.kind == "embedded":
        home = config.nodes[NodeName(str(store.node))]
        url = f"https://{home.address}:{config.peer.port}"
        return Access(config.cluster, config.lease.renew_ms, base_url=url, ssl_context=outgoing)
    return Access(config.cluster, config.lease.renew_ms, endpoints=endpoints_of(config), prefix=store.prefix)


def endpoints_of(config: Config) -> Endpoints:
    """An etcd's, in the order in which this node asks them. Raises OSError as `store_of` does."""
    store, me = config.store, config.this
    return Endpoints(
        store.endpoints_for(me.address, list(config.nodes).index(me.name)),
        store_context(ca=store.ca, certificate=store.certificate, key=store.key),
        store.user or "",
        store.password.get_secret_value() if store.password is not None else "",
    )
