"""The probes against what they are for: Dovecot, Postfix, systemd and a wire with a virtual IP on it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hosts.shell import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hosts import Lab
    from trials.cluster import Cluster

pytestmark = pytest.mark.lab

FROM, OF = "mail2", "mail3"  # who looks, and at whom: a replica, so that nothing moves

LOOK = """
import asyncio, dataclasses, json, sys
from pathlib import Path
from failoverd.config import load
from failoverd.ports import Target
from failoverd.probes.deadline import observe
from failoverd.probes.unit import UnitProbe
from failoverd.probes.vip import VipProbe
from failoverd.runtime.clock import BootClock
from failoverd.runtime.schedule import Schedule

config = load(Path("/etc/failoverd/failoverd.yaml"), sys.argv[1])
kind, target = sys.argv[2], sys.argv[3]
if kind.startswith("unit:"):
    probe = UnitProbe(kind.removeprefix("unit:"))
elif kind == "vip":
    probe = VipProbe(interface=config.vip.interface, address=config.vip.address)
else:
    probe = Schedule(config, None).services[kind]

async def look():
    found = await observe(kind, probe, Target(target, config.nodes[target].address), 1000, BootClock())
    if kind.startswith("unit:"):
        await probe.close()
    return found.reading

found = asyncio.run(look())
print(json.dumps([found.code, found.reason, found.facts and dataclasses.asdict(found.facts)]))
"""


def look(lab: Lab, host: str, probe: str, target: str = OF) -> tuple[str, str, dict[str, object]]:
    """Observe once, in a process of its own on `host`."""
    printed = lab.exec(host, "/opt/failoverd/bin/python", "-", host, probe, target, stdin=LOOK).stdout
    code, reason, facts = json.loads(printed)
    return code, reason, facts


@pytest.fixture
def replica(lab: Lab, cluster: Cluster) -> Iterator[str]:
    """Give a replica whose failoverd is stopped, so that it repairs nothing meanwhile."""
    if cluster.primary() != "mail1":
        lab.exec("arbiter", "failoverctl", "promote", "--node", "mail1")
        cluster.wait_until_settled(30)
    lab.exec(OF, "systemctl", "stop", "failoverd.service")
    yield OF
    lab.exec(OF, "systemctl", "start", "mariadb.service", "dovecot.service", "postfix@-.service", "failoverd.service")
    lab.exec(OF, "systemctl", "reload", "postfix@-.service")  # its SQL maps wait a minute before they look again


def test_healthy_services_and_units_are_well(lab: Lab, replica: str) -> None:
    for service in ("imap", "smtp"):
        assert look(lab, FROM, service)[:2] == ("", "")
    for unit in ("dovecot.service", "postfix@-.service", "mariadb.service"):
        facts = {"unit": unit, "active": "active", "sub": "running"}
        assert look(lab, replica, f"unit:{unit}") == ("", "", facts)
    assert look(lab, replica, "unit:postfix.service")[0] == "UNIT_NOT_ACTIVE"  # Debian's wrapper: active (exited)
    assert look(lab, replica, "unit:nobody.service")[0] == "UNIT_UNKNOWN"


def test_a_hung_and_a_stopped_dovecot(lab: Lab, replica: str) -> None:
    lab.exec(replica, "systemctl", "kill", "--signal=STOP", "dovecot.service")
    try:
        assert look(lab, FROM, "imap")[0] == "IMAP_NO_GREETING"
        assert look(lab, replica, "unit:dovecot.service")[0] == ""
    finally:
        lab.exec(replica, "systemctl", "kill", "--signal=CONT", "dovecot.service")
    lab.exec(replica, "systemctl", "stop", "dovecot.service")
    assert look(lab, FROM, "imap")[0] == "IMAP_REFUSED"
    code, reason, _ = look(lab, replica, "unit:dovecot.service")
    assert (code, reason) == ("UNIT_NOT_ACTIVE", "dovecot.service is inactive (dead)")


def test_a_stopped_database_is_seen_in_both_services(lab: Lab, replica: str) -> None:
    lab.exec(replica, "systemctl", "stop", "mariadb.service")
    assert look(lab, FROM, "imap")[0] in {"IMAP_LOGIN_REFUSED", "IMAP_TIMEOUT_LOGIN"}
    # Postfix asks anew once its own connection is found broken.
    wait_for("Postfix misses its maps", lambda: look(lab, FROM, "smtp")[0] == "SMTP_RCPT_DEFERRED", 10)


def test_a_mail_store_that_is_away_fails_the_select_not_the_login(lab: Lab, replica: str) -> None:
    wait_for("mail is well before", lambda: look(lab, FROM, "imap")[0] == "", 30)  # its database was started just now
    lab.exec(replica, "mount", "-t", "tmpfs", "-o", "mode=000", "away", "/srv/mail")
    try:
        code, reason, _ = look(lab, FROM, "imap")
    finally:
        lab.exec(replica, "umount", "/srv/mail")
    assert code == "IMAP_SELECT_FAILED", reason


def test_the_holder_of_the_virtual_ip_answers_on_the_wire(lab: Lab, cluster: Cluster) -> None:
    holder = cluster.primary()
    hardware = lab.exec(holder, "cat", "/sys/class/net/host0/address").stdout.strip()
    code, _, facts = look(lab, holder, "vip")
    assert (code, facts) == ("", {"present": True, "others": []})
    other = next(host for host in ("mail1", "mail2") if host != holder)
    code, _, facts = look(lab, other, "vip")
    assert (code, facts) == ("", {"present": False, "others": [hardware]})
