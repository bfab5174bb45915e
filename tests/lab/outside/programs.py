"""Prometheus, HAProxy and nginx on the lab's client host, each with its file of config/ as it stands but for places."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import subprocess
import urllib.parse
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from hosts import LabError, layout, network
from hosts.shell import run, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from hosts import Lab

CONFIG = layout.TREE / "config"
DEBIAN = {"prometheus": "prometheus", "haproxy": "haproxy", "nginx": "nginx libnginx-mod-mail"}
# HAProxy has the ports of the file; nginx, beside it on one host, these instead.
NGINX_IMAPS, NGINX_SMTP, NGINX_IMAP = 10993, 10025, 10143


def install(say: Callable[[str], None]) -> None:
    """Install what the machine lacks; no service of it is started."""
    missing = [
        package for program, packages in DEBIAN.items() if not shutil.which(program) for package in packages.split()
    ]
    if missing:
        say(f"installing {' '.join(missing)}")
        env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "SYSTEMD_OFFLINE": "1"}
        run("apt-get", "update", timeout_s=180, env=env)
        run("apt-get", "install", "-y", "--no-install-recommends", *missing, timeout_s=300, env=env)


@contextmanager
def running(lab: Lab, directory: Path) -> Iterator[Prometheus]:
    """Have all three, from their first answer to the end."""
    with ExitStack() as stack:
        stack.enter_context(
            _program(lab, directory, "haproxy", ["haproxy", "-db", "-f", str(CONFIG / "haproxy/haproxy.cfg")])
        )
        nginx = _nginx_file(lab, directory)
        run(*lab.client_command("sysctl", "--quiet", "--write", _retries()))
        command = ["nginx", "-c", str(nginx), "-g", "daemon off;", "-e", str(directory / "nginx.error")]
        stack.enter_context(_program(lab, directory, "nginx", command))
        data = directory / "prometheus"
        command = [
            "prometheus",
            f"--config.file={CONFIG / 'prometheus/prometheus.yml'}",
            f"--storage.tsdb.path={data}",
            f"--web.listen-address=127.0.0.1:{Prometheus.PORT}",
        ]
        stack.enter_context(_program(lab, directory, "prometheus", command))
        yield Prometheus()


@contextmanager
def _program(lab: Lab, directory: Path, name: str, command: Sequence[str]) -> Iterator[None]:
    with (directory / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(lab.client_command(*command), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        yield
        if process.poll() is not None:
            said = (directory / f"{name}.log").read_text().strip().splitlines()[-3:]
            raise LabError(f"{name} has ended with {process.returncode}: {said}")
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _retries() -> str:
    """The kernel's setting that nginx-mail.conf asks for; it is the network namespace's own."""
    text = (CONFIG / "nginx/nginx-mail.conf").read_text(encoding="utf-8")
    found = re.search(r"net\.ipv4\.tcp_retries2=\d+", text)
    if found is None:
        raise LabError("nginx-mail.conf names no net.ipv4.tcp_retries2")
    return found[0]


def _nginx_file(lab: Lab, directory: Path) -> Path:
    text = (CONFIG / "nginx/nginx-mail.conf").read_text(encoding="utf-8")
    for old, new in (
        ("/etc/ssl/mail/", f"{lab.pki}/"),
        ("/run/", f"{directory}/"),
        ("/var/log/nginx/", f"{directory}/"),
        ("user www-data;", "user root;"),  # the lab's directories are root's
        ("listen 993 ssl;", f"listen {NGINX_IMAPS} ssl;"),
        ("listen 143;", f"listen {NGINX_IMAP};"),
        ("listen 25;", f"listen {NGINX_SMTP};"),
    ):
        if old not in text:
            raise LabError(f"nginx-mail.conf does not say {old!r}")
        text = text.replace(old, new)
    file = directory / "nginx.conf"
    file.write_text(text)
    return file


def let_in(lab: Lab, host: str) -> None:
    """Do on a mail host what nginx-mail.conf asks of it: trust the proxy's word on clients, and no more.

    For the clients here, Dovecot tells which host it is on when it is asked by ID.
    """
    lines = f"login_trusted_networks = {layout.CLIENT}\nimap_id_send = name * x-host {host}\n"
    lab.exec(host, "tee", "-a", "/etc/dovecot/dovecot.conf", stdin=lines)
    lab.exec(host, "doveadm", "reload")
    lab.exec(host, "postconf", "-e", f"smtpd_authorized_xclient_hosts = {layout.CLIENT}")
    lab.exec(host, "postfix", "reload")


class Prometheus:
    """Questions to the one that runs on the client host."""

    PORT = 9090

    def _get(self, path: str) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.PORT, timeout=5)
        try:
            with network.namespace(network.CLIENT_NS):
                connection.connect()
            connection.request("GET", path)
            return json.loads(connection.getresponse().read())["data"]
        finally:
            connection.close()

    def ask(self, expression: str) -> dict[str, float]:
        """Give the values, by their labels' text."""
        answer = self._get(f"/api/v1/query?query={urllib.parse.quote(expression)}")
        return {_labels(one["metric"]): float(one["value"][1]) for one in answer["result"]}

    def wait(self, what: str, expression: str, expected: dict[str, float], deadline_s: float = 40.0) -> None:
        """Wait until the answer is what is expected."""

        def so() -> bool:
            try:
                return self.ask(expression) == expected
            except OSError:
                return False

        wait_for(f"Prometheus: {what}", so, deadline_s, 0.2, why_not=lambda: f"{expression} is {self.ask(expression)}")

    def firing(self) -> dict[str, str]:
        """The alerts that fire, with their severity."""
        labels = [one["labels"] for one in self._get("/api/v1/alerts")["alerts"] if one["state"] == "firing"]
        return {re.sub("^Failoverd", "", one["alertname"]): one["severity"] for one in labels}

    def wait_for_alerts(self, say: Callable[[str], None], names: frozenset[str], deadline_s: float = 60.0) -> None:
        """Wait until these fire; nothing critical may, after a change that went well."""
        wait_for(f"Prometheus fires {', '.join(sorted(names))}", lambda: names <= self.firing().keys(), deadline_s, 0.5)
        firing = self.firing()
        say(f"Prometheus fires {', '.join(sorted(firing))}")
        if critical := [name for name, severity in firing.items() if severity == "critical"]:
            raise LabError(f"Prometheus fires {', '.join(critical)}")

    def wait_for_no_alerts(self, say: Callable[[str], None], names: frozenset[str], deadline_s: float = 60.0) -> None:
        """Wait until these have resolved."""
        what = f"{' and '.join(sorted(names))} resolve in Prometheus"
        wait_for(what, lambda: not names & self.firing().keys(), deadline_s, 0.5)
        say(f"{what}; firing still: {', '.join(sorted(self.firing())) or 'nothing'}")


def _labels(metric: dict[str, str]) -> str:
    return metric.get("instance", "")
