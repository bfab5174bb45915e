from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from failoverd.actions.mailstore_hook import StoreHook
from failoverd.actions.mount import MountedStore
from failoverd.config import Config, ConfigError, Fencing, load, membership_digest
from failoverd.core.model import Node, NodeKind, NodeName
from failoverd.fencing.agent import AgentFence
from failoverd.runtime import local
from failoverd.runtime.schedule import Schedule
from failoverd.runtime.thresholds import policy_of

REFUSALS = Path(__file__).with_name("config-refusals.txt")
ESCAPES = {"n": "\n", "t": "\t", "\\": "\\"}


def refusal(path: Path, node: str = "mail1") -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load(path, node)
    return caught.value


def test_the_shipped_example_loads(config_file: Path) -> None:
    config = load(config_file, "mail2")
    assert config.cluster == "lab"
    assert config.nodes["mail1"] == Node(NodeName("mail1"), NodeKind.DATA, "10.89.1.11", 100)
    assert config.this.name == "mail2"
    assert (config.vip.address, config.vip.prefix, config.vip.interface) == ("10.89.1.100", 24, "host0")
    assert (config.lease.ttl_ms, config.lease.renew_ms, config.lease.margin_ms) == (3000, 500, 300)
    assert [(name, service.kind) for name, service in config.services.items()] == [("imap", "imap"), ("smtp", "smtp")]
    assert config.database.password.get_secret_value() == "database-lab-password"
    assert config.host.disk_min_free_percent == 5.0
    assert config.flapping.window_ms == 3_600_000


def test_no_secret_is_shown(config_file: Path) -> None:
    config = load(config_file, "mail1")
    assert "lab-password" not in f"{config!r} {config} {config.model_dump()} {config.model_dump_json()}"


def test_the_arbiter_needs_no_database_password(config_file: Path, example: str, tmp_path: Path) -> None:
    config_file.write_text(
        re.sub(r"(replication_password_file|  password_file): \S+/(data|repl)", rf"\1: {tmp_path}/", example)
    )
    assert load(config_file, "arbiter").database.password.get_secret_value() == ""
    assert "cannot be read" in str(refusal(config_file, "mail1"))


def test_a_secret_may_be_a_credential_that_systemd_has_loaded(
    config_file: Path, example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, count = re.subn(r"(?m)^(  password_file): \S+/database$", r"\1: credential:database", example)
    assert count == 1
    config_file.write_text(text)
    (tmp_path / "database").write_text("loaded-lab-password\n")
    (tmp_path / "database").chmod(0o400)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert load(config_file, "mail1").database.password.get_secret_value() == "loaded-lab-password"
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "nothing"))
    assert "cannot be read" in str(refusal(config_file, "mail1"))
    config_file.write_text(text.replace("credential:database", "credential:../database"))
    assert "is no credential's name" in str(refusal(config_file, "mail1"))


def test_nothing_can_be_changed(config_file: Path) -> None:
    config = load(config_file, "mail1")
    with pytest.raises(ValidationError):
        config.lease.ttl_ms = 1  # type: ignore[misc]  # that is what is tested


def without(example: str, *keys: str) -> str:
    """Leave out top-level sections and, with a dot, keys of block sections."""
    for key in keys:
        name = key.rpartition(".")[2]
        indent = "  +" if "." in key else ""
        example, count = re.subn(rf"(?m)^{indent}{name}:.*\n", "", example)
        assert count
    return example


def test_the_example_shows_the_defaults(config_file: Path, example: str) -> None:
    shown = load(config_file, "mail1")
    blocks = re.sub(r"(?m)^(?:monitoring|drill|access):\n(?:  .*\n)+", "", example)
    fewer = without(
        *(blocks, "lease", "flapping", "rpo", "audit", "alerts", "rejoin", "rebuild", "http"),
        *("x.rebuild_port", "x.interval", "x.deadline", "x.failures", "x.patience"),
    )
    fewer = (
        without(fewer, "x.heartbeat", "x.max_lag", "x.lag_warn", "x.lag_alarm", "x.mailbox")
        .replace("  port: 7400\n", "")
        .replace("  port: 3306\n", "")
    )
    fewer = re.sub(r"host: {.*disks", "host: {disks", fewer).replace(", memory_min_free: 3%, load_max_per_core: 20", "")
    config_file.write_text(fewer)
    assert load(config_file, "mail1") == shown


