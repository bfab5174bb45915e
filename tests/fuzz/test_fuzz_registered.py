"""No parser is forgotten: every function that calls one is entered by the seeds of some target, or is named here.

What is looked for are the calls by which bytes and texts become values (READERS). A function that reads by hand, with
`split` and a regular expression, is not found so: it is in the registry because somebody has put it there.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from places import TREE
from target import tried
from targets import TARGETS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType, FrameType

READERS = {
    ("json", "loads"), ("json", "load"), ("yaml", "load"), ("", "validate_json"), ("", "model_validate_json"),
  ("", "unpack"), ("", "unpack_from"), ("", "fromisoformat"), ("", "strptime"),
    ("base64", "b64decode"), ("", "decompress"), ("", "feed_data"), ("", "parsebytes"), ("", "parsedate_to_datetime"),
    ("model", "load"), ("wire", "decode_report"), ("wire", "decode_record"), ("views", "decode"),
    ("", "literal_eval"), ("", "fromhex"),
}  # fmt: skip

# No seed of any target comes to these, and why none has to: nothing of what they read comes from elsewhere. Whoever
# changes one of them looks whether that still holds; a new function has a target from the start.
NOT_OUTSIDE = {
    "the kernel answers, about itself": {
        "databases/connection.py:Connection._peer",
        "databases/sockets.py:_raise",
        "databases/sockets.py:end_connections",
        "rebuild_files.py:is_running",
        "runtime/callers.py:local_caller",
    },
    "this process has made the text itself, a moment before": {
        "drill/collecting.py:Collector._span",
        "drill/generator.py:Generator.start",
        "drill/report/measured.py:epoch_ms",
        "runtime/openapi.py:built",
    },
    "one program of this node has written it for another, by a pipe or below /run, and only root may": {
        "drill/job.py:_lines",
        "drill/job.py:main",
        "rebuild/main.py:_request",
        "runtime/guard.py:_settings",
        "runtime/helped.py:_answer",
    },
    "it lies in this node's own state directory, as a drill or a rebuild has put it there": {
        "drill/backup.py:_manifest",
        "drill/collecting.py:Collector.write_again",
        "drill/comparing.py:ledger",
        "drill/faults.py:Host.fault",
        "drill/recover.py:_seconds",
        "rebuild/main.py:Rebuild._save_ahead",
        "rebuild/main.py:_gtids",
    },
    "its moments are the daemon's own, whatever other nodes have told it (peer-past)": {
        "drill/collecting.py:Collector._newest_change",
    },
}
NOT_READ = frozenset().union(*NOT_OUTSIDE.values())


def test_every_reader_is_fuzzed_or_named() -> None:
    found = {f"{file}:{name}": (file, line) for file, name, line in readers()}
    entered = entered_by_seeds()
    forgotten = {key for key, place in found.items() if place not in entered}
    assert not forgotten - NOT_READ, "\n".join(sorted(forgotten - NOT_READ))
    assert forgotten >= NOT_READ, f"fuzzed by now, or gone: {NOT_READ - forgotten}"


def readers() -> Iterator[tuple[str, str, int]]:
    """File, function and its first line, of all that call a reader. Methods with their class."""
    for path in sorted((TREE / "failoverd").rglob("*.py")):
        file = str(path.relative_to(TREE / "failoverd"))
        # The core is pure: it reads values, no text. failoverctl's commands read what the daemon of this host answers,
        # by `document.from_json`, which has targets of its own.
        if not file.startswith(("core/", "ctl/")):
            yield from _readers_of(ast.parse(path.read_text()), file)


def _readers_of(tree: ast.AST, file: str) -> Iterator[tuple[str, str, int]]:
    def within(node: ast.AST, names: tuple[str, ...], line: int) -> Iterator[tuple[str, str, int]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                first = min([child.lineno, *(one.lineno for one in child.decorator_list)])
                yield from within(child, (*names, child.name), first)
            elif isinstance(child, ast.ClassDef):
                yield from within(child, (*names, child.name), line)
            else:
                if isinstance(child, ast.Call) and _reads(child.func) and line:
                    yield file, ".".join(names), line
                yield from within(child, names, line)

    yield from within(tree, (), 0)


def _reads(function: ast.expr) -> bool:
    match function:
        case ast.Attribute(value=ast.Name(id=module), attr=name):
            return (module, name) in READERS or ("", name) in READERS
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return ("", name) in READERS
    return False


def entered_by_seeds() -> set[tuple[str, int]]:
    """Of every function of the project that some seed comes to: its file and first line."""
    entered: set[CodeType] = set()

    def trace(frame: FrameType, event: str, _: Any) -> None:
        if event == "call":
            entered.add(frame.f_code)

    before = sys.getprofile()
    sys.setprofile(trace)
    try:
        for target in TARGETS.values():
            for data in target.made():
                tried(target, data)
    finally:
        sys.setprofile(before)
    root = TREE / "failoverd"
    files = {code: Path(code.co_filename) for code in entered}
    return {(str(path.relative_to(root)), code.co_firstlineno) for code, path in files.items() if root in path.parents}
