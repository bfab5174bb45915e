"""The runbooks: one page a rule, one page a code, none left over, none without the answers that a page is read for."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import yaml

from failoverd import actions, credentials, databases, drill, fencing, fleet, notify, probes, rebuild, refusals, setup
from failoverd.config import reload
from failoverd.config.store import OF_KIND
from failoverd.core import alerts, candidates, migration, orders, repair
from failoverd.core.findings import FINDINGS
from failoverd.core.rules import RULES
from failoverd.ctl import removable
from failoverd.runtime import access_codes, copies_kept, host, public_codes
from failoverd.stores import etcd_look

REPOSITORY = Path(__file__).parents[2]
RUNBOOKS = REPOSITORY / "runbooks"

# Codes that no adapter's or the candidates' CODES has: they are about the daemon, its store and its requests.
OTHER_CODES = {
    "RPO_UNPROVEN",
    "AUDIT_FAILED",
    "BLK_STORE_OLD",
    "HISTORY_UNSEEN",
    "NEEDS_REJOIN",
    "PAUSE_UNSEEN",
    "REQUEST_UNSEEN",
    "STEP_OF_OLD_TERM",
    "STEP_TIMEOUT",
    "SWITCHOVER_FAILED",
}
NOT_GIVEN_YET = migration.CODES.keys() - candidates.CODES.keys()  # no command moves a record: the pages come with it
# Texts of the source that look like codes and are none.
NO_CODES = {
    "AFTER_SYNC",  # MariaDB's
    "CREDENTIALS_DIRECTORY",  # systemd's, in the environment
    "FAILOVERD_AUDIT",  # names in the environment
    "FAILOVERD_BOOT_ID",
    "FAILOVERD_SOCKET",
    "FAILOVERD_HOST",
    "FAILOVERD_CERTIFICATE",
    "FAILOVERD_KEY",
    "FAILOVERD_CA",
    "FAILOVERD_CONFIG",
    "JOURNAL_STREAM",
    "LC_ALL",
    "NO_COLOR",
    "NOTIFY_SOCKET",
    "SOURCE_DATE_EPOCH",
    "SYSLOG_IDENTIFIER",  # a field of the journal
    "SC_CLK_TCK",  # of sysconf
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "XDG_CONFIG_HOME",
    "HTTP_REQUEST",  # OpenSSL's
    "CERTIFICATE_VERIFY_FAILED",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE",
    "RECORD_LAYER_FAILURE",
    "UNKNOWN_PROTOCOL",
    "WRONG_VERSION_NUMBER",
}
HEADINGS = ["Symptom", "What failoverd does by itself", "How to check", "What to do"]
UNDO = "How to undo"
FEWEST, MOST = 15, 40  # lines: enough to act on, no more than a screen
LINK = re.compile(r"\[[^\]]+\]\(([^)]+)\)")

RULE_IDS = {rule.id for rule in RULES}
CODES = {
    *candidates.CODES,
    *orders.CODES,
    *alerts.CODES,
    *notify.CODES,
    *repair.CODES,
    *probes.CODES,
    *databases.CODES,
    *actions.CODES,
    *host.CODES,
    *public_codes.CODES,
    *access_codes.CODES,
    *copies_kept.CODES,
    *reload.CODES,
    *credentials.CODES,
    *refusals.CODES,
    *fencing.CODES,
    *rebuild.CODES,
    *drill.CODES,
    *setup.CODES,
    *fleet.CODES,
    *etcd_look.CODES,
    *removable.CODES,
    *FINDINGS,
    *OTHER_CODES,
}
PAGES = sorted([*(RUNBOOKS / "rules").iterdir(), *(RUNBOOKS / "codes").iterdir()])
CASES = sorted((RUNBOOKS / "cases").iterdir())
JOBS = (
    "access",
    "install",
    "mail-store",
    "replace-a-node",
    "lost-quorum",
    "monthly-maintenance",
    "quarterly-drill",
    "audit-verify",
)
OTHERS = [RUNBOOKS / f"{name}.md" for name in ("README", *JOBS)]
EVERYTHING = [*PAGES, *CASES, *OTHERS]

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


def names(directory: str) -> set[str]:
    return {page.name for page in (RUNBOOKS / directory).iterdir()}


def anchors(page: Path) -> set[str]:
    """Give what GitHub makes of a page's headings."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def looks_like_a_code() -> dict[str, str]:
    """Give every text of the source that has the shape of a code, and where it stands."""
    found = {}
    for file in sorted((REPOSITORY / "failoverd").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            text = getattr(node, "value", None) if isinstance(node, ast.Constant) else None
            if isinstance(text, str) and re.fullmatch(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)+", text):
                found[text] = f"{file.relative_to(REPOSITORY)}:{node.lineno}"
    return found


def test_every_rule_has_its_page_and_every_page_its_rule() -> None:
    assert names("rules") == {f"{rule}.md" for rule in RULE_IDS}


def test_every_code_has_its_page_and_every_page_its_code() -> None:
    assert names("codes") == {f"{code}.md" for code in CODES}


def test_no_code_of_the_source_is_forgotten() -> None:
    found = looks_like_a_code()
    kinds = {name for name in found if {f"IMAP_{name}", f"SMTP_{name}"} & CODES}  # the mail probes put them together
    unknown = {name: where for name, where in found.items() if name not in CODES | kinds | NO_CODES | NOT_GIVEN_YET}
    assert not unknown
    assert found.keys() >= OTHER_CODES | NO_CODES, "the lists above name what the source no longer has"


@each_page
def test_a_page_has_its_headings_in_order_and_something_below_each(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert re.match(rf"# {re.escape(page.stem)}: \S.*\n", text), "the title is the name and its plain meaning"
    title, *sections = re.split(r"^## ", text, flags=re.MULTILINE)
    assert len(title.strip().splitlines()) == 1
    parts = dict(section.split("\n", 1) for section in sections)
    assert [name for name in parts if name != UNDO] == HEADINGS
    assert UNDO not in parts or list(parts)[-1] == UNDO
    assert all(body.strip() for body in parts.values())
    assert "```sh\n" in parts["How to check"]
    assert FEWEST <= len(text.splitlines()) <= MOST


@pytest.mark.parametrize("page", CASES, ids=lambda page: page.stem)
def test_a_case_has_the_same_headings_and_is_in_the_index(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert text.splitlines()[0] == f"# {page.stem.replace('-', ' ').capitalize()}"
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == [*HEADINGS, UNDO]
    assert all(body.strip() for body in re.split(r"^## .+$", text, flags=re.MULTILINE)[1:])
    assert "```sh\n" in text
    assert f"(cases/{page.name})" in (RUNBOOKS / "README.md").read_text(encoding="utf-8")


def test_every_page_beside_the_index_is_named_in_it() -> None:
    index = (RUNBOOKS / "README.md").read_text(encoding="utf-8")
    for page in RUNBOOKS.glob("*.md"):
        assert page.name == "README.md" or f"]({page.name}" in index, page.name


@pytest.mark.parametrize("page", EVERYTHING, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there in EVERYTHING or there in RUNBOOKS.glob("*.md"), target
        assert not anchor or anchor in anchors(there), target


def test_the_index_names_every_page_once_with_its_meaning() -> None:
    rows = re.findall(r"^\| \[(\S+)\]\((\S+)\) \| (.+) \|$", (RUNBOOKS / "README.md").read_text("utf-8"), re.MULTILINE)
    titles = [(page, page.read_text(encoding="utf-8").splitlines()[0]) for page in PAGES]
    expected = [(page.stem, f"{page.parent.name}/{page.name}", title.partition(": ")[2]) for page, title in titles]
    assert sorted(rows) == sorted(expected)


def test_the_index_has_the_rules_in_the_order_of_the_table() -> None:
    text = (RUNBOOKS / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"\(rules/(\S+)\.md\) \|", text) == [rule.id for rule in RULES]


def test_only_commands_that_exist() -> None:
    """A page must not send anyone to a command of failoverctl that is still to be built."""
    from failoverd.ctl.app import COMMANDS  # noqa: PLC0415 - click is only needed here

    for page in EVERYTHING:
        for command in re.findall(r"failoverctl ([a-z-]+)", page.read_text(encoding="utf-8")):
            assert command in COMMANDS, f"{page.name}: failoverctl {command}"


def test_a_rules_page_quotes_the_audit_as_it_is() -> None:
    """`let-go: the lease could not ...` on a page is how a decision of the table begins."""
    said = {f"{rule.decision.value}: {rule.why}" for rule in RULES}
    decisions = "|".join({rule.decision.value for rule in RULES})
    for page in (RUNBOOKS / "rules").iterdir():
        for quoted in re.findall(rf"`((?:{decisions}): [^`]+?)(?: \.\.\.)?`", page.read_text(encoding="utf-8")):
            assert any(text.startswith(quoted) for text in said), f"{page.name}: {quoted}"


def test_every_code_that_a_page_mentions_exists() -> None:
    prefixes = "|".join(sorted({code.partition("_")[0] for code in CODES}))
    for page in EVERYTHING:
        mentioned = set(re.findall(rf"\b(?:{prefixes})_[A-Z][A-Z_]*\b", page.read_text(encoding="utf-8")))
        # an option of the kernel's, and a word that config/grants-drill-mariadb.sql has in the place of a password
        assert mentioned - {"CONFIG_RT_GROUP_SCHED", "DRILL_PASSWORD"} <= CODES, page.name


def test_every_key_that_a_page_mentions_is_in_the_example() -> None:
    example = yaml.safe_load((REPOSITORY / "config/failoverd.yaml").read_text(encoding="utf-8"))
    example["store"] = {key: None for keys in OF_KIND.values() for key in keys}  # the example's is of one kind
    for page in EVERYTHING:
        for key in re.findall(rf"`((?:{'|'.join(example)})(?:\.[a-z_]+)+)`", page.read_text(encoding="utf-8")):
            value = example
            for part in key.split("."):
                assert part in value, f"{page.name}: {key}"
                value = value[part]
