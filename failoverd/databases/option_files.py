"""What a MariaDB server will be told at its next start: its option files, read as the server reads them.

Why not ask the server: once a variable is set by SQL, and failoverd sets read_only all the time, it no longer says
whether a file has it (information_schema.SYSTEM_VARIABLES: GLOBAL_VALUE_ORIGIN turns from CONFIG to SQL and
GLOBAL_VALUE_PATH becomes NULL). And init_rpl_role is no variable at all.

The running server's command line names its files where they are not the usual ones. They are read through
/proc/PID/root, so that a server in a container or a chroot is seen with its own files. The shipped unit has no right to
look through it (CAP_SYS_PTRACE): there the server is taken to have the same /etc as failoverd.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

USUAL = ("/etc/my.cnf", "/etc/mysql/my.cnf")
SERVERS = ("mariadbd", "mysqld")
DEEPEST = 10  # as the server: an include in an include, so many times
_GROUP = re.compile(r"^(?:mysqld|mariadbd|server|mariadb|galera)(?:-\d+(?:\.\d+)?)?$")


class UnreadableError(Exception):
    """Where the server's options come from cannot be known; the text says why."""


def options_of(pid: int) -> dict[str, str]:
    """The options (dashes as underscores) of the server that runs as `pid`, the last value of each. Raises."""
    try:
        program = Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip()
        if program not in SERVERS:
            raise UnreadableError(f"process {pid} behind the socket is {program}")
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")[1:]
    except OSError as error:
        raise UnreadableError(f"the command line of process {pid}: {error.strerror}") from None
    root, given = _root_of(pid), dict(_options(word[2:] for word in words if word.startswith("--")))
    found: dict[str, str] = {}
    if "no_defaults" not in given:
        files = [given["defaults_file"]] if "defaults_file" in given else [*USUAL, given.get("defaults_extra_file", "")]
        for file in filter(None, files):
            found.update(_options(_lines(root, file, must_exist="defaults_file" in given)))
    return found | given


def is_on(value: str | None) -> bool:
    """Whether a switch with that value is on; one that is named without a value is."""
    return value is not None and value.lower() in ("", "1", "on", "true")


def _root_of(pid: int) -> Path:
    root = Path(f"/proc/{pid}/root")
    return root if os.access(root, os.X_OK) else Path("/")


def _options(lines: Iterator[str]) -> Iterator[tuple[str, str]]:
    for line in lines:
        name, _, value = line.partition("=")
        key = name.strip().replace("-", "_").lower().removeprefix("loose_")
        text = value.strip().strip("'\"")
        for prefix, said in (("skip_", "0"), ("disable_", "0"), ("enable_", "1")):
            if key == f"{prefix}read_only":
                key, text = "read_only", said
        yield key, text


def _lines(root: Path, file: str, *, must_exist: bool, above: tuple[str, ...] = ()) -> Iterator[str]:
    """Every option line of the server's groups, includes in their place; `above`: the files that this one is in.

    One that includes itself is read once: ten levels of it, as the server does, would never end.
    """
    text = _text_of(root, file, must_exist=must_exist)
    ours = False
    for raw in text.splitlines():
        line = re.sub(r"\s#.*$", "", raw).strip()
        if not line or line[0] in "#;":
            continue
        if line.startswith("[") and "]" in line:
            ours = _GROUP.match(line[1 : line.index("]")].strip()) is not None
        elif line.startswith("!") and len(above) < DEEPEST:
            for included in _included(root, line):
                if included not in (file, *above):
                    yield from _lines(root, included, must_exist=False, above=(file, *above))
        elif ours:
            yield line


def _text_of(root: Path, file: str, *, must_exist: bool) -> str:
    try:
        return (root / file.lstrip("/")).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        if must_exist:
            raise UnreadableError(f"{file} is not there") from None
        return ""
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL in it
        raise UnreadableError(f"{file}: {error.strerror if isinstance(error, OSError) else error}") from None


def _included(root: Path, line: str) -> list[str]:
    kind, _, path = line.partition(" ")
    if kind == "!include":
        return [path.strip()]
    if kind != "!includedir":
        return []
    directory = root / path.strip().lstrip("/")
    try:
        names = sorted(entry.name for entry in directory.glob("*.cnf")) if directory.is_dir() else []
    except (OSError, ValueError) as error:
        raise UnreadableError(f"{path.strip()[:200]}: {error.__class__.__name__}") from None
    return [f"{path.strip().rstrip('/')}/{name}" for name in names]
