"""`systemctl reload failoverd` on real hosts: what it applies, leaves and refuses, and who is told after it."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from hosts import layout
from hosts.shell import wait_for
from trials.watch import PATIENCE_S, Watch, now_ms

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from hosts import Lab
    from trials.cluster import Cluster

pytestmark = pytest.mark.lab

FILE = "/etc/failoverd/failoverd.yaml"
IN_A_ROW = 20
SEEN_S = 20.0
TOLD_S = 30.0
PORT = 9310
LOADED = ("load_max_per_core: 20", "load_max_per_core: 0.001")  # whatever runs is more than that
NOBODY_TOLD = "settle: 10s, queue: {directory: /var/lib/failoverd/alerts, limit: 1000}, receivers: []"


def edited(text: str, *changes: tuple[str, str]) -> str:
    for old, new in changes:
        assert text.count(old) >= 1, old
        text = text.replace(old, new, 1)
    return text


def write(lab: Lab, host: str, text: str) -> None:
    lab.path(host, FILE).write_text(text)


def reload(lab: Lab, host: str) -> None:
    lab.exec(host, "systemctl", "reload", "failoverd")


def in_force(lab: Lab, host: str) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(lab.exec(host, "failoverctl", "config", "show", "-o", "json").stdout)["values"]
    return values


def found(cluster: Cluster, host: str) -> set[str]:
    """Give the codes of what the daemon of this host finds on it, asked on its socket: a program costs the clients."""
    status = cluster.status(host)
    assert status is not None
    own = next(node for node in status["nodes"] if node["name"] == host)
    return {finding["code"] for finding in (*own["findings"], *status["refused"])}


def journal(lab: Lab, host: str) -> str:
    lab.exec(host, "journalctl", "--sync")
    words: str = lab.exec(host, "journalctl", "-u", "failoverd", "-o", "cat", "--no-pager").stdout
    return words


def process(lab: Lab, host: str) -> str:
    return lab.exec(host, "systemctl", "show", "--property=MainPID", "--value", "failoverd").stdout.strip()


@pytest.fixture
def shipped(lab: Lab) -> Iterator[dict[str, str]]:
    """Give each host's configuration, which is back in place and in force afterwards."""
    texts = {host: lab.path(host, FILE).read_text() for host in layout.HOSTS}
    yield texts
    for host, text in texts.items():
        write(lab, host, text)
        reload(lab, host)


def another_disk_is_written_to(lab: Lab, host: str, good: str) -> None:
    """By failoverd-helper, which takes the same file before it is asked for anything of it."""
    mount = lab.path(host, "/srv/more")
    mount.mkdir()
    write(lab, host, edited(good, ("disks: {write: [", "disks: {write: [/srv/more, ")))
    reload(lab, host)
    wait_for("the helper writes there", (mount / ".failoverd-probe").exists, SEEN_S)
    write(lab, host, good)
    reload(lab, host)


def test_reloads_on_the_primary_apply_and_refuse_and_no_client_notices(
    lab: Lab, cluster: Cluster, shipped: dict[str, str], tmp_path: Path
) -> None:
    primary, term = cluster.primary(), cluster.term()
    good, daemon = shipped[primary], process(lab, primary)
    with Watch(lab, tmp_path, "watch", patience_s=PATIENCE_S) as watch:
        watch.wait_until_steady()
        began = now_ms()

        # Thresholds: twenty times another one, each in force at once.
        for number in range(IN_A_ROW):
            write(lab, primary, edited(good, ("lag_warn: 500ms", f"lag_warn: {600 + number}ms")))
            reload(lab, primary)
            watch.wait_until_served(SEEN_S)
            assert (cluster.lease_left_ms() or 0) > 0
        assert in_force(lab, primary)["database"]["lag_warn"] == f"{600 + IN_A_ROW - 1}ms"
        assert journal(lab, primary).count("In force now:") >= IN_A_ROW

        # One that shows: there is more load than nothing, and then it is allowed again.
        write(lab, primary, edited(good, LOADED))
        reload(lab, primary)
        wait_for("the load is too high", lambda: "LOAD_HIGH" in found(cluster, primary), SEEN_S)
        write(lab, primary, good)
        reload(lab, primary)
        wait_for("the load is allowed again", lambda: "LOAD_HIGH" not in found(cluster, primary), SEEN_S)

        another_disk_is_written_to(lab, primary, good)

        # What needs a restart is named, with why, and left as it was; what stands beside it is applied.
        write(lab, primary, edited(good, ("port: 7480", "port: 7481"), ("hold_off: 10s", "hold_off: 11s")))
        reload(lab, primary)
        assert "Needs a restart of failoverd:\n  http.port  7480 -> 7481\n" in journal(lab, primary)
        now = in_force(lab, primary)
        assert (now["http"]["port"], now["flapping"]["hold_off"]) == (7480, "11s")

        # A wrong file: the reload fails, says where and why once, and the old one goes on, as a finding says.
        wrong = edited(good, ("hold_off: 10s", "hold_off: soon"))
        line = wrong.partition("hold_off: soon")[0].count("\n") + 1
        why = f"{FILE}:{line}: flapping.hold_off: value 'soon'"
        write(lab, primary, wrong)
        before = journal(lab, primary).count("refused, nothing was touched: CONFIG_REFUSED")
        failed = lab.exec(primary, "systemctl", "reload", "failoverd", check=False)
        assert failed.returncode != 0
        assert "failoverd.service" in failed.stderr
        told = journal(lab, primary)
        assert told.count("refused, nothing was touched: CONFIG_REFUSED") == before + 1
        assert why in told.partition("refused, nothing was touched: CONFIG_REFUSED")[2]
        assert lab.exec(primary, "systemctl", "is-active", "failoverd").stdout.strip() == "active"
        assert in_force(lab, primary)["flapping"]["hold_off"] == "11s"
        assert "CONFIG_REFUSED" in found(cluster, primary)
        assert f"CONFIG_REFUSED  {why}" in lab.exec(primary, "failoverctl", "check", check=False).stdout
        write(lab, primary, good)
        reload(lab, primary)
        assert "CONFIG_REFUSED" not in found(cluster, primary)
        assert in_force(lab, primary)["flapping"]["hold_off"] == "10s"

        watch.wait_until_served(SEEN_S)
        watch.stop_client()
        assert watch.noticed(primary, began) == []
    assert (cluster.primary(), cluster.term(), process(lab, primary)) == (primary, term, daemon)


