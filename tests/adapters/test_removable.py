"""`failoverctl removable`, which the Debian package asks before it goes: every reason why not, and none."""

from __future__ import annotations

import fcntl
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result
from control_stage import HEALTHY, Running, Stage

from failoverd.core.lease import Held
from failoverd.ctl.app import app
from failoverd.ctl.exits import Exit
from failoverd.runtime.clock import BootClock
from failoverd.runtime.document import LeaseStatus, StoreStatus
from failoverd.runtime.persist import LeaseFile, boot_id

if TYPE_CHECKING:
    from pathlib import Path


def asked(place: Path, socket: str = "nowhere.sock") -> Result:
    directories = [f"--{name}={place / name}" for name in ("state", "runtime", "units")]
    return CliRunner().invoke(app, ["removable", f"--socket={place / socket}", *directories], prog_name="failoverctl")


def refused(answer: Result) -> list[str]:
    """Give the codes of a refusal."""
    assert answer.exit_code == Exit.REFUSED, answer.output
    lines = answer.stderr.splitlines()
    assert all(line.startswith("refused, nothing was touched: ") for line in lines)
    return [line.split(": ")[1] for line in lines]


def note_a_lease(place: Path, *, rest_ms: int, boot: str | None = None) -> None:
    held = Held(term=7, version=12, deadline_ms=BootClock().now_ms() + rest_ms)
    LeaseFile(place / "runtime", boot or boot_id()).write(held)


def test_a_node_that_has_never_been_anything_is_left_as_it_is(tmp_path: Path) -> None:
    assert asked(tmp_path).exit_code == Exit.DONE
    assert list(tmp_path.iterdir()) == []


def test_the_primary_keeps_it_until_its_lease_is_over(tmp_path: Path) -> None:
    note_a_lease(tmp_path, rest_ms=60_000)
    answer = asked(tmp_path)
    assert refused(answer) == ["PKG_HOLDS_LEASE"]
    assert "term 7" in answer.stderr
    note_a_lease(tmp_path, rest_ms=-1)
    assert asked(tmp_path).exit_code == Exit.DONE
    note_a_lease(tmp_path, rest_ms=60_000, boot="another boot")
    assert asked(tmp_path).exit_code == Exit.DONE


@pytest.mark.parametrize(
    ("node", "state", "codes"),
    [
        ("arbiter", "held", ["PKG_KEEPS_STORE"]),
        ("arbiter", "condemned", ["PKG_KEEPS_STORE"]),
        ("arbiter", "ended", []),
        ("mail2", "held", []),
    ],
)
def test_the_store_stays_while_somebody_is_primary_by_it(
    tmp_path: Path, node: str, state: str, codes: list[str]
) -> None:
    store = StoreStatus(kind="embedded", reachable=True, node="arbiter")
    stage = Stage()
    stage.document = replace(HEALTHY, node=node, store=store, lease=LeaseStatus(state=state))  # type: ignore[arg-type]
    with Running(tmp_path / "control.sock", stage):
        answer = asked(tmp_path, "control.sock")
    assert refused(answer) == codes if codes else answer.exit_code == Exit.DONE


def test_a_rebuild_that_is_not_finished_keeps_it(tmp_path: Path) -> None:
    journal = tmp_path / "state/rebuild/journal.json"
    journal.parent.mkdir(parents=True)
    journal.write_text(json.dumps({"stage": "moved"}))
    assert refused(asked(tmp_path)) == ["PKG_BUSY"]
    journal.unlink()
    assert asked(tmp_path).exit_code == Exit.DONE


def test_a_drill_keeps_it_where_it_is_conducted_and_where_its_fault_is(tmp_path: Path) -> None:
    current, fault = tmp_path / "state/drill/current", tmp_path / "units/failoverd-fault.service"
    for path in (current, fault):
        path.parent.mkdir(parents=True)
        path.write_text("")
        assert refused(asked(tmp_path)) == ["PKG_BUSY"]
        path.unlink()
    assert asked(tmp_path).exit_code == Exit.DONE


def test_a_lock_that_nobody_holds_is_no_rebuild(tmp_path: Path) -> None:
    lock = tmp_path / "runtime/rebuild.lock"
    lock.parent.mkdir()
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        assert asked(tmp_path).exit_code == Exit.DONE
