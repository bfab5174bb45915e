"""README, to the letter, on hosts that have never seen failoverd: a running cluster by ten commands at most."""

from __future__ import annotations

import re
import subprocess
import tarfile
import time
from typing import TYPE_CHECKING

import pytest
from hosts import Lab, layout
from hosts.package import package
from hosts.shell import run
from trials.cluster import Cluster
from trials.watch import Watch, now_ms

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.lab

README = layout.TREE / "README.md"
BLOCK = re.compile(r"^```sh\n# on (.+)\n((?:.+\n)+?)```$", re.MULTILINE)
MOST, WITHIN_S = 10, 600.0
OUTSIDE = "a Debian 12 that reaches the nodes by ssh"
HOME_S = 60.0


def commands() -> list[tuple[str, str]]:
    """Give README's commands in their order, each with the machine that it is typed on."""
    found = []
    for place, block in BLOCK.findall(README.read_text(encoding="utf-8")):
        whole = re.sub(r"\\\n\s*", "", block)
        found += [(place.partition(",")[0], line) for line in whole.splitlines() if not line.startswith("#")]
    return found


def typed_outside(lab: Lab, command: str, place: Path) -> str:
    """Run it in this tree. What speaks to the nodes does so from the client's network, with the administrator's key."""
    if "ssh " not in command:
        at = f"SOURCE_DATE_EPOCH={built_at(package(print))}"  # the package that is there may be of an earlier commit
        return run("sh", "-c", f"cd {layout.TREE} && export {at} && {command}", timeout_s=300).stdout
    keys, names = place / "ssh", place / "hosts"
    if not keys.exists():
        run("cp", "-a", str(lab.path(layout.FIRST_PRIMARY, "/root/.ssh")), str(keys))
        names.write_text("".join(f"{address} {name}\n" for name, address in layout.ADDRESSES.items()))
    inside = (
        f"mkdir -p /root/.ssh && mount --bind {keys} /root/.ssh && mount --bind {names} /etc/hosts"
        f" && cd {layout.TREE} && {command}"
    )
    return run(*lab.client_command("unshare", "--mount", "sh", "-c", inside), timeout_s=300).stdout


def built_at(deb: Path) -> int:
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", deb], stdout=subprocess.PIPE) as whole:
        assert whole.stdout is not None
        with tarfile.open(fileobj=whole.stdout, mode="r|") as archive:
            return next(int(member.mtime) for member in archive if member.name.endswith("/failoverd/pyvenv.cfg"))


@pytest.fixture
def bare(lab_of_the_session: Lab) -> Iterator[Lab]:
    """Give hosts without failoverd, and give the lab back as it was."""
    lab_of_the_session.up(installed=False, prepared=False)
    password = lab_of_the_session.path(layout.FIRST_PRIMARY, "/root") / "canary"
    password.write_text(f"{layout.CANARY_PASSWORD}\n")
    password.chmod(0o600)
    yield lab_of_the_session
    lab_of_the_session.up()


def test_from_nothing_to_a_running_cluster_and_no_client_notices(bare: Lab, tmp_path: Path) -> None:
    typed = commands()
    assert {place for place, _ in typed} <= {OUTSIDE, *layout.HOSTS}
    transcript = []
    with Watch(bare, tmp_path, "watch") as watch:
        watch.wait_until_steady()
        began, began_ms = time.monotonic(), now_ms()
        for place, command in typed:
            transcript.append(f"{place}# {command}")
            if place == OUTSIDE:
                transcript.append(typed_outside(bare, command, tmp_path))
            else:
                transcript.append(bare.exec(place, "sh", "-c", f"cd /root && {command}", timeout_s=120).stdout)
        took_s = time.monotonic() - began
        Cluster(bare).wait_until_settled(HOME_S)
        watch.wait_until_served(HOME_S)
        watch.stop_client()
        noticed = [attempt for attempt in watch.attempts if attempt.start >= began_ms and not attempt.ok]
    print("\n".join(transcript))
    print(f"{len(typed)} commands, {took_s:.0f} s")
    assert len(typed) <= MOST
    assert took_s < WITHIN_S
    assert [(one.protocol, one.error, round(one.start - began_ms)) for one in noticed] == []
    assert Cluster(bare).primary() == layout.FIRST_PRIMARY
    checked = bare.exec(layout.FIRST_PRIMARY, "failoverctl", "check", check=False)
    assert checked.returncode in {0, 6}, checked.stdout
    for host in layout.HOSTS:
        assert bare.exec(host, "systemctl", "is-enabled", "failoverd").stdout.strip() == "enabled"
    (built,) = (layout.TREE / "dist").glob("failoverd_*.deb")
    assert built.read_bytes() == package(print).read_bytes(), "the same tree gives the same package"

    # All of it once more changes nothing.
    (init,) = (command for _, command in typed if command.startswith("failoverctl init "))
    assert (
        "nothing to change" in bare.exec(layout.FIRST_PRIMARY, "sh", "-c", f"cd /root && {init}", timeout_s=120).stdout
    )
    again = bare.exec("mail2", "failoverctl", "join", "--yes", "/root/mail2.join", timeout_s=120)
    assert "nothing to change" in again.stdout

    # It is not only there, it can move the role.
    bare.exec("mail2", "failoverctl", "promote", "--node", "mail2")
    Cluster(bare).wait_until_settled(HOME_S)
    assert Cluster(bare).primary() == "mail2"
