"""Every route of the control socket behind its door, on the socket and by TLS, with a fake daemon that answers."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

from control_stage import Running, Stage
from starlette.responses import JSONResponse
from starlette.routing import Route

from failoverd.config import load
from failoverd.runtime.access import Access
from failoverd.runtime.access_roles import ROUTES
from failoverd.runtime.remote import RemoteServer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from node_certificates import Files
    from starlette.requests import Request

    from failoverd.config import Config
    from failoverd.config.access import Access as Section

DEADLINE_S = 20
BODIES: dict[str, dict[str, Any]] = {
    "/v1/promote": {"node": "mail2", "reason": "kernel update"},
    "/v1/promote-forced": {"node": "mail2", "reason": "they burnt"},
    "/v1/would-promote": {"node": "mail2"},
    "/v1/confirm-fenced": {"node": "mail1", "reason": "pulled both plugs"},
    "/v1/pause": {"reason": "moving the rack"},
    "/v1/maintenance": {"node": "mail3", "on": False},
    "/v1/schedule": {"node": "mail2", "at_ms": 1},
    "/v1/rejoin": {"node": "mail3", "donor": "", "anew": False},
}
# Those of Stage: what the daemon's other parts serve is there by its path alone.
OTHERS = ("/v1/alerts", "/v1/audit/", "/v1/config", "/v1/drill", "/v1/reload")


async def _answer(request: Request) -> JSONResponse:
    return JSONResponse({"actor": getattr(request.state, "actor", "")})


def others() -> list[Route]:
    """The routes that the daemon's other parts have."""
    named = [key.split(" ") for key in ROUTES]
    return [Route(path, _answer, methods=[method]) for method, path in named if path.startswith(OTHERS)]


def asks() -> list[tuple[str, str, dict[str, Any] | None]]:
    """(method, path, body) for each row of ROUTES, in its order. None of them is wrong in itself."""
    named = [key.split(" ") for key in ROUTES]
    return [
        (method, path.replace("{id}", "none"), BODIES.get(path, {}) if method == "POST" else None)
        for method, path in named
    ]


def until(true: Callable[[], object]) -> None:
    """Wait for what another thread brings about."""
    end = time.monotonic() + DEADLINE_S
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def guarded(path: Path, section: Section) -> Running:
    """A control socket for those whom `section` names."""
    return Running(path, Stage(), others(), Access(section))


def known(running: Running) -> None:
    """Wait until the names of the configuration have been looked up."""
    until(lambda: not running.server._access.refused())


class _Both:
    """The control socket, and the listener for operators elsewhere."""

    def __init__(self, running: Running, remote: RemoteServer) -> None:
        self.control, self.remote = running.server, remote

    async def start(self) -> None:
        await self.control.start()
        await self.remote.start()

    async def stop(self) -> None:
        await self.remote.stop()
        await self.control.stop()

    def reload(self, section: Section) -> None:
        self.control.reload(section)


class Elsewhere(Running):
    """A stage that is served by TLS on loopback as well, as `config` has it."""

    def __init__(self, path: Path, config: Config) -> None:
        super().__init__(path, Stage(), others(), Access(config.access))
        self.remote = RemoteServer(config, self.server.door, address="127.0.0.1", port=0)
        both: Any = _Both(self, self.remote)
        self.server = both

    @property
    def host(self) -> str:
        """As --host wants it."""
        return f"127.0.0.1:{self.remote.port}"


def configured(config_file: Path, node: Files, people: str, *, ca: Path | None = None) -> Config:
    """The example's configuration with `node`'s certificate, and operators elsewhere: `people` as YAML."""
    text = config_file.read_text()
    for name, path in (("ca.crt", node.ca), ("node.crt", node.certificate), ("node.key", node.key)):
        text = re.sub(rf"(?m)(: )/\S+/tls/{re.escape(name)}$", rf"\g<1>{path}", text)
    own = f", ca: {ca}" if ca else ""
    remote = f"remote: {{enabled: true, port: 7403, people: {people}{own}}}"
    assert text.count("remote: {enabled: false, port: 7403}") == 1
    changed = config_file.with_name(f"{config_file.name}.remote")
    changed.write_text(text.replace("remote: {enabled: false, port: 7403}", remote))
    return load(changed, "mail1")
