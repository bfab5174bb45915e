"""What the primary lacks of config/grants-mariadb.sql: accounts, tables, rights. Shown, then run; it replicates.

The file stays the one place that says what failoverd needs; here it is read, and what the server has already is left
out, so that a second run has nothing to do. Passwords go to the server as their hashes: neither its general log nor
its binary log, nor its list of statements, ever has one in it.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from importlib.resources import files
from typing import TYPE_CHECKING

from failoverd.databases.connection import Deadline
from failoverd.setup.refused import Refused

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from failoverd.databases.connection import Connection

WITHIN_MS = 10_000  # a statement; one that waits for replicas ends the run, and the next one goes on
USER = "failoverd"
_COMMENT = re.compile(r"--(?:\s.*)?$", re.MULTILINE)
_GRANT = re.compile(r"GRANT (.+) ON (\S+) TO '([^']+)'@'([^']+)'(?: .*)?")
_PRIVILEGE = re.compile(r"([A-Z][A-Z _]*[A-Z])\s*(\([^)]*\))?")
# What SHOW GRANTS calls otherwise.
_ALSO = {
    "REPLICA MONITOR": "SLAVE MONITOR",
    "READ_ONLY ADMIN": "READ ONLY ADMIN",
    "REPLICATION REPLICA": "REPLICATION SLAVE",
}


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement; `shown` has no hash of a password in it."""

    run: str = field(repr=False)
    shown: str


@dataclass(frozen=True, slots=True)
class Login:
    """An account that there shall be."""

    user: str
    host: str
    password: str = field(repr=False)

    @property
    def hashed(self) -> str:
        """As mysql_native_password keeps it."""
        inner = hashlib.sha1(self.password.encode(), usedforsecurity=False).digest()
        return f"*{hashlib.sha1(inner, usedforsecurity=False).hexdigest().upper()}"

    def __str__(self) -> str:
        return f"'{self.user}'@'{self.host}'"


def hosts(addresses: Iterable[str]) -> tuple[str, ...]:
    """From where replicas connect: their common /24 as MariaDB writes it, else each address by itself."""
    known = list(addresses)
    networks = {address.rpartition(".")[0] for address in known}
    return (f"{networks.pop()}.%",) if len(networks) == 1 else tuple(known)


def missing(
    connection: Connection, *, local: Login, replicas: Collection[Login], connected: Collection[str]
) -> tuple[Statement, ...]:
    """What has to be run, in order. `connected`: the accounts by which replicas are connected now.

    Raises Failure, and Refused where a password that is in use would be changed.
    """
    return tuple(_missing(connection, local, replicas, connected))


def _missing(
    connection: Connection, local: Login, replicas: Collection[Login], connected: Collection[str]
) -> Iterator[Statement]:
    deadline = Deadline(WITHIN_MS)
    have = _accounts(connection, deadline, {local.user, *(login.user for login in replicas)})
    tables = _tables(connection, deadline)
    for statement in template():
        account = re.search(r"'([^']+)'@'([^']+)'", statement)
        if account is None:
            if not tables:
                yield Statement(statement, statement)
        else:
            for login in [local] if account[1] == USER else replicas:
                yield from _for_account(connection, deadline, statement, login, have=have, connected=connected)


def _for_account(
    connection: Connection,
    deadline: Deadline,
    statement: str,
    login: Login,
    *,
    have: Mapping[tuple[str, str], str],
    connected: Collection[str],
) -> Iterator[Statement]:
    """CREATE USER or GRANT of the template, for one account; ALTER USER where it has another password."""
    known = have.get((login.user, login.host))
    text = re.sub(r"'[^']+'@'[^']+'", lambda _: str(login), statement)
    if text.startswith("GRANT "):
        if known is None or not _granted(connection, deadline, text, login):
            yield Statement(text, text)
        return
    if known == login.hashed:
        return
    in_use = {hashed for (user, _), hashed in have.items() if user == login.user}
    if login.user in connected and (known is not None or login.hashed not in in_use):
        allowed = "the password that they use, in replication_password_file, or another name as replication_user"
        raise Refused(
            "SETUP_ACCOUNT", str(login), "replicas are connected by it, with another password", allowed=allowed
        )
    head = f"CREATE USER {login}" if known is None else f"ALTER USER {login}"
    yield Statement(f"{head} IDENTIFIED BY PASSWORD '{login.hashed}'", f"{head} IDENTIFIED BY PASSWORD '***'")


def template() -> list[str]:
    """The statements of grants-mariadb.sql, each on one line, without comments."""
    text = files(__package__).joinpath("grants-mariadb.sql").read_text(encoding="utf-8")
    return [" ".join(part.split()) for part in _COMMENT.sub("", text).split(";") if part.strip()]


def _accounts(connection: Connection, deadline: Deadline, users: Collection[str]) -> dict[tuple[str, str], str]:
    """The hash of each account's password, "" where it has none of that kind."""
    rows = connection.run(
        deadline,
        "SELECT User AS user, Host AS host, JSON_VALUE(Priv, '$.authentication_string') AS hashed "
        "FROM mysql.global_priv WHERE User IN %s",
        tuple(users),
    )
    return {(row["user"], row["host"]): row["hashed"] or "" for row in rows}


def _tables(connection: Connection, deadline: Deadline) -> bool:
    """Whether both tables are there, with the row of the heartbeat."""
    found = connection.run(
        deadline, "SELECT COUNT(*) AS n FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'failoverd'"
        " AND TABLE_NAME IN ('heartbeat', 'journal')",
    )  # fmt: skip
    if found[0]["n"] != 2:
        return False
    return bool(connection.run(deadline, "SELECT id FROM failoverd.heartbeat WHERE id = 1"))


def _granted(connection: Connection, deadline: Deadline, statement: str, login: Login) -> bool:
    """Whether SHOW GRANTS has all that the statement gives."""
    place, rights = _rights(statement)
    have: dict[str, set[str]] = {}
    for row in connection.run(deadline, f"SHOW GRANTS FOR {login}"):
        where, given = _rights(next(iter(row.values())))
        have.setdefault(where, set()).update(given)
    found = have.get(place, set())
    return rights <= found or "ALL PRIVILEGES" in found


def _rights(statement: str) -> tuple[str, set[str]]:
    """Where, and which: ("*.*", {"PROCESS", "SELECT (db,name)"})."""
    match = _GRANT.match(statement.replace("`", "'"))
    if match is None:
        return "", set()
    rights = set()
    for name, columns in _PRIVILEGE.findall(match[1]):
        inner = ",".join(sorted(column.strip(" '") for column in columns.strip("()").split(","))) if columns else ""
        rights.add(f"{_ALSO.get(name, name)}{f' ({inner})' if inner else ''}")
    return match[2].replace("'", ""), rights
