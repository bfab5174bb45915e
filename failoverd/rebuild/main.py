"""`failoverd rebuild --from NODE`: makes this node's database anew from another node's. By the daemon, or a person.

    refuse ── save ahead ── freeze ── receive ── prepare ── │ ── stop ── save ahead ── move out ── move in ── start
              no data of this node are touched              │  PREPARED: from here only forward
                                                            └─ what interrupts it: run it again

*Freeze*: from then on this node acknowledges nothing, and the copy must hold all that the primary had by then. So it
holds all that this node has acknowledged, and its word in an election stays true. Where somebody has started its
receiver again meanwhile, the copy is outdated, and made anew.

It never runs against the lease: not on the node that holds it, not where the database is writable. Afterwards the node
is a read-only server at the backup's position; failoverd makes it follow the primary, as any server that came up.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from failoverd.core.model import Outcome
from failoverd.databases.connection import Failure
from failoverd.databases.mariadb_facts import by_domain, by_server
from failoverd.rebuild import RebuildError, ahead, local, private, programs, switch
from failoverd.rebuild.journal import Entry, Journal, Stage, sync_file_system
from failoverd.rebuild.progress import Progress
from failoverd.rebuild.transfer import Others
from failoverd.rebuild.watch import ended_without_primary
from failoverd.rebuild_files import REQUEST
from failoverd.runtime.clock import BootClock
from failoverd.runtime.local import database_of
from failoverd.runtime.persist import LeaseFile, boot_id

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from pathlib import Path

    from failoverd.config import Config
    from failoverd.core.gtid import GtidSet
    from failoverd.rebuild.local import Standing

ANSWER_S = 300  # for the server to answer after its start
FREEZE_MS = 8000
DONOR_S = 300  # for the donor to apply what the primary had when this node stopped receiving
REFUSED = 3
RUNS = 5  # killed while they received or prepared: the next would be as well
UNTOUCHED = (Stage.RECEIVING, Stage.PREPARED)
_VERSION = re.compile(r"(\d+\.\d+)\.\d+-MariaDB")
# Codes of a refusal before anything was begun.
_REFUSALS = frozenset({
    "REBUILD_IS_PRIMARY", "REBUILD_LOCAL_DATABASE", "REBUILD_RUNNING", "REBUILD_DATA", "REBUILD_NO_PRIMARY",
    "REBUILD_NO_DONOR", "REBUILD_STRANGER", "REBUILD_FROM_PRIMARY", "REBUILD_DONOR_UNFIT", "REBUILD_BUSY",
    "REBUILD_VERSION", "REBUILD_NO_SPACE", "REBUILD_DIALECT", "REBUILD_STOPPED", "AHEAD_NO_BINLOG", "AHEAD_UNREADABLE",
})  # fmt: skip


def main(config: Config, options: argparse.Namespace) -> int:
    """Do it. Exit codes: 0 done, 1 failed (run it again), 3 refused."""
    asked = _request(options)
    progress = Progress(options.runtime, asked.get("request", ""))
    try:
        try:
            Rebuild(config, options, progress).run()
        except OSError as error:
            raise RebuildError("REBUILD_STORAGE", f"{error.filename}: {error.strerror}") from error
    except RebuildError as error:
        progress.say("failed", code=error.code, reason=error.reason)
        sys.stderr.write(f"failoverd rebuild: {error}\n")
        return REFUSED if error.code in _REFUSALS else 1
    return 0


def _request(options: argparse.Namespace) -> dict[str, str]:
    """With --requested: take the donor from what the daemon has asked for, if it has since the boot."""
    if not options.requested:
        return {}
    try:
        asked: dict[str, str] = json.loads((options.runtime / REQUEST).read_text())
    except FileNotFoundError:
        return {}
    options.donor, options.from_primary = asked["donor"] or None, bool(asked["from_primary"])
    return asked


class Rebuild:
    """One run."""

    def __init__(self, config: Config, options: argparse.Namespace, progress: Progress) -> None:
        self._progress = progress
        self._say = progress.say
        self._config = config
        self._options = options
        self._node = config.this.name
        self._data = config.rebuild.data
        self._index = config.rebuild.data / f"{config.rebuild.binlog}.index"
        self._programs = programs.Programs(options.programs)
        self._others = Others(config, progress)
        self._journal = Journal(options.state / "rebuild")
        self._runs = 1  # for this request, with this one
        self._doubtful_since = ""  # after this, the primary may have used the same numbers for other transactions

    def run(self) -> None:
        """Begin, or finish what an earlier run has begun. Raises RebuildError."""
        self._progress.take()
        self._journal.take()
        self._refuse_on_arbiter()
        work = switch.work_directory(self._data)
        saved = self._journal.ended(self._progress.request)
        if saved is not None:
            self._say("done", ahead=saved)
            return
        entry = self._journal.read()
        self._progress.touched = entry is not None and entry.stage not in UNTOUCHED
        if entry is None or entry.stage is Stage.RECEIVING:
            self._count(entry, work)
            self._refuse_on_primary()
            entry = self._receive(work)
        else:
            self._options.donor = entry.donor
            self._progress.request = self._progress.request or entry.request  # whoever asks has what was begun before
            entry = replace(entry, request=self._progress.request)
            self._say("resume", at=entry.stage, donor=entry.donor)
        if entry.stage is Stage.PREPARED:
            entry = self._stop_or_receive_anew(entry, work)
        if entry.stage is Stage.MOVING_OUT:
            switch.move_out(self._data, work)
            entry = self._reached(replace(entry, stage=Stage.MOVING_IN))
        if entry.stage is Stage.MOVING_IN:
            switch.move_in(self._data, work)
            entry = self._reached(replace(entry, stage=Stage.IN_PLACE))
        self._start()
        self._say("home", ahead=list(entry.ahead))  # the old data may take a while to be removed
        if entry.keep_old:
            switch.keep_old(work)
        elif work.exists():
            shutil.rmtree(work)
        self._journal.end(entry)
        old = str(work / "old") if entry.keep_old else None
        self._say("done", position=entry.position, ahead=list(entry.ahead), old=old)

    def _reached(self, entry: Entry) -> Entry:
        self._journal.write(entry)
        self._progress.touched = entry.stage not in UNTOUCHED
        self._say(entry.stage)
        return entry

    # ---- refusals ---------------------------------------------------------------------------------------------------

    def _refuse_on_arbiter(self) -> None:
        if self._config.members[self._node].kind != "data":
            raise RebuildError("REBUILD_DATA", f"{self._node} is no data node")
        if self._config.database.dialect != "mariadb":
            raise RebuildError("REBUILD_DIALECT", f"database.dialect is {self._config.database.dialect}")
        if self._options.donor not in (None, *self._others.names()):
            known = ", ".join(self._others.names())
            raise RebuildError("REBUILD_NO_DONOR", f"{self._options.donor} is no other data node; there are {known}")

    def _refuse_on_primary(self) -> None:
        """Also looked at again right before the server is stopped: the role may have come here meanwhile."""
        noted = LeaseFile(self._options.runtime, boot_id()).noted()
        if noted is not None and noted.held.deadline_ms > BootClock().now_ms():
            raise RebuildError("REBUILD_IS_PRIMARY", f"{self._node} holds the lease of term {noted.held.term}")
        try:
            if local.is_writable(self._config.database):
                raise RebuildError("REBUILD_IS_PRIMARY", f"the database of {self._node} is writable")
        except Failure as failure:
            if failure.code != "DB_REFUSED" or switch.server_runs(self._data):
                raise RebuildError("REBUILD_LOCAL_DATABASE", f"stop it, and begin again: {failure}") from None

    def _refuse_elsewhere(self) -> None:
        """The server that answers here has its data where the configuration says."""
        with contextlib.suppress(Failure):  # none answers: there is nothing to be asked
            data = local.standing(self._config.database).data
            if os.path.realpath(data) != os.path.realpath(self._data):
                raise RebuildError("REBUILD_DATA", f"the server's data lie in {data}, and rebuild.data is {self._data}")

    def _fit_donor(self) -> tuple[str, str]:
        """Return the donor and the primary, where the first is a healthy replica of the second."""
        donor = self._options.donor
        if donor is None:
            raise RebuildError("REBUILD_NO_DONOR", "there is nothing to be finished: name a donor, --from NODE")
        first = self._others.standing(donor)  # before the primary's: what the donor has, the primary had before
        primary, standing = self._others.primary()
        if donor != primary:
            if first.replicates_from != self._config.members[primary].address:
                raise RebuildError("REBUILD_DONOR_UNFIT", f"{donor} does not replicate from {primary}")
            if not _holds(standing.binlog_state, first.binlog_state):
                raise RebuildError("REBUILD_DONOR_UNFIT", f"{donor} holds what {primary} lacks: {first.binlog_state}")
        elif not self._options.from_primary:
            raise RebuildError("REBUILD_FROM_PRIMARY", f"{donor} is the primary: name a replica, or add --from-primary")
        printed = self._programs.run("mariadb-backup", "--version", code="REBUILD_VERSION")
        printed += self._programs.run("mariadbd", "--version", code="REBUILD_VERSION")
        here, there = set(_VERSION.findall(printed)), set(_VERSION.findall(first.version))
        if here != there:
            raise RebuildError(
                "REBUILD_VERSION", f"{donor} has {first.version}, here is {', '.join(sorted(here)) or printed.strip()}"
            )
        return donor, primary

    # ---- before anything is touched ----------------------------------------------------------------------------------

    def _receive(self, work: Path) -> Entry:
        self._refuse_elsewhere()
        donor, primary = self._fit_donor()
        self._doubtful_since = local.doubtful_since(self._config.database)
        saved = self._save_ahead((), self._others.primary())
        new = switch.begin_anew(work, self._data)
        request = self._progress.request
        self._reached(Entry(Stage.RECEIVING, donor, request=request, runs=self._runs))
        from_primary = self._options.from_primary and donor == primary
        try:
            with ended_without_primary(self._others.primary):
                self._freeze()
                floor = floor_of(self._others, self._say, donor=donor, primary=primary)
                before, after = self._others.receive(donor, new, self._programs, from_primary=from_primary)
                self._say("prepare")
                position = private.prepare(new, self._programs)
                _refuse_short(position, floor)
                private.own(new, self._data)
                state = private.state(position, before, after)
                private.start_once(new, work, self._config, self._programs, position=position, binlog_state=state)
                private.own(new, self._data)
                sync_file_system(work)
        except RebuildError:
            self._discard(work)
            raise
        keep_old = self._options.keep_old
        return self._reached(Entry(Stage.PREPARED, donor, primary, position, state, saved, keep_old, request))

    def _count(self, entry: Entry | None, work: Path) -> None:
        """One that says why it ends leaves no entry. systemd starts a killed one again: not for ever."""
        if entry is None or not entry.request or entry.request != self._progress.request:
            return
        if entry.runs >= RUNS:
            self._discard(work)
            words = f"{entry.runs} runs were killed before the copy was whole: look at journalctl -u failoverd-rebuild"
            raise RebuildError("REBUILD_KILLED", words)
        self._runs = entry.runs + 1

    def _discard(self, work: Path) -> None:
        """Give up what has been received: it may be large."""
        if work.exists():
            shutil.rmtree(work)
        self._journal.clear()

    def _freeze(self) -> None:
        """Acknowledge nothing any more. A server that does not run acknowledges nothing, either."""
        database = database_of(self._config)
        try:
            stopped = database.freeze(deadline_ms=FREEZE_MS)
        finally:
            database.cancel()
        if stopped.outcome is not Outcome.SUCCEEDED and stopped.code != "DB_REFUSED":
            raise RebuildError("REBUILD_LOCAL_DATABASE", f"its receiver does not stop: {stopped.code}")

    def _save_ahead(self, saved: tuple[str, ...], primary: tuple[str, Standing]) -> tuple[str, ...]:
        """Save what this node has and the primary lacks, unless all of it is in `saved` already."""
        if not switch.contents(self._data):
            self._say("ahead", transactions=0, reason="there are no data here")
            return saved
        if self._options.without_ahead:
            self._say("ahead", reason="left out: --without-ahead")
            return saved
        name, standing = primary
        found = ahead.find(self._index, ahead.covered_by(standing.binlog_state, self._options.save_since or ""))
        if not found.ranges and self._doubtful_since:
            found = ahead.find(self._index, ahead.covered_by(standing.binlog_state, self._doubtful_since))
        if not found.ranges:
            self._say("ahead", transactions=0)
            return saved
        if any(_gtids(directory) == str(found.gtids) for directory in saved):
            return saved
        directory = ahead.save(found, self._config.rebuild.ahead, self._programs, node=self._node, primary=name)
        summary = json.loads((directory / "summary.json").read_text())
        self._say(
            "ahead", saved=str(directory), **{key: summary[key] for key in ("transactions", "ddl", "gtids", "tables")}
        )
        return (*saved, str(directory))

    # ---- from here only forward --------------------------------------------------------------------------------------

    def _stop_or_receive_anew(self, entry: Entry, work: Path) -> Entry:
        """A copy that has become outdated is made anew, once: then somebody starts the receiver again and again."""
        self._refuse_on_primary()
        try:
            return self._stop(entry, work)
        except RebuildError as error:
            if error.code != "REBUILD_OUTDATED":
                raise
            self._say("outdated", reason=error.reason)
        entry = self._receive(work)
        self._refuse_on_primary()
        return self._stop(entry, work)

    def _stop(self, entry: Entry, work: Path) -> Entry:
        unit = self._config.database.unit
        self._freeze()
        self._journal.hold()
        try:
            self._programs.run("systemctl", "stop", unit, code="REBUILD_UNIT")
            self._refuse_while_it_runs()
            self._refuse_on_primary()  # a promotion that began right before the stop: these data may be the newest
            primary = self._others.primary()
            self._refuse_outdated(entry, primary)
            saved = self._save_ahead(entry.ahead, primary)  # it may have been written to meanwhile
        except RebuildError as error:
            self._journal.release()
            self._programs.run("systemctl", "start", unit, code="REBUILD_UNIT")
            if error.code == "REBUILD_OUTDATED":
                self._discard(work)
            raise
        return self._reached(replace(entry, stage=Stage.MOVING_OUT, ahead=saved))

    def _refuse_outdated(self, entry: Entry, primary: tuple[str, Standing]) -> None:
        """Compare the copy with the primary and with this node as they are now: it may have been made long ago."""
        name, standing = primary
        if not _holds(standing.binlog_state, entry.state):
            raise RebuildError("REBUILD_OUTDATED", f"the copy holds what {name} lacks: {entry.state}")
        if self._options.without_ahead or not switch.contents(self._data):
            return
        newer = ahead.newer(self._index, ahead.covered_by(standing.binlog_state), by_domain(entry.position))
        if newer is not None:
            words = f"the copy ends at {entry.position}, and this node has received {newer.source}-{newer.number} since"
            raise RebuildError("REBUILD_OUTDATED", words)

    def _refuse_while_it_runs(self) -> None:
        if switch.server_runs(self._data):
            unit = self._config.database.unit
            raise RebuildError("REBUILD_UNIT", f"{unit} is stopped, and a server still has {self._data} open")

    def _start(self) -> None:
        unit = self._config.database.unit
        self._journal.release()
        self._say("start")
        self._programs.run("systemctl", "start", unit, code="REBUILD_UNIT")
        end = time.monotonic() + ANSWER_S
        while True:
            try:
                local.standing(self._config.database)
            except Failure as failure:
                if time.monotonic() > end:
                    raise RebuildError("REBUILD_UNIT", f"{unit} does not answer after its start: {failure}") from None
                time.sleep(0.2)
            else:
                return


def _holds(more: str, less: str) -> bool:
    """Whether a server with the gtid_binlog_state `more` has all that one with `less` has."""
    return by_server(more).covers(by_server(less))


def floor_of(others: Others, say: Callable[..., None], *, donor: str, primary: str) -> GtidSet:
    """Return what `primary` has now: all that this node has acknowledged. Waits until the donor has it, too.

    Another primary than the one before the freeze may have been forced, and lack what this node acknowledged. Raises
    RebuildError.
    """
    now, standing = others.primary()
    if now != primary:
        raise RebuildError("REBUILD_NO_PRIMARY", f"{now} has become primary since: begin again")
    end = time.monotonic() + DONOR_S
    floor = by_domain(standing.binlog_state)  # a donor holds nothing else, so that numbers in a domain are enough
    while not by_domain(others.standing(donor).binlog_state).covers(floor):
        if time.monotonic() > end:
            words = f"{donor} has not applied within {DONOR_S} s what the primary had: it lags, or stands still"
            raise RebuildError("REBUILD_DONOR_UNFIT", words)
        say("wait", reason=f"{donor} applies what the primary had when this node stopped receiving")
        time.sleep(0.5)
    return floor


def _refuse_short(position: str, floor: GtidSet) -> None:
    """A copy that lacks what this node may have acknowledged must not take its place."""
    if not by_domain(position).covers(floor):
        raise RebuildError("REBUILD_OUTDATED", f"the copy ends at {position}, and the primary had {floor} before it")


def _gtids(directory: str) -> str:
    with open(f"{directory}/summary.json") as file:  # noqa: PTH123 - a name out of the journal
        return str(json.load(file)["gtids"])
