"""Audit records as CSV (RFC 4180): a row a record, for spreadsheets and those who ask for them.

A cell that a spreadsheet would take for a formula (it begins with = + - @, or a tab or carriage return) gets an
apostrophe in front: a name or a reason that somebody chose must not run there. The input is left out, as its digest.
"""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING

from failoverd.audit.reading import actor_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import TextIO

COLUMNS = (
    "seq",
    "time",
    "node",
    "term",
    "kind",
    "rule",
    "code",
    "text",
    "detail",
    "input_digest",
    "actor",
    "result",
    "prev",
)  # new ones come last
FORMULA = ("=", "+", "-", "@", "\t", "\r")


def write(records: Iterable[Mapping[str, object]], file: TextIO) -> None:
    """Write the head and a row a record."""
    rows = csv.writer(file, lineterminator="\r\n")
    rows.writerow(COLUMNS)
    for record in records:
        rows.writerow([_cell(record, column) for column in COLUMNS])


def _cell(record: Mapping[str, object], column: str) -> str | int:
    value = record.get(column)
    if column == "input_digest":
        given = record.get("input")
        value = given.get("digest") if isinstance(given, dict) else None
    elif column == "actor":
        value = actor_of(record)
    if value is None:
        return ""
    if isinstance(value, int):
        return value
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return f"'{text}" if text.startswith(FORMULA) else text
