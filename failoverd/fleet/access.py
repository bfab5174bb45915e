"""The file of whoever looks at all clusters of an etcd, or gives a new one its place there.

# /etc/failoverd/fleet.yaml
store:                    # as in failoverd.yaml, with a user whose rights reach further than one cluster
  kind: etcd
  endpoints: ["https://192.0.2.21:2379", "https://192.0.2.22:2379", "https://192.0.2.23:2379"]
  ca: /etc/failoverd/tls/etcd-ca.pem
  user: failoverd_fleet   # may read below the prefix: failoverctl fleet status; etcd's root for fleet add and remove
  password_file: /etc/failoverd/secrets/etcd-fleet
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from pydantic import model_validator

from failoverd.config import validated
from failoverd.config.error import wrong
from failoverd.config.lines import read_document
from failoverd.config.section import Section
from failoverd.config.store import Store  # noqa: TC001 - pydantic reads the annotations when the class is made
from failoverd.stores.etcd_link import Endpoints, EtcdLink
from failoverd.tls import store_context

if TYPE_CHECKING:
    from pathlib import Path


class Fleet(Section):
    """The whole file."""

    store: Store

    @model_validator(mode="after")
    def _many_clusters(self) -> Self:
        if self.store.kind != "etcd":
            raise wrong("keeps one cluster", "kind: etcd", key=("store", "kind"))
        return self


def read(path: Path) -> Store:
    """The section `store` of the file. Raises ConfigError."""
    return validated(Fleet, path, read_document(path), {}).store


def link(store: Store) -> EtcdLink:
    """A client with the rights that the file gives; to be closed. Raises OSError where a file of its is no good."""
    context = store_context(ca=store.ca, certificate=store.certificate, key=store.key)
    password = store.password.get_secret_value() if store.password is not None else ""
    return EtcdLink(Endpoints(store.endpoints or (), context, store.user or "", password))
