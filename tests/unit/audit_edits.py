"""What somebody may do to an audit's files, at random: each edit says what it did, or None where it did nothing."""

from __future__ import annotations

import gzip
import json
import os
from typing import TYPE_CHECKING

from failoverd.audit import layout
from failoverd.audit.chain import digest

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from pathlib import Path

Lines = list[bytes]


def content_of(path: Path) -> bytes:
    """The lines of a file, unpacked."""
    data = path.read_bytes()
    return gzip.decompress(data) if path.suffix == ".gz" else data


def put(path: Path, content: bytes) -> None:
    """Put them in its place, packed as failoverd packs."""
    path.chmod(0o600)
    path.write_bytes(gzip.compress(content, 6, mtime=0) if path.suffix == ".gz" else content)


def any_file(chance: random.Random, directory: Path) -> Path:
    """One that holds records."""
    return chance.choice([path for path in layout.paths(directory) if path.stat().st_size])


# ---- bytes, also of packed files as they are ------------------------------------------------------------------------


def flip(chance: random.Random, path: Path) -> str:
    """One to three bytes are others."""
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    places = {chance.randrange(len(data)) for _ in range(chance.randint(1, 3))}
    for place in places:
        data[place] ^= chance.randint(1, 255)
    path.write_bytes(data)
    return f"flip {sorted(places)}"


def delete(chance: random.Random, path: Path) -> str:
    """Some bytes are left out."""
    path.chmod(0o600)
    data = path.read_bytes()
    place, count = chance.randrange(len(data)), chance.randint(1, 40)
    path.write_bytes(data[:place] + data[place + count :])
    return f"delete {count} at {place}"


def insert(chance: random.Random, path: Path) -> str:
    """Some bytes come in between."""
    path.chmod(0o600)
    data = path.read_bytes()
    place = chance.randint(0, len(data))
    new = chance.choice([b"\n", b" ", b"x", b"{}\n", b"\0" * 8, chance.randbytes(5)])
    path.write_bytes(data[:place] + new + data[place:])
    return f"insert {new!r} at {place}"


def truncate(chance: random.Random, path: Path) -> str:
    """It ends earlier, also in the middle of a line."""
    path.chmod(0o600)
    size = chance.randrange(path.stat().st_size)
    os.truncate(path, size)
    return f"truncate to {size}"


# ---- lines, in packed files as well ---------------------------------------------------------------------------------


def on_lines(edit: Callable[[random.Random, Lines], str | None]) -> Callable[[random.Random, Path], str | None]:
    """An edit of a file's lines."""

    def change(chance: random.Random, path: Path) -> str | None:
        lines = content_of(path).splitlines(keepends=True)
        what = edit(chance, lines)
        if what is not None:
            put(path, b"".join(lines))
        return what

    return change


def drop_line(chance: random.Random, lines: Lines) -> str:
    """One is missing."""
    place = chance.randrange(len(lines))
    del lines[place]
    return f"drop line {place + 1}"


def drop_and_renumber(chance: random.Random, lines: Lines) -> str | None:
    """One is missing, and those after it have its number and so on."""
    if len(lines) < 2:
        return None
    place = chance.randrange(len(lines) - 1)
    del lines[place]
    for index in range(place, len(lines)):
        record = json.loads(lines[index])
        record["seq"] -= 1
        lines[index] = encoded(record)
    return f"drop line {place + 1} and renumber"


def swap(chance: random.Random, lines: Lines) -> str | None:
    """Two have changed places."""
    if len(lines) < 2:
        return None
    one, other = sorted(chance.sample(range(len(lines)), 2))
    lines[one], lines[other] = lines[other], lines[one]
    return f"swap lines {one + 1} and {other + 1}"


def swap_and_renumber(chance: random.Random, lines: Lines) -> str | None:
    """Two have changed places, and have each other's numbers."""
    if (what := swap(chance, lines)) is None:
        return None
    numbers = sorted(json.loads(line)["seq"] for line in lines)
    lines[:] = [encoded(json.loads(line) | {"seq": number}) for line, number in zip(lines, numbers, strict=True)]
    return f"{what} and renumber"


