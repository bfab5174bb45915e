"""Profiles are read as Go writes them."""

from __future__ import annotations

import gzip

from scale_profile import OTHER, shares, stacks


def varint(value: int) -> bytes:
    return bytes((value,)) if value < 0x80 else bytes((value & 0x7F | 0x80,)) + varint(value >> 7)


def number(key: int, value: int) -> bytes:
    return varint(key << 3) + varint(value)


def part(key: int, data: bytes) -> bytes:
    return varint(key << 3 | 2) + varint(len(data)) + data


def profile(*samples: tuple[list[int], int]) -> bytes:
    """Two functions, each at the place of its own number; `samples` are places, the innermost first, and time."""
    names = ("", "crypto/tls.(*Conn).Write", "main.main")
    message = b"".join(
        part(2, part(1, b"".join(map(varint, where))) + part(2, varint(1) + varint(spent))) for where, spent in samples
    )
    for one in (1, 2):
        message += part(4, number(1, one) + part(4, number(1, one)))
        message += part(5, number(1, one) + number(2, one))
    return gzip.compress(message + b"".join(part(6, name.encode()) for name in names))


def test_a_sample_is_its_functions_from_the_innermost_and_its_time() -> None:
    assert list(stacks(profile(([1, 2], 300)))) == [(["crypto/tls.(*Conn).Write", "main.main"], 300)]


def test_each_sample_counts_for_the_work_of_its_innermost_known_function() -> None:
    found = shares(profile(([1, 2], 300), ([2], 100)))
    assert found == [("TLS records, and writing them to sockets", 0.75), (OTHER, 0.25)]
