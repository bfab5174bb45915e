"""README's commands of an installation, typed where it says."""

from __future__ import annotations

import re
import subprocess
import tarfile
from typing import TYPE_CHECKING

from hosts import layout
from hosts.package import package
from hosts.shell import run

if TYPE_CHECKING:
    from pathlib import Path

    from hosts import Lab

README = layout.TREE / "README.md"
BLOCK = re.compile(r"^```sh\n# on (.+)\n((?:.+\n)+?)```$", re.MULTILINE)
OUTSIDE = "a Debian 12 that reaches the nodes by ssh"


def commands() -> list[tuple[str, str]]:
    """Give README's commands in their order, each with the machine that it is typed on."""
    found = []
    for place, block in BLOCK.findall(README.read_text(encoding="utf-8")):
        whole = re.sub(r"\\\n\s*", "", block)
        found += [(place.partition(",")[0], line) for line in whole.splitlines() if not line.startswith("#")]
    return found


def typed(lab: Lab, host: str, command: str, place: Path) -> str:
    """Type it on a host, or outside of them; `place` keeps what outside has of the hosts. Give what it prints."""
    if host == OUTSIDE:
        return _typed_outside(lab, command, place)
    return lab.exec(host, "sh", "-c", f"cd /root && {command}", timeout_s=120).stdout


def _typed_outside(lab: Lab, command: str, place: Path) -> str:
    """Run it in this tree. What speaks to the nodes does so from the client's network, with the administrator's key."""
    if "ssh " not in command:
        at = f"SOURCE_DATE_EPOCH={_built_at(package(print))}"  # the package that is there may be of an earlier commit
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


def _built_at(deb: Path) -> int:
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", deb], stdout=subprocess.PIPE) as whole:
        assert whole.stdout is not None
        with tarfile.open(fileobj=whole.stdout, mode="r|") as archive:
            return next(int(member.mtime) for member in archive if member.name.endswith("/failoverd/pyvenv.cfg"))
