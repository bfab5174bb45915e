"""The registry: every parser that reads from outside, one row each. A new one is one row in one of these files."""

from __future__ import annotations

import targets_audit
import targets_config
import targets_copies
import targets_ctl
import targets_drill
import targets_etcd
import targets_helper
import targets_http
import targets_mail
import targets_messages
import targets_programs
import targets_setup
import targets_sql
import targets_store

FILES = (
    targets_config,
    targets_messages,
    targets_store,
    targets_etcd,
    targets_http,
    targets_mail,
    targets_sql,
    targets_programs,
    targets_audit,
    targets_drill,
    targets_ctl,
    targets_copies,
    targets_setup,
    targets_helper,
)
TARGETS: dict[str, targets_config.Target] = {target.name: target for file in FILES for target in file.TARGETS}
