"""By which names the public listener answers."""

from __future__ import annotations

import pytest

from failoverd.runtime.public_hosts import is_ours

NAMES = frozenset({"localhost", "failoverd", "mail1", "status.example.org"})


@pytest.mark.parametrize(
    "host",
    [
        "mail1",
        "MAIL1:7480",
        "mail1.",
        "status.example.org:80",
        "localhost:7480",
        "failoverd",
        "192.0.2.11",
        "192.0.2.11:7480",
        "[2001:db8::1]",
        "[2001:db8::1]:7480",
        "2001:db8::1",
    ],
)
def test_its_own(host: str) -> None:
    assert is_ours(host, NAMES)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "mail1.evil.example:7480",
        "192.0.2.11.evil.example",
        "192.0.2.11:evil",
        "mail1:",
        "mail1@evil.example",
        "evil.example#mail1",
        "0x7f.1",
        "[evil.example]:7480",
        "mail1, evil.example",
    ],
)
def test_somebody_elses(host: str) -> None:
    assert not is_ours(host, NAMES)
