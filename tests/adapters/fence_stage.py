"""Fence agents that obey, and agents that do anything else: programs of a few lines, started as the real ones are.

Each reads its options into variables of the same names; `state` is the file in which its machine is `on` or `off`.
"""

from __future__ import annotations

from pathlib import Path

from failoverd.fencing.agent import Device

PASSWORD = "hunter2-and-its-dog"

HEAD = """\
#!/bin/sh
while IFS='=' read -r key value; do
    case $key in action) action=$value;; state) state=$value;; passwd) passwd=$value;; nodename) nodename=$value;; esac
done
echo "$action" >>"$state.asked"
status() { [ "$(cat "$state")" = on ] && exit 0; exit 2; }
"""
_GOOD = """\
case $action in
    off|on) echo "$action" >"$state"; echo "Success: $action";;
    status|monitor) status;;
    *) exit 1;;
esac
"""
_STATUS = "case $action in status|monitor) status;; esac\n"

AGENTS = {
    "good": HEAD + _GOOD,
    # says that it is done, and has done nothing
    "liar": HEAD + _STATUS + "exit 0\n",
    # cannot do it, and says so
    "refuses": HEAD + _STATUS + 'echo "login denied" >&2; exit 3\n',
    # has done it, and nobody can ask it any more
    "dumb": HEAD + 'case $action in off) echo off >"$state"; exit 0;; esac; exit 1\n',
    # ends with the same code whatever it is asked: what 2 means for a shell, and what 0 means for `true`
    "two": "#!/bin/sh\nexit 2\n",
    "zero": "#!/bin/sh\nexit 0\n",
    "hangs": HEAD + _STATUS + 'echo $$ >"$state.pid"; exec sleep 1000\n',
    "hangs on status": HEAD + 'case $action in off) echo off >"$state"; exit 0;; esac; exec sleep 1000\n',
    "ignores SIGTERM": HEAD + _STATUS + 'trap "" TERM; echo $$ >"$state.pid"; while :; do sleep 1; done\n',
    # told to end, it ends as if all were well; and the machine is off when it is asked
    "ends well when told to": HEAD
    + _STATUS
    + 'trap "exit 0" TERM; echo off >"$state"; echo $$ >"$state.pid"; while :; do sleep 0.05; done\n',
    # a child in its group, and one outside of it, each with the pipe open
    "leaves a child": HEAD + 'case $action in off) sleep 1000 & echo $! >"$state.pid";; esac\n' + _GOOD,
    "leaves a daemon": HEAD
    + 'case $action in off) setsid sh -c \'echo $$ >"$0.pid"; exec sleep 1000\' "$state" & '
    + 'until [ -s "$state.pid" ]; do sleep 0.01; done;; esac\n'
    + _GOOD,
    "hangs with a child": HEAD + _STATUS + 'sleep 1000 & echo $! >"$state.pid"; wait\n',
    "prints megabytes": HEAD + "yes 'a line of no interest' | head -c 4000000\n" + _GOOD,
    "prints the password": HEAD + _STATUS + 'echo "login $passwd refused"; echo "with $passwd" >&2; exit 1\n',
    # so much that the beginning of what is kept falls into the middle of a password
    "prints the password for ever": HEAD + _STATUS + 'yes "$passwd" | head -c 100000; exit 1\n',
    "reads nothing": "#!/bin/sh\nexec <&-\nsleep 0.2\nexit 1\n",
    "shows itself": HEAD
    + 'tr "\\0" "\\n" </proc/$$/cmdline >"$state.cmdline"; env >"$state.env"; pwd >"$state.cwd"\n'
    + _GOOD,
    "interpreter is missing": "#!/usr/bin/no-such-interpreter\n",
    "no program": "just text\n",
}


class Stage:
    """One machine and the devices that could switch it off, in a directory of its own."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.state = place / "machine"
        self.state.write_text("on")

    def device(self, name: str, *, state: Path | None = None, mode: int = 0o755) -> Device:
        """Give the device whose agent is AGENTS[name], or none at all."""
        path = self.place / f"fence_{name.replace(' ', '_')}"
        if name in AGENTS:
            path.write_text(AGENTS[name])
            path.chmod(mode)
        return Device(str(path), {"state": str(state or self.state)}, {"passwd": PASSWORD})

    @property
    def asked(self) -> list[str]:
        """The actions that the machine's agents were asked for, in order."""
        return Path(f"{self.state}.asked").read_text().split()

    def noted(self) -> bool:
        """Whether an agent has noted a process."""
        note = Path(f"{self.state}.pid")
        return note.exists() and note.read_text().endswith("\n")

    @property
    def pid(self) -> int:
        """The process that an agent noted."""
        return int(Path(f"{self.state}.pid").read_text())


def alive(pid: int) -> bool:
    """Whether the process runs: a dead one that was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False
