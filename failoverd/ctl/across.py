"""`failoverctl audit verify` beyond this host: what other nodes and the store know of the records, by the daemon.

Asked before this node's record is read: what is written meanwhile is then here and not there, which is no difference.
Without a daemon there is still this node's record, and the copies that it has of the others'.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote

from failoverd.audit import across
from failoverd.audit.across import Anchor, AskError, Ends, Said
from failoverd.audit.branch import lines_of
from failoverd.audit.chain import Head
from failoverd.ctl.client import Client
from failoverd.ctl.exits import UnreachableError
from failoverd.runtime import document_copies as doc

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from failoverd.audit.verify import Verified

COPIES = "copies"
WITHIN_S = 15.0  # the daemon asks every node, each within some seconds


@dataclass(frozen=True, slots=True)
class Asked:
    """What the daemon has gathered. `unseen`: who could not be asked, and why; "": nobody, since it is silent."""

    node: str = ""
    ends: tuple[Ends, ...] = ()
    anchors: tuple[Anchor, ...] = ()
    unseen: tuple[tuple[str, str], ...] = ()
    client: Client | None = field(default=None, repr=False)

    def known_heads(self) -> list[Head]:
        """Lines of this node's record that others know; the anchors of a node that was put back are of no use here."""
        own = [Head(ends.seq, ends.hash) for ends in self.ends if ends.of == self.node and ends.version]
        return [*own, *(Head(anchor.seq, anchor.hash) for anchor in self.anchors if anchor.of == self.node)]

    def hashes(self, on: str, of: str, version: int, at: list[int]) -> dict[int, str]:
        """Of lines as node `on` has them. Raises AskError."""
        if self.client is None:
            raise AskError("the daemon on this node does not answer")
        path = f"/v1/audit/hashes?on={quote(on)}&of={quote(of)}&version={version}&at={','.join(map(str, at))}"
        try:
            status, body = self.client.get(path)
            if status != 200:
                raise AskError(f"{status} {body[:200].decode(errors='replace')}")
            return doc.read(doc.HASHES, body).found
        except (UnreachableError, doc.NotUnderstoodError) as error:
            raise AskError(str(error)) from None


def ask(socket: Path) -> Asked:
    """Ask the daemon here for what all nodes say. Never raises."""
    client = Client(socket, WITHIN_S)
    try:
        status, body = client.get("/v1/audit/across")
        if status != 200:
            return Asked(unseen=(("", f"{status} {body[:200].decode(errors='replace')}"),))
        told = doc.read(doc.ACROSS, body)
    except (UnreachableError, doc.NotUnderstoodError) as error:
        return Asked(unseen=(("", str(error)),))
    unseen = [(missing.node, missing.why) for missing in told.unseen]
    unseen += [("the store", told.anchors_unseen)] if told.anchors_unseen else []
    return Asked(
        node=told.node,
        ends=tuple(
            Ends(heads.node, ends.node, ends.version, ends.first, ends.seq, ends.hash)
            for heads in told.heads
            for ends in heads.records
        ),
        anchors=tuple(Anchor(a.term, a.by, a.moment, a.node, a.seq, a.hash) for a in told.anchors),
        unseen=tuple(unseen),
        client=client,
    )


def compared(asked: Asked, directory: Path, verified: Verified) -> Iterator[Said]:
    """What there is to say, once this node's record was read. Raises OSError."""
    if asked.client is not None and verified.head is not None:

        def here(at: list[int]) -> dict[int, str]:
            wanted = set(at)
            return (
                {line.seq: line.hash for line in lines_of(directory, min(at) - 1) if line.seq in wanted} if at else {}
            )

        first = next((line.seq for line in lines_of(directory, 0)), 0)
        own = Ends(asked.node, asked.node, 0, first, verified.head.seq, verified.head.hash)
        copies = [ends for ends in asked.ends if ends.of == asked.node and ends.version]
        yield from across.of_own(own, here, copies, asked.hashes)
        yield from across.of_anchors(own, here, asked.anchors)
        unseen = {name for name, _ in asked.unseen}
        newest = {ends.of: ends for ends in asked.ends if ends.on == asked.node and ends.version}
        yield from across.of_others(
            asked.node, [ends for ends in newest.values() if ends.of not in unseen], asked.hashes
        )
    for path in sorted((directory / COPIES).glob("*/*")):
        if path.name.isdecimal() and path.is_dir() and any(file.stat().st_size for file in path.iterdir()):
            yield across.of_copy(path, path.parent.name)
    for name, why in asked.unseen:
        yield Said(f"not looked at: {name or 'the other nodes'}: {why}", broken=False)
