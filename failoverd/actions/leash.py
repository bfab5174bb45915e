"""The database server on a leash: the kernel ends it at the lease's end, whatever becomes of every process.

The gate and the virtual IP end with the lease by themselves. A writable database does not: on a host whose processes
were all stopped for a while, the server would be the first to run again, and be writable beside the next primary until
somebody tells it. Two things that the kernel does alone close that gap:

    timer at the deadline ──SIGKILL──> this process ──PTRACE_O_EXITKILL──> the server

A POSIX timer of CLOCK_BOOTTIME may carry SIGKILL, which ends its owner even while that is stopped. A tracer that ends
takes along what it traces with PTRACE_O_EXITKILL, and PTRACE_SEIZE neither stops the server nor asks it anything. So
moving the timer is all that a renewal costs: one system call, and nothing is left to be done at the deadline.

What it costs otherwise: nobody else can trace the server's first thread (gdb, strace) while the leash is on, signals to
that thread pass through `tend`, and whoever sends SIGKILL to this process ends the server with it. It comes back
read-only, and what it had not been acknowledged for is taken out again: what happens after every kill.

All calls come from one thread: the kernel knows a tracer by its thread.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import time
from contextlib import suppress
from pathlib import Path

# linux/ptrace.h, linux/wait.h, asm-generic/siginfo.h
PTRACE_CONT, PTRACE_DETACH, PTRACE_SEIZE, PTRACE_INTERRUPT, PTRACE_LISTEN = 7, 17, 0x4206, 0x4207, 0x4208
PTRACE_O_EXITKILL = 0x100000
PTRACE_EVENT_STOP = 128
WALL = 0x40000000
TIMER_ABSTIME = 1
SIGEV_SIGNAL = 0
GROUP_STOPS = {signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}

SERVERS = {"mariadbd", "mysqld"}  # what /proc calls them
DETACH_S = 0.5


class _Sigevent(ctypes.Structure):
    _fields_ = (
        ("value", ctypes.c_void_p),
        ("signo", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("rest", ctypes.c_char * 48),
    )


class _Itimerspec(ctypes.Structure):
    _fields_ = (
        ("every_s", ctypes.c_long),
        ("every_ns", ctypes.c_long),
        ("at_s", ctypes.c_long),
        ("at_ns", ctypes.c_long),
    )


class LeashError(Exception):
    """The server cannot be tied: the kernel refuses, or what listens is no database server."""


def server_behind(path: str) -> int | None:
    """The process that listens on the Unix socket `path`; None when nobody does. Raises LeashError for a wrong one.

    The kernel says so (SO_PEERCRED), and so no pid file has to be believed. Never waits.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as asking:
        try:
            asking.connect(path)
        except OSError:
            return None
        number = int.from_bytes(asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)[:4], "little")
    try:
        name = Path(f"/proc/{number}/comm").read_text().strip()
    except OSError:
        return None
    if name not in SERVERS:  # a socket that systemd listens on; process 1 is not to be led about
        raise LeashError(f"{path} belongs to process {number}, {name}, which is no database server")
    return number


class Leash:
    """Ties one server to this process, and this process to a deadline."""

    def __init__(self) -> None:
        """Make the timer, not set. Raises LeashError."""
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
        self._libc.ptrace.restype = ctypes.c_long
        self._timer = ctypes.c_void_p()
        event = _Sigevent(None, signal.SIGKILL, SIGEV_SIGNAL, b"")
        if self._libc.timer_create(time.CLOCK_BOOTTIME, ctypes.byref(event), ctypes.byref(self._timer)) != 0:
            raise LeashError(f"timer_create: {os.strerror(ctypes.get_errno())}")
        self._server: int | None = None

    @property
    def server(self) -> int | None:
        """The process that is tied."""
        return self._server

    def tie(self, server: int) -> None:
        """Take `server`. It goes on running, and ends with this process from here on. Raises LeashError."""
        self._ask(PTRACE_SEIZE, server, PTRACE_O_EXITKILL)
        self._server = server

    def set(self, until_ms: int | None) -> None:
        """Have the kernel end both at `until_ms` of CLOCK_BOOTTIME, at once when that is over; None: not at all."""
        ms = 0 if until_ms is None else max(until_ms, 1)
        when = _Itimerspec(0, 0, ms // 1000, ms % 1000 * 1_000_000)
        if self._libc.timer_settime(self._timer, TIMER_ABSTIME, ctypes.byref(when), None) != 0:
            raise LeashError(f"timer_settime: {os.strerror(ctypes.get_errno())}")

    def tend(self) -> None:
        """Pass on what the kernel holds back for a tracer. Call at every SIGCHLD; never waits."""
        while self._server is not None and (status := self._status()) is not None:
            if os.WIFSTOPPED(status):
                self._resume(status)
            else:
                self._server = None

    def release(self) -> bool:
        """Let the server go; whether it was possible. One that hangs in the kernel can be let go only afterwards."""
        self.set(None)
        if self._server is None:
            return True
        self.tend()
        with suppress(LeashError):
            self._interrupt()
        return self._server is None

    def _interrupt(self) -> None:
        """Detaching needs a thread that is stopped; it is for some microseconds, and its system call is begun anew."""
        if self._server is None:
            return
        self._ask(PTRACE_INTERRUPT, self._server)
        end = time.monotonic() + DETACH_S
        while (status := self._status()) is None:
            if time.monotonic() > end:
                return
            time.sleep(0.001)
        if os.WIFSTOPPED(status):
            stopped_by = os.WSTOPSIG(status) if status >> 16 == 0 else 0
            self._ask(PTRACE_DETACH, self._server, stopped_by)
        self._server = None

    def _status(self) -> int | None:
        """What became of the server since it was last asked."""
        if self._server is None:
            return None
        try:
            number, status = os.waitpid(self._server, os.WNOHANG | WALL)
        except ChildProcessError:
            self._server = None  # let go by other means
            return None
        return status if number else None

    def _resume(self, status: int) -> None:
        if self._server is None:
            return
        number, is_event = os.WSTOPSIG(status), status >> 16 == PTRACE_EVENT_STOP
        with suppress(LeashError):  # killed meanwhile: the next status says so
            if is_event and number in GROUP_STOPS:
                self._ask(PTRACE_LISTEN, self._server)  # somebody stopped the server: it stays stopped
            else:
                self._ask(PTRACE_CONT, self._server, 0 if is_event else number)

    def _ask(self, request: int, server: int, data: int = 0) -> None:
        if self._libc.ptrace(request, server, None, data) != 0:
            raise LeashError(f"ptrace {request:#x} of process {server}: {os.strerror(ctypes.get_errno())}")
