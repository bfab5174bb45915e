"""What this host's kernel, systemd and files say, without the daemon. Each raises UnknownError where they do not."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from failoverd.ctl.alone_found import Found, UnknownError, refused
from failoverd.ctl.durations import duration

if TYPE_CHECKING:
    from collections.abc import Mapping

DAEMON, GUARD = "failoverd.service", "failoverd-guard.service"
PROPERTIES = ("Id", "LoadState", "ActiveState", "SubState", "Result", "ExecMainCode", "ExecMainStatus", "NRestarts",
              "StateChangeTimestampMonotonic")  # fmt: skip
EX_CONFIG = 78
NEWEST = 3  # records of the audit
TAIL = 64 * 1024
_NUMBER = re.compile(r"[0-9]{1,18}")
_PART = re.compile(r"([0-9]{1,9})(ms|[dhms])")
_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def _run(command: list[str], within_s: float) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=within_s, check=False)  # noqa: S603 - literal ones
    except FileNotFoundError:
        raise UnknownError(f"there is no {command[0]} here") from None
    except subprocess.TimeoutExpired:
        raise UnknownError(f"{command[0]} did not answer within {within_s * 1000:.0f} ms") from None
    if done.returncode != 0:
        raise UnknownError(f"{command[0]}: {(done.stderr.strip() or str(done.returncode)).splitlines()[0]}")
    return done.stdout


# ---- systemd ----------------------------------------------------------------------------------------------------


def units(database: str, within_s: float) -> Found:
    """How systemd sees failoverd, its guard, and the database's unit where that is known."""
    names = [DAEMON, GUARD, *([database] if database else [])]
    return shown_units(_run(["systemctl", "show", f"--property={','.join(PROPERTIES)}", *names], within_s), names)


def shown_units(text: str, names: list[str]) -> Found:
    """The same of what systemctl has printed of `names`, failoverd's own first."""
    blocks = [dict(line.split("=", 1) for line in block.splitlines() if "=" in line) for block in text.split("\n\n")]
    if len(blocks) < len(names):
        raise UnknownError(f"systemctl: no answer about {names[len(blocks)]}")
    daemon, *others = (_unit(name, block) for name, block in zip(names, blocks, strict=False))
    words = "; ".join([str(daemon["words"]), *(f"{unit['unit']} {unit['words']}" for unit in others)])
    return Found(words, {"units": [daemon, *others]}, bad=daemon["active"] != "active")


def _unit(name: str, shown: Mapping[str, str]) -> dict[str, object]:
    if shown.get("LoadState") == "not-found":
        return {"unit": name, "active": "not-found", "words": "is not installed"}
    active, sub, result = (shown.get(key, "?") for key in ("ActiveState", "SubState", "Result"))
    since = shown.get("StateChangeTimestampMonotonic", "0")
    known = _NUMBER.fullmatch(since) is not None and since != "0"
    since_ms = int(time.clock_gettime(time.CLOCK_MONOTONIC) * 1000) - int(since) // 1000 if known else None
    status = shown.get("ExecMainStatus", "0")
    code = {"1": "exited", "2": "killed", "3": "dumped core"}.get(shown.get("ExecMainCode", "0"), "")
    how = f", {code} {status}" if code and (result != "success" or status != "0") else ""
    how += " (wrong configuration: failoverctl config check)" if code == "exited" and status == str(EX_CONFIG) else ""
    words = f"{active} ({sub if result == 'success' else result}{how})"
    words += f" for {duration(since_ms)}" if since_ms is not None else ""
    return {
        "unit": name, "active": active, "sub": sub, "result": result, "ended": code, "exit_status": status,
        "restarts": shown.get("NRestarts", ""), "since_ms": since_ms, "words": words,
    }  # fmt: skip


# ---- the role ---------------------------------------------------------------------------------------------------


