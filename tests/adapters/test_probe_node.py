"""The probes of the node itself: units over a real bus, the address on a real wire, disks that hang, the database."""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self

import psutil
import pytest
from dbus_fast.aio import MessageBus
from dbus_fast.annotations import DBusSignature
from dbus_fast.service import ServiceInterface, dbus_method

from failoverd.core.model import Health, HostFacts, NodeName, Reading, UnitFacts
from failoverd.ports import Probe, Target
from failoverd.probes.database import DatabaseProbe
from failoverd.probes.deadline import observe
from failoverd.probes.host import HostLimits, HostProbe
from failoverd.probes.unit import SystemBus, UnitProbe
from failoverd.runtime.clock import BootClock

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

Names = Annotated[list[str], DBusSignature("as")]
Units = Annotated[list[list[object]], DBusSignature("a(ssssssouso)")]

HERE = Target(NodeName("mail1"), "127.0.0.1")
LAB = Path(__file__).parent.parent / "lab" / "lab"


async def reading_of(probe: Probe, deadline_ms: int = 1000) -> Reading:
    return (await observe("it", probe, HERE, deadline_ms, BootClock())).reading


# ---- units ----------------------------------------------------------------------------------------------------------


class Manager(ServiceInterface):
    """As much of systemd as the probe asks for; the lab has the whole."""

    def __init__(self, units: dict[str, tuple[str, str, str]]) -> None:
        super().__init__("org.freedesktop.systemd1.Manager")
        self._units = units

    @dbus_method()
    async def ListUnitsByNames(self, names: Names) -> Units:  # noqa: N802 - D-Bus's name
        """Tell a unit's states; never, for one called hung."""
        if "hung.service" in names:
            await asyncio.get_running_loop().create_future()
        states = [(name, self._units.get(name, ("not-found", "inactive", "dead"))) for name in names]
        return [[name, "", *state, "", "/", 0, "", "/"] for name, state in states]


UNITS = {
    "postfix@-.service": ("loaded", "active", "running"),
    "postfix.service": ("loaded", "active", "exited"),
    "dovecot.service": ("loaded", "failed", "failed"),
    "mariadb.service": ("loaded", "reloading", "reload"),
    "masked.service": ("masked", "inactive", "dead"),
    "deleted.service": ("not-found", "active", "running"),
}


