"""A daemon with a mail store that moves, from its start: audit, outbox, executor and the program are production's."""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from node_stage import HELD, Node, Unused

from failoverd.config import load
from failoverd.core.effects import Perform, Step, StepKind
from failoverd.core.mail_store import StoreState
from failoverd.core.model import NodeName, Outcome
from failoverd.ports import Result
from failoverd.runtime.clock import BootClock
from failoverd.runtime.executor import Executor
from failoverd.runtime.local import mail_store_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

TERM = HELD.term
WELL = Result(Outcome.SUCCEEDED)


class ClosedGate:
    """A gate that can be closed, which is all that is asked of it here."""

    closings = 0

    def close(self) -> Result:
        """It is closed."""
        self.closings += 1
        return WELL

    def verify(self) -> Result:
        """It still is."""
        return WELL


class Services:
    """A systemd that stops what it is told to."""

    def __init__(self) -> None:
        self.stopped: list[tuple[str, ...]] = []

    async def stop(self, units: Sequence[str], *, deadline_ms: int) -> Result:  # noqa: ARG002 - of the protocol
        """At once."""
        self.stopped.append(tuple(units))
        return WELL


class NoFile:
    """No lease is noted: this node holds none."""

    def write(self, held: object, *, leaving: bool = False) -> None:
        """Never."""
        raise AssertionError(held, leaving)

    def clear(self) -> None:
        """There is nothing to be cleared."""


@pytest.fixture
def node(config_file: Path, example: str, tmp_path: Path) -> Node:
    """mail2, while mail1 holds the term; its program notes what it is asked, and fails as long as `busy` is there."""
    program = tmp_path / "mail-store"
    program.write_text(
        f'#!/bin/sh\ncat >> "{tmp_path}/asked"\n[ ! -e "{tmp_path}/busy" ] || {{ echo in use; exit 1; }}\n'
    )
    program.chmod(0o755)
    store = f"mail_store: {{kind: hook, path: /srv/mail, program: {program}}}"
    config_file.write_text(re.sub(r"(?m)^mail_store: .*$", store, re.sub(r"(?m)^queue: .*\n", "", example)))
    config = load(config_file, "mail2")
    made = Node(config, tmp_path, HELD)
    daemon, clock, unused = made.daemon, BootClock(), Unused()
    anything: Any = unused
    lease: Any = NoFile()
    gate: Any = ClosedGate()
    units: Any = Services()
    daemon._lease = lease
    daemon.executor = Executor(
        node=config.this.name,
        clock=clock,
        gate=gate,
        database=anything,
        heart=anything,
        units=units,
        store=anything,
        prove=anything,
        deliver=daemon.step_ended,
        broken=daemon.broken,
        moved=mail_store_of(config, tmp_path),
        held_until_ms=daemon.held_until_ms,
    )
    return made


def asked(tmp_path: Path) -> list[str]:
    path = tmp_path / "asked"
    return [json.loads(line)["ask"] for line in path.read_text().splitlines()] if path.exists() else []


def test_a_node_that_is_not_primary_leaves_the_store_when_its_daemon_starts(node: Node, tmp_path: Path) -> None:
    async def scene() -> None:
        async with node.running():
            await node.until(lambda: node.daemon.state.view.mail_store is StoreState.RELEASED)

    asyncio.run(scene())
    assert asked(tmp_path) == ["release"]
    said = [json.loads(line) for line in node.audit.read_text().splitlines()]
    steps = [one["text"] for one in said if one["kind"] == "step"]
    assert steps == ["close-gate", "stop-services", "release-store"]


def test_what_keeps_the_store_is_told_until_it_is_left(node: Node, tmp_path: Path) -> None:
    busy = tmp_path / "busy"
    busy.touch()

    async def scene() -> None:
        async with node.running():
            await node.until(lambda: len(asked(tmp_path)) > 1)
            assert node.daemon.state.view.mail_store is StoreState.QUIET
            found = node.controller.check().findings
            assert [(one.code, one.blocks) for one in found if one.node == "mail2"] == [("STORE_HOOK_FAILED", True)]
            busy.unlink()
            await node.until(lambda: node.daemon.state.view.mail_store is StoreState.RELEASED)

    asyncio.run(scene())
    assert set(asked(tmp_path)) == {"release"}


@pytest.mark.parametrize("kind", [StepKind.TAKE_STORE, StepKind.START_SERVICES])
def test_without_the_lease_nothing_is_taken_or_started_whoever_asks(node: Node, tmp_path: Path, kind: StepKind) -> None:
    async def scene() -> None:
        async with node.running():
            await node.until(lambda: node.daemon.state.view.mail_store is StoreState.RELEASED)
            taking = Step(kind, TERM, 99, 5000, units=("dovecot.service",), previous=NodeName("mail1"))
            node.daemon.perform(Perform(taking))
            await node.until(lambda: node.daemon.state.view.mail_store is StoreState.RELEASED)

    asyncio.run(scene())
    assert "take" not in asked(tmp_path)
    said = [json.loads(line) for line in node.audit.read_text().splitlines()]
    assert [one["code"] for one in said if one["kind"] == "step-ended" and kind.value in one["text"]] == [
        "STEP_OF_OLD_TERM"
    ]
