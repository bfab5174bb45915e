"""The rows of three real servers compared while clients write, with just the rights that the drill's account has."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import threading
from typing import TYPE_CHECKING, Self

import pytest
from drill_data_stage import DRILL_PASSWORD, LocalAgents, configure, grant
from mariadb_servers import ADDRESSES, hear, in_step, lay_out, make_template, private_network, wait_for
from node_certificates import Authority
from rebuild_stage import NodeStage, Outside, certificates, make_node

from failoverd.drill import DrillError
from failoverd.drill.comparing import ROUNDS, Comparison, compared, left_out, unsettled
from failoverd.drill.tables import Tables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from failoverd.config import Config
    from failoverd.drill.model import TablesDone

pytestmark = pytest.mark.lab

# Each is one table of schema `odd`, the way it is changed on one replica alone, and whether that is a difference.
MANY = "SELECT seq, REPEAT(MD5(seq), 4) FROM odd.seq_1_to_3000"
ODD = {
    "untouched": (["(id INT PRIMARY KEY, t TEXT)", MANY], []),
    "changed": (["(id INT PRIMARY KEY, t TEXT)", MANY], ["UPDATE {} SET t = 'x' WHERE id = 1777"]),
    "missing": (["(id INT PRIMARY KEY, t TEXT)", MANY], ["DELETE FROM {} WHERE id = 2999"]),
    "added": (["(id INT PRIMARY KEY, t TEXT)", MANY], ["INSERT INTO {} VALUES (0, '')"]),
    "swapped": (["(id INT PRIMARY KEY, a INT, b INT)", "VALUES (1, 5, 6)"], ["UPDATE {} SET a = 6, b = 5"]),
    "no key, twice": (["(t TEXT)", "VALUES ('a'), ('a')"], ["UPDATE {} SET t = 'b'"]),
    "column order": (["(id INT, a INT, b INT)", "VALUES (1, 5, 5)"], ["ALTER TABLE {} MODIFY b INT AFTER id"]),
    "type": (["(id INT, a INT)", "VALUES (1, 5)"], ["ALTER TABLE {} MODIFY a BIGINT"]),
    "charset": (["(t VARCHAR(9) CHARSET utf8mb4)", "VALUES ('a')"],
                ["ALTER TABLE {} MODIFY t VARCHAR(9) CHARSET latin1"]),
    "collation": (["(t VARCHAR(9) COLLATE utf8mb4_bin)", "VALUES ('a')"],
                  ["ALTER TABLE {} MODIFY t VARCHAR(9) COLLATE utf8mb4_general_ci"]),
    "case": (["(t VARCHAR(9) COLLATE utf8mb4_general_ci)", "VALUES ('a')"], ["UPDATE {} SET t = 'A'"]),
    "trailing blank": (["(t VARCHAR(9))", "VALUES ('a')"], ["UPDATE {} SET t = 'a '"]),
    "null": (["(id INT, t TEXT NULL)", "VALUES (1, NULL)"], ["UPDATE {} SET t = ''"]),
    "null of columns": (["(a TEXT, b TEXT)", "VALUES (NULL, 'x')"], ["UPDATE {} SET a = 'x', b = NULL"]),
    "float": (["(f FLOAT)", "VALUES (16777213)"], ["UPDATE {} SET f = 16777214"]),
    "double": (["(f DOUBLE)", "VALUES (0.1)"], ["UPDATE {} SET f = 0.10000000000000002"]),
    "decimal": (["(d DECIMAL(60,30))", "VALUES (1)"], ["UPDATE {} SET d = 1.000000000000000000000000000001"]),
    "blob": (["(b LONGBLOB)", "VALUES (REPEAT(X'00FF', 4000000))"],
             ["UPDATE {} SET b = CONCAT(LEFT(b, 7999999), X'FE')"]),
    "json": (["(j JSON)", """VALUES ('{"a": 1}')"""], ["UPDATE {} SET j = JSON_ARRAY(2)"]),
    "bits": (["(b BIT(64))", "VALUES (b'1')"], ["UPDATE {} SET b = b'11'"]),
    "micro": (["(d DATETIME(6))", "VALUES ('2026-01-01 00:00:00.000001')"],
              ["UPDATE {} SET d = '2026-01-01 00:00:00.000002'"]),
    "zero date": (["(d DATE)", "VALUES ('0000-00-00')"], ["UPDATE {} SET d = NULL"]),
    "set": (["(s SET('a','b'), e ENUM('a','b'))", "VALUES ('a,b', 'a')"], ["UPDATE {} SET e = 'b'"]),
    "point": (["(p POINT)", "VALUES (POINT(1, 2))"], ["UPDATE {} SET p = POINT(1, 3)"]),
    "generated": (["(a INT, g INT AS (a * 2) VIRTUAL)", "(a) VALUES (3)"],
                  ["ALTER TABLE {} MODIFY g INT AS (a + 3) VIRTUAL"]),
    "hidden": (["(a INT, h INT INVISIBLE DEFAULT 1)", "(a) VALUES (3)"], ["UPDATE {} SET h = 2"]),
    "parts": (["(id INT PRIMARY KEY, t INT) PARTITION BY HASH (id) PARTITIONS 3", "VALUES (1, 1), (2, 2), (3, 3)"],
              ["UPDATE {} SET t = 4 WHERE id = 3"]),
    "versions": (["(id INT PRIMARY KEY, t INT) WITH SYSTEM VERSIONING", "VALUES (1, 1), (2, 2)"],
                 ["UPDATE {} SET t = 9 WHERE id = 1", "UPDATE {} SET t = 1 WHERE id = 1"]),
    "empty": (["(id INT)", ""], []),
    "emptied": (["(id INT)", "VALUES (1)"], ["DELETE FROM {}"]),
    "gone": (["(id INT)", "VALUES (1)"], ["DROP TABLE {}"]),
    "`quoted` '%s' \"ä\" .x": (["(`c``o'l` INT, `%s` INT)", "VALUES (1, 2)"], ["UPDATE {} SET `%s` = 3"]),
    "same by quotes": (["(`a``b'\"%` INT)", "VALUES (1)"], []),
    "noted time": (["(t TIMESTAMP)", "VALUES ('2026-01-01 00:00:00')"], []),
}  # fmt: skip


def named(table: str) -> str:
    return "odd.`" + table.replace("`", "``") + "`"


class Stage:
    """Three nodes and what a coordinator does."""

    def __init__(self, nodes: dict[str, NodeStage], config: Config) -> None:
        self.nodes, self.config = nodes, config

    def compare(
        self, before_sums: Callable[[], None] = lambda: None, said: Callable[[str], None] = lambda _: None
    ) -> list[TablesDone]:
        """As the coordinator does. `before_sums`: what happens between snapshots and sums."""

        async def all_of_it() -> list[TablesDone]:
            agents = LocalAgents(self.nodes, before_sums)
            try:
                comparison = Comparison(self.config, agents, "1", said)  # type: ignore[arg-type] # the same calls
                return await comparison.tables(list(self.nodes), "mail1")
            finally:
                await agents.end()

        return asyncio.run(all_of_it())


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, example: str) -> Iterator[Stage]:
    with private_network() as root:
        directory = tmp_path_factory.mktemp("tables")
        data = make_template(root, tmp_path_factory.mktemp("t"))
        hear()
        files = certificates(Authority(directory))
        nodes: dict[str, NodeStage] = {}
        servers = []
        for name in ADDRESSES:
            (directory / name).mkdir()
            subprocess.run(["cp", "-a", str(data), str(directory / name / "data")], check=True)
            servers.append(Outside(name, root, directory / name))
        try:
            for server in servers:
                server.start()
                nodes[server.name] = make_node(server, files[server.name], example)
            lay_out(list(servers))
            configs = [configure(node) for node in nodes.values()]
            grant(nodes["mail1"])
            in_step(servers[0], servers[1])
            in_step(servers[0], servers[2])
            yield Stage(nodes, configs[0])
        finally:
            for node in nodes.values():
                node.end()
            for server in servers:
                server.kill()


class Writer:
    """A client that commits without a pause; knows its longest wait."""

    def __init__(self, stage: Stage) -> None:
        self._server = stage.nodes["mail1"].server
        self._over = threading.Event()
        self.rows = 0
        self._thread = threading.Thread(target=self._write)

    def _write(self) -> None:
        with contextlib.closing(self._server.connect()) as connection:
            while not self._over.is_set():
                connection.cursor().execute("INSERT INTO app.writes VALUES (UUID(), 1)")
                self.rows += 1

    def __enter__(self) -> Self:
        self._thread.start()
        wait_for(lambda: self.rows, name="the writer's first row")
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def test_rows_are_the_same_while_clients_write(stage: Stage) -> None:
    with Writer(stage) as writer:
        found = stage.compare()
        before = writer.rows
        wait_for(lambda: writer.rows > before + 10, name="commits after the comparison")
    assert len({done.gtid for done in found}) == 1
    assert found[0].gtid.startswith("0-1-")
    tables = {table.name: table for table in compared(found)}
    assert all(table.same for table in tables.values()), tables
    assert tables["app.writes"].rows > 0
    assert {"mail.users", "mail.domains", "failoverd.heartbeat", "failoverd.journal"} < tables.keys()


def test_each_difference_is_found_and_named(stage: Stage) -> None:
    primary, replica = stage.nodes["mail1"].server, stage.nodes["mail2"].server
    session = "SET sql_mode = '', NAMES utf8mb4, time_zone = '+00:00'"
    primary.run("CREATE DATABASE odd")
    for name, ((shape, rows), _) in ODD.items():
        primary.run(session, f"CREATE TABLE {named(name)} {shape}")
        if rows:
            primary.run(session, f"INSERT INTO {named(name)} {rows}")
    primary.run("CREATE VIEW odd.view AS SELECT * FROM odd.untouched", "CREATE SEQUENCE odd.sequence")
    primary.run("CREATE TABLE odd.memory (id INT) ENGINE=MEMORY", "CREATE TABLE odd.aria (id INT) ENGINE=Aria")
    primary.run("CREATE TABLE odd.myisam (id INT) ENGINE=MyISAM")
    for other in ("mail2", "mail3"):
        in_step(primary, stage.nodes[other].server)
    first = stage.compare()
    before = {table.name: table for table in compared(first)}
    assert {name for name, table in before.items() if not table.same} == set()
    assert {name.removeprefix("odd.") for name in before if name.startswith("odd.")} == ODD.keys()
    assert {name: why for name, why in left_out(first).items() if name.startswith("odd.")} == {
        "odd.aria": "Aria has no snapshots",
        "odd.memory": "MEMORY has no snapshots",
        "odd.myisam": "MyISAM has no snapshots",
        "odd.sequence": "a sequence has no snapshot",
    }
    assert (before["odd.untouched"].rows, before["odd.empty"].rows) == (3000, 0)

    for name, (_, changes) in ODD.items():
        for change in changes:
            replica.run("SET sql_log_bin = 0", session, change.format(named(name)))
    # What differs in how a server is set up, and not in its rows, is no difference.
    stage.nodes["mail3"].server.run("SET GLOBAL time_zone = '+07:00', GLOBAL sql_mode = 'ANSI,PAD_CHAR_TO_FULL_LENGTH'")
    after = {table.name: table for table in compared(stage.compare())}
    assert {name for name, table in after.items() if not table.same} == {
        f"odd.{name}" for name, (_, changes) in ODD.items() if changes
    }
    for name, table in after.items():
        assert table.digests["mail1"] == table.digests["mail3"], name
    assert after["odd.gone"].digests["mail2"] == ""
    primary.run("DROP DATABASE odd")
    for other in ("mail2", "mail3"):
        in_step(primary, stage.nodes[other].server)


def test_a_table_that_changes_meanwhile_is_done_again_and_then_left_out(stage: Stage) -> None:
    primary = stage.nodes["mail1"].server
    primary.run("CREATE DATABASE moving", "CREATE TABLE moving.one (id INT PRIMARY KEY)")
    primary.run("CREATE TABLE moving.still (id INT)", "CREATE TABLE moving.gone (id INT)")
    primary.run("INSERT INTO moving.one VALUES (1), (2)")
    said: list[str] = []
    rounds: list[int] = []

    def once() -> None:
        rounds.append(1)
        if len(rounds) == 1:
            primary.run("ALTER TABLE moving.one ADD COLUMN once INT, ALGORITHM=COPY", "DROP TABLE moving.gone")
            primary.run("CREATE TABLE moving.new (id INT)")

    found = stage.compare(once, said.append)
    tables = {table.name: table for table in compared(found)}
    assert len(rounds) == 2, said
    assert "moving.one" in next(line for line in said if line.startswith("changed"))
    assert tables["moving.one"].same
    assert tables["moving.one"].rows == 2
    assert tables["moving.still"].same
    assert "moving.gone" not in tables
    assert not {name for name in left_out(found) if name.startswith("moving.")}

    rounds.clear()

    def each_time() -> None:
        rounds.append(1)
        primary.run(f"ALTER TABLE moving.one ADD COLUMN again{len(rounds)} INT, ALGORITHM=COPY")

    found = stage.compare(each_time)
    assert len(rounds) == ROUNDS
    assert left_out(found)["moving.one"] == "changed meanwhile (altered)"
    assert "moving.one" not in {table.name for table in compared(found)}
    assert "moving.one" in unsettled(found)
    assert {table.name: table.same for table in compared(found)}["moving.still"]


def test_nobodys_ddl_waits_for_what_has_been_summed_up(stage: Stage) -> None:
    server = stage.nodes["mail1"].server
    server.run("CREATE DATABASE waiting", "CREATE TABLE waiting.a (id INT)", "CREATE TABLE waiting.b (id INT)")
    altered: list[str] = []

    def tell(what: dict[str, object]) -> None:
        if what.get("table") == "waiting.b":  # the one before it is done
            server.run("SET lock_wait_timeout = 2", "ALTER TABLE waiting.a ADD COLUMN b INT")
            altered.append("a")

    done = Tables(stage.config, tell).run(iter([{"open": 0}, {"sum": True}]))
    assert altered == ["a"]
    assert {table.name: table.changed for table in done.tables}["waiting.a"] == ""


def test_a_sum_that_is_told_to_end_leaves_no_query_behind(stage: Stage) -> None:
    server = stage.nodes["mail1"].server
    server.run("CREATE DATABASE long_sum", "CREATE TABLE long_sum.rows_ (id INT, t TEXT)")
    server.run("INSERT INTO long_sum.rows_ SELECT seq, REPEAT('x', 4000) FROM long_sum.seq_1_to_10000")
    summing = (
        "SELECT COUNT(*) AS n FROM information_schema.PROCESSLIST"
        " WHERE INFO LIKE '%BIT_XOR%long_sum%' AND ID <> CONNECTION_ID()"
    )

    async def told_to_end() -> None:
        agents = LocalAgents({"mail1": stage.nodes["mail1"]})
        try:
            job = await agents.start("mail1", "1", "tables", {"only": ["long_sum.rows_"]})
            await job.tell({"open": 0})
            await job.progress()
            await job.tell({"sum": True})
            await asyncio.to_thread(wait_for, lambda: server.run(summing)[0]["n"], name="the sum")
            job.process.terminate()
            async with asyncio.timeout(10):
                await job.process.wait()
        finally:
            await agents.end()

    asyncio.run(told_to_end())
    assert server.run(summing)[0]["n"] == 0
    assert held(stage) == 0


def held(stage: Stage) -> int:
    """Sessions of the drill's account on the primary."""
    rows = stage.nodes["mail1"].server.run(
        "SELECT COUNT(*) AS n FROM information_schema.PROCESSLIST WHERE USER = 'failoverd_drill'"
    )
    return int(rows[0]["n"])


