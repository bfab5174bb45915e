"""Copies of audits: what other nodes send to be kept, ask for and answer; the copies as they lie here; packed files."""

from __future__ import annotations

import functools
import gzip
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, cast

from other_node import OtherNode, answers
from places import AnswerIsNone, asked, config_file, header_lines, parts, place, run
from starlette.applications import Starlette
from target import Target

from failoverd.audit import across, packing, reading, verify
from failoverd.audit.branch import hashes_of
from failoverd.audit.copies import Copies, RefusedError
from failoverd.audit.file import AuditFile
from failoverd.audit.layout import DAMAGED, NAME, PACKED, name_of
from failoverd.audit.outgoing import Outgoing
from failoverd.config import load
from failoverd.core.model import NodeName
from failoverd.https import LinkError
from failoverd.runtime import document_copies as doc
from failoverd.runtime.copying import OLDEST, PATH, TRIES, _RefusedError
from failoverd.runtime.witness import Witness

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from pathlib import Path

    from failoverd.audit.chain import Written
    from failoverd.https import Answer, Link
    from failoverd.ports import Store
    from failoverd.runtime.daemon import Daemon

MAIL1, MAIL2 = NodeName("mail1"), NodeName("mail2")
NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
AGES = timedelta(days=730)


class _Still:
    def now_ms(self) -> int:
        """Always the same."""
        return 1000


def _audit(where: Path, node: str, told: Callable[[list[Written]], None] = lambda _: None) -> AuditFile:
    audit = AuditFile(where / NAME, node, _Still(), told=told, cluster="lab")
    audit.append([{"term": 1, "kind": "step", "text": f"step {number}"} for number in range(6)])
    return audit


@functools.cache
def _lines() -> tuple[bytes, ...]:
    """Mail2's record, as it sends it."""
    where = place("copies-of-mail2")
    _audit(where, MAIL2).close()
    return tuple((where / NAME).read_bytes().splitlines(keepends=True))


class _Daemon:
    """Of which nothing is asked here."""

    outbox = None


class _Stage:
    """Mail1 with its record, and copies; nothing listens, and nobody is dialled."""

    def __init__(self, where: Path) -> None:
        self.directory = where / "audit"
        self.outgoing = Outgoing(self.directory)
        self.audit = _audit(self.directory, MAIL1, self.outgoing.noted)
        config = load(config_file(), MAIL1)
        section = config.audit.model_copy(update={"directory": self.directory})
        self.witness = Witness(
            config.model_copy(update={"audit": section}),
            cast("Daemon", _Daemon()),
            cast("Store", None),
            self.outgoing,
            cast("ssl.SSLContext", None),
        )
        self.witness._kept._note = lambda *_: None
        links = self.witness._copying.links
        links.update(dict.fromkeys(links, cast("Link", OtherNode([]))))
        self.app = Starlette(routes=[*self.witness.peer_routes(), *self.witness.control_routes()])

    def met(self, said: list[Answer]) -> None:
        """Mail2 answers so."""
        node = cast("Link", OtherNode(said))
        self.witness._copying.links[MAIL2] = node
        other = self.witness._copying.others[MAIL2]
        other._link, other._asked, other.upto = node, False, 0

    def forget(self) -> None:
        """No copy is here any more."""
        copies = self.witness._kept._copies
        for path in (self.directory / "copies").glob("*/*"):
            for file in path.iterdir():
                file.unlink()
        copies._newest.clear()


@functools.cache
def _stage() -> _Stage:
    return _Stage(place("copies-stage"))


# ---- what is asked and sent -----------------------------------------------------------------------------------------


def _request(data: bytes) -> object:
    """`METHOD PATH?QUERY`, header lines up to an empty one, then lines: sent, and sent once more without the first."""
    stage = _stage()
    stage.forget()
    head, _, body = data.partition(b"\n\n")
    line, headers = parts(head, 2)
    method, _, target = line.partition(b" ")
    name = method.decode("latin-1").upper() or "GET"
    told = None
    for part in (body, body.partition(b"\n")[2]):
        status, told = run(
            asked(stage.app, name, b"/" + target.lstrip(b"/"), headers=header_lines(headers), body=part, peer=MAIL2)
        )
        if status >= 500 and status not in {502, 503, 507}:  # it says why, and what is kept is as it was
            raise AnswerIsNone(f"{status} {told[:200]!r}")
    status, heads = run(asked(stage.app, "GET", PATH.encode() + b"/heads", peer=MAIL2))
    if status != 200:
        raise AnswerIsNone(f"what is here cannot be told any more: {status} {heads[:200]!r}")
    doc.read(doc.HEADS, heads)
    return told


def _request_made() -> list[bytes]:
    record = b"".join(_lines())
    path = PATH.encode()
    return [
        b"POST " + path + b"\n\n" + record,
        b"POST " + path + b"\n" + OLDEST.encode() + b": 3\n\n" + b"".join(_lines()[2:]),
        b"GET " + path + b"?all=1\n\n",
        b"GET " + path + b"/heads\n\n",
        b"GET " + path + b"/hashes?of=mail1&version=0&at=1,2,3\n\n",
        b"GET " + path + b"/spread?within_ms=0\n\n",
        b"GET /v1/audit/hashes?on=mail1&of=mail2&version=1&at=1,2\n\n",
    ]


# ---- what is answered -----------------------------------------------------------------------------------------------


