"""Files that belong together: seen whole, killed anywhere, finished by the next run."""

from __future__ import annotations

import os
import signal
import stat
from typing import TYPE_CHECKING

import pytest

from failoverd.setup.files import File, missing, put

if TYPE_CHECKING:
    from pathlib import Path


def wanted(directory: Path) -> tuple[File, ...]:
    return (
        File(directory / "tls/key", b"secret", secret=True),
        File(directory / "tls/crt", b"certificate"),
        File(directory / "failoverd.yaml", b"new"),
    )


def tree(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_put_once_and_nothing_is_missing(tmp_path: Path) -> None:
    files = wanted(tmp_path / "etc")
    assert missing(files) == files
    put(files)
    assert missing(files) == ()
    assert tree(tmp_path) == {"etc/tls/key": b"secret", "etc/tls/crt": b"certificate", "etc/failoverd.yaml": b"new"}
    assert stat.S_IMODE((tmp_path / "etc/tls/key").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "etc/tls").stat().st_mode) == 0o700


def test_a_secret_that_others_may_read_is_put_again(tmp_path: Path) -> None:
    files = wanted(tmp_path)
    put(files)
    (tmp_path / "tls/key").chmod(0o644)
    assert missing(files) == files[:1]
    put(missing(files))
    assert stat.S_IMODE((tmp_path / "tls/key").stat().st_mode) == 0o600


def test_one_that_cannot_be_written_leaves_all_as_they_were(tmp_path: Path) -> None:
    (tmp_path / "failoverd.yaml").write_bytes(b"old")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match=r"Not a directory|File exists"):
        put((*wanted(tmp_path), File(tmp_path / "file/below", b"x")))
    assert tree(tmp_path) == {"failoverd.yaml": b"old", "file": b""}


def killed_at(call: int, files: tuple[File, ...]) -> None:
    """Put them in a child that is killed at that call of the kernel's, by a hook that Python itself offers."""
    child = os.fork()
    if child == 0:
        import sys  # noqa: PLC0415 - the child's

        seen = 0

        def hook(event: str, _arguments: tuple[object, ...]) -> None:
            nonlocal seen
            if event in {"open", "os.rename", "os.mkdir", "os.remove"}:
                seen += 1
                if seen == call:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        put(files)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0


@pytest.mark.parametrize("call", range(1, 22))
def test_killed_anywhere_every_file_is_whole_and_the_next_run_finishes(call: int, tmp_path: Path) -> None:
    (tmp_path / "failoverd.yaml").write_bytes(b"old")
    files = wanted(tmp_path)
    killed_at(call, files)
    for file in files:
        assert not file.path.exists() or file.path.read_bytes() in {file.content, b"old"}
    if (tmp_path / "failoverd.yaml").read_bytes() == b"new":
        assert missing(files) == ()
    put(missing(files))
    assert tree(tmp_path) == {"tls/key": b"secret", "tls/crt": b"certificate", "failoverd.yaml": b"new"}
