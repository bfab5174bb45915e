"""The anchors of the embedded store: a table of its own in the same file, and its two routes.

    GET  /store/v1/CLUSTER/anchors     200 all that are kept, oldest first
    POST /store/v1/CLUSTER/anchors     204 kept | 403 they are another node's

Beside the record and not in it: an anchor must never be a reason for which a swap fails, and a record with a field
that a node of the version before does not know would stop that node. For the same reason the table is made when the
first anchor comes, and the file's schema keeps its number: an older failoverd opens it and looks past the table.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from starlette.responses import PlainTextResponse, Response

from failoverd import wire
from failoverd.ports import ANCHORS_KEPT

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

    from failoverd.core.anchor import Anchor

    Reading = Callable[[sqlite3.Connection], tuple[Anchor, ...]]
    Writing = Callable[[sqlite3.Connection], None]

_TABLE = (
    "CREATE TABLE IF NOT EXISTS anchor (number INTEGER PRIMARY KEY, cluster TEXT NOT NULL, term INTEGER NOT NULL,"
    " node TEXT NOT NULL, moment TEXT NOT NULL, body BLOB NOT NULL) STRICT"
)


def put(connection: sqlite3.Connection, cluster: str, anchor: Anchor) -> None:
    """Keep `anchor`, durable when this returns. Raises sqlite3.Error: it may have happened or not."""
    execute = connection.execute
    execute("BEGIN IMMEDIATE")
    try:
        execute(_TABLE)
        same = "cluster = ? AND term = ? AND node = ? AND moment = ?"
        key = (cluster, anchor.term, anchor.by, anchor.moment)
        execute(
            f"DELETE FROM anchor WHERE {same} AND number > (SELECT min(number) FROM anchor WHERE {same})",  # noqa: S608 - no value is in the text
            key * 2,
        )
        execute(
            "INSERT INTO anchor (cluster, term, node, moment, body) VALUES (?, ?, ?, ?, ?)",
            (*key, wire.encode_anchors((anchor,))),
        )
        execute(
            "DELETE FROM anchor WHERE cluster = ?1 AND number <="
            " (SELECT number FROM anchor WHERE cluster = ?1 ORDER BY number DESC LIMIT 1 OFFSET ?2)",
            (cluster, ANCHORS_KEPT),
        )
        execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            execute("ROLLBACK")
        raise


def kept(connection: sqlite3.Connection, cluster: str) -> tuple[Anchor, ...]:
    """The anchors of a cluster, oldest first; of very large ones the newest that fit into an answer.

    Raises sqlite3.Error, wire.WireError.
    """
    execute = connection.execute
    if execute("SELECT 1 FROM sqlite_schema WHERE name = 'anchor'").fetchone() is None:
        return ()
    rows = execute("SELECT body FROM anchor WHERE cluster = ? ORDER BY number DESC", (cluster,)).fetchall()
    found: list[Anchor] = []
    size = 0
    for (body,) in rows:
        size += len(body)
        if size > wire.ANCHORS_LIMIT:
            break
        found += wire.decode_anchors(body)
    return tuple(reversed(found))


async def get(request: Request, read: Callable[[Reading], Awaitable[tuple[Anchor, ...]]]) -> Response:
    """Answer a GET. `read` runs what it is given in the thread that has the file."""
    cluster = request.path_params["cluster"]
    try:
        anchors = await read(lambda connection: kept(connection, cluster))
    except (sqlite3.Error, wire.WireError) as error:
        return PlainTextResponse(f"anchors: {error}", 503)
    return Response(wire.encode_anchors(anchors), media_type="application/json")


async def post(
    request: Request, write: Callable[[Writing], Awaitable[None]], noted: Callable[[Anchor], None]
) -> Response:
    """Answer a POST; `noted` is told of what is kept."""
    cluster = request.path_params["cluster"]
    try:
        (anchor,) = wire.decode_anchors(await request.body())
    except (wire.WireError, ValueError) as error:
        return PlainTextResponse(f"one anchor was expected: {error}", 400)
    if anchor.by != request.state.peer:
        reason = f"an anchor of {anchor.by} with the certificate of {request.state.peer}"
        request.state.refuse("PEER_IMPOSTOR", reason)
        return PlainTextResponse(reason, 403)
    try:
        await write(lambda connection: put(connection, cluster, anchor))
    except sqlite3.Error as error:
        return PlainTextResponse(f"anchors: {error}", 503)
    noted(anchor)
    return Response(status_code=204)
