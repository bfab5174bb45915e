"""No secret of a configuration is in anything that failoverd says, writes or starts, whoever says it to it again."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from gate_stage import Place
from node_certificates import Authority
from planting import Database, Echoes, Planted, Seen, children_of, files_below

from failoverd.config import load
from failoverd.databases.connection import Connection, Deadline, Failure
from failoverd.hiding import HIDDEN, hidden

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TREE = Path(__file__).parents[2]
AGENT = """#!/bin/sh
# A fence agent that tells everybody all that it was told, as some do when they are asked to be verbose.
options=$(cat)
echo "started as $0 $*"
echo "$options"
echo "$options" >&2
sleep 0.5
exit 1
"""
WAIT_S = 40.0


@pytest.fixture
def planted(tmp_path: Path) -> Planted:
    place = tmp_path / "planted"
    place.mkdir()
    return Planted(place)


# ---- one after the other --------------------------------------------------------------------------------------------


def test_what_is_planted_is_found(planted: Planted) -> None:
    """The search itself: it finds each form of it, so that its silence says something."""
    planted.plant("x")
    secret = planted.texts["x"]
    for text in (
        secret,
        f"a{secret}b",
        secret[:14],
        secret[-14:],
        json.dumps({"a": secret}),
        secret.replace("\\", "\\\\"),
    ):
        assert planted.places_in(text) == ["x"], text
    assert planted.leaks({"here": f"…{secret}…"}).keys() == {"here"}
    assert planted.places_in(secret[:11] + " " + secret[12:20]) == []


@pytest.mark.parametrize("keyword", ["MASTER", "REPLICATION SOURCE"])
def test_a_server_that_quotes_its_statements_is_not_quoted(planted: Planted, tmp_path: Path, keyword: str) -> None:
    planted.plant("database")
    planted.plant("replication")
    password, replication = planted.texts["database"], planted.texts["replication"]
    path = tmp_path / "sock"
    server = Database(path, "CHANGE ")
    connection = Connection("failoverd", password, (replication,))
    connection.log_in(str(path), Deadline(5000), lambda _: None)
    reasons = []
    for _ in range(12):
        with pytest.raises(Failure) as caught:
            connection.run(Deadline(5000), f"CHANGE {keyword} TO X_USER = %s, X_PASSWORD = %s", "repl", replication)
        reasons.append(f"{caught.value} {caught.value.reason} {caught.value!r}")
    connection.drop()
    server.close()
    assert any(replication[:16] in said for said in server.heard), "it was told"
    assert any("near" in reason for reason in reasons)
    assert not planted.leaks(dict(enumerate_(reasons)))


def enumerate_(texts: list[str]) -> Iterator[tuple[str, str]]:
    return ((str(number), text) for number, text in enumerate(texts))


@pytest.mark.parametrize("text", ["plain", "a'b\"c\\d%e", "mit Umläuten: äöü", "https://h.example.test/T0/B0/x?y=z"])
def test_hidden_is_whole_quoted_and_cut(text: str) -> None:
    secret = text + "0123456789abcdef"
    forms = (secret, json.dumps(secret)[1:-1], secret.replace("\\", "\\\\").replace("'", "\\'"))
    for form in forms if text.isascii() else forms[:1]:
        assert hidden(f"a {form} b", [secret]) == f"a {HIDDEN} b", form
    assert hidden("nothing of it", [secret]) == "nothing of it"
    if "://" not in secret:
        assert secret[:14] not in hidden(f"it said {secret[:14]}", [secret])
        assert secret[-14:] not in hidden(f"{secret[-14:]} it said", [secret])
    assert hidden("a short one: ab", ["ab"]) == f"a short one: {HIDDEN}"
    assert hidden("as it is", [""]) == "as it is"


# ---- all of it ------------------------------------------------------------------------------------------------------


class World:
    """A data node and an arbiter, real processes in a network of their own, and who echoes around them."""

    def __init__(self, place: Place, directory: Path, planted: Planted, example: str) -> None:
        self.place, self.directory, self.planted = place, directory, planted
        place.run("ip", "link", "add", "host0", "type", "veth", "peer", "name", "host1")
        for device in ("lo", "host0", "host1"):
            place.run("ip", "link", "set", device, "up")
        for address in ("10.89.1.11", "10.89.1.14"):
            place.run("ip", "address", "add", f"{address}/24", "dev", "host0")
        self.echoes = Echoes(place.do, "10.89.1.11", directory / "mysqld.sock")
        self.config = self._written(example)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def _written(self, example: str) -> Path:
        planted, port = self.planted, self.echoes.port
        agent = self.directory / "fence_echo"
        agent.write_text(AGENT)
        agent.chmod(0o755)
        files = {name: planted.plant(name) for name in ("canary", "database", "replication", "drill", "fence")}
        url = planted.plant("webhook", before=f"http://10.89.1.11:{port(self.echoes.webhook)}/services/")
        headers = planted.plant("header", before="Authorization: Bearer ")
        accounts = planted.plant("account", before="drill1@lab.test:")
        receiver = f"{{name: desk, kind: json, url_file: {url}, headers_file: {headers}}}"
        alerts = f"{{settle: 1s, queue: {{directory: {self.directory}/@NODE@/alerts}}, receivers: [{receiver}]}}"
        fence = f"{{agent: {agent}, options: {{ip: 10.0.0.1}}, secrets: {{passwd: {files['fence']}}}}}"
        text = example
        for pattern, new in (
            (r"^    port: 993$", f"    port: {port(self.echoes.imap)}"),
            (r"^    port: 25$", f"    port: {port(self.echoes.smtp)}"),
            (r"^    tls: .*$", "    tls: none"),
            (r"\S+/secrets/canary", str(files["canary"])),
            (r"\S+/secrets/database", str(files["database"])),
            (r"\S+/secrets/replication", str(files["replication"])),
            (r"^  socket: .*$", f"  socket: {self.directory}/mysqld.sock"),
            (r"^audit: .*$", f"audit: {{directory: {self.directory}/@NODE@/audit}}"),
            (r"^gate:\n  ports: .*$", f"gate:\n  ports: [{port(self.echoes.imap)}, {port(self.echoes.smtp)}, 3306]"),
            (r"^queue: .*$", "queue: {kind: none}"),
            (r"^alerts: .*$", f"alerts: {alerts}"),
            (r"^#fencing:$", f"fencing: {{nodes: {{mail1: [[{fence}]], mail2: [[{fence}]]}}}}"),
            (r"^  enabled: false .*$", f"  enabled: true\n  password_file: {files['drill']}"),
            (r"^  load: \{users: 500", f"  load: {{accounts_file: {accounts}, users: 500"),
        ):  # fmt: skip
            text, count = re.subn(pattern, lambda _, new=new: new, text, flags=re.MULTILINE)
            assert count, pattern
        authority = Authority(self.directory)
        path = self.directory / "failoverd.yaml"
        for name, address in (("mail1", "10.89.1.11"), ("arbiter", "10.89.1.14")):
            own = authority.node(name, address)
            mine = re.sub(r"\S+/tls/ca\.crt", str(own.ca), text.replace("@NODE@", name))
            mine = re.sub(r"\S+/tls/node\.crt", str(own.certificate), mine)
            (self.directory / f"{name}.yaml").write_text(re.sub(r"\S+/tls/node\.key", str(own.key), mine))
            load(self.directory / f"{name}.yaml", name)
        return path

    def start(self, node: str, *command: str) -> subprocess.Popen[bytes]:
        """One of failoverd's programs."""
        where = self.directory / node
        for name in ("state", "run"):
            (where / name).mkdir(parents=True, exist_ok=True)
        name = f"{node}-{command[0]}"
        log = self.directory / f"{name}.log"
        words = [
            sys.executable,
            "-m",
            "failoverd",
            *command,
            "--config",
            f"{self.directory}/{node}.yaml",
            "--node",
            node,
        ]
        words += ["--state", str(where / "state"), "--runtime", str(where / "run")]
        environment = {**os.environ, "PYTHONFAULTHANDLER": "1"}  # what is printed where it is aborted
        with log.open("wb") as file:
            self.processes[name] = self.place.do(
                lambda: subprocess.Popen(words, stdout=file, stderr=file, cwd=TREE, env=environment)
            )
        return self.processes[name]

    def ctl(self, *words: str) -> str:
        """What failoverctl prints."""
        command = [sys.executable, "-c", "from failoverd.ctl.app import main; main()", *words]
        run = f"{self.directory}/mail1/run/control.sock"
        environment = {
            **os.environ,
            "FAILOVERD_SOCKET": run,
            "FAILOVERD_AUDIT": str(self.directory / "mail1" / "audit"),
        }
        ended = self.place.do(
            lambda: subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
        )
        return f"{ended.stdout}{ended.stderr}"

    def pids(self) -> list[int]:
        """Of all that was started, and what that has started."""
        return children_of([process.pid for process in list(self.processes.values()) if process.poll() is None])

    def close(self) -> None:
        """End all of it."""
        for process in self.processes.values():
            process.kill()
            process.wait()
        self.echoes.close()


