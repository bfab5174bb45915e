"""The backup before a drill, of a real replica with the real programs: what is shown of it, and what is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from drill_data_stage import configure, grant
from mariadb_servers import REPOSITORY, hear, in_step, lay_out, make_template, private_network, wait_for
from node_certificates import Authority
from rebuild_stage import NodeStage, Outside, certificates, fill, make_node

from failoverd.drill import DrillError
from failoverd.drill.backup import MANIFEST, Backup, checksums
from failoverd.rebuild import private
from failoverd.rebuild.programs import Programs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from failoverd.config import Config
    from failoverd.drill.model import BackupDone

pytestmark = pytest.mark.lab
ROWS = 500


class Stage:
    """A primary and the replica that is backed up."""

    def __init__(self, primary: Outside, node: NodeStage, config: Config) -> None:
        self.primary, self.node, self.config = primary, node, config
        self.place = config.drill.backup.directory
        self.said: list[str] = []
        self._number = 0

    def drill(self) -> str:
        """Another one's name, each time."""
        self._number += 1
        return f"20260101-00000{self._number}-switchover"

    def make(self, kind: str) -> BackupDone:
        """In this process."""
        self.said.clear()
        tools = Programs(self.node.programs, bound=True)
        return Backup(self.config, self.drill(), lambda what: self.said.append(str(what)), tools).make(kind)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, example: str) -> Iterator[Stage]:
    with private_network() as root:
        directory = tmp_path_factory.mktemp("backup")
        for place in (directory, *directory.parents):
            place.chmod(place.stat().st_mode | 0o011)
        data = make_template(root, tmp_path_factory.mktemp("t"))
        hear()
        files = certificates(Authority(directory))
        servers = []
        for name in ("mail1", "mail2"):
            (directory / name).mkdir(mode=0o711)
            subprocess.run(["cp", "-a", str(data), str(directory / name / "data")], check=True)
            servers.append(Outside(name, root, directory / name))
        primary, replica = servers
        try:
            for server in servers:
                server.start()
            node = make_node(replica, files["mail2"], example)
            (node.programs / "cp").symlink_to("/usr/bin/cp")
            lay_out(list(servers))
            config = configure(node)
            secret = replica.directory / "drill-password"
            grant(NodeStage("mail1", primary, secret, secret, secret, secret, secret, files["mail1"]))
            primary.run("INSERT INTO failoverd.journal VALUES (1, 'mail1', NULL, '0-1-1', '')")
            primary.run("CREATE TABLE app.counted (id INT PRIMARY KEY, t TEXT) ENGINE=InnoDB")
            primary.run("INSERT INTO app.counted SELECT seq, REPEAT('x', 900) FROM app.seq_1_to_500")
            in_step(primary, replica)
            yield Stage(primary, node, config)
        finally:
            for server in servers:
                server.kill()


def below(stage: Stage) -> list[list[str]]:
    """Command lines of all processes that have to do with a backup there."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if any(str(stage.place) in word for word in words):
            found.append(words)
    return found


def test_full_and_incremental_and_what_is_no_base(stage: Stage) -> None:
    full = stage.make("full")
    assert full.tables > 3
    assert full.rows >= ROWS
    assert full.gtid == stage.node.server.value("@@gtid_slave_pos")
    assert any("app.counted" in line for line in stage.said)

    stage.primary.run("INSERT INTO app.counted VALUES (0, 'newer')")
    in_step(stage.primary, stage.node.server)
    newer = stage.make("incremental")
    assert newer.kind == "incremental"
    assert newer.rows == full.rows + 1
    assert newer.gtid == stage.node.server.value("@@gtid_slave_pos")
    manifest = json.loads((Path(newer.directory) / MANIFEST).read_text())
    assert manifest["base"] == Path(full.directory).name
    assert manifest["files"] == {k: v for k, v in checksums(Path(newer.directory)).items() if k != MANIFEST}

    # One byte of the base: nobody would find it before it is needed.
    rows = next(path for path in Path(full.directory).rglob("counted.*") if path.suffix != ".frm")
    with rows.open("r+b") as file:
        file.seek(70_000)
        byte = file.read(1)
        file.seek(70_000)
        file.write(bytes([byte[0] ^ 1]))
    again = stage.make("incremental")
    assert again.kind == "full"
    assert any("app/counted." in line and "no base" in line for line in stage.said)
    assert not list(stage.place.glob(".*"))


def broken(stage: Stage, monkeypatch: pytest.MonkeyPatch, how: Callable[[Path], None]) -> str:
    """Make one that is spoiled before it is tried; give why it is refused."""
    given = private.own

    def spoiled(whole: Path, like: Path) -> None:  # called between its preparation and its start
        how(whole)
        given(whole, like)

    monkeypatch.setattr(private, "own", spoiled)
    kept = sorted(stage.place.iterdir())
    with pytest.raises(DrillError) as refused:
        stage.make("full")
    assert sorted(stage.place.iterdir()) == kept
    assert refused.value.code == "DRILL_BACKUP_UNVERIFIED"
    return refused.value.reason


def test_rows_that_cannot_be_read_are_found(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def zeroed(whole: Path) -> None:
        path = whole / "app/counted.ibd"
        with path.open("r+b") as file:  # its rows, not what opening it looks at
            file.seek(5 * 16384)
            file.write(b"\x55" * 16384 * (path.stat().st_size // 16384 - 6))

    assert "counted" in broken(stage, monkeypatch, zeroed)


def test_a_table_that_is_missing_is_found(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(whole: Path) -> None:
        for name in ("counted.ibd", "counted.frm"):
            (whole / "app" / name).unlink()

    assert "lacks 1 tables: app.counted" in broken(stage, monkeypatch, gone)


def test_a_position_that_is_not_the_databases_is_found(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    given = private.prepare

    def older(whole: Path, tools: Programs) -> str:
        for path in whole.glob("*binlog_info"):
            path.write_text("binlog.000001\t4\t0-1-1\n")
        return given(whole, tools)

    monkeypatch.setattr(private, "prepare", older)
    assert "says that it is at transaction 1 of domain 0" in broken(stage, monkeypatch, lambda _: None)


@pytest.mark.parametrize("at", ["mariadb-backup runs", "a server starts on it"])
def test_nothing_outlives_a_job_that_is_killed(stage: Stage, at: str) -> None:
    if at == "mariadb-backup runs" and not stage.primary.run("SHOW TABLES IN app LIKE 'bulk'"):
        fill(stage.primary, 30)
        in_step(stage.primary, stage.node.server)
    script = REPOSITORY / "tests/adapters/drill_backup_process.py"
    words = [str(script), str(stage.node.config), "mail2", str(stage.node.programs), stage.drill(), "full"]
    program = "mariadbd" if at.startswith("a server") else "mariadb-backup"
    with subprocess.Popen([sys.executable, *words], cwd=REPOSITORY, stdout=subprocess.PIPE) as job:
        assert job.stdout is not None
        for line in job.stdout:
            if json.loads(line).get("text") == at:
                break

        def runs() -> bool:
            return any(any(word.endswith(program) for word in words) for words in below(stage))

        wait_for(runs, name=program)
        job.kill()
    wait_for(lambda: not below(stage), name="nothing of it")
    stage.make("full")  # what it left is no hindrance
    shutil.rmtree(stage.place)
