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

# No seed of any target comes to these yet: what they read is this node's own, or is looked at by adapters' tests. The
# list only gets shorter: whoever changes one of them gives it a target, and a new function has one from the start.
NOT_YET = {
    "audit/branch.py:number_of",
    "audit/layout.py:length",
    "audit/packing.py:_record",
    "databases/connection.py:Connection._peer",
    "databases/sockets.py:_raise",
    "databases/sockets.py:end_connections",
    "drill/agent.py:_object",
    "drill/backup.py:_manifest",
    "drill/collecting.py:Collector._newest_change",
    "drill/collecting.py:Collector._span",
    "drill/collecting.py:Collector.write_again",
    "drill/comparing.py:ledger",
    "drill/faults.py:Host.fault",
    "drill/generator.py:Generator._listen",
    "drill/generator.py:Generator.start",
    "drill/job.py:_epoch_ms",
    "drill/job.py:_lines",
    "drill/job.py:main",
    "drill/local.py:LocalDaemon.promote",
    "drill/main.py:_asked",
    "drill/recover.py:_seconds",
    "drill/report/measured.py:epoch_ms",
    "probes/vip.py:VipProbe._receive",
    "rebuild/main.py:Rebuild._save_ahead",
    "rebuild/main.py:_gtids",
    "rebuild/main.py:_request",
    "rebuild_files.py:is_running",
    "runtime/alerting.py:Alerting._test",
    "runtime/callers.py:local_caller",
    "runtime/document_copies.py:read",
    "runtime/drilling.py:_state_in",
    "runtime/guard.py:_settings",
    "runtime/openapi.py:built",
    "runtime/reloading.py:Reloader._asked",
    "setup/bundle.py:_manifest",
    "stores/embedded.py:EmbeddedStore._record",
}


def test_every_reader_is_fuzzed_or_named() -> None:
    found = {f"{file}:{name}": (file, line) for file, name, line in readers()}
    entered = entered_by_seeds()
    forgotten = {key for key, place in found.items() if place not in entered}
    assert not forgotten - NOT_YET, "\n".join(sorted(forgotten - NOT_YET))
    assert forgotten >= NOT_YET, f"fuzzed by now, or gone: {NOT_YET - forgotten}"


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
