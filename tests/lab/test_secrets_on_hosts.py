"""The lab's passwords, and a webhook's and a fence agent's, are in nothing that the hosts log, keep, start or answer.

While the role moves and comes back, a database is made anew, a webhook cannot be reached, a fence agent is refused.
"""

from __future__ import annotations

import base64
import contextlib
import re
import secrets
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from hosts import layout
from hosts.shell import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hosts import Lab
    from trials.cluster import Cluster

pytestmark = [pytest.mark.lab, pytest.mark.long]

FILE = "/etc/failoverd/failoverd.yaml"
WEBHOOK, DEVICE = "/etc/failoverd/secrets/planted-webhook", "/etc/failoverd/secrets/planted-device"
PLANTED = {"webhook": secrets.token_hex(16), "device": secrets.token_hex(16)}
SECRETS = {
    **PLANTED,
    "canary": layout.CANARY_PASSWORD,
    "database": layout.DATABASE_PASSWORD,
    "replication": layout.REPLICATION_PASSWORD,
    "drill": layout.DRILL_PASSWORD,
}
ALERTS = f"alerts: {{settle: 1s, receivers: [{{name: desk, kind: json, url_file: {WEBHOOK}}}]}}"
AGENT = "/usr/local/sbin/fence_telltale"
TELLS = "#!/bin/sh\n# It says all that it is told, and is there long enough to be seen.\ncat\nsleep 0.5\nexit 1\n"
FENCED = f"{{agent: {AGENT}, options: {{ip: 10.89.1.1}}, secrets: {{passwd: {DEVICE}}}}}"
FENCING = f"fencing: {{nodes: {{{', '.join(f'{node}: [[{FENCED}]]' for node in layout.DATA_NODES)}}}}}"
CTL = ("status", "check", "history --all", "explain now", "config show", "config diff", "alerts", "audit show",
       "audit export", "audit verify", "alerts test desk")  # fmt: skip
PUBLIC = ("/v1/status", "/v1/check", "/v1/history", "/metrics", "/", "/v1/openapi.json", "/primary", "/nginx-auth")
MOVED_S, REBUILT_S = 60.0, 150.0


class Processes:
    """Command lines and environments of every process of the machine: the hosts' are among them."""

    def __init__(self) -> None:
        self.seen: dict[str, str] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> dict[str, str]:
        self._thread.start()
        return self.seen

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.05):
            for process in Path("/proc").glob("[0-9]*"):
                with contextlib.suppress(OSError):
                    if "failoverd-lab" in (process / "cgroup").read_text():
                        for name in ("cmdline", "environ"):
                            text = (process / name).read_bytes().decode("utf-8", "replace")
                            self.seen[f"{name} {text[:80]!r}"] = text


@pytest.fixture
def seen() -> Iterator[dict[str, str]]:
    """What processes of the hosts have been called with, until the end of the test."""
    with Processes() as found:
        yield found


@pytest.fixture
def planted(lab: Lab, cluster: Cluster, seen: dict[str, str]) -> Iterator[None]:  # noqa: ARG001 - looked at from the start
    """Give every host a webhook that cannot be reached and a fence agent that repeats what it is told."""
    texts = {host: lab.path(host, FILE).read_text() for host in layout.HOSTS}
    for host, text in texts.items():
        for path, content in (
            (WEBHOOK, f"http://10.89.1.200:9/services/{PLANTED['webhook']}"),
            (DEVICE, PLANTED["device"]),
        ):
            lab.path(host, path).write_text(content + "\n")
            lab.path(host, path).chmod(0o600)
        lab.path(host, AGENT).parent.mkdir(parents=True, exist_ok=True)
        lab.path(host, AGENT).write_text(TELLS)
        lab.path(host, AGENT).chmod(0o755)
        kept = re.sub(r"(?m)^(?:alerts|fencing):.*\n(?:[ \t].*\n|\n)*", "", text)
        lab.path(host, FILE).write_text(f"{kept}\n{ALERTS}\n{FENCING}\n")
        lab.exec(host, "systemctl", "restart", "failoverd")
    cluster.wait_until_settled(90)
    yield
    for host, text in texts.items():
        lab.path(host, FILE).write_text(text)
        for path in (WEBHOOK, DEVICE, AGENT):
            lab.path(host, path).unlink()
        lab.exec(host, "systemctl", "restart", "failoverd")


@pytest.mark.usefixtures("planted")
def test_no_secret_leaves_its_file(lab: Lab, cluster: Cluster, seen: dict[str, str]) -> None:
    first = cluster.primary()
    second, third = (host for host in layout.DATA_NODES if host != first)
    texts: dict[str, str] = {}
    # A login that fails, on every observer. failoverd may start it again before it has stopped.
    lab.exec(first, "systemctl", "stop", "dovecot.service", check=False)
    moved = lab.exec(first, "failoverctl", "promote", "--node", second, "--reason", "x", check=False)
    lab.exec(first, "systemctl", "start", "dovecot.service")
    texts["promote"] = moved.stdout + moved.stderr
    cluster.wait_until_settled(MOVED_S)
    primary = cluster.primary()
    replica = third if primary != third else first
    made = lab.exec(primary, "failoverctl", "rejoin", replica, "--rebuild", "--yes", timeout_s=REBUILT_S, check=False)
    texts["rejoin"] = made.stdout + made.stderr
    wait_for("it is home", lambda: cluster.is_healthy_replica(replica), MOVED_S)
    for host in layout.HOSTS:
        for words in CTL if host in {primary, replica} else CTL[:3]:
            said = lab.exec(host, "failoverctl", *words.split(), check=False)
            texts[f"{host} {words}"] = said.stdout + said.stderr
        with lab.client_network():
            for path in PUBLIC:
                answer = httpx.get(f"http://{layout.ADDRESSES[host]}:7480{path}", timeout=20)
                texts[f"{host} {path}"] = f"{answer.headers} {answer.text}"
    for host in layout.HOSTS:
        texts[f"{host} journal"] = lab.exec(host, "journalctl", "--no-pager", "--output=verbose", timeout_s=120).stdout
        for directory in ("/var/lib/failoverd", "/run/failoverd"):
            every = f"find {directory} -type f -not -path '*/ahead/*' -exec cat {{}} + | base64"
            shown = lab.exec(host, "sh", "-c", every, check=False).stdout
            texts[f"{host} {directory}"] = base64.b64decode(shown).decode("latin-1")
        assert lab.exec(host, "find", "/var/lib/systemd/coredump", "-type", "f", check=False).stdout == ""
    assert any(AGENT in text for text in list(seen.values())), "the fence agent ran"
    assert any("FENCE_MONITOR_FAILED" in text or "passwd=***" in text for text in texts.values()), "and said all"
    found = {
        f"{name} in {where}": text[max(text.find(secret) - 200, 0) : text.find(secret) + 20]
        for where, text in {**texts, **dict(seen)}.items()
        for name, secret in SECRETS.items()
        if secret in text
    }
    assert not found
