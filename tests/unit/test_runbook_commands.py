"""Every `failoverctl` line of the runbooks and of the README is one that failoverctl itself understands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from failoverd.ctl.app import COMMANDS, load

REPOSITORY = Path(__file__).parents[2]
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "runbooks").rglob("*.md"))]
FENCED = re.compile(r"^ *```[a-z]*\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
QUOTED = re.compile(r"`([^`]+)`")
LINE = re.compile(r"(?:^|[\s;&|(])failoverctl +([a-z].*)")
# What stands for something that has a form of its own.
FORMS = {"TIME": "+2h", "TERM": "7", "WHEN": "24h", "N": "10", "SCENARIO": "service-death"}
GROUPS = {name for name in COMMANDS if isinstance(load(name), click.Group)}


def lines(page: Path) -> list[tuple[str, bool]]:
    """Give what follows `failoverctl` in each command of the page; and whether it is there to be typed as it stands."""
    text = page.read_text(encoding="utf-8")
    whole = [re.sub(r"\\\n\s*", "", block) for block in FENCED.findall(text)]
    blocks = [(line, True) for block in whole for line in block.splitlines()]
    spans = [(" ".join(span.split()), False) for span in QUOTED.findall(FENCED.sub("", text))]
    found = []
    for line, typed in [*blocks, *spans]:
        for part in re.split(r"; |&& ", line):
            told = LINE.search(part.partition(" #")[0])
            if told is not None:
                found.append((re.split(r" [|>] ?", told[1])[0].strip(), typed))
    return found


def parse(arguments: list[str], *, whole: bool) -> None:
    """Let click read it, and run nothing. Raises click's UsageError. `whole`: nothing that it needs may be missing."""
    command, path = load(arguments[0]), arguments[:1]
    rest = [FORMS.get(argument, argument) for argument in arguments[1:]]
    try:
        while isinstance(command, click.Group) and rest:
            context = click.Context(command, info_name=path[-1])
            _, inner, rest = command.resolve_command(context, rest)
            assert inner is not None
            command, path = inner, [*path, inner.name or ""]
        command.make_context(path[-1], rest)
    except (click.MissingParameter, click.exceptions.NoArgsIsHelpError):
        if whole:
            raise


ALL = [(page, line, typed) for page in PAGES for line, typed in lines(page)]


@pytest.mark.parametrize(
    ("page", "line", "typed"),
    [pytest.param(*one, id=f"{one[0].stem}: {one[1]}") for one in ALL],
)
def test_failoverctl_understands_it(page: Path, line: str, typed: bool) -> None:
    arguments = shlex.split(line)
    assert arguments[0] in COMMANDS, page
    parse(arguments, whole=typed)


def test_the_lines_are_found_and_a_wrong_one_would_be_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "Ask `failoverctl promote\n--node N --force`.\n\n```sh\nfailoverctl status; failoverctl check | head   # all\n"
        "sudo failoverctl rejoin N --quickly\nfailoverctl rejoin\n```\n",
        encoding="utf-8",
    )
    assert lines(page) == [
        ("status", True),
        ("check", True),
        ("rejoin N --quickly", True),
        ("rejoin", True),
        ("promote --node N --force", False),
    ]
    parse(["rejoin"], whole=False)
    with pytest.raises(click.MissingParameter):
        parse(["rejoin"], whole=True)
    for wrong in (
        ["rejoin", "N", "--quickly"],
        ["maintenance", "N", "perhaps"],
        ["status", "mail1"],
        ["audit", "shew"],
    ):
        with pytest.raises(click.UsageError):
            parse(wrong, whole=False)
    assert {page.parent.name for page, _, _ in ALL} >= {"codes", "rules", "cases", "runbooks"}
    assert {line.split()[0] for _, line, _ in ALL} >= {"status", "check", "promote", "rejoin", "confirm-fenced"}
