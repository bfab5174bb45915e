"""The manual pages have all that the programs have, and both readers of such pages find nothing wrong with them."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import click
import pytest
import yaml
from click.testing import CliRunner

from failoverd.commands import COMMANDS as DAEMON_COMMANDS
from failoverd.commands import parser
from failoverd.ctl import man, man_pages
from failoverd.ctl.app import app
from failoverd.ctl.exits import Exit
from failoverd.ctl.roff import Page, escaped

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def page(name: str) -> str:
    printed = CliRunner().invoke(app, ["man", name], prog_name="failoverctl")
    assert printed.exit_code == Exit.DONE
    return printed.stdout


def section(text: str, title: str) -> str:
    return text.partition(f".SH {title}\n")[2].partition("\n.SH ")[0]


def commands(group: click.Group, path: str) -> Iterator[tuple[str, click.Command]]:
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        assert command is not None
        yield f"{path} {name}", command
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")


def test_every_command_option_and_exit_code_of_failoverctl_is_there() -> None:
    text = page("failoverctl")
    parts = {title: body for title, _, body in (part.partition('"\n') for part in text.split('.SS "')[1:])}
    for path, command in commands(app, "failoverctl"):
        named = rf"{re.escape(escaped(path))}( [^a-z].*)?"  # with its arguments
        (body,) = [body for title, body in parts.items() if re.fullmatch(named, title)]
        for option in command.params:
            if isinstance(option, click.Option) and not option.hidden:
                assert escaped(max(option.opts, key=len)) in body, f"{path} {option.opts}"
                assert all(f"\\fB{escaped(name)}" in text or f", {escaped(name)}" in text for name in option.opts)
    common = section(text, "COMMON OPTIONS")
    assert all(f"\\-\\-{name}" in common for name in ("socket", "output", "watch"))
    codes = re.findall(r"^\\fB(\d)\\fR$", section(text, "EXIT STATUS"), re.MULTILINE)
    assert codes == [str(code.value) for code in Exit]
    assert "FAILOVERD_SOCKET" in section(text, "ENVIRONMENT")
    assert "/run/failoverd/control.sock" in section(text, "FILES")


def test_every_command_option_and_exit_code_of_failoverd_is_there() -> None:
    text = page("failoverd")
    found = re.findall(r'^\.SS "failoverd (\S+)"$', text, re.MULTILINE)
    assert found == [escaped(name) for name in DAEMON_COMMANDS]
    helps = "".join(command.format_help() for command in man_pages._subcommands(parser()).values())
    for option in {*re.findall(r"--[a-z-]+", helps), "--version"}:
        assert f"\\fB{escaped(option)}" in text or f", {escaped(option)}" in text, option
    from failoverd import __main__ as program  # noqa: PLC0415 - for its docstring

    said = re.sub(r"\s+", " ", (program.__doc__ or "").partition("Exit codes: ")[2])
    codes = re.findall(r"(?:^|, )(\d+) ", said)
    assert (
        codes
        == re.findall(r"^\\fB(\d+)\\fR$", section(text, "EXIT STATUS"), re.MULTILINE)
        == ["0", "1", "2", "3", "4", "78"]
    )
    assert set(re.findall(r"SIG[A-Z]+", section(text, "SIGNALS"))) == {"SIGTERM", "SIGHUP"}


def test_the_file_s_page_has_the_example_whole_and_every_key_of_it(tmp_path: Path) -> None:
    text = page("failoverd.yaml")
    example = section(text, "EXAMPLE").partition(".nf\n")[2].partition("\n.fi")[0]
    plain = re.sub(r"\\\[u([0-9A-F]{4})\]", lambda found: chr(int(found[1], 16)), example)
    plain = plain.replace("\\&", "").replace("\\-", "-").replace("\\e", "\\")
    shown = yaml.safe_load(plain)
    assert shown["lease"] == {"ttl": "3s", "renew": "500ms", "margin": "300ms", "demote_budget": "1s"}
    keys = re.findall(r"^\\fB(.+)\\fR$", section(text, "KEYS"), re.MULTILINE)
    tops = {key.replace("\\-", "-").partition(".")[0].partition("[")[0] for key in keys}
    assert shown.keys() <= tops, tmp_path


def test_all_pages_are_written_where_a_package_wants_them(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["man", "--directory", str(tmp_path)], prog_name="failoverctl")
    assert done.exit_code == Exit.DONE
    names = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.?")}
    assert names == {"man8/failoverctl.8", "man8/failoverd.8", "man5/failoverd.yaml.5"}
    assert tuple(man_pages.PAGES) == man.PAGES
    (tmp_path / "file").write_text("")
    refused = CliRunner().invoke(app, ["man", "--directory", str(tmp_path / "file/below")], prog_name="failoverctl")
    assert refused.exit_code == Exit.FAILED
    assert "Not a directory" in refused.stderr


def test_nothing_in_a_text_is_an_order_to_the_formatter() -> None:
    assert escaped(".SH --x \\n") == "\\&.SH \\-\\-x \\en"
    assert escaped("a → b") == "a \\[u2192] b"
    text = str(Page("x", 8, "y"))
    assert text.isascii()


@pytest.mark.parametrize("name", man.PAGES)
@pytest.mark.parametrize("reader", [("groff", "-man", "-ww", "-z"), ("mandoc", "-T", "lint", "-W", "warning")])
def test_the_readers_of_manual_pages_find_nothing_wrong(reader: tuple[str, ...], name: str) -> None:
    if shutil.which(reader[0]) is None:
        pytest.skip(f"there is no {reader[0]} here; tests/run installs it")
    done = subprocess.run(reader, input=page(name), capture_output=True, text=True, check=False, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