@contextmanager
def bus_daemon(directory: Path) -> Iterator[str]:
    """Run a message bus of our own."""
    address = f"unix:path={directory}/bus"
    command = ["dbus-daemon", "--session", "--nofork", "--nopidfile", f"--address={address}", "--print-address"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as daemon:
        assert daemon.stdout is not None
        assert daemon.stdout.readline().startswith(address)
        try:
            yield address
        finally:
            daemon.kill()


async def with_systemd(address: str, work: Callable[[], Awaitable[None]]) -> None:
    """Run `work` while a systemd is on the bus."""
    bus = await MessageBus(bus_address=address).connect()
    bus.export("/org/freedesktop/systemd1", Manager(UNITS))
    await bus.request_name("org.freedesktop.systemd1")
    try:
        await work()
    finally:
        bus.disconnect()
        await bus.wait_for_disconnect()


@pytest.mark.parametrize(
    ("unit", "code", "words"),
    [
        ("postfix@-.service", "", ""),
        ("mariadb.service", "", ""),
        ("deleted.service", "", ""),
        ("postfix.service", "UNIT_NOT_ACTIVE", "postfix.service is active (exited)"),
        ("dovecot.service", "UNIT_NOT_ACTIVE", "dovecot.service is failed (failed)"),
        ("masked.service", "UNIT_NOT_ACTIVE", "masked.service is inactive (dead), and masked"),
        ("nobody.service", "UNIT_UNKNOWN", "systemd does not know nobody.service"),
    ],
)
def test_a_unit_is_as_systemd_says(tmp_path: Path, unit: str, code: str, words: str) -> None:
    async def scene() -> None:
        probe = UnitProbe(unit, bus=SystemBus(address))
        reading = await reading_of(probe)
        assert (reading.code, reading.reason) == (code, words)
        assert reading.health is (Health.FAILED if code else Health.OK)
        assert isinstance(reading.facts, UnitFacts)
        await probe.close()

    with bus_daemon(tmp_path) as address:
        asyncio.run(with_systemd(address, scene))


def test_a_listed_sub_state_is_good(tmp_path: Path) -> None:
    async def scene() -> None:
        probe = UnitProbe("postfix.service", good=("running", "exited"), bus=SystemBus(address))
        assert (await reading_of(probe)).health is Health.OK
        await probe.close()

    with bus_daemon(tmp_path) as address:
        asyncio.run(with_systemd(address, scene))


def test_a_bus_that_goes_and_comes_again_is_found_again(tmp_path: Path) -> None:
    async def scene() -> None:
        probe = UnitProbe("postfix@-.service", bus=SystemBus(f"unix:path={tmp_path}/bus"))
        before = psutil.Process().num_fds()

        async def well() -> None:
            assert (await reading_of(probe)).health is Health.OK

        for _ in range(3):
            reading = await reading_of(probe)
            assert (reading.health, reading.code) == (Health.UNKNOWN, "UNIT_BUS_LOST")
            with bus_daemon(tmp_path) as address:
                await with_systemd(address, well)
                reading = await reading_of(probe)  # the bus is there, systemd is not
                assert (reading.health, reading.code) == (Health.UNKNOWN, "UNIT_BUS_LOST")
            (tmp_path / "bus").unlink(missing_ok=True)
        await probe.close()
        assert psutil.Process().num_fds() == before

    asyncio.run(scene())


def test_a_bus_or_a_systemd_that_hangs_is_unknown_and_leaves_nothing(tmp_path: Path) -> None:
    async def systemd() -> None:
        before = psutil.Process().num_fds()
        bus = SystemBus(address)
        hung, well = UnitProbe("hung.service", bus=bus), UnitProbe("postfix@-.service", bus=bus)
        for _ in range(20):
            assert (await reading_of(hung, 50)).code == "UNIT_BUS_LOST"
        assert (await reading_of(well)).health is Health.OK
        await well.close()
        assert psutil.Process().num_fds() == before

    async def bus() -> None:
        server = await asyncio.start_unix_server(lambda _, writer: writers.append(writer), tmp_path / "hung")
        before = psutil.Process().num_fds()
        probe = UnitProbe("postfix@-.service", bus=SystemBus(f"unix:path={tmp_path}/hung"))
        for _ in range(20):
            reading = await reading_of(probe, 50)
            assert (reading.health, reading.code) == (Health.UNKNOWN, "UNIT_BUS_LOST")
        for writer in writers:
            writer.close()
            await writer.wait_closed()
        assert psutil.Process().num_fds() == before
        server.close()
        await server.wait_closed()

    writers: list[asyncio.StreamWriter] = []
    with bus_daemon(tmp_path) as address:
        asyncio.run(with_systemd(address, systemd))
    asyncio.run(bus())


# ---- the virtual IP -------------------------------------------------------------------------------------------------

LOOK_AT_VIP = """
import asyncio, dataclasses, json, sys
from failoverd.core.model import NodeName
from failoverd.ports import Target
from failoverd.probes.deadline import observe
from failoverd.probes.vip import VipProbe
from failoverd.runtime.clock import BootClock
probe = VipProbe(interface=sys.argv[1], address="10.98.7.100")
found = asyncio.run(observe("vip", probe, Target(NodeName("it"), "127.0.0.1"), 2000, BootClock())).reading
print(json.dumps([found.health.value, found.code, found.reason, found.facts and dataclasses.asdict(found.facts)]))
"""


class Wire:
    """Namespaces on one bridge: a, b and c with 10.98.7.1, .2 and .3 on eth0."""

    def __init__(self) -> None:
        self._prefix = f"fdvip{os.getpid()}"

    def ip(self, *words: str) -> None:
        """Configure the outside."""
        subprocess.run(["ip", *words], check=True)

    def inside(self, name: str, *words: str) -> None:
        """Configure a namespace."""
        self.ip("-n", f"{self._prefix}{name}", *words)

    def __enter__(self) -> Self:
        try:
            self._build()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _build(self) -> None:
        self.ip("netns", "add", f"{self._prefix}bridge")
        self.inside("bridge", "link", "add", "name", "br0", "up", "type", "bridge")
        for number, name in enumerate("abc", 1):
            self.ip("netns", "add", f"{self._prefix}{name}")
            far = ("peer", "name", "eth0", "netns", f"{self._prefix}{name}")
            self.inside("bridge", "link", "add", "name", f"to-{name}", "up", "type", "veth", *far)
            self.inside("bridge", "link", "set", f"to-{name}", "master", "br0")
            self.inside(name, "link", "set", "eth0", "address", f"02:00:00:00:00:0{number}", "up")
            self.inside(name, "addr", "add", f"10.98.7.{number}/24", "dev", "eth0")

    def __exit__(self, *_: object) -> None:
        for name in ("a", "b", "c", "bridge"):
            subprocess.run(["ip", "netns", "del", f"{self._prefix}{name}"], check=False, capture_output=True)

    def seen_from_a(self, interface: str = "eth0") -> list[object]:
        """Look with the probe in namespace a."""
        command = ["ip", "netns", "exec", f"{self._prefix}a", sys.executable, "-c", LOOK_AT_VIP, interface]
        found: list[object] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        return found


@pytest.mark.root
def test_who_has_the_virtual_ip_is_seen_on_the_wire() -> None:
    vip = ("addr", "add", "10.98.7.100/24", "dev", "eth0")
    with Wire() as wire:
        assert wire.seen_from_a() == ["ok", "", "", {"present": False, "others": []}]
        wire.inside("b", *vip)
        assert wire.seen_from_a() == ["ok", "", "", {"present": False, "others": ["02:00:00:00:00:02"]}]
        wire.inside("a", *vip, "label", "eth0:vip", "valid_lft", "60", "preferred_lft", "60")
        facts = {"present": True, "others": ["02:00:00:00:00:02"]}
        reason = "10.98.7.100 is held by 02:00:00:00:00:02 and this node"
        assert wire.seen_from_a() == ["failed", "VIP_DUPLICATE", reason, facts]
        wire.inside("b", "addr", "del", "10.98.7.100/24", "dev", "eth0")
        assert wire.seen_from_a() == ["ok", "", "", {"present": True, "others": []}]
        wire.inside("a", "addr", "del", "10.98.7.100/24", "dev", "eth0")
        for name in "bc":
            wire.inside(name, *vip)
        reason = "10.98.7.100 is held by 02:00:00:00:00:02 and 02:00:00:00:00:03"
        assert wire.seen_from_a()[:3] == ["failed", "VIP_DUPLICATE", reason]
        assert wire.seen_from_a("eth7")[:3] == ["failed", "VIP_NO_INTERFACE", "this node has no interface eth7"]
        wire.inside("a", "link", "set", "eth0", "down")
        assert wire.seen_from_a()[:3] == ["failed", "VIP_NO_INTERFACE", "eth0 is down"]


# ---- load, memory, disks --------------------------------------------------------------------------------------------

GENEROUS = HostLimits(("/",), disk_min_free_percent=0, memory_min_free_percent=0, load_max_per_core=1e6)


def test_a_node_within_its_limits_is_well(tmp_path: Path) -> None:
    limits = HostLimits(("/", str(tmp_path)), 0, 0, 1e6)
    reading = asyncio.run(reading_of(HostProbe(limits)))
    assert reading.health is Health.OK
    assert isinstance(reading.facts, HostFacts)
    assert reading.facts.fullest_disk in {"/", str(tmp_path)}
    assert 0 <= reading.facts.disk_free_percent <= 100
    assert 0 < reading.facts.memory_free_percent <= 100


@pytest.mark.parametrize(
    ("limits", "code", "words"),
    [
        (HostLimits(("/",), 100, 0, 1e6), "DISK_FULL", "/ has "),
        (HostLimits(("/nowhere",), 0, 0, 1e6), "DISK_UNREADABLE", "/nowhere: No such file or directory"),
        (HostLimits((), 0, 100, 1e6), "MEMORY_LOW", "% memory free < 100 %"),
        (HostLimits((), 0, 0, -1), "LOAD_HIGH", "per core > -1"),
        (HostLimits(("/",), 100, 100, -1), "DISK_FULL", "memory free"),
    ],
)
def test_a_limit_that_is_passed_has_its_name(limits: HostLimits, code: str, words: str) -> None:
    reading = asyncio.run(reading_of(HostProbe(limits)))
    assert (reading.health, reading.code) == (Health.FAILED, code)
    assert words in reading.reason


def mount(source: str, where: Path, kind: str, flags: int, options: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    words = (source.encode(), os.fsencode(where), kind.encode(), flags, options.encode())
    assert libc.mount(*words) == 0, os.strerror(ctypes.get_errno())


@pytest.mark.root
def test_a_disk_that_hangs_is_named_each_time_and_takes_one_thread(tmp_path: Path) -> None:
    device = os.open("/dev/fuse", os.O_RDWR)  # a file system whose server never answers
    mount("it", tmp_path, "fuse", 0, f"fd={device},rootmode=40000,user_id=0,group_id=0")
    name = f"probe disk {tmp_path}"
    probe = HostProbe(HostLimits((str(tmp_path), "/"), 0, 0, 1e6))

    def waiting() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name == name]

    async def scene() -> None:
        for words in ("did not answer within 100 ms", *["has not answered since an earlier reading"] * 3):
            reading = await reading_of(probe, 100)
            assert (reading.health, reading.code) == (Health.FAILED, "DISK_HUNG")
            assert words in reading.reason
            assert len(waiting()) == 1

    try:
        asyncio.run(scene())
    finally:
        os.close(device)  # ends what waits for it
        subprocess.run(["umount", "--lazy", tmp_path], check=True)
    for thread in waiting():
        thread.join(5)
    assert waiting() == []


@pytest.mark.root
def test_a_read_only_disk_is_named(tmp_path: Path) -> None:
    mount("it", tmp_path, "tmpfs", 1, "")
    try:
        reading = asyncio.run(reading_of(HostProbe(HostLimits((str(tmp_path),), 0, 0, 1e6))))
    finally:
        subprocess.run(["umount", tmp_path], check=True)
    assert (reading.code, reading.reason) == ("DISK_READ_ONLY", f"the file system of {tmp_path} is read-only")


# ---- the database ---------------------------------------------------------------------------------------------------


class Stuck:
    """A database whose `status` waits until it is let go. The real ones are tested with their dialect."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.cancelled = 0
        self.asked: list[int] = []

    def status(self, *, deadline_ms: int) -> Reading:
        """Wait."""
        self.asked.append(deadline_ms)
        self.go.wait()
        return Reading(Health.OK)

    def cancel(self) -> None:
        """Count it, but go on."""
        self.cancelled += 1


def test_a_database_that_hangs_is_named_each_time_and_takes_one_thread() -> None:
    database = Stuck()
    probe = DatabaseProbe(database, deadline_ms=100)  # type: ignore[arg-type]  # it has what the probe uses
    before = threading.active_count()

    async def scene() -> None:
        for words in ("did not answer within 100 ms", *["has not come back"] * 3):
            reading = await reading_of(probe, 100)
            assert (reading.health, reading.code) == (Health.FAILED, "DB_HUNG")
            assert words in reading.reason
            assert threading.active_count() <= before + 1  # one of an earlier test may have ended meanwhile
        assert (database.asked, database.cancelled) == ([90], 1)
        thread = next(thread for thread in threading.enumerate() if thread.name == "probe database")
        database.go.set()
        thread.join(5)
        assert await reading_of(probe) == Reading(Health.OK)

    asyncio.run(scene())