def test_mysql_takes_a_replication_password_of_32_characters(config_file: Path, example: str, tmp_path: Path) -> None:
    secret = tmp_path / "replication"
    text = re.sub(r"\S+/secrets/replication", str(secret), example)
    line = text[: text.index("replication_password_file")].count("\n") + 1
    for dialect, length, taken in (("mysql", 32, True), ("mysql", 33, False), ("mariadb", 33, True)):
        secret.write_text("x" * length)
        secret.chmod(0o600)
        config_file.write_text(text.replace("dialect: mariadb", f"dialect: {dialect}"))
        if taken:
            assert load(config_file, "mail1").database.dialect == dialect
        else:
            with pytest.raises(ConfigError) as refused:
                load(config_file, "mail1")
            assert str(refused.value) == (
                f"{config_file}:{line}: database.replication_password_file: the password is longer than 32 characters; "
                "allowed: what MySQL takes of a replica"
            )


# ---- what is refused: tests/unit/config-refusals.txt -------------------------------------------------------------


@dataclass(frozen=True)
class Refusal:
    """One edit of the example, and the message that comes of it."""

    name: str
    old: str
    new: str
    message: str

    def edited(self, example: str, files: Path) -> str:
        """Return the example with the edit made once. `files`: what stands for @ in it."""
        old, new = (re.sub(r"\\(.)", lambda match: ESCAPES[match[1]], text) for text in (self.old, self.new))
        assert old in example, "the edit is none"
        return example.replace(old, new.replace("@/", f"{files}/"), 1)


def refusals() -> list[Refusal]:
    blocks = [block.splitlines() for block in REFUSALS.read_text().split("\n\n")[1:]]
    return [Refusal(name, old[2:], new[2:], message[2:]) for name, old, new, message in blocks]


@pytest.mark.parametrize("case", refusals(), ids=lambda case: case.name)
def test_a_wrong_file_is_refused_with_one_message(
    case: Refusal, example: str, example_directory: Path, config_file: Path, request: pytest.FixtureRequest
) -> None:
    config_file.write_text(case.edited(example, example_directory))
    error = refusal(config_file)
    message = str(error).removeprefix(f"{config_file}:")
    if request.config.getoption("--regenerate"):
        REFUSALS.write_text(
            re.sub(
                rf"(?m)^({re.escape(case.name)}\n-.*\n\+.*\n)=.*",
                lambda match: f"{match[1]}= {message}",
                REFUSALS.read_text(),
            )
        )
    else:
        assert message == case.message
        assert message.startswith(f"{error.line}: {error.key}")
    assert error.path == config_file


def test_a_mail_queue_is_handed_on_by_smtp(config_file: Path, example: str) -> None:
    config_file.write_text(re.sub(r"(?m)^  smtp:\n(?:    .*\n)+", "", example))
    error = refusal(config_file)
    assert str(error).endswith(
        ": queue.kind: value 'postfix': needs services.smtp: mail is handed on to the primary by it; allowed: none"
    )
    config_file.write_text(re.sub(r"(?m)^  smtp:\n(?:    .*\n)+|^queue:.*\n", "", example))
    assert load(config_file, "mail1").queue.kind == "none"


