"""Root with the rights that a unit leaves it, and no more: what each process then can and cannot do, really tried."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from postfix_stage import confined
from test_helper import LONG_MS, MAIL1, MAIL2, Node, look

from failoverd.core.model import Health, Outcome
from failoverd.probes.disk import DiskProbe
from failoverd.runtime.helped import HelpedStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.root

NOBODY = 65534


@pytest.fixture
def node(tmp_path: Path, example: str) -> Node:
    """A node whose mail is somebody else's, who lets nobody in, root without its rights neither."""
    made = Node(tmp_path, example)
    text = made.config.read_text()
    made.config.write_text(re.sub(r"(?m)^host:.*\n(?:[ \t].*\n)*", "", text) + f"host: {{disks: [{made.mail}/box]}}\n")
    (made.mail / "box").mkdir()
    lock = made.mail / "box/dovecot-uidlist.lock"
    lock.write_text("417:mail1")
    os.utime(lock, (0, 0))
    for place in (made.place, *made.place.parents[:3]):
        place.chmod(place.stat().st_mode | 0o111)
    for path in (lock, made.mail / "box", made.mail):
        os.chown(path, NOBODY, NOBODY)
        path.chmod(0o700)
    return made


@pytest.fixture
def helped(node: Node) -> Iterator[Node]:
    with node.helped(*confined("failoverd-helper.service")):
        yield node


def test_the_helper_does_with_its_rights_all_that_it_is_asked_for(helped: Node) -> None:
    probe = DiskProbe(str(helped.mail), helped.runtime, helped.helper.lend)
    assert look("disk", probe, LONG_MS).health is Health.OK
    asyncio.run(probe.close())
    assert (helped.mail / ".failoverd-probe").stat().st_uid == NOBODY
    assert helped.helper.space(f"{helped.mail}/box").free_percent > 0
    store = HelpedStore(helped.helper)
    assert store.break_locks(given=False, deadline_ms=LONG_MS).reason == "1 locks broken"
    assert asyncio.run(helped.fence.power_off(MAIL1, deadline_ms=LONG_MS)).outcome is Outcome.SUCCEEDED


def test_the_daemons_rights_do_not_reach_there(node: Node) -> None:
    ask = f"import os, sys; os.statvfs({str(node.mail / 'box')!r})"
    tried = subprocess.run(
        [*confined("failoverd.service"), sys.executable, "-c", ask], capture_output=True, text=True, check=False
    )
    assert "PermissionError" in tried.stderr


def checks(node: Node, unit: str) -> list[str]:
    """What reads the configuration as a process of that unit does."""
    failoverd = [sys.executable, "-m", "failoverd", "check", "--config", str(node.config), "--node", MAIL2]
    return [*confined(unit), *failoverd]


@pytest.mark.parametrize("unit", ["failoverd", "failoverd-guard", "failoverd-drop", "failoverd-gate"])
def test_a_configuration_of_root_is_read_with_few_rights(node: Node, unit: str) -> None:
    command = [
        *confined(f"{unit}.service"),
        sys.executable,
        "-m",
        "failoverd",
        "check",
        "--config",
        str(node.config),
        "--node",
        MAIL2,
    ]
    read = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (read.returncode, read.stderr) == (0, "")


def test_a_secret_of_somebody_else_is_refused_by_its_place_and_not_by_a_crash(node: Node) -> None:
    secret = node.place / "secret"
    os.chown(secret, NOBODY, NOBODY)
    read = subprocess.run(checks(node, "failoverd.service"), capture_output=True, text=True, check=False)
    assert read.returncode == 78
    assert "passwd" in read.stderr
    assert "Permission denied" in read.stderr
    assert "Traceback" not in read.stderr
