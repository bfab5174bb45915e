"""`failoverctl status` where no daemon answers: what the host says by itself, and what another node says."""

from __future__ import annotations

import http.server
import json
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

import pytest
from click.testing import CliRunner, Result
from control_stage import BLOCKED, DEGRADED, HEALTHY
from pydantic import TypeAdapter

from failoverd.audit.file import AuditFile
from failoverd.core.lease import Held, Memory
from failoverd.ctl import alone, alone_host
from failoverd.ctl.alone_found import Found, UnknownError
from failoverd.ctl.app import app
from failoverd.ctl.exits import Exit
from failoverd.runtime.clock import BootClock
from failoverd.runtime.document import StatusDocument
from failoverd.runtime.persist import LeaseFile, TermFile, boot_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

STATUS = TypeAdapter(StatusDocument)


class Listener:
    """The public listener of a node, on an address of this machine's loopback: `answers` is what it says."""

    def __init__(self, address: str, port: int, code: int, body: bytes) -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(code if self.path == "/v1/status" else 404)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.HTTPServer((address, port), Handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine is late, not silent."""
    monkeypatch.setattr(alone.look, "__defaults__", (10.0,))


def status(place: Path, *arguments: str) -> Result:
    """`failoverctl status` of a host whose socket, audit and configuration are in `place`."""
    own = ["--socket", str(place / "run/control.sock"), "--audit", str(place / "lib/audit")]
    own += ["--config", str(place / "failoverd.yaml")]
    return CliRunner().invoke(app, ["status", *own, *arguments], prog_name="failoverctl")


def configured(place: Path, port: int, **nodes: str) -> None:
    lines = [f"  {name}: {{kind: data, address: {address}}}" for name, address in nodes.items()]
    text = "\n".join(["nodes:", *lines, "vip: {address: 127.99.99.99/8, interface: lo}", f"http: {{port: {port}}}"])
    missing = place / "mysqld.sock"
    (place / "failoverd.yaml").write_text(f"{text}\ndatabase: {{socket: {missing}}}\n")


def rows(shown: str) -> dict[str, str]:
    """What is said of each thing, on the part of the screen that is about this host."""
    lines = shown.partition("\n\n")[0].splitlines()[1:]
    return {line.split()[0]: line.split(maxsplit=1)[1] for line in lines if not line.startswith("      ")}


# ---- the cluster, as another node sees it -----------------------------------------------------------------------


@pytest.mark.usefixtures("patient")
def test_the_best_picture_that_another_node_has_is_shown_with_its_name(tmp_path: Path) -> None:
    with ExitStack() as stack:
        cut_off = replace(BLOCKED, node="mail3")
        first = stack.enter_context(Listener("127.0.0.3", 0, 200, STATUS.dump_json(cut_off)))
        stack.enter_context(Listener("127.0.0.2", first.port, 200, STATUS.dump_json(DEGRADED)))
        stack.enter_context(Listener("127.0.0.4", first.port, 403, b"no"))
        stack.enter_context(Listener("127.0.0.5", first.port, 200, STATUS.dump_json(HEALTHY)))
        nodes = {"mail1": "127.0.0.9", "mail2": "127.0.0.2", "mail3": "127.0.0.3"}
        configured(tmp_path, first.port, **nodes, arbiter="127.0.0.4", other="127.0.0.5")
        shown, told = status(tmp_path), json.loads(status(tmp_path, "-o", "json").stdout)
    assert shown.exit_code == Exit.UNREACHABLE
    assert shown.stderr.startswith(f"failoverctl: {tmp_path}/run/control.sock: no such socket")
    assert rows(shown.stdout) | {
        "mail1": f"port {first.port}: connection refused (127.0.0.9)",
        "mail2": "answers on 127.0.0.2",
        "mail3": "answers on 127.0.0.3",
        "arbiter": "this host is not in its http.allow (127.0.0.4)",
        "other": "127.0.0.5 says that it is mail2 (127.0.0.5)",
    } == rows(shown.stdout)
    assert "\nThe cluster, seen from mail2:\n\nlab   term 7   primary mail1, lease 2.4 s left" in shown.stdout
    assert "!  mail3  FND_NEEDS_REJOIN" in shown.stdout
    assert (told["seen_from"], told["status"]["node"], told["daemon"]["answers"]) == ("mail2", "mail2", False)
    assert {node["name"]: node["answers"] for node in told["nodes"]} == {
        "mail1": False, "mail2": True, "mail3": True, "arbiter": False, "other": False,
    }  # fmt: skip


def test_a_node_that_hangs_is_named_and_not_waited_for(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.6", 0)) as silent:
        configured(tmp_path, silent.getsockname()[1], mail2="127.0.0.6")
        shown = status(tmp_path)
    assert rows(shown.stdout)["mail2"] == "no answer within 1000 ms (127.0.0.6)"
    assert shown.stdout.endswith("The cluster is not known from here: ask failoverctl status on another node\n")


@pytest.mark.usefixtures("patient")
def test_without_the_file_the_rest_is_still_said(tmp_path: Path) -> None:
    shown = status(tmp_path)
    assert shown.exit_code == Exit.UNREACHABLE
    why = f"not known: {tmp_path}/failoverd.yaml: no such file or directory"
    said = rows(shown.stdout)
    assert (said["nodes"], said["vip"]) == (why, why)
    assert said["lease"] == "none is noted: nothing is held here"
    (tmp_path / "failoverd.yaml").write_text("nodes: [\nvip: }")
    assert rows(status(tmp_path).stdout)["nodes"] == f"not known: {tmp_path}/failoverd.yaml: no YAML, line 2"


@pytest.mark.usefixtures("patient")
def test_an_arbiter_is_not_asked_for_what_it_never_has_and_does_not_ask_itself(tmp_path: Path) -> None:
    own = os.uname().nodename
    (tmp_path / "failoverd.yaml").write_text(f"nodes:\n  {own}: {{kind: arbiter, address: 127.0.0.8}}\n")
    assert list(rows(status(tmp_path).stdout)) == ["unit", "term", "audit"]


def test_a_file_that_hangs_is_named_and_the_rest_is_still_said(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "failoverd.yaml")  # nobody writes it, as on a file system that is gone
    shown = status(tmp_path)
    os.close(os.open(tmp_path / "failoverd.yaml", os.O_WRONLY | os.O_NONBLOCK))  # lets the look go
    assert shown.exit_code == Exit.UNREACHABLE
    said = rows(shown.stdout)
    assert said["nodes"] == f"not known: {tmp_path}/failoverd.yaml: no answer within 150 ms"
    assert said["lease"] == "none is noted: nothing is held here"


@pytest.mark.usefixtures("patient")
def test_the_audit_is_read_where_the_file_has_it(tmp_path: Path) -> None:
    configured(tmp_path, 1)
    with (tmp_path / "failoverd.yaml").open("a") as file:
        file.write(f"audit: {{directory: {tmp_path}/kept}}\n")
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/audit.jsonl").write_text('{"seq": 4, "term": 7, "kind": "decision", "text": "kept there"}\n')
    place = ["--socket", str(tmp_path / "run/control.sock"), "--config", str(tmp_path / "failoverd.yaml")]
    shown = CliRunner().invoke(app, ["status", *place, "-o", "json"], prog_name="failoverctl")
    (record,) = json.loads(shown.stdout)["host"]["audit"]["records"]
    assert record["text"] == "kept there"
    assert json.loads(status(tmp_path, "-o", "json").stdout)["host"]["audit"]["records"] == []  # named: tmp_path/lib


# ---- this host --------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("patient")
def test_what_the_daemon_left_behind_is_read(tmp_path: Path) -> None:
    configured(tmp_path, 1)
    TermFile(tmp_path / "lib").keep(Memory(term=7))
    sink = AuditFile(tmp_path / "lib/audit/audit.jsonl", "mail2", BootClock())
    texts = ("first", "let go", "gate closed", "ended")
    sink.append([{"term": 7, "kind": "decision", "rule": "lease-lost", "text": text} for text in texts])
    sink.close()
    lease = LeaseFile(tmp_path / "run", boot_id())
    lease.write(Held(7, 4711, BootClock().now_ms() - 130_000))
    shown = status(tmp_path).stdout
    said = rows(shown)
    assert said["lease"] == "of term 7, over for 2 min: the kernel keeps nothing open any more"
    assert said["term"] == "7 is the newest that this host has seen"
    assert said["database"] == f"does not run: nobody listens on {tmp_path}/mysqld.sock"
    assert [line.split("lease-lost  ")[1] for line in shown.splitlines() if "lease-lost" in line] == list(texts[1:])
    lease.write(Held(7, 4711, BootClock().now_ms() + 3_600_000))
    assert rows(status(tmp_path).stdout)["lease"] == "of term 7, the kernel keeps it for another 59 min"
    LeaseFile(tmp_path / "run", "another boot").write(Held(6, 1, 5))
    assert rows(status(tmp_path).stdout)["lease"] == "of term 6, noted before this boot: over"
    (tmp_path / "lib/term").write_text("{")
    (tmp_path / "run/lease").write_text("torn")
    said = rows(status(tmp_path).stdout)
    assert said["term"] == f"not known: {tmp_path}/lib/term is damaged"
    assert said["lease"] == f"not known: {tmp_path}/run/lease is damaged"


SHOWN = """\
Result=exit-code
NRestarts=0
ExecMainCode=1
ExecMainStatus=78
Id=failoverd.service
LoadState=loaded
ActiveState=failed
SubState=failed
StateChangeTimestampMonotonic=1000000

Result=success
NRestarts=1
ExecMainCode=0
ExecMainStatus=0
Id=failoverd-guard.service
LoadState=loaded
ActiveState=active
SubState=running
StateChangeTimestampMonotonic=0
"""


def test_how_systemd_sees_the_daemon_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the form that systemd 252 prints on a host of the lab: this machine has no systemd to ask."""
    program = tmp_path / "systemctl"
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{SHOWN}END\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    found = alone_host.units("", 10.0)
    begins = "failed (exit-code, exited 78 (wrong configuration: failoverctl config check)) for "
    assert found.words.startswith(begins)
    assert found.words.endswith("; failoverd-guard.service active (running)")
    assert found.bad
    program.write_text("#!/bin/sh\necho 'Failed to connect to bus: No such file' >&2; exit 1\n")
    with pytest.raises(UnknownError, match="systemctl: Failed to connect to bus"):
        alone_host.units("", 10.0)
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    with pytest.raises(UnknownError, match="systemctl did not answer within 50 ms"):
        alone_host.units("", 0.05)


def test_a_look_that_hangs_keeps_nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hold = threading.Event()
    monkeypatch.setattr(alone_host, "gate", lambda: Found("late") if hold.wait(60) else Found("later"))
    found = alone.look(alone.Places(tmp_path, tmp_path / "audit", tmp_path / "none.yaml"), "why", 0.05)
    assert found.host["gate"] == "no answer within 50 ms"
    hold.set()


def test_a_bug_in_a_look_is_no_silence(tmp_path: Path) -> None:
    def broken() -> Found:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        alone.side_by_side({"gate": broken, "vip": lambda: Found(str(tmp_path))}, time.monotonic() + 10)


def test_alone_loads_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys; sys.argv[0] = 'failoverctl'\nfrom failoverd.ctl.app import app\n"
        "try: app(prog_name='failoverctl')\nexcept SystemExit: pass\nsys.stderr.write(' '.join(sys.modules))"
    )
    own = ["--socket", str(tmp_path / "no.sock"), "--config", str(tmp_path / "none.yaml")]
    command = [sys.executable, "-c", code, "status", *own]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    assert "This host, without its daemon" in done.stdout
    assert not {"pydantic", "httpx", "asyncio", "pymysql", "pyroute2"} & set(done.stderr.split())


