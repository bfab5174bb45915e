"""A thousand random edits of audits of several files, all found; a thousand honest histories, none called broken."""

from __future__ import annotations

import os
import random
import shutil
from typing import TYPE_CHECKING

import pytest
from audit_edits import EDITS, any_file
from audit_files import Stage, found_in, in_memory

from failoverd.audit import layout, packing, reading

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from failoverd.audit.chain import Head

ORIGINALS = 20
COUNTS = pytest.mark.parametrize("count", [60, pytest.param(1000, marks=pytest.mark.simulation)])


@pytest.fixture(scope="module")
def memory() -> Iterator[Path]:
    with in_memory() as place:
        yield place


# ---- histories ------------------------------------------------------------------------------------------------------


def append(stage: Stage, chance: random.Random) -> None:
    """Some records."""
    texts = [chance.choice(["…", "a text " * 20, '"\\\n\t\x00 \u2028', ""]) for _ in range(chance.randint(1, 4))]
    stage.append(*texts)


def day(stage: Stage, chance: random.Random) -> None:
    """Time passes, or the wall clock is set."""
    stage.days += chance.choice([1, 1, 1, 3, -1])


def look(stage: Stage, _chance: random.Random) -> None:
    """The keeper does what there is to do."""
    stage.look()


def again(stage: Stage, _chance: random.Random) -> None:
    """The daemon is started again."""
    stage.again()


def power_cut(stage: Stage, chance: random.Random) -> None:
    """What was not answered is torn: a part of a record, nulls, old blocks of the disk, whole lines of nothing."""
    stage.audit.close()
    newest = next(iter(list(reading.tail_lines(stage.directory, 4096))[-1:]), b"{}\n")
    torn = chance.choice(
        [newest[: chance.randrange(len(newest))], bytes(chance.randint(1, 5000)), chance.randbytes(50)]
    )
    with (stage.directory / layout.NAME).open("ab") as file:
        file.write(torn)
    stage.begin()


def cut_while_closing(stage: Stage, chance: random.Random) -> None:
    """Killed between the steps of closing a file."""
    active = stage.directory / layout.NAME
    lines = active.read_bytes()
    stage.audit.close()
    if lines and chance.random() < 0.8:
        first = reading.parse(lines.splitlines(keepends=True)[0])[0] or {}
        name = stage.directory / layout.name_of(int(str(first["seq"])))
        name.hardlink_to(active)
        (stage.directory / layout.NEW).touch()
        if chance.random() < 0.5:
            (stage.directory / layout.NEW).rename(active)
    else:
        (stage.directory / layout.NEW).touch()


def cut_while_packing(stage: Stage, chance: random.Random) -> None:
    """Killed between the steps of packing a file."""
    plain = [each.path for each in layout.closed(stage.directory) if not each.packed][:-1]
    if plain:
        kept = plain[0].read_bytes()
        packed = packing.pack(plain[0], packing.contents_of(plain[0]).sha256)
        if chance.random() < 0.7:
            plain[0].write_bytes(kept)
            if chance.random() < 0.5:
                packed.rename(packed.with_name(packed.name + layout.PART))
    stage.audit.close()


def repair_cut_short(stage: Stage, chance: random.Random) -> None:
    """A power cut, and another one while the end is repaired."""
    stage.audit.close()
    seq = stage.audit.sequence + 1
    with (stage.directory / layout.NAME).open("ab") as file:
        file.write(b'{"v":2,"seq":')
    step = chance.randrange(3)
    piece = stage.directory / f"{layout.TORN}{seq}-{chance.randrange(10**9)}"
    piece.write_bytes(b'{"v":2,"seq":'[: 5 if step == 0 else None])
    if step == 2:
        os.truncate(stage.directory / layout.NAME, (stage.directory / layout.NAME).stat().st_size - 13)


STEPS = (
    append,
    append,
    append,
    day,
    day,
    look,
    again,
    power_cut,
    cut_while_closing,
    cut_while_packing,
    repair_cut_short,
)
CUT = {cut_while_closing, cut_while_packing, repair_cut_short}


def history(directory: Path, chance: random.Random, steps: int) -> Stage:
    """An audit as its node may have come by it; what comes after a kill is a start."""
    stage = Stage(directory, rotate_size=chance.choice([600, 1500, 5000]), retention_days=chance.choice([3, 1000]))
    for _ in range(steps):
        step = chance.choice(STEPS)
        step(stage, chance)
        if step in CUT:
            assert [each for each in found_in(directory) if each.broken and step is not repair_cut_short] == []
            stage.begin()
    return stage


@COUNTS
def test_no_honest_history_is_called_broken(memory: Path, count: int) -> None:
    for seed in range(count):
        chance = random.Random(seed)  # noqa: S311 - an edit, no secret
        stage = history(memory / "honest", chance, chance.randint(3, 15))
        heads = [each.head for each in stage.told]
        assert stage.broken(*heads) == [], seed
        stage.audit.close()
        shutil.rmtree(memory / "honest")


# ---- edits ----------------------------------------------------------------------------------------------------------


def originals(memory: Path) -> list[tuple[Path, Head]]:
    """Audits of several files, packed and not, each with its head as others know it."""
    found = []
    for seed in range(ORIGINALS):
        chance, directory = random.Random(f"original {seed}"), memory / "originals" / str(seed)  # noqa: S311 - an edit, no secret
        if seed % 4 == 0:
            directory.mkdir(parents=True)
            old = (
                f'{{"v":1,"seq":{n},"time":"2026-03-01T11:00:00Z","boot_ms":{n},"node":"mail1"}}\n' for n in (1, 2, 3)
            )
            (directory / layout.NAME).write_text("".join(old))
        stage = Stage(directory)
        while len(stage.names()) < 6:
            append(stage, chance)
            if chance.random() < 0.4:
                stage.day()
            if chance.random() < 0.1:
                power_cut(stage, chance)
        stage.look()
        append(stage, chance)
        append(stage, chance)
        stage.audit.close()
        assert stage.broken(stage.audit.head) == []
        found.append((directory, stage.audit.head))
    return found


def raw(directory: Path) -> dict[str, bytes]:
    """The files as they are."""
    return {path.name: path.read_bytes() for path in layout.paths(directory)}


@COUNTS
def test_every_edit_is_found(memory: Path, count: int) -> None:
    """With the head that others know. Without it, all but what is done to the newest records alone."""
    shutil.rmtree(memory / "originals", ignore_errors=True)
    audits = originals(memory)
    chance = random.Random(20260301)  # noqa: S311 - an edit, no secret
    edited, unseen, done = memory / "edited", [], 0
    while done < count:
        original, head = chance.choice(audits)
        shutil.copytree(original, edited)
        path, edit = any_file(chance, edited), chance.choice(EDITS)
        what = edit(chance, path)
        if what is not None and raw(edited) != raw(original):
            done += 1
            said = f"original {original.name}: {path.name}: {what}"
            assert [each for each in found_in(edited, head) if each.broken], said
            if not [each for each in found_in(edited) if each.broken]:
                unseen.append(said)
                assert path.name == layout.NAME, said
        shutil.rmtree(edited)
    assert len(unseen) <= count // 20, unseen


def test_a_known_record_finds_an_audit_that_was_made_anew(memory: Path) -> None:
    stage = Stage(memory / "anew")
    for _ in range(3):
        stage.day()
    known = stage.told[4].head
    stage.audit.close()
    shutil.rmtree(memory / "anew")
    stage = Stage(memory / "anew")
    for _ in range(3):
        stage.day("something", "else")
    assert stage.broken() == []
    (found,) = stage.broken(known)
    assert found.seq == known.seq
