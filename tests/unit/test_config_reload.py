"""What a reload puts in force: each key of the configuration has been thought of, and what comes of two holds."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
import yaml
from jsonschema import Draft202012Validator
from pydantic_core import PydanticCustomError

from failoverd.config import Config, load, membership_digest
from failoverd.config.plain import duration, keys_of, plain
from failoverd.config.reload import (
    KEYS,
    RELOADED,
    SAME_EVERYWHERE,
    differences,
    handling,
    in_words,
    merged,
    same_everywhere,
)
from failoverd.config.schema import schema
from failoverd.config.values import duration_ms
from failoverd.core import reconfigure
from failoverd.runtime.thresholds import policy_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

EVERY_KEY = sorted(keys_of(Config))


def test_of_every_key_it_is_known_whether_a_reload_applies_it() -> None:
    unknown = [key for key in EVERY_KEY if handling(key) == "nothing is known of reloading it"]
    assert not unknown, "a line in failoverd/config/reload.py for each"


@pytest.mark.parametrize("key", sorted({*KEYS, *SAME_EVERYWHERE}))
def test_no_line_is_about_a_key_that_is_none(key: str) -> None:
    assert any(known == key or known.startswith(f"{key}.") for known in EVERY_KEY)


@pytest.fixture
def two(config_file: Path, example: str) -> Callable[..., tuple[Config, Config]]:
    """Load the example, and the example with texts replaced."""

    def load_both(*edits: tuple[str, str]) -> tuple[Config, Config]:
        config_file.write_text(example)
        old, text = load(config_file, "mail1"), example
        for before, after in edits:
            text, count = re.subn(before, after, text)
            assert count, before
        config_file.write_text(text)
        return old, load(config_file, "mail1")

    return load_both


def test_what_is_the_same_has_no_differences(two: Callable[..., tuple[Config, Config]]) -> None:
    assert differences(*two()) == ()


def test_thresholds_are_reloaded_and_what_nodes_agree_on_is_not(two: Callable[..., tuple[Config, Config]]) -> None:
    old, new = two(("max_lag: 5s", "max_lag: 2s"), ("ttl: 3s", "ttl: 4s"), ("lag_alarm: 5s", "lag_alarm: 3s"))
    found = {each.key: each for each in differences(old, new)}
    assert set(found) == {"database.max_lag", "database.lag_alarm", "lease.ttl"}
    assert (found["database.max_lag"].old, found["database.max_lag"].new) == ("5s", "2s")
    assert found["database.max_lag"].restart == RELOADED
    assert found["lease.ttl"].restart
    assert (found["lease.ttl"].same_everywhere, found["database.max_lag"].same_everywhere) == (True, False)
    after = merged(old, new)
    assert (after.database.max_lag_ms, after.lease.ttl_ms) == (2000, 3000)
    assert after.this == old.this
    assert membership_digest(after) == membership_digest(old)


def test_what_two_files_come_to_is_held_to_the_relations(two: Callable[..., tuple[Config, Config]]) -> None:
    """Each file is right; the new lag_warn with the old heartbeat is not."""
    old, new = two(("heartbeat: 500ms", "heartbeat: 200ms"), ("lag_warn: 500ms", "lag_warn: 300ms"))
    with pytest.raises(PydanticCustomError) as refused:
        merged(old, new)
    assert in_words(refused.value) == (
        "database.lag_warn: is below heartbeat = 500 ms, and no lag that small can be measured; "
        "allowed: heartbeat <= lag_warn"
    )


def test_a_service_s_probe_is_reloaded_with_its_secret_and_the_secret_is_not_shown(
    two: Callable[..., tuple[Config, Config]], tmp_path: Path
) -> None:
    secret = tmp_path / "other"
    secret.write_text("another-lab-password")
    secret.chmod(0o600)
    old, new = two((r"password_file: \S+/canary", f"password_file: {secret}"))
    (found,) = differences(old, new)
    assert (found.key, found.old, found.new, found.restart) == ("services.imap.password_file", "***", "***", RELOADED)
    after = merged(old, new)
    assert after.services["imap"] == new.services["imap"] != old.services["imap"]


def test_the_core_takes_whatever_a_reload_can_come_to(two: Callable[..., tuple[Config, Config]]) -> None:
    old, new = two(
        ("max_lag: 5s", "max_lag: 2s"),
        ("failures: 3", "failures: 4"),
        ("interval: 1s", "interval: 2s"),
        ("patience: 5s", "patience: 6s"),
        ("hold_off: 10s", "hold_off: 20s"),
        ("automatic: true", "automatic: false"),
        ("heartbeat: 500ms", "heartbeat: 400ms"),
        ("ttl: 3s", "ttl: 4s"),
    )
    before, after = policy_of(old), policy_of(merged(old, new))
    assert reconfigure.refusal(before, after) == ""
    assert {"max_lag_ms", "services", "steady_ms", "hold_off_ms", "rejoin_automatic"} <= set(
        reconfigure.differences(before, after)
    )
    assert reconfigure.refusal(before, policy_of(new)) == "ttl_ms, heartbeat_ms: only at a start"


def test_what_must_be_the_same_everywhere_is_what_the_digest_is_of(two: Callable[..., tuple[Config, Config]]) -> None:
    for edit, key in (
        (("cluster: lab", "cluster: other"), "cluster"),
        (("margin: 300ms", "margin: 400ms"), "lease.margin"),
        (("priority: 100", "priority: 90"), "nodes"),
    ):
        old, new = two(edit)
        assert key in [each.key for each in differences(old, new)]
        assert same_everywhere(key)
        assert membership_digest(old) != membership_digest(new)


# ---- as it is shown ---------------------------------------------------------------------------------------------


def test_what_is_shown_could_be_loaded_and_has_no_secret(config_file: Path, example: str) -> None:
    config = load(config_file, "mail1")
    shown = plain(config)
    text = yaml.safe_dump(shown)
    assert "lab-password" not in text
    assert shown["lease"] == {"ttl": "3s", "renew": "500ms", "margin": "300ms", "demote_budget": "1s"}
    assert shown["host"]["disk_min_free"] == "5%"  # type: ignore[index]  # a section is a mapping
    assert shown["services"]["imap"]["password_file"] == "***"  # type: ignore[index]
    assert shown["rpo"]["go_on_after"] == "never"  # type: ignore[index]
    given = yaml.safe_load(example)
    assert set(given) <= set(shown)


@pytest.mark.parametrize("text", ["3s", "500ms", "1m", "90s", "24h", "1500ms"])
def test_a_duration_is_shown_as_it_is_read(text: str) -> None:
    assert duration(duration_ms(text)) == text


def test_the_schema_takes_the_example_and_refuses_what_the_loader_refuses(example: str) -> None:
    made = schema()
    Draft202012Validator.check_schema(made)
    validator, given = Draft202012Validator(made), yaml.safe_load(example)
    assert [error.message for error in validator.iter_errors(given)] == []
    for wrong in (
        {"lease": {**given["lease"], "ttl": 3}},
        {"lease": {**given["lease"], "tttl": "3s"}},
        {"rpo": {"go_on_after": "sometimes"}},
        {"cluster": None},
    ):
        assert list(validator.iter_errors({**given, **wrong})), wrong
