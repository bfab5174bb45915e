"""The store on the arbiter: what members ask of it, what it answers them, and its file."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import views as stories
from other_node import OtherNode, answers
from places import AnswerIsNone, asked, parts, place, run, written
from starlette.applications import Starlette
from target import Target

from failoverd import wire
from failoverd.core.anchor import Anchor, Head
from failoverd.core.model import NodeName, Record
from failoverd.ports import StoreUnavailableError
from failoverd.stores.embedded import PATH as STORE_PATH
from failoverd.stores.embedded import EmbeddedStore, EmbeddedStoreServer
from failoverd.stores.embedded_file import StoreFile, StoreFileError
from failoverd.stores.memory import swapped

if TYPE_CHECKING:
    import ssl

    from failoverd.https import Link

MAIL1, MAIL2 = NodeName("mail1"), NodeName("mail2")
RECORD = stories.view("mail2").record or Record()
RECORDS = [wire.encode_record(RECORD), wire.encode_record(Record())]
ANCHORS = wire.encode_anchors(
    (Anchor(7, MAIL2, "begin", 1790000000000, (Head(MAIL2, 6, "0" * 64), Head(MAIL1, 5, "1" * 64))),)
)

_store: list[tuple[Starlette, EmbeddedStoreServer]] = []


def _store_app() -> Starlette:
    if not _store:
        path = place("store") / "store.sqlite3"
        EmbeddedStoreServer.create(path)
        server = EmbeddedStoreServer(path)
        run(server.start())
        _store.append((Starlette(routes=server.routes()), server))
    return _store[0][0]


def _store_request(data: bytes) -> object:
    """`METHOD PATH?QUERY`, `If-Match`, then the body."""
    line, tag, body = parts(data, 3)
    method, _, path = line.partition(b" ")
    if b"wait_ms" in path:
        path = path.replace(b"wait_ms=", b"wait_ms=0&x=", 1)  # what would wait, and nothing else
    status, _ = run(
        asked(
            _store_app(),
            method.decode("latin-1").upper() or "GET",
            b"/" + path.lstrip(b"/"),
            headers=[(b"if-match", tag)],
            body=body,
            peer=MAIL2,
        )
    )
    if status >= 500:
        raise AnswerIsNone(str(status))
    return status


def _store_row(data: bytes) -> object:
    """A row's body as it lies in the file."""
    path = place("row") / "store.sqlite3"
    StoreFile.create(path)
    file = StoreFile(path)
    try:
        file._connection.execute("INSERT INTO record VALUES ('lab', ?, ?)", (RECORD.version, data))
        return file.load()
    finally:
        file.close()


def _store_file(data: bytes) -> object:
    """The file itself: SQLite must not be trusted to refuse it."""
    file = StoreFile(written("damaged.sqlite3", data))
    try:
        return file.begin_run(10)
    finally:
        file.close()


def _store_file_made() -> list[bytes]:
    path = place("whole") / "store.sqlite3"
    StoreFile.create(path)
    file = StoreFile(path)
    file.change("lab", lambda standing: swapped(standing, 0, RECORD))
    file.close()
    return [path.read_bytes()]


def _store_answer(data: bytes) -> object:
    """What the arbiter answers to a read, a swap, a watch and a look at the anchors."""
    store = EmbeddedStore("https://10.0.0.4:7400", cast("ssl.SSLContext", None), 1000, cluster="lab")
    store._link = store._watching = cast("Link", OtherNode(answers(data)))

    async def asked_all() -> list[object]:
        found: list[object] = []
        for work in (store.read(), store.compare_and_swap(1, RECORD), anext(store.watch(1)), store.anchors()):
            try:
                found.append(await work)
            except StoreUnavailableError as error:
                found.append(str(error).encode())
        return found

    return run(asked_all())


TARGETS = [
    Target(
        "store-request",
        "requests of a member to the store",
        _store_request,
        lambda: [
            f'PUT {STORE_PATH}/lab\n"0"\n'.encode() + RECORDS[0],
            f'PUT {STORE_PATH}/lab\n"1"\n'.encode() + RECORDS[1],
            f"GET {STORE_PATH}/lab?after=1&wait_ms=10\n\n".encode(),
            f"POST {STORE_PATH}/lab/anchors\n\n".encode() + ANCHORS,
            f"GET {STORE_PATH}/lab/anchors\n\n".encode(),
        ],
    ),
    Target(
        "store-answer",
        "what the store on the arbiter answers",
        _store_answer,
        lambda: [
            b"\n\n".join([b"200\n" + RECORDS[0], b"412\n" + RECORDS[1], b"200\n" + RECORDS[0], b"200\n" + ANCHORS]),
            b"409\nversion 1 here\n\n500\n\x1b[2J",
        ],
    ),
    Target("store-row", "a row of the store's file", _store_row, lambda: RECORDS, (StoreFileError,)),
    Target("store-file", "the store's file", _store_file, _store_file_made, (StoreFileError,), 128 * 1024),
]
