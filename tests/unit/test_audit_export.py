"""Records as a SIEM takes them (CEF): every field in its place, and nothing that somebody wrote begins another one."""

from __future__ import annotations

import re
from typing import Any

import pytest

from failoverd import __version__
from failoverd.audit import cef

RECORD: dict[str, Any] = {
    "v": 2,
    "seq": 41,
    "prev": "9f" * 32,
    "time": "2026-03-01T12:00:00.123Z",
    "boot_ms": 81234,
    "node": "mail2",
    "term": 7,
    "actor": "anna",
    "kind": "request-result",
    "rule": "asked",
    "result": "done",
    "text": "mail2 is primary as asked",
    "code": "BLK_LAG",
    "detail": {"by": "anna", "request": "r1"},
    "input": {"digest": "ab" * 32, "view": "eJzt"},
}
FIELD = re.compile(r"(?:^| )(\w+)=((?:[^=\\]|\\.)*?)(?= \w+=|$)")


def split(line: str) -> tuple[list[str], dict[str, str]]:
    """The head's fields and the extension's, as a receiver reads them."""
    *head, extension = re.split(r"(?<!\\)\|", line, maxsplit=7)
    return head, {match[1]: match[2] for match in FIELD.finditer(extension)}


def test_a_record_as_a_line() -> None:
    head, fields = split(cef.line(RECORD))
    assert head == [
        "CEF:0",
        "failoverd",
        "failoverd",
        __version__,
        "request-result",
        "mail2 is primary as asked",
        "5",
    ]
    assert list(fields.items()) == [
        ("rt", "1772366400123"),
        ("dvchost", "mail2"),
        ("externalId", "41"),
        ("suser", "anna"),
        ("outcome", "done"),
        ("msg", "mail2 is primary as asked"),
        ("cn1Label", "term"),
        ("cn1", "7"),
        ("cs1Label", "rule"),
        ("cs1", "asked"),
        ("cs2Label", "code"),
        ("cs2", "BLK_LAG"),
        ("cs3Label", "inputDigest"),
        ("cs3", "ab" * 32),
        ("cs4Label", "prev"),
        ("cs4", "9f" * 32),
        ("flexString1Label", "detail"),
        ("flexString1", '{"by": "anna", "request": "r1"}'),
    ]


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("a|b", r"a\|b", "a|b"),
        ("a\\b", r"a\\b", r"a\\b"),
        ("a=b suser=root", "a=b suser=root", r"a\=b suser\=root"),
        ("a\nCEF:0|x", r"a CEF:0\|x", r"a\nCEF:0|x"),
        ("a\r\nb", "a  b", r"a\r\nb"),
        ("a\x00\x1b[31m\u2028b", "a  [31m b", "a  [31m b"),
        ("Gründe", "Gründe", "Gründe"),
        ("x" * 600, "x" * 512, "x" * 600),
    ],
)
def test_what_somebody_wrote_stays_where_it_is(text: str, name: str, message: str) -> None:
    line = cef.line(RECORD | {"text": text})
    assert len(line.splitlines()) == 1
    head, fields = split(line)
    assert (head[5], fields["msg"]) == (name, message)
    assert (fields["suser"], fields["externalId"]) == ("anna", "41")


@pytest.mark.parametrize(
    ("changes", "severity"),
    [({"code": None}, "3"), ({}, "5"), ({"result": "failed"}, "7"), ({"result": "refused", "code": None}, "7")],
)
def test_what_went_wrong_is_more_severe(changes: dict[str, Any], severity: str) -> None:
    assert split(cef.line(RECORD | changes))[0][6] == severity


def test_a_record_of_version_1() -> None:
    old = {
        "v": 1,
        "seq": 3,
        "time": "2026-03-01T12:00:00.123Z",
        "node": "mail1",
        "term": None,
        "event": "audit-repaired",
    }
    head, fields = split(cef.line(old))
    assert head[4:6] == ["audit-repaired", "audit-repaired"]
    assert fields == {"rt": "1772366400123", "dvchost": "mail1", "externalId": "3", "suser": "failoverd"}