def _sent(data: bytes) -> object:
    """Mail2 answers to what it is sent. It ends, whatever it says."""
    stage = _stage()
    stage.met(answers(data))
    other = stage.witness._copying.others[MAIL2]
    try:
        run(other._send_all())
    except (LinkError, doc.NotUnderstoodError, _RefusedError) as error:
        other.error = str(error)
    other.error.encode()
    stage.witness._kept.refused()
    return other.upto


def _sent_made() -> list[bytes]:
    head = _stage().outgoing.head
    known = doc.KNOWN.dump_json(doc.Known(((head.seq, head.hash), (1, "0" * 64))))
    older = doc.KNOWN.dump_json(doc.Known(tuple(_hashes(1).items())))
    kept = doc.KEPT.dump_json(doc.Kept(head.seq, head.hash, 1))
    nothing = doc.KNOWN.dump_json(doc.Known(()))
    return [
        b"200\n" + older + b"\n\n200\n" + kept,
        b"200\n" + known,
        b"200\n" + nothing + b"\n\n" + b"\n\n".join([b"409\n" + older] * TRIES) + b"\n\n200\n" + kept,
    ]


def _hashes(*at: int) -> dict[int, str]:
    return hashes_of(_stage().directory, at)


def _told(data: bytes) -> object:
    """Mail2 says what it has and who has its record; then hashes, for whoever compares."""
    stage = _stage()
    heads, spread, *hashes = answers(data + b"\n\n\n\n")
    stage.met([heads])
    their = run(stage.witness._ask_heads(MAIL2))
    stage.met([spread])
    run(stage.witness._copying.of_one(MAIL2))
    ends = (
        [across.Ends(their.node, each.node, each.version, each.first, each.seq, each.hash) for each in their.records]
        if isinstance(their, doc.Heads)
        else []
    )

    def ask(*_: object) -> dict[int, str]:
        try:
            return doc.read(doc.HASHES, hashes.pop(0).body).found if hashes else {}
        except doc.NotUnderstoodError as error:
            raise across.AskError(str(error)) from None

    head = stage.outgoing.head
    own = across.Ends(MAIL1, MAIL1, 0, 1, head.seq, head.hash)
    said = [
        *across.of_own(own, lambda at: _hashes(*at), [each for each in ends if each.of == MAIL1], ask),
        *across.of_others(MAIL1, [each for each in ends if each.of != MAIL1], ask),
    ]
    assert all(one.what.isprintable() for one in said), said
    return said


def _told_made() -> list[bytes]:
    head = _stage().outgoing.head
    heads = doc.Heads(
        MAIL2,
        (
            doc.Ends(MAIL2, 1, 6, "0" * 64),
            doc.Ends(MAIL1, 1, head.seq, head.hash, 1),
            doc.Ends(MAIL1, 3, 4, "1" * 64, 2),
        ),
    )
    spread = doc.Spread(MAIL2, 6, (MAIL2,), (doc.Missing(MAIL1, "503 the disk is slow"),))
    hashes = doc.HASHES.dump_json(doc.Hashes(_hashes(2, 3, 4)))
    return [doc.HEADS.dump_json(heads) + b"\n\n" + doc.SPREAD.dump_json(spread) + b"\n\n" + hashes]


# ---- what lies here -------------------------------------------------------------------------------------------------


def _kept(data: bytes) -> object:
    """A copy's file, damaged or edited: looked at, sent on to, put in order."""
    where = place("copies-kept")
    file = where / MAIL2 / "1" / NAME
    file.parent.mkdir(parents=True)
    file.write_bytes(data)
    copies = Copies(where, [MAIL2], free_least=0)
    try:
        found = copies.versions(MAIL2)
        copies.known(MAIL2, all_over=True)
        copies.hashes(MAIL2, 1, [1, 2, 3])
        copies.take(MAIL2, b"".join(_lines()[-2:]))
        copies.keep_house(AGES, NOW)
    except (RefusedError, OSError) as error:  # its end cannot be read: an operator is told
        found = [error]  # type: ignore[list-item]  # whatever came of it
    across.of_copy(file.parent, MAIL2)
    return found


def _packed(data: bytes) -> object:
    """A closed file that is packed, as everybody reads it: the end, all of it, its contents."""
    where = place("packed")
    path = where / (name_of(1) + PACKED)
    path.write_bytes(data)
    list(reading.tail_lines(where, 1 << 20))
    list(reading.records(where, NOW))
    list(verify.verify(where, verify.Verified(), NOW))
    packing.untold(where)
    try:
        return packing.contents_of(path)
    except (OSError, ValueError, *DAMAGED) as error:
        return error


def _packed_made() -> list[bytes]:
    record = b"".join(_lines())
    return [gzip.compress(record, mtime=0), gzip.compress(record[:300], mtime=0) + gzip.compress(b"x", mtime=0)]


TARGETS = [
    Target("copies-request", "what members send to be kept, and ask for", _request, _request_made, (), 64 * 1024),
    Target("copies-answer", "what another node answers to what it is sent", _sent, _sent_made),
    Target("copies-heads", "what another node says that it has", _told, _told_made),
    Target("copies-file", "a copy as it lies here", _kept, lambda: [b"".join(_lines()), b"".join(_lines()[2:])]),
    Target("audit-packed", "a packed file of the audit", _packed, _packed_made),
]