class Receivers:
    """Webhooks on the client host, one a path: what each of them took, and whether it takes anything."""

    def __init__(self, lab: Lab) -> None:
        self.taken: dict[str, list[dict[str, Any]]] = {"one": [], "two": []}
        self.deaf: set[str] = set()
        receivers = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                name, body = self.path.lstrip("/"), json.loads(self.rfile.read(int(self.headers["content-length"])))
                if name not in receivers.deaf:
                    receivers.taken[name].append(body)
                self.send_response(503 if name in receivers.deaf else 204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        with lab.client_network():
            self._server = ThreadingHTTPServer((layout.CLIENT, PORT), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def told(self, name: str, code: str, node: str) -> list[str]:
        """Give the ids of the messages that this one took of an alert that stands."""
        return [
            body["id"]
            for body in self.taken[name]
            if (body["status"], body["code"], body["node"]) == ("firing", code, node)
        ]

    def close(self) -> None:
        """End."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def receivers(lab: Lab) -> Iterator[Receivers]:
    made = Receivers(lab)
    yield made
    made.close()


def test_another_receiver_after_a_reload_is_told_what_comes_and_what_the_old_one_did_not_take(
    lab: Lab, shipped: dict[str, str], receivers: Receivers
) -> None:
    def tell(name: str) -> None:
        """The arbiter tells where it has receivers; the others have none."""
        file = f"/etc/failoverd/secrets/hook-{name}"
        lab.path(layout.ARBITER, "/etc/failoverd/secrets").mkdir(mode=0o700, exist_ok=True)
        url = lab.path(layout.ARBITER, file)
        url.write_text(f"http://{layout.CLIENT}:{PORT}/{name}\n")
        url.chmod(0o600)
        one = f"settle: 1s, receivers: [{{name: {name}, kind: json, url_file: {file}}}]"
        write(lab, layout.ARBITER, edited(shipped[layout.ARBITER], (NOBODY_TOLD, one)))
        reload(lab, layout.ARBITER)

    def burden(host: str) -> None:
        write(lab, host, edited(shipped[host], LOADED))
        reload(lab, host)

    tell("one")
    burden("mail1")
    wait_for("the first is told", lambda: bool(receivers.told("one", "LOAD_HIGH", "mail1")), TOLD_S)
    receivers.deaf.add("one")
    burden("mail2")

    def queued() -> bool:
        shown = json.loads(lab.exec(layout.ARBITER, "failoverctl", "alerts", "-o", "json").stdout)
        return bool(shown["receivers"][0]["queued"])

    wait_for("an alert waits for the first, which takes none", queued, TOLD_S)
    tell("two")
    burden("mail3")
    wait_for("the second is told what comes", lambda: bool(receivers.told("two", "LOAD_HIGH", "mail3")), TOLD_S)
    wait_for("and what was not taken", lambda: bool(receivers.told("two", "LOAD_HIGH", "mail2")), TOLD_S)
    assert receivers.told("one", "LOAD_HIGH", "mail3") == []
    everything = [body["id"] for body in receivers.taken["two"]]
    assert len(everything) == len(set(everything)), "each once"