def test_a_node_that_is_not_in_the_file(config_file: Path, example: str) -> None:
    line = example[: example.index("\nnodes:")].count("\n") + 2
    assert str(refusal(config_file, "mail9")) == (
        f"{config_file}:{line}: nodes: this node is called 'mail9' (its hostname, or --node), "
        "and no node of this file is; allowed: mail1, mail2, mail3, arbiter"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", ":1: the file is empty; allowed: a YAML mapping"),
        (b"# nothing\n", ":1: the file is empty; allowed: a YAML mapping"),
        (b"- a\n", ":1: the file is not a mapping; allowed: a YAML mapping, `key: value`"),
        (b"a: 1\nb: \xff\xfe\n", ":2: the file is not UTF-8 text; allowed: YAML text"),
        (b"a: 1\nb: \0\n", ":2: the file holds the character U+0000; allowed: YAML text"),
        (b"\x7fELF\x02\x01\x01\0", ":1: the file holds the character U+007F; allowed: YAML text"),
        (b"a: " + b"[" * 5000, ":1: nested too deeply; allowed: 16 levels"),
        (b"? [a]\n: b\n", ":1: a key is not text; allowed: text"),
        (b"a" * (1 << 21), ": the file is too large; allowed: at most 1048576 bytes of YAML"),
    ],
)
def test_a_file_that_is_no_configuration(config_file: Path, content: bytes, message: str) -> None:
    config_file.write_bytes(content)
    assert str(refusal(config_file)) == f"{config_file}{message}"


def test_a_file_that_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path, reason in (
        (tmp_path / "absent", "No such file or directory"),
        (tmp_path, "Is a directory"),
        (tmp_path / "fifo", "Not a regular file"),
    ):
        assert str(refusal(path)) == f"{path}: cannot be read: {reason}; allowed: a readable YAML file"


# ---- secrets --------------------------------------------------------------------------------------------------------


ONE_LINE = "a file with the password as its only line"


@pytest.mark.parametrize(
    ("content", "mode", "message"),
    [
        (None, 0o600, "cannot be read: No such file or directory; allowed: a readable file"),
        (b"hunter2", 0o644, "others have access to the file (mode 0644); allowed: mode 0600 or 0640"),
        (b"", 0o600, f"the file is empty; allowed: {ONE_LINE}"),
        (
            b"hunter2\nhunter3\n",
            0o600,
            f"the file holds more than one line, or control characters; allowed: {ONE_LINE}",
        ),
        (b"hunter2\xff", 0o600, f"the file is not UTF-8 text; allowed: {ONE_LINE}"),
        (b"hunter2" * 1000, 0o600, f"the file is too large; allowed: {ONE_LINE}"),
    ],
)
def test_a_password_file_that_is_none(
    config_file: Path, example: str, tmp_path: Path, *, content: bytes | None, mode: int, message: str
) -> None:
    secret = tmp_path / "canary"
    if content is not None:
        secret.write_bytes(content)
        secret.chmod(mode)
    config_file.write_text(re.sub(r"\S+/secrets/canary", str(secret), example))
    line = example[: example.index("/secrets/canary")].count("\n") + 1
    assert str(refusal(config_file)) == (
        f"{config_file}:{line}: services.imap.password_file: value {str(secret)!r}: {message}"
    )


def test_an_unreadable_password_file(config_file: Path, example: str, tmp_path: Path) -> None:
    """Also for root, whom permissions do not stop: a directory cannot be read by anybody."""
    config_file.write_text(re.sub(r"\S+/secrets/canary", str(tmp_path), example))
    assert "password_file" in refusal(config_file).key
    assert "cannot be read: Is a directory" in str(refusal(config_file))


def test_a_password_in_place_of_its_file_is_not_shown(config_file: Path, example: str) -> None:
    config_file.write_text(re.sub(r"\S+/secrets/canary", "hunter2", example))
    assert str(refusal(config_file)).endswith("password_file: is no absolute path; allowed: a path that starts with /")


def test_a_private_key_is_private(config_file: Path, example: str, tmp_path: Path) -> None:
    key = tmp_path / "node.key"
    key.write_text("key")
    key.chmod(0o604)
    config_file.write_text(re.sub(r"\S+/tls/node.key", str(key), example))
    assert "others have access to the file (mode 0604)" in str(refusal(config_file))


