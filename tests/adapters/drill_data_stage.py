"""What looks at data in a drill, on real servers: the nodes of a rebuild's tests, each with the drill's own account.

`LocalAgents` stands where the coordinator's connections stand: jobs are the same processes as an agent starts, and what
they say and are told are the same lines, over pipes.
"""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING, Any

from mariadb_servers import REPOSITORY, statements

from failoverd.config import Config, load
from failoverd.drill import DrillError, model

if TYPE_CHECKING:
    from collections.abc import Callable

    from rebuild_stage import NodeStage

DRILL_PASSWORD = "drill-lab-password"


def configure(node: NodeStage, more: str = "") -> Config:
    """Give a node's configuration its drill section; return it as the node reads it."""
    secret = node.server.directory / "drill-password"
    secret.write_text(DRILL_PASSWORD + "\n")
    secret.chmod(0o600)
    kept = f"backup: {{directory: {node.server.directory}/backup, keep: 2}}"
    # The example's own section, all of it: the key and the lines below it that are indented.
    text = re.sub(r"(?m)^drill:.*\n(?:[ #].*\n|\n)*", "", node.config.read_text())
    node.config.write_text(text + f"\ndrill: {{enabled: true, password_file: {secret}, {kept}{more}}}\n")
    return load(node.config, node.name)


def grant(node: NodeStage) -> None:
    """What an administrator does once, on the primary: just what the file says."""
    node.server.run(*statements(REPOSITORY / "config/grants-drill-mariadb.sql", {"@DRILL_PASSWORD@": DRILL_PASSWORD}))


class LocalJob:
    """One process of `failoverd drill-job`, as `calls.Job` shows it."""

    def __init__(self, process: asyncio.subprocess.Process, before_sum: Callable[[], None]) -> None:
        self.process, self._before_sum = process, before_sum

    async def tell(self, message: dict[str, Any]) -> None:
        """One more line for it."""
        assert self.process.stdin is not None
        if "sum" in message:
            await asyncio.to_thread(self._before_sum)
        self.process.stdin.write(json.dumps(message).encode() + b"\n")
        await self.process.stdin.drain()

    async def _line(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        async with asyncio.timeout(60):
            line = await self.process.stdout.readline()
        said = json.loads(line)
        if "failed" in said:
            raise DrillError(said["failed"]["code"], said["failed"]["reason"])
        return dict(said)

    async def progress(self) -> dict[str, Any]:
        """Return the next thing that it tells."""
        return dict((await self._line())["progress"])

    async def result(self, kind: type[Any], _: Callable[[str], None]) -> Any:
        """Wait for its end."""
        while "done" not in (said := await self._line()):
            assert "progress" in said
        await self.process.wait()
        return model.load(kind, json.dumps(said["done"]))


class LocalAgents:
    """All nodes' jobs, on this machine."""

    def __init__(self, nodes: dict[str, NodeStage], before_sums: Callable[[], None] = lambda: None) -> None:
        self.nodes, self._before_sums = nodes, before_sums
        self.jobs: list[LocalJob] = []

    async def start(self, node: str, drill: str, kind: str, arguments: dict[str, Any]) -> LocalJob:
        """Start one there."""
        assert drill
        pipe = asyncio.subprocess.PIPE
        stage = self.nodes[node]
        words = [word for word in stage.arguments("drill-job", kind) if not word.startswith("--programs")]
        process = await asyncio.create_subprocess_exec(*words, cwd=REPOSITORY, stdin=pipe, stdout=pipe, limit=64 << 20)
        before = self._before_sums if node == "mail1" else lambda: None  # once for all of them
        job = LocalJob(process, before)
        self.jobs.append(job)
        await job.tell(arguments)
        return job

    async def end(self) -> None:
        """Those that are left."""
        for job in self.jobs:
            if job.process.returncode is None:
                job.process.kill()
            await job.process.wait()