def lease(runtime: Path) -> Found:
    """The lease that the daemon noted, if any: see runtime/persist.py, which is not loaded here for its time."""
    if not runtime.is_dir():
        return Found("none is noted: nothing is held here", {"noted": False})
    try:
        noted = json.loads((runtime / "lease").read_text())
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        term_, deadline_ms, of_boot = _whole(noted["term"]), _whole(noted["deadline_ms"]), noted["boot_id"]
    except FileNotFoundError:
        return Found("none is noted: nothing is held here", {"noted": False})
    except OSError as error:
        raise refused(error, "the noted lease") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UnknownError(f"{runtime / 'lease'} is damaged") from None
    left_ms = deadline_ms - time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000
    detail: dict[str, object] = {"noted": True, "term": term_, "left_ms": left_ms if of_boot == boot else None}
    if of_boot != boot:
        return Found(f"of term {term_}, noted before this boot: over", detail)
    if left_ms <= 0:
        return Found(f"of term {term_}, over for {duration(-left_ms)}: the kernel keeps nothing open any more", detail)
    return Found(f"of term {term_}, the kernel keeps it for another {duration(left_ms)}", detail)


def term(state: Path) -> Found:
    """The newest term that this host has seen."""
    path = state / "term"
    try:
        number = _whole(json.loads(path.read_text(errors="replace"))["term"])
    except FileNotFoundError:
        return Found("none: this host has seen no term yet", {"term": 0})
    except OSError as error:
        raise refused(error, str(path)) from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UnknownError(f"{path} is damaged") from None
    return Found(f"{number} is the newest that this host has seen", {"term": number})


def _whole(value: object) -> int:
    """A number of a file. Raises ValueError where it is none, or one that no clock and no count of terms comes to."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 63:
        raise ValueError(value)
    return value


def vip(address: str, within_s: float) -> Found:
    """Whether this host has the virtual IP, and for how long the kernel keeps it."""
    return addresses(_run(["ip", "-json", "-4", "address", "show", "to", address], within_s), address)


def addresses(text: str, address: str) -> Found:
    """The same of what ip has printed."""
    try:
        links = [(link["ifname"], link.get("addr_info", ())) for link in json.loads(text or "[]") if link]
        found = [
            (str(interface), None if each.get("valid_life_time") is None else _whole(each["valid_life_time"]))
            for interface, given in links
            for each in given
            if each.get("local") == address  # the program leaves empty ones where nothing fits
        ]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UnknownError("ip: its answer is not understood") from None
    if not found:
        return Found(f"{address} is not on this host", {"address": address, "present": False})
    interface, seconds = found[0]
    for_ever = seconds is None or seconds >= 2**32 - 1
    words = "for ever: nobody has given it a lease's end" if for_ever else f"for another {seconds} s at most"
    detail: dict[str, object] = {"address": address, "present": True, "interface": interface}
    detail["left_s"] = None if for_ever else seconds
    return Found(f"{address} is on {interface}, {words}", detail, bad=for_ever)


def gate() -> Found:
    """Whether the kernel lets clients through, as nftables lists failoverd's table: see actions/gate.py."""
    from failoverd.actions.nft import Nft, NftError  # noqa: PLC0415 - in the thread that looks

    try:
        text = Nft().run("list table inet failoverd")
    except OSError:
        raise UnknownError("there is no libnftables here") from None
    except NftError as error:
        if os.geteuid() != 0 or "not permitted" in str(error):
            raise UnknownError("needs root") from None
        if "No such file" in str(error):
            return Found("there is none: nothing keeps clients from this host", {"open": None}, bad=True)
        raise UnknownError(f"nftables: {error}") from None
    return _gate(text, datetime.now())  # noqa: DTZ005 - nftables shows the hour of this host


