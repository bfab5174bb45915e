"""What tests share: when `root`, `lab`, `simulation` and `browser` tests run, and a configuration that can be loaded.

`tests/run --fast` skips those four kinds and says so; without it they must run: a machine on which they cannot is a
failure, not a skip.
"""

from __future__ import annotations

from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent
EXAMPLE = REPOSITORY / "config" / "failoverd.yaml"
SECRETS = {
    "secrets/canary": "canary-lab-password\n",
    "secrets/database": "database-lab-password\n",
    "secrets/replication": "replication-lab-password\n",
    "tls/ca.crt": "",
    "tls/node.crt": "",
    "tls/node.key": "",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fast", action="store_true", help="skip what needs root, the lab or minutes")
    parser.addoption("--regenerate", action="store_true", help="write what was found into the text files compared with")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--fast"):
        return
    for item in items:
        for marker in ("root", "lab", "simulation", "browser"):
            if item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=f"{marker}: left out by --fast"))


@pytest.fixture(scope="session")
def example_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with all files that the shipped example names below /etc/failoverd."""
    directory = tmp_path_factory.mktemp("etc")
    for name, content in SECRETS.items():
        path = directory / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
        path.chmod(0o600)
    return directory


@pytest.fixture(scope="session")
def example(example_directory: Path) -> str:
    """Return the shipped example's text, with its files in `example_directory`."""
    return EXAMPLE.read_text().replace("/etc/failoverd", str(example_directory))


@pytest.fixture
def config_file(example: str, tmp_path: Path) -> Path:
    """Return the path of a configuration that loads: the shipped example."""
    path = tmp_path / "failoverd.yaml"
    path.write_text(example)
    return path
