"""One lab for all tests of this directory that need it, healed between them."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from hosts import Lab, LabError, layout
from trials.cluster import Cluster, audit_of
from trials.sole import sole_use

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

UNITS = ("dovecot.service", "postfix@-.service", "mariadb.service", "failoverd.service")

# Who uses one of these has other hosts than the usual ones: these tests stand together, at the end.
OTHER_HOSTS = {"patiently", "fresh", "lab_anew", "on_etcd"}
TOLD = 14  # of each host's audit, where a test has failed


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Make the usual hosts anew once, and not after each file that has had others."""
    items.sort(key=lambda item: bool(OTHER_HOSTS & set(getattr(item, "fixturenames", ()))))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add what the hosts say to a failed test: the next one changes it."""
    report = yield
    labs = [given for given in getattr(item, "funcargs", {}).values() if isinstance(given, Lab)]
    if report.failed and call.when == "call" and labs:
        report.sections.append(("what the hosts say", "\n".join(_told(labs[0]))))
    return report


def _told(lab: Lab) -> Iterator[str]:
    try:
        yield from Cluster(lab).unsettled()
    except LabError as error:
        yield str(error)
    for host in layout.HOSTS:
        for line in audit_of(host).new()[-TOLD:]:
            words = [str(line.get(key, "")) for key in ("time", "term", "kind", "rule", "text", "code")]
            yield f"{host} {' '.join(words)}"[:200]


@pytest.fixture(scope="session")
def lab_of_the_session() -> Iterator[Lab]:
    if os.geteuid() != 0:
        pytest.skip("the lab needs root")
    lab = Lab(lambda words: print(f"  lab: {words}"))
    with sole_use("tests", print):
        lab.up()
        yield lab
        lab.down()


@pytest.fixture
def lab(lab_of_the_session: Lab) -> Iterator[Lab]:
    """Give the lab with one primary and two healthy replicas; afterwards every host is on, and free of faults."""
    if not lab_of_the_session.is_usual:  # a test has had other hosts
        lab_of_the_session.up()
    Cluster(lab_of_the_session).end_flap_block()
    Cluster(lab_of_the_session).wait_until_settled(60)
    yield lab_of_the_session
    for host in layout.HOSTS:
        if lab_of_the_session.pid(host) is None:
            lab_of_the_session.boot(host)
        lab_of_the_session.heal(host)
        lab_of_the_session.allow(host)
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda host: _start_all(lab_of_the_session, host), layout.HOSTS))


def _start_all(lab: Lab, host: str) -> None:
    units = " ".join(UNITS if host in layout.DATA_NODES else ("failoverd.service",))
    undo = (
        f"systemctl unmask --runtime {units}; rm -rf {layout.DROP_IN}; systemctl daemon-reload"
        f"; systemctl reset-failed; systemctl start {units}"
    )
    lab.exec(host, "sh", "-ec", undo)


@pytest.fixture
def cluster(lab: Lab) -> Cluster:
    return Cluster(lab)