def _gate(text: str, now: datetime) -> Found:
    body = re.search(r"\tchain gate \{\n(.*?)\t\}", text, re.DOTALL)
    if body is None:
        raise UnknownError("nftables: the table failoverd is not one of this version")
    if body[1].strip() in {"", "accept"}:
        return Found(
            "not in force yet: everything passes until this node is adopted", {"open": True, "enforced": False}
        )
    expires = re.search(r"expires ([0-9a-z]+)", text.partition("\tset lease")[2].partition("\tset ")[0])
    bound = re.search(r'meta time < "([^"]+)"', body[1])
    try:
        until = datetime.strptime(bound[1], "%Y-%m-%d %H:%M:%S") if bound else None  # noqa: DTZ007 - likewise
    except ValueError:
        raise UnknownError(f"nftables: {bound[1] if bound else ''!r} is no time") from None
    if expires is None or "accept" not in body[1] or (until is not None and now >= until):
        return Found("closed: no client reaches this host", {"open": False, "enforced": True})
    left_ms = sum(int(number) * _MS[unit] for number, unit in _PART.findall(expires[1]))
    if until is not None:
        left_ms = min(left_ms, int((until - now).total_seconds() * 1000))
    return Found(
        f"OPEN for another {duration(left_ms)}", {"open": True, "enforced": True, "left_ms": left_ms}, bad=True
    )


# ---- the database, and the record -------------------------------------------------------------------------------


def database(path: str, within_s: float) -> Found:
    """Who listens on the database's socket, who has it on a leash, and whether it takes writes."""
    from failoverd.actions.leash import LeashError, server_behind  # noqa: PLC0415 - in the thread that looks

    try:
        server = server_behind(path)
    except LeashError as error:
        raise UnknownError(str(error)) from None
    if server is None:
        if not os.access(path, os.R_OK | os.W_OK) and os.path.lexists(path):
            raise UnknownError(f"{path}: permission denied")
        return Found(f"does not run: nobody listens on {path}", {"running": False}, bad=True)
    words = [f"runs (process {server})"]
    detail: dict[str, object] = {"running": True, "process": server}
    read_only = _read_only(path, within_s)
    detail["read_only"] = read_only if isinstance(read_only, bool) else None
    if isinstance(read_only, bool):
        words.append("read-only" if read_only else "WRITABLE")
    else:
        words.append(f"whether it takes writes is not known: {read_only}")
    tracer = _tracer(server)
    detail["leash"] = tracer or None
    words.append(f"on the leash of process {tracer}" if tracer else "on no leash")
    return Found(", ".join(words), detail, bad=read_only is False)


def _tracer(server: int) -> int:
    try:
        status = Path(f"/proc/{server}/status").read_text()
    except OSError:
        return 0  # it has ended just now
    found = re.search(r"^TracerPid:\s*(\d+)", status, re.MULTILINE)
    return int(found[1]) if found else 0


def _read_only(path: str, within_s: float) -> bool | str:
    """As root, whom the server knows by the socket and without a password, where its packager set it up so."""
    if os.geteuid() != 0:
        return "needs root"
    program = next(filter(None, map(shutil.which, ("mariadb", "mysql"))), None)
    if program is None:
        return "there is no client program here"
    command = [program, "--no-defaults", "--user=root", f"--socket={path}", "--batch", "--skip-column-names"]
    try:
        answer = _run([*command, "--connect-timeout=1", "--execute=SELECT @@global.read_only"], within_s)
    except UnknownError as error:
        return str(error).replace(f"{program}: ", "")
    return answer.strip().upper() not in {"0", "OFF"}  # MariaDB 12 has words for it


def audit(directory: Path) -> Found:
    """The newest records of this host, the newest last."""
    from failoverd.audit import reading  # noqa: PLC0415 - in the thread that looks

    path = directory / reading.NAME
    try:
        path.open("rb").close()
        records = [record for record, _ in reading.tail(directory, TAIL)][-NEWEST:]
    except FileNotFoundError:
        return Found(f"there is none in {directory}", {"records": []})
    except OSError as error:
        raise refused(error, str(path)) from None
    keys = ("time", "seq", "term", "kind", "rule", "code", "text")
    told = [{key: record[key] for key in keys if record.get(key) not in (None, "")} for record in records]
    return Found("" if told else "empty", {"records": told})
