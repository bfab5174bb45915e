"""A cluster's place in an etcd of many: one user with one role, which reaches its own keys and nothing else.

    PREFIX CLUSTER/          read and write: user and role failoverd-CLUSTER
    PREFIX                   read only: user and role failoverd_fleet, for `failoverctl fleet status`

The slash after the name is what keeps `lab` out of `lab2`. No cluster's name has an underscore, so that none is called
like the fleet's own reader.

What is there already stays and is not said again; what reaches further than it should is refused, and left to whoever
gave it. Each statement is shown as etcdctl would have it.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from failoverd.setup.refused import Refused
from failoverd.stores.etcd_requests import end_of, key_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Kind = Literal["READ", "WRITE", "READWRITE"]
KINDS: Mapping[str, Kind] = {"READ": "READ", "WRITE": "WRITE", "READWRITE": "READWRITE"}


@dataclass(frozen=True, slots=True)
class Permission:
    """What a role may do with the keys from `key` to before `end`; `end` b"": with that key alone."""

    kind: Kind
    key: bytes
    end: bytes

    def __str__(self) -> str:
        below = self.key if self.end == (end_of(self.key) if self.key else b"") else None
        reach = f"{self.key!r} to {self.end!r}" if below is None else f"all below {below.decode(errors='replace')}"
        return f"{self.kind.lower()} {reach if self.end else repr(self.key)}"


@dataclass(frozen=True, slots=True)
class Account:
    """A user and a role of one name, with one permission."""

    name: str
    permission: Permission

    @property
    def prefix(self) -> str:
        """Below which its keys are."""
        return self.permission.key.decode()


@dataclass(frozen=True, slots=True)
class Standing:
    """What etcd has of that name. None: nothing."""

    permissions: tuple[Permission, ...] | None = None  # of the role
    roles: tuple[str, ...] | None = None  # of the user


@dataclass(frozen=True, slots=True)
class Statement:
    """One request to etcd's gateway; `shown` has no password in it."""

    path: str
    body: bytes = field(repr=False)
    shown: str


def of_cluster(prefix: str, cluster: str) -> Account:
    """A cluster's own: it reads and writes what is below PREFIX CLUSTER/."""
    return Account(f"failoverd-{cluster}", _below("READWRITE", key_of(prefix, cluster, "")))


def of_fleet(prefix: str) -> Account:
    """Who may see all clusters, and change nothing."""
    return Account("failoverd_fleet", _below("READ", prefix.encode()))


def _below(kind: Kind, prefix: bytes) -> Permission:
    return Permission(kind, prefix, end_of(prefix))


def missing(account: Account, standing: Standing, password: str) -> Iterator[Statement]:
    """What is to be said to etcd. `password`: of a user that there is not yet. Raises Refused."""
    name = account.name
    _no_other_rights(account, standing)
    if standing.permissions is None:
        yield _statement("role/add", {"name": name}, f"role add {name}")
    if account.permission not in (standing.permissions or ()):
        kind, prefix = account.permission.kind, account.prefix
        asked = {"permType": kind, "key": _text(account.permission.key), "range_end": _text(account.permission.end)}
        shown = f"role grant-permission {name} --prefix=true {kind.lower()} {prefix}"
        yield _statement("role/grant", {"name": name, "perm": asked}, shown)
    if standing.roles is None:
        yield _statement("user/add", {"name": name, "password": password}, f"user add {name}")
    if name not in (standing.roles or ()):
        yield _statement("user/grant", {"user": name, "role": name}, f"user grant-role {name} {name}")


def _no_other_rights(account: Account, standing: Standing) -> None:
    name, allowed = account.name, f"{account.permission}, or another name"
    for permission in standing.permissions or ():
        if permission != account.permission:
            revoked = f"etcdctl role revoke-permission {account.name} KEY END"
            raise Refused("FLEET_RIGHTS", f"role {name}", f"may {permission}", allowed=f"{allowed} ({revoked})")
    for role in standing.roles or ():
        if role != name:
            revoked = f"etcdctl user revoke-role {name} {role}"
            raise Refused("FLEET_RIGHTS", f"user {name}", f"has the role {role} as well", allowed=f"{name} ({revoked})")


def new_password(account: Account, password: str) -> Statement:
    """Give the user another password."""
    return _statement("user/changepw", {"name": account.name, "password": password}, f"user passwd {account.name}")


def removal(account: Account, standing: Standing) -> Iterator[Statement]:
    """Take user and role away, the user first: nobody writes any more where keys go next."""
    if standing.roles is not None:
        yield _statement("user/delete", {"name": account.name}, f"user delete {account.name}")
    if standing.permissions is not None:
        yield _statement("role/delete", {"role": account.name}, f"role delete {account.name}")


def keys_removal(account: Account) -> Statement:
    """Take all keys of the cluster away."""
    key, end = account.permission.key, account.permission.end
    body = json.dumps({"key": _text(key), "range_end": _text(end)}).encode()
    return Statement("/v3/kv/deleterange", body, f"etcdctl del --prefix {account.prefix}")


def _statement(path: str, asked: dict[str, object], shown: str) -> Statement:
    return Statement(f"/v3/auth/{path}", json.dumps(asked).encode(), f"etcdctl {shown}")


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
