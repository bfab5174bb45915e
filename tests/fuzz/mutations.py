"""Inputs that are nearly right: bytes of a seed changed here and there, or one of its values by one that hurts.

Most parsers here read JSON or text with JSON-like words in it. A random byte seldom gets past the first check there;
a good document with one value that nobody thought of does.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random

_WORD = re.compile(rb'"(?:[^"\\]|\\.){0,200}"|-?[0-9]+(?:\.[0-9]+)?|true|false|null|[A-Za-z_][A-Za-z0-9_.-]*')
DEEP = 3000  # beyond Python's own limit, and so that no input is large
HURTS = (
    b"null", b"true", b"false", b"0", b"-1", b"1e999", b"-0.0", b"NaN", b"Infinity", b"-Infinity",
    b"9223372036854775807", b"9223372036854775808", b"18446744073709551616", b"1.5", b"1e308", b"9" * 5000,
    b'"' + b"9" * 400 + b'"', b'""', b'"\\ud800"', b'"\\u0000"', b'"\\u202e"', b'"\x1b[31m"', b'"\\n"', b'" "', b'"x"',
    b'"-1"', b'"0"', b'"true"', b"[]", b"{}", b"[[]]", b'[""]', b'{"":0}', b"[" * DEEP, b'{"a":' * DEEP,
    b"[" * DEEP + b"]" * DEEP, "²".encode(), '"²"'.encode(), "٣".encode(), b'"0001-01-01T00:00:00+23:59"',
    b'"9999-12-31T23:59:59-23:59"', b'"2026-02-30"', b'"' + b"a" * 5000 + b'"', b"\xff\xfe", b"\xed\xa0\x80",
    b"*a", b"&a", b"<<: *a", b"!!python/name:os.system", b"0x10", b"1_000", b"%s%n", b"\x00", b"\r\n", b"\t", b",",
    b"-", b"..", b"/", b":", b"=", b" ",
)  # fmt: skip


def mutate(rng: random.Random, seed: bytes, longest: int) -> bytes:
    """One to four changes of `seed`."""
    data = bytearray(seed)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        _change(rng, data)
    return bytes(data[:longest])


def _change(rng: random.Random, data: bytearray) -> None:
    words = list(_WORD.finditer(bytes(data[:65536])))
    at = rng.randrange(len(data) + 1)
    match rng.randrange(9):
        case 0 | 1 | 2 if words:  # a value by another
            word = rng.choice(words)
            data[word.start() : word.end()] = rng.choice(HURTS)
        case 3 if words:  # a value by another of its own
            word, other = rng.choice(words), rng.choice(words)
            data[word.start() : word.end()] = other[0]
        case 4 if words:  # a piece that is there twice
            first, second = sorted((rng.choice(words).start(), rng.choice(words).start()))
            data[second:second] = data[first:second]
        case 5:
            del data[at : at + rng.choice((1, 1, 2, 8, 64, 1024))]
        case 6:
            data[at:at] = rng.choice(HURTS)
        case 7 if data:
            data[at % len(data)] = rng.randrange(256)
        case _:
            del data[at:]
