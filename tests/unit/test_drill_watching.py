"""The load beside real clients: below its ceiling, and not smaller just when everybody comes back."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from control_stage import HEALTHY
from drill_stage import ASKED
from node_certificates import Authority

from failoverd.config import load
from failoverd.drill import watching
from failoverd.drill.book import Book
from failoverd.drill.calls import Agents
from failoverd.drill.collecting import Collector
from failoverd.drill.generator import Generator
from failoverd.drill.local import LocalDaemon
from failoverd.drill.model import LoadPlan, PhaseName
from failoverd.runtime.document import MonitoringStatus

if TYPE_CHECKING:
    from failoverd.config import Config
    from failoverd.runtime.document import StatusDocument

WANTED = 500
LOOKS = 3


class Daemon(LocalDaemon):
    """Its primary counts so many sessions; it is asked a few times."""

    def __init__(self, connections: int) -> None:
        super().__init__(Path("/nonexistent"))
        primary = replace(HEALTHY.nodes[0], monitoring=MonitoringStatus(imap_connections=connections))
        self._status, self._asked = replace(HEALTHY, nodes=(primary, *HEALTHY.nodes[1:])), 0

    async def status(self) -> StatusDocument:
        """How the cluster is."""
        self._asked += 1
        if self._asked > LOOKS:
            raise EndOfStoryError
        return self._status


class EndOfStoryError(Exception):
    """That was all."""


class Told(Generator):
    """A generator that only keeps what it is told."""

    async def limit(self, users: int) -> None:
        """So many from now on."""
        self.users = users


def users_after(config: Config, tmp_path: Path, phase: PhaseName, *, sessions: int, connections: int) -> int:
    book = Book.opened(tmp_path, ASKED, "lab", lambda _: None)
    book.begin(phase)
    plan = LoadPlan(
        drill=ASKED.id,
        address="192.0.2.1",
        server_name="mail.example.org",
        ca="/nonexistent",
        imap_port=993,
        imap_tls="implicit",
        smtp_port=587,
        smtp_tls="starttls",
        accounts_file="/nonexistent",
        directory=str(tmp_path),
        users=WANTED,
        ramp_s=1,
    )

    async def story() -> int:
        async with Agents(config) as agents, Daemon(connections) as daemon:
            found = Collector(config, book, agents, daemon)
            generator = Told(plan, book, found)
            generator.sessions = sessions
            with pytest.raises(EndOfStoryError):
                await watching.Watcher(config, daemon, generator, found, wanted=WANTED).watch()
            return generator.users

    return asyncio.run(story())


@pytest.mark.parametrize(
    ("phase", "users"),
    [(PhaseName.LOAD, 50), (PhaseName.BASELINE, 50), (PhaseName.INJECT, 500), (PhaseName.OBSERVE, 500)],
)
def test_the_load_does_not_shrink_while_everybody_is_without_a_session(
    config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, phase: PhaseName, users: int
) -> None:
    monkeypatch.setattr(watching, "LOOK_S", 0.001)
    config = load(config_file, "mail2")
    files = Authority(tmp_path).node("mail2", "127.0.0.1")
    peer = {"ca": files.ca, "certificate": files.certificate, "key": files.key}
    config = config.model_copy(update={"peer": config.peer.model_copy(update=peer)})
    assert users_after(config, tmp_path, phase, sessions=500, connections=10) == users