# ---- fencing --------------------------------------------------------------------------------------------------------


def uncommented(example: str, secret: Path) -> str:
    """Return the example with its fencing section switched on, and the device's password in `secret`."""
    text, count = re.subn(r"(?m)^#(fencing:|  .*)$", r"\1", example)
    assert count > 5
    return re.sub(r"\S+/secrets/ipmi\b", str(secret), text)


@pytest.fixture
def fence_secret(tmp_path: Path) -> Path:
    secret = tmp_path / "ipmi"
    secret.write_text("fence-lab-password\n")
    secret.chmod(0o600)
    return secret


def test_fencing_is_off_unless_it_is_configured(config_file: Path) -> None:
    config = load(config_file, "mail1")
    assert config.fencing == Fencing()
    assert local.fence_of(config) is None
    assert policy_of(config).fenced == ()


def test_a_node_is_steady_no_sooner_than_the_most_patient_look_ends(config_file: Path, example: str) -> None:
    assert policy_of(load(config_file, "mail1")).steady_ms == 6000  # interval 1s + patience 5s
    config_file.write_text(example.replace("patience: 5s", "patience: 1s"))
    assert policy_of(load(config_file, "mail1")).steady_ms == 5000


def test_the_fencing_of_the_example_is_read_as_its_comment_says(
    config_file: Path, example: str, fence_secret: Path
) -> None:
    config_file.write_text(uncommented(example, fence_secret))
    config = load(config_file, "mail2")
    (ipmi,), (strip,) = config.fencing.nodes["mail1"]
    assert ipmi.options == {"ip": "192.0.2.11", "username": "failoverd", "lanplus": "true"}
    assert ipmi.secrets["password"].get_secret_value() == "fence-lab-password"
    assert (strip.agent, strip.options) == ("fence_apc_snmp", {"ip": "192.0.2.9", "plug": "3"})
    assert "fence-lab-password" not in f"{config!r} {config.model_dump()} {config.model_dump_json()}"
    assert [secret.get_secret_value() for secret in config.fencing.secrets] == ["fence-lab-password"]
    policy = policy_of(config)
    assert (policy.fenced, policy.fence_required, policy.fence_ms) == (("mail1",), False, 10_000)
    assert isinstance(local.fence_of(config), AgentFence)


def test_the_arbiter_needs_no_fencing_password(config_file: Path, example: str, tmp_path: Path) -> None:
    config_file.write_text(uncommented(example, tmp_path / "absent"))
    assert [secret.get_secret_value() for secret in load(config_file, "arbiter").fencing.secrets] == [""]
    assert "cannot be read" in str(refusal(config_file, "mail2"))


def test_an_option_is_given_once(config_file: Path, example: str, fence_secret: Path) -> None:
    text = uncommented(example, fence_secret).replace("secrets: {password:", "secrets: {username:")
    config_file.write_text(text)
    assert "option 'username' is given twice" in str(refusal(config_file))


def test_all_must_agree_whether_a_fence_is_waited_for_and_not_how_it_is_done(
    config_file: Path, example: str, fence_secret: Path
) -> None:
    without_any = membership_digest(load(config_file, "mail1"))
    text = uncommented(example, fence_secret)
    config_file.write_text(text)
    assert membership_digest(load(config_file, "mail1")) == without_any
    config_file.write_text(text.replace("required: false", "required: true"))
    required = load(config_file, "mail1")
    assert membership_digest(required) != without_any
    assert policy_of(required).fence_required


# ---- the public listener --------------------------------------------------------------------------------------------


def test_a_certificate_needs_its_key_and_a_key_its_certificate(
    config_file: Path, example: str, example_directory: Path
) -> None:
    for name, other in (("certificate", "key"), ("key", "certificate")):
        config_file.write_text(
            example.replace("http: {enabled: true", f"http: {{{name}: {example_directory}/tls/node.key")
        )
        assert str(refusal(config_file)).endswith(
            f": http: key {other!r} is missing, and {name} is given; allowed: both, or neither: {other}: FILE"
        )


