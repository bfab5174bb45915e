"""The configuration of a whole daemon read again: what is put in force, what is not, and what a wrong file leaves."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import threading
from asyncio.subprocess import PIPE
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx
from click.testing import CliRunner, Result
from test_node_controller import Node, story

from failoverd.config import load
from failoverd.core.model import NodeName
from failoverd.ctl.app import app
from failoverd.ctl.exits import Exit
from failoverd.runtime.clock import BootClock
from failoverd.runtime.control import ControlServer
from failoverd.runtime.public import PublicServer
from failoverd.runtime.public_shown import Shown
from failoverd.runtime.reloading import Part, Reloader
from failoverd.runtime.schedule import Schedule
from failoverd.runtime.thresholds import policy_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path


PROGRAM = [sys.executable, "-c", "from failoverd.ctl.app import main; main()"]


class Ended(NamedTuple):
    """How failoverctl ended."""

    exit_code: int
    stdout: str
    stderr: str


class Place:
    """A daemon, its reloader with the parts that it has in production, and its control socket."""

    def __init__(self, node: Node, config_file: Path, directory: Path) -> None:
        config = load(config_file, "arbiter")
        self.node, self.file, self.socket = node, config_file, directory / "control.sock"
        self.told: list[str] = []
        self.schedule = Schedule(config, None)
        clock = BootClock()
        self.public = PublicServer(Shown(config, clock, node.daemon, node.controller), addresses=(), port=0)
        self.reloader = Reloader(
            config,
            config_file,
            node.daemon,
            parts=(
                Part("services", self._probes),
                Part("http", lambda new: lambda: self.public.reload(new)),
                Part("requests", lambda new: lambda: node.controller.reload(new)),
            ),
            policy_of=policy_of,
            begins=lambda: self.told.append("reloading"),
            ends=lambda: self.told.append("ready"),
        )
        self.server = ControlServer(self.socket, node.controller, self.reloader.control_routes())

    def _probes(self, config: Any) -> Callable[[], None]:
        schedule = self.schedule.reloaded(config)
        return lambda: self.schedule.take(schedule)

    def edit(self, old: str, new: str) -> None:
        """Change the file as an administrator would."""
        text = self.file.read_text()
        assert old in text
        self.file.write_text(text.replace(old, new))

    async def ctl(self, *arguments: str) -> Ended:
        """Run failoverctl beside the daemon: a process of its own, for this one's output is the daemon's log."""
        command = [*PROGRAM, *arguments, "--socket", str(self.socket)]
        process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=PIPE)
        out, err = await asyncio.wait_for(process.communicate(), 30)
        assert process.returncode is not None
        return Ended(process.returncode, out.decode(), err.decode())


def place(config_file: Path, tmp_path: Path, tell: Callable[[Place], Awaitable[None]]) -> Node:
    # The services' CA of the example is an empty file.
    config_file.write_text(re.sub(r"tls: (implicit|starttls)", "tls: none", config_file.read_text()))

    async def told(node: Node) -> None:
        here = Place(node, config_file, tmp_path)
        await here.server.start()
        try:
            await tell(here)
        finally:
            await here.server.stop()

    return story(config_file, tmp_path, told)


def test_a_threshold_is_in_force_at_once_and_what_needs_a_restart_is_named(config_file: Path, tmp_path: Path) -> None:
    async def tell(here: Place) -> None:
        held = here.node.daemon.state.view.record
        here.edit("max_lag: 5s", "max_lag: 2s")
        here.edit("ttl: 3s", "ttl: 4s")
        seen = await here.ctl("config", "diff")
        assert seen.exit_code == Exit.DONE
        assert 'A reload applies:\n  database.max_lag  "5s" -> "2s"\n' in seen.stdout
        assert here.node.daemon.state.view.policy.max_lag_ms == 5000
        done = await here.ctl("config", "reload")
        assert (done.exit_code, done.stderr) == (Exit.DONE, "")
        assert 'In force now:\n  database.max_lag  "5s" -> "2s"\n' in done.stdout
        assert 'Needs a restart of failoverd:\n  lease.ttl  "3s" -> "4s"\n' in done.stdout
        assert "must be the same on all nodes" in done.stdout
        policy = here.node.daemon.state.view.policy
        assert (policy.max_lag_ms, policy.ttl_ms) == (2000, 3000)
        assert here.node.daemon.state.view.record == held
        assert here.told == ["reloading", "ready"]
        again = await here.ctl("config", "reload", "-o", "json")
        assert json.loads(again.stdout)["outcome"] == "unchanged"

    node = place(config_file, tmp_path, tell)
    assert node.audited("reconfigured") == ["other thresholds are in force: max_lag_ms 5000 -> 2000"]
    assert node.audited("config")[0] == "reloaded: database.max_lag; needs a restart: lease.ttl"


def test_an_invalid_file_leaves_the_old_in_force_with_one_error_everywhere(config_file: Path, tmp_path: Path) -> None:
    text: list[str] = []

    async def tell(here: Place) -> None:
        before = here.node.daemon.state.view.policy
        here.edit("max_lag: 5s  ", "max_lag: 5  ")
        here.edit("hold_off: 10s", "hold_off: 20s")
        done = await here.ctl("config", "reload")
        assert done.exit_code == Exit.REFUSED
        line = here.file.read_text().split("max_lag: 5")[0].count("\n") + 1
        text.append(
            f"{here.file}:{line}: database.max_lag: value '5': has no unit; allowed: "
            "100ms to 24h, a whole number with ms, s, m or h"
        )
        assert done.stderr == f"refused, nothing was touched: CONFIG_REFUSED\n  {text[0]}\n"
        assert here.node.daemon.state.view.policy is before
        assert [(found.code, found.reason) for found in here.reloader.refused()] == [("CONFIG_REFUSED", text[0])]
        assert here.told == ["reloading", "ready"]
        here.edit("max_lag: 5  ", "max_lag: 5s  ")
        assert (await here.ctl("config", "reload")).exit_code == Exit.DONE
        assert here.reloader.refused() == ()
        assert here.node.daemon.state.view.policy.hold_off_ms == 20_000

    node = place(config_file, tmp_path, tell)
    assert node.audited("config-refused") == [f"the configuration stays as it was: {text[0]}"]


def test_in_a_switchover_thresholds_wait_for_its_end(config_file: Path, tmp_path: Path) -> None:
    from dataclasses import replace  # noqa: PLC0415 - only here

    from failoverd.core.model import Request  # noqa: PLC0415 - likewise

    async def tell(here: Place) -> None:
        record = here.node.cell.record
        request = Request("r1", NodeName("mail2"), "anna", "", record.term)
        won, asked = await here.node.store.compare_and_swap(
            record.version, replace(record, request=request, counter=record.counter + 1)
        )
        assert won
        await here.node.until(lambda: here.node.daemon.state.view.record == asked)
        here.edit("max_lag: 5s", "max_lag: 2s")
        done = await here.ctl("config", "reload")
        assert "wait for the end of the change of primary" in done.stdout
        assert here.node.daemon.state.view.policy.max_lag_ms == 5000
        newest = here.node.cell.record
        assert newest.request == request
        won, _ = await here.node.store.compare_and_swap(
            newest.version, replace(newest, request=None, counter=newest.counter + 1)
        )
        assert won
        await here.node.until(lambda: here.node.daemon.state.view.policy.max_lag_ms == 2000)

    place(config_file, tmp_path, tell)


def test_probes_go_on_unless_they_would_be_made_otherwise(config_file: Path, tmp_path: Path) -> None:
    async def tell(here: Place) -> None:
        imap, smtp = (here.schedule.services[name] for name in ("imap", "smtp"))
        here.edit("mailbox: INBOX", "mailbox: Canary") if "mailbox: INBOX" in here.file.read_text() else here.edit(
            "user: canary", "user: other"
        )
        here.edit("hold_off: 10s", "hold_off: 20s")
        assert (await here.ctl("config", "reload")).exit_code == Exit.DONE
        assert here.schedule.services["smtp"] is smtp
        assert here.schedule.services["imap"] is not imap
        (looked,) = [s for s in here.schedule.of(NodeName("mail1")) if s.name == "imap"]
        assert looked.probe is here.schedule.services["imap"]

    place(config_file, tmp_path, tell)


def test_who_may_look_is_reloaded(config_file: Path, tmp_path: Path) -> None:
    async def tell(here: Place) -> None:
        assert here.public._admits("127.0.0.1")
        here.file.write_text(
            here.file.read_text().replace(
                "enabled: true, port: 7480", "enabled: true, port: 7480, allow: [192.0.2.0/24]", 1
            )
        )
        done = await here.ctl("config", "reload", "-o", "json")
        assert "http.allow" in done.stdout, done.stderr
        assert (here.public._admits("192.0.2.9"), here.public._admits("127.0.0.1")) == (True, False)

    place(config_file, tmp_path, tell)


def test_a_file_that_cannot_be_read_in_time_holds_nothing_up(
    config_file: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    from failoverd.runtime import reloading  # noqa: PLC0415 - only here

    come_back = threading.Event()
    monkeypatch.setattr(reloading, "READ_S", 0.05)

    def hang(*_: object) -> None:
        come_back.wait(30)

    async def tell(here: Place) -> None:
        monkeypatch.setattr(reloading.configuration, "load", hang)
        done = await here.reloader.reload("anna")
        assert (done.outcome, done.reason) == ("refused", f"{here.file}: it was not read within 0 s")
        second = await here.reloader.reload("anna")
        assert second.reason.endswith("an earlier reading of it has not come back")
        come_back.set()

    place(config_file, tmp_path, tell)


def test_show_has_every_key_and_no_secret(config_file: Path, tmp_path: Path) -> None:
    async def tell(here: Place) -> None:
        shown = await here.ctl("config", "show", "-o", "json")
        document = json.loads(shown.stdout)
        assert document["values"]["database"]["max_lag"] == "5s"
        assert document["path"] == str(here.file)
        assert document["membership"] == here.node.daemon.state.view.membership
        table = await here.ctl("config", "show")
        assert table.exit_code == Exit.DONE
        assert "max_lag: 5s" in table.stdout
        for text in (shown.stdout, table.stdout):
            assert "lab-password" not in text
            assert "***" in text

    place(config_file, tmp_path, tell)


def test_another_file_is_compared_without_asking_the_daemon_to_read_it(config_file: Path, tmp_path: Path) -> None:
    async def tell(here: Place) -> None:
        other = tmp_path / "other.yaml"
        other.write_text(here.file.read_text().replace("max_lag: 5s", "max_lag: 3s"))
        seen = await here.ctl("config", "diff", str(other))
        assert seen.exit_code == Exit.DONE, seen.stderr
        assert 'database.max_lag  "5s" -> "3s"' in seen.stdout
        other.write_text("cluster: [")
        assert (await here.ctl("config", "diff", str(other))).exit_code == Exit.FAILED
        same = await here.ctl("config", "diff", str(here.file))
        assert same.stdout == f"{here.file}: as in force\n"

    place(config_file, tmp_path, tell)


def test_what_is_asked_wrongly_is_not_understood(config_file: Path, tmp_path: Path) -> None:
    async def tell(here: Place) -> None:
        transport = httpx.AsyncHTTPTransport(uds=str(here.socket))
        async with httpx.AsyncClient(transport=transport, base_url="http://control") as client:
            assert (await client.post("/v1/reload", json={"who": "anna"})).status_code == 400
            assert (await client.get("/v1/reload")).status_code == 405

    place(config_file, tmp_path, tell)
    assert os.path.exists(config_file)  # noqa: PTH110 - as it was


def test_check_says_the_one_error_or_that_it_fits(config_file: Path) -> None:
    def check(*arguments: str) -> Result:
        return CliRunner().invoke(app, ["config", "check", str(config_file), *arguments], prog_name="failoverctl")

    fit = check("--node", "mail1")
    assert (fit.exit_code, fit.stdout) == (Exit.DONE, f"{config_file}: fit for mail1\n")
    config_file.write_text(config_file.read_text().replace("max_lag: 5s", "max_lag: soon"))
    wrong = check("--node", "mail1")
    assert wrong.exit_code == Exit.FAILED
    assert "database.max_lag: value 'soon': is no duration" in wrong.stderr