def duplicate(chance: random.Random, lines: Lines) -> str:
    """One is there once more, anywhere."""
    line, place = chance.choice(lines), chance.randint(0, len(lines))
    lines.insert(place, line)
    return f"duplicate before line {place + 1}"


def reword(chance: random.Random, lines: Lines) -> str:
    """A record tells another story."""
    place = chance.randrange(len(lines))
    record = json.loads(lines[place])
    name = chance.choice(["text", "term", "time", "node", "actor", "result", "rule", "boot_ms", "prev", "v"])
    record[name] = chance.choice(["nobody", 1, None, "2026-03-01T12:00:00.000Z", "0" * 64])
    lines[place] = encoded(record)
    return f"reword {name} of line {place + 1}"


def space(chance: random.Random, lines: Lines) -> str:
    """The same record in other bytes."""
    place = chance.randrange(len(lines))
    lines[place] = json.dumps(json.loads(lines[place])).encode() + b"\n"
    return f"other bytes in line {place + 1}"


def forge(chance: random.Random, lines: Lines) -> str | None:
    """A record tells another story, and the hashes after it in that file are put right."""
    if len(lines) < 2:
        return None
    place = chance.randrange(len(lines) - 1)
    lines[place] = encoded(json.loads(lines[place]) | {"text": "nothing happened"})
    for index in range(place + 1, len(lines)):
        lines[index] = encoded(json.loads(lines[index]) | {"prev": digest(lines[index - 1])})
    return f"forge from line {place + 1} on"


def encoded(record: dict[str, object]) -> bytes:
    """A record as a line, as failoverd writes it."""
    return json.dumps(record, separators=(",", ":")).encode() + b"\n"


# ---- files --------------------------------------------------------------------------------------------------------


def remove(_chance: random.Random, path: Path) -> str:
    """It is gone."""
    path.unlink()
    return "remove"


def rename(chance: random.Random, path: Path) -> str | None:
    """It has another number, or a name that is none."""
    matched = layout.CLOSED.fullmatch(path.name)
    if matched is None:
        return None
    number = f"{int(matched[1]) + chance.choice([-2, -1, 1, 2, 1000]):012d}"
    name = chance.choice([path.name.replace(matched[1], number), f"{path.name}.bak", f"x{path.name}"])
    if path.with_name(name).exists():
        return None
    path.rename(path.with_name(name))
    return f"rename to {name}"


def copy_file(chance: random.Random, path: Path) -> str | None:
    """It is there twice, under another number."""
    matched = layout.CLOSED.fullmatch(path.name)
    if matched is None:
        return None
    other = path.with_name(path.name.replace(matched[1], f"{int(matched[1]) + chance.choice([1, 5000]):012d}"))
    if other.exists():
        return None
    other.write_bytes(path.read_bytes())
    return f"copy to {other.name}"


def exchange(chance: random.Random, path: Path) -> str | None:
    """Two files have each other's names."""
    others = [other for other in layout.paths(path.parent) if other != path and other.suffix == path.suffix]
    if not others:
        return None
    other = chance.choice(others)
    one, two = path.read_bytes(), other.read_bytes()
    for each, data in ((path, two), (other, one)):
        each.chmod(0o600)
        each.write_bytes(data)
    return f"exchange with {other.name}"


EDITS: tuple[Callable[[random.Random, Path], str | None], ...] = (
    flip,
    flip,
    delete,
    insert,
    truncate,
    on_lines(drop_line),
    on_lines(drop_and_renumber),
    on_lines(swap),
    on_lines(swap_and_renumber),
    on_lines(duplicate),
    on_lines(reword),
    on_lines(space),
    on_lines(forge),
    remove,
    rename,
    copy_file,
    exchange,
)
