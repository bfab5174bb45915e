"""Entries as the audit's lines: who, under which rule, with what result, and the input of what was decided.

`actor` is who asked for it, or failoverd; `result` a word for what came of it, or for what the record is. The input is
the view that a decision was made from, so that `explain` can decide again:

    "input": {"software": "0.1.0", "digest": "9f86…", "view": "eJzt…"}      zlib, base64: about 3 KB
    "input": {"software": "0.1.0", "digest": "9f86…"}                       as in an earlier record of the same append
    "input": {"software": "0.1.0", "omitted": "…why"}                       the record is what counts

In the record itself and not in a file beside it: one write and one sync make both durable, a record that is moved,
copied or rotated away takes its input along, nothing has to be pruned, and a hash over the record covers the input.
A decision is rare (the rule in force must change), so that the size does not matter over years. `digest` is of the
JSON before it was compressed: whatever packs it, it names the same input.

A view that is unusually large, or cannot be encoded, must not keep the record from being written: it is left out, and
the record says why. So an append stays far below what the file looks back for its last record (file.TAIL).
"""

from __future__ import annotations

import base64
import binascii
import zlib
from typing import TYPE_CHECKING

from failoverd import __version__, views
from failoverd.audit.file import MYSELF

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from failoverd.core.effects import Entry
    from failoverd.core.view import View

RECORD_LIMIT = 48 * 1024  # characters of one packed view; a cluster of four with much to say needs about 8 KB
APPEND_LIMIT = 256 * 1024  # of all in one append
VIEW_LIMIT = 16 * 1024 * 1024  # bytes of one view that is unpacked: what a damaged record may make a reader hold

RESULTS = {"decision": "decided", "blocked": "refused", "step": "begun", "request": "accepted"}  # of these kinds


class InputError(Exception):
    """A record's input cannot be used, and why."""


def lines(entries: Iterable[Entry]) -> list[dict[str, object]]:
    """The entries as the audit's lines, those of decisions with their input. Takes about a millisecond a view."""
    packing = _Packing()
    return [_line(entry, packing) for entry in entries]


def _line(entry: Entry, packing: _Packing) -> dict[str, object]:
    detail = dict(entry.detail)
    line: dict[str, object] = {"term": entry.term, "actor": detail.get("by") or MYSELF, "kind": entry.kind}
    line |= {"rule": entry.rule, "result": _result(entry.kind, detail), "text": entry.text}
    if entry.code:
        line["code"] = entry.code
    if entry.detail:
        line["detail"] = detail
    if entry.view is not None:
        line["input"] = {"software": __version__, **packing.pack(entry.view)}
    return line


def _result(kind: str, detail: Mapping[str, str]) -> str:
    """What came of it, in a word: as whoever noted it says, else by its kind."""
    if "outcome" in detail:
        return detail["outcome"]
    if "succeeded" in detail:
        return "succeeded" if detail["succeeded"] == "true" else "failed"
    if kind.endswith(("-refused", "-dropped", "-undone")):
        return kind.rpartition("-")[2]
    return RESULTS.get(kind, "noted")


class _Packing:
    """The inputs of one append: each view once."""

    def __init__(self) -> None:
        self._seen: list[tuple[View, str]] = []
        self._size = 0

    def pack(self, view: View) -> dict[str, str]:
        known = next((digest for seen, digest in self._seen if seen is view), None)
        if known is not None:
            return {"digest": known}
        try:
            data = views.encode(view)
        except views.ViewError as error:
            return {"omitted": str(error)}
        digest = views.digest(data)
        packed = base64.b64encode(zlib.compress(data)).decode("ascii")
        if len(packed) > RECORD_LIMIT or self._size + len(packed) > APPEND_LIMIT:
            return {
                "omitted": f"{len(data)} bytes, {len(packed)} when packed: too large for a record",
                "digest": digest,
            }
        self._size += len(packed)
        self._seen.append((view, digest))
        return {"digest": digest, "view": packed}


def unpacked(given: Mapping[str, object]) -> bytes:
    """The JSON of the view in a record's input, its digest compared. Raises InputError."""
    if "omitted" in given:
        raise InputError(f"its input was left out: {given['omitted']}")
    packed = given.get("view")
    if not isinstance(packed, str):
        raise InputError("its input is in an earlier record")
    try:
        unpacking = zlib.decompressobj()
        data = unpacking.decompress(base64.b64decode(packed, validate=True), VIEW_LIMIT)
    except (binascii.Error, ValueError, zlib.error) as error:
        raise InputError(f"its input cannot be unpacked: {error}") from None
    if not unpacking.eof or unpacking.unused_data:
        raise InputError("its input cannot be unpacked: it does not end where it should")
    if views.digest(data) != given.get("digest"):
        raise InputError(f"its input is not the one that it was written with: the digest is {views.digest(data)}")
    return data


def input_of(history: Sequence[Mapping[str, object]], index: int) -> tuple[bytes, Mapping[str, object]]:
    """The view of the record at `index`, as JSON, and what its input says of itself. Raises InputError."""
    given = history[index].get("input")
    if not isinstance(given, dict):
        raise InputError("it tells of no decision: it has no input")
    if "view" in given or "omitted" in given:
        return unpacked(given), given
    for record in reversed(history[:index]):
        earlier = record.get("input")
        if isinstance(earlier, dict) and earlier.get("digest") == given.get("digest") and "view" in earlier:
            return unpacked(earlier), given
    raise InputError(f"the record that holds its input, {given.get('digest')}, is not among those that were read")