@pytest.fixture
def world(tmp_path: Path, planted: Planted, example: str) -> Iterator[World]:
    place = Place()
    made = World(place, tmp_path, planted, example)
    yield made
    made.close()
    place.close()


def wait_for(what: Callable[[], Any], name: str) -> Any:
    until = time.monotonic() + WAIT_S
    while not (found := what()):
        assert time.monotonic() < until, f"waited in vain for {name}"
        time.sleep(0.1)
    return found


ASKED = ("status", "check", "history", "input", "audit", "config", "config/diff", "alerts", "version", "drills")
PUBLIC = ("/", "/metrics", "/v1/status", "/v1/check", "/v1/history", "/v1/alerts", "/v1/openapi.json", "/primary",
          "/replica", "/healthy", "/ready", "/nginx-auth", "/v1/config")  # fmt: skip
PRINTED = (
    "status", "status -o yaml", "check", "history --all", "explain now", "explain 1", "config show", "config diff",
    "alerts", "audit show", "audit verify", "audit export", "maintenance mail2 on --reason x", "promote --node mail2",
    "pause --reason x", "drill list",
)  # fmt: skip


@pytest.mark.root
def test_nothing_that_is_said_written_or_started_has_a_secret_in_it(world: World, planted: Planted) -> None:
    heard, echoes = world.directory, world.echoes
    texts: dict[str, str] = {}
    with Seen(world.pids) as seen:
        world.start("arbiter", "run")
        daemon = world.start("mail1", "run")
        world.start("mail1", "donor")
        world.start("mail1", "drill-agent")
        control = heard / "mail1" / "run" / "control.sock"
        wait_for(control.exists, "the control socket")
        transport = httpx.HTTPTransport(uds=str(control))
        with httpx.Client(transport=transport, base_url="http://control", timeout=20) as asking:
            wait_for(lambda: echoes.database.heard, "the database was asked")
            wait_for(lambda: any(b"LOGIN" in line for line in echoes.imap.heard), "a login")
            texts["test"] = asking.post("/v1/alerts/test", json={"receiver": ""}).text
            wait_for(lambda: echoes.webhook.heard, "the webhook")
            wait_for(lambda: "fence" in asking.get("/v1/check").text.lower(), "what the fence agent says")
            wait_for(lambda: "IMAP" in asking.get("/v1/check").text, "what the IMAP server says")
            for name in ASKED:
                texts[f"GET {name}"] = asking.get(f"/v1/{name}").text
            texts["POST"] = asking.post("/v1/confirm-fenced", json={"node": "mail2", "by": "a", "reason": "b"}).text
        public = world.place.do(lambda: [httpx.get(f"http://10.89.1.11:7480{path}", timeout=20) for path in PUBLIC])
        texts |= {f"public {answer.url.path}": f"{answer.headers} {answer.text}" for answer in public}
        texts |= {words: world.ctl(*words.split()) for words in PRINTED}

        # A file that is taken no more, with what the old one had in it, and one that is.
        path = heard / "mail1.yaml"
        before = path.read_text()
        path.write_text(before.replace("options: {ip: 10.0.0.1}", f"options: {{passwd: {planted.texts['fence']!r}}}"))
        daemon.send_signal(signal.SIGHUP)
        wait_for(lambda: "CONFIG_REFUSED" in world.ctl("check"), "the refusal")
        texts["refused"] = world.ctl("check") + world.ctl("config", "diff")
        path.write_text(before)
        for name in ("canary", "database"):
            planted.plant(f"{name}-new").rename(planted.directory / name)
        texts["reload"] = world.ctl("config", "reload")
        time_of_last = len(echoes.imap.heard)
        wait_for(lambda: len(echoes.imap.heard) > time_of_last + 4, "a login with the new one")
        texts["after"] = world.ctl("check") + world.ctl("config", "diff")
        for process in world.processes.values():  # with all that Python prints of where it was
            process.send_signal(signal.SIGABRT)
            process.wait()
    texts |= seen
    texts |= files_below(heard / "mail1", heard / "arbiter")
    texts |= {name: (heard / f"{name}.log").read_text(errors="replace") for name in world.processes}
    assert len(seen) > 8, "command lines were seen"
    assert any("fence_echo" in text for text in seen.values()), "the agent's among them"
    assert all("Fatal Python error: Aborted" in texts[name] for name in world.processes), "they were aborted"

    told = " ".join([*map(str, echoes.database.heard), *(line.decode("utf-8", "replace") for server in
                     (echoes.imap, echoes.webhook) for line in server.heard)])  # fmt: skip
    assert {"canary", "database", "webhook", "header"} <= set(planted.places_in(told)), "servers were told"
    assert not planted.leaks(texts)


def test_no_program_of_failoverd_leaves_a_core() -> None:
    units = list((TREE / "systemd").glob("failoverd*.service"))
    assert len(units) > 7
    for unit in units:
        assert "LimitCORE=0" in unit.read_text(), unit.name
