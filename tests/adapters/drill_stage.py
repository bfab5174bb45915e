"""Drills as they come out: evidence and reports of one that passed, one that failed, one that never began its fault."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

from failoverd.config.drill import Objectives
from failoverd.drill.model import (
    Asked,
    BackupDone,
    Cast,
    ChangeOfPrimary,
    ChangePhase,
    ComparedTable,
    Consistency,
    Counter,
    Drill,
    Fault,
    Gap,
    LagPoint,
    LoadDone,
    Note,
    PhaseName,
    PhaseResult,
    Report,
    Second,
    Stage,
    Tally,
)
from failoverd.drill.report.figures import Evidence, report
from failoverd.drill.report.measured import epoch_ms

WANTED = Objectives()
BEGAN = "2026-11-28T02:00:00.000Z"
BEGAN_MS = epoch_ms(BEGAN)
DATA_NODES = ("mail1", "mail2", "mail3")
SOFTWARE = {"mail1": "0.1.0", "mail2": "0.1.0", "mail3": "0.1.0", "arbiter": "0.1.0"}
DIGEST = "8d7c3b0a5f1e9d24c6b7a8f90e1d2c3b4a5f6e7d8c9b0a1f2e3d4c5b6a7f8e9d"
ASKED = Asked(
    id="20261128-020000-primary-crash",
    scenario="primary-crash",
    by="anna",
    users=500,
    duration_s=1200,
    reason="the quarter's drill",
)
CAST = Cast(
    coordinator="mail2",
    primary="mail1",
    heir="mail2",
    target="mail1",
    data_nodes=DATA_NODES,
    arbiters=("arbiter",),
    term=7,
)
FAULT = Fault(
    node="mail2",
    words="mail1 has no power",
    inject=(("failoverd", "drill-power", "off", "mail1"),),
    undo=(("failoverd", "drill-power", "on", "mail1"),),
    gone=(("failoverd", "drill-power", "is-on", "mail1"),),
    limit_s=1800,
)
INJECTED_MS = 412_310
_TIMES = (
    (PhaseName.PREFLIGHT, 0, 1_840, {"data_nodes": 3, "worst_lag_ms": 12}),
    (PhaseName.BACKUP, 1_840, 347_200, {"node": "mail3", "bytes": 8_412_338_176}),
    (PhaseName.BASELINE, 347_200, 412_100, {"users": 500}),
    (PhaseName.INJECT, 412_100, 412_900, {"fault": "mail1 has no power", "injected_ms": INJECTED_MS}),
    (PhaseName.OBSERVE, 412_900, 420_500, {"primary": "mail2", "term": 8}),
    (PhaseName.LOAD, 420_500, 1_620_500, {"users": 500}),
    (PhaseName.RECOVER, 1_620_500, 1_641_000, {}),
    (PhaseName.REJOIN, 1_641_000, 1_668_400, {"node": "mail1"}),
    (PhaseName.CONSISTENCY, 1_668_400, 1_701_900, {"tables": 14}),
)
# As the coordinator leaves it: the phase that writes the report is under way, and the fault that is gone is forgotten.
PHASES = (
    *(
        PhaseResult(name=name, began_ms=began, ended_ms=ended, outcome="passed", facts=dict(facts))
        for name, began, ended, facts in _TIMES
    ),
    PhaseResult(name=PhaseName.REPORT, began_ms=1_701_900),
)
NOTES = (
    Note(at_ms=0, text="anna began primary-crash on mail2"),
    Note(at_ms=1_840, text="all four agents hold the lock; mail1 is primary in term 7"),
    Note(at_ms=INJECTED_MS, text="mail1 has no power"),
    Note(at_ms=415_090, text="mail2 is primary in term 8"),
    Note(at_ms=1_641_000, text="mail1 has power again"),
)
DRILL = Drill(
    asked=ASKED,
    cluster="mail-berlin",
    began=BEGAN,
    cast=CAST,
    phases=PHASES,
    notes=NOTES,
    outcome="passed",
    ended="2026-11-28T02:28:22.200Z",
    clean=True,
)


def _step(name: str, node: str, began: int, ended: int | None, code: str = "") -> ChangePhase:
    outcome = "under-way" if ended is None else "failed" if code else "succeeded"
    return ChangePhase(
        name=name,
        node=node,
        began_ms=INJECTED_MS + began,
        ended_ms=None if ended is None else INJECTED_MS + ended,
        outcome=outcome,
        code=code,
    )


CHANGE = ChangeOfPrimary(
    term=8,
    kind="failover",
    previous="mail1",
    holder="mail2",
    rule="primary-lost-by-quorum",
    reason="a majority of observers cannot use mail1: BLK_UNREACHABLE",
    began_ms=INJECTED_MS + 40,
    ended_ms=INJECTED_MS + 2_790,
    outage_ms=2_650,
    phases=(
        _step("lease-runs-out", "mail1", 40, 2_350),
        _step("take-term", "mail2", 2_350, 2_370),
        _step("become-source", "mail2", 2_370, 2_440),
        _step("attach-replica", "mail2", 2_440, 2_700, "STEP_TIMEOUT"),
        _step("make-writable", "mail2", 2_440, 2_520),
        _step("open-gate", "mail2", 2_520, 2_550),
        _step("add-vip", "mail2", 2_550, 2_690),
        _step("follow", "mail3", 2_700, 2_790),
    ),
)
GAPS = (
    Gap(protocol="imap", from_ms=BEGAN_MS + INJECTED_MS + 20, until_ms=BEGAN_MS + INJECTED_MS + 2_740),
    Gap(protocol="smtp", from_ms=BEGAN_MS + INJECTED_MS + 60, until_ms=BEGAN_MS + INJECTED_MS + 2_980),
)
GENERATOR = LoadDone(
    logins=1_184,
    submitted=10_214,
    appended=10_187,
    gaps=GAPS,
    late_p50_ms=0.4,
    late_p99_ms=6.2,
    late_max_ms=41.0,
    cpu_s=612.4,
    rss_max_bytes=187_432_960,
    most_sessions=500,
)
_BOUNDS = (2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096, 16_384)


def _stage(at_ms: int) -> Stage:
    return (
        "baseline" if at_ms < INJECTED_MS else "fault" if at_ms < 420_500 else "load" if at_ms < 1_620_500 else "ending"
    )


def _latency(rng: random.Random, count: int, usual_ms: float) -> dict[str, int]:
    found: dict[str, int] = {}
    for _ in range(count):
        value = rng.lognormvariate(0, 0.55) * usual_ms
        bound = str(next((bound for bound in _BOUNDS if value <= bound), _BOUNDS[-1]))
        found[bound] = found.get(bound, 0) + 1
    return found


def _tally(rng: random.Random, mean: float, since_ms: int, usual_ms: float) -> Tally:
    count = max(0, round(rng.gauss(mean, mean**0.5)))
    if 0 <= since_ms < 3_000:  # nobody serves
        return Tally(failed=round(count * 0.8), refused=round(count * 0.2), beats_failed=10)
    slow = 6.0 if 3_000 <= since_ms < 8_000 else 1.0  # all come back at once
    return Tally(ok=count, latency=_latency(rng, count, usual_ms * slow), beats_ok=10)


def seconds(until_ms: int = 1_660_000, seed: int = 6) -> tuple[Second, ...]:
    """A minute of ramp and baseline, the fault, twenty minutes of load, the way home."""
    rng = random.Random(seed)  # noqa: S311 - a story, no secret
    made = []
    for at_ms in range(352_000, until_ms, 1_000):
        users = min(500, (at_ms - 352_000) // 100) if at_ms < 1_650_000 else max(0, 500 - (at_ms - 1_650_000) // 20)
        since_ms = at_ms + 1_000 - INJECTED_MS
        share = users / 500
        made.append(
            Second(
                at_ms=BEGAN_MS + at_ms,
                stage=_stage(at_ms + 999),
                sessions=0 if 0 <= since_ms < 3_000 else min(users, since_ms // 12) if 0 <= since_ms < 9_000 else users,
                users=users,
                imap=_tally(rng, 58 * share, since_ms, 11.0),
                smtp=_tally(rng, 8.3 * share, since_ms, 34.0),
                late_ms=rng.expovariate(0.5),
            )
        )
    return tuple(made)


def lag() -> tuple[LagPoint, ...]:
    """Of the three data nodes, as the primary of the time saw them."""
    rng = random.Random(7)  # noqa: S311 - likewise
    made = []
    for at_ms in range(0, 1_700_000, 5_000):
        after = at_ms - INJECTED_MS
        spike = 1_400 if 1_655_000 <= at_ms < 1_668_000 else 0
        made.append(
            LagPoint(
                at_ms=at_ms,
                lag_ms={
                    "mail1": None if at_ms < 1_655_000 else spike + rng.randrange(9),
                    "mail2": rng.randrange(14) if after < 0 else None,
                    "mail3": None if 0 <= after < 3_000 else rng.randrange(25),
                },
            )
        )
    return tuple(made)


def _digest(name: str) -> str:
    return random.Random(name).randbytes(32).hex()  # noqa: S311 - likewise


_TABLES = ("mail.accounts", "mail.aliases", "mail.domains", "mail.quota", "mail.sieve", "failoverd.journal")
TABLES = tuple(
    ComparedTable(name=name, rows=37 * len(name) ** 2, digests=dict.fromkeys(DATA_NODES, _digest(name)), same=True)
    for name in _TABLES
)
CONSISTENCY = Consistency(
    gtid="0-1-1184223",
    tables=TABLES,
    mailboxes=2_000,
    messages=41_877,
    mailboxes_differ=(),
    acknowledged=20_401,
    lost=(),
    lost_count=0,
    twice=(),
    twice_count=0,
)
BACKUP = BackupDone(
    node="mail3",
    kind="full",
    directory="/var/backups/failoverd/20261128-020000-primary-crash",
    bytes=8_412_338_176,
    sha256=_digest("manifest"),
    gtid="0-1-1180012",
    server="10.11.11-MariaDB",
    tables=214,
    made_s=214.2,
    prepared_s=88.1,
    started_s=6.4,
)
COUNTERS = (
    Counter(name="logins", ours=1_184, servers=1_186),
    Counter(name="messages submitted", ours=10_214, servers=10_209),
    Counter(name="messages appended", ours=10_187, servers=10_187),
)


def audit(count: int = 60) -> tuple[dict[str, Any], ...]:
    """What all nodes noted in the drill's time."""
    return tuple(
        {
            "v": 1,
            "seq": 400 + number,
            "time": f"2026-11-28T02:06:{52 + number // 20:02}.{number % 20 * 50:03}Z",
            "node": DATA_NODES[number % 3],
            "term": 8,
            "kind": ("decision", "step", "step-ended")[number % 3],
            "text": "take-over: a majority of observers has seen the lease run out",
        }
        for number in range(count)
    )


