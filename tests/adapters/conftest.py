"""The nodes that the tests of a rebuild share: several files of them, which run side by side."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from mariadb_servers import ADDRESSES, hear, lay_out, make_template, private_network
from node_certificates import Authority
from rebuild_stage import NodeStage, Outside, certificates, make_node

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rebuild_stage import Nodes


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    with private_network() as root:
        yield root, make_template(root, tmp_path_factory.mktemp("t"))


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def nodes(template: tuple[Path, Path], authority: Authority, tmp_path: Path, example: str) -> Iterator[Nodes]:
    root, data = template
    hear()
    files = certificates(authority)
    servers = []
    for name in ADDRESSES:
        home = tmp_path / name
        home.mkdir()
        subprocess.run(["cp", "-a", str(data), str(home / "data")], check=True)
        servers.append(Outside(name, root, home))
    found: list[NodeStage] = []
    try:
        for server in servers:
            server.start()
            found.append(make_node(server, files[server.name], example))
        lay_out(list(servers))
        for node in found:
            node.serve()
        yield found[0], found[1], found[2]
    finally:
        for node in found:
            node.end()
        for server in servers:
            server.kill()