def test_what_only_looks_need_not_be_alike(config_file: Path, example: str) -> None:
    digest = membership_digest(load(config_file, "mail1"))
    config_file.write_text(example.replace("http: {enabled: true", "http: {enabled: false, allow: [192.0.2.9]"))
    assert membership_digest(load(config_file, "mail1")) == digest


# ---- the mail store -------------------------------------------------------------------------------------------------


def with_store(example: str, store: str) -> str:
    """Return the example with another mail store, and no mail queue that asks it."""
    text, count = re.subn(r"(?m)^mail_store: .*$", f"mail_store: {store}", example)
    text, queues = re.subn(r"(?m)^queue: .*\n", "", text)
    assert (count, queues) == (1, 1)
    return text


def test_a_shared_mail_store_that_is_everywhere_is_neither_taken_nor_left(config_file: Path, tmp_path: Path) -> None:
    config = load(config_file, "mail1")
    assert not config.mail_store.moves
    assert local.mail_store_of(config, tmp_path) is None
    assert not policy_of(config).store_moves


@pytest.mark.parametrize(
    ("mount", "unfenced"),
    [
        ('{source: "192.0.2.20:/mail", type: nfs4, options: [hard, noatime]}', ()),
        ("{source: UUID=1f3a-22, type: xfs, exclusive: device}", ("mail1", "mail2", "mail3")),
    ],
)
def test_a_store_that_is_mounted_moves_and_says_whom_no_agent_keeps_from_it(
    config_file: Path, example: str, tmp_path: Path, mount: str, unfenced: tuple[str, ...]
) -> None:
    config_file.write_text(with_store(example, f"{{kind: shared, path: /srv/mail, timeout: 20s, mount: {mount}}}"))
    config = load(config_file, "mail1")
    assert isinstance(local.mail_store_of(config, tmp_path), MountedStore)
    policy = policy_of(config)
    assert (policy.store_moves, policy.store_ms, policy.store_unfenced) == (True, 20_000, unfenced)


def test_a_fence_that_is_waited_for_keeps_others_from_a_file_system_of_one_node(
    config_file: Path, example: str, fence_secret: Path
) -> None:
    text = uncommented(example, fence_secret).replace("required: false", "required: true")
    store = "{kind: shared, path: /srv/mail, mount: {source: /dev/san/mail, type: ext4, exclusive: fencing}}"
    config_file.write_text(with_store(text, store))
    policy = policy_of(load(config_file, "mail2"))
    assert policy.fence_required
    assert policy.store_unfenced == ("mail2", "mail3"), "only mail1 has an agent in the example"


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "mail-store"
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_a_program_moves_the_store_and_need_not_lie_on_the_arbiter(
    config_file: Path, example: str, tmp_path: Path, program: Path
) -> None:
    config_file.write_text(with_store(example, f"{{kind: hook, path: /srv/mail, program: {program}}}"))
    config = load(config_file, "mail1")
    assert isinstance(local.mail_store_of(config, tmp_path), StoreHook)
    assert policy_of(config).store_moves
    program.unlink()
    assert load(config_file, "arbiter").mail_store.moves
    assert "cannot be read: No such file" in str(refusal(config_file))


@pytest.mark.parametrize("interval_ms", [None, 1000, 60_000], ids=["everywhere", "mounted", "hook"])
def test_a_store_that_moves_is_looked_at(
    config_file: Path, example: str, tmp_path: Path, program: Path, interval_ms: int | None
) -> None:
    example = re.sub(r"tls: (implicit|starttls)", "tls: none", example)  # its CA is an empty file here
    config_file.write_text(example)
    if interval_ms == 60_000:
        config_file.write_text(with_store(example, f"{{kind: hook, path: /srv/mail, program: {program}}}"))
    elif interval_ms is not None:
        mount = '{source: "192.0.2.20:/mail", type: nfs4}'
        config_file.write_text(with_store(example, f"{{kind: shared, path: /srv/mail, mount: {mount}}}"))
    config = load(config_file, "mail2")
    moved = local.mail_store_of(config, tmp_path)
    schedule = Schedule(config, local.database_of(config), None, tmp_path, moved=moved)
    looked_at = {entry.name: entry.interval_ms for entry in schedule.of(None)}
    assert looked_at.get("store") == interval_ms


