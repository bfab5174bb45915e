"""The dependency layer: a venv in which the tree's failoverd is installed editable, so that a plain copy renews it."""

from __future__ import annotations

import os
import shutil
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from . import debian, layout
from .layers import digest, layer, overlay, run_in_root
from .shell import run

if TYPE_CHECKING:
    from collections.abc import Callable

VENV = "/opt/failoverd"
_TOOL_TABLES_WITHOUT_EFFECT = {"ruff", "mypy", "pytest", "importlinter", "coverage"}


def deps(say: Callable[[str], None]) -> Path | None:
    """Give the venv with the project's dependencies, or nothing while the tree has no project to install."""
    pyproject = layout.TREE / "pyproject.toml"
    if not pyproject.exists() or not (layout.TREE / "failoverd/__init__.py").exists():
        return None
    data = tomllib.loads(pyproject.read_text())
    tools = {name: table for name, table in data.get("tool", {}).items() if name not in _TOOL_TABLES_WITHOUT_EFFECT}
    key = digest(debian.base_key(), data.get("project"), data.get("build-system"), tools)
    return layer("deps", key, say, lambda place: _build_deps(place, debian.base(say)))


def _build_deps(place: Path, base_root: Path) -> None:
    copy_source(place)
    with overlay([base_root], place) as root:
        run_in_root(
            root,
            (
                f"python3 -m venv {VENV} && {VENV}/bin/pip install --no-cache-dir --quiet -e {VENV}/src"
                f" && ln -sf {VENV}/bin/failoverctl /usr/local/bin/failoverctl"
            ),
            *machine_settings(),
            timeout_s=600,
        )
    shutil.rmtree(place / VENV.lstrip("/") / "src/failoverd")  # a file that the tree has dropped must not live on here


def copy_source(place: Path) -> None:
    """Copy the project's own files to where the editable install looks for them."""
    source = place / VENV.lstrip("/") / "src"
    shutil.copytree(layout.TREE / "failoverd", source / "failoverd", dirs_exist_ok=True)
    for name in ("pyproject.toml", "README.md"):
        if (layout.TREE / name).exists():
            shutil.copy2(layout.TREE / name, source / name)
        else:
            (source / name).touch()


def compile_source(place: Path) -> None:
    """Compile it, as pip and the package do: the daemon may not write there, and has a part of a lease to start in.

    By Debian's Python, which is the hosts'; what another release had compiled would not be read.
    """
    run(
        "/usr/bin/python3", "-m", "compileall", "-q", "-s", str(place), "-p", "/", str(place / VENV.lstrip("/") / "src")
    )


def copy_unit_and_config(place: Path) -> list[str]:
    """Copy what else of the tree a host runs; give what the tree does not have."""
    wanted = {
        **{
            f"systemd/{name}": f"etc/systemd/system/{name}"
            for name in (
                "failoverd.service",
                "failoverd-guard.service",
                "failoverd-helper.service",
                "failoverd-drop.service",
                "failoverd-gate.service",
                "failoverd-donor.service",
                "failoverd-rebuild.service",
                "failoverd-drill.service",
                "failoverd-drill-agent.service",
                "failoverd-drill-recover.service",
                "mariadb.service.d/failoverd.conf",
            )
        },
        "config/failoverd.yaml": "etc/failoverd/failoverd.yaml",
    }
    missing = []
    for source, target in wanted.items():
        if (layout.TREE / source).exists():
            (place / target).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(layout.TREE / source, place / target)
        else:
            missing.append(source)
    return missing


def machine_settings() -> list[str]:
    """Let what fetches something in a root use the machine's settings: certificates, index, local places these name."""
    home = Path.home()
    files = [Path("/etc/pip.conf"), home / ".config/pip/pip.conf", home / ".pip/pip.conf"]
    settings = {
        name: value
        for name, value in os.environ.items()
        if name.startswith("PIP_") or name in {"SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"}
    }
    words = [
        word
        for text in (*settings.values(), *(file.read_text() for file in files if file.exists()))
        for word in text.split()
    ]
    local = {Path(word.removeprefix("file://")) for word in words if word.removeprefix("file://").startswith("/")}
    shared = {path if path.is_dir() else path.parent for path in local if path.exists()}
    # An index keeps its files beside its listing ("../files"), so its parent is shared too.
    shared |= {path.parent for path in shared if path.name == "simple"}
    shared |= {Path("/etc/ssl/certs"), Path("/usr/share/ca-certificates"), Path("/usr/local/share/ca-certificates")}
    binds = {path: path for path in shared if path.exists()}
    # The second name is where pip of the root, whose home is /root, looks.
    binds |= {
        file: Path("/root") / file.relative_to(home) if file.is_relative_to(home) else file
        for file in files
        if file.exists()
    }
    # The root itself knows no name server (debian.py).
    binds |= {path: path for path in map(Path, ("/etc/resolv.conf", "/etc/nsswitch.conf", "/etc/hosts"))}
    return [
        "--resolv-conf=off",
        *(f"--bind-ro={path}:{inside}" for path, inside in sorted(binds.items())),
        *(f"--setenv={name}={value}" for name, value in sorted(settings.items())),
    ]