def passed() -> Evidence:
    """A primary-crash of full length, as one hopes for it."""
    return Evidence(
        drill=DRILL,
        seconds=seconds(),
        generator=GENERATOR,
        change=CHANGE,
        lag=lag(),
        consistency=CONSISTENCY,
        backup=BACKUP,
        counters=COUNTERS,
        audit=audit(),
        software=SOFTWARE,
        config_digest=DIGEST,
    )


def failed() -> Evidence:
    """A message is lost, a table differs, the outage was too long, and the old primary did not come home."""
    well = passed()
    reason = "mail1 is not a replica after 600 s: NEEDS_REJOIN: it holds transactions that mail2 lacks"
    code = "DRILL_NOT_HOME"
    phases = tuple(
        replace(phase, outcome="failed", code=code, reason=reason) if phase.name == PhaseName.REJOIN else phase
        for phase in PHASES
    )
    long = tuple(replace(gap, until_ms=gap.until_ms + 11_400) for gap in GAPS)
    differs = replace(TABLES[1], digests={**TABLES[1].digests, "mail1": _digest("other")}, same=False)
    return replace(
        well,
        drill=replace(
            DRILL,
            asked=replace(ASKED, id="20260829-020000-primary-crash"),
            phases=phases,
            outcome="failed",
            code=code,
            reason=reason,
            fault=FAULT,
            clean=False,
        ),
        generator=replace(GENERATOR, gaps=long),
        consistency=replace(
            CONSISTENCY,
            tables=(TABLES[0], differs, *TABLES[2:]),
            mailboxes_differ=("drill0007@example.org INBOX",),
            lost=("<20260829.000417.drill@mail-berlin>",),
            lost_count=1,
        ),
        counters=(replace(COUNTERS[0], ours=1_400), *COUNTERS[1:]),
    )


