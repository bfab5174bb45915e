"""Where an etcd is, and as whom it is asked, taken in while the daemon runs: no lease waits for a restart.

    every 30 s    ca, certificate, key as files               replaced?  ──┐
    at a reload   endpoints, user, password, other files      changed?   ──┴─> tried at etcd itself ──> in force
                                                                                └── or not: the old go on, and it is
                                                                                    said why

They are tried as `failoverctl store check` does it, by a client of their own: what etcd would refuse is refused here
while the old ones still work. Where no endpoint answers nothing can be tried, and nothing is taken: etcd may be down,
and whoever comes back with it knows the old ones.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from failoverd import lives
from failoverd.runtime.storing import endpoints_of
from failoverd.stores import etcd_look
from failoverd.stores.etcd import EtcdStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from failoverd.config import Config
    from failoverd.lives import Life
    from failoverd.ports import Store

_log = structlog.get_logger(__name__)


def store_files_of(config: Config, store: Store) -> StoreFiles | None:
    """None for a store that has no files of its own. Raises OSError where one cannot be read."""
    return StoreFiles(config, store) if isinstance(store, EtcdStore) else None


class StoreFiles:
    """One node's. `prepared` and `prepare` block, in a thread; what they return is called on the loop."""

    def __init__(self, config: Config, store: EtcdStore) -> None:
        self._config, self._store = config, store
        self._seen = _seen(config)
        self._lives = _lives(config)
        self.problem = ""

    def lives(self) -> tuple[Life, ...]:
        """How long its certificate and the CA of etcd are good."""
        return self._lives

    def prepared(self) -> Callable[[], None] | None:
        """Read the files again; None where they are as they were, or no good: `problem` says why."""
        try:
            if _seen(self._config) == self._seen:
                self.problem = ""
                return None
            return self.prepare(self._config)
        except (OSError, ValueError) as error:
            self.problem = str(error)
            return None

    def prepare(self, config: Config) -> Callable[[], None]:
        """At a reload. Raises ValueError, OSError where it cannot be used, and etcd does not say so itself."""
        seen = _seen(config)
        if (config.store, seen) == (self._config.store, self._seen):
            return lambda: None
        endpoints, alive = endpoints_of(config), _lives(config)
        slow_ms = float(config.lease.ttl_ms)  # here it is no matter
        look = etcd_look.look(endpoints, cluster=config.cluster, prefix=config.store.prefix, slow_ms=slow_ms)
        looks = asyncio.run(look)
        if not etcd_look.fit(looks):
            told = "; ".join(f"{one.endpoint}: {one.code} {one.reason}" for one in etcd_look.troubles(looks))
            raise ValueError(f"store: etcd does not take it: {told}")

        def take() -> None:
            self._config, self._seen, self._lives, self.problem = config, seen, alive, ""
            self._store.renew(endpoints)
            _log.info("etcd is asked anew", endpoints=list(endpoints.urls), user=endpoints.user)

        return take


def _seen(config: Config) -> object:
    """What tells one state of the files from another. Raises OSError."""
    store = config.store
    files = [path.stat() for path in (store.ca, store.certificate, store.key) if path is not None]
    return [(stat.st_ino, stat.st_mtime_ns, stat.st_size) for stat in files]


def _lives(config: Config) -> tuple[Life, ...]:
    store = config.store
    context = endpoints_of(config).ssl_context
    found = [lives.last_of("etcd-ca", context)]
    if store.certificate is not None and store.key is not None:
        found.append(lives.of_client("etcd", store.certificate, store.key))
    return tuple(life for life in found if life is not None)
