"""The few values of the configuration file that are of use without a daemon.

Read with a plain YAML loader and without the model: that takes a third of a second, and a file that is wrong may be
the very reason why no daemon runs. What is not there as expected is at its default, or not known.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

LARGEST_FILE = 1 << 20


@dataclass(slots=True)
class Known:
    """What the file says. `why`: it says nothing, and why."""

    nodes: dict[str, str] = field(default_factory=dict)  # addresses by name
    arbiters: set[str] = field(default_factory=set)
    vip: str = ""  # without the prefix length
    port: int = 7480
    tls: bool = False
    socket: str = "/run/mysqld/mysqld.sock"
    unit: str = ""
    audit: str = ""  # the directory, where it is not the default one
    why: str = ""


def known(path: Path) -> Known:
    """Read `path`. Never raises: a file that cannot be read is told by `why`."""
    import yaml  # noqa: PLC0415 - not needed where a daemon answers

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml where it is there: ten times as fast
    try:
        with path.open("rb") as file:
            data = yaml.load(file.read(LARGEST_FILE), loader)  # noqa: S506 - both are safe ones
    except OSError as error:
        reason = "needs root" if isinstance(error, PermissionError) else (error.strerror or str(error)).lower()
        return Known(why=f"{path}: {reason}")
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        return Known(why=f"{path}: no YAML" + (f", line {mark.line + 1}" if mark else ""))
    found = Known()
    for name, node in _mapping(data, "nodes").items():
        address = _mapping(node).get("address")
        if _is_address(address):
            found.nodes[str(name)] = str(address)
        if _mapping(node).get("kind") == "arbiter":
            found.arbiters.add(str(name))
    vip = str(_mapping(data, "vip").get("address", "")).partition("/")[0]
    found.vip = vip if _is_address(vip) else ""
    http, database = _mapping(data, "http"), _mapping(data, "database")
    port = http.get("port")
    found.port = port if isinstance(port, int) else found.port
    found.tls = http.get("certificate") is not None
    found.socket = str(database.get("socket", found.socket))
    directory = _mapping(data, "audit").get("directory")
    found.audit = directory if isinstance(directory, str) else ""
    found.unit = str(database.get("unit", ""))
    if not found.nodes:
        found.why = f"{path}: no nodes with addresses are in it"
    return found


def _mapping(value: object, key: str = "") -> dict[object, object]:
    if key:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def _is_address(value: object) -> bool:
    """A literal one: no name is looked up here either."""
    try:
        ipaddress.IPv4Address(str(value))
    except ValueError:
        return False
    return True