@pytest.mark.parametrize("mode", [0o775, 0o757])
def test_a_program_that_others_may_change_is_not_run_as_root(
    config_file: Path, example: str, program: Path, mode: int
) -> None:
    config_file.write_text(with_store(example, f"{{kind: hook, path: /srv/mail, program: {program}}}"))
    program.chmod(mode)
    assert f"others may change the program (owner {os.geteuid()}, mode {mode:04o})" in str(refusal(config_file))


def test_all_must_agree_whether_the_store_moves(config_file: Path, example: str, program: Path) -> None:
    digests = {membership_digest(load(config_file, "mail1"))}
    for store in (
        f"{{kind: hook, path: /srv/mail, program: {program}}}",
        '{kind: shared, path: /srv/mail, mount: {source: "192.0.2.20:/mail", type: nfs4}}',
        "{kind: shared, path: /srv/mail, mount: {source: /dev/san/mail, type: ext4, exclusive: device}}",
    ):
        config_file.write_text(with_store(example, store))
        digests.add(membership_digest(load(config_file, "mail1")))
    assert len(digests) == 4


# ---- the digest -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("cluster: lab", "cluster: lab2", False),
        ("priority: 90", "priority: 91", False),
        ("10.89.1.100/24", "10.89.1.101/24", False),
        ("ttl: 3s", "ttl: 4s", False),
        ("ttl: 3s", "ttl: 3000ms", True),
        ("interface: host0", "interface: eth0", True),
        ("path: /srv/mail", "path: /srv/store", True),
        ("max_lag: 5s", "max_lag: 6s", True),
    ],
)
def test_the_digest_covers_what_all_must_agree_on(
    config_file: Path, example: str, old: str, new: str, *, same: bool
) -> None:
    before = membership_digest(load(config_file, "mail1"))
    assert before == membership_digest(load(config_file, "arbiter"))
    config_file.write_text(example.replace(old, new, 1))
    assert (membership_digest(load(config_file, "mail1")) == before) is same


# ---- whatever the file ----------------------------------------------------------------------------------------------

WORDS = r"""{ } [ ] : - ? ' " | > &a *a <<: !!set !x % # ... --- 1e999 0x1f -0 .nan .inf null ~ 2001-01-01 true
    99999999999999999999999999 ::1 / 0.0.0.0/0 1s 999999999h 101% nodes mail1 arbiter ٣s"""
OTHERS = ["\n", "\t", " ", ": ", "- ", "\0", "\x1f", "\ufeff", "\x85", "\u2028", "\ud800"]
SNIPPETS = st.sampled_from(WORDS.split() + OTHERS)
EDITS = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 40), SNIPPETS | st.text(max_size=8)), min_size=1, max_size=4)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits=EDITS)
def test_an_edited_file_loads_or_is_refused(
    example: str, config_file: Path, edits: list[tuple[float, int, str]]
) -> None:
    text = example
    for where, removed, inserted in edits:
        start = int(where * len(text))
        text = text[:start] + inserted + text[start + removed :]
    config_file.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        assert isinstance(load(config_file, "mail1"), Config)
    except ConfigError as error:
        message = str(error)
        assert message.startswith(f"{config_file}:")
        assert "\n" not in message
        assert "lab-password" not in message


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200))
def test_any_bytes_are_refused(config_file: Path, content: bytes) -> None:
    config_file.write_bytes(content)
    refusal(config_file)
