"""The Debian package, built from this tree by its one command: what is in it, and what lintian says."""

from __future__ import annotations

import os
import re
import subprocess
import tarfile
from typing import TYPE_CHECKING

import pytest
from hosts import layout
from hosts.package import package

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.root

TREE = layout.TREE
SITE = "./opt/failoverd/lib/python3.11/site-packages"


def printed(*command: str | Path, **more: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, env={**os.environ, **more})
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def deb() -> Path:
    return package(print)


@pytest.fixture(scope="module")
def unpacked(deb: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("unpacked")
    printed("dpkg-deb", "--extract", deb, place)
    return place


def fields(deb: Path) -> dict[str, str]:
    lines = printed("dpkg-deb", "--field", deb).splitlines()
    return dict(line.split(": ", 1) for line in lines if not line.startswith(" "))


def names(deb: Path) -> dict[str, tarfile.TarInfo]:
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", deb], stdout=subprocess.PIPE) as whole:
        assert whole.stdout is not None
        with tarfile.open(fileobj=whole.stdout, mode="r|") as archive:
            return {member.name: member for member in archive}


def test_it_needs_nothing_but_debian_and_its_python_by_name(deb: Path) -> None:
    told = fields(deb)
    needed = {word.split()[0] for word in told["Depends"].split(", ")}
    assert needed == {"python3.11", "libc6", "libgcc-s1", "libnftables1", "systemd"}
    version = re.search(r'^version = "(.+)"$', (TREE / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    assert told["Version"] == version[1]


def test_everything_is_where_debian_has_it_and_belongs_to_root(deb: Path) -> None:
    found = names(deb)
    units = {path.name for path in (TREE / "systemd").iterdir() if path.suffix in {".service", ".timer", ".socket"}}
    assert {name.rpartition("/")[2] for name in found if re.fullmatch(r"\./lib/systemd/system/[^/]+\.\w+", name)} == (
        units | {"mariadb.service.d"}
    )
    assert found["./usr/bin/failoverctl"].linkname == "/opt/failoverd/bin/failoverctl"
    assert found["./usr/sbin/failoverd"].linkname == "/opt/failoverd/bin/failoverd"
    for name in (
        "./usr/share/man/man8/failoverctl.8.gz",
        "./usr/share/man/man8/failoverd.8.gz",
        "./usr/share/man/man5/failoverd.yaml.5.gz",
        "./usr/share/bash-completion/completions/failoverctl",
        "./usr/share/zsh/vendor-completions/_failoverctl",
        "./usr/share/fish/vendor_completions.d/failoverctl.fish",
        "./usr/share/doc/failoverd/README.md",
        "./usr/share/doc/failoverd/CHANGELOG.md",
        "./usr/share/doc/failoverd/systemd/README.md",  # what the units' comments and `config check` name
        "./usr/share/doc/failoverd/examples/failoverd.yaml",
        f"{SITE}/failoverd/runbooks/codes/PKG_BUSY.md",
    ):
        assert name in found, name
    assert found["./usr/share/doc/failoverd/runbooks"].linkname == f"{SITE[1:]}/failoverd/runbooks"
    assert {(member.uname, member.gname) for member in found.values()} == {("root", "root")}
    assert not [name for name, member in found.items() if member.mode & 0o022 and not member.issym()]
    # No configuration of anybody's: what is shipped is an example, and only the directory is made.
    assert [name for name in found if name.startswith("./etc/")] == ["./etc/failoverd"]
    assert found["./etc/failoverd"].mode == 0o750
    assert "conffiles" not in printed("dpkg-deb", "--info", deb)


def test_what_the_units_name_as_their_documentation_is_installed(deb: Path, unpacked: Path) -> None:
    found = names(deb)
    for unit in (unpacked / "lib/systemd/system").glob("failoverd*.*"):
        (line,) = re.findall(r"^Documentation=(.+)$", unit.read_text(), re.MULTILINE)
        for page, section in re.findall(r"man:([\w.]+)\((\d)\)", line):
            assert f"./usr/share/man/man{section}/{page}.{section}.gz" in found, f"{unit.name}: {line}"


def test_nothing_in_it_tells_where_it_was_built(unpacked: Path) -> None:
    told = re.compile(rb"/tmp/tmp\.\w|debian/failoverd/opt")
    assert [str(path) for path in unpacked.rglob("*") if path.is_file() and told.search(path.read_bytes())] == []
    for name in ("failoverd", "failoverctl"):
        assert (unpacked / "opt/failoverd/bin" / name).read_text().startswith("#!/opt/failoverd/bin/python\n")
    assert (unpacked / "opt/failoverd/bin/python").resolve().name == "python3.11"
    assert sorted(path.name for path in (unpacked / "opt/failoverd/bin").iterdir()) == [
        "failoverctl",
        "failoverd",
        "python",
        "python3",
        "python3.11",
    ]


def test_every_module_is_compiled_for_the_source_as_it_is_unpacked(unpacked: Path) -> None:
    site = unpacked / SITE
    for source in (site / "failoverd").rglob("*.py"):
        compiled = (source.parent / "__pycache__" / f"{source.stem}.cpython-311.pyc").read_bytes()
        assert int.from_bytes(compiled[4:8], "little") == 0, "by time and size, not by a hash of every source"
        assert int.from_bytes(compiled[8:12], "little") == int(source.stat().st_mtime), source
        assert int.from_bytes(compiled[12:16], "little") == source.stat().st_size, source
    assert b"/opt/failoverd/lib" in (site / "failoverd/__pycache__/wire.cpython-311.pyc").read_bytes()


def test_what_is_inside_is_listed_and_is_what_was_pinned(unpacked: Path) -> None:
    def plain(text: str) -> set[str]:
        return {line.lower().replace("_", "-") for line in text.split() if "==" in line}

    inside = plain((unpacked / "opt/failoverd/packages.txt").read_text())
    pinned = plain((TREE / "systemd/debian/requirements.lock").read_text())
    assert {line for line in inside if not line.startswith("failoverd==")} == pinned


def test_the_program_of_the_unpacked_tree_runs_with_debians_python(unpacked: Path) -> None:
    program = "import failoverd, sys; from failoverd.ctl.app import main; print(failoverd.__file__); main()"
    said = printed(unpacked / "opt/failoverd/bin/python", "-I", "-B", "-c", program, "man")
    assert said.startswith(f"{unpacked}/opt/failoverd/lib/")
    assert ".TH " in said


def test_the_units_name_what_is_in_it(deb: Path, unpacked: Path) -> None:
    found = names(deb)
    for unit in (unpacked / "lib/systemd/system").glob("*.service"):
        for program in re.findall(
            r"^Exec\w+=[-+!@:]*(?:/usr/bin/nice -n \d+ )?(/opt/\S+)", unit.read_text(), re.MULTILINE
        ):
            assert f".{program}" in found, f"{unit.name}: {program}"


def test_what_debhelper_adds_to_the_scripts_neither_starts_nor_stops_anything(deb: Path, tmp_path: Path) -> None:
    printed("dpkg-deb", "--control", deb, tmp_path)
    for kind in ("preinst", "postinst", "prerm", "postrm"):
        assert "deb-systemd-invoke" not in (tmp_path / kind).read_text(), kind


def test_lintian_finds_nothing_that_is_not_explained(deb: Path) -> None:
    said = printed("lintian", "--allow-root", "--tag-display-limit", "0", "--fail-on", "error,warning", deb)
    assert [line for line in said.splitlines() if line.startswith(("E:", "W:"))] == []
    overrides = (TREE / "systemd/debian/failoverd.lintian-overrides").read_text()
    assert len(re.findall(r"^#", overrides, re.MULTILINE)) >= 6, "each has its reason"
