"""A cluster's drill agents on loopback: certificates, HTTPS and job processes are real, systemctl is of some lines."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from node_certificates import Authority

from failoverd.config import load
from failoverd.config.drill import Drill
from failoverd.drill.agent import Agent
from failoverd.drill.faults import Host
from failoverd.drill.model import Cast
from failoverd.drill.ourselves import Ourselves

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from failoverd.config import Config

HERE = Path(__file__).parent
NAMES = ("mail1", "mail2", "mail3", "arbiter")
DRILL, OTHER = "20261129-020000-service-hang", "20261129-030000-switchover"
CAST = Cast(
    coordinator="mail2",
    primary="mail1",
    heir="mail2",
    target="mail1",
    data_nodes=("mail1", "mail2", "mail3"),
    arbiters=("arbiter",),
    term=7,
)
OURSELVES = Ourselves((sys.executable, "-SE", str(HERE / "drill_job_process.py")))
UNIT = "dovecot.service"


class Cluster:
    """All nodes' configurations, and what is shared by their agents: one machine."""

    def __init__(self, config_file: Path, place: Path, drill: dict[str, Any] | None = None) -> None:
        self.place = place
        self.authority = authority = Authority(place)
        # Of this process alone: tests of other trees may run on this machine.
        net = f"127.{os.getpid() >> 8 & 0xFF}.{os.getpid() & 0xFF}"
        addresses = {name: f"{net}.{10 + number}" for number, name in enumerate(NAMES)}
        section = Drill.model_validate({"enabled": True, "window": "always", **(drill or {})})
        self.configs: dict[str, Config] = {}
        for name in NAMES:
            config = load(config_file, name)
            files = authority.node(name, addresses[name])
            members = {
                node: member.model_copy(update={"address": addresses[node]}) for node, member in config.members.items()
            }
            peer = {"ca": files.ca, "certificate": files.certificate, "key": files.key}
            changed = {"members": members, "peer": config.peer.model_copy(update=peer), "drill": section}
            self.configs[name] = config.model_copy(update=changed)
            self.configs[name].__dict__.pop("nodes", None)  # made of the members that it had before
        self._systemctl()

    def _systemctl(self) -> None:
        for name in ("bin", "active"):
            (self.place / name).mkdir()
        shutil.copy(HERE / "drill_systemctl.py", self.place / "bin" / "systemctl")
        (self.place / "bin" / "systemctl").chmod(0o755)
        (self.place / "active" / UNIT).touch()

    def path(self) -> str:
        """Where this cluster's systemctl is found first."""
        return f"{self.place / 'bin'}:{os.environ['PATH']}"

    def host(self, name: str) -> Host:
        """Where a node's faults are brought about."""
        return Host(self.ourselves(name), self.place / name / "units")

    def ourselves(self, name: str) -> Ourselves:  # noqa: ARG002 - it is the same for all here
        """How a node's agent starts its jobs."""
        return OURSELVES

    def state(self, name: str) -> Path:
        """Its state directory."""
        return self.place / name / "state"

    def refuse(self, words: str) -> None:
        """Have systemctl fail for what these words, a regular expression, are found in; "" for nothing any more."""
        path = self.place / "refuses"
        path.write_text(words) if words else path.unlink(missing_ok=True)

    def asked(self) -> list[str]:
        """What systemctl was asked for so far."""
        path = self.place / "asked"
        return path.read_text().splitlines() if path.exists() else []

    @contextlib.asynccontextmanager
    async def agents(self, *names: str, lease_s: float = 15.0, term_s: float = 10.0) -> AsyncIterator[None]:
        """Run the agents of these nodes, of all where none is named."""
        async with contextlib.AsyncExitStack() as stack:
            for name in names or NAMES:
                await stack.enter_async_context(self._agent(name, lease_s, term_s))
            yield

    @contextlib.asynccontextmanager
    async def _agent(self, name: str, lease_s: float, term_s: float) -> AsyncIterator[None]:
        config = self.configs[name]
        agent = Agent(config, self.ourselves(name), self.state(name), self.host(name), lease_s=lease_s, term_s=term_s)
        await agent.clear_remains()
        server = agent.server()
        await server.start()
        watching = asyncio.ensure_future(agent.watch())
        try:
            yield
        finally:
            watching.cancel()
            self.refuse("")
            await agent.end()
            await server.stop()


async def until(true: Callable[[], object], name: str, within_s: float = 10.0) -> None:
    """Wait for it, in the loop."""
    end = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < end, f"waited {within_s} s in vain for {name}"
        await asyncio.sleep(0.01)


def runs(pid: int) -> bool:
    """Whether a process is there, and is more than a number that its parent has not asked for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