def aborted() -> Evidence:
    """Somebody ended it while the backup was made: nearly nothing is known."""
    reason = "bert ended it: “the backup takes the disk's breath away”"
    return Evidence(
        drill=replace(
            DRILL,
            asked=replace(ASKED, id="20260828-020000-primary-crash", scheduled=True, by="failoverd", reason=""),
            phases=(PHASES[0], replace(PHASES[1], outcome="aborted", code="DRILL_ABORTED", reason=reason)),
            notes=NOTES[:2],
            outcome="aborted",
            code="DRILL_ABORTED",
            reason=reason,
            ended="2026-11-28T02:05:47.200Z",
        ),
        software=SOFTWARE,
        config_digest=DIGEST,
    )


HOSTILE_TEXT = (
    "<script>document.title='owned'</script><img src=x onerror=alert(1)>\"'`&amp;</style></title></table>"
    "\u202egpj.exe\u2066\x00\x1b[2J"
)


def hostile(words: str = HOSTILE_TEXT) -> Report:
    """A report each of whose texts was written by somebody who means harm."""

    def poisoned(value: Any) -> Any:
        match value:
            case str():
                return words
            case dict():
                return {f"{key} {words}": poisoned(one) for key, one in value.items()}
            case tuple():
                return tuple(poisoned(one) for one in value)
        return value

    whole = report(failed(), WANTED)
    drill, change, found = whole.drill, whole.change, whole.consistency
    assert drill.fault is not None
    assert change is not None
    assert found is not None

    def texts(value: Any, *names: str) -> Any:
        return replace(value, **{name: poisoned(getattr(value, name)) for name in names})

    return replace(
        whole,
        software=poisoned(whole.software),
        config_digest=words,
        audit=tuple(poisoned(record) for record in whole.audit[:3]),
        advice=tuple(texts(one, "code", "node", "reason", "page") for one in whole.advice),
        objectives=tuple(texts(one, "name", "unit") for one in whole.objectives[:2]) + whole.objectives[2:],
        backup=texts(BACKUP, "node", "directory", "sha256", "gtid", "server"),
        counters=tuple(texts(one, "name") for one in whole.counters),
        consistency=replace(
            texts(found, "gtid", "lost", "mailboxes_differ"),
            tables=tuple(texts(one, "name", "digests") for one in found.tables),
        ),
        lag=tuple(texts(point, "lag_ms") for point in whole.lag[:50]),
        change=replace(
            texts(change, "kind", "previous", "holder", "rule", "reason"),
            phases=tuple(texts(one, "name", "node", "outcome", "code") for one in change.phases),
        ),
        drill=replace(
            texts(drill, "cluster", "code", "reason", "ended"),
            asked=texts(drill.asked, "id", "scenario", "by", "reason"),
            fault=texts(drill.fault, "words", "node"),
            notes=tuple(texts(note, "text", "code") for note in drill.notes),
            phases=tuple(texts(phase, "code", "reason", "facts") for phase in drill.phases),
        ),
    )


def reports() -> dict[str, Report]:
    """Each by its name."""
    return {
        "passed": report(passed(), WANTED),
        "failed": report(failed(), WANTED),
        "aborted": report(aborted(), WANTED),
        "hostile": hostile(),
    }
