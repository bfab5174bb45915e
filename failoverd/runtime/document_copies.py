"""What nodes tell each other of their audits, and `failoverctl audit verify` of all: JSON, checked when it is read."""

from __future__ import annotations

from typing import Annotated, TypeVar

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from failoverd.audit.branch import NUMBERS
from failoverd.runtime.document import printable

Hash = Annotated[str, Field(max_length=64)]
Number = Annotated[int, Field(ge=0, lt=NUMBERS)]
OneLine = AfterValidator(lambda text: printable(text).replace("\n", "?"))  # operators read it
Name = Annotated[str, Field(max_length=64), OneLine]
Words = Annotated[str, Field(max_length=500), OneLine]
LINES_MOST = 128  # of known lines, or of those asked for at once

_strict = ConfigDict(strict=True, extra="forbid")


@dataclass(frozen=True, config=_strict)
class Kept:
    """A node has all lines up to this one. `versions` of the record are there: more than one where it was forked."""

    seq: Number
    hash: Hash
    versions: Number


@dataclass(frozen=True, config=_strict)
class Known:
    """Lines that a node has, newest first, for the origin to go on from the newest that it has, too."""

    known: Annotated[tuple[tuple[Number, Hash], ...], Field(strict=False, max_length=LINES_MOST)]


@dataclass(frozen=True, config=_strict)
class Ends:
    """From where to where a record goes, or a version of a copy of it. `hash` is the last line's."""

    node: Name
    first: Number
    seq: Number
    hash: Hash
    version: Number = 0  # 0: the node's own record


@dataclass(frozen=True, config=_strict)
class Heads:
    """All that one node has of audits."""

    node: Name
    records: Annotated[tuple[Ends, ...], Field(strict=False, max_length=LINES_MOST)]


@dataclass(frozen=True, config=_strict)
class Hashes:
    """The hashes of some lines, as far as they are there."""

    found: Annotated[dict[Number, Hash], Field(max_length=LINES_MOST)]


@dataclass(frozen=True, config=_strict)
class Missing:
    """A node that has not taken the newest line of a record, and why."""

    node: Name
    why: Words


@dataclass(frozen=True, config=_strict)
class Spread:
    """On which nodes the record of `node` is whole, itself included, up to the line that was its last when asked."""

    node: Name
    seq: Number
    on: Annotated[tuple[Name, ...], Field(strict=False, max_length=LINES_MOST)]
    missing: Annotated[tuple[Missing, ...], Field(strict=False, max_length=LINES_MOST)]

    @property
    def by_most(self) -> bool:
        """Whether more than half of the nodes have it."""
        return len(self.on) * 2 > len(self.on) + len(self.missing)


@dataclass(frozen=True, config=_strict)
class Anchored:
    """A head of `node` as `by` put it into the store at a moment of its term."""

    term: Number
    by: Name
    moment: Name
    node: Name
    seq: Number
    hash: Hash


@dataclass(frozen=True, config=_strict)
class Across:
    """What nodes say of the records and their copies, and the store of anchors; `unseen`: who could not be asked."""

    cluster: Name
    node: Name
    heads: Annotated[tuple[Heads, ...], Field(strict=False, max_length=LINES_MOST)]
    unseen: Annotated[tuple[Missing, ...], Field(strict=False, max_length=LINES_MOST)]
    anchors: Annotated[tuple[Anchored, ...], Field(strict=False)]
    anchors_unseen: Annotated[str, OneLine] = ""


KEPT, KNOWN, HEADS = TypeAdapter(Kept), TypeAdapter(Known), TypeAdapter(Heads)
HASHES, SPREAD, ACROSS = TypeAdapter(Hashes), TypeAdapter(Spread), TypeAdapter(Across)

D = TypeVar("D")


class NotUnderstoodError(Exception):
    """An answer is of another version, or none of ours."""


def read(adapter: TypeAdapter[D], data: bytes) -> D:
    """The document in `data`. Raises NotUnderstoodError."""
    try:
        return adapter.validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "answer"
        raise NotUnderstoodError(f"not understood (another version?): {place}: {first['msg']}") from None