# ---- the kernel -------------------------------------------------------------------------------------------------


@pytest.fixture
def host() -> Iterator[Callable[[Callable[[], Any]], Any]]:
    """A network namespace with the VIP's interface, and a way to look from inside."""
    from gate_stage import Place  # noqa: PLC0415 - it needs root

    place = Place()
    place.run("ip", "link", "add", "wire0", "type", "veth", "peer", "name", "wire1")
    place.run("ip", "link", "set", "wire0", "up")
    place.run("ip", "link", "set", "wire1", "up")
    place.run("ip", "address", "add", "10.89.1.11/24", "dev", "wire0")
    yield place.do
    place.close()


@pytest.mark.root
def test_the_gate_and_the_address_are_read_from_the_kernel(host: Callable[[Callable[[], Any]], Any]) -> None:
    from failoverd.actions.gate import KernelGate  # noqa: PLC0415 - it needs root

    def looked() -> tuple[Found, Found]:
        return host(alone_host.gate), host(lambda: alone_host.vip("10.89.1.100", 10.0))

    gate, vip = looked()
    assert gate.detail == {"open": None}
    assert vip.detail == {"address": "10.89.1.100", "present": False}
    clock = BootClock()
    kernel: KernelGate = host(
        lambda: KernelGate(
            interface="wire0",
            vip="10.89.1.100",
            prefix=24,
            own_address="10.89.1.11",
            cluster_addresses=["10.89.1.12"],
            ports=[993],
            clock=clock,
        )
    )
    assert host(kernel.install).code == ""
    assert looked()[0].words == "not in force yet: everything passes until this node is adopted"
    host(lambda: kernel.open(until_ms=clock.now_ms() + 600_000, announce=False))
    gate, vip = looked()
    assert gate.words.startswith("OPEN for another ")
    assert 500_000 < int(str(gate.detail["left_ms"])) <= 600_000
    assert vip.words == f"10.89.1.100 is on wire0, for another {vip.detail['left_s']} s at most"
    assert 500 < int(str(vip.detail["left_s"])) <= 600
    host(kernel.close)
    gate, vip = looked()
    assert gate.words == "closed: no client reaches this host"
    assert vip.words == "10.89.1.100 is not on this host"
    host(kernel.release)
