"""Which daemon failoverctl talks to: the one of this host, by its socket, or one elsewhere, by a certificate.

    --socket, FAILOVERD_SOCKET                             a socket of this host
    --host, FAILOVERD_HOST, the file's `host`              the daemon there, with --certificate, --key and --ca
    none of these                                          /run/failoverd/control.sock

The file is ~/.config/failoverd/failoverctl.toml with the same four names, for those who sit elsewhere every day:

    host = "192.0.2.11"
    certificate = "/home/anna/anna.crt"
    key = "/home/anna/anna.key"
    ca = "/home/anna/cluster-ca.crt"
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Mapping

SOCKET = Path("/run/failoverd/control.sock")
PORT = 7403
NEEDED = ("certificate", "key", "ca")


@dataclass(frozen=True, slots=True)
class Remote:
    """A daemon elsewhere, and what proves to it who asks, and to whoever asks that it is one."""

    host: str
    port: int
    certificate: Path
    key: Path
    ca: Path

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


Place = Path | Remote  # a socket, or elsewhere


def file() -> Path:
    """Where the options file is, if there is one."""
    home = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(home).expanduser() / "failoverd" / "failoverctl.toml"


def chosen(socket: Path | None, host: str | None, given: Mapping[str, Path | None]) -> Place:
    """The place that options and environment (both are in the arguments), and the file, name. Raises UsageError."""
    if socket is not None:
        if host is not None:
            raise click.UsageError(f"both a socket ({socket}) and a host ({host}) are given: which daemon is meant?")
        return socket
    known = _read(file())
    host = host or known.get("host")
    if not host:
        if any(given.values()):
            raise click.UsageError("--certificate, --key and --ca are for --host")
        return SOCKET
    files = {name: given.get(name) or known.get(name) for name in NEEDED}
    missing = [f"--{name}" for name, path in files.items() if not path]
    if missing:
        raise click.UsageError(f"--host {host} also needs {', '.join(missing)} (or {file()} with them)")
    name, port = _split(host)
    return Remote(name, port, *(Path(str(files[name])).expanduser() for name in NEEDED))


def _split(host: str) -> tuple[str, int]:
    """`mail1`, `192.0.2.11:7403`, `[2001:db8::11]:7403`, `2001:db8::11`."""
    if host.startswith("["):
        name, _, rest = host[1:].partition("]")
        port = rest.removeprefix(":")
    elif host.count(":") == 1:
        name, _, port = host.partition(":")
    else:
        name, port = host, ""
    if not name or not (port.isascii() and (port.isdecimal() or not port)) or not 0 < int(port or PORT) < 65536:
        raise click.UsageError(f"--host {host!r} is no ADDRESS or ADDRESS:PORT")
    return name, int(port or PORT)


def _read(path: Path) -> dict[str, str]:
    """The options file. Raises UsageError where it is there and is none."""
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError, PermissionError):  # another's home
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise click.UsageError(f"{path}: {error}") from None
    import tomllib  # noqa: PLC0415 - most have no such file

    try:
        known = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise click.UsageError(f"{path}: {error}") from None
    for name, value in known.items():
        if name not in ("host", *NEEDED) or not isinstance(value, str):
            raise click.UsageError(f"{path}: {name}: allowed are the texts host, {', '.join(NEEDED)}")
    return known
