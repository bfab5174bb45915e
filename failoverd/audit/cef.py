r"""Audit records in ArcSight's Common Event Format (CEF 0, Implementation Standard 1.2): a line a record, for a SIEM.

    CEF:0|failoverd|failoverd|0.1.0|step-ended|open-gate: failed|7|rt=1772366400123 dvchost=mail2 suser=failoverd …

In the head `\` and `|` are escaped; in the extension `\`, `=`, and line ends as `\n` and `\r`. Other control characters
become a space: nothing that somebody chose as a name or a reason begins a line or a field of its own. The input is left
out, as its digest; the hash of the record before is kept, so that a line can be held against the audit.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from failoverd import __version__
from failoverd.audit import reading

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import TextIO

NAME_LENGTH = 512  # characters, as the standard has it
# In this order. A label tells what a custom field holds.
LABELS = {"cn1Label": "term", "cs1Label": "rule", "cs2Label": "code", "cs3Label": "inputDigest", "cs4Label": "prev"}
FAILED = frozenset({"failed", "refused", "unknown", "dropped", "undone"})
NOTED, TOLD, WENT_WRONG = 3, 5, 7  # of 0 to 10: low, medium, high
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def write(records: Iterable[Mapping[str, object]], file: TextIO) -> None:
    """Write a line a record."""
    file.writelines(f"{line(record)}\n" for record in records)


def line(record: Mapping[str, object]) -> str:
    """One record, without the line's end."""
    kind = str(record.get("kind") or record.get("event") or "record")
    name = str(record.get("text") or kind)[:NAME_LENGTH]
    head = "|".join(map(_head, ("failoverd", "failoverd", __version__, kind, name)))
    fields = " ".join(f"{key}={_value(value)}" for key, value in _extension(record) if value not in {"", None})
    return f"CEF:0|{head}|{_severity(record)}|{fields}"


def _extension(record: Mapping[str, object]) -> Iterable[tuple[str, str | int | None]]:
    """Every field that a record may have, always in this order; what it has not is left out."""
    moment, given, detail = reading.moment_of(record), record.get("input"), record.get("detail")
    custom = {
        "cn1": record.get("term"),
        "cs1": record.get("rule"),
        "cs2": record.get("code"),
        "cs3": given.get("digest") if isinstance(given, dict) else None,
        "cs4": record.get("prev"),
    }
    yield "rt", None if moment is None else round(moment.timestamp() * 1000)
    yield "dvchost", _plain(record.get("node"))
    yield "externalId", _plain(record.get("seq"))
    yield "suser", reading.actor_of(record)
    yield "outcome", _plain(record.get("result"))
    yield "msg", _plain(record.get("text"))
    for key, value in custom.items():
        if value not in {"", None}:
            yield f"{key}Label", LABELS[f"{key}Label"]
            yield key, _plain(value)
    yield "flexString1Label", "detail" if detail else None
    yield "flexString1", json.dumps(detail, ensure_ascii=False) if detail else None


def _severity(record: Mapping[str, object]) -> int:
    if record.get("result") in FAILED:
        return WENT_WRONG
    return TOLD if record.get("code") else NOTED


def _plain(value: object) -> str | int | None:
    return value if isinstance(value, str | int) or value is None else json.dumps(value, ensure_ascii=False)


def _head(text: str) -> str:
    return _CONTROLS.sub(" ", text).replace("\\", r"\\").replace("|", r"\|")


def _value(value: str | int) -> str:
    text = str(value).replace("\\", r"\\").replace("=", r"\=").replace("\r", r"\r").replace("\n", r"\n")
    return _CONTROLS.sub(" ", text)
