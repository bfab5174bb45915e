"""What refuses a drill's people, told before it begins: of the limits as they are by default, and raised."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from failoverd.drill import limits, model, preflight
from failoverd.drill.model import Asked, NodeFacts

if TYPE_CHECKING:
    from pathlib import Path

# Debian 12's, as `doveconf -h` has them: 0 is the default's.
DEFAULTS = {
    "mail_max_userip_connections": 10,
    "default_process_limit": 100,
    "default_client_limit": 1000,
    "service/imap-login/process_limit": 0,
    "service/imap-login/client_limit": 0,
    "service/imap-login/service_count": 1,
    "service/imap/process_limit": 1024,
    "service/imap/client_limit": 1,
    "fs.inotify.max_user_instances": 128,
}
RAISED = DEFAULTS | {
    "mail_max_userip_connections": 20,
    "service/imap-login/service_count": 0,
    "fs.inotify.max_user_instances": 1024,
}
ASKED = Asked(id="x", scenario="switchover", by="anna", users=500, duration_s=60)
MAIL1 = NodeFacts(node="mail1", software="1", digest="d", enabled=True, faults=(), limits=DEFAULTS)


def test_by_default_five_hundred_are_refused_in_three_ways() -> None:
    one, two, three = limits.too_low(DEFAULTS, users=500, accounts=50)
    assert one == "mail_max_userip_connections = 10: 500 users by 50 accounts need 11"
    assert two == (
        "service/imap-login has room for 100 sessions (with TLS a login process stays for the session): "
        "500 users need 501"
    )
    assert three.startswith("fs.inotify.max_user_instances = 128 (")
    assert three.endswith("): 500 users need 500")


def test_as_the_runbook_sets_them_nobody_is() -> None:
    assert list(limits.too_low(RAISED, users=500, accounts=50)) == []
    assert list(limits.too_low(RAISED, users=1024, accounts=200)) == [
        "service/imap has room for 1024 sessions (a process a session): 1024 users need 1025"
    ]


@pytest.mark.parametrize(("users", "accounts"), [(0, 0), (0, 50), (10, 0), (90, 10)])
def test_few_or_nobody_need_nothing(users: int, accounts: int) -> None:
    assert list(limits.too_low(DEFAULTS, users=users, accounts=accounts)) == []


def test_of_what_is_not_known_nothing_is_said() -> None:
    assert list(limits.too_low({}, users=5000, accounts=1)) == []
    assert limits.read(("/nonexistent/doveconf",)).keys() <= {limits.INSTANCES}


@pytest.mark.parametrize("code", ["print(10)", "import sys; sys.exit(1)", "print('x\\n' * 8, end='')"])
def test_another_dovecots_words_are_none(code: str, tmp_path: Path) -> None:
    """One that lacks a setting prints a line less: no value may be taken for another's."""
    instances = tmp_path / "instances"
    instances.write_text("128\n")
    assert limits.read((sys.executable, "-c", code), instances) == {limits.INSTANCES: 128}


def test_it_is_a_warning_for_each_node_and_travels_with_its_facts() -> None:
    facts = {"mail1": MAIL1, "mail2": replace(MAIL1, node="mail2", limits=RAISED), "arbiter": replace(MAIL1, limits={})}
    facts = {name: model.load(NodeFacts, model.dump(known)) for name, known in facts.items()}
    told = preflight.warnings(ASKED, facts, accounts=50)
    assert [code for code, _ in told] == ["DRILL_LIMITS"] * 3
    assert all(reason.startswith("mail1: ") for _, reason in told)
