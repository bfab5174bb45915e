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

    base: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # with libyaml ten times as fast

    class Loader(base):  # type: ignore[misc,valid-type] # whichever there is
        """Without `<<`, a few lines of which can make a gigabyte: the daemon reads none either."""

        def flatten_mapping(self, node: yaml.MappingNode) -> None:
            """Leave it as it is."""

    try:
        with path.open("rb") as file:
            data = yaml.load(file.read(LARGEST_FILE), Loader)  # noqa: S506 - both are safe ones
    except OSError as error:
        reason = "needs root" if isinstance(error, PermissionError) else (error.strerror or str(error)).lower()
        return Known(why=f"{path}: {reason}")
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        return Known(why=f"{path}: no YAML" + (f", line {mark.line + 1}" if mark else ""))
    except (ValueError, RecursionError, OverflowError, TypeError) as error:  # a date that is none, a key that is a list
        return Known(why=f"{path}: no YAML that failoverd reads ({type(error).__name__})")
    found = Known()
    for name, node in _mapping(data, "nodes").items():
        address = _text(_mapping(node), "address")
        if not isinstance(name, str):
            continue
        if _is_address(address):
            found.nodes[name] = address
        if _mapping(node).get("kind") == "arbiter":
            found.arbiters.add(name)
    vip = _text(_mapping(data, "vip"), "address").partition("/")[0]
    found.vip = vip if _is_address(vip) else ""
    http, database = _mapping(data, "http"), _mapping(data, "database")
    port = http.get("port")
    found.port = port if isinstance(port, int) and 0 < port < 65536 else found.port
    found.tls = http.get("certificate") is not None
    found.socket = _text(database, "socket") or found.socket
    found.audit = _text(_mapping(data, "audit"), "directory")
    found.unit = _text(database, "unit")
    if not found.nodes:
        found.why = f"{path}: no nodes with addresses are in it"
    return found


def _mapping(value: object, key: str = "") -> dict[object, object]:
    if key:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def _text(section: dict[object, object], key: str) -> str:
    """A text of it, "" where there is none: an alias may stand for far more than a file holds."""
    value = section.get(key)
    return value if isinstance(value, str) and "\0" not in value else ""


def _is_address(value: str) -> bool:
    """A literal one: no name is looked up here either."""
    try:
        ipaddress.IPv4Address(value)
    except ValueError:
        return False
    return True
