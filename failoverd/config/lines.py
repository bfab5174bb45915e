"""YAML that remembers its lines, and the part of YAML that a configuration needs.

PyYAML's composer gives nodes with marks; they are read here by hand instead of by its constructor, for three reasons:
the line of each key is kept, a key given twice is an error instead of the last one winning, and nothing is guessed
(`NO` is text, `010` is not eight, a date is text). Anchors, aliases and tags are refused: nobody needs them here, and
a few lines of them can make a gigabyte.
"""

import contextlib
import os
import re
import stat
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from failoverd.config.error import ConfigError

Loc = tuple[str | int, ...]

LARGEST_FILE = 1 << 20  # bytes; a real one has a few thousand
DEEPEST = 16  # levels; a real one has three
INTEGER = re.compile(r"(0|-?[1-9][0-9]{0,17})")
DECIMAL = re.compile(r"-?[0-9]{1,17}\.[0-9]{1,17}")
PREFIX = "tag:yaml.org,2002:"
SCALARS = {f"{PREFIX}{name}" for name in ("str", "int", "float", "bool", "null", "timestamp", "merge", "value")}
_NOTED: ContextVar[list[Path] | None] = ContextVar("noted", default=None)


@contextlib.contextmanager
def noting_files() -> Iterator[list[Path]]:
    """Every file that is read for a configuration meanwhile, itself and what it names."""
    found: list[Path] = []
    token = _NOTED.set(found)
    try:
        yield found
    finally:
        _NOTED.reset(token)


@dataclass(slots=True)
class Document:
    """A file's values, and for each key path the line it stands in and its text as written."""

    data: dict[str, object]
    lines: dict[Loc, int] = field(default_factory=dict)
    texts: dict[Loc, str] = field(default_factory=dict)

    def line(self, loc: Loc) -> int:
        """Return the line of a key, or of the nearest one around it that stands in the file."""
        while loc and loc not in self.lines:
            loc = loc[:-1]
        return self.lines.get(loc, 1)


def dotted(loc: Loc) -> str:
    """Write a key path as a reader of the file would: nodes.mail1.address, gate.ports[2]."""
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return "".join(letter if letter.isprintable() else "?" for letter in text)  # a message stays one line


def read_regular(path: Path, limit: int) -> tuple[bytes, int]:
    """Return a regular file's bytes (`limit` + 1 at most) and its mode; never waits on a pipe. Raises OSError."""
    if (noted := _NOTED.get()) is not None:
        noted.append(path)
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor, opened so that a FIFO cannot block
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(21, "Is a directory")
        if not stat.S_ISREG(mode):
            raise OSError(22, "Not a regular file")
        return file.read(limit + 1), mode


def read_document(path: Path) -> Document:
    """Read `path`. Raises ConfigError."""
    text = _text(path)
    try:
        root = _Composer(text, path).get_single_node()
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(path, text, error) from None
    except yaml.reader.ReaderError as error:
        raise ConfigError(
            path,
            f"the file holds the character U+{_code_point(error):04X}",
            allowed="YAML text",
            line=text.count("\n", 0, error.position) + 1,
        ) from None
    if root is None:
        raise ConfigError(path, "the file is empty", allowed="a YAML mapping", line=1)
    if not isinstance(root, yaml.MappingNode):
        raise ConfigError(path, "the file is not a mapping", allowed="a YAML mapping, `key: value`", line=1)
    document = Document({})
    document.data = _mapping(root, (), path, document)
    return document


def _text(path: Path) -> str:
    try:
        content, _ = read_regular(path, LARGEST_FILE)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError(path, f"cannot be read: {reason}", allowed="a readable YAML file") from None
    if len(content) > LARGEST_FILE:
        raise ConfigError(path, "the file is too large", allowed=f"at most {LARGEST_FILE} bytes of YAML")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(path, "the file is not UTF-8 text", allowed="YAML text", line=line) from None


def _syntax_error(path: Path, text: str, error: yaml.MarkedYAMLError) -> ConfigError:
    """Say what PyYAML found, in one line, where it found it."""
    mark = error.problem_mark or error.context_mark
    line = mark.line + 1 if mark else 1
    problem = error.problem or "it cannot be read"
    if mark and text[mark.index : mark.index + 1] == "\t":
        return ConfigError(path, "a tab stands where YAML wants spaces", allowed="spaces", line=line)
    context = f"{error.context}: " if error.context else ""
    return ConfigError(path, f"not YAML: {context}{problem}", allowed="YAML", line=line)


def _code_point(error: yaml.reader.ReaderError) -> int:
    """Return the character found, which PyYAML gives as a number for text (and types-pyyaml as bytes)."""
    found: object = error.character
    return found if isinstance(found, int) else 0


class _Composer(yaml.SafeLoader):
    """PyYAML's composer without anchors, aliases and bottomless nesting."""

    def __init__(self, text: str, path: Path) -> None:
        super().__init__(text)
        self._path = path
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]  # types-pyyaml leaves the parser untyped
        line = event.start_mark.line + 1
        if getattr(event, "anchor", None) is not None:
            raise ConfigError(self._path, "anchors and aliases are not read", allowed="the value itself", line=line)
        if self._depth > DEEPEST:
            raise ConfigError(self._path, "nested too deeply", allowed=f"{DEEPEST} levels", line=line)
        self._depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1


def _mapping(node: yaml.MappingNode, loc: Loc, path: Path, document: Document) -> dict[str, object]:
    mapping: dict[str, object] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            raise ConfigError(path, "a key is not text", allowed="text", line=line, key=dotted(loc))
        key = str(key_node.value)
        here = (*loc, key)
        if key in mapping:
            raise ConfigError(
                path,
                f"the key is given twice, first in line {document.lines[here]}",
                allowed="each key once",
                line=line,
                key=dotted(here),
            )
        document.lines[here] = line
        mapping[key] = _value(value_node, here, path, document)
    return mapping


def _value(node: yaml.Node, loc: Loc, path: Path, document: Document) -> object:
    if isinstance(node, yaml.MappingNode) and node.tag == f"{PREFIX}map":
        return _mapping(node, loc, path, document)
    if isinstance(node, yaml.SequenceNode) and node.tag == f"{PREFIX}seq":
        items: list[object] = []
        for index, item in enumerate(node.value):
            here = (*loc, index)
            document.lines[here] = item.start_mark.line + 1
            items.append(_value(item, here, path, document))
        return items
    if isinstance(node, yaml.ScalarNode) and node.tag in SCALARS:
        document.texts[loc] = node.value
        return _scalar(node)
    raise ConfigError(
        path, f"tag {node.tag} is not read", allowed="plain values", line=node.start_mark.line + 1, key=dotted(loc)
    )


def _scalar(node: yaml.ScalarNode) -> object:
    """Return text, unless it is plainly a number, true, false or nothing."""
    text = str(node.value)
    tag = node.tag.removeprefix(PREFIX)
    if tag == "int" and INTEGER.fullmatch(text):
        return int(text)
    if tag == "float" and DECIMAL.fullmatch(text):
        return float(text)
    if tag == "bool" and text in {"true", "false"}:
        return text == "true"
    return None if tag == "null" else text
