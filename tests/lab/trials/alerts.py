"""What a failover and the loss of the arbiter are told to a webhook, and whether a dead receiver delays a failover.

Boots the lab with three receivers: one on the client host that takes everything, one whose port is closed, one whose
address nobody has. Cuts the primary's power under a client's load, switches it on again, stops the arbiter's failoverd
and starts it again, and prints every message with the client's outage. Some four minutes.

Exit code 0 only if each alert was told once and resolved once, what has to be told was, and no journal holds the URL.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from hosts import Lab, layout
from hosts.shell import wait_for

from trials.cluster import Cluster
from trials.sole import sole_use
from trials.watch import Watch, now_ms

SECRET = "s3cr3t-of-a-webhook"
PORT, CLOSED = 9300, 9301
NOBODY = "10.89.1.250"
URLS = {
    "desk": f"http://{layout.CLIENT}:{PORT}/{SECRET}",
    "closed": f"http://{layout.CLIENT}:{CLOSED}/{SECRET}",
    "nobody": f"http://{NOBODY}:9302/{SECRET}",
}
WITHIN_S = 60.0
ARBITER = layout.ARBITER
RETURNED_S = 150.0  # a boot, and the time in which what a daemon does not find yet is not taken to be gone


class Sink:
    """The receiver on the client host."""

    def __init__(self, lab: Lab) -> None:
        self.bodies: list[dict[str, Any]] = []
        bodies = self.bodies
        began = time.monotonic()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                bodies.append(body)
                print(f"  {time.monotonic() - began:8.3f} s  {body['told_by']:8} {body['status']:9} {body['summary']}")
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        with lab.client_network():
            self._server = ThreadingHTTPServer((layout.CLIENT, PORT), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def told(self, status: str, code: str, node: str | None = None) -> list[dict[str, Any]]:
        """The messages of this kind."""
        return [b for b in self.bodies if (b["status"], b["code"], b["node"]) == (status, code, node)]

    def close(self) -> None:
        """End it."""
        self._server.shutdown()
        self._server.server_close()


def configured(text: str) -> str:
    """The shipped configuration with the three receivers; their URLs are put on every host's disk."""
    for host in layout.HOSTS:
        directory = layout.STATE / "hosts" / host / "root/etc/failoverd/secrets"
        if directory.is_dir():
            for name, url in URLS.items():
                (directory / name).write_text(f"{url}\n")
                (directory / name).chmod(0o600)
    receivers = ", ".join(f"{{name: {name}, kind: json, url_file: /etc/failoverd/secrets/{name}}}" for name in URLS)
    old = next(line for line in text.splitlines() if line.startswith("alerts:"))
    return text.replace(old, old.replace("receivers: []", f"receivers: [{receivers}]"))


def _run(lab: Lab, directory: Path) -> list[str]:
    cluster, sink = Cluster(lab), Sink(lab)
    try:
        cluster.wait_until_settled(60)
        old = cluster.primary()
        with Watch(lab, directory, "alerts") as watch:
            watch.wait_until_steady()
            since = now_ms()
            print(f"the power of {old} is cut")
            lab.kill(old)
            watch.wait_until_served(30)
            outages = watch.outages(since, now_ms())
            print(f"the client's outage: {', '.join(f'{p} {ms / 1000:.2f} s' for p, ms in outages.items())}")
        wait_for("the change is told", lambda: sink.told("event", "PRIMARY_CHANGED"), WITHIN_S)
        wait_for("the lost node is told", lambda: sink.told("firing", "BLK_UNREACHABLE", old), WITHIN_S)
        wait_for("the dead receivers are told of", lambda: sink.told("firing", "ALERT_UNDELIVERED", ARBITER), WITHIN_S)
        print(lab.exec(ARBITER, "failoverctl", "alerts", check=False).stdout)
        print(f"{old} is switched on")
        lab.boot(old)
        wait_for("it is seen again", lambda: sink.told("resolved", "BLK_UNREACHABLE", old), RETURNED_S)
        print("the arbiter's failoverd is stopped")
        lab.exec(ARBITER, "systemctl", "stop", "failoverd")
        wait_for("that is told", lambda: sink.told("firing", "BLK_UNREACHABLE", ARBITER), WITHIN_S)
        print("and started")
        lab.exec(ARBITER, "systemctl", "start", "failoverd")
        wait_for("it is seen again", lambda: sink.told("resolved", "BLK_UNREACHABLE", ARBITER), WITHIN_S)
        print(lab.exec(ARBITER, "failoverctl", "alerts", "test", "desk", check=False).stdout)
        return list(_wrong(lab, sink, old))
    finally:
        sink.close()


def _wrong(lab: Lab, sink: Sink, old: str) -> list[str]:
    wrong = [f"{name} came {times} times" for name, times in Counter(b["id"] for b in sink.bodies).items() if times > 1]
    tellers = [b["told_by"] for b in sink.told("firing", "BLK_UNREACHABLE", ARBITER)]
    if ARBITER in tellers:
        wrong.append("the arbiter told of its own silence")
    for node, status in ((node, status) for node in (old, ARBITER) for status in ("firing", "resolved")):
        times = len(sink.told(status, "BLK_UNREACHABLE", node))
        wrong += [] if times == 1 else [f"BLK_UNREACHABLE {node}: {times} x {status}"]
    # A lost primary that is replaced within the half second between two looks is told as a change alone.
    if len(sink.told("firing", "PRIMARY_LOST")) != len(sink.told("resolved", "PRIMARY_LOST")):
        wrong.append("PRIMARY_LOST was told and not resolved")
    if len(sink.told("event", "PRIMARY_CHANGED")) != 1:
        wrong.append(f"{len(sink.told('event', 'PRIMARY_CHANGED'))} changes of primary were told")
    for host in layout.HOSTS:
        journal = lab.exec(host, "journalctl", "-u", "failoverd", "--no-pager", check=False).stdout
        shown = lab.exec(host, "failoverctl", "alerts", "-o", "json", check=False).stdout
        if SECRET in journal or SECRET in shown:
            wrong.append(f"{host} shows the URL")
        if "ALERTS_BUG" in journal:
            wrong.append(f"{host} has ALERTS_BUG in its journal")
    return wrong


def main() -> int:
    """Entry point."""
    argparse.ArgumentParser(
        prog="alerts", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    lab = Lab(lambda words: print(f"  lab: {words}"))
    directory = Path(tempfile.mkdtemp(prefix="failoverd-alerts-"))
    with sole_use("alerts", print):
        try:
            lab.up(failoverd=True, configure=configured)
            wrong = _run(lab, directory)
        finally:
            lab.down()
            shutil.rmtree(directory)
    print("\n".join(wrong) or "each alert was told once and resolved once")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
