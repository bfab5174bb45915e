from __future__ import annotations

import os
import secrets
import socket
from typing import TYPE_CHECKING

import pytest

from failoverd.runtime.systemd import Notifier

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """Return what systemd would put into NOTIFY_SOCKET, and its end of the socket."""
    name = f"@failoverd-test-{secrets.token_hex(8)}" if request.param == "abstract" else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.settimeout(5)
        receiver.bind(name.replace("@", "\0") if request.param == "abstract" else name)
        yield name, receiver


def test_each_message_arrives(manager: tuple[str, socket.socket]) -> None:
    name, receiver = manager
    notifier = Notifier({"NOTIFY_SOCKET": name})
    for sent, expected in (
        (notifier.ready("replica in term 7\nof lab"), b"READY=1\nSTATUS=replica in term 7 of lab"),
        (notifier.status("primary"), b"STATUS=primary"),
        (notifier.watchdog(), b"WATCHDOG=1"),
        (notifier.stopping(), b"STOPPING=1"),
    ):
        assert sent
        assert receiver.recv(1000) == expected
    assert notifier.reloading()
    assert receiver.recv(1000).startswith(b"RELOADING=1\nMONOTONIC_USEC=")


def test_a_manager_that_does_not_read_is_not_waited_for(manager: tuple[str, socket.socket]) -> None:
    name, _ = manager
    notifier = Notifier({"NOTIFY_SOCKET": name})
    assert not all(notifier.watchdog() for _ in range(10_000))


@pytest.mark.parametrize("name", ["", "/nowhere/at/all", "@nobody-is-here", "/" + "x" * 200, "@"])
def test_without_a_manager_nothing_happens(name: str) -> None:
    assert not Notifier({"NOTIFY_SOCKET": name}).ready()


@pytest.mark.parametrize(
    ("environment", "interval_ms"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "3000000"}, 1000),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}, 1000),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdogs_interval(environment: dict[str, str], interval_ms: int | None) -> None:
    assert Notifier(environment).watchdog_interval_ms == interval_ms