def commits(stage: Stage) -> None:
    """One row more; AssertionError where that waits for longer than anybody may hold commits."""
    with contextlib.closing(stage.nodes["mail1"].server.connect(read_timeout=10)) as connection:
        connection.cursor().execute("INSERT INTO app.writes VALUES (UUID(), 2)")


@pytest.mark.parametrize("how", ["forgotten", "killed", "frozen"])
def test_commits_go_on_whatever_becomes_of_who_holds_them(stage: Stage, how: str) -> None:
    async def hold() -> None:
        agents = LocalAgents({"mail1": stage.nodes["mail1"]})
        try:
            job = await agents.start("mail1", "1", "tables", {})
            await job.tell({"hold": 0})
            assert (await job.progress())["held"].startswith("0-1-")
            if how == "killed":
                job.process.kill()
            if how == "frozen":
                job.process.send_signal(19)  # SIGSTOP: neither its timer nor its end helps
            await asyncio.to_thread(commits, stage)
        finally:
            await agents.end()

    asyncio.run(hold())
    wait_for(lambda: held(stage) == 0, name="no session of the drill's")


def test_it_gives_way_to_who_is_in_the_way(stage: Stage) -> None:
    """A backup that runs holds its stage: commits are not held, and it is said so; nobody waits behind us."""
    server = stage.nodes["mail1"].server
    told: list[dict[str, object]] = []
    with contextlib.closing(server.connect()) as other:
        other.cursor().execute("BACKUP STAGE START")
        tables = Tables(stage.config, told.append)
        with pytest.raises(DrillError, match="coordinator is gone"):
            tables.run(iter([{"hold": 0}]))
        other.cursor().execute("BACKUP STAGE END")
    assert told == [{"held": ""}]
    commits(stage)


def test_the_account_may_read_and_nothing_else(stage: Stage) -> None:
    server = stage.nodes["mail1"].server
    refused = {"INSERT INTO app.writes VALUES ('x', 1)", "DROP TABLE app.writes", "SET GLOBAL read_only = 1",
               "CREATE USER x", "STOP SLAVE", "SELECT 1 INTO OUTFILE '/tmp/x'"}  # fmt: skip
    with contextlib.closing(server.connect("failoverd_drill", DRILL_PASSWORD)) as connection:
        for statement in refused:
            with pytest.raises(Exception, match=r"denied"):
                connection.cursor().execute(statement)
