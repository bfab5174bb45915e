"""What this host can know by itself, where its daemon does not answer.

Each thing is looked at beside the others, with one short deadline for all of them. What cannot be known is named with
why: "needs root", "no answer within 150 ms". Another node that answers shows the cluster as it sees it.

    socket silent ──> unit  lease  term  vip  gate  database  audit        this host
                 └──> GET http://NODE:7480/v1/status                       every other node of the configuration file

As a document (`-o json`), of a shape of its own: exit code 4 tells it from a status.

    {"api": "v1",
     "daemon": {"answers": false, "why": "/run/failoverd/control.sock: nobody listens: ..."},
     "host": {"gate": {"known": true, "words": "closed", "open": false},
              "vip": {"known": false, "why": "/etc/failoverd/failoverd.yaml: permission denied"}, ...},
     "nodes": [{"name": "mail2", "address": "192.0.2.12", "answers": true, "why": ""}, ...],
     "seen_from": "mail2",
     "status": {what `failoverctl status -o json` says there}}
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from failoverd.ctl import alone_host, alone_peers, source
from failoverd.ctl.alone_file import Known, known
from failoverd.ctl.alone_found import Found, UnknownError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from failoverd.ctl.alone_peers import Heard

WITHIN_S = 0.15  # for all of it: whoever asks has waited for the start and for the socket already
PATIENCE_S = 1.0  # while no other node has answered: without one the cluster is not seen at all
STEP_S = 0.01


@dataclass(frozen=True, slots=True)
class Places:
    """Where things are on this host."""

    runtime: Path  # where the socket should be
    audit: Path
    config: Path

    @property
    def state(self) -> Path:
        """Where the daemon keeps what it must not forget."""
        return self.audit.parent


@dataclass(slots=True)
class Alone:
    """All that was found, or why not, by what was looked at."""

    why: str
    host: dict[str, Found | str]
    nodes: list[Heard] = field(default_factory=list)
    config: str = ""  # why it could not be read

    @property
    def seen(self) -> Heard | None:
        """The node whose picture is worth most: of the newest term, one that reaches the store, hearing most."""
        return max((node for node in self.nodes if node.status is not None), key=alone_peers.worth, default=None)

    def document(self) -> dict[str, object]:
        """The whole as plain JSON."""
        seen = self.seen
        return {
            "api": "v1",
            "daemon": {"answers": False, "why": self.why},
            "host": {name: _told(found) for name, found in self.host.items()},
            "nodes": [
                {"name": n.name, "address": n.address, "answers": n.status is not None, "why": n.why}
                for n in self.nodes
            ],
            "nodes_unknown": self.config,
            "seen_from": seen.name if seen else None,
            "status": seen.raw if seen else None,
        }


def look(places: Places, why: str, within_s: float = WITHIN_S) -> Alone:
    """Look at everything. `why`: the daemon does not answer. Takes `within_s`, or PATIENCE_S while nobody answers."""
    about = _file(places.config, within_s)
    end = time.monotonic() + within_s
    looks: dict[str, Callable[[], Found]] = {
        "unit": lambda: alone_host.units(about.unit, within_s),
        "lease": lambda: alone_host.lease(places.runtime),
        "term": lambda: alone_host.term(places.state),
        "vip": lambda: alone_host.vip(_asked(about, "vip"), within_s),
        "gate": alone_host.gate,
        "database": lambda: alone_host.database(about.socket, within_s),
        "audit": lambda: alone_host.audit(_audit(places, about)),
    }
    own = os.uname().nodename
    if own in about.arbiters:  # it has no role to keep, and no database
        looks = {name: one for name, one in looks.items() if name not in {"lease", "vip", "gate", "database"}}
    peers = {name: address for name, address in about.nodes.items() if name != own}
    asks = {name: _asking(about, name, address, PATIENCE_S) for name, address in peers.items()}
    both: dict[object, Callable[[], object]] = dict(looks.items())
    both.update((("ask", name), ask) for name, ask in asks.items())
    results = side_by_side(both, end, end - within_s + PATIENCE_S, enough=_somebody_answers)
    alone = Alone(why, {name: _found(results[name], within_s) for name in looks}, config=about.why)
    within_s = within_s if _somebody_answers(results) else PATIENCE_S
    silent = f"no answer within {within_s * 1000:.0f} ms"
    for name, address in peers.items():
        heard = results["ask", name]
        if isinstance(heard, alone_peers.Heard):
            alone.nodes.append(heard)
        else:
            alone.nodes.append(alone_peers.Heard(name, address, why=silent if heard is None else str(heard)))
    return alone


def _file(path: Path, within_s: float) -> Known:
    """The configuration file, which a file system that hangs may never give: the rest is told without it then."""
    found = side_by_side({"file": lambda: known(path)}, time.monotonic() + within_s)["file"]
    return found if isinstance(found, Known) else Known(why=f"{path}: no answer within {within_s * 1000:.0f} ms")


def _audit(places: Places, about: Known) -> Path:
    """Where the configuration file has it, unless the command line names another place."""
    return Path(about.audit) if about.audit and str(places.audit) == source.DIRECTORY else places.audit


def _somebody_answers(results: Mapping[object, object]) -> bool:
    return any(isinstance(found, alone_peers.Heard) and found.status is not None for found in results.values())


def side_by_side(
    looks: Mapping[object, Callable[[], object]],
    end: float,
    at_most: float | None = None,
    enough: Callable[[Mapping[object, object]], bool] = lambda _results: True,
) -> dict[object, object]:
    """What each gave until `end`, an UnknownError where it cannot be known, None where nothing came in time.

    Until `at_most` while what has come is not `enough`.

    Threads that nobody waits for at the end of the process: a look that hangs in the kernel must not hold it up. What
    ends in any other way is a bug, and is raised here.
    """
    results: dict[object, object] = dict.fromkeys(looks)
    bugs: list[Exception] = []

    def run(name: object, one: Callable[[], object]) -> None:
        try:
            results[name] = one()
        except UnknownError as error:
            results[name] = error
        except Exception as error:  # noqa: BLE001 - raised below, in the thread that can be seen
            bugs.append(error)

    threads = [threading.Thread(target=run, args=each, daemon=True) for each in looks.items()]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        now = time.monotonic()
        if now >= end and (at_most is None or now >= at_most or enough(results)):
            break
        for thread in threads:
            thread.join(STEP_S / len(threads))
    if bugs:
        raise bugs[0]
    return dict(results)


def _asking(about: Known, name: str, address: str, within_s: float) -> Callable[[], Heard]:
    return lambda: alone_peers.ask(name, address, about.port, within_s, tls=about.tls)


def _asked(about: Known, what: str) -> str:
    """A value of the configuration file. Raises UnknownError."""
    value = str(getattr(about, what))
    if not value:
        raise UnknownError(about.why or f"no {what} stands in the configuration file")
    return value


def _found(result: object, within_s: float) -> Found | str:
    if isinstance(result, Found):
        return result
    return f"no answer within {within_s * 1000:.0f} ms" if result is None else str(result)


def _told(found: Found | str) -> dict[str, object]:
    if isinstance(found, str):
        return {"known": False, "why": found}
    return {"known": True, "words": found.words, **found.detail}
