"""Every code that a node can find has a severity, a meaning, a fix and a page."""

from __future__ import annotations

from pathlib import Path

import pytest

from failoverd import credentials, fencing, notify, probes, refusals
from failoverd.core import repair
from failoverd.core.findings import FINDINGS, Severity
from failoverd.runtime import fitness, host

PAGES = Path(__file__).parents[2] / "runbooks/codes"
# What stands in a node's findings or in `refused`: settings and so on, the probes (the database's codes are those of
# its dialect, which is asked by two of them), the gate's look, the host.
FROM_THE_DATABASE = {"DB_REFUSED", "DB_HUNG", "DB_TIMEOUT", "DB_LOST", "DB_AUTH", "DB_DENIED", "DB_CONNECTIONS", "DB_SCHEMA", "DB_SQL"}  # fmt: skip  # noqa: E501 - one list
CODES = sorted(
    {
        *FINDINGS,
        *repair.CODES,
        *probes.CODES,
        *fencing.CODES,
        *host.CODES,
        *notify.CODES,
        *credentials.CODES,
        *refusals.CODES,
        *FROM_THE_DATABASE,
        "GATE_CHANGED",
        "NEEDS_REJOIN",
        "RPO_UNPROVEN",
        "QUEUE_WAITING",
    }
)


@pytest.mark.parametrize("code", CODES)
def test_every_code_has_severity_meaning_fix_and_page(code: str) -> None:
    known = fitness.about(code)
    assert isinstance(known.severity, Severity)
    assert known.meaning
    assert known.fix
    assert (PAGES / f"{code}.md").is_file()
