"""What etcd has of a cluster's user and role, and the statements of roles.py carried out.

A statement may arrive at two members, or its answer be lost. So the plan is made anew from what stands after each one
that did not end well: what is not in it any more has happened. A second run goes on where one was ended.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

from failoverd.fleet.roles import KINDS, Permission, Standing
from failoverd.ports import StoreUnavailableError
from failoverd.stores import etcd_requests as etcd

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from failoverd.fleet.roles import Account, Statement
    from failoverd.stores.etcd_link import EtcdLink

WITHIN_MS = 5000
_WRONG_PASSWORD = "authentication failed"  # noqa: S105 - etcd's words for one that is not the user's


async def standing(link: EtcdLink, account: Account) -> Standing:
    """What etcd has of that name. Raises StoreUnavailableError, also where the asker has no right to know."""
    roles = _names(await _ask(link, "role/list", {}), "roles")
    users = _names(await _ask(link, "user/list", {}), "users")
    permissions: tuple[Permission, ...] | None = None
    if account.name in roles:
        answer = await _ask(link, "role/get", {"role": account.name})
        told = answer.get("perm", [])
        if not isinstance(told, list):
            raise StoreUnavailableError("etcd's answer is not understood: perm is no list of permissions")
        permissions = tuple(map(_permission, told))
    has: tuple[str, ...] | None = None
    if account.name in users:
        has = tuple(_names(await _ask(link, "user/get", {"name": account.name}), "roles"))
    return Standing(permissions, has)


async def is_password(link: EtcdLink, account: Account, password: str) -> bool:
    """Whether etcd takes this for the user's. `link` needs no rights. Raises StoreUnavailableError."""
    try:
        await link.ask(etcd.AUTHENTICATE, etcd.authenticate(account.name, password), deadline_ms=WITHIN_MS)
    except StoreUnavailableError as error:
        if _WRONG_PASSWORD in str(error):
            return False
        raise
    return True


async def carry_out(
    link: EtcdLink,
    account: Account,
    planned: Callable[[Standing], Iterable[Statement]],
    done: Callable[[Statement], None],
) -> None:
    """Say to etcd what `planned` makes of what stands there, until that is nothing. Raises StoreUnavailableError."""
    for statement in list(planned(await standing(link, account))):
        try:
            await link.ask(statement.path, statement.body, deadline_ms=WITHIN_MS)
        except StoreUnavailableError:
            if any(left.path == statement.path for left in planned(await standing(link, account))):
                raise
        done(statement)


def saying(statement: Statement) -> Callable[[EtcdLink], Awaitable[object]]:
    """One statement that may be said twice. What it makes raises StoreUnavailableError."""
    return lambda link: link.ask(statement.path, statement.body, deadline_ms=WITHIN_MS)


async def _ask(link: EtcdLink, path: str, asked: dict[str, object]) -> dict[str, Any]:
    body = await link.ask(f"/v3/auth/{path}", json.dumps(asked).encode(), deadline_ms=WITHIN_MS)
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise StoreUnavailableError(f"etcd's answer about {path} is not understood: no JSON object")
    return answer


def _names(answer: dict[str, Any], key: str) -> list[str]:
    names = answer.get(key, [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise StoreUnavailableError(f"etcd's answer is not understood: {key} is no list of names")
    return names


def _permission(said: object) -> Permission:
    permission = said if isinstance(said, dict) else {}
    kind = KINDS.get(str(permission.get("permType", "READ")))
    try:
        key, end = (base64.b64decode(str(permission.get(part, "")), validate=True) for part in ("key", "range_end"))
    except ValueError:
        kind = None
    if kind is None or not key:
        raise StoreUnavailableError("etcd's answer is not understood: a permission that is none")
    return Permission(kind, key, end)
